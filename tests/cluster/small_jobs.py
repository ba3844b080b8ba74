"""A job file of a few seconds, run in other ways by several tests, and who still works on it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from engine.cli import verbs
from engine.cluster import Jobs, read_jobs
from engine.io.scene_file import save_scene
from engine.scene import Static
from tests.scenes import moving_scene

ROOT = Path(__file__).resolve().parents[2]
# images of a scene, two fits to them, and what is made of one
TEXT = """
folder: out
jobs:
  views:
    run: scene-views
    scene: scene.safetensors
    device: cpu
    out: views
  fit:
    run: fit-edits
    matrix: {seed: [1, 2]}
    scene: scene.safetensors
    views: ${views.out}
    iterations: 300
    seed: "{seed}"
    device: cpu
    out: "fitted/{seed}.safetensors"
  gold:
    run: grade
    matrix: {seed: [1]}
    scene: ${fit.out}
    preset: gold
    out: "gold {seed}.safetensors"
"""
ITERATIONS = "iterations: 300"
SCENES = ("fitted/1.safetensors", "fitted/2.safetensors", "gold 1.safetensors")


def write_scene(path: Path) -> None:
    save_scene(moving_scene(count=60, views=3, moments=3).with_(deformation=Static()), path)


def write_jobs(folder: Path, text: str = TEXT) -> Path:
    folder.mkdir(exist_ok=True)
    if not (folder / "scene.safetensors").exists():
        write_scene(folder / "scene.safetensors")
    file = folder / "jobs.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def small_jobs(folder: Path, text: str = TEXT) -> Jobs:
    return read_jobs(write_jobs(folder, text), verbs())


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The visible files of a folder by name."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def workers_of(folder: Path) -> list[int]:
    """Numbers of the processes that write into `folder`."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            is_living = (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            continue
        if is_living and f"--out={folder}{os.sep}".encode() in words and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def wait_until(condition, seconds: float = 90.0) -> None:
    """Wait for what must come; the limit only ends a test that fails."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
