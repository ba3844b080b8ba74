"""Which part of an image's name tells its camera and which its frame, from what varies between the names.

Every set of digit runs may count the frames; the rest of the name is then the camera. Readings are compared by how full
the grid of cameras × frames is, by the poses (a camera of a rig stands still, or moves rigidly with the others), by the
lenses and by words such as `cam` and `frame`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np

from ...files.folders import MOST_DIGITS
from .colmap_values import Array, ColmapImage, centers_of

CAMERA_WORDS = (
    "cam",
    "camera",
    "view",
    "sensor",
    "gopro",
    "kinect",
    "device",
    "lens",
    "eye",
    "angle",
    "viewpoint",
    "rig",
)
FRAME_WORDS = ("frame", "frames", "time", "timestep", "timestamp", "moment", "frm", "sec")
SHORT_WORDS = {"c": 1, "v": 1, "k": 1, "f": -1, "t": -1, "fr": -1, "ts": -1}
# digit runs that are tried as frame numbers, the last ones of a name
MOST_RUNS = 6
# a reading is unsure where another one comes closer than this
MARGIN = 1.0

RUN = re.compile(r"\d+")


@dataclass(frozen=True, eq=False)
class Reading:
    """Names as cameras × frames."""

    cameras: Array  # [N] camera of each name, numbered from 0
    frames: Array  # [N] frame of each name, numbered from 0 in ascending order
    labels: tuple[str, ...]  # of the cameras
    score: float
    is_unsure: bool = False

    def same_as(self, cameras: Array, frames: Array) -> bool:
        """Whether the first names are divided as `cameras` and `frames` divide them."""
        count = len(cameras)
        return same_division(self.cameras[:count], cameras) and same_division(self.frames[:count], frames)


def readings(names: Sequence[str], images: Sequence[ColmapImage]) -> list[Reading]:
    """All ways to read `names` as cameras and frames, the best first. `images` belong to the first of the names."""
    tables = [_table(names, from_end=False)]
    if len({len(RUN.findall(_stem(n))) for n in names}) > 1:
        tables.append(_table(names, from_end=True))
    evidence = _Evidence(images)
    found: list[Reading] = []
    for table in tables:
        runs = table.varying()
        for size in range(len(runs) + 1):
            for chosen in combinations(runs, size):
                made = table.reading(chosen, evidence)
                if not any(made.same_as(other.cameras, other.frames) for other in found):
                    found.append(made)
    found.sort(key=lambda reading: -reading.score)
    if len(found) > 1 and found[0].score - found[1].score < MARGIN:
        best = found[0]
        found[0] = Reading(best.cameras, best.frames, best.labels, best.score, is_unsure=True)
    return found


@dataclass(frozen=True, eq=False)
class _Table:
    """Names as a text with gaps, and what stands in the gaps."""

    texts: list[str]  # [N]
    text_codes: Array  # [N]
    codes: Array  # [N, R] which value each run has
    values: list[list[int]]  # [R][code] ascending
    words: list[int]  # [R] 1 where a word says camera, -1 where one says frame
    digits: list[list[str]]  # [N][R]

    def varying(self) -> list[int]:
        return [r for r, values in enumerate(self.values) if len(values) > 1][-MOST_RUNS:]

    def reading(self, chosen: tuple[int, ...], evidence: _Evidence) -> Reading:
        rest = [r for r in range(self.codes.shape[1]) if r not in chosen]
        cameras = _numbered(np.concatenate([self.text_codes[:, None], self.codes[:, rest]], axis=1))
        frames = _numbered(self.codes[:, list(chosen)])
        count, moments = int(cameras.max()) + 1, int(frames.max()) + 1
        score = 4 * len(frames) / (count * moments) + evidence.score(cameras, frames)
        score += 1.0 if count > 1 and moments > 1 else 0.0
        runs = self.varying()
        for run in runs:
            word = self.words[run]
            is_frame = run in chosen
            score += 0.0 if word == 0 else 1.0 if (word < 0) == is_frame else -2.0
        if runs and runs[-1] in chosen:
            # a single number without a word counts the images of one moving camera
            score += 1.5 if len(runs) == 1 and self.words[runs[0]] == 0 else 0.5
        return Reading(cameras, frames, self._labels(cameras, chosen), score)

    def _labels(self, cameras: Array, chosen: tuple[int, ...]) -> tuple[str, ...]:
        _, first = np.unique(cameras, return_index=True)
        filled: list[str] = []
        for i in first.tolist():
            parts = self.texts[i].split("\0")
            digits = ["\0" if r in chosen else d for r, d in enumerate(self.digits[i])]
            filled.append("".join(p + d for p, d in zip(parts, [*digits, ""], strict=True)))
        return short_labels(filled)


def short_labels(names: Sequence[str]) -> tuple[str, ...]:
    """The words in which names differ: `cam00` for `rig1/cam00/frame_#`; a NUL stands for what counts frames."""
    words = [[w for w in re.split(r"[/_\-. ]+", n) if w and "\0" not in w] for n in names]
    common = set[str].intersection(*map(set, words)) if len(words) > 1 else set[str]()
    short = ["_".join(w for w in ws if w not in common) for ws in words]
    if all(short) and len(set(short)) == len(short):
        return tuple(short)
    whole = [n.replace("\0", "").strip("/_-. ") or "camera" for n in names]
    return tuple(whole if len(set(whole)) == len(whole) else (n.replace("\0", "#") for n in names))


class _Evidence:
    """What poses and lenses say about a reading."""

    def __init__(self, images: Sequence[ColmapImage]) -> None:
        self.poses = np.stack([i.world_to_camera for i in images])
        self.centers = centers_of(self.poses)
        self.reach = float(np.ptp(self.centers, axis=0).max())
        self.lenses = np.array([i.camera_id for i in images])

    def score(self, cameras: Array, frames: Array) -> float:
        count = len(self.poses)
        cameras, frames = cameras[:count], frames[:count]
        _, first, inverse = np.unique(cameras, return_index=True, return_inverse=True)
        seen_twice = len(first) < count
        total = 0.0
        kinds = len(np.unique(self.lenses))
        if 1 < kinds < count:
            pure = bool((self.lenses == self.lenses[first][inverse]).all())
            total += (2.0 + float(kinds == len(first))) if pure else -2.0
        if self._twins(first):
            total -= 4.0
        elif seen_twice and len(first) > 1:
            if self.same_place(self.poses, self.poses[first][inverse]).all():
                total += 5.0
            elif self._is_rigid(inverse, frames):
                # the more cameras keep their places, the less it is by chance
                total += 4.0 - 4.0 / len(first)
        return total

    def same_place(self, one: Array, other: Array) -> Array:
        """Which of the poses [N, 4, 4] agree within what bundle adjustment leaves: [N] bool."""
        turned = np.abs(one[:, :3, :3] - other[:, :3, :3]).max(axis=(1, 2)) < 2e-3
        apart = np.linalg.norm(centers_of(one) - centers_of(other), axis=1)
        return turned & (apart <= 2e-3 * self.reach)

    def _twins(self, first: Array) -> bool:
        """Whether two cameras have the same pose."""
        order = first[np.lexsort(self.centers[first].round(9).T)]
        poses = self.poses[order]
        return len(order) > 1 and bool(self.same_place(poses[1:], poses[:-1]).any())

    def _is_rigid(self, cameras: Array, frames: Array) -> bool:
        """Whether cameras keep their places relative to the one that has the most images."""
        main = int(np.bincount(cameras).argmax())
        at = {int(f): i for i, f in enumerate(frames) if cameras[i] == main}
        shared = [i for i, f in enumerate(frames) if cameras[i] != main and int(f) in at]
        if len(shared) < 2:
            return False
        base = np.linalg.inv(self.poses[[at[int(frames[i])] for i in shared]])
        relative = self.poses[shared] @ base
        _, first, inverse = np.unique(cameras[shared], return_index=True, return_inverse=True)
        return len(first) < len(shared) and bool(self.same_place(relative, relative[first][inverse]).all())


def _table(names: Sequence[str], from_end: bool) -> _Table:
    """Names with as many gaps as all of them have digit runs, counted from their start or end."""
    stems = [_stem(n) for n in names]
    found = [list(RUN.finditer(s)) for s in stems]
    count = min(len(f) for f in found)
    kept = [f[len(f) - count :] if from_end else f[:count] for f in found]
    texts: list[str] = []
    for stem, matches in zip(stems, kept, strict=True):
        ends = [0, *(m.end() for m in matches)]
        starts = [*(m.start() for m in matches), len(stem)]
        texts.append("\0".join(stem[a:b] for a, b in zip(ends, starts, strict=True)))
    numbers = np.array(
        [[_value(s, m) for m in f] for s, f in zip(stems, kept, strict=True)], dtype=object
    ).reshape(len(names), count)
    codes = np.zeros((len(names), count), dtype=np.int64)
    values: list[list[int]] = []
    for r in range(count):
        values.append(sorted(set(numbers[:, r])))
        code = {v: i for i, v in enumerate(values[-1])}
        codes[:, r] = [code[v] for v in numbers[:, r]]
    text_order = {t: i for i, t in enumerate(sorted(set(texts)))}
    words = [_word(stems[0], kept[0][r].start()) for r in range(count)]
    digits = [[m[0] for m in f] for f in kept]
    return _Table(texts, np.array([text_order[t] for t in texts]), codes, values, words, digits)


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).with_suffix("").as_posix().replace("\0", "")


def _value(stem: str, match: re.Match[str]) -> int:
    """A digit run as a number; what follows a decimal point counts as a fraction."""
    digits, at = match[0], match.start()
    is_fraction = at > 1 and stem[at - 1] == "." and stem[at - 2].isdigit()
    return int(digits.ljust(18, "0") if is_fraction else digits[-MOST_DIGITS:])


def _word(stem: str, at: int) -> int:
    """1 where the word before a number says camera, -1 where it says frame, else 0."""
    found = re.search(r"([A-Za-z]+)[_\-. ]*$", stem[:at].rsplit("/", 1)[-1])
    word = found[1].lower() if found else ""
    if word.endswith(CAMERA_WORDS):
        return 1
    return -1 if word.endswith(FRAME_WORDS) else SHORT_WORDS.get(word, 0)


def _numbered(rows: Array) -> Array:
    """Rows [N, K] → the place of each among the distinct rows in ascending order: [N]."""
    if rows.shape[1] == 0:
        return np.zeros(len(rows), dtype=np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def same_division(one: Array, other: Array) -> bool:
    """Whether two numberings divide the same things alike."""
    pairs = len(np.unique(np.stack([one, other], axis=1), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(other))
