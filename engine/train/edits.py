"""Editing a moving scene through its canonical Gaussians, with a frozen deformation (Instruct-4DGS, section 3.3).

Kwon, Cho and Kim, CVPR 2025. The canonical Gaussians are the only parameters, so an edit of one frame shows in all frames,
at a cost that does not depend on their number. Gradients still flow through the frozen deformation into the positions. Both
stages share this module and differ only in their loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..deform import freeze_appearance
from ..errors import InputError
from ..render import RasterInfo
from ..scene import Deformation, Gaussians, Scene4D, Selection
from .densify import DefaultStrategy, DensityControl
from .edit_config import PRESETS, EditConfig
from .motion import TrainableMotion, freeze
from .motions import can_train, trainer_of
from .parameters import GaussianParameters, Lineage
from .schedule import log_linear
from .stage import Part, TrainStage

# the reference code grows from step 600 of 1000 on, every 100 (and prunes only beyond 200,000 Gaussians: here never);
# Gaussians added at the last step would not be fitted, so none are
DENSITY = DefaultStrategy(
    extent=1.0, every=100, start_at=0.6, stop_at=0.999, prune_opacity=-1.0, prune_large=float("inf")
)


class CanonicalEdit(TrainStage):
    """A stage whose parameters are canonical Gaussians; subclasses define the loss of a step.

    A `selection` restricts it: a Gaussian of weight 0 keeps its values bit for bit, one of weight w takes w of every step
    (it follows the edit more slowly, and its neighbors fit around it). Where density control adds Gaussians, each inherits
    its parent's weight and motion. Raises InputError where the selection is of another scene, or where the deformation
    cannot be trained as the config demands.
    """

    def __init__(
        self,
        scene: Scene4D,
        config: EditConfig,
        selection: Selection | None,
        device: torch.device | str,
        densifies: bool = False,
    ) -> None:
        _check(scene, config, selection)
        super().__init__(config, selection, device)
        self.before, self.config = scene, config
        self.background = scene.background.to(self.device)
        self.extent = float((scene.bounds[1] - scene.bounds[0]).norm() / 2)
        self.names = PRESETS[config.preset]
        first = scene.canonical.map(lambda t: t.detach().to(self.device))
        self.parameters = GaussianParameters(first, self._rates(0.0))
        self._freeze()
        deformation = scene.deformation.to(self.device)
        self.first_deformation: Deformation = (
            freeze_appearance(deformation) if config.mutes_appearance else deformation
        )
        self.deformation = self.first_deformation
        self.motion = self._motion()
        self.density: DensityControl | None = None
        if densifies:
            strategy = replace(DENSITY, extent=self.extent)
            self.density = DensityControl(strategy, self.parameters)
        # [N] the input's Gaussian that each one descends from
        self.origin = torch.arange(len(first), device=self.device)
        self.constrain(self.origin)

    def __len__(self) -> int:
        return len(self.parameters)

    # -- what a step uses ---------------------------------------------------------------------------------------------

    def gaussians_at(self, seconds: float) -> Gaussians:
        """The edited Gaussians at a time in seconds, differentiable in the canonical ones."""
        return self.deformation.deform(self.parameters.gaussians(), seconds)

    def motion_loss(self) -> Tensor | None:
        """The deformation's own loss; None where it is frozen."""
        return None if self.motion is None else self.motion.loss()

    def learn(self, infos: list[tuple[RasterInfo, int, int]]) -> None:
        """One optimizer step after `backward`; `infos` are the renders' infos and image sizes."""
        self.parameters.set_rates(self._rates(self.progress))
        if self.motion is not None:
            self.motion.step(self.progress)
        with self.constrained():
            self.parameters.step()
        self.iteration += 1
        if self.density is not None:
            change = self.density.after_step(
                self.parameters, infos, self.iteration, self.config.iterations, self.generator
            )
            if change is not None:
                self._follow(change)
        if self.motion is not None:
            self.motion.after_step(self.parameters, self.iteration, self.progress)

    def _follow(self, change: Lineage) -> None:
        """Deformation and selection follow Gaussians that were added, removed or relocated."""
        self.origin = self.origin[change.parents]
        self.deformation = self.deformation.take(change.parents)
        if self.motion is not None:
            self.motion.after_density(change, self.deformation.trainable())
        self._freeze()
        self.constrain(self.origin)

    def constrain(self, origin: Tensor | None = None) -> None:
        super().constrain(origin)
        if self.constraint is not None:
            self.parameters.held[self.constraint.held] = True

    def learning(self) -> dict[str, Tensor]:
        """The tensors that the preset changes."""
        return {name: self.parameters.tensors[name] for name in self.names}

    def trained(self) -> dict[str, Tensor]:
        """The Gaussians' tensors, and the motion field's where it is trained."""
        return {**self.parameters.tensors, **({} if self.motion is None else self.motion.trained())}

    def _rates(self, progress: float) -> dict[str, float]:
        """Positions' rate falls to a hundredth as in 3DGS; the others' to a tenth in the second half."""
        c, position = self.config, self.config.position_lr * self.extent

        def falling(rate: float) -> float:
            return log_linear(rate, rate * 0.1, 2 * progress - 1) if rate else 0.0

        return {
            "means": log_linear(position, position * 0.01, progress) if position else 0.0,
            "log_scales": falling(c.scale_lr),
            "quats": falling(c.rotation_lr),
            "logit_opacities": falling(c.opacity_lr),
            "sh_dc": falling(c.color_lr),
            "sh_rest": falling(c.color_lr / 20),
        }

    def _freeze(self) -> None:
        """Disable gradients of the tensors that the preset does not optimize."""
        for name, tensor in self.parameters.tensors.items():
            tensor.requires_grad_(name in self.names)

    def _motion(self) -> TrainableMotion | None:
        """The trainer of the deformation; None where it is frozen."""
        if self.config.trains_deformation:
            return trainer_of(self.deformation, self.before.times)
        freeze(self.deformation)
        return None

    # -- the end ------------------------------------------------------------------------------------------------------

    def result(self) -> Scene4D:
        """The edited scene on the device where the input scene is; its deformation is the input's own object."""
        scene, home = self.before, self.before.device
        edited = self.parameters.detached()
        wanted = {"sh" if name.startswith("sh_") else name for name in self.names}
        # densification changed the count, so every tensor has a new length
        if self.density is not None:
            wanted = set(edited.tensors())
        changed = {name: t.to(home) for name, t in edited.tensors().items() if name in wanted}
        deformation = (
            scene.deformation if self.density is None else scene.deformation.take(self.origin.to(home))
        )
        if self.motion is not None:
            deformation = self.deformation.to(home)
        elif self.config.mutes_appearance:
            deformation = freeze_appearance(deformation)
        result = scene.with_(canonical=scene.canonical.with_(**changed), deformation=deformation)
        return result.with_history(self.step_name, **self.entry(), gaussians=len(result.canonical))

    # -- the checkpoint -----------------------------------------------------------------------------------------------

    def inputs(self) -> list[Any]:
        return [self.before]

    def parts(self) -> dict[str, Part]:
        parts: dict[str, Part | None] = {
            "gaussians": self.parameters,
            "density": self.density,
            "motion": self.motion,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, numbers = super().state()
        return tensors if self.density is None else {**tensors, "origin": self.origin}, numbers

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        if self.density is not None:
            # what a checkpoint stores of the motion is of the Gaussians that there were
            self.origin = tensors["origin"].to(self.device)
            self.deformation = self.first_deformation.take(self.origin)
            self.motion = self._motion()
        super().load_state(tensors, numbers)
        if len(self.origin) != len(self.parameters):
            raise ValueError(f"{len(self.origin)} origins of {len(self.parameters)} Gaussians")
        self._freeze()
        self.constrain(self.origin)


def _check(scene: Scene4D, config: EditConfig, selection: Selection | None) -> None:
    if selection is not None:
        selection.check(len(scene.canonical))
        if config.trains_deformation:
            raise InputError(
                "TRN-001",
                "A mask restricts the edit to the selected Gaussians, but a trained deformation moves all of them. Disconnect "
                "the mask, or turn off trains_deformation.",
            )
    if config.trains_deformation and not can_train(scene.deformation):
        raise InputError(
            "TRN-002",
            f"This scene's deformation ('{scene.deformation.kind}') does not have trainable parameters; turn off "
            "trains_deformation.",
        )
