"""Registry of rasterizers: each registers its name, its devices, and its speed on them.

To add one, write a class that satisfies `Rasterizer`, call `register` in its module, and import the module in choice.py.
A package outside the engine only calls `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import InputError
from .rasterizer import Rasterizer

# "auto" and every registered name, in order of registration. Config fields refer to this list, so they also accept a
# rasterizer that is registered after the Config was declared.
NAMES = ["auto"]
_registered: dict[str, Registration] = {}


def _no_obstacle() -> str | None:
    return None


@dataclass(frozen=True)
class Registration:
    """A rasterizer that users can choose.

    Args:
        name: Name for users and checkpoints.
        priorities: Speed by device type ("cuda", "cpu"); it cannot run on other device types. "auto" takes the highest
            number that works, on one device or, if the device is free, over all of them.
            Built in: gsplat 100 and warp 80 on cuda; numba 50 on cpu; torch 20 on cuda, 10 on cpu; warp 5 on cpu.
        create: Creates the rasterizer; slow or optional packages are imported here.
        obstacle: Returns why it cannot run on this machine (what is missing and how to install it), or None. Called on
            every choice, so it should be fast or cached.
        prepare: Replaces `obstacle` when the rasterizer is chosen by name; it may take long, for example to compile.
            None: `obstacle` is called.
    """

    name: str
    priorities: Mapping[str, int]
    create: Callable[[], Rasterizer]
    obstacle: Callable[[], str | None] = _no_obstacle
    prepare: Callable[[], str | None] | None = None


def register(registration: Registration) -> None:
    """Make a rasterizer available by its name and to "auto".

    Raises:
        ValueError: The name is already registered.

    Example:
        register(Registration("mine", {"cuda": 60}, create=MyRasterizer))
    """
    if registration.name in NAMES:
        raise ValueError(f"A rasterizer named '{registration.name}' is already registered.")
    _registered[registration.name] = registration
    NAMES.append(registration.name)


def unregister(name: str) -> None:
    """Remove a registered rasterizer."""
    del _registered[name]
    NAMES.remove(name)


def find(name: str) -> Registration:
    """The registration of that name. Raises InputError if the name is unknown."""
    if name not in _registered:
        *most, last = NAMES
        raise InputError(
            "REN-005", f"rasterizer '{name}' is not registered; choose {', '.join(most)} or {last}."
        )
    return _registered[name]


def ranked(*device_types: str) -> list[tuple[Registration, str]]:
    """(rasterizer, device type) for all that support one of these, the fastest first, whether they can run or not."""
    pairs = [(r, kind) for r in _registered.values() for kind in device_types if kind in r.priorities]
    return sorted(pairs, key=lambda pair: -pair[0].priorities[pair[1]])
