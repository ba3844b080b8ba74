"""Moving parts of a clip as pixel-aligned patches that follow their tracks through all frames.

Where a point is hidden, it moves with its visible neighbors; where the image shows something farther away in its place, it
is not there. A frame adds the moving pixels that earlier patches do not show.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from ...scene.cameras import Cameras
from ...tracking.tracks import ClipFlow, pixel_centers
from .seen_points import seen_points, shown_pixels
from .unproject import Patches, depth_edges, patches_of, world_points

# visible neighbors whose motion a hidden point follows
NEIGHBORS = 8
# relative depth by which the image has to be farther for a point not to be there, and to be the same surface
FREE, SAME, SLIP = 0.06, 0.05, 0.1
# share of shown pixels around a pixel from which it counts as shown
AROUND = 0.3
# pixels, and share of its neighbors' movement, by which a point may move otherwise
MOST_PIXELS_OFF, SHARE_OFF = 2.5, 0.2
# frames between two that add patches
EVERY = 3
# a patch that is tracked in fewer frames is left out, where there are others
LEAST_FRAMES = 2


class MovingParts(NamedTuple):
    """P patches, and where they are at each frame."""

    patches: Patches
    places: Tensor  # [T, P, 3] world
    present: Tensor  # [T, P] bool

    def take(self, index: Tensor) -> MovingParts:
        """Selected patches: bool [P] or long [M]."""
        return MovingParts(self.patches.take(index), self.places[:, index], self.present[:, index])


def moving_parts(
    images: Tensor, depth: Tensor, cameras: Cameras, moving: Tensor, flow: ClipFlow
) -> Generator[int, None, MovingParts | None]:
    """Patches of what moves, with their tracks.

    Args:
        images: Frames [T, H, W, 3] in 0..1.
        depth: [T, H, W] in world units, NaN where unknown.
        cameras: T cameras.
        moving: [T, H, W] bool.
        flow: Flow of the clip.

    Yields:
        Number of finished frames, of T.

    Returns:
        The moving parts; None where nothing moves.
    """
    frames, height, width = depth.shape
    usable = moving & ~depth_edges(depth)
    middle = frames // 2
    order = [middle, *(t for t in range(0, frames, EVERY) if t != middle)]
    if frames - 1 not in order:
        order.append(frames - 1)
    centers = pixel_centers(width, height, depth)
    parts: MovingParts | None = None
    for done, t in enumerate(order):
        new = usable[t]
        if parts is not None:
            new = new & ~_shown(parts, depth[t], cameras[t], t)
        if bool(new.any()):
            found = _followed(images, depth, cameras, usable, flow, t, new, centers[new])
            parts = found if parts is None else _joined(parts, found)
        yield (done + 1) * frames // len(order)
    return parts


def _joined(a: MovingParts, b: MovingParts) -> MovingParts:
    return MovingParts(
        Patches.joined([a.patches, b.patches]),
        torch.cat([a.places, b.places], 1),
        torch.cat([a.present, b.present], 1),
    )


def _shown(parts: MovingParts, depth: Tensor, camera: Cameras, t: int) -> Tensor:
    """Moving pixels [H, W] bool that the patches already show at frame `t`."""
    at = seen_points(parts.places[t], depth, camera)
    return shown_pixels(at, at.agree(SAME) & parts.present[t], (depth.shape[0], depth.shape[1]), AROUND)


def _followed(
    images: Tensor,
    depth: Tensor,
    cameras: Cameras,
    usable: Tensor,
    flow: ClipFlow,
    frame: int,
    new: Tensor,
    pixels: Tensor,
) -> MovingParts:
    """The new pixels [H, W] of one frame, and where they are in all others."""
    frames, height, width = depth.shape
    patches = patches_of(images[frame], torch.nan_to_num(depth[frame], nan=1.0), cameras[frame], new)
    tracks, visible = flow.followed(frame, pixels)
    places = patches.places[None].repeat(frames, 1, 1)
    seen = torch.zeros_like(visible)
    for way in (1, -1):
        last = depth[frame][new]
        lost = torch.zeros(len(last), dtype=torch.bool)
        for t in range(frame + way, frames if way > 0 else -1, way):
            column, row = tracks[t].floor().long().unbind(1)
            column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
            here = depth[t, row, column]
            # a track whose depth jumps has slipped onto another surface; NaN, where depth is unknown, says nothing
            lost |= (here - last).abs() > SLIP * last
            seen[t] = visible[t] & usable[t, row, column] & ~lost
            places[t] = torch.where(seen[t][:, None], world_points(here, cameras[t], tracks[t]), places[t])
            last = torch.where(seen[t], here, last)
    seen[frame] = True
    places[frame] = patches.places
    seen = _agreeing(places, seen, frame, patches.footprint)
    for way in (1, -1):
        end = frames if way > 0 else -1
        for t in range(frame + way, end, way):
            _carry(places, seen, t, t - way, frame)
    present = torch.stack([_present(places[t], seen[t], depth[t], cameras[t]) for t in range(frames)])
    made = MovingParts(patches, places, present)
    enough = seen.sum(0) >= min(LEAST_FRAMES, frames)
    return made.take(enough) if bool(enough.any()) else made


def _agreeing(places: Tensor, seen: Tensor, frame: int, footprint: Tensor) -> Tensor:
    """`seen` [T, P] without the points that moved otherwise than their neighbors: tracks slide at edges."""
    # imported on first use: the pack loads without scipy
    from scipy.spatial import KDTree

    count = min(NEIGHBORS + 1, len(footprint))
    if count < 3:
        return seen
    _, index = KDTree(places[frame].numpy()).query(places[frame].numpy(), k=count)
    shift = places - places[frame]
    kept = seen.clone()
    for t in range(len(places)):
        around = shift[t][torch.from_numpy(index)]
        valid = seen[t][torch.from_numpy(index)]
        around = torch.where(valid[..., None], around, torch.nan)
        usual = around.nanmedian(1).values
        off = (shift[t] - usual).norm(dim=1)
        bound = MOST_PIXELS_OFF * footprint + SHARE_OFF * usual.norm(dim=1)
        kept[t] = seen[t] & (off < bound) & (valid.sum(1) >= 2)
    kept[frame] = seen[frame]
    return kept


def _carry(places: Tensor, seen: Tensor, t: int, before: int, frame: int) -> None:
    """Moves the points that are not seen at `t` as their neighbors of frame `frame` moved since `before`."""
    from scipy.spatial import KDTree

    hidden, known = ~seen[t], seen[t]
    if not bool(hidden.any()):
        return
    if not bool(known.any()):
        places[t] = places[before]
        return
    source = known.nonzero().flatten()
    count = min(NEIGHBORS, len(source))
    tree = KDTree(places[frame, source].numpy())
    _, index = tree.query(places[frame, hidden].numpy(), k=count)
    index = torch.from_numpy(index).reshape(-1, count)
    moved = (places[t] - places[before])[source]
    places[t, hidden] = places[before, hidden] + moved[index].median(1).values


def _present(places: Tensor, seen: Tensor, depth: Tensor, camera: Cameras) -> Tensor:
    """Whether points [P] are there: seen, or hidden behind something, or outside the image."""
    at = seen_points(places, depth, camera)
    return seen | ~(at.inside & (at.depth > (1 + FREE) * at.z))
