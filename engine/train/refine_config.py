"""Parameters of refining an edited scene."""

from __future__ import annotations

from dataclasses import dataclass

from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
from ..errors import InputError
from ..fields import choice, flag, number, text, validate
from ..guidance.score import WEIGHTINGS
from .edit_config import EditConfig
from .originals import SOURCES

OBJECTIVES = ("score", "own edits", "auto")


@dataclass(frozen=True)
class RefineConfig(EditConfig):
    """What the model is asked, and at which noise levels."""

    prompt: str = text(
        "", f"The instruction that the views were edited with. {BUNDLED_EDITS}", multiline=True
    )
    negative: str = text(
        "",
        "Negative prompt: what the images should not show; usually empty.",
        label="negative prompt",
        advanced=True,
    )
    iterations: int = number(
        800,
        1,
        1_000_000,
        "Refinement steps, each with one call of the diffusion model. Own edits takes three quarters of the fit's steps instead.",
    )
    images_per_step: int = number(
        4,
        1,
        64,
        "Random views and frames per step. More is smoother and slower.",
        label="batch size",
        advanced=True,
    )
    guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Guidance scale for the text (s_T). Higher follows the prompt more; the paper uses 10.5; 0 uses the model's "
        "default.",
        0.1,
        words={0: "auto"},
    )
    image_guidance_scale: float = number(
        0.0,
        0.0,
        100.0,
        "Image guidance scale (s_I). Higher stays closer to the unedited images; the paper uses 1.2; 0 uses the model's "
        "default.",
        0.1,
        words={0: "auto"},
    )
    weighting: str = choice(
        "reference code",
        WEIGHTINGS,
        "Weight of each timestep: reference code favors the middle, standard favors high noise, picture favors it most, "
        "uniform weights all alike.",
        advanced=True,
    )
    min_timestep: float = number(
        0.0,
        0.0,
        1.0,
        "Smallest timestep, as a fraction of the schedule. Smaller refines finer detail; 0 uses the model's default.",
        0.01,
        words={0: "auto"},
        advanced=True,
    )
    max_timestep: float = number(
        0.0,
        0.0,
        1.0,
        "Largest timestep, as a fraction of the schedule. Larger changes shapes more; 0 uses the model's default.",
        0.01,
        words={0: "auto"},
        advanced=True,
    )
    anneals: bool = flag(
        False,
        "Lowers the largest timestep over the run to a quarter of the range, so that detail comes last.",
        label="anneal timesteps",
        advanced=True,
    )
    condition: str = choice(
        "auto",
        SOURCES,
        "Conditioning image: captured images, or renders of the scene before the edit. auto uses captured images if the "
        "scene had not been edited before.",
        label="conditioning image",
        advanced=True,
    )
    resolution: int = number(
        0,
        0,
        4096,
        "Longer side of the rendered images in pixels. More is slower; 0 uses the model's default.",
        words={0: "auto"},
        advanced=True,
    )
    low_vram: bool = flag(
        False,
        "Processes one image at a time and recomputes intermediate results: slower, with less memory.",
        label="low VRAM",
        id="saves_memory",
        advanced=True,
    )
    preview_every: int = number(
        25,
        0,
        100_000,
        "Steps between two preview images. 0 shows none.",
        words={0: "never"},
        advanced=True,
    )
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt", since="0.2")

    objective: str = choice(
        "score",
        OBJECTIVES,
        "What the scene is refined toward. score: the model's score (SDS), as in the paper. own edits: the model edits images "
        "of other frames that show what the fitted ones did not, and the scene is fitted to them as before; gains most after a "
        "fit to one frame, less after frames 'auto'. auto: own edits for models of up to four steps, such as the bundled one, "
        "otherwise score.",
        since="0.3",
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.min_timestep and self.max_timestep and self.min_timestep > self.max_timestep:
            raise InputError(
                "STP-023",
                f"min_timestep is {self.min_timestep}, which is larger than max_timestep ({self.max_timestep}); swap them.",
            )
