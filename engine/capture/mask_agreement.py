"""Whether the masks of one frame agree: each pixel of a mask must have a place in space that the other masks allow too.

The test of the visual hull (Laurentini 1994), done along the rays of sampled pixels, so that it also says which mask is
probably wrong: one that lacks a part contradicts all others at the same places.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.carving import in_picture
from ..scene.cameras import Cameras
from .findings import Finding

# longer side of the masks that are compared, in pixels, and how far they are widened: about the error of a calibration
SIDE, WIDENED = 256, 2
# sampled pixels of a mask, and places along the ray of each
PIXELS, PLACES = 300, 96
# the box in which the subject may be, relative to the scene's
ROOM = 1.5


@dataclass(frozen=True)
class Agreement:
    """How far the masks of one frame agree.

    Args:
        agreed: View to the part of its mask that all other masks allow, in 0..1; views whose mask no other view sees are
            left out.
        lacking: View to the part of the other masks that it alone contradicts, in 0..1.
    """

    agreed: dict[int, float]
    lacking: dict[int, float]


def small_mask(mask: Tensor) -> Tensor:
    """A mask [H, W] uint8 as bool, with a longer side of at most SIDE pixels."""
    height, width = mask.shape
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return torch.nn.functional.interpolate(mask[None, None].float(), size, mode="area")[0, 0] > 127


def mask_agreement(cameras: Cameras, masks: Mapping[int, Tensor], bounds: Tensor) -> Agreement:
    """Compare the masks of one frame.

    Args:
        cameras: All views.
        masks: View to its mask [H, W] bool, of any size with the view's aspect ratio; from `small_mask`.
        bounds: Box around the scene [2, 3], world units.
    """
    sizes = [(int(m.shape[1]), int(m.shape[0])) for m in masks.values()]
    chosen = cameras[list(masks)].resized(tuple(sizes))
    wide = [_widened(mask) for mask in masks.values()]
    agreed: dict[int, float] = {}
    contradicted = torch.zeros(len(masks))
    asked = torch.zeros(len(masks))
    for own, (view, mask) in enumerate(masks.items()):
        points = _along_rays(chosen, own, mask, bounds)
        count = len(points)
        seen = torch.zeros(len(masks), count, PLACES, dtype=torch.bool)
        missed = torch.zeros_like(seen)
        for other, allowed in enumerate(wide):
            if other != own:
                column, row, hit = in_picture(chosen, points.flatten(0, 1), other)
                seen[other] = hit.view(count, PLACES)
                missed[other] = (hit & ~allowed[row, column]).view(count, PLACES)
        # a place that few views see says little
        needed = max(1, min(2, len(masks) - 1))
        faults = torch.where(seen.sum(0) >= needed, missed.sum(0), len(masks))
        least = faults.amin(1)
        known = least < len(masks)
        if not bool(known.any()):
            continue
        agreed[view] = float((least[known] == 0).float().mean())
        # of pixels that one view alone forbids, that view is blamed; where several could be, all of them in parts
        single = (faults == 1)[known & (least == 1)]
        blamed = (missed[:, known & (least == 1)] & single).any(-1).float()
        contradicted += (blamed / blamed.sum(0).clamp(min=1)).sum(1)
        asked += int(known.sum())
        asked[own] -= int(known.sum())
    lacking = (contradicted / asked.clamp(min=1)).tolist()
    return Agreement(agreed, dict(zip(masks, lacking, strict=True)))


def _widened(mask: Tensor) -> Tensor:
    side = 2 * WIDENED + 1
    return torch.nn.functional.max_pool2d(mask[None].float(), side, stride=1, padding=WIDENED)[0] > 0


def _along_rays(cameras: Cameras, view: int, mask: Tensor, bounds: Tensor) -> Tensor:
    """Places inside the scene's box on the rays of some pixels of a mask [P, PLACES, 3]."""
    rows, columns = mask.nonzero().unbind(1)
    some = torch.linspace(0, len(rows) - 1, min(PIXELS, len(rows))).long()
    pixels = torch.stack([columns[some], rows[some]], dim=-1).double() + 0.5
    K, pose = cameras.K[view].double(), cameras.world_to_camera[view].double()
    directions = torch.stack(
        [(pixels[:, 0] - K[0, 2]) / K[0, 0], (pixels[:, 1] - K[1, 2]) / K[1, 1], torch.ones(len(pixels))], -1
    )
    directions = directions @ pose[:3, :3]
    center = cameras.centers[view].double()
    middle = bounds.double().mean(0)
    half = ROOM * (bounds[1] - bounds[0]).double() / 2
    # where the rays enter and leave the box
    safe = torch.where(directions.abs() < 1e-12, 1e-12, directions)
    ends = torch.stack([(middle - half - center) / safe, (middle + half - center) / safe])
    near = ends.amin(0).amax(-1).clamp(min=1e-6)
    far = ends.amax(0).amin(-1)
    hits = far > near
    share = torch.linspace(0, 1, PLACES, dtype=torch.float64)
    depth = near[hits, None] + (far - near)[hits, None] * share
    return center + directions[hits, None] * depth[..., None]


# a mask of which less is agreed on is reported, and a view that contradicts more of the others is blamed
AGREED, LACKING = 0.8, 0.08
# factor between neighboring checked frames that one view's mask grows or shrinks by while others do not
JUMP = 2.0
REMEDY = (
    "Look at the masks of this frame. Make new ones with Segment by Text or, for one person, with Prepare Video's matting of "
    "people, or mend them by hand."
)


def check_agreement(names: Sequence[str], found: Mapping[int, Agreement]) -> list[Finding]:
    """Findings on how far masks agree.

    Args:
        names: Of the views.
        found: Frame to the agreement of its masks.
    """
    if not any(agreement.agreed for agreement in found.values()):
        return []
    worst = min(found, key=lambda moment: min(found[moment].agreed.values(), default=1.0))
    agreement = found[worst]
    view = min(agreement.agreed, key=lambda v: agreement.agreed[v])
    share = agreement.agreed[view]
    if share >= AGREED:
        return [
            Finding(
                "ok",
                "masks",
                f"The masks agree: at least {100 * share:.0f} % of each is inside the others' hull.",
            )
        ]
    text = (
        f"The masks of frame {worst} do not agree: only {100 * share:.0f} % of the mask of {names[view]} is inside the "
        "visual hull of the others."
    )
    short = max(agreement.lacking, key=lambda v: agreement.lacking[v])
    if agreement.lacking[short] > LACKING:
        text += f" That of {names[short]} probably lacks part of the subject."
    else:
        text += " It probably covers more than the subject."
    return [Finding("warning", "masks", text, REMEDY)]


def check_jumps(names: Sequence[str], coverage: Sequence[tuple[int, int, float]]) -> list[Finding]:
    """Findings on masks whose area jumps between checked frames while the others' areas stay.

    Args:
        names: Of the views.
        coverage: View, frame, and covered share of the image.
    """
    areas: dict[int, list[tuple[int, float]]] = {}
    for view, moment, share in coverage:
        areas.setdefault(view, []).append((moment, max(share, 1e-4)))
    factors = {
        (view, later): b / a
        for view, row in areas.items()
        for (_, a), (later, b) in itertools.pairwise(sorted(row))
    }
    for (view, moment), factor in factors.items():
        others = [f for (v, m), f in factors.items() if m == moment and v != view]
        if len(others) < 2:
            continue
        usual = statistics.median(others)
        if not 1 / JUMP < factor / usual < JUMP:
            text = (
                f"The mask of {names[view]} has {factor:.2g} times its area at frame {moment}, those of the other views "
                f"{usual:.2g} times."
            )
            return [Finding("warning", "masks", text, REMEDY)]
    return []
