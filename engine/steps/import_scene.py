"""Bring in a scene that was made elsewhere: a 4DGaussians folder, or a .ply or .spz of one moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..io.imports.fourdgaussians_folder import import_fourdgaussians, is_fourdgaussians
from ..io.ply import read_ply
from ..scene import Scene4D
from ..scene.rigs import UPS, bounds_of, ring_of_cameras
from ..train.messages import Finished, Started, Stream
from .step import choice, number, validate

__all__ = ["Config", "run"]


@dataclass(frozen=True)
class Config:
    heads: str = choice(
        "auto",
        ("auto", "all", "position, scale, rotation"),
        "What the imported motion moves: auto asks the folder's cfg_args; without it, DyNeRF and MultipleView scenes move all.",
    )
    duration: float = number(
        1.0, 0.001, 1e6, "How many seconds the imported time 0..1 lasts. More plays slower."
    )
    time_steps: int = number(
        60, 2, 10_000, "How many moments the scene lists; any time between can be rendered."
    )
    up: str = choice(
        "y down", tuple(UPS), "Which way is up in the source; cameras are put round it accordingly."
    )

    def __post_init__(self) -> None:
        validate(self)


def run(source: Path, config: Config = Config()) -> Stream:
    """Started, Finished(Scene4D). Raises InputError where `source` is nothing that can be imported."""
    source = Path(source)
    yield Started(1, f"importing {source.name}")
    if is_fourdgaussians(source):
        yield Finished(
            import_fourdgaussians(source, config.heads, config.duration, config.time_steps, config.up)
        )
    elif source.suffix.lower() in (".ply", ".spz") and source.is_file():
        yield Finished(_still(source, config))
    elif not source.exists():
        raise InputError(f"There is nothing at {source.name}; check the path.")
    else:
        raise InputError(
            f"{source.name} is neither a 4DGaussians folder (cfg_args and point_cloud/iteration_…) nor a .ply or .spz file."
        )


def _still(source: Path, config: Config) -> Scene4D:
    import torch

    if source.suffix.lower() == ".spz":
        from ..io.spz import read_spz

        gaussians = read_spz(source)
    else:
        gaussians = read_ply(source)
    if len(gaussians) == 0:
        raise InputError(f"{source.name} holds no Gaussians; export it again.")
    bounds = bounds_of(gaussians.means)
    rig = ring_of_cameras(bounds, torch.tensor(UPS[config.up], dtype=torch.float64))
    times = torch.linspace(0, config.duration, 2, dtype=torch.float64)
    scene = Scene4D.still(gaussians, times, rig, bounds, torch.ones(3))
    return scene.with_history("import_scene", source=source.name, gaussians=len(gaussians))
