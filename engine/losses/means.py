"""Means by name, each with its network and the number of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Number:
    """One measured mean.

    Args:
        name: Name of the metric.
        value: The mean.
        pictures: Number of images that it averages.
        model: The network of the metric; empty for a formula.
        skipped: Number of undefined values (a change too small to have a direction, or no pixel visible in both frames).
    """

    name: str
    value: float
    pictures: int
    model: str = ""
    skipped: int = 0


class Means:
    """Collects values by name; names keep the order of their first value."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.models: dict[str, str] = {}

    def add(self, name: str, values: Tensor | float, model: str = "") -> None:
        found = values.flatten().tolist() if isinstance(values, Tensor) else [float(values)]
        self.values.setdefault(name, []).extend(found)
        self.models[name] = model

    def numbers(self) -> tuple[Number, ...]:
        made: list[Number] = []
        for name, values in self.values.items():
            defined = [v for v in values if not math.isnan(v)]
            if defined:
                mean = sum(defined) / len(defined)
                made.append(Number(name, mean, len(defined), self.models[name], len(values) - len(defined)))
        return tuple(made)
