"""Verbs that edit a scene with a sentence, and measure the edit."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..errors import InputError
from .arguments import (
    AddVerb,
    Arguments,
    add_config,
    config_from,
    device_of,
    follow,
    load_capture,
    with_data,
    with_device,
)
from .editing import (
    backbone_of,
    checkpoint_of,
    inputs_of,
    save_made,
    with_checkpoint,
    with_model,
    with_selection,
)

SHARED = ("rasterizer", "seed", "preview_every", "checkpoint_seconds")  # one flag for all stages of `edit`


def edit(arguments: Arguments) -> dict[str, Any]:
    """Edit views, fit the scene to them, and, where asked, refine it: each stage resumes where it was stopped."""
    from ..diffusion.known_edits import check_prompt
    from ..io.view_folder import load_views, save_views
    from ..steps import edit_views, fit_edits, refine_score

    start, out = time.monotonic(), Path(arguments.out)
    device = device_of(arguments)
    scene, video, selection = inputs_of(arguments, device)
    backbone: Any = None if arguments.use_views and not arguments.refine else backbone_of(arguments, device)
    checkpoints = {
        name: out.with_suffix(f".{name}.safetensors") for name in ("editing", "fitting", "refining")
    }
    if arguments.use_views:
        if arguments.refine:
            # else the refinement would refuse it after the fit
            check_prompt(backbone.known_edits, arguments.prompt, arguments.force)
        views = load_views(arguments.use_views)
    else:
        config = config_from(arguments, edit_views.Config)
        views = follow(
            edit_views.run(scene, backbone, config, video, selection, checkpoints["editing"]),
            arguments.json,
            keeps_checkpoint=True,
        )
    if arguments.keep_views:
        save_views(views, arguments.keep_views)
    config = config_from(arguments, fit_edits.Config, "fit_", SHARED)
    edited = follow(
        fit_edits.run(scene, views, config, selection, device, checkpoints["fitting"]),
        arguments.json,
        keeps_checkpoint=True,
    )
    if arguments.refine:
        config = config_from(
            arguments, refine_score.Config, "refine_", (*SHARED, "prompt", "negative", "force")
        )
        edited = follow(
            refine_score.run(
                edited, backbone, config, video, selection, device, checkpoints["refining"], scene
            ),
            arguments.json,
            keeps_checkpoint=True,
        )
    report = save_made(edited, out, start)
    for path in checkpoints.values():
        path.unlink(missing_ok=True)
    return report


def fit_edits(arguments: Arguments) -> dict[str, Any]:
    from ..io.view_folder import load_views
    from ..steps import fit_edits as step

    start, out = time.monotonic(), Path(arguments.out)
    device = device_of(arguments)
    scene, _, selection = inputs_of(arguments, device)
    views = load_views(arguments.views)
    config = config_from(arguments, step.Config)
    stream = step.run(scene, views, config, selection, device, checkpoint_of(arguments, "fitting"))
    report: dict[str, Any] = {}
    follow(stream, arguments.json, put_away=lambda made: report.update(save_made(made, out, start)))
    return report


def refine(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..steps import refine_score as step

    start, out = time.monotonic(), Path(arguments.out)
    device = device_of(arguments)
    scene, video, selection = inputs_of(arguments, device)
    config = config_from(arguments, step.Config)
    checkpoint = checkpoint_of(arguments, "refining")
    before = load_scene(Path(arguments.original)).to(device) if arguments.original else None
    stream = step.run(
        scene, backbone_of(arguments, device), config, video, selection, device, checkpoint, before
    )
    report: dict[str, Any] = {}
    follow(stream, arguments.json, put_away=lambda made: report.update(save_made(made, out, start)))
    return report


def scene_views(arguments: Arguments) -> dict[str, Any]:
    from ..io.view_folder import save_views
    from ..steps import scene_views as step

    scene, video, _ = inputs_of(arguments, device_of(arguments))
    views = follow(step.run(scene, config_from(arguments, step.Config), video), arguments.json)
    return {"out": str(save_views(views, arguments.out)), "views": len(views)}


def lift_mask(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..io.selection_file import save_selection
    from ..io.view_folder import load_views
    from ..steps import lift_mask as step

    scene, views = load_scene(Path(arguments.scene)), load_views(arguments.views)
    masks = _masks(Path(arguments.masks), views.size, len(views))
    stream = step.run(scene, views, masks, config_from(arguments, step.Config), device_of(arguments))
    selection = follow(stream, arguments.json)
    save_selection(selection, arguments.out)
    return {
        "out": arguments.out,
        "selected": int((selection.weights > 0).sum()),
        "gaussians": len(scene.canonical),
    }


def evaluate_edit(arguments: Arguments) -> dict[str, Any]:
    from ..io.scene_file import load_scene
    from ..io.view_folder import load_views
    from ..steps import evaluate_edit as step

    evaluation = follow(
        step.run(
            load_scene(Path(arguments.scene)),
            load_scene(Path(arguments.original)) if arguments.original else None,
            load_views(arguments.views) if arguments.views else None,
            load_capture(arguments) if arguments.data else None,
            config_from(arguments, step.Config),
            device_of(arguments),
            Path(arguments.clip) if arguments.clip else None,
            Path(arguments.lpips) if arguments.lpips else None,
        ),
        arguments.json,
    )
    if arguments.sheet:
        _sheet(evaluation.pictures, Path(arguments.sheet))
    if not arguments.json:
        print(evaluation.text())
    return evaluation.summary


# -- masks and pictures ------------------------------------------------------------------------------------------------


def _masks(folder: Path, size: tuple[int, int], count: int) -> Any:
    """Mask pictures of a folder in the order of their names: [F, H, W] in 0..1, resampled to the views' size."""
    import numpy as np
    import torch

    from ..files.images import SUFFIXES, picture_size, read_mask

    if not folder.is_dir():
        raise InputError(f"{folder.name} is no folder; give one that holds a mask picture for each view.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(files) != count:
        raise InputError(
            f"{folder.name} holds {len(files)} mask pictures, there are {count} views; give one for each, named like the "
            "views' pictures."
        )
    for path in files:
        width, height = picture_size(path, path.name)
        if abs(width / height / (size[0] / size[1]) - 1) > 0.05:
            raise InputError(
                f"{path.name} is {width}×{height}, its view {size[0]}×{size[1]}: their shapes differ, so it cannot be "
                "its mask; resize without cropping."
            )
    return torch.from_numpy(np.stack([read_mask(path, path.name, size) for path in files])).float() / 255


def _sheet(pictures: Any, out: Path) -> None:
    import torch
    from PIL import Image

    from ..files.atomic import write_atomically

    if not len(pictures):
        return
    pixels = (torch.cat(list(pictures)).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(out) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")


def add_verbs(verb: AddVerb) -> None:
    """Each verb with its flags."""
    from ..steps import edit_views, refine_score
    from ..steps import evaluate_edit as evaluate_step
    from ..steps import fit_edits as fit_step
    from ..steps import lift_mask as lift_step
    from ..steps import scene_views as views_step

    capture = "folder of the capture that the scene was trained on (default: its own renders are edited)"

    sub = verb(
        "edit", edit, "Edit a scene with one sentence: edit views of it, fit the scene to them, refine it."
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="edited scene to write (.safetensors)")
    with_data(sub, False, capture)
    with_device(sub)
    with_model(sub)
    with_selection(sub)
    sub.add_argument("--keep-views", help="folder to leave the edited views in, to look at or to change")
    sub.add_argument(
        "--use-views", help="folder of edited views (of --keep-views, changed at will) to fit to"
    )
    sub.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="then refine the whole clip by score distillation (stage 2 of Instruct-4DGS)",
    )
    add_config(sub, edit_views.Config)
    add_config(sub, fit_step.Config, SHARED, "fit_")
    add_config(sub, refine_score.Config, (*SHARED, "prompt", "negative", "force"), "refine_")

    sub = verb("fit-edits", fit_edits, "Fit a scene to edited views, its motion untouched.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--views", required=True, help="folder of edited views")
    sub.add_argument("--out", required=True, help="edited scene to write (.safetensors)")
    with_device(sub)
    with_selection(sub)
    with_checkpoint(sub)
    add_config(sub, fit_step.Config)

    sub = verb(
        "refine", refine, "Refine a scene towards a sentence by score distillation, at all its moments."
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--original", help="the scene before the edit, where there is no capture of it")
    sub.add_argument("--out", required=True, help="refined scene to write (.safetensors)")
    with_data(sub, False, capture)
    with_device(sub)
    with_model(sub)
    with_selection(sub)
    with_checkpoint(sub)
    add_config(sub, refine_score.Config)

    sub = verb(
        "scene-views", scene_views, "Write pictures of a scene from its own cameras, to mask or edit by hand."
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", required=True, help="folder of views to write")
    with_data(sub, False, capture)
    with_device(sub)
    add_config(sub, views_step.Config)

    sub = verb("lift-mask", lift_mask, "Say which Gaussians an edit may change, from masks of a few views.")
    sub.add_argument("--scene", required=True)
    sub.add_argument("--views", required=True, help="folder of views (of scene-views or --keep-views)")
    sub.add_argument(
        "--masks", required=True, help="folder with a mask picture for each of them, named alike"
    )
    sub.add_argument("--out", required=True, help="selection to write (.safetensors)")
    with_device(sub)
    add_config(sub, lift_step.Config)

    sub = verb(
        "evaluate-edit",
        evaluate_edit,
        "Measure an edited scene: against the truth, its edited views, the wording.",
    )
    sub.add_argument("--scene", required=True, help="the edited scene")
    sub.add_argument("--original", help="the scene before the edit")
    sub.add_argument("--views", help="folder of the edited views that it was fitted to")
    with_data(sub, False, "folder of a capture that shows how the edited scene should look")
    sub.add_argument("--clip", help="folder of a CLIP model")
    sub.add_argument("--lpips", help="torchvision's VGG16 or AlexNet weights, for LPIPS")
    sub.add_argument("--sheet", help="picture to write: original, edited, target, difference")
    with_device(sub)
    add_config(sub, evaluate_step.Config)
