"""Splat files of PlayCanvas' splat-transform are read with its values, and it reads the files of this pack."""

from pathlib import Path

import pytest
import torch

from engine.io.ply import write_ply
from engine.io.splats import read_splat
from engine.io.spz_decoding import turned
from engine.scene import Gaussians
from tests.judges import splat_transform
from tests.splat_bytes import ksplat_bytes, varied


def same(a: Gaussians, b: Gaussians, **limits: float) -> None:
    """Equal Gaussians in equal order, within limits by name; the angle of rotations, and opacities after activation."""
    allowed = {"means": 1e-5, "log_scales": 1e-5, "angle": 1e-3, "opacity": 1e-5, "dc": 1e-5, "sh": 1e-5}
    x, y = a.activated(), b.activated()
    assert a.sh.shape == b.sh.shape
    apart = {
        "means": a.means - b.means,
        "log_scales": a.log_scales - b.log_scales,
        "angle": 2 * (x.quats * y.quats).sum(-1).abs().double().clamp(max=1).acos(),
        "opacity": x.opacities - y.opacities,
        "dc": a.sh[:, 0] - b.sh[:, 0],
        "sh": a.sh[:, 1:] - b.sh[:, 1:],
    }
    for name, difference in apart.items():
        most = float(difference.abs().max()) if difference.numel() else 0.0
        assert most <= (allowed | limits)[name], (name, most)


def in_order_of(g: Gaussians, wanted: Gaussians) -> Gaussians:
    """The Gaussians in the order of those that lie where they do."""
    nearest = torch.cdist(wanted.means.double(), g.means.double()).argmin(1)
    assert len(nearest.unique()) == len(wanted) == len(g)
    return g.map(lambda t: t[nearest])


# -- its files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["a.sog", "a.compressed.ply", "3.spz", "4.spz"])
def test_files_of_splat_transform_are_read_with_its_values(name: str, degree: int, tmp_path: Path) -> None:
    g = varied(400, degree)
    original = write_ply(g, tmp_path / "original.ply")
    options = ["--spz-version", name[0]] if name.endswith(".spz") else []
    packed = splat_transform(original, tmp_path / name, *options)
    unpacked = read_splat(splat_transform(packed, tmp_path / "unpacked.ply"))
    read = read_splat(packed)
    # splat-transform stores the axes of a .ply in .spz files, where Niantic's documentation and this pack have y up
    read = turned(read) if name.endswith(".spz") else read
    # its bytes of harmonics stand for the middles of their steps in a compressed .ply
    same(read, unpacked, means=2e-5, opacity=2e-3, angle=2e-3, sh=0.02)
    # and they are those of the scene; splat-transform's own palette of few Gaussians is coarse
    coarse = 0.6 if name == "a.sog" else 0.07
    same(in_order_of(read, g), g, means=0.01, log_scales=0.08, angle=0.03, opacity=0.006, dc=0.08, sh=coarse)


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_ksplat_is_read_as_splat_transform_does(level: int, degree: int, tmp_path: Path) -> None:
    g = varied(333, degree)
    packed = tmp_path / "a.ksplat"
    packed.write_bytes(ksplat_bytes(g, level, (100, 233)))
    read = read_splat(packed)
    same(read, read_splat(splat_transform(packed, tmp_path / "a.ply")), opacity=2e-3, means=1e-4)
    same(
        read, g, means=1e-3, log_scales=2e-3, angle=5e-3, opacity=3e-3, dc=8.0, sh=0.7 if level == 2 else 1e-3
    )
