"""The player's own logic, under node: decoding, time, cameras. Python's clips are decoded there and compared."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from engine.playback.player_file import decode_player_file, in_file_axes
from engine.playback.tracks import weights
from engine.scene import rotations
from tests import judges
from tests.web import clips

TESTS = Path(__file__).resolve().parent / "js"


@pytest.fixture(scope="module")
def node() -> str:
    return judges.node()


def expectation(data: bytes) -> dict[str, object]:
    """What the engine's decoder says of a clip, in the file's axes."""
    clip = decode_player_file(data, "clip")
    counts = [len(clip.base), clip.moving, len(clip.times), len(clip.cameras.names)]
    if clip.motion is None:
        return {"counts": counts, "interpolation": None, "samples": []}
    first, last = float(clip.times[0]), float(clip.times[-1])
    seconds = [first - 1, first, first + 0.37 * (last - first), float(clip.times[1]), last, last + 1]
    samples = []
    for name, values in clip.motion.tracks.items():
        rows = weights(torch.tensor(seconds), clip.motion.knots, clip.motion.interpolation).float()
        said = torch.einsum("sk,kmc->smc", rows, values)
        if name == "rotation":  # unit quaternions xyzw there, wxyz here
            said = rotations.normalise(said)
            said = torch.cat([in_file_axes(name, said[..., 1:]), said[..., :1]], dim=-1)
        else:
            said = in_file_axes(name, said)
        samples += [
            {"seconds": s, "track": name, "values": each.flatten().tolist()}
            for s, each in zip(seconds, said, strict=True)
        ]
    return {"counts": counts, "interpolation": clip.motion.interpolation, "samples": samples}


def long_clip() -> bytes:
    scene = clips.scenes()["everything"].with_(times=torch.linspace(0, 12, 97, dtype=torch.float64))
    return clips.baked(scene, "long", segment_seconds=2.0)


def samples_of_segments(data: bytes) -> list[dict[str, object]]:
    """What the engine's decoder says of a clip in segments, in the file's axes."""
    clip = decode_player_file(data, "clip")
    samples: list[dict[str, object]] = []
    for second in (0.0, 1.9, 2.0, 5.3, 11.1, 12.0, 3.3, 0.1):
        motion = clip.motion_at(second)
        assert motion is not None
        for name in motion.tracks:
            said = motion.at(name, second)
            if name == "rotation":
                said = rotations.normalise(said)
                said = torch.cat([in_file_axes(name, said[..., 1:]), said[..., :1]], dim=-1)
            else:
                said = in_file_axes(name, said)
            samples.append({"seconds": second, "track": name, "values": said.flatten().tolist()})
    return samples


def test_the_logic_under_node(node: str, tmp_path: Path) -> None:
    seen: set[str] = set()
    for name, scene in clips.scenes().items():
        data = clips.baked(scene, name)
        (tmp_path / f"{name}.gs4dclip").write_bytes(data)
        about = expectation(data)
        seen |= {sample["track"] for sample in about["samples"]} | {str(about["interpolation"])}  # type: ignore
        (tmp_path / f"{name}.gs4dclip.json").write_text(json.dumps(about))
    assert {"position", "rotation", "scale", "opacity", "color", "cubic", "hold", "None"} <= seen
    (tmp_path / "long.segments").write_bytes(data := long_clip())
    (tmp_path / "long.segments.json").write_text(json.dumps({"samples": samples_of_segments(data)}))
    run = subprocess.run(
        [node, "--test", "--test-reporter=tap", *sorted(str(p) for p in TESTS.glob("*.test.mjs"))],
        env={**os.environ, "GS4D_TEST_CLIPS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    summary = dict(
        line[2:].rsplit(" ", 1)
        for line in run.stdout.splitlines()
        if line.startswith("# ") and line.count(" ") == 2
    )
    assert int(summary["tests"]) > 40 and summary["fail"] == "0" and summary["skipped"] == "0", summary
