"""Parameters of editing a head avatar in rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..diffusion.known_edits import BUNDLED_EDITS, FORCE_TEXT
from ..errors import InputError
from ..fields import as_record, choice, flag, indices, number, text, validate
from ..masks.head_regions import NAMES
from ..render import rasterizer_field
from .guidance_fields import guidance_scale_field, image_guidance_scale_field

HIGHEST_LEVEL = 999
# weight of pinned pixels in GaussianAvatar-Editor
PIN_WEIGHT = 1000.0
PRESETS = ("balanced", "paper literal", "GaussianAvatar-Editor")


class Round(NamedTuple):
    """One edit and the fit to it."""

    level: int  # timestep that denoising starts at
    frames: tuple[int, ...]
    seed: int

    @property
    def strength(self) -> float:
        """Fraction of the noise schedule that is run; the highest level is all of it."""
        return self.level / HIGHEST_LEVEL


@dataclass(frozen=True)
class HeadEditConfig:
    """Prompt, rounds and what is kept; 0 leaves a choice to the model or the preset."""

    prompt: str = text(
        "",
        f"The edit as an instruction, such as 'make him look older'. {BUNDLED_EDITS}",
        multiline=True,
    )
    preset: str = choice(
        "balanced",
        PRESETS,
        "balanced optimizes colors and positions; paper literal uses the paper's rate of 1e-2 on everything and 10 steps "
        "per frame; GaussianAvatar-Editor edits each image alone, freezes teeth and mouth interior, and pins the "
        "mouth (the paper's baseline).",
    )
    guidance_scale: float = guidance_scale_field()
    image_guidance_scale: float = image_guidance_scale_field()
    steps: int = number(
        0,
        0,
        200,
        "Denoising steps. More is slower; typical 20; 0 uses the model's default.",
        words={0: "auto"},
        advanced=True,
    )
    levels: str = text(
        "999 300 300 21",
        "Noise level (timestep, 1 to 999) at which each round starts. The first round makes the edit, later ones refine "
        "what was fitted. One number per round.",
        label="noise levels",
    )
    frames_per_round: int = number(
        3,
        1,
        1000,
        "Frames that are edited together in a round. More covers more expressions and is slower.",
        advanced=True,
    )
    frames: str = text(
        "all", "Frames to draw from, such as '0-17'; 'all' uses every frame.", label="frame numbers"
    )
    views: str = text(
        "", "Indices of the views to edit, such as '0 2 5-8'. Empty edits all views.", advanced=True
    )
    keep: str = choice(
        "expression",
        ("nothing", *NAMES),
        "Part of the head that stays as it is: expression is eyes and mouth.",
        label="keep",
    )
    keep_grow: int = number(
        3, -64, 64, "Pixels by which the kept part is grown. Typical 3 to 8.", advanced=True
    )
    keep_feather: int = number(
        0, 0, 256, "Pixels over which the kept part's own pixels are blended in; 0 does not blend.",
        words={0: "no blending"}, advanced=True,
    )  # fmt: skip
    freezes_mouth: bool = flag(
        False,
        "Keeps the Gaussians of teeth and mouth interior bit-identical.",
        label="freeze teeth",
        advanced=True,
    )
    iterations_per_frame: int = number(
        0,
        0,
        10_000,
        "Fitting steps per edited frame and round. More follows the edit more closely; 0 uses the preset's (balanced 100, "
        "paper 10).",
        label="fitting steps per frame",
        words={0: "auto"},
        advanced=True,
    )
    resolution: int = number(
        0, 0, 4096, "Longer side of the edited images in pixels; 0 uses the model's default.",
        words={0: "auto"}, advanced=True,
    )  # fmt: skip
    rasterizer: str = rasterizer_field()
    preview_every: int = number(
        20,
        0,
        100_000,
        "Steps between two preview images. 0 shows none.",
        words={0: "never"},
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0, 1.0, 1e6, "Seconds between two checkpoints.", label="checkpoint every (seconds)", advanced=True
    )
    max_seconds: float = number(
        0.0, 0.0, 1e7, "Stops after this many seconds with the result so far. 0 runs all rounds.",
        words={0: "no limit"}, advanced=True,
    )  # fmt: skip
    seed: int = number(0, 0, 2**32 - 1, "Random seed.")
    force: bool = flag(False, FORCE_TEXT, label="force unknown prompt")
    pin_weight: float = number(
        -1.0,
        -1.0,
        1e6,
        "Weight with which the mouth's pixels are fitted to the unedited images, against 1 of all others. Higher holds the "
        "mouth closer; 0 is off; -1 uses the preset's (GaussianAvatar-Editor 1000, others off).",
        label="mouth pin weight",
        words={-1: "auto"},
        advanced=True,
        since="0.2",
    )

    def __post_init__(self) -> None:
        validate(self)
        self.noise_levels()

    def noise_levels(self) -> tuple[int, ...]:
        """The levels as numbers. Raises InputError where one is not between 1 and 999."""
        words = self.levels.replace(",", " ").split()
        if not words or not all(word.isdigit() and len(word) < 4 and int(word) > 0 for word in words):
            raise InputError(
                "TRN-021",
                f"noise levels is '{self.levels[:60]}'; write numbers from 1 to 999 separated by spaces, such as 999 300 300 21.",
            )
        return tuple(int(word) for word in words)

    def rounds(self, count: int) -> list[Round]:
        """The rounds of a scene of `count` frames; each draws its frames anew from the seed."""
        chosen = torch.tensor(indices(self.frames, count, "frame"))
        generator = torch.Generator().manual_seed(self.seed)
        rounds: list[Round] = []
        for number_, level in enumerate(self.noise_levels()):
            drawn = chosen[torch.randperm(len(chosen), generator=generator)[: self.frames_per_round]]
            rounds.append(Round(level, tuple(sorted(drawn.tolist())), (self.seed + number_) % 2**32))
        return rounds

    @property
    def freezes(self) -> bool:
        """Whether teeth and mouth interior are frozen, as set or by the preset."""
        return self.freezes_mouth or self.preset == "GaussianAvatar-Editor"

    @property
    def pin_weight_of_preset(self) -> float:
        """Weight of the mouth's pixels, as set or by the preset; 0 is off."""
        if self.pin_weight >= 0:
            return self.pin_weight
        return PIN_WEIGHT if self.preset == "GaussianAvatar-Editor" else 0.0

    @property
    def attention_of_preset(self) -> str:
        return "vanilla" if self.preset == "GaussianAvatar-Editor" else "epipolar"

    @property
    def iterations_of_preset(self) -> int:
        return self.iterations_per_frame or (10 if self.preset == "paper literal" else 100)

    @property
    def parameters_of_preset(self) -> str:
        return "reference code" if self.preset == "paper literal" else "paper"

    @property
    def rates_of_preset(self) -> dict[str, Any]:
        """Learning rates that differ from those of a fit to edited views."""
        if self.preset != "paper literal":
            return {}
        names = ("position_lr", "color_lr", "opacity_lr", "scale_lr", "rotation_lr")
        return dict.fromkeys(names, 1e-2)

    def record(self) -> dict[str, Any]:
        """The values by the ids that files use."""
        return as_record(self)
