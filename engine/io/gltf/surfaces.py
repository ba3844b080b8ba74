"""The triangles of a glTF document, and their vertices under morph targets, skins and nodes.

Source: Khronos Group, glTF 2.0 specification, section 3.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.paths import printable
from .accessors import read_accessor
from .colors import vertex_colors
from .document import Document
from .nodes import NodeTree
from .samplers import Sampler

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = NDArray[Any]

TRIANGLES, STRIP, FAN = 4, 5, 6
# joints per vertex: JOINTS_0 and, from some programs, JOINTS_1 …
JOINT_SETS = 4
# what a surface of any size counts as, in numbers
SURFACE = 256


@dataclass(frozen=True, eq=False)
class Skin:
    """What bends a surface.

    Args:
        joints: [J] nodes.
        inverse: [J, 4, 4] inverse bind matrices.
        weights: Sparse [V, J]; each row sums to 1.
    """

    joints: Array
    inverse: Array
    weights: csr_matrix


@dataclass(frozen=True, eq=False)
class Surface:
    """One primitive of one node.

    Args:
        node: The node that draws it.
        label: Its name for people.
        positions: [V, 3] float64.
        faces: [F, 3].
        colors: [V, 3] in 0..1, display-referred.
        targets: [K, V, 3] float32 displacements of its morph targets.
        rest_weights: [K] their weights without animation.
        skin: What bends it; None where its node carries it.
    """

    node: int
    label: str
    positions: Array
    faces: Array
    colors: Array
    targets: Array
    rest_weights: Array
    skin: Skin | None

    def at(self, world: Array, row: Array, weights: Array) -> Array:
        """Vertices [T, V, 3] for world matrices [T, rows, 4, 4], the `row` of each node, and morph weights [T, K]."""
        positions = self.positions[None]
        for k, target in enumerate(self.targets):
            # most are at rest
            if weights[:, k].any():
                positions = positions + weights[:, k, None, None] * target
        if self.skin is None:
            own = world[:, row[self.node]]
            return positions @ own[:, :3, :3].transpose(0, 2, 1) + own[:, None, :3, 3]
        # a skinned surface stands where its joints are, wherever its own node is
        bones = (world[:, row[self.skin.joints]] @ self.skin.inverse)[:, :, :3]
        flat = np.ascontiguousarray(bones.transpose(1, 0, 2, 3)).reshape(len(self.skin.joints), -1)
        blended = (self.skin.weights @ flat).reshape(-1, len(world), 3, 4).transpose(1, 0, 2, 3)
        return np.einsum("tvij,tvj->tvi", blended[..., :3], positions) + blended[..., 3]

    @property
    def nodes(self) -> list[int]:
        """The nodes whose matrices it needs."""
        return [self.node] if self.skin is None else self.skin.joints.tolist()

    def weights_at(self, channels: dict[tuple[int, str], Sampler], seconds: Array) -> Array:
        """Morph weights [T, K] at times [T]."""
        sampler = channels.get((self.node, "weights"))
        if sampler is None:
            return np.broadcast_to(self.rest_weights, (len(seconds), len(self.rest_weights)))
        return sampler.at(seconds)


def read_surfaces(document: Document, tree: NodeTree, hidden: tuple[str, ...] = ()) -> list[Surface]:
    """All triangles of the default scene; nodes and meshes named in `hidden` are left out.

    Raises:
        InputError: Something in the file is damaged.
    """
    found: list[Surface] = []
    # nodes may share a mesh: its arrays are read once for each skin
    known: dict[tuple[int, int, int | None], Surface] = {}
    for index in tree.drawn:
        node = tree.nodes[index]
        mesh = document.item("meshes", node["mesh"], f"node {index}")
        names = [str(each.get("name", "")) for each in (node, mesh)]
        if any(name.lower() in hidden for name in names if name):
            continue
        label = printable((names[0] or names[1] or f"node {index}")[:40])
        for number, primitive in enumerate(mesh.get("primitives", [])):
            document.charge(SURFACE)
            is_drawn = isinstance(primitive, dict) and primitive.get("mode", TRIANGLES) in (
                TRIANGLES,
                STRIP,
                FAN,
            )
            if not is_drawn:
                continue
            key = (node["mesh"], number, node.get("skin"))
            if key not in known:
                known[key] = _surface(document, index, node, mesh, primitive, label)
            made = known[key]
            if len(made.faces):
                # the vertices and triangles of all surfaces are joined
                document.charge(made.positions.size + made.faces.size)
                rest = _rest_weights(node, mesh, len(made.targets))
                found.append(replace(made, node=index, label=label, rest_weights=rest))
    return found


def target_counts(document: Document, tree: NodeTree) -> dict[int, int]:
    """How many morph targets each node with a mesh has."""
    found: dict[int, int] = {}
    of_mesh: dict[int, int] = {}
    for index in tree.drawn:
        number = tree.nodes[index]["mesh"]
        mesh = document.item("meshes", number, f"node {index}")
        if number not in of_mesh:
            primitives = [each for each in mesh.get("primitives", []) if isinstance(each, dict)]
            of_mesh[number] = max((len(each.get("targets", [])) for each in primitives), default=0)
        found[index] = of_mesh[number]
    return found


def _surface(
    document: Document,
    index: int,
    node: dict[str, Any],
    mesh: dict[str, Any],
    primitive: dict[str, Any],
    label: str,
) -> Surface:
    attributes = primitive.get("attributes", {})
    where = f"POSITION of {label}"
    positions = read_accessor(document, attributes.get("POSITION"), where, ("VEC3",)).astype(np.float64)
    count = len(positions)
    shifts = primitive.get("targets", [])
    moving = [isinstance(t, dict) and "POSITION" in t for t in shifts]
    # targets that move normals alone count, and move nothing
    document.charge(positions.size * len(shifts) if any(moving) else 0)
    targets = np.zeros((len(shifts) if any(moving) else 0, count, 3), np.float32)
    for k in np.flatnonzero(moving).tolist():
        where = f"morph target {k} of {label}"
        targets[k] = read_accessor(document, shifts[k]["POSITION"], where, ("VEC3",), count)
    skin = _skin(document, node["skin"], attributes, count, label) if "skin" in node else None
    return Surface(
        node=index,
        label=label,
        positions=positions,
        faces=_faces(document, primitive, count, label),
        colors=vertex_colors(document, primitive, count, label),
        targets=targets,
        rest_weights=_rest_weights(node, mesh, len(targets)),
        skin=skin,
    )


def _rest_weights(node: dict[str, Any], mesh: dict[str, Any], count: int) -> Array:
    """[count], the weights of morph targets without animation."""
    weights = node.get("weights", mesh.get("weights", []))
    rest = np.zeros(count)
    if isinstance(weights, list) and all(type(w) in (int, float) for w in weights):
        rest[: len(weights)] = np.array(weights, np.float64)[:count]
    return rest


def _faces(document: Document, primitive: dict[str, Any], count: int, label: str) -> Array:
    """[F, 3] of triangles, a strip or a fan."""
    where = f"the indices of {label}"
    if "indices" in primitive:
        order = read_accessor(document, primitive["indices"], where, ("SCALAR",)).astype(np.int64)
    else:
        order = np.arange(count)
    if len(order) and (int(order.min()) < 0 or int(order.max()) >= count):
        raise InputError(
            "GLT-030",
            f"{document.name}: a triangle of {label} has vertex {int(order.max())} of {count}. The file is damaged; export it "
            "again.",
        )
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if len(order) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == FAN:
        return np.stack([np.full(len(order) - 2, order[0]), order[1:-1], order[2:]], axis=1)
    faces = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
    # every second triangle of a strip turns the other way
    faces[1::2] = faces[1::2, [1, 0, 2]]
    return faces


def _skin(document: Document, index: Any, attributes: dict[str, Any], count: int, label: str) -> Skin | None:
    skin = document.item("skins", index, label)
    joints = skin.get("joints", [])
    # a matrix for each
    document.charge(16 * len(joints))
    for joint in joints:
        document.item("nodes", joint, f"the skin of {label}")
    sets = [k for k in range(JOINT_SETS) if f"JOINTS_{k}" in attributes and f"WEIGHTS_{k}" in attributes]
    if not sets or not joints:
        return None
    columns, values = [], []
    for k in sets:
        where = f"JOINTS_{k} of {label}"
        columns.append(
            read_accessor(document, attributes[f"JOINTS_{k}"], where, ("VEC4",), count).astype(np.int64)
        )
        where = f"WEIGHTS_{k} of {label}"
        values.append(
            read_accessor(document, attributes[f"WEIGHTS_{k}"], where, ("VEC4",), count).astype(np.float64)
        )
    bones, weights = np.concatenate(columns, axis=1), np.concatenate(values, axis=1).clip(min=0)
    bones = np.where(weights > 0, bones, 0)
    if count and not 0 <= int(bones.min()) <= int(bones.max()) < len(joints):
        raise InputError(
            "GLT-031",
            f"{document.name}: a vertex of {label} follows joint {int(bones.max())} of {len(joints)}. The file is damaged; "
            "export it again.",
        )
    # without weights, a vertex follows the first joint
    weights[weights.sum(axis=1) <= 0, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(count), bones.shape[1])
    if "inverseBindMatrices" in skin:
        where = f"the inverse bind matrices of {label}"
        columns_first = read_accessor(document, skin["inverseBindMatrices"], where, ("MAT4",))[: len(joints)]
        if len(columns_first) < len(joints):
            raise InputError(
                "GLT-032",
                f"{document.name}: the skin of {label} has {len(joints)} joints, but {len(columns_first)} inverse bind matrices. "
                "Export the file again.",
            )
        inverse = columns_first.astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    else:
        inverse = np.broadcast_to(np.eye(4), (len(joints), 4, 4))
    # the pack also loads where scipy is missing
    from scipy.sparse import csr_matrix

    sparse = csr_matrix((weights.ravel(), (rows, bones.ravel())), shape=(count, len(joints)))
    return Skin(np.array(joints), inverse, sparse)
