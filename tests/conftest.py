"""Where tests find truth: GS4D_FIXTURES, GS4D_LAYOUTS and GS4D_REPORTS name folders; defaults are beside the project."""

import gc
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from engine.files.folders import visible

ROOT = Path(__file__).resolve().parents[1]
# tests use a few kernels each; compiling all of them beside would slow them down
os.environ.setdefault("GS4D_COMPILE_AHEAD", "0")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Tests and what they import stay until the end: looking for garbage among them would double the time of collecting them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile` gives files that share a server to one process."""
    from tests.parallel import LongestFirst

    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the processes of pytest-xdist: what takes longest comes first."""
    if hasattr(config, "workerinput"):
        from tests.parallel import place

        items.sort(key=lambda item: place(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def hears_interrupts() -> Generator[None, None, None]:
    """A shell starts what runs in its background with SIGINT ignored, and every process below inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def shared(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or ROOT.parent / "shared" / default)


@pytest.fixture(scope="session")
def fixtures_folder() -> Path:
    folder = shared("GS4D_FIXTURES", "fixtures")
    if not folder.is_dir():
        pytest.skip(
            f"{folder.name}: numbers computed by the papers' own code are not here (set GS4D_FIXTURES)"
        )
    return folder


@pytest.fixture(scope="session")
def layouts_folder() -> Path:
    folder = shared("GS4D_LAYOUTS", "data/layouts")
    if not folder.is_dir():
        pytest.skip(f"{folder.name}: captures with known cameras are not here (set GS4D_LAYOUTS)")
    return folder


@pytest.fixture(scope="session")
def reports_folder() -> Path:
    folder = shared("GS4D_REPORTS", "data/reports")
    if not folder.is_dir():
        pytest.skip(f"{folder.name}: inputs rebuilt from public bug reports are not here (set GS4D_REPORTS)")
    return folder


@pytest.fixture(scope="session")
def reported(reports_folder: Path) -> Callable[..., list[Path]]:
    """Inputs of one kind of report, by its folder and a pattern of their names; skips the test where there are none."""

    def inputs(kind: str, pattern: str = "*") -> list[Path]:
        found = visible(reports_folder / kind, pattern)
        if not found:
            pytest.skip(f"{reports_folder.name}: no inputs of the report {kind} are here (set GS4D_REPORTS)")
        return found

    return inputs


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
