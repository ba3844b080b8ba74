"""Head motion from ARKit blend-shape scores and head transforms, as face landmarkers report them for each frame of a video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.rotations import matrices_to_axis_angles, matrices_to_quats, quats_to_matrices, slerp
from .model import HeadModel
from .motion import HeadMotion

# eyeballs turn by this much at a score of 1
GAZE_SIDEWAYS, GAZE_UP = math.radians(30), math.radians(25)
CENTIMETER = 0.01
FEWEST_NAMES = 20


@dataclass(frozen=True)
class FaceFrame:
    """What was found in one frame of a video."""

    scores: Mapping[str, float]  # by ARKit's names
    transform: Tensor | None = None  # [4, 4] face → camera; y up, z out of the face, centimeters


@dataclass(frozen=True)
class ScoreMatrix:
    """How scores become the coefficients of a head model whose expressions have no names."""

    names: tuple[str, ...]
    expression: Tensor  # [names, E]
    jaw: Tensor | None = None  # [names, 3] rotation vectors in radians


def motion_of_faces(
    faces: Sequence[FaceFrame | None],
    model: HeadModel,
    frames_per_second: float,
    matrix: ScoreMatrix | None = None,
) -> tuple[HeadMotion, str]:
    """The motion of a neutral person, and a line that says what was filled in.

    Args:
        faces: One entry per frame of the video; None where no face was found. Gaps are interpolated, the ends repeated.
        model: Its `expression_names` take the scores of the same names.
        frames_per_second: Of the video.
        matrix: For models without names, such as FLAME.

    Raises:
        InputError: No face in any frame, no frame rate, or a model whose expressions cannot be matched.
    """
    found = [i for i, face in enumerate(faces) if face is not None]
    if not found:
        raise InputError(
            "HED-045",
            f"No face was found in any of the {len(faces)} frames. Use frames in which the face is large and well lit.",
        )
    if not frames_per_second > 0:
        raise InputError(
            "HED-046", f"The frame rate is {frames_per_second:g}; enter the video's frames per second."
        )
    present = [face for face in faces if face is not None]
    names, weights = _weights(model, matrix)
    scores = torch.tensor([[float(face.scores.get(n, 0.0)) for n in names] for face in present])
    gaze = torch.stack([_gaze(face.scores) for face in present])
    rotation, translation = _placed(present)
    times = torch.arange(len(faces), dtype=torch.float64) / frames_per_second
    before, after, share = _gaps(found, len(faces))

    def filled(values: Tensor) -> Tensor:
        return torch.lerp(values[before], values[after], share[:, None])

    jaw = torch.zeros(len(present), 3) if matrix is None or matrix.jaw is None else scores @ matrix.jaw
    quats = matrices_to_quats(rotation)
    turns = quats_to_matrices(slerp(quats[before], quats[after], share))
    motion = HeadMotion(
        times=times,
        shape=torch.zeros(model.shapes),
        expr=filled(scores @ weights),
        rotation=matrices_to_axis_angles(turns),
        neck_pose=torch.zeros(len(faces), 3),
        jaw_pose=filled(jaw),
        eyes_pose=filled(gaze),
        translation=filled(translation),
    )
    missing = len(faces) - len(found)
    return motion, f"{missing} of {len(faces)} frames without a face were interpolated" if missing else ""


def _weights(model: HeadModel, matrix: ScoreMatrix | None) -> tuple[tuple[str, ...], Tensor]:
    """Names of the scores that are used, and what each does to the expression coefficients [names, E]."""
    if matrix is not None:
        if matrix.expression.shape != (len(matrix.names), model.expressions):
            raise InputError(
                "HED-047",
                f"The score matrix has shape {tuple(matrix.expression.shape)}, expected ({len(matrix.names)}, "
                f"{model.expressions}) for {model.name}.",
            )
        return matrix.names, matrix.expression
    known = [(i, name) for i, name in enumerate(model.expression_names) if name in ARKIT]
    if len(known) < FEWEST_NAMES:
        raise InputError(
            "HED-048",
            f"{model.name} has {len(known)} expressions with ARKit's names, so scores cannot be matched. Use the bundled "
            "head, or give a score matrix (.npz) for this model.",
        )
    weights = torch.zeros(len(known), model.expressions)
    weights[range(len(known)), [i for i, _ in known]] = 1
    return tuple(name for _, name in known), weights


def _gaze(scores: Mapping[str, float]) -> Tensor:
    """[6] rotation vectors of the left and the right eye; +x is the subject's left."""

    def score(name: str) -> float:
        return float(scores.get(name, 0.0))

    up = [GAZE_UP * (score(f"eyeLookDown{side}") - score(f"eyeLookUp{side}")) for side in ("Left", "Right")]
    left = GAZE_SIDEWAYS * (score("eyeLookOutLeft") - score("eyeLookInLeft"))
    right = GAZE_SIDEWAYS * (score("eyeLookInRight") - score("eyeLookOutRight"))
    return torch.tensor([up[0], left, 0.0, up[1], right, 0.0])


def _placed(faces: Sequence[FaceFrame]) -> tuple[Tensor, Tensor]:
    """Rotations [T, 3, 3] and translations [T, 3] in meters, relative to the first frame's place."""
    identity = torch.eye(4, dtype=torch.float64)
    transforms = torch.stack([identity if f.transform is None else f.transform.double() for f in faces])
    quats = matrices_to_quats(transforms[:, :3, :3])
    shift = (transforms[:, :3, 3] - transforms[:1, :3, 3]) * CENTIMETER
    return quats_to_matrices(quats).float(), shift.float()


def _gaps(found: list[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `count` frames: the entries of `found` before and after it, and how far it is between them."""
    places, frames = torch.tensor(found), torch.arange(count)
    after = torch.searchsorted(places, frames).clamp(max=len(found) - 1)
    before = torch.where(places[after] > frames, (after - 1).clamp(min=0), after)
    span = (places[after] - places[before]).clamp(min=1)
    return before, after, ((frames - places[before]) / span).clamp(0, 1)


ARKIT = frozenset(
    f"{name}{side}"
    for name in (
        "browDown",
        "browOuterUp",
        "cheekSquint",
        "eyeBlink",
        "eyeLookDown",
        "eyeLookIn",
        "eyeLookOut",
        "eyeLookUp",
        "eyeSquint",
        "eyeWide",
        "mouthDimple",
        "mouthFrown",
        "mouthLowerDown",
        "mouthPress",
        "mouthSmile",
        "mouthStretch",
        "mouthUpperUp",
        "noseSneer",
    )
    for side in ("Left", "Right")
) | frozenset(
    (
        "browInnerUp",
        "cheekPuff",
        "jawForward",
        "jawLeft",
        "jawOpen",
        "jawRight",
        "mouthClose",
        "mouthFunnel",
        "mouthLeft",
        "mouthPucker",
        "mouthRight",
        "mouthRollLower",
        "mouthRollUpper",
        "mouthShrugLower",
        "mouthShrugUpper",
        "tongueOut",
    )
)
