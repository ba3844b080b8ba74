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
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "tiny_checkpoint").symlink_to(
        Path(__file__).with_name("tiny_checkpoint"), target_is_directory=True
    )
    with server.serving(comfy.tree, comfy.python, base) as started:
        yield started
