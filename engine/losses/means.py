"""Means by name, each with the network behind it and how many pictures it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Number:
    """One measured mean."""

    name: str
    value: float
    pictures: int  # how many it is the mean of
    model: str = ""  # the network behind it; empty where it is a formula
    skipped: int = 0  # how many were undefined (a change too small to have a direction, nothing seen twice)


class Means:
    """Values by name, in the order in which names first came."""

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
