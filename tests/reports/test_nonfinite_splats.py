"""Splats of other programs with infinite or NaN values open with what these values mean."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.files.ply_header import read_vertices
from engine.io.ply import read_ply, write_ply
from engine.io.splats import read_splat
from engine.io.spz import decode_spz, encode_spz
from engine.messages import result
from engine.scene import Gaussians
from engine.scene.mending import mended
from engine.steps import animate_splat, import_scene, splat_to_scene
from tests.conftest import ROOT
from tests.scenes import moving_scene


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return moving_scene(40, views=3).canonical


def spoiled(gaussians: Gaussians, row: int, value: float) -> Gaussians:
    means = gaussians.means.clone()
    means[row] = value
    return replace(gaussians, means=means)


def test_reported_files_open_without_their_nan_rows(reported: Callable[..., list[Path]]) -> None:
    for file in reported("04_ply_nonfinite", "*.ply"):
        rows = read_vertices(file, file.name)
        names = rows.dtype.names or ()
        lost = np.any([np.isnan(rows[name]) for name in names], axis=0)
        scene = result(import_scene.run(file))
        assert len(scene.canonical) == len(rows) - lost.sum()
        assert (f"{lost.sum()} Gaussians were left out" in import_scene.summary(scene)) == bool(lost.any())
        opacity = scene.canonical.activated().opacities.numpy()
        assert (opacity[rows["opacity"][~lost] == np.inf] > 0.999).all()
        assert (opacity[rows["opacity"][~lost] == -np.inf] < 0.001).all()
        assert all(bool(torch.isfinite(t).all()) for t in scene.canonical.tensors().values())


def test_infinite_opacities_and_scales_keep_their_meaning(gaussians: Gaussians, tmp_path: Path) -> None:
    logits, scales = gaussians.logit_opacities.clone(), gaussians.log_scales.clone()
    logits[0], logits[1], scales[2, 1] = torch.inf, -torch.inf, -torch.inf
    path = write_ply(replace(gaussians, logit_opacities=logits, log_scales=scales), tmp_path / "a.ply")
    read = read_ply(path).activated()
    assert len(read.means) == len(gaussians)
    assert read.opacities[0] > 0.999
    assert read.opacities[1] < 0.001
    assert 0 <= read.scales[2, 1] < 1e-9
    assert torch.equal(read.scales[3:], gaussians.activated().scales[3:])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_frames_with_equal_counts_lose_the_same_gaussians(gaussians: Gaussians, value: float) -> None:
    frames = [spoiled(gaussians, 3, value), spoiled(gaussians, 5, value)]
    made, note = mended(frames)
    assert note == "2 Gaussians were left out: NaN or infinite values."
    kept = [i for i in range(len(gaussians)) if i not in (3, 5)]
    assert all(torch.equal(g.means, gaussians.means[kept]) for g in made)
    scene = splat_to_scene.make(frames)
    assert splat_to_scene.summary(scene).endswith(note)


def test_animated_splats_lose_the_same_gaussians_and_say_so(gaussians: Gaussians, tmp_path: Path) -> None:
    """A splat of another node or file goes into Animate Splat with Mesh and Align Splat as into Splat to 4D Scene."""
    mesh = ROOT / "assets" / "puppets" / "clay_dancer"
    splat = read_splat(mesh / "clay_dancer.spz")
    broken = spoiled(splat, 7, torch.nan)
    made = result(
        animate_splat.run([broken], mesh / "clay_dancer.glb", config=animate_splat.Config(action="Walk"))
    )
    assert len(made.canonical) == len(splat) - 1
    assert animate_splat.summary(made).endswith("1 Gaussian was left out: NaN or infinite values.")


def test_half_floats_of_spz_lose_what_is_infinite(gaussians: Gaussians) -> None:
    """Version 1 holds positions as half floats, which can be NaN and infinite."""
    plain = gzip.decompress(encode_spz(gaussians, "a.spz", version=2))
    count, degree = struct.unpack("<IB", plain[8:13])
    means = (gaussians.means * torch.tensor([1.0, -1.0, -1.0])).half().numpy()
    means[3, 0], means[9, 2] = np.nan, np.inf
    header = struct.pack("<IIIBBBB", 0x5053474E, 1, count, degree, 0, 0, 0)
    read = decode_spz(gzip.compress(header + means.tobytes() + plain[16 + 9 * count :]), "a.spz")
    assert len(read) == count - 2 and bool(torch.isfinite(read.means).all())
    kept = [i for i in range(count) if i not in (3, 9)]
    assert float((read.means - gaussians.means[kept]).abs().max()) < 2e-3
    means[:] = np.nan
    with pytest.raises(InputError, match=f"all {count} Gaussians were left out.*IO-043"):
        decode_spz(gzip.compress(header + means.tobytes() + plain[16 + 9 * count :]), "a.spz")


@pytest.mark.parametrize("suffix", [".ply", ".splat"])
def test_a_file_without_any_finite_gaussian_says_how_many_were_left_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".ply":
        write_ply(moving_scene(40, views=3).canonical.map(lambda t: t * torch.nan), path)
    else:
        path.write_bytes(struct.pack("<6f8B", *[np.nan] * 6, *range(8)) * 40)
    for read in (read_splat, lambda p: result(import_scene.run(p))):
        with pytest.raises(InputError, match=f"a{suffix}: all 40 Gaussians were left out.*NaN"):
            read(path)
