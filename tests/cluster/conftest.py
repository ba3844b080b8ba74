"""One local run, to which all others are compared."""

from pathlib import Path

import pytest

from engine.cluster import run
from engine.messages import result
from tests.cluster.small_jobs import small_jobs


@pytest.fixture(scope="session")
def folder_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs ran to their end on this machine; tests that change something take a copy."""
    folder = tmp_path_factory.mktemp("local")
    report = result(run(small_jobs(folder)))
    assert report["done"] == 4, report
    return folder
