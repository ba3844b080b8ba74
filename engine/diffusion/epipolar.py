"""Features of key views, injected into other views along epipolar lines: the mathematics, for every backbone.

Source: DGE (Chen et al., ECCV 2024). Each token of a view takes the self-attention output of the most similar token of a
key view, among those within one latent pixel of its epipolar line; two key views are blended by distance. Changed:
similarities of forbidden tokens are −∞ (the reference's 0 lets a forbidden token win where all allowed ones are
negative), principal points are used, and constraints are kept as bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..lru import LruCache
from ..scene import Cameras

# latent pixels from the epipolar line within which a token is allowed
WIDTH = 1.0
# bytes of packed constraints that stay; a pair at 64×64 latents takes 2 MB
ROOM = 256 << 20
# rows of a constraint that are computed at a time
ROWS = 512
# baseline, as a fraction of the distance from the origin, below which cameras are at one place
SAME_PLACE = 1e-5
_BITS = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)


def fundamental(K: Tensor, world_to_camera: Tensor, key_K: Tensor, key_world_to_camera: Tensor) -> Tensor:
    """Fundamental matrix of a view and a key view.

    Args:
        K: [3, 3] of the view, in the pixels in which lines are measured.
        world_to_camera: [4, 4] of the view, OpenCV axes.
        key_K: [3, 3] of the key view.
        key_world_to_camera: [4, 4] of the key view.

    Returns:
        F [3, 3] float64 of unit Frobenius norm, with pᵀ F q = 0 for matching pixels p of the view and q of the key
        view; zeros where both cameras are at one place.
    """
    view, key = world_to_camera.double().cpu(), key_world_to_camera.double().cpu()
    rotation = view[:3, :3] @ key[:3, :3].T
    t = view[:3, 3] - rotation @ key[:3, 3]
    if float(t.norm()) <= SAME_PLACE * float(torch.maximum(view[:3, 3].norm(), key[:3, 3].norm())):
        return torch.zeros(3, 3, dtype=torch.float64)
    cross = torch.tensor([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]], dtype=torch.float64)
    inverse, key_inverse = torch.linalg.inv(K.double().cpu()), torch.linalg.inv(key_K.double().cpu())
    F = inverse.T @ cross @ rotation @ key_inverse
    return F / F.norm()


def forbidden(F: Tensor, height: int, width: int, first: float = 0.5) -> Tensor:
    """Tokens of a key view that are too far from the epipolar lines of a view's tokens.

    Args:
        F: [3, 3] from `fundamental`, in pixels of this resolution.
        height: Rows of tokens.
        width: Columns of tokens.
        first: Coordinate of the first token's center: 0.5 for corner-origin pixels, 0 in the reference.

    Returns:
        Packed bits [L, ceil(L / 8)] uint8, L = height·width row-major tokens, 1 = forbidden. Rows without an allowed
        token, and all rows for cameras at one place, are 0: unconstrained.
    """
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=F.device) + first,
        torch.arange(width, dtype=torch.float64, device=F.device) + first,
        indexing="ij",
    )
    tokens = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x.flatten())], dim=-1)
    lines = tokens @ F
    # not a line where the token is the epipole itself: every distance is 0, and every token allowed
    lines = lines / lines[:, :2].norm(dim=-1, keepdim=True).clamp(min=1e-300)
    parts: list[Tensor] = []
    for some in lines.split(ROWS):
        far = (some @ tokens.T).abs() > WIDTH
        parts.append(_packed(far & ~far.all(dim=1, keepdim=True)))
    return torch.cat(parts)


def _packed(rows: Tensor) -> Tensor:
    """[R, L] bool → [R, ceil(L / 8)] uint8, the first token in the highest bit."""
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 8)).unflatten(1, (-1, 8))
    return (padded * _BITS.to(rows.device)).sum(dim=-1, dtype=torch.uint8)


def unpacked(bits: Tensor, count: int) -> Tensor:
    """[R, ceil(count / 8)] uint8 → [R, count] bool."""
    return (bits[..., None] & _BITS.to(bits.device)).ne(0).flatten(1)[:, :count]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().double().cpu().contiguous().numpy().tobytes()


class Epipolar:
    """Epipolar constraints between V views, made once for each pair and resolution and kept as bits.

    Views with the same camera, such as those of several frames, share their constraints.

    Args:
        cameras: V views with images of one size, which the tokens cover; other resolutions scale K.
        room: Bytes of packed constraints that are kept.
    """

    def __init__(self, cameras: Cameras, room: int = ROOM) -> None:
        self.cameras = cameras
        self.centers = cameras.centers.double().cpu()
        first: dict[bytes, int] = {}
        # of each view, the first one with the same camera
        self._camera = [
            first.setdefault(_bytes(pose) + _bytes(K), i)
            for i, (pose, K) in enumerate(zip(cameras.world_to_camera, cameras.K, strict=True))
        ]
        reach = self.centers.norm(dim=-1)
        baselines = (self.centers[:, None] - self.centers[None]).norm(dim=-1)
        self._is_same_place = baselines <= SAME_PLACE * torch.maximum(reach[:, None], reach[None])
        self._bits = LruCache[tuple[int, int, int, int, torch.device], Tensor](
            room, lambda bits: bits.numel(), self._make, at_least=1
        )

    def __call__(
        self, view: int, key: int, height: int, width: int, device: torch.device | str = "cpu"
    ) -> Tensor | None:
        """Packed forbidden tokens of `key` for each token of `view`, as `forbidden`; None: no constraint."""
        if view == key or self.is_same_place(view, key):
            return None
        return self._bits[(self._camera[view], self._camera[key], height, width, torch.device(device))]

    def is_same_place(self, view: int, key: int) -> bool:
        """Both cameras have the same center, so that no epipolar line exists between them."""
        return bool(self._is_same_place[view, key])

    def _make(self, asked: tuple[int, int, int, int, torch.device]) -> Tensor:
        view, key, height, width, device = asked
        pair = self.cameras[[view, key]].resized(((width, height),) * 2)
        F = fundamental(pair.K[0], pair.world_to_camera[0], pair.K[1], pair.world_to_camera[1])
        where = device if device.type == "cuda" else "cpu"
        return forbidden(F.to(where), height, width).to(device)

    def nearest(self, view: int, keys: Sequence[int], count: int = 2) -> tuple[list[int], list[float]]:
        """Nearest key views and their weights.

        Args:
            view: Index of the view.
            keys: Indices of the key views.
            count: How many keys at most, 1 or 2.

        Returns:
            Positions in `keys`, nearest first, and weights whose sum is 1: w₁ = sigmoid(d₂ / (d₁ + d₂)).
        """
        distances = (self.centers[list(keys)] - self.centers[view]).norm(dim=-1)
        order = distances.argsort(stable=True)[:count].tolist()
        if len(order) == 1:
            return order, [1.0]
        near, far = (float(distances[i]) for i in order)
        # two keys at the place of the view are equally near
        ratio = far / (near + far) if near + far > 0 else 0.5
        first = 1 / (1 + math.exp(-ratio))
        return order, [first, 1 - first]


def by_angle(cameras: Cameras, views: Sequence[int]) -> list[int]:
    """Views ordered by the signed angle of their viewing directions, from the leftmost camera on.

    Neighbors in this order look at the subject from similar sides, so that chunks of them fit one key view.
    """
    chosen = list(views)
    if len(chosen) < 3:
        return chosen
    poses = cameras.camera_to_world.double().cpu()[chosen]
    forward = cameras.forward.double().cpu()[chosen]
    left = int((poses[:, :3, 3] @ poses[:, :3, 0].mean(dim=0)).argmin())
    cosines = (forward @ forward[left]).clamp(-1, 1)
    turns = torch.linalg.cross(forward[left].expand_as(forward), forward)
    # the axis about which the rig turns: that of the views on the side of the one nearest to the first
    others = [i for i in cosines.argsort(descending=True, stable=True).tolist() if i != left]
    axis = next((turns[i] for i in others if float(turns[i].norm()) > 1e-6), turns[left])
    angles = torch.where(turns @ axis >= 0, cosines.arccos(), 2 * math.pi - cosines.arccos())
    angles[left] = 0
    return [chosen[i] for i in angles.argsort(stable=True).tolist()]


@dataclass(frozen=True, eq=False)
class Source:
    """What one view takes from one key view."""

    # position among the key views of the record
    key: int
    weight: float
    # packed forbidden tokens, see `forbidden`; None: no constraint
    forbidden: Tensor | None = None


def match(hidden: Tensor, key_hidden: Tensor, bits: Tensor | None = None, reference: bool = False) -> Tensor:
    """The most similar token of a key view for each token of a view, by cosine similarity.

    Args:
        hidden: [L, C] normed input of the view's self-attention.
        key_hidden: [M, C] of the key view.
        bits: Packed forbidden tokens [L, ceil(M / 8)]; None allows all.
        reference: Forbidden similarities are 0 as in the reference instead of −∞.

    Returns:
        Indices [L] of key tokens.
    """
    unit, key_unit = (torch.nn.functional.normalize(x.float(), dim=-1) for x in (hidden, key_hidden))
    found: list[Tensor] = []
    for start in range(0, len(unit), ROWS):
        similar = unit[start : start + ROWS] @ key_unit.T
        if bits is not None:
            refused = unpacked(bits[start : start + ROWS], len(key_unit))
            similar = similar.masked_fill(refused, 0.0 if reference else -torch.inf)
        found.append(similar.argmax(dim=-1))
    return torch.cat(found)


def inject(
    hidden: Tensor,
    key_hidden: Tensor,
    key_output: Tensor,
    sources: Sequence[Sequence[Source]],
    reference: bool = False,
) -> Tensor:
    """Self-attention outputs of F views, gathered and blended from those of K key views.

    Args:
        hidden: [F, L, C] normed inputs of the views, in the guidance branch that decides.
        key_hidden: [K, L, C] of the key views, in the same branch.
        key_output: [G, K, L, D] self-attention outputs of the key views in all G branches.
        sources: Of each view, the key views it takes from.
        reference: See `match`.

    Returns:
        [G, F, L, D]; the indices found in one branch serve all of them.
    """
    views: list[Tensor] = []
    for own, taken in zip(hidden, sources, strict=True):
        blended: Tensor | None = None
        for source in taken:
            index = match(own, key_hidden[source.key], source.forbidden, reference)
            part = key_output[:, source.key, index]
            if source.weight != 1:
                part = source.weight * part
            blended = part if blended is None else blended + part
        assert blended is not None
        views.append(blended)
    return torch.stack(views, dim=1)
