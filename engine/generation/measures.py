"""Measures of generated scenes: image by image against references, as sets of clips, and of the motion itself.

Protocols: per-image means as GVFDiffusion (Zhang et al., ICCV 2025) reports them; its CLIP is the cosine similarity of the
images. Sets of clips are compared with FVD and KVD (engine/losses/video_distances.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion import windows
from ..errors import InputError
from ..figures.color_maps import error_picture
from ..losses import lpips, psnr, ssim
from ..losses.means import Means, Number
from ..losses.motion_quality import jerk, seam_ratio
from ..losses.perceptual import Clip, Lpips
from ..losses.video_distances import ClipFeatures, clips_of, frechet_distance, kernel_distance
from ..scene import Scene4D

# images that are compared at once, and clips
IMAGES_AT_ONCE, CLIPS_AT_ONCE = 16, 4
# Gaussians whose motion is looked at, and the opacity from which they count
MOST_TRACKED, VISIBLE = 20_000, 0.1


def fitted_to(video: Tensor, other: Tensor, names: tuple[str, str]) -> Tensor:
    """`other` [T, H', W', 3] at the size of `video` [T, H, W, 3].

    Raises:
        InputError: Other numbers of frames.
    """
    if len(video) != len(other):
        raise InputError(
            "GEN-022",
            f"{names[0]} has {len(video)} frames and {names[1]} {len(other)}; compare videos of the same frames.",
        )
    if video.shape == other.shape:
        return other
    planes, size = other.permute(0, 3, 1, 2), (video.shape[1], video.shape[2])
    fitted = F.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
    return fitted.permute(0, 2, 3, 1)


class ImageMeasures:
    """PSNR, SSIM, LPIPS and CLIP similarity of pairs of videos, as means over all images.

    Args:
        clip: None: no CLIP similarity.
        network: None: no LPIPS.
        device: Where they are compared.
    """

    def __init__(self, clip: Clip | None, network: Lpips | None, device: torch.device | str) -> None:
        self.clip, self.network, self.device = clip, network, device
        self.means = Means()

    @torch.no_grad()
    def add(self, ours: Tensor, other: Tensor) -> None:
        """Compare two videos [T, H, W, 3] in 0..1."""
        for a, b in zip(ours.split(IMAGES_AT_ONCE), other.split(IMAGES_AT_ONCE), strict=True):
            a, b = a.to(self.device), b.to(self.device)
            x, y = a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2)
            # equal images do not have a finite PSNR; 120 dB stands for them
            self.means.add("psnr", psnr(x, y).clamp(max=120))
            self.means.add("ssim", ssim(x, y))
            if self.network is not None:
                name = f"lpips_{self.network.kind} (standard)"
                self.means.add(name, lpips(x, y, self.network), self.network.name)
            if self.clip is not None:
                similar = (self.clip.images(a) * self.clip.images(b)).sum(dim=-1)
                self.means.add("clip_image_similarity", similar, f"{self.clip.name} at {self.clip.size} px")


def row_of(ours: Tensor, other: Tensor) -> Tensor:
    """A comparison row [H, 4W, 3] of two images: reference, generated, and their difference twice, plain and as a map."""
    return torch.cat([other, ours, (ours - other).abs(), error_picture(ours, other)], dim=1)


@dataclass(frozen=True)
class ClipSettings:
    """Which clips of a video are compared.

    Args:
        length: Frames of a clip.
        stride: Frames between the starts of two clips.
        most: Largest number of clips of each set; 0: all.
    """

    length: int = 16
    stride: int = 8
    most: int = 0


class ClipSet:
    """Features of the clips of a set of videos."""

    def __init__(self, features: ClipFeatures, settings: ClipSettings) -> None:
        self.features, self.settings = features, settings
        self.parts: list[Tensor] = []
        self.count = 0

    def add(self, video: Tensor) -> None:
        """Take the clips of a video [T, H, W, 3]."""
        clips = list(clips_of(video, self.settings.length, self.settings.stride))
        if self.settings.most:
            clips = clips[: max(self.settings.most - self.count, 0)]
        for start in range(0, len(clips), CLIPS_AT_ONCE):
            self.parts.append(self.features(torch.stack(clips[start : start + CLIPS_AT_ONCE])).cpu())
        self.count += len(clips)

    @property
    def vectors(self) -> Tensor:
        """[N, D]."""
        return torch.cat(self.parts) if self.parts else torch.zeros(0, 1)


def set_distances(ours: ClipSet, reference: ClipSet, seed: int = 0) -> tuple[Number, ...]:
    """FVD and KVD of two sets, named after their network; none where a set has fewer than two clips."""
    a, b = ours.vectors, reference.vectors
    if min(len(a), len(b)) < 2:
        return ()
    features, s = ours.features, ours.settings
    if len(a[0]) != len(b[0]) or not bool(a.isfinite().all() and b.isfinite().all()):
        raise InputError(
            "GEN-023", f"{features.name} returned NaN or infinite features; use another network."
        )
    mean, deviation = kernel_distance(a, b, torch.Generator().manual_seed(seed))
    names = ("fvd", "kvd", "kvd_std") if features.is_network else ("frechet", "mmd", "mmd_std")
    model = f"{features.name}; {len(a)} generated and {len(b)} reference clips of {s.length} frames, stride {s.stride}"
    values = (frechet_distance(a, b), mean, deviation)
    return tuple(
        Number(f"{name} ({features.name})", value, min(len(a), len(b)), model)
        for name, value in zip(names, values, strict=True)
    )


@torch.no_grad()
def positions(scene: Scene4D) -> Tensor:
    """Positions [T, N, 3] of visible Gaussians at the scene's frames, relative to the size of its box."""
    visible = (scene.canonical.logit_opacities.sigmoid() > VISIBLE).nonzero().flatten()
    if not len(visible):
        visible = torch.arange(len(scene.canonical), device=scene.device)
    chosen = visible[:: max(1, -(-len(visible) // MOST_TRACKED))]
    size = float((scene.bounds[1] - scene.bounds[0]).norm())
    return torch.stack([scene.at(t).means[chosen].cpu() for t in scene.times.tolist()]) / max(size, 1e-12)


def motion_numbers(scene: Scene4D, truth: Scene4D | None = None) -> tuple[Number, ...]:
    """Speed and jerk of the Gaussians, the jerk at joints of windows relative to elsewhere, and the distance to the truth.

    The unit of positions is the diagonal of the scene's box, that of time a frame.
    """
    track = positions(scene)
    if len(track) < 2:
        return ()
    count = track.shape[1]
    speed = float(track.diff(dim=0).norm(dim=-1).mean())
    made = [Number("speed", speed, count)]
    if len(track) > 3:
        shake = jerk(track)
        made.append(Number("jerk", float(shake.mean()), count))
        places = joints_of(scene)
        ratio = seam_ratio(shake, places)
        if places and ratio == ratio:
            made.append(Number("jerk_at_joints / elsewhere", ratio, len(places)))
    if truth is not None:
        other = positions(truth)
        if len(other) > 3:
            made.append(Number("jerk_truth", float(jerk(other).mean()), other.shape[1]))
        if len(truth.canonical) == len(scene.canonical) and len(truth.times) == len(scene.times):
            made.append(Number("position_error", _apart(scene, truth), len(scene.canonical)))
    return tuple(made)


def _apart(scene: Scene4D, truth: Scene4D) -> float:
    """Mean distance of the same Gaussians in both scenes, relative to the truth's box."""
    size = float((truth.bounds[1] - truth.bounds[0]).norm())
    errors = [
        (scene.at(float(a)).means - truth.at(float(b)).means).norm(dim=-1).mean()
        for a, b in zip(scene.times, truth.times, strict=True)
    ]
    return float(torch.stack(errors).mean()) / max(size, 1e-12)


def joints_of(scene: Scene4D) -> Sequence[int]:
    """Frames at which one window of its generation hands over to the next; empty where it was generated at once."""
    entries = [e for e in reversed(scene.history) if "window" in e.get("sampling", {})]
    if not entries or entries[0].get("frames") != len(scene.times):
        return ()
    sampling = entries[0]["sampling"]
    found = windows.plan(len(scene.times), int(sampling["window"]), int(sampling["overlap"]))
    return windows.joints(found)
