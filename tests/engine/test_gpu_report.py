"""The report of a GPU: each part has its own limit and failure, nothing of the user is in it, and it runs on a CPU."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_report, gpu_tables
from benchmarks.gpu_report import Part, outcome


def part(code: str, name: str = "fit") -> Part:
    return Part(name, ("-c", code), 60.0)


def test_a_part_that_reports_nothing_gives_its_last_line(tmp_path: Path) -> None:
    found = outcome(part("print('begun'); raise RuntimeError('CUDA error: no kernel image')"), 60, tmp_path)
    assert found["error"] == "RuntimeError: CUDA error: no kernel image"
    assert 0 <= found["seconds_of_part"] < 60
    assert outcome(part("import os; os.abort()"), 60, tmp_path)["error"]


def test_a_part_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    found = outcome(part("import time; time.sleep(60)"), 1.0, tmp_path)
    assert found["error"] == "stopped after 1 s" and found["seconds_of_part"] < 30


def test_failed_and_skipped_tests_are_counted_with_their_reasons(tmp_path: Path) -> None:
    file, results = tmp_path / "test_it.py", tmp_path / "results.xml"
    file.write_text(
        "import pytest\n"
        "pytestmark = pytest.mark.gpu\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'they differ'\n"
        "def test_not_here(): pytest.skip('no gsplat')\n"
        "def test_broken(missing): pass\n"
    )
    found = outcome(Part("tests", gpu_report.tests_of([file], results), 60), 60, results)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert "they differ" in found["failures"]["test_bad"] and found["reasons_to_skip"] == ["no gsplat"]


def test_every_file_with_tests_for_gpus_is_run() -> None:
    names = {file.name for file in gpu_report.marked_files()}
    assert {"test_gpu.py", "test_rasterizer_gpu.py", "test_guidance.py"} <= names


def test_neither_users_nor_places_are_written() -> None:
    home = str(Path.home() / "ComfyUI" / "custom_nodes" / "gs4d" / "engine" / "backends.py")
    said = {
        "parts": [{"error": f'File "{home}", line 3: C:\\Users\\Ada Lovelace\\x.py by {getpass.getuser()}'}],
        "n": 3,
    }
    text = json.dumps(gpu_tables.without_names(said), ensure_ascii=False)
    assert "…/backends.py" in text and "custom_nodes" not in text
    assert "Users" not in text and "x.py" in text and '"n": 3' in text
    assert gpu_tables.without_names("9.5 / 20.1 ms at 2/3 of it") == "9.5 / 20.1 ms at 2/3 of it"


def test_parts_that_failed_are_rows_like_others() -> None:
    report = {
        "machine": dict.fromkeys(
            ("gpu", "gpu_memory_gb", "driver", "cuda", "cpu", "os", "python", "torch"), "x"
        ),
        "seconds": 12.0,
        "parts": {
            name: {"error": "a | b", "seconds_of_part": 1.0}
            for name in ("tests", "training_step", "rasterizer", "ssim", "fit", "full_size")
        },
    }
    assert gpu_tables.markdown(report).count("failed: a \\| b") == 6


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_ends_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_report.py"])
    with pytest.raises(SystemExit, match="--cpu") as ended:
        gpu_report.main()
    assert "\n" not in str(ended.value)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_all_parts_run_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--cpu", "--out", str(tmp_path)])
    gpu_report.main()
    report = json.loads((tmp_path / "gpu_report.json").read_text("utf-8"))
    errors = {name: each["error"] for name, each in report["parts"].items() if "error" in each}
    assert not errors and len(report["parts"]) == 7
    assert report["parts"]["ssim"]["gradient_error"] < 1e-4
    text = (tmp_path / "gpu_report.md").read_text("utf-8")
    assert text.startswith("### ") and "refine score" in text and "| cpu | numba |" in text
