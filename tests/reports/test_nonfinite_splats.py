"""Splats of other programs with infinite or NaN values open with what these values mean."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.files.ply_header import read_vertices
from engine.io.ply import read_ply, write_ply
from engine.messages import result
from engine.scene import Gaussians
from engine.scene.mending import mended
from engine.steps import import_scene, splat_to_scene
from tests.scenes import moving_scene


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return moving_scene(40, views=3).canonical


def spoiled(gaussians: Gaussians, row: int, value: float) -> Gaussians:
    means = gaussians.means.clone()
    means[row] = value
    return replace(gaussians, means=means)


def test_reported_files_open_without_their_nan_rows(reports_folder: Path) -> None:
    files = sorted((reports_folder / "04_ply_nonfinite").glob("*.ply"))
    if not files:
        pytest.skip(f"no 04_ply_nonfinite in {reports_folder}")
    for file in files:
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
