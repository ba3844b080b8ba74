"""Trainings for tests/engine/test_sharding.py, run by the processes that torchrun started, or by one alone.

    torchrun --nproc-per-node 2 tests/sharded_training.py REPORT.json (trainings | CHECKPOINT) [--shard]

The first process writes a report: what each training gave, by name; or, with the name of a checkpoint in the report's folder,
what the training gave that continues from it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine.errors import InputError
from engine.files.safetensors_header import read_header
from engine.messages import Finished, Progress, Saved, Started
from engine.scene import Cameras, MultiViewVideo
from engine.steps import fit_scene
from engine.train import motion, ranks
from engine.train.identity import fingerprint_of
from tests import gsplat_on_cpu
from tests.engine.test_depth_and_tracks import WithDepth, tracks_of
from tests.engine.test_head_training import video_of
from tests.scenes import capture_of, moving_scene
from tests.tiny_head import tiny_head
from tests.toy_motion import DriftMotion

QUICK = fit_scene.Config(
    iterations=140, budget=201, initial_count=197, views_per_step=3, preview_every=20, coarse_fraction=0.2
)
GROWING = replace(QUICK, density="adaptive", initial_count=121, iterations=180)
FIXED = replace(QUICK, density="none", iterations=30, initial_count=121)
# without random numbers of density control, and with terms of the loss that do not depend on the order of the Gaussians
EQUAL = {
    "a field": FIXED,
    "a static scene": replace(FIXED, motion="none"),
    "offsets of every frame": replace(FIXED, motion="per_frame", plane_weight=0.0),
    "a head": replace(FIXED, head_lr=1.0, sh_degree=0),
    "a frozen motion": replace(FIXED, start_motion="frozen"),
    "density control before it draws": replace(FIXED, density="adaptive", iterations=1100),
    "one view in some frames": FIXED,
    "images of two sizes": replace(FIXED, depth_weight=0.1, start_scale=1.0),
    "tracks": replace(FIXED, depth_weight=0.1, track_weight=0.1, start_scale=1.0),
}
OFFSETS = replace(FIXED, motion="per_frame", iterations=16)
# steps of each that are compared; growth begins after them
COMPARED = 30
WITH_GSPLAT = ("a field", "density control before it draws", "one view in some frames", "images of two sizes")
# checkpoints of trainings that end after a step, by the number of processes that trained until then
STOPPED_AT = 110
HANDED = {1: "from one.safetensors", 2: "from two.safetensors"}


def given(name: str) -> dict[str, Any]:
    """The inputs of a training."""
    if name == "a head":
        head = tiny_head()
        return {"video": video_of(head), "head": head}
    scene = moving_scene()
    video = capture_of(scene)
    if name == "a frozen motion":
        return {"video": video, "start": scene}
    if name == "one view in some frames":
        available = video.available.clone()
        available[1:, ::2] = False
        video = replace(video, available=available)
    if name in ("images of two sizes", "tracks"):
        if name == "images of two sizes":
            scene = replace(scene, rig=of_two_sizes(scene.rig))
        video = replace(capture_of(scene), source=WithDepth(scene), has_depths=True)
    if name == "tracks":
        video = replace(video, tracks=tracks_of(scene))
    return {"video": video}


def of_two_sizes(rig: Cameras) -> Cameras:
    """Every third camera has a larger image."""
    sizes = [(60, 40) if i % 3 == 0 else size for i, size in enumerate(rig.sizes)]
    return replace(rig, sizes=tuple(sizes))


def trained(
    name: str,
    config: fit_scene.Config,
    checkpoint: Path,
    until: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Train; stop after the step `until` if it is not 0."""
    losses: list[float] = []
    report: dict[str, Any] = {"losses": losses, "saved": 0, "counts": [], "stopped": False}
    with closing(fit_scene.run(**given(name), config=config, checkpoint=checkpoint, clock=clock)) as stream:
        for message in stream:
            if isinstance(message, Started):
                report["note"] = message.note
            elif isinstance(message, Saved):
                report["saved"] += 1
            elif isinstance(message, Progress):
                losses.append(message.losses["loss"])
                report["counts"].append(message.count)
                if message.done == until or ranks.current().is_stopping:
                    report["stopped"] = True
                    break
            elif isinstance(message, Finished):
                scene = message.value
                tensors = {**scene.canonical.tensors(), **scene.deformation.tensors()}
                report["scene"] = fingerprint_of(*tensors.values())
                report["gaussians"] = len(scene.canonical)
                report["steps"] = scene.history[-1]["iterations"]
                report["center"] = scene.canonical.means.mean(0).tolist()
                report["rows"] = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if ranks.current().leads and checkpoint.is_file():
        numbers = json.loads(read_header(checkpoint).metadata["numbers"])
        report["kept"] = {name: numbers.get(name) for name in ("iteration", "shards")}
    return report


def stopped(joined: ranks.Ranks, config: fit_scene.Config, checkpoint: Path, step: int) -> dict[str, Any]:
    """Train until one process is asked to stop after a step."""
    asked = iter(range(1, 10_000))
    last = joined.size - 1
    wants_stop = lambda: next(asked) >= step and joined.rank == last  # noqa: E731
    try:
        ranks._current = replace(joined, wants_stop=wants_stop)  # pyright: ignore[reportPrivateUsage]
        return trained("", config, checkpoint)
    finally:
        ranks._current = joined  # pyright: ignore[reportPrivateUsage]


def from_one(joined: ranks.Ranks, folder: Path) -> dict[str, Any]:
    """A training of offsets that one process began and all continue, with the losses of one that it did alone."""
    checkpoint = folder / "offsets of one.safetensors"
    ranks._current = ranks.ALONE  # pyright: ignore[reportPrivateUsage]
    try:
        if joined.leads:
            alone = trained("", OFFSETS, folder / "offsets.safetensors")["losses"]
            trained("", OFFSETS, checkpoint, OFFSETS.iterations // 2)
        else:
            alone = []
    finally:
        ranks._current = joined  # pyright: ignore[reportPrivateUsage]
    joined.wait()
    return {**trained("", OFFSETS, checkpoint), "alone": alone}


def own_checkpoints(joined: ranks.Ranks, folder: Path) -> str:
    """The error where only the first process sees a checkpoint."""
    own = folder / f"of process {joined.rank}.safetensors"
    if joined.leads:
        own.write_bytes((folder / HANDED[joined.size]).read_bytes())
    return error_of(fit_scene.run(capture_of(moving_scene()), QUICK, checkpoint=own))


def error_of(stream: Any) -> str:
    try:
        for _ in stream:
            pass
    except InputError as error:
        return str(error)
    return ""


def not_finite(joined: ranks.Ranks, checkpoint: Path) -> str:
    """The error of a training in which the last process gets a Gaussian that is nowhere."""
    work = fit_scene.FitScene(capture_of(moving_scene()), QUICK, "cpu")

    def spoiled() -> Any:
        for message in work.stream("", checkpoint):
            yield message
            if isinstance(message, Progress) and message.done == 3 and joined.rank == joined.size - 1:
                with torch.no_grad():
                    work.parameters.tensors["means"][0] = torch.nan

    return error_of(spoiled())


def without_rows(video: MultiViewVideo, checkpoint: Path) -> str:
    """The error of a training with a motion that does not say what it stores for each Gaussian."""
    motion.register("drifting", DriftMotion.create)
    config = replace(QUICK, motion="drifting")
    try:
        return error_of(fit_scene.run(video, config, checkpoint=checkpoint))
    except InputError as error:
        return str(error)
    finally:
        motion.unregister("drifting")


def more_of_two(joined: ranks.Ranks, folder: Path) -> dict[str, Any]:
    """What only sharded processes do."""
    report: dict[str, Any] = {}
    for name, config in {"fixed budget": QUICK, "adaptive": GROWING}.items():
        checkpoint = folder / f"resumed {name}.safetensors"
        report[f"{name}, stopped"] = stopped(joined, config, checkpoint, STOPPED_AT)
        joined.wait()
        report[f"{name}, resumed"] = trained("", config, checkpoint)
    blocked = folder / "a file"
    if joined.leads:
        blocked.write_text("")
    joined.wait()
    short = replace(QUICK, iterations=20, checkpoint_seconds=1.0)

    def fast() -> Callable[[], float]:
        """A clock that is two seconds later whenever it is read; that of the other process stands still."""
        ticks = count(0, 2)
        return (lambda: float(next(ticks))) if joined.leads else lambda: 0.0

    report["cannot save"] = trained("", short, blocked / "checkpoint.safetensors", clock=fast())
    report["saves often"] = trained("", short, folder / "often.safetensors", clock=fast())
    report["time limit"] = trained(
        "", replace(QUICK, iterations=100_000, max_seconds=2.0), folder / "time.safetensors"
    )
    errors: list[Any] = [None] * joined.size
    own = not_finite(joined, folder / "nowhere.safetensors")
    torch.distributed.all_gather_object(errors, own)
    report["not finite"] = errors
    report["nothing kept"] = not (folder / "nowhere.safetensors").exists()
    report["from one"] = from_one(joined, folder)
    report["own checkpoints"] = own_checkpoints(joined, folder)
    few = replace(FIXED, start_motion="frozen")
    report["one Gaussian"] = error_of(fit_scene.run(capture_of(moving_scene()), few, start=moving_scene(1)))
    report["without rows"] = without_rows(capture_of(moving_scene()), folder / "rows.safetensors")
    return report


def main(target: Path, part: str, shard: bool) -> None:
    torch.set_num_threads(1)
    folder, report = target.parent, dict[str, Any]()
    has_gsplat = not gsplat_on_cpu.why_not()
    if has_gsplat:
        gsplat_on_cpu.prepare()
    with ranks.joined("cpu", is_sharded=shard) if ranks.launched() else nullcontext(ranks.ALONE) as joined:
        if part == "trainings":
            for name, config in EQUAL.items():
                until = COMPARED if config.iterations > COMPARED else 0
                report[name] = trained(name, config, folder / f"{name}.{joined.size}.safetensors", until)
                if has_gsplat and name in WITH_GSPLAT:
                    config = replace(config, rasterizer=gsplat_on_cpu.NAME, iterations=10)
                    report[f"{name}, gsplat"] = trained(name, config, folder / f"{name}.gsplat.{joined.size}")
            report["fixed budget"] = trained("", QUICK, folder / f"budget.{joined.size}.safetensors")
            report["adaptive"] = trained("", GROWING, folder / f"adaptive.{joined.size}.safetensors")
            if shard:
                report["stopped"] = stopped(joined, QUICK, folder / HANDED[joined.size], STOPPED_AT)
                report |= more_of_two(joined, folder)
            else:
                report["stopped"] = trained("", QUICK, folder / HANDED[joined.size], STOPPED_AT)
        else:
            report = trained("", QUICK, folder / part)
    if joined.leads:
        target.write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "--shard" in sys.argv)
