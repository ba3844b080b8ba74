"""What a training came to, in words: how well the scene shows its own images and held-out ones, and what is probably wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..capture.inspection import camera_spread
from ..deform import PerFrame, Static
from ..errors import InputError
from ..figures.color_maps import spread
from ..geometry.carving import in_picture
from ..losses.metrics import decibels
from ..render import Rasterizer, render_gaussians
from ..scene import MultiViewVideo, Scene4D
from .targets import Targets

# images that are looked at, of each kind
IMAGES = 8
# PSNR in dB below which a scene does not look like its images, inside the masks and over whole images
POOR_INSIDE, POOR = 15.0, 20.0
# dB that unseen views may be worse by
GAP = 6.0
# Gaussians that are seen: less opaque ones are not counted; and the part of them that may lie outside the masks
OPACITY, OUTSIDE = 0.2, 0.1
# views and degrees between neighbors from which a capture has few, wide views
FEW, WIDE = 6, 40.0
# frames up to which an offset per frame is suggested
SHORT = 30
UNMEASURED = "The scene is complete, but memory ran out when it was compared with its images. Evaluate Scene measures it."


@dataclass(frozen=True)
class Verdict:
    """PSNR in dB; None where there is nothing to measure.

    Args:
        trained: Over images that were trained on.
        trained_inside: Inside their masks.
        held_out: Over images of held-out views and frames.
        held_out_inside: Inside their masks.
        outside: Part of the visible Gaussians that most views see outside their masks.
        advice: What is probably wrong and what to try, a sentence each; empty: nothing.
    """

    trained: float
    trained_inside: float | None
    held_out: float | None
    held_out_inside: float | None
    outside: float | None
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; figures with two decimals."""
        rounded = {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return rounded | {"advice": list(self.advice)}


def verdict_text(found: dict[str, Any] | None) -> str:
    """A few lines about a verdict's JSON, or about a training that has none because memory ran out."""
    if found is None:
        return UNMEASURED
    lines = [_line("trained images", found["trained"], found["trained_inside"])]
    if found["held_out"] is not None:
        lines.append(_line("held-out images", found["held_out"], found["held_out_inside"]))
    if found["outside"]:
        lines.append(f"{100 * found['outside']:.0f} % of the Gaussians float outside the masks")
    return "\n".join([*lines, *found["advice"]])


def _line(what: str, whole: float, inside: float | None) -> str:
    return f"{what}: {whole:.1f} dB" + ("" if inside is None else f", {inside:.1f} dB inside the masks")


def gap_advice(gap: float) -> list[str]:
    """A sentence where images that were not trained on are worse by more than `GAP` dB; else none."""
    if gap <= GAP:
        return []
    return [
        f"Held-out images are {gap:.0f} dB worse: between the trained views the scene is a guess. Add cameras in between, or "
        "lower the number of Gaussians."
    ]


def verdict_of(
    scene: Scene4D,
    video: MultiViewVideo,
    trained: Sequence[tuple[int, int]],
    held_out: Sequence[tuple[int, int]],
    rasterizer: Rasterizer,
) -> Verdict:
    """Measure a scene on a few of its images.

    Args:
        scene: As trained.
        video: What it was trained on.
        trained: (view, frame) of images that were trained on.
        held_out: Those of images that were not.
        rasterizer: Draws them.
    """
    scene = scene.with_(background=scene.background.to(scene.device))
    targets = Targets(video, scene.background)
    seen, seen_inside = _measured(scene, video, targets, trained, rasterizer)
    new, new_inside = _measured(scene, video, targets, held_out, rasterizer)
    assert seen is not None, "images that were trained on can be read"
    outside = _outside(scene, video, trained) if video.has_masks else None
    verdict = Verdict(seen, seen_inside, new, new_inside, outside)
    views = len({view for view, _ in trained})
    follows = isinstance(scene.deformation, PerFrame | Static)
    return replace(verdict, advice=tuple(_advice(verdict, video, views, follows)))


@torch.no_grad()
def _measured(
    scene: Scene4D,
    video: MultiViewVideo,
    targets: Targets,
    samples: Sequence[tuple[int, int]],
    rasterizer: Rasterizer,
) -> tuple[float | None, float | None]:
    """PSNR over all pixels and over those inside the masks, of some images together."""
    errors: list[Tensor] = []
    inside: list[Tensor] = []
    for i in spread(len(samples), IMAGES):
        view, moment = samples[i]
        try:
            target = targets.get(view, moment)
        except InputError:
            # a held-out image that cannot be read must not cost what was trained
            continue
        now = scene.at(float(video.times[moment]))
        drawn = render_gaussians(now, video.cameras[view], rasterizer, scene.background).rgb[0].clamp(0, 1)
        error = (drawn - target.image).square().mean(-1)
        errors.append(error.flatten())
        if target.mask is not None:
            inside.append(error[target.mask > 0.5])
    if not errors:
        return None, None
    masked = torch.cat(inside) if inside else torch.empty(0)
    return decibels(float(torch.cat(errors).mean())), decibels(float(masked.mean())) if len(masked) else None


@torch.no_grad()
def _outside(scene: Scene4D, video: MultiViewVideo, samples: Sequence[tuple[int, int]]) -> float | None:
    """Part of the visible Gaussians outside the masks of more than half of the views that see them, at one frame."""
    moment = samples[len(samples) // 2][1]
    views = [v for v, m in samples if m == moment]
    now = scene.at(float(video.times[moment])).activated()
    means = now.means[now.opacities.flatten() > OPACITY].cpu()
    hits, misses = torch.zeros(len(means)), torch.zeros(len(means))
    for view in views:
        mask = video.source.read(view, moment).mask
        if mask is None:
            continue
        column, row, hit = in_picture(video.cameras, means, view)
        hits += hit
        misses += hit & (mask[row, column] < 128)
    if not bool((hits > 0).any()):
        return None
    return float((misses > 0.5 * hits).sum() / (hits > 0).sum())


def _advice(found: Verdict, video: MultiViewVideo, views: int, follows: bool) -> list[str]:
    """Sentences for what looks wrong after a training on `views` views; none if nothing does.

    `follows`: whether Gaussians have an offset at every frame, or nothing moves.
    """
    poor_inside = found.trained_inside is not None and found.trained_inside < POOR_INSIDE
    poor = poor_inside or found.trained < POOR
    angle = camera_spread(video).neighbour if views > 1 else 0.0
    few = 1 < views < FEW and angle > WIDE
    advice: list[str] = []
    if poor:
        where = "inside the masks of" if poor_inside else "in"
        advice.append(
            f"The scene does not look like the subject, even {where} the images that it was trained on. If the training was "
            "short, raise iterations; otherwise run Pre-flight Check: cameras, masks or times do not fit the images."
        )
    if poor and not follows and video.moments <= SHORT:
        advice.append(
            f"{video.moments} frames are few for a deformation field, which suits small steps between many frames: set motion "
            "to per_frame."
        )
    if found.held_out is not None:
        advice += gap_advice(found.trained - found.held_out)
    if found.outside is not None and found.outside > OUTSIDE:
        advice.append(
            "Many Gaussians lie outside the masks: the masks of some views keep the background or lack the subject. Run "
            "Pre-flight Check, and mend the masks that it names."
        )
    if few and (advice or found.held_out is None):
        advice.append(
            f"{views} views {angle:.0f}° apart leave most of the space between them unseen. Correct masks, depth maps (depth "
            "weight in Training Settings) and fewer Gaussians help; more cameras help most."
        )
    return advice
