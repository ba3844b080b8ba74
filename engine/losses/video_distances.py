"""Distances between sets of videos: Fréchet (FVD) and kernel (KVD), on features of clips.

Source: FVD: Unterthiner et al. 2018; KVD: the unbiased MMD of KID (Bińkowski et al., ICLR 2018) on video features. Values of
different networks, clip lengths and numbers of clips cannot be compared: all are reported with every value. Without a network,
plain statistics of the pixels stand in, and such a value is never called FVD.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..files.paths import open_regular

# clips from which papers report FVD; fewer bias it upward
ENOUGH_CLIPS = 2048
# side of the clips that a network sees
PIXELS = 224
# of the stand-in: parts of the clip in time, and cells of a frame per side
TIMES, CELLS = 4, 4
# of the kernel distance: subsets and their largest size
SUBSETS, SUBSET_SIZE = 50, 1000


class ClipFeatures(Protocol):
    """Turns clips into vectors; `name` is reported with every value."""

    @property
    def name(self) -> str: ...

    @property
    def is_network(self) -> bool:
        """False: the values are not FVD and KVD."""
        ...

    def __call__(self, clips: Tensor) -> Tensor:
        """Features [B, D] of clips [B, L, H, W, 3] in 0..1."""
        ...


@dataclass(frozen=True)
class PooledPixels:
    """Mean colors of parts of a clip, and how much they change from frame to frame: what stands in for a network."""

    name: str = "stand-in: pooled pixels"
    is_network: bool = False

    def __call__(self, clips: Tensor) -> Tensor:
        x = clips.permute(0, 4, 1, 2, 3).float()
        shape = (min(TIMES, x.shape[2]), CELLS, CELLS)
        colors = F.adaptive_avg_pool3d(x, shape).flatten(1)
        if x.shape[2] < 2:
            return colors
        changes = x.diff(dim=2).abs()
        shape = (min(TIMES, changes.shape[2]), CELLS, CELLS)
        return torch.cat([colors, F.adaptive_avg_pool3d(changes, shape).flatten(1)], dim=1)


@dataclass(frozen=True, eq=False)
class TorchScriptFeatures:
    """A network from a TorchScript file, such as an I3D trained on Kinetics-400.

    Args:
        name: Name of the file.
        module: Takes clips [B, 3, L, 224, 224] in −1..1. Where its forward has them, `rescale` and `resize` are off and
            `return_features` is on, as in the I3D of StyleGAN-V.
        device: Where it runs.
    """

    name: str
    module: Any
    device: torch.device
    is_network: bool = True

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> Tensor:
        batch, length = clips.shape[:2]
        frames = clips.flatten(0, 1).permute(0, 3, 1, 2).float().to(self.device)
        frames = F.interpolate(frames, (PIXELS, PIXELS), mode="bilinear", antialias=True, align_corners=False)
        x = (2 * frames.clamp(0, 1) - 1).unflatten(0, (batch, length)).transpose(1, 2)
        known = {argument.name for argument in self.module.forward.schema.arguments}
        options = {"rescale": False, "resize": False, "return_features": True}
        try:
            made = self.module(x, **{name: value for name, value in options.items() if name in known})
        except RuntimeError as error:
            raise InputError(
                "LOS-020",
                f"{self.name} cannot be used for FVD: it does not take clips of {length} frames at {PIXELS} pixels "
                f"({_last_line(error)}). Choose another clip length or network.",
            ) from error
        if not isinstance(made, Tensor) or made.ndim < 2 or len(made) != batch:
            raise InputError(
                "LOS-021",
                f"{self.name} does not return one feature vector per clip; use a TorchScript I3D, such as i3d_torchscript.pt.",
            )
        return made.flatten(1).float().cpu()


def load_video_network(path: Path, device: torch.device | str = "cpu") -> TorchScriptFeatures:
    """Load a feature network from a TorchScript file.

    Raises:
        InputError: The file is missing or not a TorchScript network.
    """
    if not path.is_file():
        raise InputError("LOS-022", f"{path.name} was not found; add the file, or leave FVD out.")
    try:
        with warnings.catch_warnings():
            # files of this kind are what there is of published I3Ds
            warnings.simplefilter("ignore", DeprecationWarning)
            # a path that is not UTF-8 cannot be given
            with open_regular(path) as file:
                module = torch.jit.load(file, map_location=device)
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        raise InputError(
            "LOS-023",
            f"{path.name} is not a TorchScript network ({_last_line(error)}); use a file such as i3d_torchscript.pt.",
        ) from error
    return TorchScriptFeatures(path.name, module.eval(), torch.device(device))


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:120] if lines else type(error).__name__


def clips_of(video: Tensor, length: int, stride: int) -> Iterator[Tensor]:
    """Clips [length, H, W, 3] of a video [T, H, W, 3], starting every `stride` frames; none where it is shorter."""
    for start in range(0, len(video) - length + 1, stride):
        yield video[start : start + length]


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of the Gaussians fitted to two sets: |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½).

    Args:
        a: Features [N, D].
        b: Features [M, D]; both sets have at least two rows.

    Source:
        Unterthiner et al. 2018, equation 2.
    """
    return frechet_of_gaussians(*_fitted(a), *_fitted(b))


def frechet_of_gaussians(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """The same of means [D] and covariances [D, D]."""
    root = _root(cov_a.double())
    # (Σ_a Σ_b)^½ has the eigenvalues of the symmetric (Σ_a^½ Σ_b Σ_a^½)^½
    cross = torch.linalg.eigvalsh(root @ cov_b.double() @ root).clamp(min=0).sqrt().sum()
    apart = (mean_a.double() - mean_b.double()).square().sum()
    return float((apart + cov_a.double().trace() + cov_b.double().trace() - 2 * cross).clamp(min=0))


def _fitted(features: Tensor) -> tuple[Tensor, Tensor]:
    x = features.double()
    mean = x.mean(dim=0)
    centered = x - mean
    return mean, centered.T @ centered / (len(x) - 1)


def _root(matrix: Tensor) -> Tensor:
    """Square root of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def squared_mmd(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of two sets with the kernel (xᵀy / D + 1)³; may be slightly negative.

    Args:
        a: Features [N, D].
        b: Features [M, D]; both sets have at least two rows.

    Source:
        Gretton et al. 2012, equation 3; kernel of Bińkowski et al., ICLR 2018.
    """
    a, b = a.double(), b.double()
    n, m, d = len(a), len(b), a.shape[1]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / d + 1).pow(3)

    aa, bb = kernel(a, a), kernel(b, b)
    within = (aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1))
    return float(within - 2 * kernel(a, b).mean())


def kernel_distance(a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Mean and standard deviation of `squared_mmd` over random subsets.

    Args:
        a: Features [N, D].
        b: Features [M, D].
        generator: Draws the subsets; where both sets fit into one, there is one and the deviation is 0.
    """
    size = min(len(a), len(b), SUBSET_SIZE)
    if len(a) == len(b) == size:
        return squared_mmd(a, b), 0.0
    values = [
        squared_mmd(*(x[torch.randperm(len(x), generator=generator)[:size]] for x in (a, b)))
        for _ in range(SUBSETS)
    ]
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std())
