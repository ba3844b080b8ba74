"""The noise of MCMC: faint Gaussians wander within their own shapes until they find something to show.

After 3D Gaussian Splatting as Markov Chain Monte Carlo (Kheradmand et al. 2024), equation 8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .. import backends
from ..scene import rotations

# of the gate in opacity: how fast it closes above the opacity of dead Gaussians
SHARPNESS = 100
# a gate below it moves nothing by more than its rounding
CLOSED = 1e-15
# that a thread takes at least
SOME_GAUSSIANS = 4096


def shift(
    gaussians: Mapping[str, Tensor], held: Tensor, strength: float, dead: float, generator: torch.Generator
) -> Tensor:
    """How far noise moves each Gaussian.

    On the CPU, a kernel computes it in a fifth of the operators' time (benchmarks/kernels.py).

    Args:
        gaussians: log_scales [N, 3], quats [N, 4] and logit_opacities [N], as stored.
        held: [N] bool: not moved.
        strength: Standard deviation of the noise before it is shaped, where the gate is 1.
        dead: Opacity at which the gate is a half; it is 0 for living Gaussians.
        generator: On the CPU, so that every device draws the same numbers.

    Returns:
        [N, 3] in the unit of the means.
    """
    scales = gaussians["log_scales"]
    noise = torch.randn(scales.shape, generator=generator).to(scales, non_blocking=True)
    if scales.device.type == "cpu" and backends.installed("numba"):
        return _shaped(gaussians, held, noise, strength, dead)
    return shaped_reference(gaussians, held, noise, strength, dead)


def shaped_reference(
    gaussians: Mapping[str, Tensor], held: Tensor, noise: Tensor, strength: float, dead: float
) -> Tensor:
    """`shift` from standard normal `noise` [N, 3], of PyTorch's own operators, on any device."""
    opacity = gaussians["logit_opacities"].sigmoid()
    gate = torch.sigmoid(-SHARPNESS * (opacity - dead))
    noise = noise * (gate * strength)[:, None]
    quats = rotations.normalise(gaussians["quats"])
    variance = gaussians["log_scales"].mul(2).exp()
    # along each Gaussian's own axes, scaled there, and back
    along = rotations.rotate(rotations.conjugate(quats), noise)
    return rotations.rotate(quats, variance * along).masked_fill(held[:, None], 0)


def _shaped(
    gaussians: Mapping[str, Tensor], held: Tensor, noise: Tensor, strength: float, dead: float
) -> Tensor:
    """`shaped_reference` by the kernel, in place of the noise."""
    from ..kernels.build import launch
    from ..kernels.exploration import shape_noise

    closed = dead - math.log(CLOSED) / SHARPNESS
    highest = math.log(closed / (1 - closed)) if closed < 1 else math.inf
    tensors = (gaussians["log_scales"], gaussians["quats"], gaussians["logit_opacities"], held)
    launch(
        shape_noise,
        len(noise),
        SOME_GAUSSIANS,
        *(tensor.detach().contiguous().numpy() for tensor in tensors),
        float(strength),
        float(dead),
        float(SHARPNESS),
        highest,
        noise.numpy(),
    )
    return noise
