"""Parameters of editing images of a scene with a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
from ..fields import choice, flag, number, text, validate
from ..guidance.edit import ATTENTION, STARTS
from ..guidance.inpaint import WAYS, KeepRequest
from ..render import rasterizer_field
from .guidance_fields import guidance_scale_field, image_guidance_scale_field
from .originals import SOURCES
from .view_crops import CROPS

BACKGROUNDS = ("auto", "scene", "as edited")
DETAILS = ("auto", "as painted", "from originals")


@dataclass(frozen=True)
class ViewEditConfig:
    """The prompt, the views, and how the model is run; 0 and "auto" leave a choice to the model."""

    prompt: str = text(
        "",
        f"The edit as an instruction, such as 'make it night' or 'turn it into a gold statue'. {BUNDLED_EDITS}",
        multiline=True,
    )
    guidance_scale: float = guidance_scale_field()
    image_guidance_scale: float = image_guidance_scale_field()
    steps: int = number(
        0,
        0,
        200,
        "Denoising steps. More is slower and often cleaner; typical 20; 0 uses the model's default.",
        words={0: "auto"},
        advanced=True,
    )
    strength: float = number(
        1.0,
        0.0,
        1.0,
        "Fraction of the noise schedule that is used. Lower keeps more of the original layout; typical 0.6–1.",
        0.01,
        label="denoise",
    )
    views: str = text("", "Indices of the views to edit, such as '0 2 5-8'. Empty edits all training views.")
    moments: str = text(
        "auto",
        "Indices of the frames to edit, such as '0' (the paper) or '0 10 20'; 'all' edits every frame. auto edits as many images "
        "as there are views, chosen over all frames so that together they show the most of the scene.",
        label="frames",
    )
    seed: int = number(0, 0, 2**32 - 1, "Random seed.")
    negative: str = text(
        "", "Negative prompt: what the images should not show.", label="negative prompt", advanced=True
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the edited images in pixels. More is slower; 0 uses the model's default.",
        words={0: "auto"},
        advanced=True,
    )
    attention: str = choice(
        "keyframe",
        ATTENTION,
        "Cross-frame attention: which other views each view attends to during denoising. vanilla edits each view on its "
        "own; epipolar takes features from random key views along epipolar lines (DGE), for many views of one frame.",
        label="cross-frame attention",
        advanced=True,
    )
    key_view: int = number(
        -1,
        -1,
        9999,
        "View that the others attend to. -1 uses the first edited view.",
        words={-1: "first"},
        advanced=True,
    )
    start: str = choice(
        "noised originals",
        STARTS,
        "Starts from the noised originals (preserves large shapes and colors better) or from pure noise.",
        advanced=True,
    )
    originals: str = choice(
        "auto",
        SOURCES,
        "Source of the images to edit: captured or rendered. auto uses captured images if the scene has not been edited.",
        label="original source",
        advanced=True,
    )
    background: str = choice(
        "auto",
        BACKGROUNDS,
        "Background of the edited images: the scene's own or the one that the model painted. auto uses the scene's own if "
        "the scene does not fill the images.",
        advanced=True,
    )
    frames_at_once: int = number(
        0,
        0,
        1000,
        "Images per batch. Fewer need less memory; all batches share one key view. 0 puts all images in one batch (epipolar: "
        "5 views of one frame).",
        label="batch size",
        words={0: "all"},
        advanced=True,
    )
    rasterizer: str = rasterizer_field()
    preview_every: int = number(
        1,
        0,
        1000,
        "Steps between two preview images. 0 shows none.",
        words={0: "never"},
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0,
        1.0,
        3600.0,
        "Seconds between two checkpoints.",
        label="checkpoint every (seconds)",
        advanced=True,
    )
    detail: str = choice(
        "auto",
        DETAILS,
        "Fine detail: as painted by the model, or transferred from the originals, which keeps faces and seams and limits "
        "new shapes. auto uses the model's default.",
        since="0.1",
        advanced=True,
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")
    keep_mode: str = choice(
        "hard",
        WAYS,
        "How what the keep mask covers is kept: hard preserves it; soft lets colors and age pass but holds shapes, such as "
        "the gaze.",
        advanced=True,
        since="0.2",
    )
    keep_start: float = number(
        0.4,
        0.0,
        1.0,
        "Start of the keep window, as a fraction of the denoising steps. Earlier also holds the surroundings and weakens "
        "the edit; typical 0.3–0.6.",
        0.01,
        advanced=True,
        since="0.2",
    )
    keep_end: float = number(
        1.0,
        0.0,
        1.0,
        "End of the keep window. Below 1, the last steps may change what the mask covers; typical 0.8–1.",
        0.01,
        advanced=True,
        since="0.2",
    )
    keep_jump: int = number(
        0,
        0,
        50,
        "Steps that resampling goes back within the keep window, for softer seams. 0 turns it off; typical 2–5.",
        label="keep resampling jump",
        words={0: "off"},
        advanced=True,
        since="0.2",
    )
    keep_repeats: int = number(
        2,
        1,
        10,
        "How often resampling runs each block of steps. More gives softer seams and takes longer; typical 2–3.",
        label="keep resampling repeats",
        advanced=True,
        since="0.2",
    )
    keep_feather: int = number(
        0,
        0,
        256,
        "Pixels over which the original's own pixels are blended in where the keep mask is. Higher widens the transition; "
        "typical 4–12; 0 does not blend, so that the model's autoencoder still changes fine detail.",
        words={0: "no blending"},
        advanced=True,
        since="0.2",
    )
    crop: str = choice(
        "none",
        CROPS,
        "Edits a square crop around the keep mask or the selection at the model's resolution and pastes it back, for parts "
        "that are small in the images, such as a face. Outside of the crop, images stay as they are.",
        since="0.2",
    )
    crop_margin: float = number(
        0.5,
        0.0,
        4.0,
        "Space around the mask on each side of the crop, as a fraction of the mask's size. Higher shows more of the "
        "surroundings at a lower resolution; typical 0.3–1.",
        0.01,
        since="0.2",
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate(self)

    @property
    def keep(self) -> KeepRequest:
        """The keep_* fields."""
        return KeepRequest(
            self.keep_start,
            self.keep_end,
            self.keep_mode,
            self.keep_jump,
            self.keep_repeats,
            self.keep_feather,
        )
