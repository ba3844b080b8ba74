"""Parameters of editing a latent field by delta denoising."""

from __future__ import annotations

from dataclasses import dataclass

from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from .latent_config import LatentConfig
from .originals import SOURCES
from .parameter_groups import OPTIMIZERS

METHODS = ("dds", "sds")
FREED = ("appearance", "shape")
LOOKS = ("auto", "nothing", "originals")
WEIGHTINGS = ("uniform", "picture")


@dataclass(frozen=True)
class DeltaConfig(LatentConfig):
    """What to edit, how far, and what to keep."""

    prompt: str = text(
        "",
        "Target: what the edited scene shows, such as 'a gold statue of a person', or an instruction for an instruction "
        f"model. {BUNDLED_EDITS}",
        multiline=True,
    )
    source_prompt: str = text(
        "",
        "Source: what the scene shows now, such as 'a person walking'; for an instruction model 'leave it as it is'.",
        multiline=True,
    )
    method: str = choice(
        "dds",
        METHODS,
        "dds follows the difference between the two prompts; sds follows the target prompt alone (oversaturates; for "
        "comparison).",
    )
    iterations: int = number(200, 1, 1_000_000, "Editing steps, each with one call of the diffusion model.")
    images_per_step: int = number(
        2, 1, 64, "Views per step, all of one random frame. More is smoother and slower.", label="batch size",
        advanced=True,
    )  # fmt: skip
    guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale for the text. Higher follows the prompts more; the DDS notebook uses 7.5; 0 uses the model's "
        "default.",
        0.1,
        words={0: "auto"},
    )
    final_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale at the last step, reached linearly. 0 keeps it constant.",
        0.1,
        words={0: "constant"},
        advanced=True,
    )
    frees: str = choice(
        "appearance",
        FREED,
        "appearance optimizes the latents alone; shape also optimizes positions, scales, rotations and opacities.",
        label="optimized parameters",
    )
    inside_weight: float = number(
        0.0,
        0.0,
        100.0,
        "Weight that keeps the original inside the mask. Higher keeps more of it.",
        0.01,
        label="inside-mask weight",
        advanced=True,
    )
    outside_weight: float = number(
        1.0,
        0.0,
        100.0,
        "Weight that keeps the original outside the mask. Higher keeps the rest closer to the original.",
        0.01,
        label="outside-mask weight",
        advanced=True,
    )
    looks_at: str = choice(
        "auto",
        LOOKS,
        "Conditioning image of an instruction model: the originals (prompts are instructions) or none (prompts are "
        "captions). auto uses the originals.",
        label="conditioning image",
        advanced=True,
    )
    negative: str = text(
        "",
        "Negative prompt: what the images should not show; usually empty.",
        label="negative prompt",
        advanced=True,
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Image guidance scale, for models with a conditioning image. Higher stays closer to the originals; 0 uses the "
        "model's default.",
        0.1,
        words={0: "auto"},
        advanced=True,
    )
    min_timestep: float = number(
        0.05,
        0.0,
        1.0,
        "Smallest timestep, as a fraction of the schedule. Smaller edits finer detail.",
        0.01,
        advanced=True,
    )
    max_timestep: float = number(
        0.95,
        0.0,
        1.0,
        "Largest timestep, as a fraction of the schedule. Larger changes more.",
        0.01,
        advanced=True,
    )
    anneals: bool = flag(
        False,
        "Lowers the largest timestep over the run to a quarter of the range, so that detail comes last.",
        label="anneal timesteps",
        advanced=True,
    )
    optimizer: str = choice(
        "adam",
        OPTIMIZERS,
        "adam: step size independent of gradient magnitude; sgd: proportional to it.",
        advanced=True,
    )
    trains_refiner: bool = flag(
        False,
        "Also trains the refinement layer, as in the paper. A mask does not restrict it.",
        label="train refinement layer",
        advanced=True,
    )
    mask_threshold: float = number(
        0.5,
        0.0,
        1.0,
        "Fraction of a latent that the selected Gaussians must cover for it to be edited.",
        0.01,
        advanced=True,
    )
    dilation: int = number(
        1,
        0,
        16,
        "Mask dilation in latents, because an autoencoder mixes neighbors. More reaches further.",
        label="mask dilation",
        advanced=True,
    )
    position_lr: float = number(
        1.6e-5,
        0.0,
        1.0,
        "Learning rate of positions, relative to the scene's extent (shape).",
        1e-6,
        id="position_rate",
        advanced=True,
    )
    scale_lr: float = number(
        2e-3, 0.0, 1.0, "Learning rate of log scales (shape).", 1e-4, id="scale_rate", advanced=True
    )
    rotation_lr: float = number(
        1e-3, 0.0, 1.0, "Learning rate of quaternions (shape).", 1e-4, id="rotation_rate", advanced=True
    )
    opacity_lr: float = number(
        1e-2, 0.0, 1.0, "Learning rate of opacity logits (shape).", 1e-3, id="opacity_rate", advanced=True
    )
    views: str = text(
        "", "Indices of the views to edit, such as '0 2 5-8'. Empty uses all training views.", advanced=True
    )
    moments: str = text(
        "all",
        "Indices of the frames to edit, such as '0 5-9'; 'all' edits every frame.",
        label="frames",
        advanced=True,
    )
    originals: str = choice(
        "rendered",
        SOURCES,
        "Source of the conditioning images: captured images, or renders of the scene as it was trained.",
        label="original source",
        advanced=True,
    )
    low_vram: bool = flag(
        False,
        "Evaluates one guidance branch at a time: slower, with less memory.",
        label="low VRAM",
        id="saves_memory",
        advanced=True,
    )
    weighting: str = choice(
        "uniform",
        WEIGHTINGS,
        "Weight of each timestep: uniform weights all alike (paper); picture favors high noise, where small models know "
        "most.",
        advanced=True,
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")

    def __post_init__(self) -> None:
        validate(self)
        if self.min_timestep > self.max_timestep:
            raise InputError(
                "STP-003",
                f"min_timestep is {self.min_timestep}, which is larger than max_timestep ({self.max_timestep}); swap them.",
            )
