"""A real ComfyUI server and a real Chromium for all tests of this folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "comfy"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import browser
import server
import setup_comfy

from engine.scene import Scene4D
from tests.web import clips


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    comfy = setup_comfy.locate()
    if comfy is None:
        pytest.skip("no ComfyUI here: python tests/comfy/setup_comfy.py builds one, or set COMFYUI_PATH")
    other = os.environ.get("FRONTEND_PATH")  # the `static` folder of another frontend to try
    more = ["--front-end-root", other] if other else []
    with server.serving(comfy.tree, comfy.python, tmp_path_factory.mktemp("web"), *more) as started:
        yield started


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    """A server with the newest frontend that the pack was tried with."""
    comfy, frontend = setup_comfy.locate(), setup_comfy.newest_frontend()
    if comfy is None or frontend is None:
        pytest.skip("no newest frontend here: python tests/comfy/setup_comfy.py fetches it")
    base = tmp_path_factory.mktemp("newest")
    with server.serving(comfy.tree, comfy.python, base, "--front-end-root", str(frontend)) as started:
        yield started


@pytest.fixture(params=["canvas", "vue"])
def renderer(request: pytest.FixtureRequest, running: server.Server) -> Iterator[str]:
    """What draws the nodes, a setting that the server keeps: to be asked for before the page."""
    setting = "/settings/Comfy.VueNodes.Enabled"
    assert running.post(setting, request.param == "vue")[0] == 200
    yield request.param
    assert running.post(setting, False)[0] == 200


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium; on Debian, and with the right to, it is installed where it is missing."""
    found = browser.chromium()
    if found is None and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
            subprocess.run(command, check=False, timeout=600, stdout=subprocess.DEVNULL)
        found = browser.chromium()
    if found is None:
        pytest.skip("NOT RUN: no Chromium here and no right to install one (apt-get install chromium)")
    return found


@pytest.fixture(scope="module", autouse=True)
def one_chromium() -> Iterator[None]:
    """For a module, not for all of them: while Playwright runs, nothing else of this process can use asyncio."""
    with browser.keeping():
        yield


@pytest.fixture()
def page(chromium: str, running: server.Server) -> Iterator[browser.Page]:
    running.withdraw()
    with browser.browsing(chromium) as opened:
        opened.open(running.url)
        yield opened


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene4D]:
    return clips.scenes()


@pytest.fixture(scope="module")
def made(scenes: dict[str, Scene4D]) -> dict[str, bytes]:
    return {name: clips.baked(scene, name) for name, scene in scenes.items()}
