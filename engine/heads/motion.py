"""How one person's head moves: FLAME's parameters over time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

# name → numbers for each frame besides the expression's, which depends on the model
POSES = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
SAME_TIME = 1e-3  # seconds
# frames per second where a head's files store none: VHAP takes 25 from a video, and GaussianAvatars plays its heads at 25.
# NeRSemble is recorded at 73; the tracked files do not say at what rate they were
USUAL_HEAD_FPS = 25.0
CANONICAL_JAW = 0.3  # radians about x: lips and teeth lie apart, as in GaussianAvatars' canonical pose


@dataclass(frozen=True, eq=False)
class HeadMotion:
    """FLAME's parameters of one head over T frames. Never changed in place."""

    times: Tensor  # [T] float64 seconds, ascending
    shape: Tensor  # [S] identity coefficients
    expr: Tensor  # [T, E] expression coefficients
    rotation: Tensor  # [T, 3] root rotation, axis-angle in radians, as the next three
    neck_pose: Tensor  # [T, 3]
    jaw_pose: Tensor  # [T, 3]
    eyes_pose: Tensor  # [T, 6] left eye, right eye
    translation: Tensor  # [T, 3] world units
    static_offset: Tensor | None = None  # [V, 3] added to the shaped vertices

    def __post_init__(self) -> None:
        count = len(self.times)
        for name, width in {**POSES, "expr": self.expr.shape[-1]}.items():
            shape = tuple(getattr(self, name).shape)
            if shape != (count, width):
                raise InputError(
                    "HED-001",
                    f"The head's '{name}' has shape {shape}, expected ({count}, {width}); the head parameters are "
                    "damaged or of another model.",
                )

    def __len__(self) -> int:
        return len(self.times)

    def with_(self, **changed: Any) -> HeadMotion:
        return replace(self, **changed)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by field name, an absent static offset left out."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: t for name, t in found.items() if t is not None}

    def frames(self, index: Tensor | slice) -> HeadMotion:
        """Only the frames at `index`."""
        names = ("times", "expr", *POSES)
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def at(self, seconds: Tensor, name: str, video: str) -> HeadMotion:
        """The frames at the times `seconds` [T'] of a video, with exactly these times.

        Raises InputError, with both counts, where a frame of the video has no parameters within 1 ms.
        """
        nearest = (self.times[None] - seconds[:, None].double()).abs().min(dim=1)
        missing = int((nearest.values > SAME_TIME).sum())
        if missing:
            raise InputError(
                "HED-040",
                f"{name or 'The head'} has parameters for {len(self)} frames from {float(self.times[0]):g} to "
                f"{float(self.times[-1]):g} s, but {missing} of {video}'s {len(seconds)} frames have none. Load both with the "
                "same frame rate, or use fewer frames of the video.",
            )
        return self.frames(nearest.indices).with_(times=seconds.double())

    def canonical(self) -> HeadMotion:
        """One frame: no expression, the jaw open by 0.3 rad, head and neck as they are on average."""
        mean = self.frames(slice(0, 1))
        zero = {name: torch.zeros_like(getattr(mean, name)) for name in ("expr", "neck_pose", "eyes_pose")}
        jaw = torch.zeros_like(mean.jaw_pose)
        jaw[:, 0] = CANONICAL_JAW
        return mean.with_(
            **zero,
            jaw_pose=jaw,
            rotation=self.rotation.mean(0, keepdim=True),
            translation=self.translation.mean(0, keepdim=True),
        )
