"""A glTF file's animation as vertices per frame: nodes, skins and morph targets evaluated.

Own code in numpy: the packages that read glTF (pygltflib, trimesh) do not evaluate animations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...files.paths import printable
from ...geometry.animated_mesh import AnimatedMesh
from .document import Document
from .nodes import NodeTree, read_channels
from .poses import Poses
from .samplers import Sampler
from .surfaces import Surface, read_surfaces, target_counts

Array = NDArray[Any]

# numbers of all frames (1 GB), and what a small file may claim of them: SMALL and PER_BYTE for each of its bytes
MOST_NUMBERS, SMALL, PER_BYTE = 250_000_000, 100_000_000, 64
# an hour at 24 per second
MOST_FRAMES = 100_000
# frames that are evaluated at a time, and numbers that these may have
BLOCK, BLOCK_NUMBERS = 1000, 1_000_000
# operations on a node for a block of frames (a surface or a channel counts as CHANNEL of them): some ten seconds
MOST_WORK, CHANNEL = 5_000_000, 20
# of the mesh's own size: what counts as no motion, and as hidden
STILL, HIDDEN = 1e-6, 1e-5


def action_names(document: Document) -> list[str]:
    """The names of the animations, in order; those without one are called by their number."""
    animations = document.items("animations")
    return [printable(str(each.get("name") or f"animation {i}"))[:80] for i, each in enumerate(animations)]


def read_animated_mesh(
    document: Document, action: str = "", fps: float = 24.0, hidden: tuple[str, ...] = ()
) -> Generator[tuple[int, int], None, AnimatedMesh]:
    """Evaluate one animation of a file; yields frames done and to do, and returns the mesh.

    Args:
        document: The opened file.
        action: The animation's name, in any case, or its number from 0; empty takes the first.
        fps: Frames per second.
        hidden: Names of nodes or meshes to leave out, lowercase.

    Returns:
        The mesh at its first keyframe and every 1/fps seconds after it, in the file's units (meters, y up).

    Raises:
        InputError: The file has no animation or no triangles, the animation is unknown, moves nothing or changes the
            triangles that are shown, or it needs too much memory or time.
    """
    try:
        return (yield from _evaluated(document.reread(), action, fps, hidden))
    except InputError:
        raise
    except (TypeError, AttributeError, KeyError, ValueError, IndexError) as error:
        # JSON of a stranger: a list where an object belongs, a text where a number does
        raise InputError(
            "GLT-040",
            f"{document.name} is damaged: its objects do not have glTF's structure. Export it again.",
        ) from error


def _evaluated(
    document: Document, action: str, fps: float, hidden: tuple[str, ...]
) -> Generator[tuple[int, int], None, AnimatedMesh]:
    tree = NodeTree(document)
    surfaces = read_surfaces(document, tree, hidden)
    if not surfaces:
        raise InputError(
            "GLT-033",
            f"{document.name} has no triangles to bind a splat to. Export it with its mesh, not the skeleton alone.",
        )
    names = action_names(document)
    if not names:
        raise InputError(
            "GLT-034",
            f"{document.name} has no animation. Export it with its actions, or choose an animated file.",
        )
    number = _chosen(names, action, document.name)
    animation = document.items("animations")[number]
    channels = read_channels(document, animation, target_counts(document, tree))
    start, count = _frames(channels, fps)
    vertices = sum(len(s.positions) for s in surfaces)
    most = min(MOST_NUMBERS, SMALL + PER_BYTE * document.total)
    if count * vertices * 3 > most:
        raise InputError(
            "GLT-035",
            f"{document.name}: {count:,} frames of {vertices:,} vertices need {count * vertices * 12e-9:,.1f} GB, more than the "
            f"limit of {most * 4e-9:.1f} GB. Lower the frame rate or reduce the mesh.",
        )
    wanted = {node for surface in surfaces for node in surface.nodes}
    poses = Poses(tree, channels, wanted)
    joints = sum(len(s.nodes) for s in surfaces)
    block = max(1, min(BLOCK, BLOCK_NUMBERS // (16 * len(poses) + 20 * vertices + 40 * joints)))
    work = math.ceil(count / block) * (len(poses) + CHANNEL * (len(channels) + len(surfaces)))
    if count > MOST_FRAMES or work > MOST_WORK:
        raise InputError(
            "GLT-042",
            f"{document.name}: {count:,} frames of {len(surfaces):,} meshes and {len(poses):,} nodes are more than can be "
            "evaluated. Lower the frame rate, shorten the animation, or join its meshes.",
        )
    seconds = start + np.arange(count) / fps
    still = poses.at_rest()
    rest = np.concatenate([s.at(still, poses.row, s.rest_weights[None])[0] for s in surfaces])
    frames = np.empty((count, vertices, 3), np.float32)
    ends = list(itertools.accumulate(len(s.positions) for s in surfaces))
    for done in range(0, count, block):
        times = seconds[done : done + block]
        world = poses.at(times)
        for end, surface in zip(ends, surfaces, strict=True):
            moved = surface.at(world, poses.row, surface.weights_at(channels, times))
            frames[done : done + block, end - len(surface.positions) : end] = moved
        yield done + len(times), count
    _check_motion(frames, rest, surfaces, names[number], document.name)
    offsets = np.cumsum([0, *(len(s.positions) for s in surfaces[:-1])])
    return AnimatedMesh(
        rest=torch.from_numpy(rest.astype(np.float32)),
        frames=torch.from_numpy(frames),
        seconds=torch.arange(count, dtype=torch.float64) / fps,
        faces=torch.from_numpy(np.concatenate([s.faces + o for s, o in zip(surfaces, offsets, strict=True)])),
        colors=torch.from_numpy(np.concatenate([s.colors for s in surfaces])),
        action=names[number],
        name=document.name,
    )


def _chosen(names: list[str], action: str, file: str) -> int:
    wanted = action.strip().lower()
    if not wanted:
        return 0
    lowered = [name.lower() for name in names]
    if wanted in lowered:
        return lowered.index(wanted)
    if wanted.isdecimal() and int(wanted[:6]) < len(names):
        return int(wanted)
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    raise InputError("GLT-036", f"{file} has no animation '{printable(action)[:60]}'. It has: {listed}.")


def _frames(channels: dict[tuple[int, str], Sampler], fps: float) -> tuple[float, int]:
    """The first keyframe's time, and how many frames there are up to the last keyframe."""
    first = min((float(s.times[0]) for s in channels.values()), default=0.0)
    last = max((float(s.times[-1]) for s in channels.values()), default=0.0)
    return first, math.floor((last - first) * fps + 1e-6) + 1


def _check_motion(frames: Array, rest: Array, surfaces: list[Surface], action: str, file: str) -> None:
    """Raise InputError where nothing moves, numbers are not finite, or other triangles are shown over time."""
    if not np.isfinite(frames.sum(dtype=np.float64)) or not np.isfinite(rest).all():
        raise InputError(
            "GLT-037",
            f"{file}: the animation '{action}' gives vertices that are not finite. Export the file again.",
        )
    size = float(np.ptp(frames[0], axis=0).max()) or 1.0
    if len(frames) < 2 or float(np.ptp(frames, axis=0).max()) < STILL * size:
        raise InputError(
            "GLT-038",
            f"{file}: the animation '{action}' moves nothing. Choose another action, or export the motion with the mesh.",
        )
    starts = np.cumsum([0, *(len(s.positions) for s in surfaces)])
    shown = np.array(
        [np.ptp(frames[:, a:b], axis=1).max(axis=-1) > HIDDEN * size for a, b in itertools.pairwise(starts)]
    )
    # a sequence of meshes shows one after another: no part is there at all times
    if len(surfaces) > 1 and not shown.all(axis=1).any():
        raise InputError(
            "GLT-039",
            f"{file}: the animation '{action}' shows other meshes over time (changing topology), so a splat cannot follow one. "
            "Use one mesh that is deformed.",
        )
