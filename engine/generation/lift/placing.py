"""Cameras and depth in world units for a clip: given, fixed, or solved for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.clip_cameras import Sightings, SolvedClip, solve_cameras
from ...geometry.clip_start import FEWEST, line
from ...scene.cameras import Cameras
from ...tracking.tracks import ClipTracks
from .clip_input import ClipInput
from .depth_maps import DepthMaps, cameras_of
from .moving_masks import grown
from .unproject import depth_edges, world_points

# median displacement over the clip, as a share of the width, below which the camera rests; and displacement by the camera's
# movement below which it only turns
REST, PARALLAX = 0.004, 0.008
# horizontal field of view in degrees where nothing says what it is
FIELD_OF_VIEW = 55.0
# depth that disparities of unknown shift span with a fixed camera
NEAR, FAR = 1.0, 8.0
# error in pixels at a width of 160 up to which a triangulated point is used
FITS = 1.5


class PlacedClip(NamedTuple):
    """Cameras and depth in one world."""

    cameras: Cameras  # [T]
    depth: Tensor  # [T, H, W] in world units, NaN where unknown
    notes: list[str]
    agreement: float | None  # median relative difference of a point's depth between frames


def placed_clip(clip: ClipInput, tracks: ClipTracks, cameras: str, depth_kind: str, fov: float) -> PlacedClip:
    """Cameras and depth in one world.

    Args:
        clip: The frames, and what is known of them.
        tracks: Points followed through them.
        cameras: "auto", "solve" or "fixed": see the settings of Lift Video to 4D.
        depth_kind: "auto", "depth" or "disparity": what bright means in depth images.
        fov: Horizontal field of view in degrees; 0: that of the depth, else solved for.

    Raises:
        InputError: Cameras cannot be solved, or do not fit the depth.
    """
    maps, rig = clip.depth, clip.cameras
    width = clip.size[0]
    focal = None
    if fov:
        focal = width / 2 / math.tan(math.radians(fov) / 2)
        maps = maps if maps.K is None else maps._replace(K=with_focal(maps.K, focal))
        rig = None if rig is None else replace(rig, K=with_focal(rig.K, focal))
    elif maps.K is not None:
        focal = float(maps.K[:, 0, 0].median())
    kind = depth_kind if maps.may_be_disparity else "depth"
    if cameras == "auto" and rig is not None:
        return given_clip(rig, maps, tracks, kind, "connected")
    trusted = None if clip.masks is None else _outside(tracks, clip.masks)
    still = tracks if trusted is None else tracks.take(trusted)
    if cameras == "auto" and maps.world_to_camera is not None:
        of_depth = cameras_of(maps, maps.world_to_camera, clip.size)
        if of_depth is not None:
            return given_clip(of_depth, maps, tracks, kind, "those of the depth")
    if cameras == "fixed" or (cameras == "auto" and len(still) and rests(still, width)):
        placed = fixed_clip(maps, still, kind, focal)
        if cameras == "auto":
            placed.notes[0] = "cameras: the camera does not move"
        return placed
    return solved_clip(tracks, maps, kind, focal, trusted)


def _outside(tracks: ClipTracks, masks: Tensor) -> Tensor:
    """Tracks [N] bool that begin outside of the masks."""
    at = torch.arange(len(tracks))
    column, row = tracks.pixels[tracks.anchors, at].floor().long().unbind(1)
    return ~grown(masks, 2)[tracks.anchors, row, column]


def sightings(tracks: ClipTracks, values: Tensor, is_disparity: bool) -> Sightings:
    """Depth map values at the tracks, without those at edges."""
    frames, height, width = values.shape
    clean = torch.where(depth_edges(values) | (values <= 0), torch.nan, values)
    column, row = tracks.pixels.floor().long().unbind(-1)
    at = clean[torch.arange(frames)[:, None], row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return Sightings(tracks.pixels, tracks.visible, tracks.anchors, at, is_disparity)


def rests(tracks: ClipTracks, width: int) -> bool:
    """Whether most tracked points stay where they are: the camera does not move."""
    at = torch.arange(len(tracks))
    apart = (tracks.pixels - tracks.pixels[tracks.anchors, at]).norm(dim=-1)
    farthest = torch.where(tracks.visible, apart, 0).amax(0)
    return float(farthest.median()) < REST * width


def solved_clip(
    tracks: ClipTracks, maps: DepthMaps, kind: str, focal: float | None, trusted: Tensor | None
) -> PlacedClip:
    """Solve for cameras and for each depth map's scale and shift.

    Args:
        tracks: Points followed through the clip.
        maps: Its depth maps.
        kind: "auto", "depth" or "disparity".
        focal: Focal length in pixels; None: solved for.
        trusted: Tracks [N] bool that are not known to move.

    Raises:
        InputError: The camera only turns, or tracks are too few.
    """
    height, width = maps.values.shape[1:]
    kinds = [kind == "disparity"] if kind != "auto" or not maps.may_be_disparity else [False, True]
    tried: list[tuple[SolvedClip, bool]] = []
    for is_disparity in kinds:
        seen = sightings(tracks, maps.values, is_disparity)
        tried.append((solve_cameras(seen, (width, height), focal, trusted), is_disparity))
    found, is_disparity = min(tried, key=lambda pair: pair[0].cost)
    if found.parallax < PARALLAX * width:
        raise InputError(
            "GEN-036",
            f"Cameras cannot be solved from a video whose camera only turns (near and far move alike, within "
            f"{found.parallax:.1f} pixels). Connect cameras, or choose 'fixed' for a part in which the camera hardly moves.",
        )
    depth = in_world(maps.values, found.scale, found.shift, is_disparity)
    length = float(found.cameras.centers.diff(dim=0).norm(dim=1).sum())
    turned = float(_angles(found.cameras).max())
    field = math.degrees(2 * math.atan(width / 2 / float(found.cameras.K[0, 0, 0])))
    error = float(found.errors.nanmedian())
    notes = [
        f"cameras: solved, path of {length / float(depth[0].nanmedian()):.2f} × the median depth, turning by {turned:.0f}°, "
        f"median error {error:.2f} pixels",
        f"horizontal field of view: {field:.1f}°" + ("" if focal else ", solved"),
    ]
    if len(kinds) > 1 or is_disparity:
        notes.append(
            ("depth images: bright is near (disparity)" if is_disparity else "depth images: bright is far")
            + (", as the cameras fit better" if len(kinds) > 1 else "")
        )
    return PlacedClip(found.cameras, depth, notes, depth_agreement(tracks, depth, found.cameras))


def in_world(values: Tensor, scale: Tensor, shift: Tensor, is_disparity: bool) -> Tensor:
    """Depth [T, H, W] from map values with scales [T] and shifts [T]; what falls behind the camera has none."""
    fitted = values * scale[:, None, None].to(values) + shift[:, None, None].to(values)
    fitted = torch.where(
        fitted > 1e-4 * fitted.flatten(1).nanmedian(1).values[:, None, None].abs(), fitted, torch.nan
    )
    return 1 / fitted if is_disparity else fitted


def fixed_clip(maps: DepthMaps, tracks: ClipTracks, kind: str, focal: float | None) -> PlacedClip:
    """One camera for all frames; depth maps are matched to the first one where nothing moves."""
    frames, height, width = maps.values.shape
    is_disparity = kind == "disparity" or (
        kind == "auto" and maps.may_be_disparity and _nearer_below(maps.values)
    )
    notes = ["cameras: one fixed camera"]
    values = maps.values
    if is_disparity:
        known = values[0][~values[0].isnan()]
        low, high = known.quantile(0.01), known.quantile(0.99)
        values = 1 / FAR + (values - low) / (high - low).clamp(min=1e-9) * (1 / NEAR - 1 / FAR)
        notes.append(f"depth images: bright is near (disparity), taken as depths from {NEAR:g} to {FAR:g}")
    scale, shift = torch.ones(frames), torch.zeros(frames)
    seen = sightings(tracks, values, is_disparity)
    apart = (tracks.pixels - tracks.pixels[0]).norm(dim=-1)
    for t in range(1, frames):
        here = seen.visible[t] & seen.visible[0] & (apart[t] < 2 * REST * width)
        here &= ~seen.values[t].isnan() & ~seen.values[0].isnan()
        if int(here.sum()) >= FEWEST:
            log_scale, shift[t] = line(seen.values[t, here], seen.values[0, here])
            scale[t] = log_scale.exp()
    depth = in_world(values, scale, shift, is_disparity)
    if maps.K is None and focal is None:
        notes.append(f"horizontal field of view: {FIELD_OF_VIEW:g}°, a guess")
    focal = focal or width / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    poses = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    names = tuple(f"frame{i:04}" for i in range(frames))
    cameras = cameras_of(maps, poses, (width, height)) or Cameras(
        poses, K.repeat(frames, 1, 1), ((width, height),) * frames, names
    )
    return PlacedClip(cameras, depth, notes, None)


def with_focal(K: Tensor, focal: float) -> Tensor:
    """Intrinsics [T, 3, 3] with another horizontal focal length in pixels; pixels keep their proportions."""
    changed = K.clone()
    changed[:, 0, 0], changed[:, 1, 1] = focal, focal * K[:, 1, 1] / K[:, 0, 0]
    return changed


def given_clip(cameras: Cameras, maps: DepthMaps, tracks: ClipTracks, kind: str, source: str) -> PlacedClip:
    """Cameras that are known; each depth map's scale and shift are fitted to the points that they triangulate."""
    points, fits = triangulated(cameras, tracks)
    fits &= ~points.isnan().any(1)
    is_disparity = kind == "disparity"
    fitted: dict[bool, tuple[Tensor, Tensor, float]] = {}
    for option in [False, True] if kind == "auto" and maps.may_be_disparity else [is_disparity]:
        fitted[option] = _fit_to_points(cameras, points, fits, sightings(tracks, maps.values, option))
    is_disparity = min(fitted, key=lambda option: fitted[option][2])
    scale, shift, error = fitted[is_disparity]
    notes = [f"cameras: {source}"]
    if not math.isfinite(error):
        if is_disparity or maps.may_be_disparity:
            raise InputError(
                "GEN-037",
                "The connected cameras hardly move or do not fit the video, so the depth images' scale cannot be found. Check "
                "the cameras, connect the geometry of a Depth Anything 3 or MoGe node, or solve the cameras.",
            )
        notes.append("depth: used as it is")
    else:
        notes.append(f"depth: fitted to the cameras, median difference {error:.1%}")
    if is_disparity:
        notes.append("depth images: bright is near (disparity)")
    depth = in_world(maps.values, scale, shift, is_disparity)
    return PlacedClip(cameras, depth, notes, depth_agreement(tracks, depth, cameras))


def _fit_to_points(
    cameras: Cameras, points: Tensor, fits: Tensor, seen: Sightings
) -> tuple[Tensor, Tensor, float]:
    """Scale [T], shift [T] and the median relative error, infinite where points are too few."""
    frames = len(seen.values)
    scale, shift = torch.ones(frames).double(), torch.zeros(frames).double()
    errors: list[Tensor] = []
    for t in range(frames):
        _, z = cameras.project(points, t)
        here = fits & seen.visible[t] & ~seen.values[t].isnan() & (z > 1e-6)
        if int(here.sum()) < FEWEST:
            return torch.ones(frames).double(), torch.zeros(frames).double(), math.inf
        x, y = seen.values[t, here].double(), 1 / z[here] if seen.is_disparity else z[here]
        log_scale, shift[t] = line(x, y)
        scale[t] = log_scale.exp()
        errors.append((scale[t] * x + shift[t] - y).abs() / y)
    return scale, shift, float(torch.cat(errors).median())


def triangulated(cameras: Cameras, tracks: ClipTracks) -> tuple[Tensor, Tensor]:
    """Points [N, 3] nearest to all rays of each track, NaN without parallax, and whether they fit, [N] bool."""
    directions = torch.cat([tracks.pixels, torch.ones_like(tracks.pixels[..., :1])], -1).double()
    inverse = torch.linalg.inv(cameras.K.double()).transpose(1, 2)
    rays = torch.nn.functional.normalize(
        directions @ inverse @ cameras.world_to_camera[:, :3, :3].double(), dim=-1
    )
    away = torch.eye(3).double() - rays[..., :, None] * rays[..., None, :]
    away = away * tracks.visible[..., None, None]
    A = away.sum(0)
    b = (away @ cameras.centers.double()[:, None, :, None]).sum(0)
    weakest = torch.linalg.eigvalsh(A)[:, 0]
    points = torch.linalg.lstsq(A + 1e-12 * torch.eye(3).double(), b).solution[..., 0]
    # rays within about half a degree say nothing about depth
    points[weakest < 1e-4 * tracks.visible.sum(0)] = torch.nan
    errors = torch.stack(
        [(cameras.project(points, t)[0] - tracks.pixels[t]).norm(dim=1) for t in range(len(cameras))]
    )
    errors = torch.where(tracks.visible, errors, torch.nan)
    return points, errors.nanmedian(0).values < FITS * cameras.sizes[0][0] / 160


def depth_agreement(tracks: ClipTracks, depth: Tensor, cameras: Cameras) -> float | None:
    """Median relative difference between a tracked point's depth in its first frame and in the others."""
    seen = sightings(tracks, depth, False)
    found: list[Tensor] = []
    anchors = seen.anchors
    for start in anchors.unique().tolist():
        index = (anchors == start).nonzero().flatten()
        pixels = tracks.pixels[start, index].double()
        z = seen.values[start, index].double()
        world = world_points(z, cameras[start], pixels)
        for t in range(len(cameras)):
            if t != start:
                _, there = cameras.project(world, t)
                other = seen.values[t, index]
                found.append(((there - other).abs() / there)[tracks.visible[t, index] & (there > 0)])
    values = torch.cat(found) if found else torch.zeros(0)
    values = values[~values.isnan()]
    return float(values.median()) if len(values) else None


def _angles(cameras: Cameras) -> Tensor:
    """Degrees between each camera's orientation and the first one's, [T]."""
    turn = cameras.world_to_camera[:, :3, :3] @ cameras.world_to_camera[0, :3, :3].T
    cosine = (turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def _nearer_below(values: Tensor) -> bool:
    """Whether the lower third of the maps has larger values than the upper one: the ground is near, so they are disparities."""
    third = values.shape[1] // 3
    return float(values[:, -third:].nanmedian()) > float(values[:, :third].nanmedian())
