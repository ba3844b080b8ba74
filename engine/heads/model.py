"""A head model in FLAME's format: shape, expression, pose correctives, linear blend skinning with five joints.

After FLAME (Li et al., SIGGRAPH Asia 2017). The arrays are the user's own or those of the bundled head, which is not
FLAME: other vertices and other coefficients behind the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..scene.rotations import axis_angles_to_matrices
from .motion import HeadMotion

JOINTS = ("root", "neck", "jaw", "left eye", "right eye")
PARENTS = (-1, 0, 1, 1, 1)
AT_ONCE = 128  # frames that are posed together


@dataclass(frozen=True, eq=False)
class HeadModel:
    """V vertices, F triangles, S shape and E expression coefficients. Meters, y up, z out of the face."""

    name: str
    template: Tensor  # [V, 3]
    faces: Tensor  # [F, 3] long
    shape_dirs: Tensor  # [S, 3, V]
    expression_dirs: Tensor  # [E, 3, V]
    pose_dirs: Tensor  # [36, 3, V], first index = 9·(joint − 1) + 3·row + column of (R_joint − 1)
    joint_regressor: Tensor  # [5, V]
    weights: Tensor  # [V, 5] skinning weights
    expression_names: tuple[str, ...] = ()  # empty, or one for each expression coefficient
    regions: dict[str, Tensor] = field(default_factory=dict[str, Tensor])  # name → vertex ids (long)

    @property
    def shapes(self) -> int:
        return len(self.shape_dirs)

    @property
    def expressions(self) -> int:
        return len(self.expression_dirs)

    def pose(self, motion: HeadMotion) -> Tensor:
        """The posed mesh, differentiable in every parameter.

        Args:
            motion: Parameters of T frames. Fewer coefficients than the model's leave the others at zero.

        Returns:
            [T, V, 3] vertices in world units.

        Source: FLAME, equations 1 to 4.
        """
        expression = motion.expr.float()
        own = self._shaped(motion)
        joints = self._joints(own, expression)
        poses = [motion.rotation, motion.neck_pose, motion.jaw_pose, *motion.eyes_pose.split(3, dim=1)]
        turns = axis_angles_to_matrices(torch.stack([p.float() for p in poses], dim=1))  # [T, 5, 3, 3]
        moved = expression @ self.expression_dirs[: expression.shape[1]].flatten(1)
        if self.has_pose_correctives:
            moved = moved + (turns[:, 1:] - torch.eye(3).to(turns)).flatten(1) @ self.pose_dirs.flatten(1)
        shaped = own + moved.unflatten(1, (3, -1))  # [T, 3, V]
        skinned = _skin(shaped, *_chain(turns, joints), self.weights)
        return (skinned + motion.translation.float()[..., None]).transpose(1, 2)

    @torch.no_grad()
    def posed(self, motion: HeadMotion) -> Tensor:
        """[T, V, 3] as `pose` gives, without gradients; a few frames at a time, so that memory does not grow with T."""
        parts = [slice(i, i + AT_ONCE) for i in range(0, len(motion), AT_ONCE)]
        return torch.cat([self.pose(motion.frames(part)) for part in parts]).contiguous()

    def _shaped(self, motion: HeadMotion) -> Tensor:
        """[3, V] the person's neutral mesh in the model's own pose."""
        count = len(motion.shape)
        own = self.template.T + torch.tensordot(motion.shape.float(), self.shape_dirs[:count], dims=1)
        return own if motion.static_offset is None else own + motion.static_offset.float().T

    def _joints(self, own: Tensor, expression: Tensor) -> Tensor:
        """[T, 5, 3] joints, regressed from the shaped mesh with its expression (both are linear)."""
        change = self._expression_joints[: expression.shape[1]]
        return (own @ self.joint_regressor.T + torch.tensordot(expression, change, dims=1)).transpose(1, 2)

    @cached_property
    def _expression_joints(self) -> Tensor:
        """[E, 3, 5] what each expression does to the regressed joints."""
        return self.expression_dirs @ self.joint_regressor.T

    @cached_property
    def has_pose_correctives(self) -> bool:
        return bool(self.pose_dirs.any())

    def face_region(self, *names: str) -> Tensor:
        """[F] bool: triangles with at least two corners in the named regions together. Raises LookupError."""
        inside = torch.zeros(len(self.template), dtype=torch.bool)
        for name in names:
            inside[self.regions[name]] = True
        # three corners would lose the rows of triangles along each region's border
        return inside[self.faces.cpu()].sum(dim=1) >= 2

    def to(self, device: torch.device | str) -> HeadModel:
        """The same model on another device; regions stay on the CPU."""
        names = (
            "template",
            "faces",
            "shape_dirs",
            "expression_dirs",
            "pose_dirs",
            "joint_regressor",
            "weights",
        )
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def _chain(turns: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation [T, 5, 3, 3] and translation [T, 5, 3] that take the unposed mesh along with each joint."""
    world_turns: list[Tensor] = []
    places: list[Tensor] = []
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            world_turns.append(turns[:, joint])
            places.append(joints[:, joint])
            continue
        offset = joints[:, joint] - joints[:, parent]
        world_turns.append(world_turns[parent] @ turns[:, joint])
        places.append((world_turns[parent] @ offset[..., None])[..., 0] + places[parent])
    rotation = torch.stack(world_turns, dim=1)
    return rotation, torch.stack(places, dim=1) - (rotation @ joints[..., None])[..., 0]


def _skin(vertices: Tensor, turns: Tensor, shifts: Tensor, weights: Tensor) -> Tensor:
    """Linear blend skinning of [T, 3, V] with weights [V, 5]."""
    # axis by axis with vertices innermost: small matrix products for each vertex would take five times as long
    blended = (
        torch.cat([turns, shifts[..., None]], dim=-1).flatten(2).transpose(1, 2) @ weights.T
    )  # [T, 12, V]
    x, y, z = vertices.unbind(1)
    rows = blended.unflatten(1, (3, 4)).unbind(1)
    return torch.stack([r[:, 0] * x + r[:, 1] * y + r[:, 2] * z + r[:, 3] for r in rows], dim=1)
