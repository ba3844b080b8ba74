"""Trainings for tests/engine/test_ranks.py, run by the processes that torchrun started, or by one alone.

    torchrun --nproc-per-node 2 tests/ranked_training.py REPORT.json trainings
    torchrun --nproc-per-node 2 tests/ranked_training.py REPORT.json CHECKPOINT

The first process writes a report: the losses of every step, or the error, of each training by name; or, with the name of a
checkpoint in the report's folder, of the training that continues from it.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.steps import fit_scene
from engine.train import ranks
from tests.scenes import capture_of, moving_scene
from tests.sharded_training import error_of, stopped, trained

QUICK = fit_scene.Config(
    iterations=140, budget=200, initial_count=120, views_per_step=3, preview_every=20, coarse_fraction=0.2
)
TRAININGS = {
    "fixed budget": QUICK,
    "adaptive": replace(QUICK, density="adaptive", iterations=180),
    "per frame": replace(QUICK, motion="per_frame", iterations=40),
    "one view in some frames": replace(QUICK, iterations=40),
    "time limit": replace(QUICK, iterations=100_000, max_seconds=4.0),
}
# checkpoints of trainings that end after a step, by the number of processes that trained until then
STOPPED_AT = 60
HANDED = {1: "from one.safetensors", 2: "from two.safetensors"}


def refusals(joined: ranks.Ranks, folder: Path) -> dict[str, Any]:
    """What two processes say of what they cannot do, and of one that is asked to stop."""

    def refused(config: fit_scene.Config, checkpoint: Path) -> str:
        return error_of(fit_scene.run(capture_of(moving_scene()), config, checkpoint=checkpoint))

    report: dict[str, Any] = {"asked to stop": stopped(joined, QUICK, folder / "stop.safetensors", 1)}
    own = folder / "of the first process" / HANDED[2]
    if joined.leads:
        own.parent.mkdir()
        own.write_bytes((folder / own.name).read_bytes())
    joined.wait()
    mine = own if joined.leads else folder / "elsewhere" / own.name
    report["own checkpoints"] = refused(QUICK, mine)
    report["other settings"] = refused(replace(QUICK, seed=joined.rank), folder / "other.safetensors")
    report["too few views"] = refused(replace(QUICK, views_per_step=1), folder / "few.safetensors")
    return report


def main(target: Path, part: str) -> None:
    torch.set_num_threads(1)
    folder, report = target.parent, dict[str, Any]()
    with ranks.joined("cpu") if ranks.launched() else nullcontext(ranks.ALONE) as joined:
        if part == "trainings":
            for name, config in TRAININGS.items():
                report[name] = trained(name, config, folder / f"{name}.{joined.size}.safetensors")
            report["stopped"] = trained("", QUICK, folder / HANDED[joined.size], STOPPED_AT)
            if joined.size == 2:
                report |= refusals(joined, folder)
        else:
            report = trained("", QUICK, folder / part)
    if joined.leads:
        target.write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
