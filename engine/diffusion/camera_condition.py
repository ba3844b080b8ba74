"""A camera condition for a video transformer: Plücker rays through a widened patch embedding.

Source: Diff4Splat (CVPR 2026) conditions CogVideoX on the camera but does not say how; this is the form of released Wan
camera models: rays on the latent grid as further input channels, whose weights start at zero. Changed: rays are averaged
over each latent's pixels (`samples` 1) instead of being unfolded, because neighboring rays differ almost linearly. The added
weights are kept apart from the model's own, so that its output at the start is the same bit for bit.

One `.safetensors` holds the added weights under `backbone_cam.`; other names in it (of a reconstruction model) are ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.jsonfile import parse_json
from ..files.safetensors_writer import write_tensors
from ..files.weights import read_header, refuse_pickle
from ..models.loading import load_weights
from ..scene.rays import PLUCKER_ORDER

PREFIX = "backbone_cam."
RAY_CHANNELS = 6


@dataclass(frozen=True)
class RayGrid:
    """How Plücker rays become channels of the latent grid.

    Args:
        time_factor: Frames per latent frame, except the first.
        space_factor: Pixels per latent, along each side.
        samples: Rays kept per latent, along each side; each is the mean over its pixels. It divides `space_factor`.
    """

    time_factor: int
    space_factor: int
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples < 1 or self.space_factor % self.samples:
            raise ValueError(f"{self.samples} samples do not divide {self.space_factor} pixels")

    @property
    def channels(self) -> int:
        """Channels of a latent: 6 · time_factor · samples²."""
        return RAY_CHANNELS * self.time_factor * self.samples**2

    def fold(self, rays: Tensor) -> Tensor:
        """Rays as channels.

        Args:
            rays: [B, T, H, W, 6]: moment, then direction.

        Returns:
            [B, T', channels, h, w]; the first latent frame repeats the first frame's rays.
        """
        batch, frames = rays.shape[:2]
        flat = rays.permute(0, 1, 4, 2, 3).flatten(0, 1)
        flat = nn.functional.avg_pool2d(flat, self.space_factor // self.samples)
        grid = nn.functional.pixel_unshuffle(flat, self.samples).unflatten(0, (batch, frames))
        first = grid[:, :1].expand(-1, self.time_factor - 1, -1, -1, -1)
        return torch.cat([first, grid], dim=1).unflatten(1, (-1, self.time_factor)).flatten(2, 3)


class WidenedProjection(nn.Module):
    """A patch embedding with further input channels, whose weights are zero at the start.

    Replaces `patch_embed.proj` of CogVideoX: a convolution over [N, C, h, w] (patches within a frame), or a linear layer
    over [B, N, C·patch] (patches of several frames). Without the further channels it is the original.

    Args:
        base: The original projection.
        grid: How rays become channels.
        patch_volume: Latents per patch.
    """

    def __init__(self, base: nn.Conv2d | nn.Linear, grid: RayGrid, patch_volume: int) -> None:
        super().__init__()
        self.base, self.grid = base, grid
        place: dict[str, Any] = {"device": base.weight.device, "dtype": base.weight.dtype}
        if isinstance(base, nn.Conv2d):
            self.axis, self.own = 1, base.in_channels
            size: Any = base.kernel_size
            step: Any = base.stride
            self.added = nn.Conv2d(grid.channels, base.out_channels, size, step, bias=False, **place)
        else:
            self.axis, self.own = -1, base.in_features
            self.added = nn.Linear(grid.channels * patch_volume, base.out_features, bias=False, **place)
        nn.init.zeros_(self.added.weight)
        self.added.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Project latents, with or without ray channels behind their own."""
        if x.shape[self.axis] == self.own:
            return self.base(x)
        own, rays = x.split([self.own, x.shape[self.axis] - self.own], dim=self.axis)
        return self.base(own.contiguous()) + self.added(rays.contiguous())


def save_camera(projection: WidenedProjection, path: Path | str) -> Path:
    """Save the added weights, atomically. Raises InputError if the file cannot be written."""
    path = Path(path)
    tensors = {PREFIX + name: tensor for name, tensor in projection.added.state_dict().items()}
    facts = {"order": PLUCKER_ORDER, **asdict(projection.grid)}
    with write_atomically(path) as partial:
        write_tensors(partial, tensors, {"format": "gs4d-camera-condition", "rays": json.dumps(facts)})
    return path


def saved_samples(path: Path | str, projection: WidenedProjection, model: str) -> int:
    """`RayGrid.samples` of saved camera weights.

    Args:
        path: The file.
        projection: A widened projection of the same model, with any number of samples.
        model: The model's name in errors.

    Raises:
        InputError: The file does not hold camera weights, or they are for other latents.
    """
    path, grid = Path(path), projection.grid
    if not path.is_file():
        raise InputError("DIF-072", f"The camera weights {path.name} do not exist; choose another file.")
    refuse_pickle(path)
    header = read_header(path)
    facts = _facts(header.metadata)
    shape = header.shapes.get(f"{PREFIX}weight")
    own = projection.added.weight
    # channels per sample² are known, so the shape gives the samples; a reconstruction model's file says nothing more
    share = 0.0 if shape is None else math.prod(shape[1:]) / own[0].numel() * grid.samples**2
    samples = round(share**0.5)
    if facts.get("order", PLUCKER_ORDER) != PLUCKER_ORDER or samples < 1 or grid.space_factor % samples:
        raise InputError(
            "DIF-073",
            f"{path.name} does not hold camera weights with rays in the order {PLUCKER_ORDER}; choose a file that was "
            "trained for this model.",
        )
    factors = grid.time_factor, grid.space_factor
    written = facts.get("time_factor", factors[0]), facts.get("space_factor", factors[1])
    if written != factors:
        raise InputError(
            "DIF-074",
            f"{path.name} was trained for latents of {written[0]} frames and {written[1]} pixels, but those of {model} "
            f"stand for {factors[0]} and {factors[1]}; choose the camera weights of this model.",
        )
    return samples


def load_camera(projection: WidenedProjection, path: Path | str, model: str) -> None:
    """Load the added weights. Raises InputError where names or shapes differ."""
    load_weights(
        projection.added,
        Path(path),
        f"the camera condition of {model}",
        rename=lambda name: name.removeprefix(PREFIX) if name.startswith(PREFIX) else None,
        device=projection.base.weight.device,
    )


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        found = parse_json(metadata.get("rays", ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
