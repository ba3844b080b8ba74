"""Every damaged data set in GS4D_LAYOUTS: one sentence that names what is wrong, quickly and in little memory."""

import json
import os
import resource
import tarfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from engine.capture.readers import load_video
from engine.errors import InputError
from engine.messages import result
from engine.steps import preflight

ROOT = Path(__file__).parents[2]
LAYOUTS = Path(os.environ.get("GS4D_LAYOUTS", ROOT / "../shared/data/layouts"))
INDICES = sorted(LAYOUTS.glob("broken*/index.json"))
CASES = [(index.parent, case) for index in INDICES for case in json.loads(index.read_text())["cases"]]

pytestmark = pytest.mark.skipif(not CASES, reason=f"no broken data sets in {LAYOUTS} (see GS4D_LAYOUTS)")
SECONDS = 8.0
MEGABYTES = 128


def unpacked(folder: Path, into: Path) -> Path:
    """A case that is a tar archive (it holds a name that is not UTF-8) is unpacked first."""
    if folder.suffix != ".tar":
        return folder
    with tarfile.open(folder) as archive:
        archive.extractall(into, filter="data")
    return next(p for p in into.iterdir() if p.is_dir())


def look_at(folder: Path) -> tuple[str, str]:
    """("refuse" or "load", everything that was said), with every frame read, as training would."""
    try:
        video = load_video(folder)
        for view, moment in video.samples():
            video.source.read(view, moment)
    except InputError as error:
        return "refuse", str(error)
    report = result(preflight.run(video))
    assert set(video.warnings) <= {row.finding for row in report.rows}, "the report repeats every warning"
    return "load", " ".join(video.warnings)


@pytest.mark.parametrize(("root", "case"), CASES, ids=lambda v: v["folder"] if isinstance(v, dict) else "")
def test_what_is_wrong_is_said_in_one_sentence(root: Path, case: dict[str, Any], tmp_path: Path) -> None:
    folder = unpacked(root / case["folder"], tmp_path)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    tracemalloc.start()
    try:
        outcome, message = look_at(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert time.monotonic() - start < SECONDS
    assert peak < MEGABYTES * 2**20
    assert grown < 2 * MEGABYTES, "memory outside Python's own"
    expected = case["expected"]
    if expected == "load":
        assert outcome == "load", message
    elif not any(word in expected for word in ("warn", "accept", "rescale")):
        assert outcome == "refuse", f"loaded in spite of: {case['fault']}"
    for item in case["message_should_name"]:
        assert any(choice in message for choice in item.split(" or ")), f"'{item}' is not in: {message}"
    message.encode("utf-8")
    assert "\n" not in message and "Traceback" not in message


@pytest.mark.parametrize(("root", "case"), CASES, ids=lambda v: v["folder"] if isinstance(v, dict) else "")
def test_nothing_outside_the_folder_is_opened(
    root: Path, case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case["expected"] == "load":
        pytest.skip("a faultless base")
    folder = unpacked(root / case["folder"], tmp_path)
    opened: list[str] = []
    import sys

    watching = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[0], str | bytes):
            opened.append(os.fsdecode(arguments[0]))
        if watching and event in ("socket.connect", "pickle.find_class"):
            opened.append(event)

    sys.addaudithook(audit)
    try:
        look_at(folder)
    finally:
        watching = False
    assert not [o for o in opened if o in ("socket.connect", "pickle.find_class")]
    data = str(LAYOUTS.resolve())
    suspicious = [
        o for o in opened if ("passwd" in o or "secret" in o or os.path.realpath(o).startswith(data))
        and not os.path.realpath(o).startswith(os.path.realpath(folder))
    ]  # fmt: skip
    assert suspicious == []
