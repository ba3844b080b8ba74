"""What the small video model reads and makes, and its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ...errors import InputError
from ...scene.rays import PLUCKER_ORDER
from ..reconstruction.config import LatentFormat, checked_values, described_values, pixels_format

KIND = "gs4d-camera-video"
# 768 channels; 9 frames of 64 pixels are 3 × 8 × 8 latents
PIXELS = pixels_format(4, 8)


@dataclass(frozen=True)
class CameraVideoConfig:
    """Architecture of the model.

    Args:
        latent: Its latents: the video itself, rearranged (`pixels_format`).
        frames: T, frames of the videos that it was trained on.
        pixels: Width and height of these videos.
        width: Channels of the tokens.
        blocks: Transformer blocks.
        heads: Attention heads.
        mlp_ratio: Hidden channels of a block's feed-forward, as a multiple of the width.
        depth_channels: Channels of the depth network, one number for each halving of the image and one for the image.
        depth_blocks: Transformer blocks at its coarsest level.
        pixel_channels: Hidden channels of the convolutions that turn tokens into pixels.
        distance: Distance of everything before training, in the units of the rays.
        steps: Sampling steps that the weights are best with.
    """

    latent: LatentFormat = PIXELS
    frames: int = 9
    pixels: int = 64
    width: int = 192
    blocks: int = 6
    heads: int = 6
    mlp_ratio: float = 4.0
    depth_channels: tuple[int, ...] = (24, 48, 96, 128)
    depth_blocks: int = 2
    pixel_channels: int = 24
    distance: float = 2.2
    steps: int = 4

    def __post_init__(self) -> None:
        latent = self.latent
        if (
            min(self.frames, self.pixels, self.width, self.heads, self.pixel_channels, *self.depth_channels)
            < 1
        ):
            raise ValueError("every size must be at least 1")
        if latent.channels != pixels_format(latent.time_factor, latent.space_factor).channels:
            raise ValueError(f"{latent.channels} latent channels are not those of rearranged pixels")
        if self.width % self.heads or self.depth_channels[-1] % self.depth_heads:
            raise ValueError(f"a width of {self.width} cannot be split into {self.heads} heads")

    @property
    def depth_heads(self) -> int:
        """Attention heads of the depth network."""
        return max(self.depth_channels[-1] // 32, 1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the inverse of `from_json`."""
        return {"kind": KIND, "plucker": PLUCKER_ORDER, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any], source: str) -> CameraVideoConfig:
        """Read a description; what it leaves out is as in the defaults.

        Args:
            data: The description.
            source: The file's name in messages.

        Raises:
            InputError: It is of another kind, or has unknown or unusable values.
        """
        try:
            values = described_values(data, KIND)
            if "depth_channels" in values:
                values["depth_channels"] = tuple(int(c) for c in values["depth_channels"])
            return checked_values(CameraVideoConfig, values, CameraVideoConfig())
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "REC-010",
                f"{source} does not describe a small video model ({error}); use the file that came with the model.",
            ) from error
