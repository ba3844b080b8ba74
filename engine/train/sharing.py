"""How the processes of a training share a step: who renders which views of which Gaussians, and which sums they need.

* `Sharing`: each has all Gaussians and renders some of the views; the way of one process, too.
* `Sharding`: each has some of the Gaussians, receives the others for the step, and renders some of the views.
* `ProjectedSharding`: each has some of the Gaussians, and the rasterizer exchanges projected ones only (gsplat).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..render import DividedRasterizer, Picture, RasterInfo, Rasterizer, render_divided, render_gaussians
from ..scene import Cameras, Gaussians
from .averaging import Averages
from .densify import DensityControl
from .draws import generator_at
from .fit_order import by_size
from .motion import TrainableMotion, on_cpu
from .parameters import GaussianParameters
from .ranked import Info, all_infos, check_same_state, optimized
from .ranks import Ranks
from .shards import RowAxes, Shards
from .support import Support

# what computes a term of the loss, and whether it is a mean over Gaussians
Terms = list[tuple[Callable[[], Tensor | None], bool]]


@dataclass(frozen=True)
class Group:
    """Views of one image size.

    Attributes:
        views: Those that this process renders and compares.
        padding: Views that it renders so that all processes render as many.
        every: Those of all processes.
    """

    views: list[int]
    every: list[int]
    padding: int = 0


class Sharing:
    """Each process has all Gaussians and renders some of the views of a step.

    Attributes:
        note: One line about it; "" where there is nothing to say.
    """

    note = ""

    def __init__(self, ranks: Ranks, rasterizer: Rasterizer) -> None:
        self.ranks, self.rasterizer = ranks, rasterizer

    @property
    def rows(self) -> slice:
        """This process's rows of the Gaussians of all."""
        return slice(None)

    def total(self, count: int) -> int:
        """Gaussians of all processes, of which this one has `count`."""
        return count

    def part(self, count: int) -> int:
        """How much of a number of Gaussians is this process's."""
        return count

    def generator(self, common: torch.Generator, seed: int, step: int) -> torch.Generator:
        """The random numbers of density control: `common` ones, where all processes have the same Gaussians."""
        return common

    def groups(self, rig: Cameras, views: list[int]) -> list[Group]:
        """A step's views, of which each process renders some, grouped by image size."""
        mine = self.ranks.share(views)
        every = {rig.sizes[group[0]]: group for group in by_size(rig, views)}
        return [Group(group, every[rig.sizes[group[0]]]) for group in by_size(rig, mine)]

    def shown(self, gaussians: Gaussians) -> Gaussians:
        """What `render` takes, from this process's Gaussians at a frame."""
        return gaussians

    def whole(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians of all processes, from this process's."""
        return gaussians

    def render(
        self, shown: Gaussians, rig: Cameras, group: Group, background: Tensor, **more: Any
    ) -> Picture:
        """The group's views; `more` as of `render_gaussians`."""
        return render_gaussians(shown, rig[group.views], self.rasterizer, background, **more)

    def completed(self, loss: Tensor, terms: Terms) -> Tensor:
        """The loss of this process's views, with terms that belong to no view; they count once.

        Args:
            loss: [].
            terms: What computes each, and whether it is a mean over Gaussians.
        """
        for compute, is_mean in terms:
            weight = self._weight(is_mean)
            term = compute() if weight else None
            if term is not None:
                loss = loss + (term if weight == 1 else weight * term)
        return loss

    def _weight(self, is_mean: bool) -> float:
        return float(self.ranks.leads)

    def summed(self, parameters: GaussianParameters, motion: TrainableMotion | None) -> list[Tensor]:
        """The tensors whose gradients are sums over the processes."""
        return optimized(parameters, motion)

    def infos(self, own: list[Info], views: list[int], rig: Cameras, count: int) -> list[Info]:
        """What density control measures on the images of all processes, for the `count` Gaussians of this one."""
        return all_infos(self.ranks, own, self.ranks.share(views), by_size(rig, views), rig, count)

    def settle(self, count: int, changed: bool) -> bool:
        """After density control: whether any process changed its Gaussians, of which this one has `count` now."""
        return changed

    def check(self, iteration: int, parameters: GaussianParameters, motion: TrainableMotion | None) -> None:
        """InputError where processes differ in what they share."""
        moving = {} if motion is None else motion.trained()
        check_same_state(self.ranks, iteration, {**parameters.tensors, **moving})

    def collected(self, tensor: Tensor | None, axis: int) -> Tensor:
        """The rows of all processes, on the CPU of the one that writes files; see `motion.Collected`."""
        return on_cpu(tensor, axis)

    def state(self, tensors: dict[str, Tensor], axes: RowAxes) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A checkpoint's tensors and further numbers, from those of this process; `axes` as in `Shards`."""
        return tensors, {}

    def own_state(
        self, tensors: dict[str, Tensor], axes: RowAxes, numbers: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """This process's part of a checkpoint's tensors."""
        return tensors


class Sharding(Sharing):
    """Each process has some of the Gaussians; for each step, it receives the others and renders some of the views."""

    def __init__(self, ranks: Ranks, rasterizer: Rasterizer, count: int) -> None:
        super().__init__(ranks, rasterizer)
        self.shards = Shards(ranks, count)
        # exchanged in this step: every process's gradient has to pass through all of them
        self._exchanged: list[Tensor] = []
        self.note = f"Gaussians are divided among {ranks.size} processes"

    @property
    def rows(self) -> slice:
        return self.shards.rows

    def total(self, count: int) -> int:
        return self.shards.total

    def part(self, count: int) -> int:
        size = self.ranks.size
        return (count + size - 1 - self.ranks.rank) // size

    def generator(self, common: torch.Generator, seed: int, step: int) -> torch.Generator:
        # processes draw different amounts, so that common numbers would not stay common
        return generator_at(seed, step, self.ranks.rank)

    def shown(self, gaussians: Gaussians) -> Gaussians:
        every = self.whole(gaussians)
        self._exchanged.append(every.means)
        return every

    def whole(self, gaussians: Gaussians) -> Gaussians:
        return self.shards.whole(gaussians)

    def completed(self, loss: Tensor, terms: Terms) -> Tensor:
        # without elements, and so 0: a process without views must exchange its gradients too
        ties = [tensor.flatten()[:0].sum() for tensor in self._exchanged]
        self._exchanged = []
        return super().completed(sum(ties, loss), terms)

    def _weight(self, is_mean: bool) -> float:
        return self.shards.own / self.shards.total if is_mean else super()._weight(is_mean)

    def summed(self, parameters: GaussianParameters, motion: TrainableMotion | None) -> list[Tensor]:
        return [] if motion is None or motion.row_axis is not None else motion.optimized()

    def infos(self, own: list[Info], views: list[int], rig: Cameras, count: int) -> list[Info]:
        every = super().infos(own, views, rig, self.shards.total)
        return [(_rows_of(info, self.rows), width, height) for info, width, height in every]

    def settle(self, count: int, changed: bool) -> bool:
        return self.shards.refresh(count, changed)

    def check(self, iteration: int, parameters: GaussianParameters, motion: TrainableMotion | None) -> None:
        if motion is not None and motion.row_axis is None:
            check_same_state(self.ranks, iteration, motion.trained())

    def collected(self, tensor: Tensor | None, axis: int) -> Tensor:
        own = torch.zeros(self.shards.own, dtype=torch.bool) if tensor is None else tensor
        return self.shards.collected(own, axis)

    def state(self, tensors: dict[str, Tensor], axes: RowAxes) -> tuple[dict[str, Tensor], dict[str, Any]]:
        known = self.shards.has_any([name in tensors for name in axes])
        for (name, axis), is_there in zip(axes.items(), known, strict=True):
            if axis is None:
                tensors.pop(name, None)
            elif is_there:
                tensors[name] = self.collected(tensors.get(name), axis)
        return tensors, {"shards": self.shards.counts}

    def own_state(
        self, tensors: dict[str, Tensor], axes: RowAxes, numbers: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        counts = [int(count) for count in numbers.get("shards", ())]
        own = {name: tensor for name, tensor in tensors.items() if name not in axes}
        for name, axis in axes.items():
            # without an axis: one process may have kept it, and it fits the rows of all only
            if axis is not None and name in tensors:
                own[name] = self.shards.divided(tensors[name], axis, counts)
        return own


class ProjectedSharding(Sharding):
    """Each process has some of the Gaussians and projects them into all views; the rasterizer exchanges the projected ones."""

    def __init__(self, ranks: Ranks, rasterizer: Rasterizer, count: int) -> None:
        super().__init__(ranks, rasterizer, count)
        self.note += f"; {rasterizer.name} exchanges projected Gaussians"

    def groups(self, rig: Cameras, views: list[int]) -> list[Group]:
        # all processes render as many views of each size, and as many times
        found: list[Group] = []
        for every in by_size(rig, views):
            mine = self.ranks.share(every)
            found.append(Group(mine, every, -(-len(every) // self.ranks.size) - len(mine)))
        return found

    def shown(self, gaussians: Gaussians) -> Gaussians:
        return gaussians

    def render(
        self, shown: Gaussians, rig: Cameras, group: Group, background: Tensor, **more: Any
    ) -> Picture:
        assert isinstance(self.rasterizer, DividedRasterizer)
        cameras = rig[[*group.views, *group.every[:1] * group.padding]]
        drawn = render_divided(shown, cameras, self.rasterizer, background, **more)
        self._exchanged.append(drawn.alpha)
        count = len(group.views)
        depth = None if drawn.depth is None else drawn.depth[:count]
        return Picture(drawn.rgb[:count], drawn.alpha[:count], depth, None, drawn.info)

    def infos(self, own: list[Info], views: list[int], rig: Cameras, count: int) -> list[Info]:
        # complete but for padding: gradients came back to the process that has the Gaussian, of all processes' views in order
        groups = self.groups(rig, views)
        return [
            (self._counted(info, group), width, height)
            for (info, width, height), group in zip(own, groups, strict=True)
        ]

    def _counted(self, info: RasterInfo, group: Group) -> RasterInfo:
        size, per_rank = self.ranks.size, len(group.views) + group.padding
        index = [per_rank * r + i for r in range(size) for i in range(len(group.every[r::size]))]
        return RasterInfo(info.means2d[index], info.radii[index], [g[index] for g in info.gradient])


def sharing_for(ranks: Ranks, rasterizer: Rasterizer, count: int, needs_flow: bool) -> Sharing:
    """How this training is shared.

    Args:
        ranks: The ranks.
        rasterizer: From `choose`.
        count: Gaussians of this process at the start.
        needs_flow: Whether images of motion are rendered, which no rasterizer exchanges projected Gaussians for.
    """
    if not ranks.is_sharded:
        return Sharing(ranks, rasterizer)
    if isinstance(rasterizer, DividedRasterizer) and not needs_flow:
        return ProjectedSharding(ranks, rasterizer, count)
    return Sharding(ranks, rasterizer, count)


def row_axes(
    parameters: GaussianParameters,
    motion: TrainableMotion | None,
    density: DensityControl | None,
    support: Support,
    averages: Averages,
) -> RowAxes:
    """What a training's checkpoint holds for each Gaussian: the axis of each tensor."""
    trained: dict[str, int | None] = dict.fromkeys(parameters.tensors, 0)
    parts: dict[str, RowAxes] = {"gaussians": parameters.rows(), "support": support.rows()}
    if density is not None:
        parts["density"] = density.rows()
    if motion is not None:
        parts["motion"] = motion.rows() or {}
        trained |= dict.fromkeys(motion.trained(), motion.row_axis)
    parts["averages"] = averages.rows(trained)
    return {f"{part}.{name}": axis for part, axes in parts.items() for name, axis in axes.items()}


def _rows_of(info: RasterInfo, rows: slice) -> RasterInfo:
    return RasterInfo(info.means2d[:, rows], info.radii[:, rows], [g[:, rows] for g in info.gradient])
