"""Measures of a scene against a made one of which everything is known (training/reconstruction)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.generation.output_measures import OutputVideo, TrackedVideo, path_numbers
from engine.losses.photometric import ssim
from engine.messages import returned
from engine.render import choose, render_gaussians
from engine.scene import Scene4D
from training.reconstruction.data import Sample
from training.reconstruction.evaluate import masked_psnr
from training.reconstruction.losses import pearson

# what every row of the benchmark has
KEYS = (
    "psnr_first",
    "psnr_path",
    "psnr_novel",
    "psnr_moving",
    "ssim_novel",
    "depth_pearson",
    "track_error",
    "track_error_still",
    "camera_error",
    "seconds",
)
# a Gaussian that is less opaque has no part in the motion of a point
LEAST_OPACITY = 0.1
_RASTERIZER = choose("auto", "cpu")


@dataclass(frozen=True, eq=False)
class Shown:
    """What the views of a sample see of a scene: images [V, H, W, 3] and depths [V, H, W], 0 where it is empty."""

    images: Tensor
    depths: Tensor


@torch.no_grad()
def shown(scene: Scene4D, sample: Sample) -> Shown:
    """Render all views of a sample, each at its own frame."""
    images: list[Tensor] = []
    depths: list[Tensor] = []
    for view, frame in enumerate(sample.frames):
        now = scene.at(float(scene.times[int(frame)]))
        drawn = render_gaussians(now, sample.cameras[view], _RASTERIZER, scene.background, want_depth=True)
        assert drawn.depth is not None
        images.append(drawn.rgb[0].clamp(0, 1))
        depths.append(torch.where(drawn.alpha[0] > 0.5, drawn.depth[0], 0.0))
    return Shown(torch.stack(images), torch.stack(depths))


def measured(scene: Scene4D, sample: Sample, own: list[int], seconds: float) -> dict[str, float | None]:
    """The row of one scene.

    Args:
        scene: In the axes and units of the sample's first camera, with a time for each frame of the path.
        sample: The truth.
        own: The frames whose points are followed [A].
        seconds: What making the scene took.

    Returns:
        KEYS; camera_error is None where cameras cannot be solved from the rendered path.
    """
    count = len(sample.path)
    seen = shown(scene, sample)
    true, everywhere = sample.images.float() / 255, torch.ones_like(seen.depths)
    novel, wanted = seen.images[count:], true[count:]
    flat = [x.permute(0, 3, 1, 2) for x in (novel, wanted)]
    depth = sample.depths[count:].float() * (seen.depths[count:] > 0)
    error, still = track_errors(scene, sample, own)
    return {
        "psnr_first": masked_psnr(seen.images[:1], true[:1], everywhere[:1]),
        "psnr_path": masked_psnr(seen.images[:count], true[:count], everywhere[:count]),
        "psnr_novel": masked_psnr(novel, wanted, everywhere[count:]),
        "psnr_moving": masked_psnr(novel, wanted, sample.moving[count:].float()),
        "ssim_novel": float(ssim(*flat).mean()),
        "depth_pearson": float(pearson(seen.depths[count:], depth).mean()),
        "track_error": error,
        "track_error_still": still,
        "camera_error": camera_error(seen, sample),
        "seconds": seconds,
    }


@torch.no_grad()
def track_errors(scene: Scene4D, sample: Sample, own: list[int]) -> tuple[float, float]:
    """Mean distance of points that move from where they are at all other frames, and that of standing still.

    A point moves as the visible Gaussian does that is nearest to it at the frame where it is seen.
    """
    frames = [scene.at(float(time)) for time in scene.times]
    centers, directions = sample.cell_rays()
    off: list[Tensor] = []
    still: list[Tensor] = []
    for a, frame in enumerate(own):
        moves = sample.moves[a] & sample.known[a]
        if not bool(moves.any()):
            continue
        points = centers[frame] + directions[frame][moves] * sample.distances[frame][moves].float()[:, None]
        visible = frames[frame].activated().opacities >= LEAST_OPACITY
        candidates = frames[frame].means[visible]
        nearest = visible.nonzero()[:, 0][torch.cdist(points, candidates).argmin(-1)]
        start = frames[frame].means[nearest]
        for other, moment in enumerate(frames):
            if other == frame:
                continue
            truth = sample.shifts[a, other][moves].float()
            off.append((moment.means[nearest] - start - truth).norm(dim=-1))
            still.append(truth.norm(dim=-1))
    return float(torch.cat(off).mean()), float(torch.cat(still).mean())


def camera_error(seen: Shown, sample: Sample) -> float | None:
    """Error of cameras solved from the rendered path between neighboring frames, in parts of the path's length."""
    count = len(sample.path)
    depth = torch.where(seen.depths[:count] > 0, seen.depths[:count], torch.nan)
    video = OutputVideo(seen.images[:count], sample.path, depth)
    numbers, _ = path_numbers(returned(TrackedVideo.of(video)))
    found = {number.name: number.value for number in numbers}
    return found.get("rpe_translation / path length")


def mean_rows(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Means over scenes; of a camera error, over the scenes that have one."""
    result: dict[str, float | None] = {}
    for key in rows[0]:
        values = [value for row in rows if (value := row[key]) is not None]
        result[key] = round(sum(values) / len(values), 4) if values else None
    return result
