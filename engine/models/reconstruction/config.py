"""What a latent dynamic reconstruction model reads and makes: latent format, architecture, and the switches that are ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...errors import InputError
from ...frame_counts import counts_around, frames_of
from ...scene.rays import PLUCKER_ORDER

KIND = "gs4d-ldrm"
CORRESPONDENCES = ("none", "correlation", "flow")


@dataclass(frozen=True)
class LatentFormat:
    """How a video becomes latents: T = time_factor · (n − 1) + 1 frames become n, the first one alone.

    Args:
        channels: Channels C of a latent.
        time_factor: Frames of a latent; a power of 2.
        space_factor: Pixels along each side of a latent; a power of 2.
    """

    channels: int
    time_factor: int
    space_factor: int

    def frames(self, latents: int) -> int:
        """Frames of a video of `latents` latent frames."""
        return frames_of(latents, self.time_factor)

    def latents(self, frames: int) -> int:
        """Latent frames of a video.

        Raises:
            InputError: No video of this format has so many frames.
        """
        whole, rest = divmod(frames - 1, self.time_factor)
        if rest or frames < 1:
            fewer, more = counts_around(frames, self.time_factor)
            raise InputError(
                "REC-001",
                f"The video has {frames} frames, which the model cannot encode; use {fewer} or {more}.",
            )
        return whole + 1


COGVIDEOX = LatentFormat(16, 4, 8)
WAN_2_1 = LatentFormat(16, 4, 8)
WAN_2_2 = LatentFormat(48, 4, 16)


def pixels_format(time_factor: int, space_factor: int) -> LatentFormat:
    """The video itself, rearranged: see `tokens.pixels_to_latents`."""
    return LatentFormat(3 * time_factor * space_factor**2, time_factor, space_factor)


@dataclass(frozen=True)
class LdrmConfig:
    """Architecture of the model; the defaults are the full size, with what the paper leaves open chosen by us.

    Args:
        latent: The latents that it reads.
        patch: Latents along each side of a token.
        width: Channels of the tokens; heads of 64 channels each are usual.
        blocks: Transformer blocks.
        heads: Attention heads.
        mlp_ratio: Hidden channels of a block's feed-forward, as a multiple of the width.
        deconv_channels: Channels after each doubling of the image size, up to that of the video.
        head_channels: Hidden channels of both heads.
        time_stride: Every n-th frame gives Gaussians.
        space_stride: Every n-th pixel of a row and of a column gives a Gaussian.
        distance: Distance of a Gaussian from its camera before training.
        opacity_bias: Logit of a Gaussian's opacity before training.
        min_opacity: Gaussians below are removed, in training too (τ of the paper).
        min_motion: Displacements below are none, at inference.
        image_input: The heads also see the video's pixels, and colors are corrections of them. Not in the paper.
        lifetimes: Gaussians fade with the time from their own frame, each at a learned rate. Not in the paper.
        correspondences: What the deformation head sees of where a point is in the query frame: "none" (the paper),
            "correlation" (learned features of anchor and query frame are compared), or "flow" (given, such as the tracker's).
        match_channels: Channels of the compared features.
        match_pool: Cells along each side that are compared as one.
    """

    latent: LatentFormat = COGVIDEOX
    patch: int = 2
    width: int = 1024
    blocks: int = 16
    heads: int = 16
    mlp_ratio: float = 4.0
    deconv_channels: tuple[int, ...] = (256, 128, 64, 64)
    head_channels: int = 64
    time_stride: int = 1
    space_stride: int = 1
    distance: float = 1.0
    opacity_bias: float = -2.0
    min_opacity: float = 0.005
    min_motion: float = 0.005
    image_input: bool = False
    lifetimes: bool = False
    correspondences: str = "none"
    match_channels: int = 32
    match_pool: int = 1

    def __post_init__(self) -> None:
        numbers = (self.latent.channels, self.patch, self.width, self.blocks, self.heads, self.time_stride)
        if min(*numbers, self.space_stride, self.match_pool, *self.deconv_channels) < 1:
            raise ValueError("every size must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be split into {self.heads} heads")
        if self.correspondences not in CORRESPONDENCES:
            raise ValueError(f"correspondences is {self.correspondences!r}")
        doublings = [math.log2(factor) for factor in (self.cell, self.latent.time_factor)]
        if any(d != int(d) for d in doublings):
            raise ValueError("factors and patch must be powers of 2")
        if len(self.deconv_channels) != doublings[0] or doublings[1] > doublings[0]:
            raise ValueError(
                f"{self.cell}-pixel tokens need {int(doublings[0])} deconv_channels, of which time uses {int(doublings[1])}"
            )

    @property
    def cell(self) -> int:
        """Pixels along each side of a token."""
        return self.latent.space_factor * self.patch

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the inverse of `from_json`."""
        return {"kind": KIND, "plucker": PLUCKER_ORDER, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any], source: str) -> LdrmConfig:
        """Read a description; what it leaves out is as the full size.

        Args:
            data: The description.
            source: The file's name in messages.

        Raises:
            InputError: It is of another kind, or has unknown or unusable values.
        """
        try:
            values = described_values(data, KIND)
            if "deconv_channels" in values:
                values["deconv_channels"] = tuple(int(c) for c in values["deconv_channels"])
            return checked_values(LdrmConfig, values, LdrmConfig())
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "REC-002",
                f"{source} does not describe a reconstruction model ({error}); use the file that came with the model.",
            ) from error


def latent_from(values: Mapping[str, Any]) -> LatentFormat:
    """A latent format of plain JSON. Raises ValueError or TypeError where it is none."""
    return checked_values(LatentFormat, values, COGVIDEOX)


def described_values(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What `to_json` wrote of a model of latents and rays, without its kind and order of rays.

    Raises:
        ValueError: It is of another kind, or its rays have another order.
        TypeError: Its latent format has values of other types.
    """
    values = dict(data)
    if values.pop("kind", None) != kind:
        raise ValueError(f"kind is {data.get('kind')!r}, not {kind!r}")
    if values.pop("plucker", PLUCKER_ORDER) != PLUCKER_ORDER:
        raise ValueError(f"rays are ordered {data['plucker']!r}, not {PLUCKER_ORDER!r}")
    if "latent" in values:
        values["latent"] = latent_from(values["latent"])
    return values


def checked_values(kind: type[Any], values: Mapping[str, Any], defaults: Any) -> Any:
    """Build a dataclass, with each value of the type that its default has."""
    unknown = sorted(set(values) - {f.name for f in fields(kind)})
    if unknown:
        raise ValueError(f"{unknown[0]} is unknown")
    for name, value in values.items():
        default = getattr(defaults, name)
        allowed = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
            raise ValueError(f"{name} is {value!r}")
    return kind(**values)
