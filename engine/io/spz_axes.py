"""The axes of an `.spz`: right, up, back, unless the extension SPZ_ADOBE_coordinate_system says otherwise.

Most files say nothing. Niantic's library then takes them for right, up, back, and so does this pack; its command `ply_to_spz`,
SuperSplat and splat-transform (3.7) write the axes of a .ply (right, down, front) without saying so.

Source: README.md and extensions/README.md of nianticlabs/spz, `CoordinateSystem` in its splat-types.h.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError
from ..scene import Gaussians, harmonics, rotations
from .half_turns import X, half_turned

# of the header's flags: records follow it, or in gzip streams the blocks
HAS_EXTENSIONS = 0x2
# of a gzip stream, bytes that are unpacked behind the blocks
MOST_RECORDS = 1 << 16
# type and bytes of a record
RECORD = struct.Struct("<II")
COORDINATE_SYSTEM = 0xADBE0003
# names by number, from 1: of x, y and z, the directions in which they point
SYSTEMS = "LDB RDB LUB RUB LDF RDF LUF RUF LFD RFD LFU RFU LBD RBD LBU RBU".split()
# four with z up or down do not hold what they are called, where Niantic's library (0.2.3) makes them of a .ply or of the usual
# axes: it changes the sign of y instead of z, or of z instead of y. It reads them so too, and only it is known to write them
STORED = {"LFD": "LBU", "RFD": "RBU", "LBU": "LFD", "RBU": "RFD"}
USUAL = "RUB"
# of this pack and of .ply files
OWN = "RDF"
DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "D": (0, 1, 0),
    "U": (0, -1, 0),
    "F": (0, 0, 1),
    "B": (0, 0, -1),
}


def axes_in(records: bytes, name: str) -> str:
    """The axes that extension records name, such as "RUB"; empty where they name none.

    Args:
        records: The records, one after the other; what follows a damaged one is not looked at.
        name: The file's name for messages.

    Raises:
        InputError: The coordinate system has a number that nobody knows.
    """
    place = 0
    while place + RECORD.size <= len(records):
        kind, length = RECORD.unpack_from(records, place)
        payload = records[place + RECORD.size : place + RECORD.size + length]
        if len(payload) < length:
            break
        if kind == COORDINATE_SYSTEM and length >= 4:
            number = int.from_bytes(payload[:4], "little")
            if number > len(SYSTEMS):
                raise InputError(
                    "IO-124",
                    f"{name} names a coordinate system ({number}) that is unknown here. Save it without that extension, or "
                    "as .ply.",
                )
            return SYSTEMS[number - 1] if number else ""
        place += RECORD.size + length
    return ""


def from_axes(g: Gaussians, axes: str) -> Gaussians:
    """Gaussians of a file in the pack's axes.

    Args:
        g: As the file has them.
        axes: What the file calls its axes, one of SYSTEMS; empty for the usual ones.
    """
    axes = axes or USUAL
    if axes == USUAL:
        return half_turned(g, X)
    if axes == OWN:
        return g
    change = _change(STORED.get(axes, axes))
    # an ellipsoid is its own mirror image
    proper = change * torch.linalg.det(change)
    quat = rotations.matrices_to_quats(proper[None]).to(g.quats).expand(len(g), 4)
    return g.with_(
        means=g.means @ change.T.to(g.means),
        quats=rotations.multiply(quat, g.quats),
        sh=harmonics.turned(g.sh, change),
    )


@lru_cache(maxsize=16)
def _change(axes: str) -> Tensor:
    """[3, 3]: the columns are the file's axes in the pack's."""
    return torch.tensor([DIRECTIONS[letter] for letter in axes], dtype=torch.float64).T
