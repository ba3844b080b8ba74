"""Gaussians divided among processes that train on GPUs: all that they exchange is there, as NCCL needs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.engine.test_ranks import torchrun

pytestmark = pytest.mark.skipif(os.name == "nt", reason="several processes are untested on Windows")


def test_processes_with_a_gpu_each_train_one_scene(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    process = torchrun(2, Path(__file__).with_name("sharded.py"), report)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    made = json.loads(report.read_text())
    field, offsets = made["fixed budget"], made["adaptive"]
    assert field["device"] == offsets["device"] == "cpu"
    assert field["gaussians"] == field["motion"]["moving"][0] > 51
    assert offsets["gaussians"] == offsets["motion"]["means"][1] > 51
