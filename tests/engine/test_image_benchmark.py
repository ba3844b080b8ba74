"""The benchmark of scenes from one image: measures whose value is known, and every promised key. Random weights."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import image_to_4d
from benchmarks.made_scenes import KEYS, Shown, camera_error, mean_rows, measured, track_errors
from engine.deform import PerFrame
from engine.scene import ActivatedGaussians, Gaussians, Scene4D
from tests.tiny_image_model import LDRM, VIDEO, save_image_model
from training.reconstruction.data import Sample, SampleShape, own_frames
from training.reconstruction.evaluate import held_out
from training.reconstruction.scenes import SceneShape

CONFIG = replace(LDRM, time_stride=2)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return held_out(0, CONFIG, SampleShape(SceneShape(frames=5), size=32))


def true_scene(sample: Sample, moves: bool) -> Scene4D:
    """A small Gaussian at every point of the first frame's cells, on its true track or standing still."""
    centers, directions = sample.cell_rays()
    known = sample.known[0]
    means = centers[0] + directions[0][known] * sample.distances[0][known].float()[:, None]
    count = len(means)
    gaussians = Gaussians.from_activated(
        ActivatedGaussians(
            means,
            torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
            torch.full((count, 3), 0.04),
            torch.full((count,), 0.99),
            torch.zeros(count, 1, 3),
        )
    )
    changes = {"means": sample.shifts[0][:, known].float() * moves}
    times = torch.arange(len(sample.path)).double()
    bounds = torch.stack([means.amin(0), means.amax(0)]).double()
    return Scene4D(gaussians, PerFrame(times, changes), times, sample.path, bounds, torch.zeros(3))


def test_true_tracks_have_no_error_and_standing_still_has_its_own(sample: Sample) -> None:
    error, still = track_errors(true_scene(sample, moves=True), sample, [0])
    assert error < 0.01 < still
    error, same = track_errors(true_scene(sample, moves=False), sample, [0])
    assert error == pytest.approx(still, rel=1e-3) and same == still


def test_a_row_has_every_key_and_the_depth_of_true_points_is_right(sample: Sample) -> None:
    row = measured(true_scene(sample, moves=True), sample, own_frames(CONFIG, 5), 1.5)
    assert tuple(row) == KEYS and row["seconds"] == 1.5
    assert (row["depth_pearson"] or 0) > 0.8
    assert all(value is not None for name, value in row.items() if name != "camera_error")


def test_a_path_that_shows_nothing_has_no_camera_error(sample: Sample) -> None:
    views = len(sample.frames)
    assert camera_error(Shown(torch.zeros(views, 32, 32, 3), torch.zeros(views, 32, 32)), sample) is None


def test_means_leave_out_what_is_not_there() -> None:
    rows: list[dict[str, float | None]] = [{"a": 1.0, "b": None}, {"a": 2.0, "b": 4.0}, {"a": 6.0, "b": None}]
    assert mean_rows(rows) == {"a": 3.0, "b": 4.0}
    assert mean_rows([{"b": None}]) == {"b": None}


def test_every_promised_key_is_there(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path / "tiny", replace(VIDEO, frames=9, pixels=64))
    options = argparse.Namespace(model=folder, quick=True, scenes=4, only="model")
    found = json.loads(json.dumps(image_to_4d.report(options)))
    for name in ("full", "from_image", "without_deformation"):
        assert set(found[name]) == set(KEYS), name
    assert found["full"]["track_error_still"] == found["without_deformation"]["track_error"]
    empty = {name for name in image_to_4d.ROWS if found[name] is None}
    assert empty == set(image_to_4d.ROWS) - {"full", "from_image", "without_deformation"}
    assert set(found["nearest_frame"]) == {"psnr_novel"} and found["full_size"] is None
    assert (
        empty | {"full_size"} == set(found["reasons"]) and found["scenes"] == 1 and "machine" in found["env"]
    )


def test_without_a_model_its_rows_are_null(tmp_path: Path) -> None:
    options = argparse.Namespace(model=tmp_path / "none", quick=True, scenes=1, only="model")
    found = image_to_4d.report(options)
    assert found["full"] is None and "is not there" in found["reasons"]["from_image"]


def test_the_full_sized_pass_runs_at_a_small_size() -> None:
    found = image_to_4d.one_pass(LDRM, (32, 32, 5), "cpu")
    assert set(found) == {"seconds", "peak_mb", "ms_a_frame"} and found["seconds"] > 0
