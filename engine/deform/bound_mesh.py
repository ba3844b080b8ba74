"""A mesh that moves and carries Gaussians (after GaussianAvatars, CVPR 2024): a head, or any other mesh.

Changed: the canonical Gaussians are those of the mesh's rest pose in world units instead of values relative to a triangle.
Masks, edits, bounds and exports then mean what they mean for every other scene, and at the rest pose the motion is the
identity.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InputError
from ..heads import TriangleFrames, triangle_frames
from ..scene import Gaussians, rotations
from .frame_times import frames_around

PARAMETER = "parameter."  # before the names of head parameters among the tensors


class BoundMesh:
    """Gaussian i moves with triangle `binding[i]`: turned, shifted and scaled as that is since the rest pose.

    Between two frames the vertices are interpolated linearly; before the first and after the last, that frame is held.
    Spherical harmonics are not rotated (as in the paper).

    Args:
        faces: [F, 3] long.
        rest: [V, 3] vertices of the rest pose, world units.
        frames: [T, V, 3] vertices over time.
        seconds: [T] float64, ascending.
        binding: [N] long, each Gaussian's triangle.
        parameters: A head's parameters by name, so that it can be posed anew with its head model; may be empty.
        model: The name of that head model.
    """

    kind: ClassVar[str] = "bound mesh"

    def __init__(
        self,
        faces: Tensor,
        rest: Tensor,
        frames: Tensor,
        seconds: Tensor,
        binding: Tensor,
        parameters: dict[str, Tensor] | None = None,
        model: str = "",
    ) -> None:
        self.faces, self.rest, self.frames, self.seconds, self.binding = faces, rest, frames, seconds, binding
        self.parameters, self.model = parameters or {}, model

    @cached_property
    def rest_frames(self) -> TriangleFrames:
        """The triangles of the rest pose."""
        return triangle_frames(self.rest, self.faces)

    def vertices_at(self, seconds: float) -> Tensor:
        """[V, 3] the mesh at a time in seconds."""
        first, second, weight = frames_around(self.seconds, seconds)
        return torch.lerp(self.frames[first], self.frames[second], weight)

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        """The Gaussians at a time in seconds. Raises InputError where their number has changed."""
        return self.carry(gaussians, self.vertices_at(seconds))

    def carry(self, gaussians: Gaussians, vertices: Tensor) -> Gaussians:
        """The Gaussians on the mesh in another pose, `vertices` [V, 3]; differentiable in both."""
        if len(gaussians) != len(self.binding):
            raise InputError(
                "DEF-022",
                f"The scene binds {len(self.binding)} Gaussians to its mesh but has {len(gaussians)}. Another program added "
                "or removed some, or the file is damaged: load the scene as it was saved here.",
            )
        rest, now, binding = self.rest_frames, triangle_frames(vertices, self.faces), self.binding
        turns = now.axes @ rest.axes.transpose(-1, -2)  # [F, 3, 3]
        growth = now.sizes / rest.sizes
        stretched = (growth[:, None, None] * turns)[binding]
        offset = gaussians.means - rest.centers[binding]
        quats = rotations.matrices_to_quats(turns)[binding]
        return gaussians.with_(
            means=(stretched @ offset[..., None])[..., 0] + now.centers[binding],
            quats=rotations.multiply(quats, gaussians.quats),
            log_scales=gaussians.log_scales + growth.log()[binding, None],
        )

    def config(self) -> dict[str, Any]:
        return {"model": self.model}

    def tensors(self) -> dict[str, Tensor]:
        own = {
            "faces": self.faces.int(),
            "rest": self.rest,
            "frames": self.frames,
            "seconds": self.seconds,
            "binding": self.binding.int(),
        }
        return own | {f"{PARAMETER}{name}": t for name, t in self.parameters.items()}

    def with_(self, **changed: Any) -> BoundMesh:
        """The same with some of the constructor's arguments replaced."""
        names = ("faces", "rest", "frames", "seconds", "binding", "parameters", "model")
        return BoundMesh(**({name: getattr(self, name) for name in names} | changed))

    def to(self, device: torch.device | str) -> BoundMesh:
        moved = {name: getattr(self, name).to(device) for name in ("faces", "rest", "frames", "binding")}
        return self.with_(**moved)

    def take(self, index: Tensor) -> BoundMesh:
        """The same mesh, with the triangles of Gaussians `index` [M]."""
        return self.with_(binding=self.binding[index.to(self.binding.device)])

    def trainable(self) -> None:
        return None

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> BoundMesh:
        """Raises InputError where the tensors do not belong together."""
        try:
            faces, rest, frames = tensors["faces"].long(), tensors["rest"], tensors["frames"]
            seconds, binding = tensors["seconds"].double(), tensors["binding"].long()
        except KeyError as error:
            raise InputError(
                "DEF-023", f"Bound mesh: the file lacks {error}; the file is damaged."
            ) from error
        shapes = {name: tuple(t.shape) for name, t in tensors.items() if not name.startswith(PARAMETER)}
        if not _fits(faces, rest, frames, seconds, binding):
            raise InputError(
                "DEF-024", f"Bound mesh: its tensors do not belong together ({shapes}); the file is damaged."
            )
        for name, index, limit in (("faces", faces, len(rest)), ("binding", binding, len(faces))):
            if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < limit:
                raise InputError(
                    "DEF-025",
                    f"Bound mesh: '{name}' points beyond the {limit} that there are; the file is damaged.",
                )
        if bool((seconds.diff() <= 0).any()):
            raise InputError("DEF-026", "Bound mesh: its times do not ascend; the file is damaged.")
        parameters = {n.removeprefix(PARAMETER): t for n, t in tensors.items() if n.startswith(PARAMETER)}
        return cls(faces, rest, frames, seconds, binding, parameters, str(config.get("model", "")))


def _fits(faces: Tensor, rest: Tensor, frames: Tensor, seconds: Tensor, binding: Tensor) -> bool:
    """Whether the tensors of a file have shapes and types that belong together."""
    return (
        faces.ndim == 2
        and rest.ndim == 2
        and faces.shape[1:] == rest.shape[1:] == (3,)
        and seconds.ndim == 1
        and frames.shape == (len(seconds), *rest.shape)
        and len(seconds) > 0
        and binding.ndim == 1
        and rest.dtype == frames.dtype
        and rest.dtype in (torch.float32, torch.float64)
    )
