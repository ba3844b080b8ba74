"""What a training exchanges between its ranks beyond gradients, and which tensors have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..render import RasterInfo
from ..scene import Cameras
from .identity import fingerprint_of, key_of
from .motion import TrainableMotion
from .parameters import GaussianParameters
from .ranks import Ranks

# one rendering, and its image's width and height
Info = tuple[RasterInfo, int, int]


def optimized(parameters: GaussianParameters, motion: TrainableMotion | None) -> list[Tensor]:
    """The tensors whose gradients a step needs, in the same order on all ranks."""
    moving = [] if motion is None else motion.optimized()
    return [*parameters.tensors.values(), *moving]


def check_start(ranks: Ranks, motion: TrainableMotion | None, identity: Callable[[], list[Any]]) -> None:
    """InputError where several processes would not see all gradients of a motion, or one has another capture or other settings
    than process 0, so that their `identity` differs."""
    if ranks.size == 1:
        return
    if motion is not None and any(not t.is_leaf for t in motion.optimized()):
        raise InputError(
            "TRN-052",
            f"{type(motion).__name__} cannot be trained by several processes, since its `optimized` gives tensors that its "
            "optimizer does not step. Start the training without torchrun.",
        )
    if ranks.is_sharded and motion is not None and motion.rows() is None:
        raise InputError(
            "TRN-057",
            f"{type(motion).__name__} does not say what it stores for each Gaussian (`rows`), so processes cannot divide the "
            "Gaussians. Start the training without --shard-gaussians.",
        )
    ranks.check_same(
        key_of([ranks.is_sharded, identity()]),
        lambda rank: InputError(
            "TRN-054",
            f"Process {rank} has another capture or other settings than process 0. Give all machines the same command, "
            "and the capture in a folder that they share.",
        ),
    )


def check_views(views_per_step: int, ranks: Ranks) -> None:
    """InputError where a step has too few views for every process."""
    if views_per_step < ranks.size:
        raise InputError(
            "TRN-053",
            f"{ranks.size} processes share the views of a step, and views_per_step is {views_per_step}. Start at most "
            f"{views_per_step}, or give --views-per-step {ranks.size}.",
        )


def check_resumed(ranks: Ranks, iteration: int) -> None:
    """InputError where a process did not find the checkpoint that another one continues from."""
    ranks.check_same(
        str(iteration),
        lambda rank: InputError(
            "TRN-055",
            f"Process {rank} and process 0 do not see the same checkpoint. Put it in a folder that all machines share.",
        ),
    )


def check_same_state(ranks: Ranks, iteration: int, trained: Mapping[str, Tensor]) -> None:
    """InputError where the trained tensors of a process differ from those of process 0 in any bit."""
    if ranks.size > 1:
        ranks.check_same(
            fingerprint_of(*trained.values()),
            lambda rank: InputError(
                "TRN-056",
                f"After step {iteration}, process {rank} has another state than process 0, so the run stopped without saving. "
                "Use the same type of GPU for all processes.",
            ),
        )


def all_infos(
    ranks: Ranks, own: list[Info], mine: list[int], groups: list[list[int]], rig: Cameras, count: int
) -> list[Info]:
    """What one process would know of a step's renderings: those of all ranks.

    Args:
        ranks: The ranks.
        own: Of this rank's views, grouped by image size.
        mine: This rank's views.
        groups: All views of the step, grouped by image size.
        rig: The cameras.
        count: Gaussians.

    Returns:
        One entry for each group.
    """
    if ranks.size == 1:
        return own
    sizes = [rig.sizes[group[0]] for group in groups]
    # gradient, radius and mean, [views, N, 5]
    shared = [torch.zeros(len(group), count, 5, device=ranks.device) for group in groups]
    for info, *size in own:
        place = sizes.index((size[0], size[1]))
        rows = [row for row, view in enumerate(groups[place]) if view in mine]
        values = (info.means2d_gradient, info.radii[..., None], info.means2d)
        shared[place][rows] = torch.cat([v.to(ranks.device, torch.float32) for v in values], dim=-1)
    for tensor in shared:
        ranks.sum(tensor)
    return [
        (RasterInfo(t[..., 3:], t[..., 2].to(torch.int32), [t[..., :2]]), *size)
        for t, size in zip(shared, sizes, strict=True)
    ]
