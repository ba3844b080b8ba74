"""Names of the glTF extensions that hold Gaussians.

Source: Khronos Group, KHR_gaussian_splatting (release candidate of 2026), and the draft
KHR_gaussian_splatting_compression_spz_2.
"""

from __future__ import annotations

SPLATTING = "KHR_gaussian_splatting"
SPZ_2 = "KHR_gaussian_splatting_compression_spz_2"
ROTATION, SCALE, OPACITY = (f"{SPLATTING}:{name}" for name in ("ROTATION", "SCALE", "OPACITY"))
ELLIPSE, DISPLAY, LINEAR = "ellipse", "srgb_rec709_display", "lin_rec709_display"
POINTS = 0


def coefficients(degree: int) -> list[str]:
    """Attributes of the harmonics up to a degree, in the order of bases."""
    return [f"{SPLATTING}:SH_DEGREE_{d}_COEF_{i}" for d in range(degree + 1) for i in range(2 * d + 1)]
