"""Gaussians of a glTF file: primitives with the extension KHR_gaussian_splatting, brought to this pack's axes.

All of them in the default scene are joined, each moved by its node. Attributes may be quantized as the extension allows;
compressed ones are those of the draft KHR_gaussian_splatting_compression_spz_2, an .spz.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError
from ...files.paths import printable
from ...scene import Gaussians, harmonics, rotations
from ...scene.gaussians import ActivatedGaussians
from ..half_turns import X, Z, half_turned
from ..spz_decoding import decode_spz
from .accessors import read_accessor
from .document import Document, open_document
from .nodes import NodeTree
from .splat_extension import DISPLAY, OPACITY, POINTS, ROTATION, SCALE, SPLATTING, SPZ_2, coefficients

# how far the lengths of a node's axes may differ and still count as equal, and values may leave their range
EQUAL, OUTSIDE = 1e-5, 1e-3
Array = NDArray[Any]


def read_gltf_splat(path: Path | str) -> Gaussians:
    """Read all Gaussians of a .glb or .gltf file.

    Args:
        path: The file.

    Returns:
        N Gaussians of the highest SH degree of its primitives.

    Raises:
        InputError: The file is not glTF 2.0, is cut short or damaged, requires an extension that is not supported, holds no
            Gaussians, or stores them in a way that the extension does not allow.
    """
    document = open_document(Path(path), (SPLATTING, SPZ_2))
    try:
        return half_turned(_read(document), Z)
    except InputError:
        raise
    except (TypeError, AttributeError, KeyError, ValueError, IndexError) as error:
        # JSON of a stranger: a list where an object belongs, a text where a number does
        raise InputError(
            "GLT-044",
            f"{document.name} is damaged: its objects do not have glTF's structure. Export it again.",
        ) from error


def _read(document: Document) -> Gaussians:
    """All Gaussians in glTF's axes."""
    tree = NodeTree(document)
    worlds: dict[int, Array] = {}
    for node in tree.order:
        parent = tree.parents[node]
        worlds[node] = worlds[parent] @ tree.local[node] if parent >= 0 else tree.local[node]
    parts: list[Gaussians] = []
    for node in tree.drawn:
        mesh = document.item("meshes", tree.nodes[node]["mesh"], f"node {node}")
        for number, primitive in enumerate(mesh.get("primitives", [])):
            extension = primitive.get("extensions", {}).get(SPLATTING)
            if extension is not None:
                label = f"primitive {number} of mesh {tree.nodes[node]['mesh']}"
                parts.append(
                    _moved(_primitive(document, primitive, extension, label), worlds[node], document)
                )
    if not sum(map(len, parts)):
        raise InputError(
            "GLT-045",
            f"{document.name} holds no Gaussians ({SPLATTING}). A mesh cannot be imported as a splat; to move a splat with an "
            "animated mesh, use Animate Splat with Mesh.",
        )
    return Gaussians.concatenate(parts)


def _primitive(
    document: Document, primitive: dict[str, Any], extension: dict[str, Any], label: str
) -> Gaussians:
    space = extension.get("colorSpace", DISPLAY)
    if primitive.get("mode", 4) != POINTS or space != DISPLAY:
        found = (
            "is not made of points"
            if primitive.get("mode", 4) != POINTS
            else f"has the colors {printable(str(space))[:40]}"
        )
        raise InputError(
            "GLT-046",
            f"{document.name}: {label} {found}, but Gaussians are points with the colors {DISPLAY}. Export it with those.",
        )
    attributes = primitive.get("attributes", {})
    spz = extension.get("extensions", {}).get(SPZ_2)
    if spz is not None:
        return _unpacked(document, attributes, extension, spz, label)
    named = [ROTATION, SCALE, OPACITY, *coefficients(0)]
    if missing := [name for name in ("POSITION", *named) if name not in attributes]:
        raise InputError(
            "GLT-047",
            f"{document.name}: {label} lacks {', '.join(printable(name) for name in missing)}. Export it again with a program "
            f"that writes the released {SPLATTING}.",
        )
    means = _read_floats(document, attributes, "POSITION", ("VEC3",), None, label)
    count = len(means)
    quats = torch.from_numpy(_read_floats(document, attributes, ROTATION, ("VEC4",), count, label))[
        :, [3, 0, 1, 2]
    ]
    scales = _read_floats(document, attributes, SCALE, ("VEC3",), count, label)
    opacities = _read_floats(document, attributes, OPACITY, ("SCALAR",), count, label)
    if (scales < 0).any() or (opacities < -OUTSIDE).any() or (opacities > 1 + OUTSIDE).any():
        raise InputError(
            "GLT-048",
            f"{document.name}: {label} has negative scales or opacities outside 0 to 1, as drafts of {SPLATTING} had them. "
            "Export it again with a program that writes the released one.",
        )
    quats[quats.norm(dim=1) < 1e-6, 0] = 1
    return Gaussians.from_activated(
        ActivatedGaussians(
            means=torch.from_numpy(means),
            quats=rotations.normalise(quats),
            scales=torch.from_numpy(scales),
            opacities=torch.from_numpy(opacities),
            sh=_harmonics(document, attributes, count, label),
        )
    )


def _harmonics(document: Document, attributes: dict[str, Any], count: int, label: str) -> Tensor:
    """[N, K, 3] of the degrees that are there as a whole."""
    degree = max(d for d in range(harmonics.MAX_DEGREE + 1) if set(coefficients(d)[d * d :]) & {*attributes})
    names = coefficients(degree)
    if missing := [name for name in names if name not in attributes]:
        raise InputError(
            "GLT-049",
            f"{document.name}: {label} has harmonics of degree {degree} without {missing[0]}. Export it again, or with a lower "
            "degree.",
        )
    parts = [_read_floats(document, attributes, name, ("VEC3",), count, label) for name in names]
    return torch.from_numpy(np.stack(parts, axis=1))


def _read_floats(
    document: Document,
    attributes: dict[str, Any],
    name: str,
    kinds: tuple[str, ...],
    count: int | None,
    label: str,
) -> Array:
    return read_accessor(document, attributes[name], f"{name} of {label}", kinds, count).astype(np.float32)


def _unpacked(
    document: Document, attributes: dict[str, Any], extension: dict[str, Any], spz: dict[str, Any], label: str
) -> Gaussians:
    data, _ = document.view(spz.get("bufferView"), f"the .spz of {label}")
    g = decode_spz(bytes(data), f"the .spz of {document.name}")
    document.charge(sum(tensor.numel() for tensor in g.tensors().values()))
    if "POSITION" in attributes:
        claimed = document.item("accessors", attributes["POSITION"], f"POSITION of {label}").get("count")
        if claimed != len(g):
            raise InputError(
                "GLT-050",
                f"{document.name}: {label} claims {printable(str(claimed))[:20]} Gaussians, but its .spz holds {len(g):,}. The "
                "file is damaged; export it again.",
            )
    # files of the time before the kernel was named (Cesium's) have glTF's axes inside the .spz, instead of its own
    return half_turned(g, Z if "kernel" in extension else X)


def _moved(g: Gaussians, world: Array, document: Document) -> Gaussians:
    """Gaussians moved by a node's matrix [4, 4]."""
    if np.array_equal(world, np.eye(4)):
        return g
    linear = world[:3, :3]
    u, lengths, vt = np.linalg.svd(linear)
    if not np.isfinite(world).all() or lengths.min() < 1e-9 * lengths.max() or np.linalg.det(linear) <= 0:
        raise InputError(
            "GLT-051",
            f"{document.name}: a node with Gaussians is mirrored or has a scale of zero, which they cannot follow. Apply its "
            "transform and export the file again.",
        )
    turn = torch.from_numpy(u @ vt)
    means = g.means.double() @ torch.from_numpy(linear).T + torch.from_numpy(world[:3, 3])
    if lengths.max() - lengths.min() <= EQUAL * lengths.max():
        quats = rotations.multiply(
            rotations.matrices_to_quats(turn[None]).expand(len(g), 4), g.quats.double()
        )
        log_scales = g.log_scales + float(np.log(lengths.mean()))
    else:
        quats, log_scales = _stretched(g, torch.from_numpy(linear))
    return g.with_(
        means=means.float(),
        quats=quats.float(),
        log_scales=log_scales.float(),
        sh=harmonics.turned(g.sh, turn),
    )


def _stretched(g: Gaussians, linear: Tensor) -> Sequence[Tensor]:
    """Rotations and log scales of ellipsoids under a matrix [3, 3] that scales axes differently."""
    a = g.map(lambda t: t.double()).activated()
    axes, sizes, _ = torch.linalg.svd(linear @ (rotations.quats_to_matrices(a.quats) * a.scales[:, None, :]))
    axes = axes * torch.where(torch.linalg.det(axes) < 0, -1.0, 1.0)[:, None, None]
    return rotations.matrices_to_quats(axes), sizes.clamp(min=1e-12).log()
