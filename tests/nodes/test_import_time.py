"""What the pack adds to ComfyUI's start: under half a second, and nothing heavy."""

import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy
STARTS = 5
MOST_SECONDS = 0.5


@pytest.fixture(scope="module")
def starts() -> list[dict[str, Any]]:
    """Fresh interpreters that hold what ComfyUI imports before any pack, then the pack; after one that is not counted,
    which compiles what was changed."""
    try:
        return [contracts.ask("import") for _ in range(STARTS + 1)][1:]
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_the_pack_adds_less_than_half_a_second_to_the_start(starts: list[dict[str, Any]]) -> None:
    seconds = [
        start["seconds"] for start in starts
    ]  # of the processor: what else the machine does is not ours
    assert statistics.median(seconds) < MOST_SECONDS, seconds


def test_nothing_heavy_is_imported_before_it_is_needed(starts: list[dict[str, Any]]) -> None:
    heavy = {
        "numba",
        "llvmlite",
        "gsplat",
        "fourdgs",
        "diffusers",
        "transformers",
        "accelerate",
        "scipy",
        "cv2",
    }
    assert not heavy & set(starts[0]["modules"])
