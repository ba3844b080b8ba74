"""Whether a job is done again follows from what it reads: all of it, and nothing of what the batch writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.cli import verbs
from engine.cluster import read_jobs
from engine.cluster.fingerprints import fingerprints

VERBS = verbs()


def prints(folder: Path, *jobs: str) -> dict[str, str]:
    (folder / "jobs.yaml").write_text("\n  ".join(["folder: out\njobs:", *jobs]), encoding="utf-8")
    return fingerprints(read_jobs(folder / "jobs.yaml", VERBS), [folder / "report.json"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A capture whose images are elsewhere, and a mesh in files of its own."""
    for name in (
        "capture/masks/0.png",
        "far/0.png",
        "far/deep/0.png",
        "mesh/mesh.gltf",
        "mesh/mesh.bin",
        "a.ply",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    (tmp_path / "capture" / "images").symlink_to("../far")
    (tmp_path / "capture" / "images again").symlink_to("../far")
    # in circles
    (tmp_path / "far" / "up").symlink_to("..")
    (tmp_path / "far" / "self").symlink_to("self")
    return tmp_path


def test_a_change_of_any_file_that_a_job_reads_changes_it(folder: Path) -> None:
    jobs = (
        "a: {run: fit-scene, data: capture, out: a.safetensors}",
        "b: {run: animate-splat, splat: a.ply, mesh: mesh/mesh.gltf, out: b.safetensors}",
    )
    before = prints(folder, *jobs)
    assert before == prints(folder, *jobs)

    def changed_by(change: Callable[[], object]) -> list[str]:
        nonlocal before
        change()
        now = prints(folder, *jobs)
        names, before = [name for name in now if now[name] != before[name]], now
        return names

    def write(name: str) -> list[str]:
        return changed_by(lambda: (folder / name).write_bytes(b"another"))

    assert write("capture/masks/0.png") == ["a"]
    assert write("far/0.png") == ["a"] and write("far/deep/0.png") == ["a"] and write("far/1.png") == ["a"]
    assert changed_by((folder / "capture" / "images again").unlink) == ["a"]
    assert write("mesh/mesh.bin") == ["b"] and write("mesh/mesh.gltf") == ["b"] and write("a.ply") == ["b"]
    assert write("mesh/.hidden") == [] and write("nobody.txt") == []


def test_where_unfinished_work_is_kept_changes_nothing(folder: Path) -> None:
    job = "a: {run: fit-scene, data: capture, out: a.safetensors, iterations: 100"
    before = prints(folder, f"{job}}}")
    for more in ("checkpoint: kept.safetensors", "prepared: cache"):
        assert prints(folder, f"{job}, {more}}}") == before
    assert prints(folder, f"{job}, seed: 2}}") != before


def test_what_the_batch_writes_is_not_what_its_jobs_read(folder: Path) -> None:
    """A job that reads a folder in which its own output lies would never be done."""
    job = "a: {run: fit-scene, data: ., out: a.safetensors}"
    before = prints(folder, job)
    (folder / "out").mkdir()
    for name in ("out/a.safetensors", "out/a.training.safetensors", "report.json"):
        (folder / name).write_bytes(b"made")
    assert prints(folder, job) == before
    # nor does another job of the file
    prints(folder, job, "b: {run: export, scene: out/a.safetensors, out: b.ply}")
    assert prints(folder, job) == before
    (folder / "new.png").write_bytes(b"1")
    assert prints(folder, job) != before


def test_a_folder_with_outputs_of_jobs_has_files_of_others_too(folder: Path) -> None:
    jobs = (
        "a: {run: export, scene: a.ply, out: all/1.ply}",
        "b: {run: import, source: out/all, out: b.safetensors}",
    )
    before = prints(folder, *jobs)
    (folder / "out" / "all").mkdir(parents=True)
    (folder / "out" / "all" / "1.ply").write_bytes(b"made")
    assert prints(folder, *jobs) == before
    (folder / "out" / "all" / "0.ply").write_bytes(b"by hand")
    now = prints(folder, *jobs)
    assert now["a"] == before["a"] and now["b"] != before["b"]


def test_an_output_is_found_by_every_spelling_of_its_path(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "link").symlink_to("out")
    (folder / "out" / "a.safetensors").write_bytes(b"of an earlier run")
    text = (
        "b: {run: export, scene: link/a.safetensors, out: b.ply}",
        "c: {run: export, scene: far/../out/./a.safetensors, out: c.ply}",
        "a: {run: grade, scene: a.ply, out: a.safetensors}",
    )
    prints(folder, *text)
    jobs = read_jobs(folder / "jobs.yaml", VERBS).jobs
    assert {job.name: job.needs for job in jobs} == {"a": (), "b": ("a",), "c": ("a",)}
    assert [job.inputs for job in jobs if job.name != "a"] == [(), ()] and os.path.islink(folder / "link")
