"""Editing a moving scene through its canonical Gaussians: what moves them is frozen (Instruct-4DGS, section 3.3).

Kwon, Cho and Kim, CVPR 2025. The canonical Gaussians are the only parameters; the deformation is read, never written, so
an edit that was made at one moment is seen at all of them, and its cost does not depend on how many there are. Gradients
still run *through* the frozen deformation into the positions it is asked at. Shared by both stages, which differ only in
where the loss comes from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .. import __version__
from ..deform import FrozenAppearance, HexPlane, Masked, PerFrame, freeze_appearance
from ..errors import InputError
from ..render import RasterInfo
from ..scene import Deformation, Gaussians, Scene4D, Selection
from . import state as states
from .config import FitConfig
from .densify import DefaultStrategy
from .edit_config import PRESETS, EditConfig
from .loop import shaping
from .motion import MotionField
from .parameters import GaussianParameters
from .schedule import log_linear
from .stage import TrainStage

# the reference code grows from step 600 of 1000 on, every 100 (and prunes only beyond 200,000 Gaussians: here never);
# what would be born at the last step is not, since nothing would fit it
DENSITY = DefaultStrategy(
    extent=1.0, every=100, start_at=0.6, stop_at=0.999, prune_opacity=-1.0, prune_large=float("inf")
)


class CanonicalEdit(TrainStage):
    """A stage whose parameters are canonical Gaussians. Its kinds say what one step's loss is.

    A `selection` limits it: a Gaussian of weight 0 keeps its values bit for bit, one of weight w takes w of every step
    (it follows the edit more slowly, and its neighbours fit around it). Raises InputError where the selection is of
    another scene, or where what is asked cannot be had of this scene's deformation.
    """

    def __init__(
        self,
        scene: Scene4D,
        config: EditConfig,
        selection: Selection | None,
        device: torch.device | str,
        densifies: bool = False,
    ) -> None:
        _check(scene, config, selection, densifies)
        super().__init__(config, selection, device)
        self.before, self.config = scene, config
        self.background = scene.background.to(self.device)
        self.extent = float((scene.bounds[1] - scene.bounds[0]).norm() / 2)
        self.names = PRESETS[config.preset]
        first = scene.canonical.map(lambda t: t.detach().to(self.device))
        self.parameters = GaussianParameters(first, self._rates(0.0))
        self._freeze()
        deformation = scene.deformation.to(self.device)
        self.deformation: Deformation = (
            freeze_appearance(deformation) if config.mutes_appearance else deformation
        )
        self.motion = self._motion()
        self.density = DENSITY.start(len(first), self.device) if densifies else None
        self.constrain()

    def __len__(self) -> int:
        return len(self.parameters)

    # -- what a step uses ---------------------------------------------------------------------------------------------

    def gaussians_at(self, seconds: float) -> Gaussians:
        """The edited Gaussians at a time: differentiable in the canonical ones."""
        return self.deformation.deform(self.parameters.gaussians(), seconds)

    def regularise(self) -> Tensor | None:
        """The motion field's smoothness where it is trained, else None."""
        return None if self.motion is None else self.motion.smoothness()

    def learn(self, infos: list[tuple[RasterInfo, int, int]]) -> None:
        """One optimiser step after `backward`; `infos` are the renders' infos and picture sizes."""
        self.parameters.set_rates(self._rates(self.progress))
        if self.motion is not None:
            self.motion.step(self.progress)
        with self.constrained():
            self.parameters.step()
        self.iteration += 1
        if self.density is not None:
            strategy = replace(DENSITY, extent=self.extent)
            strategy.after_step(
                self.parameters, self.density, infos, self.iteration, self.config.iterations, self.generator
            )
            self._freeze()

    def learning(self) -> dict[str, Tensor]:
        """The tensors that the preset changes."""
        return {name: self.parameters.tensors[name] for name in self.names}

    def trained(self) -> dict[str, Tensor]:
        """The Gaussians' tensors, and the motion field's where it is trained."""
        return {**self.parameters.tensors, **({} if self.motion is None else self.motion.field.tensors())}

    def _rates(self, progress: float) -> dict[str, float]:
        """Positions' rate falls to a hundredth as in 3DGS; the others in the second half to a tenth, so that they settle."""
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
        """No gradient for what the preset leaves alone."""
        for name, tensor in self.parameters.tensors.items():
            tensor.requires_grad_(name in self.names)

    def _motion(self) -> MotionField | None:
        """The field's optimiser where it is trained; otherwise the field is frozen."""
        field = field_of(self.deformation)
        if field is None:
            return None
        if not self.config.trains_deformation:
            field.requires_grad_(False)
            return None
        rates = FitConfig(grid_lr=1.6e-3, network_lr=1.6e-4, still_threshold=0.0)  # 4DGS's
        return MotionField(field, self.before.times, rates)

    # -- the end ------------------------------------------------------------------------------------------------------

    def result(self) -> Scene4D:
        """The edited scene on the device where the input scene is; its deformation is the input's own object."""
        scene, home = self.before, self.before.device
        edited = self.parameters.detached()
        wanted = {"sh" if name.startswith("sh_") else name for name in self.names}
        if self.density is not None:  # Gaussians were born: every tensor is longer now
            wanted = set(edited.tensors())
        changed = {name: t.to(home) for name, t in edited.tensors().items() if name in wanted}
        deformation = scene.deformation
        if self.motion is not None:
            deformation = self.deformation.to(home)
        elif self.config.mutes_appearance:
            deformation = freeze_appearance(deformation)
        result = scene.with_(canonical=scene.canonical.with_(**changed), deformation=deformation)
        return result.with_history(self.step_name, **self.entry(), gaussians=len(result.canonical))

    def key(self) -> str:
        """What a checkpoint belongs to: this scene, these inputs, this config, this engine."""
        scene = self.before
        tensors = [*scene.canonical.tensors().values(), *scene.deformation.tensors().values()]
        tensors += [scene.bounds, scene.background]
        tensors += [] if self.selection is None else [self.selection.weights]
        return states.key_of(
            self.step_name,
            shaping(self.config),
            states.fingerprint_of(*tensors),
            [scene.deformation.kind, scene.deformation.config()],
            self.inputs(),
            self.rasterizer.name,
            __version__,
        )

    def save(self, path: Path) -> None:
        tensors = states.joined(
            gaussians=self.parameters.state(),
            density=self.density or {},
            motion=self.motion.state() if self.motion else {},
        )
        tensors["generator"] = self.generator.get_state()
        states.save_state(path, tensors, {"iteration": self.iteration}, self.key())

    def resume(self, path: Path) -> bool:
        """Go on from a checkpoint of this very edit; False where there is none."""
        found = states.load_state(path, self.key())
        if found is None:
            return False
        tensors, numbers = found
        self.parameters.load_state(states.part(tensors, "gaussians"))
        self._freeze()
        if self.density is not None:
            self.density = states.part(tensors, "density", self.device)
        if self.motion is not None:
            self.motion.load_state(states.part(tensors, "motion"))
        self.generator.set_state(tensors["generator"])
        self.iteration = int(numbers["iteration"])
        return True


def field_of(deformation: Deformation) -> HexPlane | None:
    """The motion field inside a deformation, None where there is none."""
    while isinstance(deformation, FrozenAppearance | Masked):
        deformation = deformation.inner
    return deformation if isinstance(deformation, HexPlane) else None


def _check(scene: Scene4D, config: EditConfig, selection: Selection | None, densifies: bool) -> None:
    if selection is not None:
        selection.check(len(scene.canonical))
        if densifies:
            raise InputError(
                "Densification makes new Gaussians and a mask chooses among those that are there: switch one of "
                "them off."
            )
        if config.trains_deformation:
            raise InputError(
                "A mask limits an edit to chosen Gaussians, but training the deformation changes how all of them "
                "move: switch one of them off."
            )
    if config.trains_deformation and field_of(scene.deformation) is None:
        raise InputError(
            f"The motion of this scene is of the kind '{scene.deformation.kind}', which has nothing to train: switch "
            "trains_deformation off."
        )
    inner = scene.deformation.inner if isinstance(scene.deformation, FrozenAppearance) else scene.deformation
    if densifies and isinstance(inner, Masked | PerFrame):
        raise InputError(
            f"Densification makes new Gaussians, and the motion of this scene (kind '{inner.kind}') knows only those "
            "it has: switch densification off, or train the scene with still_threshold 0."
        )
