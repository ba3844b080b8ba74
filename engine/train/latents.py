"""Optimizing a latent field: what training and editing have in common (ED-NeRF, Park et al., ICLR 2024).

The parameters are the features, the latent background and, optionally, the refinement layer and the geometry; subclasses
define the loss. The deformation is frozen. Random numbers come from one seeded generator, so that a resumed run
ends on the CPU with the same bits.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..latent import FieldRenderer, LatentField
from ..lru import LruCache
from ..models.latent_refiner import LatentRefiner
from ..scene import Gaussians, Selection
from .draws import generator_at
from .latent_config import LatentConfig
from .motion import freeze
from .originals import Pair
from .parameter_groups import ParameterGroups
from .stage import Part, TrainStage

GEOMETRY = ("means", "log_scales", "quats", "logit_opacities")


class LatentOptimization(TrainStage):
    """A stage whose parameters are those of a latent field.

    A `selection` limits it: features (and geometry) of a Gaussian of weight 0 keep their values bit for bit, one of
    weight w takes w of every step. Raises InputError where the selection is of another scene.
    """

    def __init__(
        self,
        start: LatentField,  # whose refiner, where it has one, may learn
        config: LatentConfig,
        selection: Selection | None,
        device: torch.device | str,
        trains_background: bool,
        trains_refiner: bool,
        trains_geometry: bool,
        optimizer: str = "adam",
    ) -> None:
        if selection is not None:
            selection.check(len(start.scene.canonical))
        super().__init__(config, selection, device)
        self.before, self.config = start, config
        self.field = start.to(self.device)
        self.renderer = FieldRenderer(self.field, self.rasterizer)
        self.refiner: LatentRefiner | None = copy.deepcopy(self.field.refiner)
        own = {"features": self.field.features}
        if trains_background:
            own["background"] = self.field.background
        if trains_geometry:
            own |= {name: getattr(self.field.scene.canonical, name) for name in GEOMETRY}
        self.moves = trains_geometry
        # a copy: the input's own deformation stays as it is
        freeze(self.field.scene.deformation)
        groups = {name: {name: nn.Parameter(t.detach().clone())} for name, t in own.items()}
        if self.refiner is not None:
            self.refiner.requires_grad_(trains_refiner)
            if trains_refiner:
                groups["refiner"] = dict(self.refiner.named_parameters())
        self.learned = ParameterGroups(groups, optimizer)
        self.per_gaussian = ("features", *(GEOMETRY if trains_geometry else ()))
        self.constrain()

    def __len__(self) -> int:
        return len(self.field.scene.canonical)

    @abstractmethod
    def rates(self) -> dict[str, float]:
        """Learning rates now, of every group."""

    # -- what a step uses ---------------------------------------------------------------------------------------------

    def gaussians_at(self, seconds: float) -> Gaussians:
        """The Gaussians at a time: differentiable where geometry learns, else kept from call to call."""
        if not self.moves:
            return self.renderer.gaussians(seconds)
        scene = self.field.scene
        moved = scene.canonical.with_(**{name: self.learned[name] for name in GEOMETRY})
        return scene.deformation.deform(moved, seconds)

    def drawn(self, views: Sequence[int], seconds: float) -> tuple[Tensor, Tensor]:
        """Unrefined latents [B, C, h, w] with gradients, and coverage [B, h, w]."""
        background = self.learned["background"] if "background" in self.learned else None
        return self.renderer.draw(views, self.gaussians_at(seconds), self.learned["features"], background)

    def refined(self, latents: Tensor) -> Tensor:
        """[B, C, h, w] through the refinement layer, one at a time, so that the bits of one image do not
        depend on the others in the batch: where nothing was edited, they equal those of the unedited field."""
        if self.refiner is None:
            return latents
        return torch.cat([self.refiner(one) for one in latents.split(1)])

    def draw_pairs(
        self, pairs: Sequence[Pair], moments: dict[int, list[int]], step: int
    ) -> tuple[int, list[int]]:
        """The frame of a random pair, and up to `images_per_step` of its views: they share the cost of the motion."""
        generator = generator_at(self.config.seed, step)
        view, moment = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        others = [v for v in moments[moment] if v != view]
        order = torch.randperm(len(others), generator=generator)[: self.config.images_per_step - 1]
        return moment, [view, *(others[i] for i in order.tolist())]

    def learn(self) -> None:
        """One optimizer step after `backward`."""
        self.learned.set_rates(self.rates())
        with self.constrained():
            self.learned.step()
        self.iteration += 1

    def learning(self) -> dict[str, Tensor]:
        """What every Gaussian has of its own and learns."""
        return {name: self.learned[name] for name in self.per_gaussian}

    def trained(self) -> dict[str, Tensor]:
        """Features, and whatever else learns."""
        return self.learned.values()

    # -- the end ------------------------------------------------------------------------------------------------------

    def result(self) -> LatentField:
        """The field on the device where the input is; its motion is the input's own object."""
        home = self.before.scene.device

        def made(name: str, otherwise: Tensor) -> Tensor:
            return self.learned[name].detach().clone().to(home) if name in self.learned else otherwise

        scene = self.before.scene
        if self.moves:
            scene = scene.with_(
                canonical=scene.canonical.with_(
                    **{name: made(name, getattr(scene.canonical, name)) for name in GEOMETRY}
                )
            )
        refiner = self.before.refiner
        if "refiner" in self.learned:
            refiner = copy.deepcopy(self.refiner)
            assert refiner is not None
            refiner.requires_grad_(False).to(home)
        return self.before.with_(
            scene=scene.with_history(self.step_name, **self.entry()),
            features=made("features", self.before.features),
            background=made("background", self.before.background),
            refiner=refiner,
        )

    def inputs(self) -> list[Any]:
        return [self.before]

    def parts(self) -> dict[str, Part]:
        return {"learned": self.learned}


def views_by_moment(pairs: Sequence[Pair]) -> dict[int, list[int]]:
    """The views of each frame, in the order of the pairs."""
    result: dict[int, list[int]] = {}
    for view, moment in pairs:
        result.setdefault(moment, []).append(view)
    return result


def tensor_cache(
    make: Callable[[Pair], Tensor] | None = None, megabytes: int = 128
) -> LruCache[Pair, Tensor]:
    """Tensors of (view, frame) pairs made on demand; the last of them are kept."""
    return LruCache(megabytes * 1_000_000, lambda tensor: tensor.nbytes, make, at_least=1)
