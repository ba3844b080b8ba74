"""One real ComfyUI server for all tests of this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import server
import setup_comfy


@pytest.fixture(scope="session")
def comfy() -> setup_comfy.ComfyTree:
    found = setup_comfy.locate()
    if found is None:
        pytest.skip("no ComfyUI here: python tests/comfy/setup_comfy.py builds one, or set COMFYUI_PATH")
    return found


@pytest.fixture(scope="session")
def running(
    comfy: setup_comfy.ComfyTree, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[server.Server]:
    base = tmp_path_factory.mktemp("comfy")
    with server.serving(comfy.tree, comfy.python, base) as started:
        yield started
