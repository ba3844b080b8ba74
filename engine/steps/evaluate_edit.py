"""Measure an edited scene: against the truth where there is one, the edited pictures, the wording, and itself over time.

PSNR, SSIM and LPIPS follow 3DGS; "to edits" is the protocol of Instruct-4DGS (Kwon et al., CVPR 2025): the render of
each edited view against the edited picture. CLIP similarity is theirs too, CLIP direction InstructPix2Pix's (Brooks et
al., CVPR 2023), consistency in both readings that papers print under one name. Every number says which network made it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import flag, number, text, validate
from ..figures.color_maps import error_picture, padded, spread
from ..losses import lpips, psnr, ssim
from ..losses.means import Means, Number
from ..losses.perceptual import (
    Clip,
    Lpips,
    clip_c_adjacent,
    clip_c_direction,
    clip_direction,
    clip_similarity,
    load_clip,
    load_lpips,
)
from ..losses.temporal import StaticRegion, flow_warp_error
from ..messages import Finished, Preview, Progress, Started, Stream
from ..render import Rasterizer, choose, rasterizer_field, render_gaussians
from ..render.renderer import Picture
from ..scene import Cameras, MultiViewVideo, Scene4D
from ..scene.view_set import ViewSet
from ..train.targets import Target, Targets
from .step import Comparison, Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "EditEvaluation", "Number", "run"]


@dataclass(frozen=True)
class Config:
    every: int = number(1, 1, 1000, "Compares every n-th frame. More is faster and less accurate.")
    prompt: str = text(
        "",
        "Prompt of the edit, for CLIP similarity. Empty takes it from the edited views or the scene's history.",
        multiline=True,
    )
    source_caption: str = text(
        "", "What the unedited scene shows, such as 'a photo of a man', for CLIP direction."
    )
    target_caption: str = text("", "What the edited scene should show, such as 'a bronze statue of a man'.")
    wants_temporal: bool = flag(
        True,
        "Also measures temporal consistency (flow-warped error), at three renders per image instead of one.",
        label="measure temporal consistency",
        advanced=True,
    )
    pictures: int = number(
        4,
        0,
        64,
        "Number of comparison rows (original, edited, target, difference) to show.",
        label="comparison rows",
    )
    rasterizer: str = rasterizer_field()

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class EditEvaluation:
    numbers: tuple[Number, ...]
    missing: tuple[str, ...]  # sentences: what was left out, and what it would need
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 3))  # [K, H, W', 3]
    titles: tuple[str, ...] = ()  # K: view and time of each picture

    def __getitem__(self, name: str) -> float:
        """The value of that name; KeyError where it was not measured."""
        return {n.name: n.value for n in self.numbers}[name]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain JSON: each number with its model, how many pictures, how many undefined; and what is missing."""
        rows = {
            n.name: {"value": n.value, "pictures": n.pictures, "model": n.model or None, "skipped": n.skipped}
            for n in self.numbers
        }
        return {"numbers": rows, "missing": list(self.missing)}

    @property
    def comparison(self) -> Comparison:
        """The rows that are shown, with their captions."""
        columns = ("original", "edited", "target", "difference")
        return Comparison(self.pictures, list(self.titles), columns, "the edited scene")

    def to_json(self) -> dict[str, Any]:
        """`summary`."""
        return self.summary

    def text(self) -> str:
        """A table for a person."""
        width = max((len(n.name) for n in self.numbers), default=0)
        lines = []
        for n in self.numbers:
            notes = [n.model] if n.model else []
            notes += [f"{n.pictures} compared"] + ([f"{n.skipped} undefined"] if n.skipped else [])
            lines.append(f"{n.name:{width}}  {n.value:10.4f}  ({', '.join(notes)})")
        return "\n".join([*lines, *self.missing])


def run(
    scene: Scene4D,
    original: Scene4D | None = None,
    views: ViewSet | None = None,
    truth: MultiViewVideo | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    clip: Path | None = None,  # a CLIP folder
    lpips_weights: Path | None = None,  # torchvision's VGG16 or AlexNet
) -> Stream:
    """Started, Progress, Preview …, Finished(EditEvaluation).

    `original`: the scene before the edit; `views`: the edited pictures that it was fitted to; `truth`: video of how
    the edited scene should look, from this scene's cameras at its times. Each is optional and adds its numbers.
    Raises InputError where truth or original do not belong to this scene, or a network's files cannot be used.
    """
    if truth is not None:
        _check_truth(scene, truth)
    if original is not None and (
        len(original.rig) != len(scene.rig) or len(original.times) != len(scene.times)
    ):
        raise InputError(
            "STP-007",
            f"The original scene has {len(original.rig)} views and {len(original.times)} moments, the edited one "
            f"{len(scene.rig)} and {len(scene.times)}: give the scene that this one was edited from.",
        )
    networks = _Networks(
        load_clip(clip, device) if clip is not None else None,
        load_lpips(lpips_weights, device) if lpips_weights is not None else None,
    )
    rasterizer = choose(config.rasterizer, device)
    moments = list(range(0, len(scene.times), config.every))
    total = len(scene.rig) * len(moments) + (len(views) if views is not None else 0)
    yield Started(total, f"measuring {total} pictures with the {rasterizer.name} rasterizer")
    measuring = _Measuring(scene, original, truth, config, device, rasterizer, networks)
    shown = set(spread(total, config.pictures))
    done, pictures, titles = 0, list[Tensor](), list[str]()
    with torch.no_grad():
        for view in range(len(scene.rig)):
            measuring.start_view()
            for i, moment in enumerate(moments):
                row = measuring.moment(view, moment, moments[i + 1] if i + 1 < len(moments) else None)
                if done in shown:
                    pictures.append(row.cpu())
                    titles.append(f"{scene.rig.names[view]} · {float(scene.times[moment]):.2f} s")
                    yield Preview(pictures[-1], done + 1)
                done += 1
                yield Progress(done)
            measuring.finish_view(_prompt(scene, views, config))
        for f in range(0 if views is None else len(views)):
            assert views is not None
            row = measuring.edited_view(views, f)
            if done in shown:
                pictures.append(row.cpu())
                titles.append(f"{views.caption(f)} · against its edited picture")
                yield Preview(pictures[-1], done + 1)
            done += 1
            yield Progress(done)
    numbers = (*measuring.means.numbers(), *_invariants(scene, original))
    missing = _missing(networks, original, _prompt(scene, views, config), config)
    yield Finished(EditEvaluation(numbers, missing, padded(pictures), tuple(titles)))


@dataclass(frozen=True, eq=False)
class _Networks:
    clip: Clip | None
    lpips: Lpips | None

    @property
    def clip_name(self) -> str:
        return "" if self.clip is None else f"{self.clip.name} at {self.clip.size} px"


class _Measuring:
    """Everything gathered while views and moments are walked through."""

    def __init__(
        self,
        scene: Scene4D,
        original: Scene4D | None,
        truth: MultiViewVideo | None,
        config: Config,
        device: torch.device | str,
        rasterizer: Rasterizer,
        networks: _Networks,
    ) -> None:
        self.scene, self.original = scene.to(device), None if original is None else original.to(device)
        self.truth, self.config, self.networks = truth, config, networks
        self.background = scene.background.to(device)
        self.targets = None if truth is None else Targets(truth, self.background)
        self.rasterizer = rasterizer
        self.cameras = scene.rig if truth is None else truth.cameras
        self.means = Means()
        self.start_view()

    def start_view(self) -> None:
        self.earlier: dict[str, tuple[Tensor, Tensor]] = {}  # which scene → (picture, forward flow)
        self.static: dict[str, StaticRegion] = {}
        self.features: list[Tensor] = []  # of the edited scene, cropped as CLIP's own
        self.squeezed: list[tuple[Tensor, Tensor]] = []  # edited and original, squeezed as InstructPix2Pix's

    def draw(self, scene: Scene4D, cameras: Cameras, seconds: float, towards: float | None = None) -> Picture:
        """One picture of the edited or original scene, with the flow of its points towards another time."""
        return render_gaussians(
            scene.at(seconds),
            cameras,
            self.rasterizer,
            self.background,
            next_means=None if towards is None else scene.at(towards).means,
        )

    def moment(self, view: int, moment: int, following: int | None) -> Tensor:
        """One picture of the walk; returns the row that is shown."""
        camera, times = self.cameras[view], self.scene.times
        seconds = float(times[moment])
        later = float(times[following]) if following is not None else None
        temporal = self.config.wants_temporal
        drawn = self.draw(self.scene, camera, seconds, later if temporal else None)
        ours = drawn.rgb[0].clamp(0, 1)
        before = None
        if self.original is not None:
            drawn_before = self.draw(self.original, camera, seconds, later if temporal else None)
            before = drawn_before.rgb[0].clamp(0, 1)
            self._compare("original", ours, before, None)
            if temporal:
                self._over_time("_original", self.original, drawn_before, camera, moment, later is None)
        if temporal:
            self._over_time("", self.scene, drawn, camera, moment, later is None)
        target: Target | None = None
        if self.targets is not None and self.truth is not None and bool(self.truth.available[view, moment]):
            target = self.targets.get(view, moment)
            self._compare("", ours, target.image, target.mask)
            held = self.truth.test_views
            if held:
                which = "held_out" if view in held else "trained"
                self.means.add(f"psnr_{which}", psnr(_planes(ours), _planes(target.image)).clamp(max=120))
        if self.networks.clip is not None:
            self.features.append(self.networks.clip.images(ours[None])[0])
            if before is not None:
                both = self.networks.clip.images(torch.stack([ours, before]), crops=False)
                self.squeezed.append((both[0], both[1]))
        return _row(before, ours, None if target is None else target.image)

    def _compare(self, against: str, ours: Tensor, other: Tensor, mask: Tensor | None) -> None:
        suffix = f"_to_{against}" if against else ""
        a, b = _planes(ours), _planes(other)
        # equal pictures have no finite PSNR; 120 dB stands for them so that a mean stays a number
        self.means.add(f"psnr{suffix}", psnr(a, b).clamp(max=120))
        self.means.add(f"ssim{suffix}", ssim(a, b))
        if mask is not None and bool((mask > 0.5).any()):
            self.means.add(f"psnr_subject{suffix}", psnr(a, b, (mask > 0.5)[None]).clamp(max=120))
        network = self.networks.lpips
        if network is not None and against != "original":
            for range_name, told in (("standard", "standard"), ("3dgs input range", "3dgs")):
                name = f"lpips_{network.kind} ({range_name}){suffix}"
                self.means.add(name, lpips(a, b, network, told), network.name)

    def _over_time(
        self, suffix: str, scene: Scene4D, drawn: Picture, camera: Cameras, moment: int, last: bool
    ) -> None:
        """Compare with the picture before, and remember this one."""
        picture, covered = drawn.rgb[0], drawn.alpha[0] > 0.5
        flow = drawn.flow[0] if drawn.flow is not None else None
        if suffix in self.earlier:
            before, forward = self.earlier[suffix]
            now = float(self.scene.times[moment])
            then = float(self.scene.times[moment - self.config.every])
            back = self.draw(scene, camera, now, then).flow
            assert back is not None
            error = flow_warp_error(before, picture, forward, back[0], covered)
            self.means.add(f"flow_warp_error{suffix}", error)
            flow = -back[0] if flow is None else flow
        if flow is None:
            return
        self.static.setdefault(suffix, StaticRegion()).add(picture, flow, covered)
        if not last:
            self.earlier[suffix] = (picture, flow)

    def finish_view(self, prompt: str) -> None:
        """What needs all moments of one camera: variance of still pixels, CLIP from moment to moment."""
        for suffix, region in self.static.items():
            self.means.add(f"static_variance{suffix}", region.variance())
        clip, name = self.networks.clip, self.networks.clip_name
        if clip is None or not self.features:
            return
        features = torch.stack(self.features)
        if prompt:
            # Instruct-4DGS: the first moment only
            self.means.add("clip_similarity", clip_similarity(features[:1], clip.texts([prompt])[0]), name)
        self.means.add("clip_c_adjacent", clip_c_adjacent(features), name)
        if self.squeezed:
            edited, before = (torch.stack(list(side)) for side in zip(*self.squeezed, strict=True))
            self.means.add("clip_c_direction", clip_c_direction(edited, before), name)
            source, target = self.config.source_caption, self.config.target_caption
            if source and target:
                told = clip.texts([target, source])
                self.means.add("clip_direction", clip_direction(edited, before, told[0], told[1]), name)

    def edited_view(self, views: ViewSet, f: int) -> Tensor:
        """The render of one edited view against its edited picture, resized to the render as the paper does."""
        camera = self.cameras[views.views[f]]
        ours = self.draw(self.scene, camera, views.seconds[f]).rgb[0].clamp(0, 1)
        width, height = camera.sizes[0]
        moved = [
            torch.nn.functional.interpolate(
                _planes(image[f].to(ours)), (height, width), mode="bilinear", align_corners=False
            )[0].permute(1, 2, 0)
            for image in (views.originals, views.images)
        ]
        self._compare("edits", ours, moved[1], None)
        return _row(moved[0], ours, moved[1])


def _check_truth(scene: Scene4D, truth: MultiViewVideo) -> None:
    if truth.views != len(scene.rig) or truth.moments != len(scene.times):
        raise InputError(
            "STP-008",
            f"{truth.name} has {truth.views} views and {truth.moments} moments, the scene {len(scene.rig)} and "
            f"{len(scene.times)}: the truth must be filmed by the same cameras at the same times.",
        )
    apart = (truth.times.double() - scene.times.double()).abs().max()
    if float(apart) > 1e-3 * max(scene.duration, 1e-6):
        raise InputError(
            "STP-009",
            f"{truth.name} was filmed at other times than the scene (up to {float(apart):.3f} s apart); "
            "load it with the same frame rate and first frame.",
        )


def _prompt(scene: Scene4D, views: ViewSet | None, config: Config) -> str:
    if config.prompt:
        return config.prompt
    if views is not None and views.edit and views.edit.get("prompt"):
        return str(views.edit["prompt"])
    return next((str(entry["prompt"]) for entry in reversed(scene.history) if entry.get("prompt")), "")


def _invariants(scene: Scene4D, original: Scene4D | None) -> tuple[Number, ...]:
    """What must hold exactly: 1 where the motion is the original's bit for bit, and how many Gaussians came or went."""
    if original is None:
        return ()
    a, b = scene.deformation.tensors(), original.deformation.tensors()
    same = a.keys() == b.keys() and all(torch.equal(a[name].cpu(), b[name].cpu()) for name in a)
    return (
        Number("deformation_equal", float(same), 1),
        Number("gaussian_count_delta", float(len(scene.canonical) - len(original.canonical)), 1),
    )


def _missing(networks: _Networks, original: Scene4D | None, prompt: str, config: Config) -> tuple[str, ...]:
    """A sentence for each number that could have been measured and was not."""
    missing: list[str] = []
    if networks.lpips is None:
        missing.append("LPIPS is left out: it needs a file with torchvision's VGG16 weights.")
    if networks.clip is None:
        missing.append("CLIP numbers are left out: they need the folder of a CLIP model.")
        return tuple(missing)
    if not prompt:
        missing.append("CLIP similarity is left out: no prompt is known; write it down.")
    if original is None:
        missing.append("CLIP direction is left out: it needs the scene before the edit.")
    elif not (config.source_caption and config.target_caption):
        missing.append("CLIP direction is left out: it needs two captions, of the scene before and after.")
    return tuple(missing)


def _planes(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)[None]


def _row(before: Tensor | None, ours: Tensor, target: Tensor | None) -> Tensor:
    """[H, 4W, 3]: original, edited, target and the error (see error_picture); white where there is none."""
    blank = torch.ones_like(ours)
    other = target if target is not None else before
    error = blank if other is None else error_picture(ours, other)
    return torch.cat(
        [blank if before is None else before, ours, blank if target is None else target, error], 1
    )


STEP = Step(
    name="evaluate_edit",
    node="EvaluateEdit",
    label="Evaluate Edit",
    category="4dgs/measure",
    description="Measures an edited scene: against the views it was fitted to, against the true edit if there is one, and "
    "its temporal consistency.",
    search=("psnr", "ssim", "lpips", "clip similarity", "clip direction", "metrics"),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The edited scene."),
        Input(
            "clip",
            Kind.PATH,
            "Path of a CLIP model (a transformers folder) in input, output or models/gs4d, for CLIP similarity and "
            "direction. Empty skips them.",
            "CLIP folder",
            id="clip_folder",
        ),
        Input(
            "lpips_weights",
            Kind.PATH,
            "Path of torchvision's VGG16 or AlexNet weights in input, output or models/gs4d, for LPIPS. Empty skips it.",
            "LPIPS weights",
            flag="lpips",
        ),
        Input("original", Kind.SCENE, "The scene before the edit.", optional=True),
        Input("views", Kind.VIEWS, "The edited views that the scene was fitted to.", optional=True),
        Input(
            "truth",
            Kind.CAPTURE,
            "A video of how the edited scene should look, from the same cameras.",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "comparison",
            Kind.IMAGES,
            "Original, edited, target and difference, side by side.",
            "images",
            of=lambda e: e.pictures,
        ),
        Output("report", Kind.REPORT, "The metrics as text, for Preview as Text."),
        Output(
            "json",
            Kind.TEXT,
            "The same metrics for other programs.",
            "JSON",
            of=lambda e: json.dumps(e.summary, indent=2),
        ),
    ),
    verb="evaluate-edit",
    figure=Figure.COMPARISON,
    note=EditEvaluation.text,
    is_output=True,
)
