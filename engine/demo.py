"""The demo: train on the bundled capture, edit the scene, and write videos, scenes, a .ply, a contact sheet and a page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .capture.readers import load_video
from .diffusion.known_edits import check_prompt
from .diffusion.loading import EMBEDDED, known_edits_of, load
from .errors import InputError
from .figures.contact_sheets import below, sheet
from .files.atomic import check_writable, write_atomically
from .io.ply import write_ply
from .io.scene_file import save_scene
from .render import choose, render_gaussians
from .scene import MultiViewVideo, Scene4D, ViewSet
from .steps import camera_path, edit_views, evaluate_scene, export_scene, fit_edits, fit_scene, render_scene
from .train.originals import resize
from .train.speed import CLIP
from .wording import brief

log = logging.getLogger("gs4d")
# of training at most, with fewer steps than its default: the whole demo takes less than two minutes on two cores
SECONDS, ITERATIONS = 160.0, 4500
PROMPT = "turn it into a gold statue"
SCENE = "scene.safetensors"
PAGE = "before_after.html"
# for the fit to the edited views
FIT_SECONDS = 35.0

Follow = Callable[[Any, bool], Any]


def run(
    folder: Path,
    follow: Follow,
    device: str = "cpu",
    seconds: float = SECONDS,
    clip: Path = CLIP,
    prompt: str = PROMPT,
    model: Path = EMBEDDED,
    force: bool = False,
) -> dict[str, Any]:
    """Run the demo.

    Args:
        folder: Output folder.
        follow: Runs a step's stream, shows its progress and returns its result.
        device: Device of training and editing.
        seconds: Duration of training, in seconds.
        clip: Capture to train on.
        prompt: Prompt of the edit; empty skips it.
        model: Diffusion model of the edit.
        force: Edit even if the model does not know the prompt.

    Returns:
        The files and measurements, as JSON values.

    Raises:
        InputError: The capture or the model is missing, or the model does not know the prompt.
    """
    if not clip.is_dir():
        raise InputError(
            "ENG-003",
            f"The bundled demo capture {clip.name}/ is missing; install the pack again, including its assets folder.",
        )
    prompt = prompt.strip()
    if prompt and not model.is_dir():
        raise InputError(
            "ENG-004",
            f"The model for the demo's edit, {model.name}/, is missing. Install the pack again, including its assets folder, or "
            'skip the edit with --prompt "".',
        )
    # before the minutes of training
    check_prompt(known_edits_of(model), prompt, force)
    check_writable(folder / SCENE)
    start = time.monotonic()
    video = load_video(clip)
    config = fit_scene.Config(iterations=ITERATIONS, max_seconds=seconds)
    scene: Scene4D = follow(fit_scene.run(video, config, device), False)
    trained = time.monotonic() - start
    save_scene(scene, folder / SCENE)
    write_ply(scene.at(float(scene.times[len(scene.times) // 2])), folder / "moment.ply")
    _orbit(scene, folder / "orbit.mp4", follow, device)
    evaluation = follow(
        evaluate_scene.run(scene, video, evaluate_scene.Config(every=4, pictures=5), device), False
    )
    sheets = [Sheet(evaluation.pictures, TRAINED, evaluation.text().splitlines()[0])]
    log.info(evaluation.text())
    edited_in = 0.0
    if prompt:
        began = time.monotonic()
        sheets.append(
            _edit(scene, video, folder, follow, device, edit_views.Config(prompt=prompt, force=force), model)
        )
        edited_in = time.monotonic() - began
    page(sheets, folder / "pictures.png")
    return {
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "seconds": round(time.monotonic() - start, 1),
        "seconds_training": round(trained, 1),
        "seconds_editing": round(edited_in, 1),
        "prompt": prompt,
        "page": str(folder / PAGE) if prompt else "",
        "gaussians": len(scene.canonical),
        "psnr_views": round(evaluation.summary["psnr"], 2),
    }


def _edit(
    scene: Scene4D,
    video: MultiViewVideo,
    folder: Path,
    follow: Follow,
    device: str,
    config: edit_views.Config,
    model: Path,
) -> Sheet:
    """Edit images of the scene and fit it to them; writes the edited scene, its video, and a page that plays both scenes."""
    backbone = load(model, device)
    there = scene.to(device)
    views = follow(edit_views.run(there, backbone, config, video), False)
    fitting = fit_edits.Config(max_seconds=FIT_SECONDS)
    edited: Scene4D = follow(fit_edits.run(there, views, fitting, None, device), False).to("cpu")
    save_scene(edited, folder / "edited.safetensors")
    _orbit(edited, folder / "edited.mp4", follow, device)
    follow(export_scene.run(scene, export_scene.Config(kind="html"), folder / PAGE, edited), False)
    count = len(set(views.moments))
    told = f"'{brief(config.prompt)}' ({backbone.name}): {len(views)} images of {count} frames edited; all frames follow"
    return Sheet(before_and_after(scene, edited, views, device), EDITED, told)


def _orbit(scene: Scene4D, target: Path, follow: Follow, device: str) -> None:
    path = camera_path.make(scene, camera_path.Config(frames=72, fps=24.0, width=320, height=320))
    follow(render_scene.to_video(scene, path, render_scene.Config(), target, device), False)


@torch.no_grad()
def before_and_after(scene: Scene4D, edited: Scene4D, views: ViewSet, device: str, rows: int = 4) -> Tensor:
    """[K, H, 4W, 3]: a view before the edit, its edited image, the edited scene, and the same a quarter later."""
    rasterizer = choose("auto", device)
    before, after = scene.to(device), edited.to(device)
    # half of a looping capture may look like its start
    later = float(scene.times[max(1, len(scene.times) // 4)])
    made: list[Tensor] = []
    for i in range(0, len(views), max(1, -(-len(views) // rows))):
        camera, seconds = scene.rig[views.views[i]], views.seconds[i]

        def draw(which: Scene4D, when: float, camera: Any = camera) -> Tensor:
            background = which.background.to(device)
            return render_gaussians(which.at(when), camera, rasterizer, background).rgb[0].clamp(0, 1).cpu()

        model = resize(views.images[i], camera.sizes[0])
        made.append(
            torch.cat([draw(before, seconds), model, draw(after, seconds), draw(after, later)], dim=1)
        )
    return torch.stack(made)


TRAINED = ("input (never trained on)", "render", "depth", "error x 5")
EDITED = ("scene", "edited by the model", "edited scene", "a quarter later")


@dataclass(frozen=True, eq=False)
class Sheet:
    """Rows of four images side by side, [K, H, 4W, 3] in 0..1, with four column headings and a line above."""

    pictures: Tensor
    headings: Sequence[str]
    text: str


def page(sheets: Sequence[Sheet], target: Path) -> None:
    """Write the sheets one below the other as a .png."""
    made: list[Any] = []
    for each in sheets:
        rows = [[row] for row in each.pictures]
        # in their own size
        tile = each.pictures.shape[2]
        made.append(sheet(rows, columns=1, title=each.text, headers=each.headings, look="light", tile=tile))
    canvas = below(*made, look="light")
    with write_atomically(target) as partial:
        canvas.save(partial, format="PNG")
