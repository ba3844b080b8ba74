"""ComfyUI's FACE_LANDMARKS (MediaPipe Face Landmarker) for the engine. Does not import ComfyUI.

A dictionary with `frames`: for each image a list of faces, each with `blendshapes` (ARKit name to score), `bbox_xyxy` and
`transformation_matrix` (face to camera, 4 × 4, centimeters, or None).
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..engine.errors import InputError
from ..engine.files.npzfile import read_arrays
from ..engine.heads.landmarks import FaceFrame, ScoreMatrix

LARGEST_MATRIX = 16 * 2**20  # bytes
LARGEST_NAMES = 2**20  # bytes


def faces_of(landmarks: Any) -> tuple[list[FaceFrame | None], str]:
    """The largest face of each frame, and a line that says where there were several. Raises InputError."""
    try:
        frames = [[_face(face) for face in faces] for faces in landmarks["frames"]]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(
            "NOD-028",
            f"The connected face landmarks cannot be read ({type(error).__name__}: {str(error)[:80]}). Connect the output of "
            "MediaPipe Face Landmarker.",
        ) from error
    several = sum(len(faces) > 1 for faces in frames)
    note = f"{several} of {len(frames)} frames show several faces: the largest is used" if several else ""
    return [max(faces, key=lambda pair: pair[0])[1] if faces else None for faces in frames], note


def _face(face: Any) -> tuple[float, FaceFrame]:
    """Area in the image, and what the face does."""
    x0, y0, x1, y1 = (float(value) for value in face["bbox_xyxy"])
    scores = {str(name): float(score) for name, score in face["blendshapes"].items()}
    if not all(math.isfinite(score) for score in scores.values()):
        raise ValueError("a score is not finite")
    transform = face.get("transformation_matrix")
    if transform is not None:
        transform = torch.as_tensor(np.asarray(transform, dtype=np.float64))
        if transform.shape != (4, 4) or not bool(torch.isfinite(transform).all()):
            raise ValueError("a transformation matrix is not 4 × 4 finite numbers")
    return (x1 - x0) * (y1 - y0), FaceFrame(scores, transform)


def read_matrix(path: Path) -> ScoreMatrix:
    """The score matrix in an .npz with `names`, `expression` [names, E] and optionally `jaw` [names, 3]."""
    arrays = read_arrays(path, path.name, ("expression", "jaw"), LARGEST_MATRIX)
    names = _names(path)
    if "expression" not in arrays or not names or len(names) != len(arrays["expression"]):
        raise InputError(
            "NOD-029",
            f"{path.name} is not a score matrix: it needs 'names' and 'expression' with one row per name.",
        )
    expression = torch.from_numpy(arrays["expression"].astype(np.float32))
    jaw = torch.from_numpy(arrays["jaw"].astype(np.float32)) if "jaw" in arrays else None
    return ScoreMatrix(names, expression, jaw)


def _names(path: Path) -> tuple[str, ...]:
    """The text array `names`; empty where it is missing, damaged or too large."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("names.npy") as file:
            data = file.read(LARGEST_NAMES + 1)
        if len(data) > LARGEST_NAMES:
            return ()
        return tuple(str(name) for name in np.load(io.BytesIO(data), allow_pickle=False).flatten())
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        return ()
