"""Occupied cells of a grid: their neighbors, their coarser cells, and which of them attend to each other.

Everything that depends on the coordinates alone is computed once per set of voxels, by sorting and searching integer
keys; nothing loops over voxels. A sampling run calls a network many times on the same set.

Source: TRELLIS (Xiang et al., CVPR 2025), released code (modules/sparse).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

# bits of a key per axis; coordinates are shifted by one, so that a neighbor at -1 stays inside its axis
_BITS = 16
_LARGEST = (1 << _BITS) - 3

# the 13 offsets that come before (0, 0, 0) in the order of a kernel's cells; the other 13 are their negatives
_OFFSETS = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
_CENTER = len(_OFFSETS) // 2


@dataclass(frozen=True)
class Bucket:
    """Groups of similar size, as rows of one padded table.

    Args:
        groups: Number of each group [S].
        rows: Voxel of each place [S, L]; padding repeats the group's first voxel.
        valid: Which places are not padding [S, L]; None: all.
        places: The places that are not padding, counted through the table row by row.
    """

    groups: Tensor
    rows: Tensor
    valid: Tensor | None
    places: Tensor

    def scatter(self, out: Tensor, values: Tensor) -> None:
        """Write values [S, L, ...] to the voxels' rows of `out` [V, ...]."""
        out[self.rows.flatten()[self.places]] = values.flatten(0, 1)[self.places]


class Groups:
    """A partition of voxels into groups that attend within themselves.

    Args:
        ids: Group of each voxel [V], any integers.
        pad: Put groups of similar size into one padded bucket (many small groups); otherwise groups share a bucket
            only if their sizes are equal (few large groups), so that attention needs no mask.
    """

    def __init__(self, ids: Tensor, pad: bool) -> None:
        order = torch.argsort(ids, stable=True)
        sizes = torch.unique_consecutive(ids[order], return_counts=True)[1]
        starts = sizes.cumsum(0) - sizes
        # next power of two: at most half of a row is padding, and a window of 512 voxels makes ten buckets
        classes = torch.ceil(torch.log2(sizes.double())).long() if pad else sizes
        self.buckets: list[Bucket] = []
        for kind in classes.unique().tolist():
            groups = torch.nonzero(classes == kind).flatten()
            length = int(sizes[groups].max())
            place = torch.arange(length, device=ids.device)
            valid = place < sizes[groups, None]
            rows = order[starts[groups, None] + torch.where(valid, place, 0)]
            places = torch.nonzero(valid.flatten()).flatten()
            self.buckets.append(Bucket(groups, rows, None if len(places) == rows.numel() else valid, places))

    def within(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the voxels of each group to each other: `Attend` on [V, heads, d]."""
        out = torch.empty_like(q)
        for bucket in self.buckets:
            queries, keys, values = (x[bucket.rows].transpose(1, 2) for x in (q, k, v))
            mask = None if bucket.valid is None else bucket.valid[:, None, None]
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            bucket.scatter(out, mixed.transpose(1, 2))
        return out

    def across(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of the voxels of group g to the tokens of row g: q [V, heads, d], k and v [B, S, heads, d]."""
        out = torch.empty_like(q)
        for bucket in self.buckets:
            picked = (q[bucket.rows], k[bucket.groups], v[bucket.groups])
            queries, keys, values = (x.transpose(1, 2) for x in picked)
            mixed = F.scaled_dot_product_attention(queries, keys, values)
            bucket.scatter(out, mixed.transpose(1, 2))
        return out


@dataclass(frozen=True)
class Coarse:
    """Voxels of twice the size.

    Args:
        voxels: The occupied coarse cells, sorted by (sample, x, y, z).
        parent: Row of each fine voxel's coarse cell [V].
    """

    voxels: Voxels
    parent: Tensor

    def pool(self, features: Tensor) -> Tensor:
        """Sum over the children divided by (their number + 1): [V, C] to [coarse V, C].

        The published networks were trained with a scatter-mean that counts its initial zero as one more child.
        """
        total = features.new_zeros(len(self.voxels), features.shape[1], dtype=torch.float32)
        total = total.index_add(0, self.parent, features.float())
        count = torch.bincount(self.parent, minlength=len(self.voxels))
        return (total / (count[:, None] + 1)).to(features.dtype)


class Voxels:
    """Occupied cells of a batch of grids.

    Args:
        coords: Columns (sample, x, y, z) [V, 4], integers, no row twice, samples in order and none empty.

    Raises:
        ValueError: A row is repeated, samples are out of order, or a coordinate is out of range.
    """

    def __init__(self, coords: Tensor) -> None:
        if coords.ndim != 2 or coords.shape[1] != 4 or coords.is_floating_point() or not len(coords):
            raise ValueError(
                f"voxels need integer coordinates [V, 4], got {tuple(coords.shape)} {coords.dtype}"
            )
        coords = coords.long()
        if int(coords.min()) < 0 or int(coords.max()) > _LARGEST:
            raise ValueError(f"coordinates of voxels must be 0 to {_LARGEST}")
        if bool((coords[1:, 0] < coords[:-1, 0]).any()):
            raise ValueError("the voxels of a sample must follow each other, samples in order")
        self.coords = coords
        self.sample = coords[:, 0]
        self._sorted, self._order = torch.sort(_keys(coords))
        if bool((self._sorted[1:] == self._sorted[:-1]).any()):
            raise ValueError("a voxel is listed twice")
        self.samples = int(self.sample[-1]) + 1
        if len(torch.unique_consecutive(self.sample)) != self.samples:
            raise ValueError("a sample has no voxels")
        self._windows: dict[tuple[int, int], Groups] = {}

    def __len__(self) -> int:
        return len(self.coords)

    @cached_property
    def neighbors(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Pairs (row, row of its neighbor) for each of the 27 cells of a 3×3×3 kernel, x slowest; see `_OFFSETS`."""
        device = self.coords.device
        step = torch.tensor([(0, *offset) for offset in _OFFSETS[:_CENTER]], device=device)
        wanted = _keys(self.coords[None] + step[:, None])
        place = torch.searchsorted(self._sorted, wanted).clamp_(max=len(self) - 1)
        present = self._sorted[place] == wanted
        before: list[tuple[Tensor, Tensor]] = []
        for cell in range(_CENTER):
            rows = torch.nonzero(present[cell]).flatten()
            before.append((rows, self._order[place[cell, rows]]))
        everything = torch.arange(len(self), device=device)
        # if b is at offset d from a, a is at offset -d from b
        return [*before, (everything, everything), *((b, a) for a, b in reversed(before))]

    @cached_property
    def coarse(self) -> Coarse:
        """The voxels of twice the size that contain these."""
        half = torch.cat([self.coords[:, :1], self.coords[:, 1:] // 2], dim=1)
        keys, parent = torch.unique(_keys(half), return_inverse=True)
        coords = half.new_empty(len(keys), 4)
        coords[parent] = half
        return Coarse(Voxels(coords), parent)

    @cached_property
    def by_sample(self) -> Groups:
        """All voxels of a sample together."""
        return Groups(self.sample, pad=False)

    def windows(self, size: int, shift: int) -> Groups:
        """The voxels of each cubic window of each sample together.

        Args:
            size: Cells of a window per axis.
            shift: Added to coordinates before they are divided by `size`: border windows become smaller, and nothing
                wraps around.
        """
        if (size, shift) not in self._windows:
            self._windows[size, shift] = Groups(self.window_ids(size, shift), pad=True)
        return self._windows[size, shift]

    def window_ids(self, size: int, shift: int) -> Tensor:
        """Window of each voxel [V]; equal numbers mean the same window of the same sample."""
        cells = (self.coords[:, 1:] + shift) // size
        return _keys(torch.cat([self.coords[:, :1], cells], dim=1))

    def spread(self, per_sample: Tensor) -> Tensor:
        """Repeat rows of samples [B, C] for their voxels: [V, C], or [1, C] if there is one sample."""
        return per_sample if len(per_sample) == 1 else per_sample[self.sample]


def _keys(coords: Tensor) -> Tensor:
    """One integer per row of [..., 4], in the order of (sample, x, y, z)."""
    sample, x, y, z = coords.unbind(-1)
    return (sample << 3 * _BITS) | (x + 1 << 2 * _BITS) | (y + 1 << _BITS) | (z + 1)
