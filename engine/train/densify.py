"""Density control: strategy objects that a training loop calls (the interface follows gsplat's strategies).

A strategy holds constants only; what changes during training is in the `state` dictionary that the caller keeps and saves.

Strategies change Gaussians through `GaussianParameters`, which records each one's parent, and never change those marked
as held there.

* `DefaultStrategy`: clone, split, prune and reset by view-space gradients (Kerbl et al. 2023, section 5.2; numbers of
  4D Gaussian Splatting, Wu et al. 2024).
* `MCMCStrategy`: dead Gaussians move to where living ones are, the count grows to a budget and stays there, and noise
  explores (Kheradmand et al. 2024, "3D Gaussian Splatting as Markov Chain Monte Carlo", equations 8 and 9).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..render.rasterizer import RasterInfo
from ..scene import rotations
from . import exploration
from .parameters import GaussianParameters, Lineage

State = dict[str, Tensor]


class DensityStrategy(Protocol):
    # whether `after_step` looks at the renderings
    reads_infos: ClassVar[bool]

    @property
    def stop_at(self) -> float:
        """Fraction of the stage after which the Gaussians stay."""
        ...

    def start(self, count: int, device: torch.device) -> State:
        """The state before the first iteration."""
        ...

    def penalty(self, parameters: GaussianParameters) -> Tensor | None:
        """A term added to the loss, or None."""
        ...

    def after_step(
        self,
        parameters: GaussianParameters,
        state: State,
        infos: list[tuple[RasterInfo, int, int]],
        iteration: int,
        iterations: int,
        generator: torch.Generator,
    ) -> None:
        """Called once per iteration, after the optimizers stepped. May change the number of Gaussians.

        `infos` are each render's info and image (width, height), after `backward`.
        """
        ...


class DensityControl:
    """A strategy and its state: the training calls it after each step and stores it in the checkpoint."""

    def __init__(self, strategy: DensityStrategy, parameters: GaussianParameters) -> None:
        self.strategy, self.device = strategy, parameters.tensors["means"].device
        self.values = strategy.start(len(parameters), self.device)

    def after_step(
        self,
        parameters: GaussianParameters,
        infos: list[tuple[RasterInfo, int, int]],
        iteration: int,
        iterations: int,
        generator: torch.Generator,
        position_rate: float = 0.0,  # of this step
    ) -> Lineage | None:
        """As the strategy's; returns the lineage of the change, None where nothing was added, removed or relocated."""
        if "position_rate" in self.values:
            self.values["position_rate"] = torch.tensor(position_rate)
        self.strategy.after_step(parameters, self.values, infos, iteration, iterations, generator)
        return parameters.drain_lineage()

    def rows(self) -> dict[str, int | None]:
        """The axis with one entry for each Gaussian, of what `state` holds."""
        return {name: 0 for name, value in self.values.items() if value.ndim}

    def state(self) -> State:
        return dict(self.values)

    def load_state(self, state: State) -> None:
        # lone numbers stay on the CPU
        self.values = {name: t if t.ndim == 0 else t.to(self.device) for name, t in state.items()}


@dataclass(frozen=True)
class DefaultStrategy:
    extent: float  # world units: what "large" is measured against
    gradient_threshold: float = 2e-4  # mean norm of dLoss/d(screen position), in half images
    large: float = 0.01  # of extent: below it a Gaussian is cloned, above it split
    prune_opacity: float = 0.005
    prune_large: float = 0.1  # of extent
    every: int = 100
    start_at: float = 0.05  # fraction of the stage
    stop_at: float = 0.6
    reset_every: int = 0  # iterations between opacity resets; 0 = never (4DGS's choice for real captures)
    most: int = 360_000  # no growth beyond
    reads_infos: ClassVar[bool] = True

    def start(self, count: int, device: torch.device) -> State:
        return {"gradient": torch.zeros(count, device=device), "seen": torch.zeros(count, device=device)}

    def penalty(self, parameters: GaussianParameters) -> Tensor | None:
        return None

    @torch.no_grad()
    def after_step(
        self,
        parameters: GaussianParameters,
        state: State,
        infos: list[tuple[RasterInfo, int, int]],
        iteration: int,
        iterations: int,
        generator: torch.Generator,
    ) -> None:
        progress = iteration / iterations
        if progress > self.stop_at:
            return
        views = sum(info.radii.shape[0] for info, _, _ in infos)
        for info, width, height in infos:
            # the loss is a mean over views: undo that, and measure in half image sizes as 3DGS does
            half_picture = torch.tensor([width / 2 * views, height / 2 * views])
            half_picture = half_picture.to(info.radii.device, non_blocking=True)
            # [B, N]
            norms = (info.means2d_gradient * half_picture).norm(dim=-1)
            state["gradient"] += torch.where(info.visible, norms, 0).sum(0)
            state["seen"] += info.visible.sum(0)
        if progress < self.start_at or iteration % self.every:
            return
        self._grow(parameters, state, generator)
        opacity = parameters.tensors["logit_opacities"].sigmoid()
        size = parameters.tensors["log_scales"].exp().amax(dim=-1)
        # NaN is neither: it stays, so that the run notices it
        pruned = (opacity <= self.prune_opacity) | (size >= self.prune_large * self.extent)
        keep = ~pruned | parameters.held
        keep = parameters.without_empty_groups(keep)
        if bool(keep.any()) and not bool(keep.all()):
            parameters.keep(keep.nonzero().flatten())
        state.update(self.start(len(parameters), opacity.device))
        if self.reset_every and iteration % self.reset_every == 0:
            ceiling = math.log(0.01 / 0.99)
            free = (~parameters.held).nonzero().flatten()
            logits = parameters.tensors["logit_opacities"][free].clamp(max=ceiling)
            parameters.overwrite("logit_opacities", free, logits)

    def _grow(self, parameters: GaussianParameters, state: State, generator: torch.Generator) -> None:
        if len(parameters) >= self.most:
            return
        gradient = state["gradient"] / state["seen"].clamp(min=1)
        wanted = (gradient > self.gradient_threshold) & ~parameters.held
        size = parameters.tensors["log_scales"].exp().amax(dim=-1)
        clone = (wanted & (size <= self.large * self.extent)).nonzero().flatten()
        split = (wanted & (size > self.large * self.extent)).nonzero().flatten()
        new, parents = parameters.at(clone), clone
        if len(split):
            halves = {name: t.repeat(2, *[1] * (t.ndim - 1)) for name, t in parameters.at(split).items()}
            noise = torch.randn(halves["means"].shape, generator=generator).to(halves["means"])
            offsets = (
                rotations.quats_to_matrices(halves["quats"]) @ (noise * halves["log_scales"].exp())[..., None]
            )
            halves["means"] = halves["means"] + offsets[..., 0]
            halves["log_scales"] = halves["log_scales"] - math.log(1.6)
            new = {name: torch.cat([new[name], halves[name]]) for name in new}
            parents = torch.cat([clone, split, split])
        if len(parents):
            parameters.append(new, parents)
        if len(split):
            stay = torch.ones(len(parameters), dtype=torch.bool, device=size.device)
            stay[split] = False
            parameters.keep(stay.nonzero().flatten())


@dataclass(frozen=True)
class MCMCStrategy:
    budget: int  # Gaussians in the end
    noise: float = 5e5  # times the position rate (set by the loop through "position_rate" in state)
    growth: float = 1.05  # per visit
    dead_opacity: float = 0.005
    every: int = 100
    start_at: float = 0.03
    stop_at: float = 0.8
    # a tenth of the paper's 0.01, whose scenes fill the image; here a subject may cover a tenth of it
    opacity_penalty: float = 0.001
    scale_penalty: float = 0.001
    # world units: the scale penalty is relative to it and does not depend on the units
    extent: float = 1.0
    reads_infos: ClassVar[bool] = False

    def start(self, count: int, device: torch.device) -> State:
        return {"position_rate": torch.zeros(())}

    def penalty(self, parameters: GaussianParameters) -> Tensor | None:
        opacity = parameters.tensors["logit_opacities"].sigmoid().mean()
        scale = parameters.tensors["log_scales"].exp().mean() / self.extent
        return self.opacity_penalty * opacity + self.scale_penalty * scale

    @torch.no_grad()
    def after_step(
        self,
        parameters: GaussianParameters,
        state: State,
        infos: list[tuple[RasterInfo, int, int]],
        iteration: int,
        iterations: int,
        generator: torch.Generator,
    ) -> None:
        progress = iteration / iterations
        if progress > self.stop_at:
            return
        if progress >= self.start_at and iteration % self.every == 0:
            opacity = parameters.tensors["logit_opacities"].sigmoid()
            living, free = opacity > self.dead_opacity, ~parameters.held
            dead = (~parameters.without_empty_groups(living) & free).nonzero().flatten()
            if len(dead) and bool((living & free).any()):
                self._relocate(parameters, dead, generator)
            room = min(self.budget, int(len(parameters) * self.growth) + 1) - len(parameters)
            if room > 0 and bool(free.any()):
                self._add(parameters, room, generator)
        self._explore(parameters, float(state["position_rate"]), generator)

    def _share(self, parameters: GaussianParameters, parents: Tensor) -> tuple[Tensor, Tensor]:
        """(logit opacities, log scales) that let each parent and its copies together look as the parent alone did."""
        opacity = parameters.tensors["logit_opacities"].sigmoid()
        # children, and the parent itself
        copies = torch.bincount(parents, minlength=len(opacity))[parents] + 1
        new_opacity, shrink = shared_opacity_and_scale(opacity[parents], copies)
        new_opacity = new_opacity.clamp(self.dead_opacity, 1 - 1e-6)
        return new_opacity.logit(), parameters.tensors["log_scales"][parents] + shrink.log()[:, None]

    def _parents(
        self, parameters: GaussianParameters, opacity: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        opacity = torch.where(parameters.held, 0, opacity)
        return torch.multinomial(opacity.cpu(), count, replacement=True, generator=generator).to(
            opacity.device
        )

    def _relocate(self, parameters: GaussianParameters, dead: Tensor, generator: torch.Generator) -> None:
        opacity = parameters.tensors["logit_opacities"].sigmoid().clone()
        opacity[dead] = 0
        parents = self._parents(parameters, opacity, len(dead), generator)
        logits, scales = self._share(parameters, parents)
        parameters.relocate(dead, parents)
        for index in (dead, parents):
            parameters.overwrite("logit_opacities", index, logits)
            parameters.overwrite("log_scales", index, scales)

    def _add(self, parameters: GaussianParameters, count: int, generator: torch.Generator) -> None:
        opacity = parameters.tensors["logit_opacities"].sigmoid()
        parents = self._parents(parameters, opacity, count, generator)
        logits, scales = self._share(parameters, parents)
        parameters.overwrite("logit_opacities", parents, logits)
        parameters.overwrite("log_scales", parents, scales)
        parameters.append(parameters.at(parents), parents)

    def _explore(self, parameters: GaussianParameters, rate: float, generator: torch.Generator) -> None:
        """Noise shaped like each Gaussian, strong only where opacity is low (equation 8)."""
        tensors = parameters.tensors
        shift = exploration.shift(tensors, parameters.held, self.noise * rate, self.dead_opacity, generator)
        tensors["means"].add_(shift)


def strategy_for(name: str, budget: int, unit: float) -> DensityStrategy | None:
    """The strategy of the training's `density` option; None for "none".

    Args:
        name: "fixed budget", "adaptive" or "none".
        budget: Gaussians at most.
        unit: Size of one unit of positions in the normalized world.
    """
    if name == "none":
        return None
    if name == "adaptive":
        return DefaultStrategy(extent=1 / unit, most=budget)
    strategy = MCMCStrategy(budget=budget, extent=1 / unit)
    return replace(strategy, noise=strategy.noise * unit**2)


def shared_opacity_and_scale(opacity: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """(opacity [M], scale factor [M]) of each of `copies` [M] equal Gaussians that replace one of `opacity` [M].

    Kheradmand et al. 2024, equation 9: opacity 1 − (1 − o)^(1/n); scale o / Σᵢ Σₖ C(i−1, k) (−1)ᵏ õᵏ⁺¹ / √(k+1).
    """
    copies = copies.clamp(max=51)
    shared = 1 - (1 - opacity).pow(1 / copies)
    total = torch.zeros_like(opacity, dtype=torch.float64)
    most = int(copies.max()) if len(copies) else 0
    base = shared.double()
    for i in range(1, most + 1):
        inner = torch.zeros_like(total)
        for k in range(i):
            inner += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * base ** (k + 1)
        total += torch.where(copies >= i, inner, 0)
    return shared, (opacity.double() / total.clamp(min=1e-12)).to(opacity)
