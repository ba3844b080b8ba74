"""Measures of one generated video: agreement with its prompt, consistency, matches between frames, and its camera path.

Protocols: those that Diff4Splat (Pan et al., CVPR 2026) reports. Consistency is VBench's (Huang et al., CVPR 2024). The paper
does not name its matcher and its pose solver; here both are the weight-free tracker and the solver of Lift Video to 4D.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..geometry.pose_errors import path_length, relative_pose_error
from ..losses.means import Number
from ..losses.perceptual import Clip, clip_similarity
from ..models.dino import DinoFeatures
from ..scene import Cameras
from ..tracking.patches import registered
from ..tracking.tracks import ClipTracks, clip_flow, grid_tracks
from .left_out import FEWEST, about_tracking
from .lift.depth_maps import DepthMaps
from .lift.placing import solved_clip

IMAGES_AT_ONCE = 16
# longer side in pixels at which points are tracked, and the most frames
TRACKED_SIZE, TRACKED_FRAMES = 320, 121
# cells of the grid of keypoints across the longer side, and frames between two beginnings, as in Lift Video to 4D
CELLS, EVERY = 20, 6
# path length, relative to the median depth, below which a camera counts as fixed
FIXED = 1e-3


@dataclass(frozen=True, eq=False)
class OutputVideo:
    """A rendered video.

    Args:
        frames: [T, H, W, 3] in 0..1 on the CPU.
        cameras: A camera for each frame; None: one that does not move.
        depth: [T, H, W] in world units, NaN where the scene is empty; given with `cameras`.
    """

    frames: Tensor
    cameras: Cameras | None = None
    depth: Tensor | None = None


@dataclass(frozen=True, eq=False)
class OutputNetworks:
    """Networks and words that the user gave; without one, its numbers are left out.

    Args:
        clip: For the CLIP score and background consistency.
        dino: For subject consistency.
        prompt: What the video should show.
    """

    clip: Clip | None
    dino: DinoFeatures | None
    prompt: str


def frame_consistency(features: Tensor) -> Tensor:
    """Consistency of each frame after the first: the mean of its similarity to the first and to the previous frame.

    Args:
        features: Unit features of T frames [T, D].

    Returns:
        [T − 1] in 0..1; negative similarities count as 0.

    Source:
        VBench (Huang et al., CVPR 2024), subject and background consistency.
    """
    first, previous = features[1:] @ features[0], (features[1:] * features[:-1]).sum(dim=-1)
    return (first.clamp(min=0) + previous.clamp(min=0)) / 2


def network_numbers(video: OutputVideo, networks: OutputNetworks) -> Iterator[Number]:
    """CLIP score (cosine similarity with the prompt × 100) and consistency, each with its network."""
    parts = video.frames.split(IMAGES_AT_ONCE)
    if (clip := networks.clip) is not None:
        features, name = torch.cat([clip.images(part) for part in parts]), f"{clip.name} at {clip.size} px"
        if networks.prompt:
            scores = 100 * clip_similarity(features, clip.texts([networks.prompt])[0])
            yield _mean("clip_score", scores, name)
        if len(features) > 1:
            yield _mean("background_consistency", frame_consistency(features), name)
    if (dino := networks.dino) is not None and len(video.frames) > 1:
        features = torch.cat([dino.images(part) for part in parts])
        yield _mean("subject_consistency", frame_consistency(features), f"{dino.name} at 224 px")


def _mean(name: str, values: Tensor, model: str) -> Number:
    return Number(name, float(values.mean()), len(values), model)


@dataclass(frozen=True, eq=False)
class TrackedVideo:
    """A video at the size of tracking, and points followed through it."""

    frames: Tensor
    cameras: Cameras | None
    depth: Tensor | None
    tracks: ClipTracks

    @staticmethod
    def of(video: OutputVideo) -> Generator[int, None, TrackedVideo]:
        """Follow points through a video of at least `FEWEST` frames; only its first frames if it is long.

        Yields:
            Number of finished pairs of frames.
        """
        frames = video.frames[:TRACKED_FRAMES, ..., :3].float()
        height, width = frames.shape[1:3]
        factor = min(1.0, TRACKED_SIZE / max(height, width))
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        cameras, depth = video.cameras, video.depth
        if size != (width, height):
            planes = frames.permute(0, 3, 1, 2)
            planes = F.interpolate(planes, size[::-1], mode="bilinear", antialias=True, align_corners=False)
            frames = planes.permute(0, 2, 3, 1).contiguous()
        if cameras is not None and depth is not None:
            cameras = cameras[list(range(len(frames)))].resized((size,) * len(frames))
            depth = F.interpolate(depth[: len(frames), None].float(), size[::-1], mode="nearest-exact")[:, 0]
        flow = yield from clip_flow(frames)
        cell = max(4, round(max(size) / CELLS))
        tracks = registered(flow, frames, grid_tracks(flow, frames, cell, EVERY, least=1))
        return TrackedVideo(frames, cameras, depth, tracks)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames.shape[2], self.frames.shape[1]


def match_numbers(video: TrackedVideo) -> tuple[Number, ...]:
    """Keypoints of a frame that are found again in another frame: their mean number, and their share of the keypoints.

    Keypoints are the best textured pixels of a grid in every 6th frame. They are followed by optical flow, checked forward and
    backward, and compared with the patch where they began.
    """
    tracks, count = video.tracks, len(video.frames)
    begun = torch.bincount(tracks.anchors, minlength=count)
    begins = int((begun > 0).sum())
    if not begins:
        return ()
    pairs = begins * (count - 1)
    # every track is visible where it began
    found = int(tracks.visible.sum()) - len(tracks)
    model = f"TV-L1 tracker at {video.size[0]}×{video.size[1]}, {len(tracks)} keypoints in {begins} frames"
    share = found / (len(tracks) * (count - 1))
    return Number("matches", found / pairs, pairs, model), Number("match_share", share, pairs, model)


def path_numbers(video: TrackedVideo) -> tuple[tuple[Number, ...], str]:
    """Relative pose error of cameras that are solved from the video against its path; else nothing, and why in a sentence."""
    cameras, depth = video.cameras, video.depth
    if cameras is None or depth is None:
        return (), "it needs the camera path that was asked for; connect one with a camera per frame."
    known = depth[~depth.isnan()]
    if not len(known):
        return (), "the scene is not seen along the camera path; connect the path that was asked for."
    if path_length(cameras) < FIXED * float(known.median()):
        return (), "the camera path does not move; connect one that does."
    maps = DepthMaps(depth, None, None, False, "")
    try:
        solved = solved_clip(video.tracks, maps, "depth", float(cameras.K[:, 0, 0].median()), None).cameras
    except InputError as error:
        return (
            (),
            f"cameras cannot be solved from the rendered video ({error.code}); use a path that moves sideways.",
        )
    error = relative_pose_error(solved, cameras)
    model = f"cameras solved from {video.size[0]}×{video.size[1]} pixels and the scene's depth"
    pairs = len(cameras) - 1
    numbers = (
        Number("rpe_translation", error.translation, pairs, model),
        Number("rpe_translation / path length", error.translation / error.length, pairs, model),
        Number("rpe_rotation", error.rotation, pairs, model),
    )
    return numbers, ""


def tracked_numbers(video: OutputVideo) -> Generator[int, None, tuple[tuple[Number, ...], list[str]]]:
    """What tracked points say of a video, and sentences about what they do not; yields as `TrackedVideo.of`."""
    count = len(video.frames)
    if count < FEWEST:
        return (), about_tracking(count, False, "")
    tracked = yield from TrackedVideo.of(video)
    matches = match_numbers(tracked)
    errors, reason = path_numbers(tracked)
    return (*matches, *errors), about_tracking(count, bool(matches), reason)


def reference_path_numbers(video: OutputVideo | None) -> Generator[int, None, tuple[Number, ...]]:
    """The same errors of the video that a scene was generated from: whether that video followed the path."""
    if video is None or len(video.frames) < FEWEST:
        return ()
    tracked = yield from TrackedVideo.of(video)
    errors, _ = path_numbers(tracked)
    return tuple(replace(number, name=f"{number.name} (reference images)") for number in errors)
