"""What a capture's numbers mean for training, as findings with remedies. Nothing is decoded here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scene import MultiViewVideo
from ..wording import listed
from .bounds import gaze_center, seen_share
from .inspection import Exposure, camera_spread

SEVERITIES = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    severity: str  # ok, note, warning, error
    subject: str  # what was checked: views, frames, sizes, …
    finding: str
    remedy: str = ""


def _named(video: MultiViewVideo, views: list[int] | tuple[int, ...]) -> str:
    return listed([video.cameras.names[v] for v in views])


def check_description(video: MultiViewVideo) -> list[Finding]:
    """Findings that need no decoding: views, frames, sizes, frame rate, held-out views, the reader's warnings."""
    rows = [Finding("warning", "files", warning) for warning in video.warnings]
    rows += [Finding("ok", "files", note) for note in video.notes]
    rows.append(_views(video))
    rows.append(_frames(video))
    sizes = Counter(video.cameras.sizes)
    (width, height), _ = sizes.most_common(1)[0]
    differ = f", {len(sizes)} different sizes" if len(sizes) > 1 else ""
    largest, smallest = max(w * h for w, h in sizes), min(min(s) for s in sizes)
    size = f"{width} × {height} pixels{differ}"
    if smallest < 48:
        rows.append(
            Finding("warning", "sizes", size, "Raise scale or use larger images; these show little detail.")
        )
    elif largest > 2600 * 1500:
        rows.append(
            Finding("note", "sizes", size, "Set scale to about 0.5; training takes less time and memory.")
        )
    else:
        rows.append(Finding("ok", "sizes", size))
    if video.fps:
        rows.append(Finding("ok", "frame rate", f"{video.fps:.4g} frames per second"))
    elif not any("frame rate" in warning for warning in video.warnings):
        rows.append(
            Finding(
                "note",
                "frame rate",
                "The layout does not store a frame rate.",
                "Set frames_per_second when loading if speeds matter.",
            )
        )
    if video.test_views:
        rows.append(Finding("ok", "held out", _named(video, video.test_views)))
    else:
        rows.append(
            Finding(
                "note", "held out", "No view is held out.", "Name one in hold_out to measure quality on it."
            )
        )
    if video.test_moments:
        held = f"{len(video.test_moments)} of {video.moments} frames, in every view"
        rows.append(Finding("ok", "held out", held))
    return rows


def _views(video: MultiViewVideo) -> Finding:
    spread, training = camera_spread(video), len(video.views_to_train())
    if spread.places == 1:
        return Finding(
            "error",
            "views",
            "All images were taken from one position, which does not show depth.",
            "Record with more cameras, or with one that moves around the subject.",
        )
    if video.views > 3 and int(video.available.sum()) == video.views:
        text = f"A moving camera with {video.views} images, {training} of them to train on."
        if video.moments < video.views:
            text = (
                f"Moving cameras with {video.views} images of {video.moments} frames, {training} to train on."
            )
        return Finding("note", "views", text, "Move the camera more than the subject moves between images.")
    if training < 4:
        text = f"{training} views to train on."
        return Finding("warning", "views", text, "Use four or more; surfaces that no camera sees stay empty.")
    return Finding("ok", "views", f"{video.views} views, {training} to train on.")


def _frames(video: MultiViewVideo) -> Finding:
    total, seconds = int(video.available.sum()), float(video.times[-1] - video.times[0])
    text = f"{video.moments} frames over {seconds:.4g} s, {total} images."
    if video.moments == 1:
        return Finding("note", "frames", text, "A single frame gives a scene without motion.")
    gaps = video.times.diff()
    if float(gaps.max()) > 3.5 * float(gaps.median()):
        at = int(gaps.argmax())
        text += f" There is a gap of {float(gaps.max()):.4g} s after {float(video.times[at]):.4g} s."
        return Finding(
            "warning",
            "frames",
            text,
            "Motion across the gap is interpolated; add the missing frames if possible.",
        )
    return Finding("ok", "frames", text)


def check_exposure(video: MultiViewVideo, light: Exposure) -> list[Finding]:
    rows: list[Finding] = []
    # whole images also differ by what they show
    allowed = 1.0 if light.at_points else 2.0
    off = [v for v, s in enumerate(light.stops) if abs(s) > 0.3 * allowed]
    if off:
        worst = max(off, key=lambda v: abs(light.stops[v]))
        word = "brighter" if light.stops[worst] > 0 else "darker"
        text = (
            f"Exposure differs: {_named(video, off)}; {video.cameras.names[worst]} is {abs(light.stops[worst]):.1f} "
            f"stops {word} than the median view."
        )
        rows.append(
            Finding(
                "warning", "exposure", text, "Lock exposure on all cameras, or match them before loading."
            )
        )
    cast = [v for v, c in enumerate(light.cast) if c > 0.2 * allowed]
    if cast:
        text = f"Colors differ between cameras: {_named(video, cast)}."
        rows.append(Finding("warning", "exposure", text, "Use the same white balance on all cameras."))
    flicker = [v for v, f in enumerate(light.flicker) if f > 0.3]
    if flicker:
        text = (
            f"Brightness changes over time by up to {max(light.flicker):.1f} stops: {_named(video, flicker)}."
        )
        rows.append(
            Finding("note", "exposure", text, "If the light was constant, turn automatic exposure off.")
        )
    if light.blank:
        view, moment = light.blank[0]
        text = f"{len(light.blank)} images are blank, first {video.cameras.names[view]} at frame {moment}."
        rows.append(Finding("warning", "exposure", text, "Remove the view or trim these frames."))
    return rows or [Finding("ok", "exposure", "Brightness and colors agree between views.")]


def check_masks(video: MultiViewVideo, coverage: list[tuple[int, int, float]]) -> list[Finding]:
    if not coverage:
        return [Finding("ok", "masks", "No masks; the whole image is used.")]
    shares = [share for _, _, share in coverage]
    text = f"The subject covers {100 * sum(shares) / len(shares):.1f} % of the images."
    empty = list(dict.fromkeys(v for v, _, share in coverage if share < 1e-4))
    if empty:
        return [
            Finding(
                "warning",
                "masks",
                f"{text} Masks are empty in {_named(video, empty)}.",
                "Check that 255 marks the subject; an empty mask removes it from the scene.",
            )
        ]
    if min(shares) > 0.97:
        return [
            Finding(
                "warning",
                "masks",
                text,
                "The masks cover everything; check whether they are inverted or blank.",
            )
        ]
    return [Finding("ok", "masks", text)]


def check_spread(video: MultiViewVideo) -> list[Finding]:
    spread = camera_spread(video)
    if spread.places == 1:
        return []
    rows: list[Finding] = []
    if spread.twins:
        a, b = spread.twins[0]
        if not _take_turns(video, spread.twins):
            text = f"{video.cameras.names[a]} and {video.cameras.names[b]} have the same pose"
            rows.append(
                Finding(
                    "warning",
                    "camera spread",
                    f"{text}.",
                    "Check the calibration; two cameras cannot share a position.",
                )
            )
    text = f"Views span {spread.widest:.0f}°, neighboring views are {spread.neighbour:.0f}° apart (median)."
    if spread.behind or spread.miss > 0.35:
        more = (
            f" {len(spread.behind)} views face away from the others' common point." if spread.behind else ""
        )
        remedy = "If they all show one subject, check the axes of the calibration."
        rows.append(
            Finding("warning", "camera spread", f"The cameras do not look at one common point.{more}", remedy)
        )
    elif spread.widest < 10:
        rows.append(
            Finding(
                "warning",
                "camera spread",
                text,
                "Depth is hard to estimate; render close to the captured cameras.",
            )
        )
    elif spread.loneliest > 50:
        alone = video.cameras.names[spread.loneliest_view]
        rows.append(
            Finding(
                "warning",
                "camera spread",
                f"{text} {alone} is {spread.loneliest:.0f}° from its nearest neighbor.",
                "Wide gaps leave surfaces that only one camera sees; add views in between, or masks.",
            )
        )
    else:
        rows.append(Finding("ok", "camera spread", text))
    return rows


def _take_turns(video: MultiViewVideo, twins: tuple[tuple[int, int], ...]) -> bool:
    """Whether the views of each pair never share a frame: then they are images of one camera, not a fault."""
    return all(not bool((video.available[a] & video.available[b]).any()) for a, b in twins)


def check_bounds(video: MultiViewVideo, bounds: Tensor) -> list[Finding]:
    low, high = bounds.tolist()
    size = " × ".join(f"{b - a:.3g}" for a, b in zip(low, high, strict=True))
    rows: list[Finding] = []
    if video.near is not None and video.far is not None:
        _, along = gaze_center(video)
        outside = ~((along > 0.5 * video.near) & (along < 1.5 * video.far))
        if float(outside.double().mean()) > 0.5:
            text = (
                f"near {video.near:.4g} and far {video.far:.4g} do not include what the cameras look at, which is "
                f"{float(along.median()):.4g} away."
            )
            rows.append(
                Finding("warning", "bounds", text, "Check that they use the units of the camera positions.")
            )
    text = f"The scene's bounding box is {size} units" + (
        " around the initial points." if video.points is not None else "."
    )
    if video.points is not None and len(video.points) >= 50:
        middle = 0.5 * (bounds[0] + bounds[1])
        share = float(
            seen_share(
                video, torch.stack([middle, *video.points[:: max(1, len(video.points) // 200)].double()])
            ).mean()
        )
        if share < 0.3:
            rows.append(
                Finding(
                    "warning",
                    "bounds",
                    f"{text} The views see only {100 * share:.0f} % of the initial points.",
                    "The points may belong to other cameras; remove their file or export them again.",
                )
            )
    inside = [
        v
        for v, c in enumerate(video.cameras.centers.double())
        if bool(((c > bounds[0]) & (c < bounds[1])).all())
    ]
    if inside and not rows:
        rows.append(
            Finding(
                "note",
                "bounds",
                f"{text} {len(inside)} cameras are inside it.",
                "Set near and far, or add initial points, for a tighter box.",
            )
        )
    return rows or [Finding("ok", "bounds", text)]
