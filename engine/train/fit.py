"""The training loop of a moving scene: coarse (one still scene for all moments), then fine (with its motion field).

After 4D Gaussian Splatting (Wu et al., CVPR 2024). What is changed, and why: the world is normalised to the subject
while training, so that no number depends on the capture's units; the field starts as the identity; pictures start
small; one step compares several views of one moment, which share the cost of the field; what does not move is held
still and skips the field. Same inputs and config, same bits; stopped and resumed, still the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .. import __version__
from ..errors import InputError
from ..fields import as_record
from ..losses.metrics import decibels
from ..losses.photometric import l1, ssim
from ..messages import Stream
from ..render import RasterInfo, choose, render_gaussians
from ..scene import Cameras, Gaussians, MultiViewVideo, Scene4D
from . import state as states
from .config import FitConfig
from .densify import DefaultStrategy, DensityStrategy, MCMCStrategy, State
from .initialise import anchor_moment, first_gaussians
from .loop import optimize, resume, shaping
from .motion import MotionField
from .normalise import Normalisation, subject_bounds
from .parameters import GaussianParameters
from .schedule import log_linear, picture_scale_at, sh_degree_at
from .targets import Targets, background_of
from .threads import threads_for


class Fit:
    """Everything that changes while a scene is trained, and one method for each thing the loop does."""

    def __init__(self, video: MultiViewVideo, config: FitConfig, device: torch.device | str) -> None:
        self.video, self.config, self.device = video, config, torch.device(device)
        self.views = video.views_to_train() if config.keeps_test_views_out else tuple(range(video.views))
        self.samples = self._samples()
        anchor = anchor_moment(video, self.views)  # the nearest trained one: it may itself be held out
        self.anchor = min(self.samples, key=lambda moment: abs(moment - anchor))
        self.rasterizer = choose(config.rasterizer, self.device)
        self.background = background_of(video, config.background).to(self.device)
        self.targets = Targets(video, self.background)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.bounds = subject_bounds(video, self.views, config.bounds)
        self.world = Normalisation.of(self.bounds)
        self._rigs: dict[float, Cameras] = {}
        first, self.origin = first_gaussians(
            video,
            self.targets,
            self.views,
            self.bounds,
            config.initialization,
            min(config.initial_count, config.budget),
            config.sh_degree,
            self.generator,
        )
        first = self.world.shrink(first).map(lambda t: t.to(self.device))
        self.parameters = GaussianParameters(first, self._rates(0.0))
        self.motion = MotionField.create(config, video, first.means.device, self.generator)
        self.strategy = self._strategy()
        self.density: State = self.strategy.start(len(self.parameters), self.device) if self.strategy else {}
        self.iteration = 0

    def _samples(self) -> dict[int, list[int]]:
        """Views that can be trained on, by moment; held-out moments are absent."""
        every = self.config.hold_out_every
        samples: dict[int, list[int]] = {}
        for view, moment in self.video.samples(self.views):
            if every and moment % every == every - 1:
                continue
            samples.setdefault(moment, []).append(view)
        if not samples:
            raise InputError(
                f"{self.video.name}: no picture is left to train on; lower hold_out_every or use fewer test views."
            )
        return dict(sorted(samples.items()))

    def _strategy(self) -> DensityStrategy | None:
        if self.config.density == "none":
            return None
        if self.config.density == "adaptive":
            return DefaultStrategy(extent=1.0, most=self.config.budget)
        return MCMCStrategy(budget=self.config.budget)

    @property
    def progress(self) -> float:
        return self.iteration / self.config.iterations

    @property
    def is_coarse(self) -> bool:
        return self.motion is None or self.progress < self.config.coarse_fraction

    def _rates(self, progress: float) -> dict[str, float]:
        c = self.config
        return {
            "means": log_linear(c.position_lr, c.position_lr * 0.01, progress) if c.position_lr else 0.0,
            "log_scales": c.scale_lr,
            "quats": c.rotation_lr,
            "logit_opacities": c.opacity_lr,
            "sh_dc": c.color_lr,
            "sh_rest": c.color_lr / 20,
        }

    def rig(self, scale: float) -> Cameras:
        """The capture's cameras at one picture size, in the normalised world, on the training device's dtype."""
        if scale not in self._rigs:
            self._rigs[scale] = self.world.shrink_cameras(self.targets.rig(scale))
        return self._rigs[scale]

    def _moments_now(self) -> list[int]:
        """Moments that take part at this point: a window round the anchor that grows to the whole clip."""
        moments, c = list(self.samples), self.config
        shared = len(self.samples.get(self.anchor, ()))
        if c.order == "all at once" or self.motion is None or (c.order == "auto" and shared < 4):
            return moments
        span = max(c.outwards_until - c.coarse_fraction, 1e-9)
        grown = min(max((self.progress - c.coarse_fraction) / span, 0.0), 1.0)
        reach = grown * max(moments[-1] - self.anchor, self.anchor - moments[0])
        return [moment for moment in moments if abs(moment - self.anchor) <= reach]

    def _draw_sample(self) -> tuple[int, list[int]]:
        moments = self._moments_now()
        moment = moments[int(torch.randint(len(moments), (), generator=self.generator))]
        views = self.samples[moment]
        order = torch.randperm(len(views), generator=self.generator)[: self.config.views_per_step]
        return moment, [views[i] for i in order.tolist()]

    def gaussians_at(self, moment: int) -> Gaussians:
        """The current Gaussians at one moment (differentiable)."""
        gaussians = self.parameters.gaussians()
        if self.is_coarse or self.motion is None:
            return gaussians
        return self.motion.deform(gaussians, float(self.video.times[moment]))

    def step(self) -> dict[str, float]:
        """One optimisation step; returns the losses."""
        with threads_for(self.rasterizer, self.device, len(self.parameters)):
            return self._step()

    def _step(self) -> dict[str, float]:
        c = self.config
        rates = self._rates(self.progress)
        self.parameters.set_rates(rates)
        moment, views = self._draw_sample()
        scale = picture_scale_at(self.progress, c.start_scale, c.full_size_at)
        gaussians = self.gaussians_at(moment)
        loss = torch.zeros((), device=self.device)
        seen: dict[str, float] = {}
        squared = 0.0
        infos: list[tuple[RasterInfo, int, int]] = []
        rig = self.rig(scale)
        for group in _by_size(rig, views):
            picture = render_gaussians(
                gaussians,
                rig[group],
                self.rasterizer,
                self.background,
                sh_degree=sh_degree_at(self.progress, c.sh_degree),
            )
            targets = [self.targets.get(view, moment, scale) for view in group]
            truth = torch.stack([t.image for t in targets])
            share = len(group) / len(views)
            color = l1(picture.rgb, truth)
            loss = loss + share * (1 - c.ssim_weight) * color
            seen["l1"] = seen.get("l1", 0.0) + share * float(color.detach())
            squared += share * float((picture.rgb.detach() - truth).square().mean())
            if c.ssim_weight:
                likeness = ssim(picture.rgb.permute(0, 3, 1, 2), truth.permute(0, 3, 1, 2)).mean()
                loss = loss + share * c.ssim_weight * (1 - likeness)
            masks = [t.mask for t in targets if t.mask is not None]
            if masks and c.mask_weight:
                loss = loss + share * c.mask_weight * l1(picture.alpha, torch.stack(masks))
            infos.append((picture.info, *rig.sizes[group[0]]))
        if self.strategy is not None:
            penalty = self.strategy.penalty(self.parameters)
            loss = loss if penalty is None else loss + penalty
        if not self.is_coarse and self.motion is not None:
            loss = loss + c.plane_weight * self.motion.smoothness()
        loss.backward()
        if self.motion is not None and not self.is_coarse:
            self.motion.step(self.progress)
        self.parameters.step()
        self.iteration += 1
        if self.strategy is not None:
            if "position_rate" in self.density:
                self.density["position_rate"] = torch.tensor(rates["means"])
            self.strategy.after_step(
                self.parameters, self.density, infos, self.iteration, c.iterations, self.generator
            )
        if self.motion is not None and not self.is_coarse:
            self.motion.refresh_still(self.parameters, self.iteration, self.progress)
        seen["loss"] = float(loss.detach())
        seen["psnr"] = decibels(squared)  # of the pictures of this step
        return seen

    def preview(self) -> Tensor:
        """[H, W', 3]: a captured picture beside the same view now; walks through views and moments."""
        turn = self.iteration // max(self.config.preview_every, 1)
        moment = list(self.samples)[turn % len(self.samples)]
        view = self.samples[moment][(turn * 3) % len(self.samples[moment])]
        with torch.no_grad():
            drawn = render_gaussians(
                self.gaussians_at(moment), self.rig(1.0)[view], self.rasterizer, self.background
            )
        truth = self.targets.get(view, moment).image
        return torch.cat([truth, drawn.rgb[0].clamp(0, 1)], dim=1).cpu()

    def __len__(self) -> int:
        return len(self.parameters)

    def trained(self) -> dict[str, Tensor]:
        """The Gaussians' tensors and the motion field's."""
        return {**self.parameters.tensors, **({} if self.motion is None else self.motion.field.tensors())}

    def result(self) -> Scene4D:
        """What was trained so far, in the capture's own units."""
        canonical = self.world.grow(self.parameters.detached()).map(lambda t: t.cpu())
        deformation = (
            self.motion.finished(self.world) if self.motion is not None and not self.is_coarse else None
        )
        scene = Scene4D.still(
            canonical,
            self.video.times.double(),
            self.video.cameras,
            self.bounds.double(),
            self.background.cpu(),
        )
        scene = scene if deformation is None else scene.with_(deformation=deformation)
        config = as_record(self.config)
        return scene.with_history(
            "fit_scene",
            config=config,
            capture=self.video.name,
            layout=self.video.layout,
            iterations=self.iteration,
            gaussians=len(canonical),
            engine=__version__,
        )

    def key(self) -> str:
        """What a checkpoint belongs to: these inputs, this config, this engine."""
        v = self.video
        capture = [
            v.source.fingerprint(),
            v.cameras.to_json(),
            v.times.tolist(),
            sorted(self.samples.items()),
        ]
        found = [self.background.tolist(), self.bounds.tolist()]
        return states.key_of(shaping(self.config), capture, found, self.rasterizer.name, __version__)

    def save(self, path: Path) -> None:
        tensors = states.joined(
            gaussians=self.parameters.state(),
            density=self.density,
            motion=self.motion.state() if self.motion else {},
        )
        tensors["generator"] = self.generator.get_state()
        states.save_state(path, tensors, {"iteration": self.iteration}, self.key())

    def resume(self, path: Path) -> bool:
        """Go on from a checkpoint of this very training; False where there is none."""
        found = states.load_state(path, self.key())
        if found is None:
            return False
        tensors, numbers = found
        self.parameters.load_state(states.part(tensors, "gaussians"))
        self.density = states.part(tensors, "density", self.device)
        if self.motion is not None:
            self.motion.load_state(states.part(tensors, "motion"))
        self.generator.set_state(tensors["generator"])
        self.iteration = int(numbers["iteration"])
        return True


def _by_size(rig: Cameras, views: list[int]) -> list[list[int]]:
    """Views grouped by picture size, in order."""
    groups: dict[tuple[int, int], list[int]] = {}
    for view in views:
        groups.setdefault(rig.sizes[view], []).append(view)
    return list(groups.values())


def fit(
    video: MultiViewVideo,
    config: FitConfig,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Train a scene; the last message is Finished(Scene4D) in the capture's units, on the CPU.

    With `checkpoint`, a later call with the same video and config goes on from where this one was closed (see `loop`).
    Raises InputError where the video cannot be trained on.
    """
    start = clock()
    run = Fit(video, config, device)
    resumed = resume(run, checkpoint)
    where = f"resumed at step {run.iteration}" if resumed else f"starting from {run.origin}"
    note = f"{where}; {run.rasterizer.name} rasterizer on {run.device}"
    yield from optimize(run, config, note, checkpoint, clock, start)
