"""Faultless data sets with bytes changed at random: they load or are refused in a sentence; nothing else happens."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from engine.capture.readers import load_video
from engine.errors import InputError

ROOT = Path(__file__).parents[2]
LAYOUTS = Path(os.environ.get("GS4D_LAYOUTS", ROOT / "../shared/data/layouts"))
BASES = [
    index.parent / case["folder"]
    for index in sorted(LAYOUTS.glob("broken*/index.json"))
    for case in json.loads(index.read_text())["cases"]
    if case["expected"] == "load"
]
pytestmark = pytest.mark.skipif(not BASES, reason=f"no faultless bases in {LAYOUTS} (see GS4D_LAYOUTS)")
ROUNDS = int(os.environ.get("GS4D_MUTATIONS", "40"))


def mutate(data: bytes, choose: random.Random) -> bytes:
    """Flip bytes, cut, repeat or replace a number."""
    kind = choose.randrange(5)
    at = choose.randrange(max(1, len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at : at + 40] * 2 + data[at + 40 :]
    if kind == 3:
        return data[:at] + bytes(choose.randrange(256) for _ in range(8)) + data[at + 8 :]
    digits = [i for i, byte in enumerate(data[:20000]) if chr(byte).isdigit()] or [0]
    at = choose.choice(digits)
    return (
        data[:at]
        + choose.choice([b"-1", b"1e999", b"NaN", b"null", b"99999999999999999999", b"[]"])
        + data[at + 1 :]
    )


@pytest.mark.parametrize("base", BASES, ids=lambda p: p.name)
def test_changed_bytes_never_surprise(base: Path, tmp_path: Path) -> None:
    refused = 0
    for seed in range(ROUNDS):
        choose = random.Random(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(base, folder, copy_function=shutil.copyfile)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        told = [p for p in files if p.suffix in (".json", ".npy", ".bin", ".txt")]
        target = choose.choice(told if choose.random() < 0.7 else files)
        target.write_bytes(mutate(target.read_bytes(), choose))
        start = time.monotonic()
        try:
            video = load_video(folder)
            for view, moment in video.samples():
                video.source.read(view, moment)
        except InputError as error:
            refused += 1
            assert 10 < len(str(error)) < 700 and "\n" not in str(error), f"seed {seed}: {error}"
        assert time.monotonic() - start < 5, f"seed {seed} took too long"
        shutil.rmtree(folder)
    assert refused >= ROUNDS // 5, "changes must be noticed"
