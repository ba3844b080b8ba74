"""The content of a player file: a first frame, and tracks that move it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import Cameras, Gaussians, harmonics, rotations
from .tracks import weights

__all__ = ["Motion", "PlayerFile"]


@dataclass(frozen=True, eq=False)
class Motion:
    """Motion of the first M Gaussians, as values at K knots.

    Attributes:
        knots: [K] float64 seconds, ascending.
        interpolation: "cubic", "linear" or "hold".
        tracks: Name → [K, M, c] float32 in this pack's axes; rotation as quaternions, c = 4.
    """

    knots: Tensor
    interpolation: str
    tracks: dict[str, Tensor]

    def at(self, name: str, seconds: float) -> Tensor:
        """[M, c]: the values of a track at a time."""
        row = weights(torch.tensor([seconds], dtype=torch.float64), self.knots, self.interpolation)
        return torch.tensordot(row[0].float(), self.tracks[name], dims=1)


@dataclass(frozen=True, eq=False)
class PlayerFile:
    """The content of a player file, as a player decodes it.

    Attributes:
        title: Title that the player shows.
        times: [T] float64 seconds of the captured frames.
        fps: Natural playback rate, frames per second.
        up: [3] float64 unit vector.
        center: [3] float64 center of the subject, world units.
        radius: Radius of the subject, world units.
        background: [3] float32 in 0..1.
        cameras: The captured cameras.
        base: The scene at its first frame, as the .spz stores it.
        moving: M; the first M Gaussians of `base` move.
        motion: Their motion; None if nothing moves.
        max_error: Largest distance of a center from the true one at a captured frame, as a fraction of `radius`.
        mean_error: Mean of these distances, as a fraction of `radius`.
        notes: Sentences for the user.
    """

    title: str
    times: Tensor
    fps: float
    up: Tensor
    center: Tensor
    radius: float
    background: Tensor
    cameras: Cameras
    base: Gaussians
    moving: int
    motion: Motion | None
    max_error: float
    mean_error: float
    notes: tuple[str, ...]

    @torch.no_grad()
    def means_at(self, seconds: float) -> Tensor:
        """Centers [N, 3] at a time in seconds; the same numbers as `at(seconds).means`."""
        means, motion = self.base.means, self.motion_at(seconds)
        if motion is None or "position" not in motion.tracks:
            return means
        moved = means[: self.moving] + motion.at("position", seconds)
        return torch.cat([moved, means[self.moving :]])

    def motion_at(self, seconds: float) -> Motion | None:
        """The motion around a time in seconds."""
        return self.motion

    @property
    def moves(self) -> bool:
        """Whether anything moves."""
        return self.motion is not None

    @property
    def knot_count(self) -> int:
        """Number of knots."""
        return 0 if self.motion is None else len(self.motion.knots)

    @torch.no_grad()
    def at(self, seconds: float) -> Gaussians:
        """The scene as a player draws it at a time.

        Args:
            seconds: Time in seconds; clamped to the first and last knot.

        Returns:
            N Gaussians.
        """
        motion = self.motion_at(seconds)
        if motion is None or self.moving == 0:
            return self.base
        now = {name: motion.at(name, seconds) for name in motion.tracks}
        changed = {name: t.clone() for name, t in self.base.tensors().items()}
        m = self.moving
        changed["means"] = self.means_at(seconds)
        if "rotation" in now:
            changed["quats"][:m] = rotations.multiply(
                rotations.normalise(now["rotation"]), self.base.quats[:m]
            )
        if "scale" in now:
            changed["log_scales"][:m] += now["scale"]
        if "opacity" in now:
            changed["logit_opacities"][:m] = now["opacity"][:, 0].clamp(1e-6, 1 - 1e-6).logit()
        if "color" in now:
            changed["sh"][:m, 0] += now["color"] / harmonics.C0
        return Gaussians(**changed)
