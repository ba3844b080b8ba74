"""Asked inside ComfyUI's interpreter by test_camera_embedding.py: camera embeddings of the pack and of ComfyUI's own node."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import torch

FRAMES, WIDTH, HEIGHT = 9, 64, 48
POSES = ("Static", "Pan Right", "Pan Up", "Zoom In", "ClockWise (CW)")


def answer(pack: ModuleType) -> dict[str, Any]:
    from comfy_extras import nodes_camera_trajectory as core
    from comfy_extras.nodes_wan import WanCameraImageToVideo

    scene = importlib.import_module(pack.__name__ + ".engine.scene")
    rays = importlib.import_module(pack.__name__ + ".engine.scene.rays")
    differences, shapes, embedding = {}, [], None
    for pose in POSES:
        expected = core.WanCameraEmbedding.execute(pose, WIDTH, HEIGHT, FRAMES, speed=0.7).result[0]
        embedding = rays.wan_camera_embedding(core_cameras(core, scene, pose))
        differences[pose] = float((embedding - expected).abs().max())
        shapes.append(
            [list(embedding.shape), list(expected.shape), str(embedding.dtype), str(expected.dtype)]
        )
    given = [[torch.zeros(1, 4, 8), {}]]
    taken = WanCameraImageToVideo.execute(
        given, given, None, WIDTH, HEIGHT, FRAMES, 1, camera_conditions=embedding
    ).result
    latents = list(taken[2]["samples"].shape)
    return {
        "differences": differences,
        "shapes": shapes,
        "latents": latents,
        "conditions": list(taken[0][0][1]["camera_conditions"].shape),
    }


def core_cameras(core: ModuleType, scene: ModuleType, pose: str) -> Any:
    """The cameras of a named path of ComfyUI's node, whose focal lengths belong to images of 16:9."""
    named = core.CAMERA_DICT[pose]
    motion = core.get_camera_motion(np.array(named["angle"]), np.array(named["T"]), 0.7, FRAMES)
    c2w = torch.eye(4, dtype=torch.float64).repeat(FRAMES, 1, 1)
    c2w[:, :3] = torch.from_numpy(motion)
    K = torch.eye(3, dtype=torch.float64)
    K[0, 0], K[1, 1] = 0.5 * HEIGHT * 16 / 9, 0.5 * HEIGHT
    K[0, 2], K[1, 2] = WIDTH / 2, HEIGHT / 2
    names = tuple(str(i) for i in range(FRAMES))
    return scene.Cameras(torch.linalg.inv(c2w), K.repeat(FRAMES, 1, 1), ((WIDTH, HEIGHT),) * FRAMES, names)
