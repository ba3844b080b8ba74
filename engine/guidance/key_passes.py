"""Key passes and injection in an edit of many views: which images are keys, and what each chunk takes from them.

Source: DGE (Chen et al., ECCV 2024), as in Edit3DGS. At each timestep one random view per chunk is a key; all keys of a
frame go through the network in one batch with extended attention, and the chunks are injected from them. Added: images
of several frames (times). Injection stays within a frame, because epipolar lines exist only there; the keys of other
frames also attend to those of the reference frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..diffusion.epipolar import Epipolar, by_angle
from ..diffusion.key_views import Injection, KeyViews, Recording
from ..errors import InputError
from ..scene import Cameras

# views per chunk where the request leaves it open
CHUNK = 5
# timestep below which every image attends to itself alone
PLAIN_BELOW = 100


@dataclass(frozen=True, eq=False)
class Placement:
    """Where and when the images of an edit were taken.

    Args:
        cameras: F views, one per image.
        frames: Frame index of each image.
    """

    cameras: Cameras
    frames: tuple[int, ...]


class KeyPasses:
    """The plan of an edit with attention "epipolar".

    Args:
        placement: Cameras and frames of the images.
        count: F.
        key: Index of an image of the reference frame.
        chunk: Views per chunk; 0: CHUNK.
        steps: Number of timesteps.
        seed: Seed of the choice of key views.
        branch: Guidance branch in which tokens are matched.

    Raises:
        InputError: The placement is missing, or describes another number of images.
    """

    def __init__(
        self,
        placement: Placement | None,
        count: int,
        key: int,
        chunk: int,
        steps: int,
        seed: int,
        branch: int,
    ) -> None:
        if placement is None:
            raise InputError(
                "GUI-011",
                "Attention 'epipolar' needs the cameras of the images, and they are missing. Give the edit a placement, "
                "or choose another attention.",
            )
        if not len(placement.cameras) == len(placement.frames) == count:
            raise InputError(
                "GUI-012",
                f"The edit has {count} images, but the placement has {len(placement.cameras)} cameras and "
                f"{len(placement.frames)} frames; give one of each per image.",
            )
        self.placement, self.branch = placement, branch
        self.epipolar = Epipolar(placement.cameras)
        self.chunks: list[list[int]] = []
        # of each group, the chunks that belong to it: those of one frame
        self._groups: list[list[int]] = []
        self._group_of: list[int] = []
        size = chunk or CHUNK
        for frame in self._frames(key):
            views = by_angle(
                placement.cameras, [i for i, other in enumerate(placement.frames) if other == frame]
            )
            parts = [views[i : i + size] for i in range(0, len(views), size)]
            self._groups.append([len(self.chunks) + i for i in range(len(parts))])
            self._group_of += [len(self._groups) - 1] * len(parts)
            self.chunks += parts
        drawn = torch.rand(steps, len(self.chunks), generator=torch.Generator().manual_seed(seed))
        sizes = torch.tensor([len(part) for part in self.chunks])
        # [timestep][chunk]: position in the chunk
        self._keys = torch.minimum((drawn * sizes).long(), sizes - 1).tolist()
        self._recorded: dict[int, KeyViews] = {}
        self._position = -1

    def _frames(self, key: int) -> list[int]:
        """Frames in ascending order after the reference frame."""
        reference = self.placement.frames[key]
        return [reference, *sorted(set(self.placement.frames) - {reference})]

    def keys(self, position: int, group: int) -> list[int]:
        """Key images of a frame at a timestep, one per chunk."""
        return [self.chunks[i][self._keys[position][i]] for i in self._groups[group]]

    def keys_before(self, chunk: int) -> int:
        """Number of key images that go through the network before this chunk: those of its frame before the first."""
        group = self._groups[self._group_of[chunk]]
        return len(group) if chunk == group[0] else 0

    def attention(
        self,
        position: int,
        chunk: int,
        size: tuple[int, int],
        run: Callable[[list[int], Recording], None],
    ) -> Injection:
        """What attention does for a chunk at a timestep; runs the key passes that it needs and that are not done yet.

        Args:
            position: Index of the timestep.
            chunk: Index of the chunk.
            size: (rows, columns) of the latents.
            run: Runs the network on images with an attention.
        """
        if position != self._position:
            self.forget()
            self._position = position
        group = self._group_of[chunk]
        for needed in (0, group):
            if needed not in self._recorded:
                self._record(position, needed, run)
        keys = self.keys(position, group)
        nearest = 1 if chunk == self._groups[group][0] else 2
        return Injection(self._recorded[group], self.epipolar, self.chunks[chunk], keys, size, nearest)

    def _record(self, position: int, group: int, run: Callable[[list[int], Recording], None]) -> None:
        # the record of a frame that is done goes; that of the reference frame stays for the others
        self._recorded = {0: self._recorded[0]} if 0 in self._recorded else {}
        keys = self.keys(position, group)
        views = KeyViews(
            len(keys),
            self.branch,
            self._recorded[0] if group else None,
            is_reference=not group and len(self._groups) > 1,
        )
        run(keys, Recording(views))
        self._recorded[group] = views

    def forget(self) -> None:
        """Free the records."""
        self._recorded, self._position = {}, -1

    def at_one_place(self) -> list[tuple[int, int]]:
        """Pairs of images of one frame whose cameras have the same center."""
        frames = self.placement.frames
        return [
            (i, j)
            for j in range(len(frames))
            for i in range(j)
            if frames[i] == frames[j] and self.epipolar.is_same_place(i, j)
        ]

    def notes(self) -> list[str]:
        """What was grouped, and cameras without an epipolar line between them."""
        names, several = self.placement.cameras.names, len(self._groups) > 1
        largest = max(len(part) for part in self.chunks)
        found = [
            f"Epipolar attention: {len(self._groups)} frame{'s' if several else ''}, {len(self.chunks)} "
            f"chunk{'s' if len(self.chunks) > 1 else ''} of up to {largest} views, one key view per chunk."
        ]
        pairs = self.at_one_place()
        if pairs:
            first, second = pairs[0]
            found.append(
                f"Cameras {names[first]} and {names[second]} are at the same position"
                f"{f', and {len(pairs) - 1} further pairs' if len(pairs) > 1 else ''}: epipolar lines do not exist "
                "between them, and their tokens are matched without the constraint."
            )
        return found
