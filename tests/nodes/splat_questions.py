"""Asked inside ComfyUI's interpreter by test_splat_nodes.py: a scene with z up through the nodes for splats and cameras."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from host_process import node_classes

SECONDS = (0.0, 0.5, 1.0)


@dataclass
class MadeAnew:
    """What a node such as Transform Splat gives: a SPLAT with the same tensors and nothing else."""

    positions: Any
    scales: Any
    rotations: Any
    opacities: Any
    sh: Any
    counts: Any = None


def answer(pack: ModuleType) -> dict[str, Any]:
    nodes = {c.GET_SCHEMA().node_id: c for c in node_classes(pack)}
    scene = tower(pack)
    sampled = run(nodes["GS4D_SceneToSplat"], scene=scene, times="all")
    stored = run(nodes["GS4D_SceneToSplat"], scene=scene, times="all", orientation="as stored")
    upright, plain = sampled.result[0], stored.result[0]
    anew = MadeAnew(
        *(getattr(upright, name) for name in ("positions", "scales", "rotations", "opacities", "sh"))
    )

    def back(splat: Any, **more: Any) -> Any:
        numbers = {"fps": 24.0, "up": "y down", "blends_moments": True}
        return run(nodes["GS4D_SplatToScene"], splat=splat, **{**numbers, **more})

    made = {
        "direct": back(upright, original=scene),
        "anew": back(anew, original=scene),
        "as_stored": back(plain, original=scene),
        "told": back(MadeAnew(**vars(anew)), original=scene, orientation="upright"),
    }
    kinds = importlib.import_module(f"{pack.__name__}.nodes.kinds")
    step = importlib.import_module(f"{pack.__name__}.engine.steps.step")
    with torch.inference_mode(False):
        taken = kinds.entering(step.Kind.CANONICAL, upright)
    return {
        "height": [
            torch.stack([means[:, 2] for means in moments(scene)]).tolist(),
            (-upright.positions[..., 1]).tolist(),
        ],
        "stored": bool(torch.equal(plain.positions, torch.stack(moments(scene)))),
        "notes": lines(sampled),
        "away": {name: away(output.result[0], scene) for name, output in made.items()},
        "same_rig": all(output.result[0].rig is scene.rig for output in made.values()),
        "said": {name: lines(output) for name, output in made.items()},
        "alone": up_of(pack, back(upright).result[0]),
        "told_z_up": away(back(upright, up="z up").result[0], scene),
        "canonical": float((taken[0].means - moments(scene)[0]).abs().max()),
        "player": player(pack, nodes, scene, upright),
    }


def tower(pack: ModuleType) -> Any:
    """Gaussians above one another on z, filmed from around; they move along x."""
    scene = importlib.import_module(f"{pack.__name__}.engine.scene")
    rigs = importlib.import_module(f"{pack.__name__}.engine.scene.rigs")
    per_frame = importlib.import_module(f"{pack.__name__}.engine.deform.per_frame")
    generator = torch.Generator().manual_seed(0)
    count = 24
    means = torch.rand(count, 3, generator=generator) * torch.tensor([0.4, 0.2, 2.0]) - torch.tensor(
        [0.2, 0.1, 1.0]
    )
    still = scene.Gaussians(
        means,
        torch.full((count, 3), -3.0) + torch.rand(count, 3, generator=generator),
        torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1),
        torch.full((count,), 2.0),
        0.3 * torch.randn(count, 9, 3, generator=generator),
    )
    frames = [still.with_(means=means + torch.tensor([0.3 * t, 0.0, 0.0])) for t in SECONDS]
    bounds = torch.tensor([[-0.6, -0.6, -1.1], [0.6, 0.6, 1.1]]).double()
    seconds = torch.tensor(SECONDS).double()
    rig = rigs.ring_of_cameras(bounds, torch.tensor([0.0, 0.0, 1.0]).double())
    made = scene.Scene4D.still(frames[0], seconds, rig, bounds, torch.tensor([0.1, 0.2, 0.3]))
    return made.with_(deformation=per_frame.PerFrame.of(frames, seconds))


def run(node: Any, **values: Any) -> Any:
    """A node's output, whose hidden values the host would set."""
    ready = type(node.__name__, (node,), {"hidden": SimpleNamespace(unique_id=None)})
    with torch.inference_mode():
        return ready.execute(**values)


def lines(output: Any) -> str:
    return "\n".join(output.ui["gs4d_notes"])


def moments(scene: Any) -> list[torch.Tensor]:
    return [scene.at(t).means for t in SECONDS]


def away(made: Any, scene: Any) -> float:
    """The largest difference of means and view-dependent colors at each time."""
    apart = [0.0]
    for t, u in zip(SECONDS, made.times.tolist(), strict=True):
        got, wanted = made.at(u), scene.at(t)
        apart += [float((got.means - wanted.means).abs().max()), float((got.sh - wanted.sh).abs().max())]
    return max(apart)


def up_of(pack: ModuleType, scene: Any) -> list[float]:
    return importlib.import_module(f"{pack.__name__}.engine.scene.rigs").rig_up(scene.rig).tolist()


def player(pack: ModuleType, nodes: dict[str, Any], scene: Any, splat: Any) -> dict[str, Any]:
    """The camera that the player's node gives of view 2, and what Camera Path makes of it."""
    load3d = importlib.import_module(f"{pack.__name__}.nodes.load3d")
    text = json.dumps(load3d.to_load3d(scene.rig, 2, torch.zeros(3)))
    defaults = {"makes_movie": False, "camera": text}
    numbers = {
        name: kind[1]["default"]
        for section in nodes["GS4D_Preview4DScene"].GET_NODE_INFO_V1()["input"].values()
        for name, kind in section.items()
        if len(kind) > 1 and "default" in kind[1]
    }
    shown = run(nodes["GS4D_Preview4DScene"], scene=scene, **{**numbers, **defaults})
    camera = shown.result[1]
    steps = importlib.import_module(f"{pack.__name__}.engine.steps.camera_path")
    path = steps.make(scene, steps.Config(frames=1), load3d.from_load3d(camera))
    of_splat = run(nodes["GS4D_Preview4DScene"], scene=splat, **{**numbers, "makes_movie": False})
    return {
        "y": camera["position"]["y"],
        "height": float(scene.rig.centers[2][2]),
        "away": float((path.cameras.world_to_camera[0] - scene.rig.world_to_camera[2]).abs().max()),
        "splat_up": up_of(pack, of_splat.result[0]),
    }
