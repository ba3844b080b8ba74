"""Every node with paths that cannot be read, in ComfyUI's own interpreter: one sentence, and no exception but that."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = [pytest.mark.comfy, pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")]


def test_paths_that_cannot_be_read_end_in_one_sentence() -> None:
    try:
        asked = contracts.ask(str(Path(__file__).with_name("path_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise
    faults = [" ".join(line) for line in asked if line[-1]]
    assert not faults, "\n".join(faults[:20])
    assert len({(node, name) for node, name, *_ in asked}) > 25 and len(asked) > 1000
