"""A pack whose commands load nothing: in place of the engine's verbs, a few lines that write the same files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from engine.cluster import ray_place, running
from engine.cluster.local import Local

# what takes the place of `python -m engine`
START = """
import json, os, pathlib, signal, sys, time
verb, word = sys.argv[1], {w.split("=", 1)[0]: w.split("=", 1)[-1] for w in sys.argv[2:]}
out, scene = pathlib.Path(word["--out"]), pathlib.Path(word["--scene"])
"""
# the jobs of small_jobs: a fit counts its iterations, and keeps their number in its checkpoint when it is stopped
FITS = """
if verb != "fit-edits":
    out.mkdir(parents=True, exist_ok=True) if verb == "scene-views" else out.write_bytes(scene.read_bytes())
    print("{}")
    sys.exit()
out.parent.mkdir(parents=True, exist_ok=True)
kept, total = out.with_suffix(".fit.safetensors"), int(word["--iterations"])
done = int(kept.read_text()) if kept.exists() else 0

def save():
    whole = kept.with_name(f".{kept.name}")
    whole.write_text(str(done))
    os.replace(whole, kept)

def stop(*_):
    save()
    sys.exit(143)

signal.signal(signal.SIGTERM, stop)
end = time.monotonic() + 120
while done < total and time.monotonic() < end:
    time.sleep(0.1)
    done += 1
    if done % 10 == 1:
        save()
    print(json.dumps({"event": "progress", "done": done, "total": total}), file=sys.stderr, flush=True)
out.write_bytes(scene.read_bytes() + word["--seed"].encode())
kept.unlink(missing_ok=True)
print("{}")
"""
# runs the command line with jobs of a pretend pack, whose folder is the first argument
COMMAND = """
import pathlib, sys
from engine.cluster import local, ray_place, running
pack = ray_place.PACK = pathlib.Path(sys.argv[1])
running.Local = lambda: local.Local(pack)
from engine.cli import main
sys.exit(main(sys.argv[2:]))
"""


def write_pack(folder: Path, text: str = FITS) -> Path:
    """A pack that runs `text` as the command of every job; it finds `verb`, `out` and `scene`."""
    (folder / "engine").mkdir(parents=True)
    (folder / "engine" / "__main__.py").write_text(START + textwrap.dedent(text), encoding="utf-8")
    return folder


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = FITS) -> None:
    """Let batches of this process run `text` as the command of every job."""
    write_pack(folder, text)
    monkeypatch.setattr(running, "Local", lambda: Local(folder))
    monkeypatch.setattr(ray_place, "PACK", folder)
