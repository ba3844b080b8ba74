"""Head models in FLAME's array format: `.npz`, or FLAME's own `.pkl`, read without executing anything in it.

| array | shape | |
|---|---|---|
| v_template | V, 3 | |
| f | F, 3 | |
| shapedirs | V, 3, S + E | shape first, then expression |
| posedirs | V, 3, 36 | or 36, 3·V |
| J_regressor | 5, V | may be sparse in a pickle |
| weights | V, 5 | |
| kintree_table | 2, 5 | parents −1, 0, 1, 1, 1 |

Which coefficients are expressions: those that `coefficient_names.json` beside the model lists; without that file, FLAME's
last 100 of 400. Any other number without that file is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError
from ...files.jsonfile import read_json
from ...files.npzfile import read_arrays, write_arrays
from ...files.paths import open_regular, printable
from ...heads import HeadModel, with_teeth
from ...heads.model import JOINTS, PARENTS
from .pickles import LARGEST, array_of, read_pickle, too_large

Arrays = dict[str, NDArray[Any]]

NEEDED = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights")
OPTIONAL = ("kintree_table",)
MASKS = ("head_masks.npz", "FLAME_masks.npz", "FLAME_masks.pkl", "head_masks.pkl")
NAMES = "coefficient_names.json"
FLAME_COEFFICIENTS, FLAME_SHAPES = 400, 300
POSE_FEATURES = 36
MOST_VERTICES = 1_000_000


def read_head_model(path: Path | str, cache: Path | None = None) -> HeadModel:
    """A head model, checked, with the region masks and expression names that lie beside it.

    FLAME itself gets the teeth that avatars of GaussianAvatars are bound to.

    Args:
        path: An `.npz` or `.pkl`.
        cache: A folder in which pickles are kept as `.npz`, so that each is taken apart once only.

    Raises:
        InputError: Missing, larger than 500 MB, unsafe, or arrays that do not belong together.
    """
    path = Path(path)
    arrays = _arrays(path, (*NEEDED, *OPTIONAL), cache)
    if missing := [key for key in NEEDED if key not in arrays]:
        raise InputError(
            "HED-011",
            f"{printable(path.name)} is not a head model in FLAME's format: it has no array {', '.join(missing)}. Select "
            "another file.",
        )
    made = _checked(arrays, printable(path.name))
    shapes, names = _split(path, made["shapedirs"].shape[2])
    dirs = torch.from_numpy(np.ascontiguousarray(made["shapedirs"].transpose(2, 1, 0)))
    model = HeadModel(
        name=printable(path.stem),
        template=torch.from_numpy(made["v_template"]),
        faces=torch.from_numpy(made["f"]),
        shape_dirs=dirs[:shapes],
        expression_dirs=dirs[shapes:],
        pose_dirs=torch.from_numpy(np.ascontiguousarray(made["posedirs"].transpose(2, 1, 0))),
        joint_regressor=torch.from_numpy(made["J_regressor"]),
        weights=torch.from_numpy(made["weights"]),
        expression_names=names,
        regions=_regions(path, len(made["v_template"]), cache),
    )
    return with_teeth(model)


def _arrays(path: Path, wanted: tuple[str, ...] | None, cache: Path | None) -> Arrays:
    """The arrays `wanted` (None = all) of an .npz or a pickle."""
    name = printable(path.name)
    if not path.is_file():
        raise InputError("HED-012", f"The head file {name} does not exist; check the path.")
    if path.stat().st_size > LARGEST:
        raise too_large(name)
    if path.suffix.lower() == ".npz":
        return read_arrays(path, name, wanted, LARGEST)
    if path.suffix.lower() != ".pkl":
        raise InputError("HED-013", f"{name} is not a head file; select an .npz or FLAME's .pkl.")
    kept = None if cache is None else cache / f"{path.stem}-{_digest(path)}.npz"
    if kept is not None and kept.is_file():
        return read_arrays(kept, kept.name, wanted, LARGEST)
    content = read_pickle(path, name)
    keys = content if wanted is None else [key for key in wanted if key in content]
    arrays = {key: array_of(content[key], f"{name}: {printable(key)[:60]}") for key in keys}
    if kept is not None:
        write_arrays(kept, arrays)
    return arrays


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def _checked(arrays: Arrays, name: str) -> Arrays:
    """The arrays in float32 and int64, posedirs as [V, 3, 36]. InputError where shapes, numbers or indices are wrong."""
    count = len(arrays["v_template"]) if arrays["v_template"].ndim else 0
    if not 0 < count <= MOST_VERTICES:
        raise InputError("HED-014", f"{name}: v_template has {count} vertices; select another head model.")
    if arrays["posedirs"].shape == (POSE_FEATURES, 3 * count):
        arrays["posedirs"] = arrays["posedirs"].reshape(POSE_FEATURES, count, 3).transpose(1, 2, 0)
    wanted: dict[str, tuple[int | None, ...]] = {
        "v_template": (count, 3),
        "f": (None, 3),
        "shapedirs": (count, 3, None),
        "posedirs": (count, 3, POSE_FEATURES),
        "J_regressor": (len(JOINTS), count),
        "weights": (count, len(JOINTS)),
    }
    made = {key: _numbers(arrays[key], shape, f"{name}: {key}") for key, shape in wanted.items()}
    faces = made["f"] = made["f"].astype(np.int64)
    if len(faces) == 0 or int(faces.min()) < 0 or int(faces.max()) >= count:
        raise InputError(
            "HED-017",
            f"{name}: the triangles (f) point beyond the {count} vertices, or there are none. The file is damaged; "
            "download it again.",
        )
    tree = arrays.get("kintree_table")
    # the root's parent is stored as −1 or as the largest number of its type
    if tree is not None and (tree.shape != (2, len(PARENTS)) or tuple(tree[0, 1:].tolist()) != PARENTS[1:]):
        raise InputError(
            "HED-018",
            f"{name}: kintree_table does not describe FLAME's five joints ({', '.join(JOINTS)}). Select a head model in "
            "FLAME's format.",
        )
    return made


def _numbers(array: NDArray[Any], shape: tuple[int | None, ...], what: str) -> NDArray[Any]:
    """The array in float32, integers in float64. InputError where its shape is another (None: any) or it is not finite."""
    fits = array.ndim == len(shape) and all(w in (None, n) for w, n in zip(shape, array.shape, strict=True))
    if not fits:
        expected = " × ".join("any" if n is None else str(n) for n in shape)
        raise InputError(
            "HED-015",
            f"{what} has shape {array.shape}, expected {expected}. The file is damaged or of another format.",
        )
    # a copy: what came from a file's bytes is read-only; float32 does not hold every vertex number
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(np.float64 if array.dtype.kind in "iu" else np.float32)
    if not bool(np.isfinite(made).all()):
        raise InputError("HED-016", f"{what} holds NaN or infinite values; download it again.")
    return made


def _split(path: Path, total: int) -> tuple[int, tuple[str, ...]]:
    """How many of the coefficients are shape, and the names of the others where they are known."""
    file = path.with_name(NAMES)
    if file.is_file():
        data = read_json(file, NAMES)
        shape, expression = data.get("shape"), data.get("expression")
        if not (isinstance(shape, list) and isinstance(expression, list)) or not all(
            isinstance(text, str) for text in expression
        ):
            raise InputError("HED-019", f'{NAMES}: "shape" and "expression" must be lists of names.')
        if len(shape) + len(expression) == total:
            return len(shape), tuple(expression)
        raise InputError(
            "HED-020",
            f"{NAMES} names {len(shape)} shape and {len(expression)} expression coefficients, {printable(path.name)} has "
            f"{total} in all. Remove {NAMES} or replace it with that of this model.",
        )
    if total == FLAME_COEFFICIENTS:
        return FLAME_SHAPES, ()
    raise InputError(
        "HED-021",
        f"{printable(path.name)}: shapedirs has {total} coefficients, so which of them are expressions is unknown (FLAME has "
        f'{FLAME_COEFFICIENTS}). Put a {NAMES} with the lists "shape" and "expression" beside it.',
    )


def _regions(path: Path, vertices: int, cache: Path | None) -> dict[str, Tensor]:
    """Vertex ids by region from the mask file beside the model; none where there is none."""
    file = next((f for name in MASKS if (f := path.with_name(name)).is_file()), None)
    if file is None:
        return {}
    regions: dict[str, Tensor] = {}
    for key, ids in _arrays(file, None, cache).items():
        is_list = ids.ndim == 1 and (ids.dtype.kind in "iu" or ids.size == 0)
        if not is_list or (ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < vertices):
            raise InputError(
                "HED-022",
                f"{file.name}: '{printable(key)[:60]}' is not a list of vertices of {printable(path.name)}, which has "
                f"{vertices}. Use the masks of this model or remove the file.",
            )
        regions[key] = torch.from_numpy(ids.astype(np.int64))
    return regions
