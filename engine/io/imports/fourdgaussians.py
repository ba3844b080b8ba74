"""Scenes trained with hustvl/4DGaussians (4D-GS, CVPR 2024)."""

from __future__ import annotations

import math

from torch import Tensor

from ...deform.hexplane import PAIRS, HexPlane, HexPlaneConfig
from ...errors import InputError

HEAD_NAMES = {
    "position": "pos_deform",
    "scale": "scales_deform",
    "rotation": "rotations_deform",
    "opacity": "opacity_deform",
    "sh": "shs_deform",
}


def field_from_state(
    state: dict[str, Tensor],
    heads: tuple[str, ...],
    apply_rotation: bool = False,
    time_range: tuple[float, float] = (0.0, 1.0),
    source: str = "deformation.pth",
) -> HexPlane:
    """The HexPlane deformation from a state dict of 4D-GS; sizes are read from the tensors' shapes.

    Args:
        state: The state dict.
        heads: Active heads, which the state dict does not tell.
        apply_rotation: The setting of the same name in cfg_args.
        time_range: Times in seconds that 0 and 1 correspond to.
        source: Name of the file in errors.

    Returns:
        The deformation.

    Raises:
        InputError: A tensor is missing or does not match the others.
    """
    net = "deformation_net."

    def take(name: str, ndim: int) -> Tensor:
        tensor = state.get(net + name)
        if not isinstance(tensor, Tensor) or tensor.ndim != ndim or tensor.numel() == 0:
            found = "is missing" if tensor is None else f"has shape {tuple(getattr(tensor, 'shape', ()))}"
            raise InputError(
                "IO-010",
                f"{source}: the tensor '{net}{name}' {found}; choose the deformation.pth of a 4DGaussians scene.",
            )
        return tensor

    tensors = {"aabb": take("grid.aabb", 2)}
    levels = 0
    while f"{net}grid.grids.{levels}.0" in state:
        for index in range(len(PAIRS)):
            tensors[f"grids.{levels}.{index}"] = take(f"grid.grids.{levels}.{index}", 4)
        levels += 1
    first = take("grid.grids.0.0", 4)
    widths = [tensors[f"grids.{level}.0"].shape[3] for level in range(levels)]
    # a common factor of all levels belongs to the resolution
    x = math.gcd(*widths)
    multires = tuple(width // x for width in widths)
    y, z = first.shape[2] / multires[0], tensors["grids.0.1"].shape[2] / multires[0]
    t = tensors["grids.0.2"].shape[2]
    if y != int(y) or z != int(z):
        raise InputError(
            "IO-011",
            f"{source}: the planes of level 0 ({tuple(first.shape)}) are not a multiple of a common resolution; the file is "
            "damaged, copy it again.",
        )
    depth = 0
    while f"{net}feature_out.{2 * depth}.weight" in state:
        tensors[f"trunk.{depth}.weight"] = take(f"feature_out.{2 * depth}.weight", 2)
        tensors[f"trunk.{depth}.bias"] = take(f"feature_out.{2 * depth}.bias", 1)
        depth += 1
    for head in heads:
        for ours, theirs in (("hidden", 1), ("output", 3)):
            for part, ndim in (("weight", 2), ("bias", 1)):
                tensors[f"{ours}.{head}.{part}"] = take(f"{HEAD_NAMES[head]}.{theirs}.{part}", ndim)
    settings = HexPlaneConfig(
        features=first.shape[1],
        resolution=(x, int(y), int(z), t),
        multires=multires,
        depth=depth,
        width=take("feature_out.0.weight", 2).shape[0],
        heads=heads,
        apply_rotation=apply_rotation,
        time_mapping="raw01",
        time_range=time_range,
    )
    try:
        return HexPlane.from_parts(settings.to_json(), tensors)
    except InputError as error:
        raise error.at(source) from error
