"""What a TRELLIS folder's pipeline.json says about sampling: parameters of both samplers, and statistics of the latents.

Source: TRELLIS (Xiang et al., CVPR 2025), released weights (TrellisImageTo3DPipeline).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...files.jsonfile import read_json
from .latent_flow import MEAN, SCALE

NAME = "pipeline.json"


@dataclass(frozen=True)
class FlowSampling:
    """How a flow is sampled; the defaults are those of TRELLIS' demo and its published pipeline.

    Args:
        steps: Euler steps.
        strength: Guidance scale minus 1, as TRELLIS counts it; 0 turns guidance off.
        interval: First and last time with guidance.
        shift: Time shift; higher spends more steps on noisy latents.
        sigma_min: Noise that is left at the end.
    """

    steps: int = 12
    strength: float = 7.5
    interval: tuple[float, float] = (0.5, 1.0)
    shift: float = 3.0
    sigma_min: float = 1e-5


@dataclass(frozen=True)
class Pipeline:
    """Parameters of both flows, and the statistics of the latents that the latent flow samples.

    Args:
        structure: Sampling of the structure flow.
        latents: Sampling of the latent flow.
        mean: Means of the latents' channels.
        scale: Standard deviations of the latents' channels.
    """

    structure: FlowSampling = FlowSampling()
    latents: FlowSampling = FlowSampling(strength=3.0)
    mean: tuple[float, ...] = MEAN
    scale: tuple[float, ...] = SCALE

    def denormalize(self, latents: Tensor) -> Tensor:
        """Latents [V, C] as the Gaussian decoder takes them, from a sample of the latent flow."""
        return latents * latents.new_tensor(self.scale) + latents.new_tensor(self.mean)


def read_pipeline(folder: Path, channels: int) -> Pipeline:
    """Read the pipeline.json of a folder, or of its parent where the folder is `ckpts`; defaults where it says nothing.

    Args:
        folder: The TRELLIS folder.
        channels: Channels of the latents.

    Raises:
        InputError: A value that cannot be, or statistics of another number of channels.
    """
    places = [folder, folder.parent] if folder.name == "ckpts" else [folder]
    file = next((place / NAME for place in places if (place / NAME).is_file()), None)
    if file is None:
        return Pipeline()
    name = f"{file.parent.name}/{NAME}"
    args = _table(read_json(file, name), "args")
    own = Pipeline()
    statistics = _table(args, "slat_normalization")
    return Pipeline(
        structure=_sampling(args, "sparse_structure_sampler", own.structure, name),
        latents=_sampling(args, "slat_sampler", own.latents, name),
        mean=_numbers(statistics, "mean", own.mean, channels, name),
        scale=_numbers(statistics, "std", own.scale, channels, name, least=1e-6),
    )


def _sampling(args: Mapping[str, Any], key: str, own: FlowSampling, name: str) -> FlowSampling:
    sampler = _table(args, key)
    params = _table(sampler, "params")

    def number(table: Mapping[str, Any], word: str, otherwise: float, low: float, high: float) -> float:
        return _numbers({word: [table.get(word, otherwise)]}, word, (), 1, name, low, high)[0]

    low, high = _numbers(params, "cfg_interval", own.interval, 2, name, 0.0, 1.0)
    return FlowSampling(
        steps=int(number(params, "steps", own.steps, 1, 1000)),
        strength=number(params, "cfg_strength", own.strength, 0, 100),
        interval=(low, high),
        shift=number(params, "rescale_t", own.shift, 1e-3, 1e3),
        sigma_min=number(_table(sampler, "args"), "sigma_min", own.sigma_min, 0, 0.5),
    )


def _table(data: Any, key: str) -> Mapping[str, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _numbers(
    table: Mapping[str, Any],
    key: str,
    otherwise: tuple[float, ...],
    count: int,
    name: str,
    least: float = -math.inf,
    most: float = math.inf,
) -> tuple[float, ...]:
    found = table.get(key, otherwise)
    is_list = isinstance(found, list | tuple) and len(found) == count
    if not is_list or not all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and least <= x <= most
        for x in found
    ):
        raise InputError(
            "MOD-025",
            f"{name}: '{key}' is {str(found)[:60]}, but {count} numbers in range are needed; download {NAME} again.",
        )
    return tuple(float(x) for x in found)
