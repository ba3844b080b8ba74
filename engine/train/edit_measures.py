"""Measures of an edited scene, gathered view by view: against other images, a prompt, and itself over time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..figures.color_maps import error_picture
from ..losses import lpips, psnr, ssim
from ..losses.means import Means, Number
from ..losses.perceptual import (
    Clip,
    Lpips,
    clip_c_adjacent,
    clip_c_direction,
    clip_direction,
    clip_similarity,
)
from ..render import Rasterizer, render_gaussians
from ..render.renderer import Picture
from ..scene import Cameras, MultiViewVideo, Scene4D
from ..scene.origins import in_coordinates_of
from ..scene.view_set import ViewSet
from .steadiness import Steadiness
from .targets import Target, Targets


@dataclass(frozen=True, eq=False)
class Networks:
    clip: Clip | None
    lpips: Lpips | None

    @property
    def clip_name(self) -> str:
        return "" if self.clip is None else f"{self.clip.name} at {self.clip.size} px"


@dataclass(frozen=True)
class MeasureSettings:
    """What to measure besides the comparisons that are always made."""

    wants_temporal: bool
    source_caption: str
    target_caption: str


class EditMeasures:
    """Collects measurements view by view: `start_view`, `moment` for each frame, `finish_view`, then `edited_view`."""

    def __init__(
        self,
        scene: Scene4D,
        original: Scene4D | None,
        truth: MultiViewVideo | None,
        settings: MeasureSettings,
        device: torch.device | str,
        rasterizer: Rasterizer,
        networks: Networks,
    ) -> None:
        self.scene, self.original = scene.to(device), None if original is None else original.to(device)
        self.truth, self.settings, self.networks = truth, settings, networks
        self.background = scene.background.to(device)
        self.targets = None if truth is None else Targets(truth, self.background)
        self.rasterizer = rasterizer
        self.cameras = scene.rig if truth is None else in_coordinates_of(scene, truth.cameras)
        self.means = Means()
        self.start_view()

    def start_view(self) -> None:
        # by suffix of the names: the edited scene's and the original's
        self.steadiness: dict[str, Steadiness] = {}
        # CLIP features of the edited scene, cropped as CLIP does
        self.features: list[Tensor] = []
        # CLIP features of edited and original images, resized without cropping as InstructPix2Pix does
        self.squeezed: list[tuple[Tensor, Tensor]] = []

    def draw(self, scene: Scene4D, cameras: Cameras, seconds: float, towards: float | None = None) -> Picture:
        """One image of the edited or original scene, with the flow of its points toward another time."""
        return render_gaussians(
            scene.at(seconds),
            in_coordinates_of(scene, cameras),
            self.rasterizer,
            self.background,
            next_means=None if towards is None else scene.at(towards).means,
        )

    def moment(self, view: int, moment: int, following: int | None) -> Tensor:
        """Measure one frame of a view; returns its comparison row."""
        camera, times = self.cameras[view], self.scene.times
        seconds = float(times[moment])
        later = float(times[following]) if following is not None else None
        temporal = self.settings.wants_temporal
        drawn = self.draw(self.scene, camera, seconds, later if temporal else None)
        ours = drawn.rgb[0].clamp(0, 1)
        before = None
        if self.original is not None:
            drawn_before = self.draw(self.original, camera, seconds, later if temporal else None)
            before = drawn_before.rgb[0].clamp(0, 1)
            self._compare("original", ours, before, None)
            if temporal:
                self._over_time("_original", self.original, drawn_before, camera, seconds)
        if temporal:
            self._over_time("", self.scene, drawn, camera, seconds)
        target: Target | None = None
        if self.targets is not None and self.truth is not None and bool(self.truth.available[view, moment]):
            target = self.targets.get(view, moment)
            self._compare("", ours, target.image, target.mask)
            held = self.truth.test_views
            if held:
                which = "held_out" if view in held else "trained"
                self.means.add(f"psnr_{which}", psnr(planes(ours), planes(target.image)).clamp(max=120))
        if self.networks.clip is not None:
            self.features.append(self.networks.clip.images(ours[None])[0])
            if before is not None:
                both = self.networks.clip.images(torch.stack([ours, before]), crops=False)
                self.squeezed.append((both[0], both[1]))
        return comparison_row(before, ours, None if target is None else target.image)

    def _compare(self, against: str, ours: Tensor, other: Tensor, mask: Tensor | None) -> None:
        suffix = f"_to_{against}" if against else ""
        a, b = planes(ours), planes(other)
        # equal images do not have a finite PSNR; 120 dB stands for them so that the mean stays finite
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
        self, suffix: str, scene: Scene4D, drawn: Picture, camera: Cameras, seconds: float
    ) -> None:
        """Compare with the previous frame, and keep this one."""
        if suffix not in self.steadiness:
            self.steadiness[suffix] = Steadiness(scene, self.draw, self.means, suffix)
        self.steadiness[suffix].add(drawn, camera, seconds)

    def finish_view(self, prompt: str) -> None:
        """Measures that need all frames of one camera: variance of static pixels, CLIP between frames."""
        for steadiness in self.steadiness.values():
            steadiness.finish()
        clip, name = self.networks.clip, self.networks.clip_name
        if clip is None or not self.features:
            return
        features = torch.stack(self.features)
        if prompt:
            # Instruct-4DGS: the first frame only
            self.means.add("clip_similarity", clip_similarity(features[:1], clip.texts([prompt])[0]), name)
        self.means.add("clip_c_adjacent", clip_c_adjacent(features), name)
        if self.squeezed:
            edited, before = (torch.stack(list(side)) for side in zip(*self.squeezed, strict=True))
            self.means.add("clip_c_direction", clip_c_direction(edited, before), name)
            source, target = self.settings.source_caption, self.settings.target_caption
            if source and target:
                told = clip.texts([target, source])
                self.means.add("clip_direction", clip_direction(edited, before, told[0], told[1]), name)

    def edited_view(self, views: ViewSet, f: int) -> Tensor:
        """The render of one edited view against its edited image, resized to the render as the paper does."""
        camera = self.cameras[views.views[f]]
        ours = self.draw(self.scene, camera, views.seconds[f]).rgb[0].clamp(0, 1)
        width, height = camera.sizes[0]
        moved = [
            torch.nn.functional.interpolate(
                planes(image[f].to(ours)), (height, width), mode="bilinear", align_corners=False
            )[0].permute(1, 2, 0)
            for image in (views.originals, views.images)
        ]
        self._compare("edits", ours, moved[1], None)
        return comparison_row(moved[0], ours, moved[1])


def planes(image: Tensor) -> Tensor:
    """An image [H, W, C] as a batch [1, C, H, W]."""
    return image.permute(2, 0, 1)[None]


def comparison_row(before: Tensor | None, ours: Tensor, target: Tensor | None) -> Tensor:
    """[H, 4W, 3]: original, edited, target and the error (see error_picture); white where an image is missing."""
    blank = torch.ones_like(ours)
    other = target if target is not None else before
    error = blank if other is None else error_picture(ours, other)
    return torch.cat(
        [blank if before is None else before, ours, blank if target is None else target, error], 1
    )


def invariants(scene: Scene4D, original: Scene4D | None) -> tuple[Number, ...]:
    """Exact checks: 1 where the deformation equals the original's bit for bit, and the change of the Gaussian count."""
    if original is None:
        return ()
    a, b = scene.deformation.tensors(), original.deformation.tensors()
    same = a.keys() == b.keys() and all(torch.equal(a[name].cpu(), b[name].cpu()) for name in a)
    return (
        Number("deformation_equal", float(same), 1),
        Number("gaussian_count_delta", float(len(scene.canonical) - len(original.canonical)), 1),
    )


def missing_networks(
    networks: Networks, original: Scene4D | None, prompt: str, settings: MeasureSettings
) -> tuple[str, ...]:
    """A sentence for each metric of a network that was skipped, and for each text that is longer than CLIP reads."""
    missing: list[str] = []
    if networks.lpips is None:
        missing.append("LPIPS was skipped; it needs torchvision's VGG16 or AlexNet weights.")
    if networks.clip is None:
        missing.append("CLIP metrics were skipped; they need the folder of a CLIP model.")
        return tuple(missing)
    if not prompt:
        missing.append("CLIP similarity was skipped; enter the prompt of the edit.")
    if original is None:
        missing.append("CLIP direction was skipped; it needs the scene before the edit.")
    elif not (settings.source_caption and settings.target_caption):
        missing.append(
            "CLIP direction was skipped; it needs captions of the scene before and after the edit."
        )
    texts = {
        "prompt": prompt,
        "source caption": settings.source_caption,
        "target caption": settings.target_caption,
    }
    missing += [networks.clip.length_note(text, what) for what, text in texts.items()]
    return tuple(filter(None, missing))
