"""Means by name, each with its network and the number of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

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


def as_json(numbers: Iterable[Number]) -> dict[str, Any]:
    """Plain JSON: by name, each value with its network and counts."""
    return {
        n.name: {"value": n.value, "pictures": n.pictures, "model": n.model or None, "skipped": n.skipped}
        for n in numbers
    }


def as_lines(numbers: Sequence[Number]) -> list[str]:
    """A line of text for each: its value, its network and counts."""
    width = max((len(n.name) for n in numbers), default=0)
    lines: list[str] = []
    for n in numbers:
        notes = [n.model] if n.model else []
        notes += [f"{n.pictures} compared"] + ([f"{n.skipped} undefined"] if n.skipped else [])
        lines.append(f"{n.name:{width}}  {n.value:10.4f}  ({', '.join(notes)})")
    return lines


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

    def rounded(self) -> dict[str, float]:
        """The means by name, to four decimals."""
        return {number.name: round(number.value, 4) for number in self.numbers()}
