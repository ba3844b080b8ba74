"""Parameters of an animation by variation diffusion. The node's inputs, the flags and the history come from these fields."""

from __future__ import annotations

from dataclasses import dataclass

from ..fields import choice, flag, number, validate
from ..geometry.placement import TURNS
from ..models.variation_field import VariationConfig
from .variation_sampling import SAMPLERS, Sampling, sampling_window


@dataclass(frozen=True)
class AnimationConfig:
    """Defaults are those of the model; 0 and "auto" stand for them."""

    seed: int = number(0, 0, 2**31 - 1, "Random seed. The same seed and inputs give the same scene.")
    fps: float = number(
        24.0, 0.1, 240.0, "Frame rate of the video. More plays faster.", label="frames per second"
    )
    sampler: str = choice(
        "auto",
        ("auto", *SAMPLERS),
        "DPM-Solver++ with a fixed number of steps (multistep: one call per step, singlestep: two), or with steps of its own "
        "(adaptive). auto uses the model's default.",
    )
    steps: int = number(
        0,
        0,
        1000,
        "Sampling steps. More steps take longer and are more exact; typical 20–100 for the published model. 0 uses the model's "
        "default.",
        words={0: "auto"},
    )
    image_scale: float = number(
        0.0,
        0.0,
        20.0,
        "Image guidance scale. Higher follows the video more closely and can exaggerate; 1 is off, typical 1–3; 0 uses the "
        "model's default.",
        0.1,
        label="image guidance scale",
        words={0: "auto"},
    )
    canonical_scale: float = number(
        0.0,
        0.0,
        20.0,
        "Guidance scale of the splat. Higher follows its shape more closely; 1 is off; 0 uses the model's default.",
        0.1,
        label="splat guidance scale",
        words={0: "auto"},
        advanced=True,
    )
    up: str = choice(
        "z up",
        tuple(TURNS),
        "Up axis of the splat. Align Splat to Video and Canonical Gaussians from Image make z up; ComfyUI's own splats have y "
        "down.",
        label="up axis",
    )
    window: int = number(
        0,
        0,
        1000,
        "Frames that are sampled together. Longer videos are sampled in overlapping windows. Lower needs less memory; 0 uses the "
        "length that the model was trained with.",
        words={0: "auto"},
        advanced=True,
    )
    overlap: int = number(
        0,
        0,
        1000,
        "Frames that neighboring windows share. More is smoother and slower; 0 uses half a window.",
        words={0: "auto"},
        advanced=True,
    )
    largest_step: float = number(
        1.0,
        0.05,
        100.0,
        "Longest step of the adaptive sampler, in half the logarithm of the signal-to-noise ratio. Lower is more exact and "
        "slower; the paper has no limit.",
        advanced=True,
    )
    anchors: str = choice(
        "auto",
        ("auto", "raw", "standardized"),
        "Positions that the transformer sees: raw as in GVFDiffusion's inference, standardized as in its training. auto uses the "
        "model's.",
        label="anchor positions",
        advanced=True,
    )
    saves_memory: bool = flag(
        False,
        "Evaluates the branches of the guidance one after the other. Slower, with less memory.",
        label="low memory",
        advanced=True,
    )
    chunk: int = number(
        8192,
        64,
        1_000_000,
        "Gaussians that are decoded at once. Lower needs less memory.",
        label="decode chunk",
        advanced=True,
    )
    preview_every: int = number(
        10,
        0,
        1000,
        "Sampling steps between two preview images. 0 shows none until the end.",
        words={0: "never"},
        advanced=True,
    )
    checkpoint_seconds: float = number(
        60.0, 1.0, 1e6, "Seconds between two checkpoints.", label="checkpoint every (seconds)", advanced=True
    )
    fit_steps: int = number(
        0,
        0,
        1000,
        "Gradient steps that fit the generated motion to the video, as seen from its camera. 40 is typical for the bundled "
        "model; 0 keeps what the model generates. What the video does not show, such as depth, changes little.",
        words={0: "off"},
    )

    def __post_init__(self) -> None:
        validate(self)

    def sampling(self, known: VariationConfig, frames: int) -> Sampling:
        """How a video of `frames` frames is sampled with a model whose defaults are `known`."""
        default = known.recommended
        window, overlap = sampling_window(frames, default.frames, self.window, self.overlap)
        sampler = default.sampler if self.sampler == "auto" else self.sampler
        steps = self.steps or default.steps
        return Sampling(
            sampler,
            steps,
            self.largest_step,
            self.image_scale or default.image_scale,
            self.canonical_scale or default.canonical_scale,
            window,
            overlap,
            known.standardized_anchors if self.anchors == "auto" else self.anchors == "standardized",
            not self.saves_memory,
            self.chunk,
            self.seed,
            default.shared_noise and sampler != "adaptive" and steps == 1,
            self.fit_steps,
        )
