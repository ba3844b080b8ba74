"""HDR video (HLG, PQ) as SDR images, so that it looks like what an SDR camera beside it takes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Array = NDArray[Any]
Floats = NDArray[np.float32]

# transfer characteristics of ITU-T H.273 that are HDR
TRANSFERS = {16: "PQ", 18: "HLG"}
# cd/m² of SDR's white in HDR: ITU-R BT.2408-8 §2.1
REFERENCE_WHITE = 203.0
# signal of the same white in HLG, same section
HLG_REFERENCE = 0.75
# linear light above which highlights are compressed, 1 = reference white
KNEE = 0.9
# from linear RGB of other primaries (H.273 numbers) to BT.709: ITU-R BT.2407 §2, and Display P3
TO_BT709 = {
    9: ((1.660491, -0.587641, -0.072850), (-0.124550, 1.132900, -0.008350), (-0.018151, -0.100579, 1.118730)),
    12: ((1.224940, -0.224940, 0.0), (-0.042057, 1.042057, 0.0), (-0.019638, -0.078636, 1.098274)),
    1: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}
# matrix coefficients that mix channels otherwise than Y'CbCr does, or not linearly
UNREADABLE = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "Y'D'zD'x",
    13: "Y'CbCr with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
# luma weights of red and blue by matrix coefficients (H.273 numbers): BT.709, BT.601 twice, BT.2020
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def check_matrix(number: int, name: str) -> None:
    """InputError, naming the file `name`, where its matrix coefficients (H.273 number) cannot be undone."""
    if number in UNREADABLE:
        raise InputError(
            "CAP-261",
            f"{name} stores colors as {UNREADABLE[number]}, which is not supported. Export it as BT.709, or as BT.2020 "
            "with non-constant luminance.",
        )


def hlg_to_scene(signal: Floats) -> Floats:
    """HLG signal 0..1 → scene light, 1 at full signal. Source: inverse OETF of ITU-R BT.2100-2, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


def pq_to_display(signal: Floats) -> Floats:
    """PQ signal 0..1 → cd/m². Source: EOTF of ITU-R BT.2100-2, table 4."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.maximum(signal, 0).astype(np.float64) ** (1 / m2)
    return (10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)


def compress_highlights(linear: Floats) -> Floats:
    """Linear RGB [..., 3], 1 = reference white, brought into 0..1: unchanged where no channel exceeds `KNEE`.

    The brightest channel approaches 1 exponentially and takes the others along, which keeps the hue. The spline of
    ITU-R BT.2408-8 annex 5 (BT.2390 §5.4 before) is not used: for a peak of 1000 cd/m² it bends from 89 cd/m² on and
    would darken what SDR cameras show as white to 160.
    """
    # much faster than max over an axis of three
    brightest = np.maximum(np.maximum(linear[..., 0], linear[..., 1]), linear[..., 2])
    beyond = brightest > KNEE
    if not beyond.any():
        return linear
    high = brightest[beyond, None]
    bent = KNEE + (1 - KNEE) * (1 - np.exp((KNEE - high) / (1 - KNEE)))
    result = linear.copy()
    result[beyond] *= bent / high
    return result


def to_sdr(signal: Array, transfer: str, primaries: int = 9) -> Array:
    """HDR as SDR.

    Args:
        signal: R'G'B' [H, W, 3] uint16, 65535 = full signal.
        transfer: "HLG" or "PQ".
        primaries: Those of H.273; unknown ones count as BT.2020, which BT.2100 prescribes.

    Returns:
        [H, W, 3] uint8 sRGB. Reference white is 1 in linear light, before highlights are compressed.

    Source: ITU-R BT.2408-8 §5.1.1 and §5.1.4, inverted: HLG is taken as scene light, as SDR cameras beside it record
    it, and PQ as display light.
    """
    linear = _linear(transfer)[signal]
    turned = linear @ np.array(TO_BT709.get(primaries, TO_BT709[9]), np.float32).T
    kept = compress_highlights(np.maximum(turned, 0))
    return _encoded()[(kept * 65535 + 0.5).clip(0, 65535).astype(np.uint16)]


@cache
def _linear(transfer: str) -> Floats:
    """Linear light of all 16-bit signals [65536], 1 = reference white."""
    signal = np.linspace(0, 1, 65536, dtype=np.float32)
    if transfer == "PQ":
        return pq_to_display(signal) / np.float32(REFERENCE_WHITE)
    return hlg_to_scene(signal) / hlg_to_scene(np.array(HLG_REFERENCE, np.float32))


@cache
def _encoded() -> Array:
    """sRGB of all 16-bit linear values [65536] uint8 (IEC 61966-2-1)."""
    linear = np.linspace(0, 1, 65536)
    signal = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * signal + 0.5).astype(np.uint8)


def to_signal(planes: Array, matrix: int, is_full: bool) -> Array:
    """Y'CbCr [H, W, 3] uint16 → R'G'B' [H, W, 3] uint16, 65535 = full signal.

    Unknown matrix coefficients count as BT.2020's. Source: ITU-R BT.2100-2, tables 6 and 9.
    """
    red, blue = LUMA.get(matrix, LUMA[9])
    green = 1 - red - blue
    from_blue, from_red = 2 * (1 - blue), 2 * (1 - red)
    by_channel = [
        [1, 0, from_red],
        [1, -blue * from_blue / green, -red * from_red / green],
        [1, from_blue, 0],
    ]
    steps, zero = ((65535, 65535, 65535), 0) if is_full else ((56064, 57344, 57344), 4096)
    change = (np.array(by_channel) * 65535 / steps).T
    offset = 0.5 - np.array([zero, 32768, 32768]) @ change
    values = planes.astype(np.float32) @ change.astype(np.float32) + offset.astype(np.float32)
    return values.clip(0, 65535).astype(np.uint16)
