"""Maps of Gaussians, one for each kept pixel: what the heads' channels mean, and how a Gaussian moves.

Source: Diff4Splat (2025), section 3: G = (position along the ray, color, scale, quaternion, opacity), D = (Δμ, Δq, Δs);
μ_t = μ_0 + Δμ, q_t = q_0 ⊗ Δq, s_t = s_0 + Δs. Ours: sizes are relative to a pixel's at the Gaussian's distance, and Δs is
relative to s_0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...scene import ActivatedGaussians, Gaussians, harmonics, rotations
from .config import LdrmConfig

# channels of a Gaussian: distance, color, scale, quaternion, opacity
GAUSSIAN_PARTS = (1, 3, 3, 4, 1)
GAUSSIAN_CHANNELS = sum(GAUSSIAN_PARTS)
# channels of a deformation: Δμ, Δq, Δs
DEFORMATION_PARTS = (3, 4, 3)
DEFORMATION_CHANNELS = sum(DEFORMATION_PARTS)
NEAR, FAR = 0.001, 100.0
# a Gaussian shrinks and grows by at most this factor
MOST_GROWTH = 10.0
IDENTITY = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class GaussianMaps:
    """Gaussians of A frames, h × w each, activated.

    Args:
        means: [B, A, h, w, 3] in the first camera's axes.
        quats: Unit quaternions [B, A, h, w, 4], wxyz.
        scales: [B, A, h, w, 3].
        opacities: [B, A, h, w] in 0..1.
        rgb: [B, A, h, w, 3] in 0..1.
        distances: From the camera of their frame [B, A, h, w].
        lifetimes: In frames [B, A, h, w]; None: they do not fade.
        frames: The frame of each map [A].
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    rgb: Tensor
    distances: Tensor
    lifetimes: Tensor | None
    frames: Tensor

    def presence(self, times: Tensor) -> Tensor | None:
        """What opacities are multiplied by at query times [Q] in frames: [B, A, Q, h, w]; None: nothing.

        exp(−(Δt / lifetime)⁴) with the distance Δt from the Gaussian's own frame: nearly 1 within its lifetime.
        """
        if self.lifetimes is None:
            return None
        apart = (times.to(self.frames) - self.frames[:, None]).to(self.means)
        return torch.exp(-((apart[..., None, None] / self.lifetimes[:, :, None]) ** 4))


@dataclass(frozen=True, eq=False)
class Motion:
    """Deformations of Gaussian maps at Q query times.

    Args:
        shifts: Δμ [B, A, Q, h, w, 3].
        turns: Δq, unit quaternions [B, A, Q, h, w, 4].
        growth: Δs relative to s_0 [B, A, Q, h, w, 3].
        presence: Factor of the opacities [B, A, Q, h, w]; None: 1.
        pixels: Where correspondences see each Gaussian in the query frame, (x, y) in 0..1 [B, A, Q, h, w, 2]; None:
            without correspondences.
    """

    shifts: Tensor
    turns: Tensor
    growth: Tensor
    presence: Tensor | None = None
    pixels: Tensor | None = None

    def settled(self, least: float) -> Motion:
        """The same with displacements below `least` set to none: what hardly moves stands still."""
        moves = (self.shifts.norm(dim=-1, keepdim=True) >= least).to(self.shifts)
        turns = torch.where(moves > 0, self.turns, self.turns.new_tensor(IDENTITY))
        return Motion(self.shifts * moves, turns, self.growth * moves, self.presence, self.pixels)


def gaussian_maps(
    raw: Tensor,
    origins: Tensor,
    directions: Tensor,
    angles: Tensor,
    frames: Tensor,
    config: LdrmConfig,
    base: Tensor | None = None,
) -> GaussianMaps:
    """Activate the Gaussian head's channels.

    Args:
        raw: [B, A, h, w, 12], with lifetimes 13.
        origins: Camera centers [B, A, 3].
        directions: Unit rays [B, A, h, w, 3].
        angles: Of a kept pixel, in radians [B, A, h, w].
        frames: The frame of each map [A].
        config: Biases and switches.
        base: Colors that the head's are corrections of [B, A, h, w, 3]; None: gray.
    """
    parts = raw[..., :GAUSSIAN_CHANNELS].split(GAUSSIAN_PARTS, dim=-1)
    distance, color, scale, quat, opacity = parts
    distances = (config.distance * distance[..., 0].clamp(-8, 8).exp()).clamp(NEAR, FAR)
    # half a pixel's width as the standard deviation: neighbors just close the surface
    size = 0.5 * (distances * angles)[..., None]
    lifetimes = None
    if config.lifetimes:
        lifetimes = 3.0 * config.time_stride * raw[..., GAUSSIAN_CHANNELS].clamp(-4, 4).exp()
    return GaussianMaps(
        means=origins[:, :, None, None] + directions * distances[..., None],
        quats=rotations.normalise(quat + quat.new_tensor(IDENTITY)),
        scales=size * scale.clamp(-4, 4).exp(),
        opacities=(opacity[..., 0] + config.opacity_bias).sigmoid(),
        rgb=((0.5 if base is None else base) + 0.5 * color.tanh()).clamp(0, 1),
        distances=distances,
        lifetimes=lifetimes,
        frames=frames,
    )


def moved(maps: GaussianMaps, motion: Motion | None, query: int, batch: int = 0) -> ActivatedGaussians:
    """The Gaussians of one sample at one query time.

    Args:
        maps: The Gaussians.
        motion: Their deformation; None: none.
        query: Index of the query time.
        batch: Index of the sample.

    Returns:
        A · h · w Gaussians, activated.
    """
    means, quats, scales = maps.means[batch], maps.quats[batch], maps.scales[batch]
    opacities, rgb = maps.opacities[batch], maps.rgb[batch]
    if motion is not None:
        means = means + motion.shifts[batch, :, query]
        quats = rotations.multiply(quats, motion.turns[batch, :, query])
        scales = scales * (1 + motion.growth[batch, :, query])
        if motion.presence is not None:
            opacities = opacities * motion.presence[batch, :, query]
    return ActivatedGaussians(
        means.reshape(-1, 3),
        quats.reshape(-1, 4),
        scales.reshape(-1, 3),
        opacities.reshape(-1),
        ((rgb - 0.5) / harmonics.C0).reshape(-1, 1, 3),
    )


def deformation_channels(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Δμ, unit Δq and relative Δs of a deformation head's channels [..., 10]."""
    shift, turn, growth = raw.split(DEFORMATION_PARTS, dim=-1)
    return shift, rotations.normalise(turn), growth.clamp(1 / MOST_GROWTH - 1, MOST_GROWTH - 1)


def kept(maps: GaussianMaps, least: float, batch: int = 0) -> Tensor:
    """Indices [M] of the Gaussians of one sample whose opacity is at least τ.

    Each pixel changes by at most τ times the number of removed Gaussians that cover it, since each had at most τ of what
    it covers.
    """
    return (maps.opacities[batch].reshape(-1) >= least).nonzero()[:, 0]


def mean_color(maps: GaussianMaps, batch: int = 0) -> Tensor:
    """Mean color [3] of one sample's Gaussians: the background where the video showed nothing."""
    return maps.rgb[batch].detach().reshape(-1, 3).mean(0)


def as_scene(
    maps: GaussianMaps, motion: Motion, config: LdrmConfig, batch: int = 0
) -> tuple[Gaussians, dict[str, Tensor]]:
    """One sample as canonical Gaussians and what is added to their fields at each query time.

    Args:
        maps: The Gaussians.
        motion: Their deformation at the times of the scene's frames.
        config: Least opacity and motion.
        batch: Index of the sample.

    Returns:
        N Gaussians, and the changes by field [Q, N, …] for a `PerFrame` deformation: only of fields that change.
    """
    index = kept(maps, config.min_opacity, batch)
    motion = motion.settled(config.min_motion)
    canonical = Gaussians.from_activated(_rows(moved(maps, None, 0, batch), index))
    changes: dict[str, list[Tensor]] = {}
    for query in range(motion.shifts.shape[2]):
        now = Gaussians.from_activated(_rows(moved(maps, motion, query, batch), index)).tensors()
        for name, value in canonical.tensors().items():
            changes.setdefault(name, []).append(now[name] - value)
    stacked = {name: torch.stack(values) for name, values in changes.items()}
    return canonical, {name: change for name, change in stacked.items() if bool(change.any())}


def _rows(a: ActivatedGaussians, index: Tensor) -> ActivatedGaussians:
    return ActivatedGaussians(
        a.means[index], a.quats[index], a.scales[index], a.opacities[index], a.sh[index]
    )
