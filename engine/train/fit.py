"""The training loop of a moving scene: coarse (one static scene for all frames), then fine (with a deformation field).

After 4D Gaussian Splatting (Wu et al., CVPR 2024). Changed: the world is normalized to the subject during training, so
that no parameter depends on the capture's units; the field starts as the identity; images start small; one step
compares several views of one frame, which share the cost of the field; static Gaussians are held and skip the field.
On the CPU: same inputs and config, same bits; stopped and resumed, still the same bits. On a GPU, sums whose order varies make
runs differ in their last digits, resumed or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..heads import Head
from ..losses.color_loss import color_loss
from ..losses.metrics import decibels
from ..losses.photometric import l1
from ..render import Picture, render_gaussians
from ..scene import Cameras, Gaussians, MultiViewVideo, Scene4D
from ..scene.origins import video_in_coordinates_of
from . import motions, ranks
from .averaging import EVERY, Averages
from .config import FitConfig
from .densify import DensityControl, strategy_for
from .feeding import Feed, Pair
from .fit_order import FitOrder
from .geometry_terms import GeometryTerms
from .head_motion import head_for, head_gaussians, mesh_bounds
from .initialization import first_gaussians
from .loop import Losses
from .motion import MotionStart, TrainableMotion
from .normalization import Normalization, subject_bounds
from .parameters import GaussianParameters
from .ranked import Info, check_resumed, check_start, check_views
from .schedule import learning_rates, picture_scale_at, sh_degree_at
from .shards import RowAxes
from .sharing import Terms, row_axes, sharing_for
from .stage import Part, TrainStage
from .starting import start_for
from .support import Support
from .targets import Target, Targets, background_of
from .threads import threads_for


class Fit(TrainStage):
    """The state of a training and the parts of its loop; a step names it.

    With a scene to `start` from, its Gaussians and its motion are trained on, all frames and SH bands from the first step.

    Raises InputError where the video cannot be trained on, or not from that scene.
    """

    config: FitConfig

    def __init__(
        self,
        video: MultiViewVideo,
        config: FitConfig,
        device: torch.device | str,
        head: Head | None = None,
        start: Scene4D | None = None,
    ) -> None:
        super().__init__(config, None, device)
        self.ranks = ranks.current()
        check_views(config.views_per_step, self.ranks)
        # a capture of the same place may have another local origin
        video = video if start is None else video_in_coordinates_of(start, video)
        self.video, self.config, self.start = video, config, start
        if head is not None and start is not None:
            raise InputError(
                "TRN-035",
                "A head and a start scene are both connected, and only one can give the first Gaussians; remove one of them.",
            )
        self.head = None if head is None else head_for(video, head)
        self.order = FitOrder(video, config, has_start=start is not None)
        self.views, self.samples = self.order.views, self.order.samples
        self.background = background_of(video, config.background).to(self.device)
        self.feed = Feed(video, self.device)
        self.targets = Targets(self.feed.video or video, self.background)
        self.bounds = self._bounds()
        self.world = Normalization.of(self.bounds)
        self._rigs: dict[float, Cameras] = {}
        self.averages = Averages()
        # whether the last step trained the motion: time may have ended the coarse stage early
        self.is_fine = False
        self.geometry = GeometryTerms(video, config, self.samples)
        scene, self.origin = None, ""
        if start is None:
            first, self.origin = self._first_gaussians()
        else:
            scene, self.origin = start_for(video, config, start)
            first = scene.canonical
        first = self.world.shrink(first).map(lambda t: t.to(self.device))
        self.motion = motions.create(
            MotionStart(config, video, self.world, first, self.generator, self.head, scene)
        )
        if self.motion is not None:
            first = self.motion.to_trained(first)
        self.parameters = GaussianParameters(first, self._rates(0.0))
        if self.motion is not None:
            self.parameters.groups = self.motion.groups()
        check_start(self.ranks, self.motion, self.identity)
        count = len(self.parameters)
        self.sharing = sharing_for(self.ranks, self.rasterizer, count, config.track_weight > 0)
        # sizes and positions are measured in the motion's own unit
        unit = 1.0 if self.motion is None else self.motion.position_unit
        strategy = strategy_for(config.density, self.sharing.part(config.budget), unit)
        self.density = None if strategy is None else DensityControl(strategy, self.parameters)
        centers = self.rig(1.0).centers
        self.support = Support(config, video.has_masks, centers, self.samples, count, self.device)
        if self.ranks.is_sharded:
            # from here on, this process has its own Gaussians
            self.load_state(*super().state())
            self.sharing.settle(len(self.parameters), False)

    def _bounds(self) -> Tensor:
        if self.head is not None and not self.config.bounds.strip():
            return mesh_bounds(self.head)
        if self.start is not None and not self.config.bounds.strip():
            return self.start.bounds.double()
        return subject_bounds(self.video, self.views, list(self.samples), self.config.bounds)

    def _first_gaussians(self) -> tuple[Gaussians, str]:
        """The canonical Gaussians to start from, world units, and a line that says where they came from."""
        c = self.config
        if self.head is not None:
            return head_gaussians(self.head, self.targets, self.samples, c.sh_degree)
        count = min(c.initial_count, c.budget)
        return first_gaussians(
            self.video,
            self.targets,
            self.views,
            list(self.samples),
            self.bounds,
            c.initialization,
            count,
            c.sh_degree,
            self.generator,
        )

    @property
    def is_coarse(self) -> bool:
        """Whether one static scene is fitted to all frames at this point."""
        if self.motion is None:
            return True
        has_coarse_stage = self.motion.has_coarse_stage and self.start is None
        share = self.iteration / self.steps_expected
        return has_coarse_stage and not self.is_fine and share < self.config.coarse_fraction

    @property
    def steps_expected(self) -> int:
        """Steps of the run that there is time for; at least one.

        What is trained depends on them, so that a run which time ends learns motion too; how (rates, image size) does not, since
        the run may go on later.
        """
        return max(1, min(self.config.iterations, self.limit.expected))

    def _rates(self, progress: float) -> dict[str, float]:
        return learning_rates(
            self.config, 1.0 if self.motion is None else self.motion.position_unit, progress
        )

    def _sh_degree(self) -> int:
        highest = self.config.sh_degree
        return sh_degree_at(self.progress, highest) if self.start is None else highest

    def rig(self, scale: float) -> Cameras:
        """The capture's cameras at one image size, in the normalized world, on the training device's dtype."""
        if scale not in self._rigs:
            self._rigs[scale] = self.world.shrink_cameras(self.targets.rig(scale))
        return self._rigs[scale]

    def _moments_at(self, step: int) -> list[int]:
        """Frames that take part in a step."""
        return self.order.moments(step / self.steps_expected, self.motion is not None)

    def _sample_at(self, step: int) -> tuple[int, list[int]]:
        """The frame of a step, and the views of it that the step compares."""
        return self.order.at(step, step / self.steps_expected, self.motion is not None)

    def captured(self) -> list[Pair]:
        return [(view, moment) for moment, views in self.samples.items() for view in views]

    def wanted(self, step: int) -> list[Pair]:
        moment, views = self._sample_at(step)
        c = self.config
        scale = picture_scale_at(step / c.iterations, c.start_scale, c.full_size_at)
        mine = [view for group in self.sharing.groups(self.rig(scale), views) for view in group.views]
        return [(view, moment) for view in mine if not self.targets.has(view, moment, scale)]

    def gaussians_at(self, moment: int) -> Gaussians:
        """The current Gaussians at one frame (differentiable)."""
        gaussians = self.parameters.gaussians()
        if self.motion is None:
            return gaussians
        if self.is_coarse:
            return self.motion.to_canonical(gaussians)
        return self.motion.deform(gaussians, float(self.video.times[moment]))

    def step(self) -> Losses:
        """One optimization step; returns the losses."""
        with threads_for(self.rasterizer, self.device):
            return self._step()

    def _step(self) -> Losses:
        rates = self._rates(self.progress)
        self.parameters.set_rates(rates)
        self.is_fine = not self.is_coarse
        self.limit.lacking = "" if self.is_fine or self.motion is None else "motion not trained"
        self.read_ahead()
        moment, views = self._sample_at(self.iteration)
        scale = picture_scale_at(self.progress, self.config.start_scale, self.config.full_size_at)
        shown = self.sharing.shown(self.gaussians_at(moment))
        loss = color = squared = torch.zeros((), device=self.device)
        infos: list[Info] = []
        rig = self.rig(scale)
        later = None
        if not self.is_coarse:
            later = self.geometry.draw_later(self._moments_at(self.iteration), moment, self.generator)
        flow: dict[str, Any] = {}
        if later is not None:
            flow["next_means"] = self.sharing.shown(self.gaussians_at(later)).means
        for group in self.sharing.groups(rig, views):
            if later is not None:
                flow["next_cameras"] = rig[self.geometry.later_views(group.views, moment, later)]
            degree, wants_depth = self._sh_degree(), self.geometry.wants_depth
            rendered = self.sharing.render(
                shown, rig, group, self.background, sh_degree=degree, want_depth=wants_depth, **flow
            )
            infos.append((rendered.info, *rig.sizes[group.every[0]]))
            if not group.views:
                continue
            targets = [self.targets.get(view, moment, scale) for view in group.views]
            share = len(group.views) / len(views)
            loss, difference, error = self._compare(loss, rendered, targets, share)
            term = self.geometry.loss(rendered, targets, group.views, rig, moment, later)
            loss = loss if term is None else loss + share * term
            color, squared = color + share * difference, squared + share * error
        moving = None if self.is_coarse else self.motion
        loss = self.sharing.completed(loss, self._terms(moving))
        # a frame may have fewer views than there are ranks
        if loss.requires_grad:
            loss.backward()
        trained = self.sharing.summed(self.parameters, moving)
        color, squared, loss = self.ranks.sum_gradients(trained, (color, squared, loss.detach()))
        if moving is not None:
            moving.step(self.progress)
        self.parameters.step()
        self.iteration += 1
        if self.density is not None and self.density.strategy.reads_infos:
            infos = self.sharing.infos(infos, views, rig, len(self.parameters))
        self._control_density(infos, rates["means"])
        if self.motion is not None and not self.is_coarse:
            self.motion.after_step(self.parameters, self.iteration, self.progress)
        if self.progress > 1 - self.config.averaged and self.iteration % EVERY == 0:
            self.averages.add(self.trained())
        # of the images of this step
        return {"l1": color, "loss": loss, "psnr": decibels(squared)}

    def _compare(
        self, loss: Tensor, rendered: Picture, targets: list[Target], share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(`loss` with the photometric terms added one by one, mean L1, mean squared error) of a group of views."""
        c = self.config
        color = color_loss(rendered.rgb, torch.stack([t.image for t in targets]), c.ssim_weight)
        loss = loss + share * color.loss
        masks = [t.mask for t in targets if t.mask is not None]
        if masks and c.mask_weight:
            loss = loss + share * c.mask_weight * l1(rendered.alpha, torch.stack(masks))
        return loss, color.l1, color.squared

    def _terms(self, moving: TrainableMotion | None) -> Terms:
        """Terms of the loss that belong to no view, and whether each is a mean over Gaussians."""
        terms: Terms = []
        if self.density is not None:
            strategy = self.density.strategy
            terms.append((lambda: strategy.penalty(self.parameters), True))
        if moving is not None:
            terms.append((moving.loss, moving.loss_is_mean))
        return terms

    def _control_density(self, infos: list[Info], position_rate: float) -> None:
        if self.density is None:
            return
        if self.support.is_due(self.iteration) and self.progress <= self.density.strategy.stop_at:
            self._retire_unsupported()
        generator = self.sharing.generator(self.generator, self.config.seed, self.iteration)
        change = self.density.after_step(
            self.parameters, infos, self.iteration, self.config.iterations, generator, position_rate
        )
        if self.sharing.settle(len(self.parameters), change is not None):
            self.sharing.check(self.iteration, self.parameters, self.motion)
            self.averages.restart()
        if change is None:
            return
        self.support.after_density(change)
        if self.motion is not None:
            self.motion.after_density(change)

    @torch.no_grad()
    def _retire_unsupported(self) -> None:
        rig = self.rig(self.config.start_scale)
        for moment in self.support.moments(self.iteration, self._moments_at(self.iteration)):
            views = self.samples[moment]
            at = self.gaussians_at(moment)
            # colors do not matter here
            every = self.sharing.whole(at.with_(sh=at.sh[:, :1]))
            self.support.observe(every, rig, views, self.rasterizer, self.sharing.rows)
        self.support.retire(self.parameters)

    def preview(self) -> Tensor:
        """[H, W', 3]: a captured image next to the current render; cycles through views and frames."""
        turn = self.iteration // max(self.config.preview_every, 1)
        moment = list(self.samples)[turn % len(self.samples)]
        view = self.samples[moment][(turn * 3) % len(self.samples[moment])]
        truth = self.targets.get(view, moment).image
        with torch.no_grad():
            every = self.sharing.whole(self.gaussians_at(moment))
            if not self.ranks.leads:
                return truth.cpu()
            drawn = render_gaussians(every, self.rig(1.0)[view], self.rasterizer, self.background)
        return torch.cat([truth, drawn.rgb[0].clamp(0, 1)], dim=1).cpu()

    def __len__(self) -> int:
        return self.sharing.total(len(self.parameters))

    def learning(self) -> Mapping[str, Tensor]:
        return self.parameters.tensors

    def trained(self) -> dict[str, Tensor]:
        """The Gaussians' tensors and the motion's."""
        return {**self.parameters.tensors, **({} if self.motion is None else self.motion.trained())}

    def result(self) -> Scene4D:
        """The scene as trained so far, in the capture's own units: the means of the last steps, where they were taken."""
        with self.averages.applied(self.trained()):
            return self._scene()

    def _scene(self) -> Scene4D:
        trained = self.parameters.detached()
        if self.motion is not None:
            trained = self.motion.to_canonical(trained)
        canonical = self.world.grow(trained).map(lambda t: self.sharing.collected(t, 0))
        scene = Scene4D.still(
            canonical,
            self.video.times.double(),
            self.video.cameras,
            self.bounds.double(),
            self.background.cpu(),
        )
        if self.motion is not None and not self.is_coarse:
            # motions of other packages, whose Gaussians are never divided, may not take it
            collected = (self.sharing.collected,) if self.ranks.is_sharded else ()
            scene = scene.with_(deformation=self.motion.finished(self.world, *collected))
        return scene.with_history(self.step_name, **self.entry(), gaussians=len(canonical))

    def metadata(self) -> dict[str, Any]:
        return {"capture": self.video.name, "layout": self.video.layout}

    def inputs(self) -> list[Any]:
        return [self.video, *(each for each in (self.head, self.start) if each is not None)]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, numbers = super().state()
        tensors, more = self.sharing.state(tensors, self._rows())
        return tensors, {**numbers, **more, "is_fine": self.is_fine}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        super().load_state(self.sharing.own_state(tensors, self._rows(), numbers), numbers)
        # absent in files of before
        self.is_fine = bool(numbers.get("is_fine", False))

    def resume(self, path: Path) -> bool:
        resumed = super().resume(path)
        # before anything else is exchanged: a process may have found no checkpoint
        check_resumed(self.ranks, self.iteration)
        self.sharing.settle(len(self.parameters), False)
        return resumed

    def parts(self) -> dict[str, Part]:
        parts: dict[str, Part | None] = {
            "gaussians": self.parameters,
            "density": self.density,
            "motion": self.motion,
            "averages": self.averages,
            "support": self.support if self.support.needed > 1 else None,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _rows(self) -> RowAxes:
        return row_axes(self.parameters, self.motion, self.density, self.support, self.averages)
