"""Measures of an edited head in one setting (see edit_settings.py).

CLIP-S and CLIP-C are given in both definitions that fit the published figures, never as one number.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..heads import HeadModel
from ..losses import psnr, ssim_map
from ..losses.means import Means
from ..losses.perceptual import clip_c_adjacent, clip_c_direction, clip_direction, clip_similarity
from ..masks.head_regions import draw_parts
from ..masks.lift import render_selection
from ..render import Rasterizer, render_gaussians
from ..render.renderer import Picture
from ..scene import Cameras, Scene4D, Selection
from .edit_measures import MeasureSettings, Networks, comparison_row, planes
from .edit_settings import Setting
from .steadiness import Steadiness

# share of a pixel's color that the region's Gaussians make up: a pixel below the first is outside (one step of 8 bits),
# a pixel of at least the second is inside
TOUCHED, INSIDE = 1 / 255, 0.5
LARGEST_PSNR = 120.0


class SettingMeasures:
    """Collects the measures of one setting: `image` for each frame of a view in order, then `finish_view`.

    Args:
        setting: What is compared; both scenes on one device.
        parts: Parts of the head whose pixels are compared.
        model: The head model; None without parts.
        region: Gaussians that the edit may have changed; None leaves that out.
        text: What CLIP-S is the similarity with; empty leaves it out.
        wanted: Captions, and whether steadiness is measured.
        rasterizer: Renders both scenes.
        networks: CLIP or none.
    """

    def __init__(
        self,
        setting: Setting,
        parts: tuple[str, ...],
        model: HeadModel | None,
        region: Selection | None,
        text: str,
        wanted: MeasureSettings,
        rasterizer: Rasterizer,
        networks: Networks,
    ) -> None:
        self.setting, self.parts, self.model, self.text = setting, parts, model, text
        self.region = None if region is None else Selection((region.weights > 0).float())
        self.wanted, self.rasterizer, self.networks = wanted, rasterizer, networks
        self.background = setting.scene.background.to(setting.scene.device)
        self.means = Means()
        self.start_view()

    def start_view(self) -> None:
        self.steadiness = [
            Steadiness(self.setting.scene, self.draw, self.means),
            Steadiness(self.setting.original, self.draw, self.means, "_original"),
        ]
        # CLIP features of the edited images, cropped as CLIP does, and of edited and original ones, resized without
        # cropping as InstructPix2Pix does
        self.features: list[Tensor] = []
        self.squeezed: list[Tensor] = []

    def draw(self, scene: Scene4D, camera: Cameras, seconds: float, towards: float | None = None) -> Picture:
        """One image of a scene, with the flow of its points toward another time."""
        then = None if towards is None else scene.at(towards).means
        return render_gaussians(scene.at(seconds), camera, self.rasterizer, self.background, next_means=then)

    def image(self, view: int, index: int) -> Tensor:
        """Measure one frame of a view of the rig; returns its comparison row."""
        setting, seconds = self.setting, self.setting.seconds
        camera, now = setting.scene.rig[view], seconds[index]
        later = seconds[index + 1] if index + 1 < len(seconds) and self.wanted.wants_temporal else None
        scenes = (setting.scene, setting.original)
        drawn = [self.draw(scene, camera, now, later) for scene in scenes]
        ours, before = (picture.rgb[0].clamp(0, 1) for picture in drawn)
        if self.wanted.wants_temporal:
            for steadiness, picture in zip(self.steadiness, drawn, strict=True):
                steadiness.add(picture, camera, now)
        if self.parts and self.model is not None:
            masks = draw_parts(setting.original, self.model, self.parts, camera, [now])[:, 0]
            for part, mask in zip(self.parts, masks.to(ours), strict=True):
                self._inside_mask(part, ours, before, mask)
        if self.region is not None:
            self._outside_region(ours, before, camera, now)
        clip = self.networks.clip
        if clip is not None:
            self.features.append(clip.images(ours[None])[0])
            self.squeezed.append(clip.images(torch.stack([ours, before]), crops=False))
        return comparison_row(before, ours, None)

    def _inside_mask(self, part: str, ours: Tensor, before: Tensor, mask: Tensor) -> None:
        if not bool(mask.any()):
            return
        a, b = planes(ours), planes(before)
        self.means.add(f"psnr_{part}", psnr(a, b, mask[None]).clamp(max=LARGEST_PSNR))
        self.means.add(f"ssim_{part}", ssim_map(a, b)[0].mean(dim=0)[mask > 0].mean())

    def _outside_region(self, ours: Tensor, before: Tensor, camera: Cameras, now: float) -> None:
        assert self.region is not None
        scenes = (self.setting.scene, self.setting.original)
        share = torch.stack(
            [render_selection(scene, self.region, camera, [now], self.rasterizer)[0] for scene in scenes]
        ).amax(dim=0)
        change = (ours - before).abs().mean(dim=-1)
        for name, pixels in (("change_inside", share >= INSIDE), ("change_outside", share < TOUCHED)):
            if bool(pixels.any()):
                self.means.add(name, change[pixels].mean())

    def finish_view(self) -> None:
        """Measures that need all frames of one camera."""
        clip, name = self.networks.clip, self.networks.clip_name
        if clip is not None:
            features = torch.stack(self.features)
            edited, before = torch.stack(self.squeezed).unbind(1)
            if self.text:
                self.means.add("clip_s_sim", clip_similarity(features, clip.texts([self.text])[0]), name)
            source, target = self.wanted.source_caption, self.wanted.target_caption
            if source and target:
                captions = clip.texts([target, source])
                self.means.add("clip_s_dir", clip_direction(edited, before, captions[0], captions[1]), name)
            self.means.add("clip_c_adjacent", clip_c_adjacent(features), name)
            self.means.add("clip_c_direction", clip_c_direction(edited, before), name)
        self.start_view()

    def missing(self) -> list[str]:
        """A sentence for each reason why measures that the inputs allow are undefined."""
        measured = {n.name for n in self.means.numbers()}
        by_reason: dict[str, list[str]] = {}
        for name in self._allowed():
            if name not in measured:
                by_reason.setdefault(self._reason(name), []).append(name)
        return [
            f"{self.setting.name}: {', '.join(names)} undefined; {why}." for why, names in by_reason.items()
        ]

    def _allowed(self) -> list[str]:
        names = [f"{metric}_{part}" for part in self.parts for metric in ("psnr", "ssim")]
        if self.region is not None:
            names += ["change_inside", "change_outside"]
        if self.networks.clip is not None:
            names += ["clip_c_adjacent", "clip_c_direction"]
            names += ["clip_s_dir"] if self.wanted.source_caption and self.wanted.target_caption else []
        return names + (["flow_warp_error"] if self.wanted.wants_temporal else [])

    def _reason(self, name: str) -> str:
        if name.startswith(("psnr_", "ssim_")):
            return f"{name[5:]} visible in no image"
        if name.startswith("change_"):
            return (
                "the region is visible in no image"
                if name.endswith("inside")
                else "the region fills all images"
            )
        if name != "clip_s_dir" and len(self.setting.seconds) < 2:
            return "it takes two frames"
        return "no pixel is visible in two frames" if name.startswith("flow") else "the edit changes no image"
