"""Motion stored per frame: the change of every Gaussian against the canonical one, for sequences without a motion model."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.gaussians import Gaussians
from .frame_times import frames_around

# what rounds to infinity in half precision
HALF_LIMIT = 65520.0
FIELDS = ("means", "log_scales", "quats", "logit_opacities", "sh")


class PerFrame:
    """Adds, at time t, the stored change of each field to the canonical Gaussians; interpolated between frames or held.

    An edit of the canonical Gaussians is seen at every frame. Made by `of`, it is the identity at the first frame; a
    generated variation field (engine/models/variation_field) changes every frame.

    Args:
        seconds: Frame times [T], float64, ascending.
        changes: Only the fields that change: name → [T, N, …] in the stored (pre-activation) form, in float32 or in half
            precision; see `in_half`.
        blends: Interpolate between frames; otherwise each is held until the next.
    """

    kind: ClassVar[str] = "flipbook"

    def __init__(self, seconds: Tensor, changes: dict[str, Tensor], blends: bool = True) -> None:
        self.seconds, self.changes, self.blends = seconds, changes, blends

    @classmethod
    def of(cls, moments: list[Gaussians], seconds: Tensor, blends: bool = True) -> PerFrame:
        """From T frames of the same Gaussians in the same order. Raises InputError where their numbers differ."""
        counts = sorted({len(m) for m in moments})
        if len(counts) != 1 or len(moments) != len(seconds):
            raise InputError(
                "DEF-017",
                f"Flipbook: {len(moments)} frames have {counts} Gaussians and {len(seconds)} times; give every frame the same "
                "number of Gaussians and one time.",
            )
        changes: dict[str, Tensor] = {}
        for name in FIELDS:
            frames = [m.tensors()[name] for m in moments]
            # not stacked, because harmonics that never change would need the most memory
            if all(torch.equal(frame, frames[0]) for frame in frames[1:]):
                continue
            values = torch.stack(frames)
            if name == "quats":
                values = values / values.norm(dim=-1, keepdim=True).clamp(min=1e-12)
                first = moments[0].quats
                # changes are added to the first frame's quaternions as stored
                values = values * first.norm(dim=-1, keepdim=True)
                values[0] = first
                # q and -q are the same rotation: take the sign nearest to the previous frame's
                for t in range(1, len(values)):
                    values[t] *= torch.where((values[t] * values[t - 1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
            change = values - values[:1]
            if bool(change.any()):
                changes[name] = change.contiguous()
        return cls(seconds.double(), changes, blends)

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """Before the first and after the last frame, that frame. Raises InputError where the number of Gaussians has changed."""
        count = next((c.shape[1] for c in self.changes.values()), len(gaussians))
        if len(gaussians) != count:
            raise InputError(
                "DEF-018",
                f"This scene's deformation is stored for {count} Gaussians, but there are {len(gaussians)}. Another program "
                "changed their number, or the file is damaged; load the scene as it was saved here.",
            )
        first, second, weight = frames_around(self.seconds, seconds)
        if not self.blends:
            weight = float(weight >= 1.0)
        changed: dict[str, Tensor] = {}
        for name, change in self.changes.items():
            step = change[second if weight == 1 else first].to(gaussians.means)
            if 0 < weight < 1:
                step = torch.lerp(step, change[second].to(gaussians.means), weight)
            changed[name] = gaussians.tensors()[name] + step
        return gaussians.with_(**changed) if changed else gaussians

    def in_half(self) -> PerFrame:
        """The same motion in half the memory and file size.

        A change c is off by at most |c|/2048 + 2⁻²⁵: a shift of 1 world unit by 0.0005, and what does not change stays exact.

        Raises:
            InputError: A change is too large for half precision.
        """
        for name, change in self.changes.items():
            if bool((change.abs() >= HALF_LIMIT).any()):
                raise InputError(
                    "DEF-030",
                    f"Flipbook: '{name}' changes by {float(change.abs().max()):.6g}, and half precision ends at 65504. Keep "
                    "full precision, or scale the scene down.",
                )
        return PerFrame(self.seconds, {name: t.half() for name, t in self.changes.items()}, self.blends)

    def config(self) -> dict[str, Any]:
        return {"blends": self.blends}

    def tensors(self) -> dict[str, Tensor]:
        return {"seconds": self.seconds, **{name: t.detach() for name, t in self.changes.items()}}

    def to(self, device: torch.device | str) -> PerFrame:
        changes = {name: t.detach().to(device) for name, t in self.changes.items()}
        return PerFrame(self.seconds, changes, self.blends)

    def take(self, index: Tensor) -> PerFrame:
        """The changes of Gaussians `index` [M], at the same times."""
        rows = {name: t[:, index.to(t.device)] for name, t in self.changes.items()}
        return PerFrame(self.seconds, rows, self.blends)

    def trainable(self) -> PerFrame | None:
        """Itself, where anything changes at all."""
        return self if self.changes else None

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> PerFrame:
        """Raises InputError where the tensors do not belong together."""
        seconds = tensors.get("seconds")
        changes = {name: tensors[name] for name in FIELDS if name in tensors}
        t = 0 if seconds is None else len(seconds)
        if seconds is None or seconds.ndim != 1 or t < 1 or bool((seconds.diff() <= 0).any()):
            raise InputError(
                "DEF-019", "Flipbook: the times are missing or do not ascend; the file is damaged."
            )
        shapes = {name: tuple(c.shape[:2]) for name, c in changes.items()}
        if set(tensors) - set(FIELDS) - {"seconds"} or len(set(shapes.values())) > 1:
            raise InputError(
                "DEF-020", f"Flipbook: its tensors do not belong together ({shapes}); the file is damaged."
            )
        if any(shape[0] != t for shape in shapes.values()):
            raise InputError(
                "DEF-021", f"Flipbook: {t} times but changes of shapes {shapes}; the file is damaged."
            )
        return cls(seconds.double(), changes, bool(config.get("blends", True)))
