"""Parts of the ICT-FaceKit head by name, and the colors of the demo head: functions of the neutral mesh's vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from .ict import (
    CENTIMETER,
    FACE,
    GUMS,
    HEAD,
    LANDMARKS,
    LEFT_BALL,
    LEFT_LINING,
    LOWER_TEETH,
    RIGHT_BALL,
    RIGHT_LINING,
    SOCKET,
    UPPER_TEETH,
    Floats,
    Ints,
    smooth,
    tongue,
)  # fmt: skip

Bools = NDArray[np.bool_]

IRIS, PUPIL = 24.0, 9.5  # degrees off the eye's axis
EAR_SPACING = 0.33  # centimeters between neighboring vertices
# azimuth from the front in degrees → height of the hairline in cm
HAIRLINE = (
    (0, 30, 46, 56, 63, 69, 75, 84, 93, 103, 113, 125, 145, 180),
    (9.6, 9.5, 8.6, 6.9, 5.6, 4.2, 1.9, 1.6, 4.6, 1.0, -1.2, -2.6, -3.6, -4.0),
)
# from the brow's inner end to its outer end
BROW_HALF_WIDTH = (0.30, 0.42, 0.42, 0.34, 0.10)


@dataclass(frozen=True)
class Palette:
    """Linear colors in 0..1."""

    skin: tuple[float, float, float] = (0.56, 0.335, 0.235)
    lips: tuple[float, float, float] = (0.46, 0.145, 0.125)
    hair: tuple[float, float, float] = (0.045, 0.026, 0.017)
    iris: tuple[float, float, float] = (0.10, 0.20, 0.27)


@dataclass(frozen=True)
class Eye:
    center: Floats  # [3]
    axis: Floats  # [3] unit, through the cornea
    ball: tuple[int, int]

    def angle(self, vertices: Floats) -> Floats:
        """[V] degrees off the axis, 180 outside the ball's own vertices."""
        away = vertices - self.center
        cosine = away @ self.axis / np.linalg.norm(away, axis=1)
        angles = np.full(len(vertices), 180.0)
        angles[slice(*self.ball)] = np.degrees(np.arccos(np.clip(cosine, -1, 1)))[slice(*self.ball)]
        return angles


def fit_eye(vertices: Floats, ball: tuple[int, int]) -> Eye:
    """Center of the sphere behind the cornea's bulge, fitted in rounds that drop the worst vertices."""
    points = vertices[slice(*ball)]
    chosen = points
    center = points.mean(axis=0)
    for _ in range(10):
        system = np.c_[2 * chosen, np.ones(len(chosen))]
        solved = np.linalg.lstsq(system, (chosen**2).sum(axis=1), rcond=None)[0]
        center = solved[:3]
        radius = np.sqrt(solved[3] + center @ center)
        error = np.abs(np.linalg.norm(points - center, axis=1) - radius)
        chosen = points[error <= np.quantile(error, 0.6)]
    away = points - center
    bulge = away[np.linalg.norm(away, axis=1) > 1.1 * radius].mean(axis=0)
    return Eye(center, bulge / np.linalg.norm(bulge), ball)


class Surface:
    """Regions and colors of one head, [V] each."""

    def __init__(self, vertices: Floats, faces: Ints):
        self.vertices, self.faces = vertices, faces
        self.points = vertices / CENTIMETER
        self.count = len(vertices)
        self.eyes = (fit_eye(vertices, LEFT_BALL), fit_eye(vertices, RIGHT_BALL))
        edges = np.unique(
            np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0
        )
        lengths = np.linalg.norm(self.points[edges[:, 0]] - self.points[edges[:, 1]], axis=1)
        graph = coo_matrix((lengths, edges.T), (self.count, self.count))
        self.graph = (graph + graph.T).tocsr()
        self.edges = edges
        self.skin = self.mask(FACE, HEAD)
        self.lips = self._lips()
        self.ears = self._ears()
        self.neck = self._neck()
        self.hair = self._hair()
        self.brows = [self._brow(LANDMARKS[22:27]), self._brow(LANDMARKS[21:16:-1])]  # left, right

    def mask(self, *ranges: tuple[int, int]) -> Bools:
        inside = np.zeros(self.count, bool)
        for start, stop in ranges:
            inside[start:stop] = True
        return inside

    def _grown(self, seeds: Ints, within: Bools) -> Bools:
        """Vertices reached from the seeds along edges inside `within`."""
        reached = np.zeros(self.count, bool)
        reached[seeds] = True
        while True:
            ends = self.edges[reached[self.edges].any(axis=1)].ravel()
            more = np.zeros(self.count, bool)
            more[ends] = True
            more &= within & ~reached
            if not more.any():
                return reached & within
            reached |= more

    def _path(self, stops: Ints) -> Ints:
        """Vertices of the shortest closed path of edges through the stops."""
        found: list[int] = []
        for start, end in zip(stops, np.roll(stops, -1), strict=True):
            before = dijkstra(self.graph, indices=int(start), return_predecessors=True, limit=8.0)[1]
            at = int(end)
            while at != start:
                found.append(at)
                at = int(before[at])
        return np.array(found)

    def _lips(self) -> Bools:
        """Between the vermilion border (landmarks 48 to 59) and the mouth's socket, the border itself included."""
        border = self._path(np.array(LANDMARKS[48:60]))
        open_ = self.mask(FACE)
        open_[border] = False
        inner = self._grown(np.array(LANDMARKS[60:68]), open_)
        inner[border] = True
        return inner

    def _ears(self) -> Bools:
        x, y, z = self.points.T
        box = self.skin & (np.abs(x) > 6.7) & (y > -2.6) & (y < 4.6) & (z < 2.6) & (z > -2.8)
        # an auricle has far more vertices than the head around it
        degree = np.maximum(np.diff(self.graph.indptr), 1)
        spacing = np.asarray(self.graph.sum(axis=1)).ravel() / degree
        dense = box & (self._blurred(spacing, 2) < EAR_SPACING) & (y < 3.7) & (np.abs(x) > 7.0)
        return self._blurred(dense | (box & (np.abs(x) > 8.0)), 3) > 0.4

    def _neck(self) -> Bools:
        _, y, z = self.points.T
        # below the chin, the jaw's edge and the nape
        line = np.interp(z, (-9.0, -2.0, 2.0, 6.0, 9.5), (-5.5, -5.0, -6.5, -8.6, -9.6))
        return self.skin & (y < line)

    def _hair(self) -> Floats:
        """How many centimeters a vertex lies above the hairline, negative below."""
        x, y, z = self.points.T
        azimuth = np.degrees(np.arctan2(np.abs(x), z - 0.6))
        above = y - np.interp(azimuth, *HAIRLINE)
        above[~self.skin] = -9
        return above

    def _brow(self, landmarks: tuple[int, ...]) -> Floats:
        """[V] 1 in the middle of a brow, 0 outside: by distance to a line through five landmarks."""
        knots = self.points[list(landmarks)] + np.array([0.0, -0.12, 0.0])
        steps = np.linspace(0, 4, 81)
        line = np.stack([np.interp(steps, range(5), knots[:, axis]) for axis in range(3)], axis=1)
        width = np.interp(steps, range(5), BROW_HALF_WIDTH)
        ids = np.flatnonzero(self.mask(FACE))
        away = np.linalg.norm(self.points[ids, None] - line, axis=-1) / width
        brow = np.zeros(self.count)
        brow[ids] = smooth(away.min(axis=1), 1.25, 0.55)
        return brow

    def regions(self) -> dict[str, Bools]:
        """Masks by FLAME's names, and by those that masks of parts use besides."""
        x, y, z = self.points.T
        landmarks = self.points[list(LANDMARKS)]
        left, right = x > 1e-4, x < -1e-4
        face = self.skin & ~self.neck & ~self.ears & (self.hair < 0)
        scalp = (self.hair >= 0) & ~self.ears
        around = np.stack(
            [
                np.linalg.norm(self.points - landmarks[i:j].mean(axis=0), axis=1)
                for i, j in ((42, 48), (36, 42))
            ]
        )
        lids = self.mask(FACE, LEFT_LINING, RIGHT_LINING) & (around.min(axis=0) < 2.6)
        # the bridge and both wings
        tip, bridge = landmarks[30], landmarks[27]
        beside = np.interp(y, (landmarks[33, 1], bridge[1]), (2.0, 0.9))
        nose = (
            self.mask(FACE)
            & (np.abs(x) < beside)
            & (y < bridge[1])
            & (y > landmarks[33, 1] - 0.35)
            & (z > tip[2] - 4)
        )
        nose &= ~self.lips
        forehead = face & (y > landmarks[17:27, 1].min() + 0.9) & (self.brows[0] + self.brows[1] == 0)
        irises = [eye.angle(self.vertices) < IRIS + 0.5 for eye in self.eyes]
        return {
            "face": face,
            "neck": self.neck,
            "scalp": scalp,
            "boundary": self._open_border() & self.mask(HEAD),
            "left_eyeball": self.mask(LEFT_BALL),
            "right_eyeball": self.mask(RIGHT_BALL),
            "left_iris": irises[0],
            "right_iris": irises[1],
            "left_ear": self.ears & left,
            "right_ear": self.ears & right,
            "forehead": forehead,
            "eye_region": lids,
            "left_eye_region": lids & left,
            "right_eye_region": lids & right,
            "left_eyelid_lining": self.mask(LEFT_LINING),
            "right_eyelid_lining": self.mask(RIGHT_LINING),
            "nose": nose,
            "lips": self.lips,
            "mouth_interior": self.mask(SOCKET, GUMS),
            "tongue": tongue(self.vertices) > 0.02,
            "teeth": self.mask(UPPER_TEETH, LOWER_TEETH),
            "teeth_upper": self.mask(UPPER_TEETH),
            "teeth_lower": self.mask(LOWER_TEETH),
            "left_brow": self.brows[0] > 0.35,
            "right_brow": self.brows[1] > 0.35,
            "left_half": left,
            "right_half": right,
        }

    def _open_border(self) -> Bools:
        edges = np.sort(
            np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]), axis=1
        )
        unique, counts = np.unique(edges, axis=0, return_counts=True)
        border = np.zeros(self.count, bool)
        border[unique[counts == 1].ravel()] = True
        return border

    def face_labels(self) -> Ints:
        """[F] which faces look alike: simplification keeps the borders between them.

        Colors are interpolated between vertices, so each soft edge needs a border on both of its sides.
        """
        brow = self.brows[0] + self.brows[1]
        mouth = self._near(self.lips, 0.35)
        steps = [
            *(eye.angle(self.vertices) < limit for eye in self.eyes for limit in (PUPIL, PUPIL + 4, IRIS, IRIS + 5)),
            self.lips, mouth > 0, brow > 0.5, brow > 0.02, self.hair > -0.3, self.hair > 0.35, self.mask(SOCKET),
            self.mask(LEFT_LINING, RIGHT_LINING),
        ]  # fmt: skip
        vertex = sum(step.astype(np.int64) << i for i, step in enumerate(steps))
        return np.sort(np.asarray(vertex)[self.faces], axis=1)[:, 1]

    def fixed(self) -> Bools:
        """[V] vertices that stay: the rings of an eye's colors, and the brows with their surroundings."""
        rings = np.any([eye.angle(self.vertices) < IRIS + 4 for eye in self.eyes], axis=0)
        return rings | (self._blurred(self.brows[0] + self.brows[1] > 0.02, 1) > 0)

    def detail(self) -> Floats:
        """[V] how much an error of the simplification counts."""
        landmarks = self.points[list(LANDMARKS)]
        z = self.points[:, 2]
        weight = np.full(self.count, 1.0)
        near = np.min([np.linalg.norm(self.points - landmarks[i], axis=1) for i in range(17, 68)], axis=0)
        weight += 6 * smooth(near, 2.6, 0.4) * self.mask(FACE)
        weight[self.hair > 0.9] = 0.35
        weight[np.abs(self.hair) < 0.9] = 4.0
        weight[self.neck] = 0.4
        weight[self.mask(SOCKET)] = 0.12
        weight[self.mask(GUMS)] = 0.08
        weight[self.mask(UPPER_TEETH, LOWER_TEETH)] = (0.4 + 2.5 * smooth(z, 7.5, 9.5))[
            self.mask(UPPER_TEETH, LOWER_TEETH)
        ]
        weight[self.mask(LEFT_LINING, RIGHT_LINING)] = 0.4
        for eye in self.eyes:
            weight[slice(*eye.ball)] = 0.1 + 4 * smooth(eye.angle(self.vertices), 48, 32)[slice(*eye.ball)]
        return weight

    def colors(self, palette: Palette) -> Floats:
        """[V, 3] linear colors of every vertex."""
        x, y, z = self.points.T
        landmarks = self.points[list(LANDMARKS)]
        skin = np.array(palette.skin)
        color = np.tile(skin, (self.count, 1))

        def tint(amount: Floats | Bools, target: tuple[float, ...] | Floats) -> None:
            nonlocal color
            share = np.clip(np.asarray(amount, dtype=np.float64), 0, 1)[:, None]
            color = color * (1 - share) + np.asarray(target) * share

        def spot(center: Floats, radius: float) -> Floats:
            away = np.linalg.norm((self.points - center), axis=1) / radius
            return np.exp(-(away**2))

        red = skin * np.array([1.06, 0.72, 0.68])
        for side in (-1, 1):
            tint(0.55 * spot(np.array([side * 4.6, -0.2, 8.6]), 2.1), red)
            tint(0.35 * spot(np.array([side * 8.4, 1.5, -0.5]), 2.4) * self.ears, red)
            tint(0.45 * spot(np.array([side * 3.1, 2.1, 9.0]), 1.1), skin * np.array([0.78, 0.68, 0.70]))
        tint(0.4 * spot(landmarks[30], 1.1), red)
        tint(0.35 * spot(landmarks[8] + np.array([0.0, 1.0, 0.4]), 1.5), red)
        # slow variation, so that the skin is not of one color
        wave = np.sin(1.7 * x + 0.9 * y) * np.sin(1.3 * y - 1.1 * z + 0.4) + 0.5 * np.sin(
            3.1 * y + 2.3 * x - 1.9 * z
        )
        color = color * (1 + 0.035 * wave * self.skin)[:, None]
        color *= (1 - 0.18 * smooth(y, -8.0, -13.0) * self.skin)[:, None]

        tint(self._blurred(self.lips, 1) * self.mask(FACE), palette.lips)
        # the line where the lips meet, and the lids' edges with their lashes
        tint(0.6 * self._near(self.mask(SOCKET), 0.28) * self.lips, np.array(palette.lips) * 0.45)
        rim = self._near(self.mask(LEFT_LINING, RIGHT_LINING), 0.16) * self.mask(FACE)
        upper = np.where(y > landmarks[36:48, 1].mean() - 0.12, 0.95, 0.5)
        tint(rim * upper, (0.03, 0.018, 0.014))
        tint(self.mask(LEFT_LINING, RIGHT_LINING), (0.36, 0.15, 0.125))

        brows = self.brows[0] + self.brows[1]
        tint(0.9 * brows, np.array(palette.hair) * 1.15)
        strands = 1 + 0.38 * np.sin(9 * np.arctan2(x, z - 0.6) + 0.5 * y) * np.sin(
            2.6 * y + 1.7 * z + 0.8 * x
        )
        ragged = self.hair + 0.16 * np.sin(5.1 * x + 2.2 * z) + 0.10 * np.sin(8.3 * x - 4.7 * y)
        tint(smooth(ragged, -0.35, 0.35) * ~self.ears * self.skin, np.array(palette.hair) * strands[:, None])

        self._color_mouth(tint)
        self._color_eyes(tint, np.array(palette.iris))
        return np.clip(color, 0, 1)

    def _near(self, part: Bools, reach: float) -> Floats:
        """1 at a part's vertices, falling to 0 at `reach` centimeters along the surface."""
        away = dijkstra(self.graph, indices=np.flatnonzero(part), min_only=True, limit=reach)
        return np.clip(1 - np.where(np.isfinite(away), away, reach) / reach, 0, 1)

    def _blurred(self, values: Floats | Bools, rounds: int) -> Floats:
        values = values.astype(np.float64)
        linked = (self.graph > 0).astype(np.float64)
        degree = np.maximum(np.asarray(linked.sum(axis=1)).ravel(), 1)
        for _ in range(rounds):
            values = 0.5 * values + 0.5 * (linked @ values) / degree
        return values

    def _color_mouth(self, tint) -> None:  # pyright: ignore
        _, y, z = self.points.T
        back = smooth(z, 10.2, 5.5)[:, None]
        tint(
            self.mask(SOCKET),
            np.array([0.30, 0.085, 0.075]) * (1 - back) + np.array([0.045, 0.008, 0.008]) * back,
        )
        tint(self.mask(GUMS), np.array([0.46, 0.16, 0.15]) * (1 - 0.75 * back))
        tint(tongue(self.vertices) > 0.02, np.array([0.47, 0.17, 0.16]) * (1 - 0.7 * back))
        for part, root in ((UPPER_TEETH, 1.0), (LOWER_TEETH, -1.0)):
            inside = self.mask(part)
            heights = y[inside] * root
            low, high = heights.min(), heights.max()
            up = smooth((y * root - low) / (high - low), 0.45, 1.0)[:, None]
            white = np.array([0.80, 0.75, 0.66]) * (1 - up) + np.array([0.70, 0.56, 0.44]) * up
            tint(inside, white * (1 - 0.65 * smooth(z, 9.2, 6.0)[:, None]))

    def _color_eyes(self, tint, iris: Floats) -> None:  # pyright: ignore
        for eye in self.eyes:
            ball = self.mask(eye.ball)
            angle = eye.angle(self.vertices)
            white = np.array([0.78, 0.75, 0.72])[None] * (
                1 - smooth(angle, 30, 70)[:, None] * np.array([0.12, 0.3, 0.33])
            )
            tint(ball, white)
            ring = smooth(angle, 20, IRIS)[:, None]
            inner = smooth(angle, 16, 10)[:, None]
            rays = iris * (1 + 0.5 * inner) * (1 - ring) + iris * 0.22 * ring
            tint(ball * smooth(angle, IRIS + 2, IRIS - 1.5), rays)
            tint(ball * smooth(angle, PUPIL + 2.5, PUPIL - 0.5), (0.008, 0.008, 0.008))
