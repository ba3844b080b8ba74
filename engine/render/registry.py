"""The rasterizers that can be chosen: each registers its name, where it runs, and how fast it is there.

To add one: write a class that satisfies `Rasterizer`, call `register` beside it, and import that module in choice.py.
A package outside the engine only calls `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import InputError
from .rasterizer import Rasterizer

# "auto" and every registered name, in order of registration. Config fields hold this list itself, so a rasterizer that is
# registered after a Config was declared can be chosen too.
NAMES = ["auto"]
_registered: dict[str, Registration] = {}


def _no_obstacle() -> str | None:
    return None


@dataclass(frozen=True)
class Registration:
    """One rasterizer that can be chosen.

    Args:
        name: What users and checkpoints call it.
        priorities: How fast it is, by device type ("cuda", "cpu"); a device type that is absent cannot be drawn on.
            "auto" takes the highest number that works, on one device or, where the device is free, over all of them.
            The built-in ones: gsplat 100 on cuda; numba 50 on cpu; torch 20 on cuda, 10 on cpu.
        create: Makes the rasterizer; whatever is slow or optional is imported here.
        obstacle: Why it cannot run on this machine, as what is missing and how to install it; None where it can.
            It is asked on every choice: keep it cheap, or remember the answer.
        prepare: As `obstacle`, asked instead of it where this one is chosen by name: may do what takes long, such as
            compiling. None: `obstacle` is asked.
    """

    name: str
    priorities: Mapping[str, int]
    create: Callable[[], Rasterizer]
    obstacle: Callable[[], str | None] = _no_obstacle
    prepare: Callable[[], str | None] | None = None


def register(registration: Registration) -> None:
    """Make a rasterizer available by its name and to "auto". Raises ValueError where the name is taken."""
    if registration.name in NAMES:
        raise ValueError(f"A rasterizer called '{registration.name}' is registered already.")
    _registered[registration.name] = registration
    NAMES.append(registration.name)


def unregister(name: str) -> None:
    """Take a registered rasterizer away again."""
    del _registered[name]
    NAMES.remove(name)


def find(name: str) -> Registration:
    """The registration of that name. Raises InputError where there is none."""
    if name not in _registered:
        *most, last = NAMES
        raise InputError("REN-005", f"No rasterizer is called '{name}'; choose {', '.join(most)} or {last}.")
    return _registered[name]


def ranked(*device_types: str) -> list[tuple[Registration, str]]:
    """(rasterizer, device type) for each that can draw on one of these, the fastest first; what is missing is not asked."""
    pairs = [(r, kind) for r in _registered.values() for kind in device_types if kind in r.priorities]
    return sorted(pairs, key=lambda pair: -pair[0].priorities[pair[1]])
