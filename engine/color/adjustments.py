"""Adjustments of color: light of another strength and color (in linear light), contrast and saturation (as displayed).

Sources: sRGB (IEC 61966-2-1); the Planckian locus by Krystek (1985), valid from 1000 to 15000 K.
"""

from __future__ import annotations

import torch
from torch import Tensor

# weights of red, green and blue in luma (Rec. 601), on displayed values
LUMA = (0.299, 0.587, 0.114)
# weights in luminance (sRGB), on linear values
LUMINANCE = (0.2126, 0.7152, 0.0722)
# 18% gray as sRGB displays it: what contrast leaves unchanged
MIDDLE_GRAY = 0.4614
# the white of sRGB (6504 K) in mireds, which are a million divided by kelvins
WHITE = 1e6 / 6504


def to_linear(colors: Tensor) -> Tensor:
    """Linear light of displayed colors (sRGB); negative ones as 0."""
    low = colors.clamp(min=0)
    return torch.where(low <= 0.04045, low / 12.92, ((low.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_display(light: Tensor) -> Tensor:
    """Displayed colors (sRGB) of linear light ≥ 0."""
    return torch.where(
        light <= 0.0031308, light * 12.92, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    )


def lit(colors: Tensor, stops: float, mireds: float, tint: float) -> Tensor:
    """Displayed colors [..., 3] in light of another strength and color.

    Args:
        colors: Displayed colors.
        stops: Each doubles the light.
        mireds: From white (6504 K) towards warm light; negative towards blue sky.
        tint: Thousandths of Duv, the distance from the colors of glowing bodies; positive towards magenta.
    """
    gains = torch.tensor(_gains(mireds, tint), dtype=torch.float64) * 2.0**stops
    return to_display(to_linear(colors) * gains.to(colors))


def contrasted(colors: Tensor, contrast: float) -> Tensor:
    """Displayed colors with their distance from middle gray multiplied."""
    return MIDDLE_GRAY + (colors - MIDDLE_GRAY) * contrast


def luma(colors: Tensor) -> Tensor:
    """Luma [..., 1] of displayed colors [..., 3]."""
    return (colors * torch.tensor(LUMA, dtype=colors.dtype, device=colors.device)).sum(dim=-1, keepdim=True)


def saturated(colors: Tensor, saturation: float) -> Tensor:
    """Displayed colors with their distance from the gray of equal luma multiplied."""
    gray = luma(colors)
    return gray + (colors - gray) * saturation


def _gains(mireds: float, tint: float) -> list[float]:
    """Linear red, green and blue of a light, relative to white and of the same luminance."""
    light, white = _glow(WHITE + mireds, -tint / 1000), _glow(WHITE, 0.0)
    gains = [max(a / b, 0.0) for a, b in zip(light, white, strict=True)]
    luminance = sum(gain * weight for gain, weight in zip(gains, LUMINANCE, strict=True))
    return [gain / luminance for gain in gains]


def _glow(mireds: float, duv: float) -> tuple[float, float, float]:
    """Linear sRGB of a body glowing at a color temperature, moved by `duv` across the Planckian locus (CIE 1960)."""
    (u, v), (u_next, v_next) = _locus(mireds), _locus(mireds + 0.01)
    along = (u_next - u, v_next - v)
    length = (along[0] ** 2 + along[1] ** 2) ** 0.5
    # positive Duv lies above the locus, towards green
    across = (-along[1] / length, along[0] / length)
    across = across if across[1] > 0 else (-across[0], -across[1])
    u, v = u + across[0] * duv, v + across[1] * duv
    x, y = 3 * u / (2 * u - 8 * v + 4), 2 * v / (2 * u - 8 * v + 4)
    X, Z = x / y, (1 - x - y) / y
    return (
        3.2406 * X - 1.5372 - 0.4986 * Z,
        -0.9689 * X + 1.8758 + 0.0415 * Z,
        0.0557 * X - 0.2040 + 1.0570 * Z,
    )


def _locus(mireds: float) -> tuple[float, float]:
    """u and v (CIE 1960) of a body glowing at a color temperature: Krystek (1985)."""
    kelvins = 1e6 / mireds
    u = (0.860117757 + 1.54118254e-4 * kelvins + 1.28641212e-7 * kelvins**2) / (
        1 + 8.42420235e-4 * kelvins + 7.08145163e-7 * kelvins**2
    )
    v = (0.317398726 + 4.22806245e-5 * kelvins + 4.20481691e-8 * kelvins**2) / (
        1 - 2.89741816e-5 * kelvins + 1.61456053e-7 * kelvins**2
    )
    return u, v
