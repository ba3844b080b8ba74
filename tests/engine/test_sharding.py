"""Gaussians divided among the processes of a training: real processes, started by torchrun, that exchange over gloo.

gsplat's own exchange runs as it is, with dense kernels in place of its CUDA ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests import gsplat_on_cpu
from tests.engine.test_ranks import reported
from tests.sharded_training import COMPARED, EQUAL, GROWING, HANDED, OFFSETS, QUICK, STOPPED_AT, WITH_GSPLAT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="several processes are untested on Windows")
SCRIPT = Path(__file__).resolve().parents[1] / "sharded_training.py"
WHY_NOT = gsplat_on_cpu.why_not()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    return reported(folder, 1, "trainings", script=SCRIPT)


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, Any]:
    return reported(folder, 2, "trainings", "--shard", script=SCRIPT)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_with_half_the_gaussians_each_equal_one(
    one: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    alone, sharded = one[name], two[name]
    assert "Gaussians are divided among 2 processes" in sharded["note"]
    assert len(alone["losses"]) == len(sharded["losses"]) == COMPARED
    assert sharded["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    if EQUAL[name].iterations == COMPARED:
        assert sharded["rows"] == alone["rows"]
        assert sharded["center"] == pytest.approx(alone["center"], abs=1e-4)


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize("name", WITH_GSPLAT)
def test_gsplats_own_exchange_equals_one_process(one: dict[str, Any], two: dict[str, Any], name: str) -> None:
    alone, sharded = one[f"{name}, gsplat"], two[f"{name}, gsplat"]
    assert f"{gsplat_on_cpu.NAME} exchanges projected Gaussians" in sharded["note"]
    assert sharded["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert sharded["center"] == pytest.approx(alone["center"], abs=1e-5)


def test_processes_fill_one_budget_together(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["fixed budget"]["gaussians"] == two["fixed budget"]["gaussians"] == QUICK.budget
    assert two["fixed budget"]["counts"][0] == QUICK.initial_count, "all of them are counted"
    assert two["fixed budget, stopped"]["kept"]["shards"] == [101, 100]


@pytest.mark.parametrize("name", ["fixed budget", "adaptive"])
def test_density_control_of_each_process_leads_as_far_as_that_of_one(
    one: dict[str, Any], two: dict[str, Any], name: str
) -> None:
    alone, sharded = one[name], two[name]
    assert sharded["losses"][-1] < 0.5 * sharded["losses"][0]
    assert sharded["losses"][-1] == pytest.approx(alone["losses"][-1], rel=0.15)
    assert sharded["gaussians"] == pytest.approx(alone["gaussians"], rel=0.1)


@pytest.mark.parametrize("name", ["fixed budget", "adaptive"])
def test_a_resumed_training_ends_with_the_same_bits(two: dict[str, Any], name: str) -> None:
    whole, stopped, resumed = two[name], two[f"{name}, stopped"], two[f"{name}, resumed"]
    assert stopped["kept"]["iteration"] == len(stopped["losses"]) == STOPPED_AT
    assert f"resumed at step {STOPPED_AT}" in resumed["note"]
    assert stopped["losses"] + resumed["losses"] == whole["losses"]
    assert resumed["scene"] == whole["scene"]


def test_processes_may_have_different_numbers_of_gaussians(two: dict[str, Any]) -> None:
    first, second = two["adaptive, stopped"]["kept"]["shards"]
    assert (
        first != second and first + second == two["adaptive, stopped"]["counts"][-1] > GROWING.initial_count
    )


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_the_number_of_processes_may_change_at_a_resume(
    one: dict[str, Any], two: dict[str, Any], folder: Path, before: int, after: int
) -> None:
    checkpoint = folder / HANDED[before]
    kept = checkpoint.read_bytes()
    report = reported(folder, after, checkpoint.name, "--shard", script=SCRIPT)
    # for the next case
    checkpoint.write_bytes(kept)
    assert f"resumed at step {STOPPED_AT}" in report["note"]
    assert ("divided among" in report["note"]) == (after > 1)
    assert len(report["losses"]) == QUICK.iterations - STOPPED_AT
    whole = (one if before == 1 else two)["fixed budget"]["losses"]
    # noise moves faint Gaussians in other ways from then on
    assert report["losses"][:5] == pytest.approx(whole[STOPPED_AT : STOPPED_AT + 5], rel=0.01)
    assert report["losses"][-1] == pytest.approx(whole[-1], rel=0.1)
    assert report["gaussians"] == QUICK.budget


def test_processes_continue_offsets_that_one_process_trained_with_neighbors_of_its_own(
    two: dict[str, Any],
) -> None:
    report = two["from one"]
    half = OFFSETS.iterations // 2
    assert f"resumed at step {half}" in report["note"]
    # neighbors on the same process only
    assert report["losses"] == pytest.approx(report["alone"][half:], rel=0.01)


def test_processes_that_do_not_see_the_same_checkpoint_stop(two: dict[str, Any]) -> None:
    assert "[GS4D-TRN-055]" in two["own checkpoints"]


def test_fewer_gaussians_than_processes_are_refused(two: dict[str, Any]) -> None:
    assert "[GS4D-TRN-058]" in two["one Gaussian"]


def test_all_processes_save_when_the_first_ones_clock_says_so(two: dict[str, Any]) -> None:
    assert two["saves often"]["saved"] == 20


def test_a_checkpoint_that_cannot_be_written_stops_no_process(two: dict[str, Any]) -> None:
    assert two["cannot save"]["saved"] == 0 and two["cannot save"]["scene"] == two["saves often"]["scene"]


def test_processes_end_after_the_same_step_where_time_ends_the_run(two: dict[str, Any]) -> None:
    report = two["time limit"]
    assert 0 < report["kept"]["iteration"] == len(report["losses"]) < 100_000
    assert sum(report["kept"]["shards"]) == report["gaussians"]


def test_all_processes_stop_where_one_has_a_gaussian_that_is_nowhere(two: dict[str, Any]) -> None:
    first, second = two["not finite"]
    assert "[GS4D-TRN-009]" in first and "'the Gaussians of another process'" in first
    assert "[GS4D-TRN-009]" in second and "'means'" in second
    assert two["nothing kept"]


def test_a_motion_that_does_not_say_what_it_stores_is_refused(two: dict[str, Any]) -> None:
    assert "[GS4D-TRN-057]" in two["without rows"] and "DriftMotion" in two["without rows"]


def test_one_process_has_nothing_to_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "fit-scene",
        "--data",
        str(tmp_path),
        "--out",
        str(tmp_path / "a.safetensors"),
        "--shard-gaussians",
    ]
    assert main(words) == 1
    assert "CLI-012" in capsys.readouterr().err
