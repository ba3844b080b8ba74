"""Asked inside ComfyUI's interpreter by test_lift_geometry.py: what the Lift Video node makes of other nodes' geometry."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from host_process import node_classes

TESTS = Path(__file__).resolve().parents[1]
# ComfyUI has a package named tests too
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
from filmed_room import Clip, Room, film_clip, walk  # noqa: E402

FRAMES, SIZE = 6, (80, 60)


def answer(pack: ModuleType) -> dict[str, Any]:
    nodes = {c.GET_SCHEMA().node_id: c for c in node_classes(pack)}
    clip = film_clip(Room(), walk(FRAMES, SIZE, reach=0.3))
    given = {"da3": da3(clip), "da3_of_one_view": da3(clip, multi_view=False), "moge": moge(clip)}
    made = {name: summary(clip, lift(nodes, clip, depth)) for name, depth in given.items() if name == "da3"}
    path = path_of(pack, nodes, clip)
    for name, depth in given.items():
        if name != "da3":
            made[name] = summary(clip, lift(nodes, clip, depth, camera_path=path))
    return made


def run(node: Any, **values: Any) -> tuple[Any, ...]:
    """The outputs of a node, whose hidden values the host would set."""
    ready = type(node.__name__, (node,), {"hidden": SimpleNamespace(unique_id=None)})
    # as the host does, for tensors of nodes that run in inference mode
    with torch.inference_mode():
        return ready.execute(**values).result


def lift(nodes: dict[str, Any], clip: Clip, depth: dict[str, Any], **more: Any) -> tuple[Any, ...]:
    return run(nodes["GS4D_LiftVideo"], images=clip.images, depth=depth, mask=clip.moving.float(), **more)


def da3(clip: Clip, multi_view: bool = True) -> dict[str, Any]:
    """As DA3Inference gives it; without its multi-view mode all cameras are the identity."""
    poses = clip.cameras.world_to_camera if multi_view else torch.eye(4).repeat(FRAMES, 1, 1)
    found = {
        "depth": clip.depth.clone(),
        "confidence": torch.ones_like(clip.depth),
        "sky": torch.zeros_like(clip.depth),
        "extrinsics": poses[None].float(),
        "intrinsics": clip.cameras.K[None].float(),
        "mode": "multi-view" if multi_view else "single",
    }
    found["sky"][:, :4] = 1
    return found


def moge(clip: Clip) -> dict[str, Any]:
    """As MoGe's node gives it: intrinsics relative to the image, infinite depth outside of its mask."""
    width, height = SIZE
    K = clip.cameras.K.float() / torch.tensor([width, height, 1.0])[:, None]
    mask = torch.ones_like(clip.depth, dtype=torch.bool)
    mask[:, :4] = False
    depth = torch.where(mask, clip.depth, torch.inf)
    flat = torch.stack([depth, depth, depth], -1)
    return {"points": flat, "depth": depth, "intrinsics": K, "mask": mask, "normal": torch.zeros_like(flat)}


def path_of(pack: ModuleType, nodes: dict[str, Any], clip: Clip) -> Any:
    """The clip's cameras as a list of LOAD3D_CAMERA, through Camera Path."""
    load3d = importlib.import_module(pack.__name__ + ".nodes.load3d")
    focus = torch.tensor([0.0, 0.0, 4.0])
    cameras = [load3d.to_load3d(clip.cameras, view, focus) for view in range(FRAMES)]
    width, height = SIZE
    made = run(nodes["GS4D_CameraPath"], camera=cameras, frames=FRAMES, width=width, height=height)
    return made[0]


def summary(clip: Clip, outputs: tuple[Any, ...]) -> dict[str, Any]:
    scene, moving, depth, video = outputs
    apart = scene.rig.centers.double() - clip.cameras.centers.double()
    frame = video.source.read(2, 2)
    known = frame.depth > 0
    known[:6] = False
    return {
        "gaussians": len(scene.canonical),
        "centers": float(apart.norm(dim=1).max()),
        "depth": float((frame.depth / clip.depth[2] - 1)[known].abs().median()),
        "known": float(known[6:].float().mean()),
        "sky": float((frame.depth[:4] > 0).float().mean()),
        "moving": list(moving.shape),
        "images": list(depth.shape),
    }
