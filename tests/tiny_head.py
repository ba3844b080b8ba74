"""A head in FLAME's format, small and made in code: a sphere of a few dozen vertices with five joints."""

from __future__ import annotations

import math

import torch

from engine.heads import Head, HeadModel, HeadMotion

RINGS, SPOKES = 6, 8


def tiny_model(shapes: int = 4, expressions: int = 3, seed: int = 0) -> HeadModel:
    """V = 50, F = 96: a closed sphere of 10 cm radius."""
    generator = torch.Generator().manual_seed(seed)
    points = [[0.0, 0.1, 0.0]]
    for ring in range(1, RINGS + 1):
        polar = math.pi * ring / (RINGS + 1)
        for spoke in range(SPOKES):
            turn = 2 * math.pi * spoke / SPOKES
            points.append(
                [math.sin(polar) * math.sin(turn), math.cos(polar), math.sin(polar) * math.cos(turn)]
            )
            points[-1] = [0.1 * c for c in points[-1]]
    points.append([0.0, -0.1, 0.0])
    faces = [[0, 1 + s, 1 + (s + 1) % SPOKES] for s in range(SPOKES)]
    for ring in range(RINGS - 1):
        a, b = 1 + ring * SPOKES, 1 + (ring + 1) * SPOKES
        for s in range(SPOKES):
            n = (s + 1) % SPOKES
            faces += [[a + s, b + s, b + n], [a + s, b + n, a + n]]
    last = 1 + (RINGS - 1) * SPOKES
    faces += [[len(points) - 1, last + (s + 1) % SPOKES, last + s] for s in range(SPOKES)]
    template = torch.tensor(points)
    count = len(points)
    weights = torch.rand(count, 5, generator=generator) ** 4
    regressor = torch.rand(5, count, generator=generator) ** 4
    return HeadModel(
        name="tiny head",
        template=template,
        faces=torch.tensor(faces),
        shape_dirs=0.005 * torch.randn(shapes, 3, count, generator=generator),
        expression_dirs=0.005 * torch.randn(expressions, 3, count, generator=generator),
        pose_dirs=0.001 * torch.randn(36, 3, count, generator=generator),
        joint_regressor=regressor / regressor.sum(1, keepdim=True),
        weights=weights / weights.sum(1, keepdim=True),
        expression_names=tuple(f"expression {i}" for i in range(expressions)),
        regions={"face": torch.arange(count // 2), "lips": torch.arange(5, 12)},
    )


def still_motion(model: HeadModel, frames: int = 1) -> HeadMotion:
    """All parameters zero."""
    return HeadMotion(
        times=torch.arange(frames, dtype=torch.float64) / 10,
        shape=torch.zeros(model.shapes),
        expr=torch.zeros(frames, model.expressions),
        rotation=torch.zeros(frames, 3),
        neck_pose=torch.zeros(frames, 3),
        jaw_pose=torch.zeros(frames, 3),
        eyes_pose=torch.zeros(frames, 6),
        translation=torch.zeros(frames, 3),
    )


def tiny_head(frames: int = 4, seed: int = 1, shapes: int = 4, expressions: int = 3) -> Head:
    """A head whose parameters all move."""
    model = tiny_model(shapes, expressions)
    generator = torch.Generator().manual_seed(seed)

    def random(width: int, size: float) -> torch.Tensor:
        return size * torch.randn(frames, width, generator=generator)

    motion = still_motion(model, frames).with_(
        shape=torch.randn(model.shapes, generator=generator),
        expr=random(model.expressions, 1.0),
        rotation=random(3, 0.3),
        neck_pose=random(3, 0.1),
        jaw_pose=random(3, 0.2),
        eyes_pose=random(6, 0.2),
        translation=random(3, 0.02),
    )
    return Head(model, motion, "tiny head")
