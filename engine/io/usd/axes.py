"""Which axis of a USD stage is up, and the turn that brings a scene there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scene import Cameras, rotations
from ...scene.rigs import rig_up

# up axes that USD knows, by their index
UP_AXES = {1: "Y", 2: "Z"}
# a scene whose up lies within one degree of an axis keeps its axes, so that values stay as they are
NEAR = math.cos(math.radians(1))


def stage_turn(rig: Cameras) -> tuple[Tensor, str]:
    """The rotation [3, 3] (float64) from a rig's world to one with USD's "Y" or "Z" up, and which of the two.

    Scenes with +y or +z up are not turned, those with −y or −z up by 180° about x, and those with ±x up by 90° about z. Other
    directions go the shortest way from there.
    """
    if not len(rig):
        return torch.eye(3, dtype=torch.float64), UP_AXES[1]
    up = rig_up(rig)
    nearest = max(range(3), key=lambda i: abs(float(up[i])))
    turn = torch.eye(3, dtype=torch.float64)
    if nearest == 0:
        sign = 1.0 if up[0] > 0 else -1.0
        turn = torch.tensor([[0, -sign, 0], [sign, 0, 0], [0, 0, 1]], dtype=torch.float64)
        nearest = 1
    elif up[nearest] < 0:
        turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    turned = turn @ up
    if float(turned[nearest]) < NEAR:
        wanted = torch.zeros(3, dtype=torch.float64)
        wanted[nearest] = 1
        axis = torch.linalg.cross(turned, wanted)
        angle = math.atan2(float(axis.norm()), float(turned @ wanted))
        rest = rotations.axis_angles_to_matrices(torch.nn.functional.normalize(axis, dim=0) * angle)
        turn = rest @ turn
    return turn, UP_AXES[nearest]
