"""How far the hues of ED-NeRF's way are from the truth, next to those of stage 1, with and without matched colors.

    python benchmarks/hue.py --json [--edit gold | --data DIR] [--scene FILE] [--field FILE] [--every 5]

`--data` is that of benchmarks/edit.py. A latent field is trained on the scene and edited with the settings of
workflows/ed_nerf.json; it becomes a scene with *match colors* off (`unmatched`) and on (`matched`). `stage1` is Edit Views with
Prompt and Fit Scene to Edited Views, at their defaults. All are compared with the exact edit in all views and every `--every`-th
frame: `psnr`, `psnr_subject` inside the masks, and there also `hue` and `brightness`, the PSNR of chroma (Cb and Cr) and of luma
alone. `own_edit` and `decoded` say where hues drift: the model's own edit of renders of all views at four frames, and the edited
field's decoded views, against the truth in the same images.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Counting, costing
from benchmarks.edit import follow, trained
from benchmarks.edit_data import Pair, demo_pair, load_pair
from benchmarks.environment import environment
from benchmarks.latent_edit import INSTRUCTIONS, KEEP
from engine import messages as m
from engine.capture.readers import LoadOptions
from engine.errors import InputError
from engine.io.scene_file import save_scene
from engine.latent import LatentField
from engine.latent.files import load_field, save_field
from engine.losses.metrics import decibels
from engine.render import choose
from engine.scene import MultiViewVideo, Scene4D, ViewSet
from engine.steps import (
    decode_latents,
    delta_edit,
    edit_views,
    evaluate_scene,
    fit_edits,
    fit_scene,
    latents_to_scene,
    train_latents,
)
from engine.train.originals import Originals, resize
from engine.train.targets import background_of, composite

# luma, Cb and Cr of BT.601 (JPEG)
YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
# steps of workflows/ed_nerf.json
STEPS = {"latents": 200, "edit": 50, "fit": 300}


class Errors:
    """Squared errors inside the masks, over many images."""

    def __init__(self) -> None:
        self.sums, self.pixels = torch.zeros(3, dtype=torch.float64), 0.0

    def add(self, image: Tensor, truth: Tensor, inside: Tensor) -> None:
        """Images [H, W, 3] in 0..1, and where they count [H, W]."""
        away = ((image - truth) @ YCC.T).square() * inside[..., None]
        self.sums += away.sum(dim=(0, 1)).double()
        self.pixels += float(inside.sum())

    def figures(self) -> dict[str, float]:
        luma, cb, cr = (float(s) / max(self.pixels, 1) for s in self.sums)
        return {"hue": round(decibels((cb + cr) / 2), 2), "brightness": round(decibels(luma), 2)}


def true_image(video: MultiViewVideo, view: int, frame: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The captured image [H, W, 3] over its background at a size, and where its mask covers it [H, W]."""
    read = video.source.read(view, frame)
    image = resize(composite(read, background_of(video)).image, size)
    if read.mask is None:
        return image, torch.ones_like(image[..., 0])
    return image, (resize(read.mask[..., None].float() / 255, size)[..., 0] > 0.5).float()


def of_views(views: ViewSet, truth: MultiViewVideo) -> dict[str, float]:
    errors = Errors()
    for image, view, frame in zip(views.images, views.views, views.moments, strict=True):
        errors.add(image, *true_image(truth, view, frame, views.size))
    return errors.figures()


@torch.no_grad()
def of_scene(scene: Scene4D, truth: MultiViewVideo, every: int, device: str) -> dict[str, float]:
    config = evaluate_scene.Config(views="all", every=every, pictures=0)
    found = m.result(evaluate_scene.run(scene, truth, config, device))
    inside = [row.psnr_subject for row in found.rows if row.psnr_subject is not None]
    errors = Errors()
    for view, size in enumerate(scene.rig.sizes):
        drawn = Originals(scene, choose("auto", device), size)
        for frame in range(0, len(scene.times), every):
            if bool(truth.available[view, frame]):
                errors.add(drawn.get(view, frame)[0].cpu(), *true_image(truth, view, frame, size))
    summary = {"psnr": round(float(found.summary["psnr"]), 2), "ssim": round(float(found.summary["ssim"]), 4)}
    if inside:
        summary["psnr_subject"] = round(sum(inside) / len(inside), 2)
    return {**summary, **errors.figures()}


def run(
    pair: Pair,
    scene: Scene4D,
    backbone: Any,
    steps: dict[str, int],
    every: int,
    device: str = "cpu",
    field: LatentField | None = None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """All figures of one edit, as plain JSON."""
    counted, scene, result = Counting(backbone), scene.to(device), {}
    with torch.no_grad():
        own = edit_views.Config(prompt=pair.instruction, moments=latents_to_scene.spread(len(scene.times)))
        own = replace(own, originals="rendered", force=True)
        result["own_edit"] = of_views(follow(edit_views.run(scene, counted, own), "edit"), pair.edited)
    if field is None:
        config = train_latents.Config(iterations=steps["latents"], preview_every=0)
        field = follow(train_latents.run(scene, counted, config, pair.original, device), "latents")
    config = delta_edit.Config(prompt=pair.instruction, source_prompt=KEEP, iterations=steps["edit"])
    config = replace(config, **INSTRUCTIONS, preview_every=0, force=True)
    edited = follow(delta_edit.run(field, counted, config, None, None, device), "delta")
    seen = decode_latents.Config(moments=latents_to_scene.spread(len(scene.times)))
    result["decoded"] = of_views(
        follow(decode_latents.run(edited, counted, seen, None, device), "decode"), pair.edited
    )
    made: dict[str, Scene4D] = {}
    for name, matching in (("unmatched", "none"), ("matched", "auto")):
        back = latents_to_scene.Config(iterations=steps["fit"], matching=matching, preview_every=0)
        with costing(counted, device) as cost:
            made[name] = follow(latents_to_scene.run(edited, counted, back, None, device), name)
        result[name] = {"cpu_seconds": round(cost.cpu_seconds, 1)}
    with costing(counted, device) as cost:
        request = edit_views.Config(prompt=pair.instruction, force=True)
        views = follow(edit_views.run(scene, counted, request, pair.original), "edit")
        made["stage1"] = follow(
            fit_edits.run(scene, views, fit_edits.Config(preview_every=0), device=device), "fit"
        )
    result["stage1"] = {"cpu_seconds": round(cost.cpu_seconds, 1)}
    for name, one in {"unedited": scene, **made}.items():
        result[name] = {**of_scene(one, pair.edited, every, device), **result.get(name, {})}
        print(name, result[name], file=sys.stderr)
        if keep is not None:
            save_scene(one.to("cpu"), keep / f"{name}.safetensors")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--data", help="folder with original, edited and instruction.txt")
    parser.add_argument("--edit", default="gold", help="exact edit of the demo capture, without --data")
    parser.add_argument("--model", help="diffusers folder or .safetensors file (default: the bundled model)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scene", help="trained scene; created if it does not exist")
    parser.add_argument("--field", help="trained latent field; created if it does not exist")
    parser.add_argument("--keep", help="folder for the edited scenes")
    parser.add_argument("--every", type=int, default=5, help="measure every n-th frame")
    a = parser.parse_args()
    try:
        print(json.dumps(report_of(a)))
    except InputError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(f"error: {error}")


def report_of(a: argparse.Namespace) -> dict[str, Any]:
    from engine.diffusion.loading import embedded, load

    pair = load_pair(Path(a.data), LoadOptions(background="auto")) if a.data else demo_pair(a.edit)
    keep = Path(a.keep) if a.keep else None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    scene, _ = trained(pair, fit_scene.Config(preview_every=0), a.device, Path(a.scene) if a.scene else None)
    backbone, file = load(a.model or embedded(), a.device, "auto"), Path(a.field) if a.field else None
    field = load_field(file).to(a.device) if file is not None and file.is_file() else None
    if field is None and file is not None:
        config = train_latents.Config(iterations=STEPS["latents"], preview_every=0)
        field = follow(train_latents.run(scene, backbone, config, pair.original, a.device), "latents")
        save_field(field.to("cpu"), file)
    found = run(pair, scene, backbone, STEPS, a.every, a.device, field, keep)
    env = environment(a.device, 0)
    return {"capture": pair.name, "instruction": pair.instruction, "steps": STEPS, **found, "env": env}


if __name__ == "__main__":
    main()
