"""Recolor a scene: light, contrast, saturation, a preset, a look-up table. No paper: grading as in film and photography.

The colors that each Gaussian shows are graded, at all times and in all directions (engine/color/recolor.py). A pixel is a
mix of Gaussians, and a mix of graded colors is not exactly the graded mix: where colors overlap softly, a strongly bent grade
differs a little from the same grade of the rendered image. docs/benchmarks.md has the figures (benchmarks/grade.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..color import PRESETS, Grade, graded_sh
from ..deform import graded_deformation
from ..diffusion.sizes import nearest_size
from ..fields import as_record, choice, number, validate
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..io.cube_file import read_cube
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import choose, render_gaussians
from ..scene import Scene4D, Selection
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# pixels on the longer side of the preview
PREVIEW = 320


@dataclass(frozen=True)
class Config:
    preset: str = choice(
        "none",
        PRESETS,
        "A finished look. gold, bronze, marble, red, green and blue color by brightness; night, golden hour, fog and black "
        "and white also change the background color. Fog is equally dense at every depth.",
    )
    strength: float = number(
        1.0,
        0.0,
        1.0,
        "Mix of the original and the graded colors. Higher is closer to the full grade; 0 changes nothing.",
        step=0.05,
    )
    exposure: float = number(
        0.0,
        -8.0,
        8.0,
        "Brightness in stops, in linear light: +1 doubles the light, −1 halves it; typical −2 to 2.",
        step=0.1,
    )
    contrast: float = number(
        1.0,
        0.0,
        4.0,
        "Multiplies the distance of displayed colors from middle gray. Higher is harder; typical 0.8–1.4.",
        step=0.05,
    )
    saturation: float = number(
        1.0,
        0.0,
        4.0,
        "Multiplies the distance of displayed colors from gray. Higher is more colorful; 0 is gray; typical 0.5–1.5.",
        step=0.05,
    )
    temperature: float = number(
        0.0,
        -80.0,
        250.0,
        "Color of the light in mireds from daylight white (6504 K), in linear light. Higher is warmer: 113 is 3750 K; "
        "negative is bluer: −50 is 9640 K.",
        step=1.0,
    )
    tint: float = number(
        0.0,
        -50.0,
        50.0,
        "Color of the light across temperature, in thousandths of Duv. Higher is more magenta, negative greener; typical "
        "−10 to 10.",
        step=1.0,
    )
    background: str = choice(
        "auto",
        ("auto", "graded", "kept"),
        "The scene's background color. auto grades it, but not with a selection or with the presets gold, bronze, marble, "
        "red, green and blue.",
    )

    def __post_init__(self) -> None:
        validate(self)


def run(
    scene: Scene4D, config: Config = Config(), selection: Selection | None = None, table: Path | None = None
) -> Stream:
    """Recolor a scene at all times.

    Adjustments come first, then the preset, then the look-up table.

    Args:
        scene: The scene; it is not changed.
        config: The grade.
        selection: Gaussians that are graded, by their weights; None: all. Those of weight 0 keep their bits.
        table: A `.cube` file for displayed colors (sRGB or Rec. 709).

    Yields:
        Started, Progress, a Preview of both scenes, and Finished with a `Scene4D` on the input scene's device.

    Raises:
        InputError: A selection of another scene, or a damaged look-up table.

    Example:
        night = messages.result(grade_scene.run(scene, grade_scene.Config(preset="night", exposure=-0.5)))
    """
    count = len(scene.canonical)
    if selection is not None:
        selection.check(count)
    lut = None if table is None else read_cube(table)
    grade = Grade(
        config.exposure,
        config.temperature,
        config.tint,
        config.contrast,
        config.saturation,
        config.preset,
        lut,
        config.strength,
    )
    yield Started(2, f"grading {count} Gaussians")
    made = scene if grade.is_neutral() else _graded(scene, grade, selection)
    if not grade.is_neutral() and is_background_graded(config, grade, selection):
        made = made.with_(background=grade.apply(scene.background))
    named = {} if lut is None or table is None else {"table": table.name, "title": lut.title}
    made = made.with_history("grade_scene", config=as_record(config), masked=selection is not None, **named)
    yield Progress(1, count=count)
    yield Preview(_before_and_after(scene, made), 2)
    yield Progress(2, count=count)
    yield Finished(made)


def is_background_graded(config: Config, grade: Grade, selection: Selection | None) -> bool:
    """Whether the background color changes with the scene."""
    if config.background == "auto":
        return selection is None and grade.changes_surroundings()
    return config.background == "graded"


def _graded(scene: Scene4D, grade: Grade, selection: Selection | None) -> Scene4D:
    canonical = scene.canonical
    weights = torch.ones(len(canonical)) if selection is None else selection.weights
    weights = weights.to(canonical.sh)
    with torch.no_grad():
        sh = graded_sh(canonical.sh, grade.apply, weights)
        size = 0 if grade.table is None or grade.table.is_curve else grade.table.size
        seconds = float(scene.times[0])
        motion = graded_deformation(scene.deformation, canonical, seconds, grade.apply, size, weights)
    return scene.with_(canonical=canonical.with_(sh=sh), deformation=motion)


def _before_and_after(before: Scene4D, after: Scene4D) -> torch.Tensor:
    """The first view and frame of both scenes, side by side."""
    camera, seconds = before.rig[[0]], float(before.times[0])
    camera = camera.resized((nearest_size(*camera.sizes[0], PREVIEW, 1),))
    rasterizer = choose("auto", before.device)
    with torch.no_grad():
        images = [
            render_gaussians(each.at(seconds), camera, rasterizer, each.background).rgb[0].clamp(0, 1).cpu()
            for each in (before, after)
        ]
    return as_tensor(sheet([[image] for image in images], ["original", "graded"]))


def summary(scene: Scene4D) -> str:
    """What was graded, from the history."""
    entry = scene.history[-1]
    config = entry["config"]
    words = [f"preset {config['preset']}"] if config["preset"] != "none" else []
    if "table" in entry:
        words.append(entry["table"] + (f" ({entry['title']})" if entry["title"] else ""))
    neutral = {f: getattr(Config, f) for f in ("exposure", "contrast", "saturation", "temperature", "tint")}
    words += [f"{name} {config[name]:g}" for name, value in neutral.items() if config[name] != value]
    ground = " ".join(f"{value:.2f}" for value in scene.background.tolist())
    who = "the selected Gaussians" if entry["masked"] else "all Gaussians"
    return f"Graded {who}: {', '.join(words) or 'no change'}; strength {config['strength']:g}, background {ground}."


STEP = Step(
    name="grade_scene",
    node="GradeScene",
    label="Grade Scene",
    category="4dgs/edit",
    description="Recolors a scene at all times: presets such as gold, marble and night, .cube look-up tables, exposure, "
    "contrast, saturation, temperature and tint. Instant; needs no model.",
    search=(
        "color grading",
        "color correction",
        "lut",
        "cube",
        "look-up table",
        "recolor",
        "white balance",
        "exposure",
        "night",
        "gold",
        "black and white",
        "edit scene",
    ),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The scene to grade; it is not changed."),
        Input(
            "selection",
            Kind.SELECTION,
            "Grades only these Gaussians, by their weights. From Lift Mask to Gaussians; without it all are graded.",
            optional=True,
        ),
        Input(
            "table",
            Kind.COLOR_TABLE,
            "A .cube file in ComfyUI's input or output folder or in models/gs4d, for displayed colors (sRGB or Rec. 709). It is "
            "applied last.",
            label="look-up table",
            id="lut",
            flag="lut",
            optional=True,
        ),
    ),
    outputs=(Output("scene_out", Kind.SCENE, "The graded scene.", label="scene"),),
    verb="grade",
    has_device=False,
    figure=Figure.PREVIEW,
    note=summary,
)
