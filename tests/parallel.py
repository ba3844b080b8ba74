"""How several processes (pytest-xdist) share the test files: whole files, the longest first.

`pytest -n logical --dist loadfile` starts one process for each core. A file's tests stay together, so that what a module makes
for its tests is made once, and so do the folders of TOGETHER, whose tests share a server. With the longest work handed out
first, no process is left alone with it at the end.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

# folders whose tests share a server or a browser
TOGETHER: tuple[str, ...] = ("tests/comfy", "tests/web")
# what takes longest, in this order; all else follows as it is collected
LONGEST: tuple[str, ...] = (
    "tests/web",
    "tests/comfy",
    "tests/cluster/test_ray.py",
    "tests/cluster/test_local.py",
    "tests/cluster/test_ray_stops.py",
    "tests/engine/test_ranks.py",
    "tests/engine/test_sharding.py",
    "tests/engine/test_rasterizer_build.py",
)


def share_of(test: str) -> str:
    """The folder or file whose tests one process runs, from the id of a test."""
    file = test.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


def place(test: str) -> int:
    """The place in the queue of the share that a test is in, from the id of the test."""
    share = share_of(test)
    return LONGEST.index(share) if share in LONGEST else len(LONGEST)


class LongestFirst(LoadFileScheduling):
    """Hands out shares of the tests in the order in which they are collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)  # pyright: ignore
        # by number of tests, which says nothing of the time they take
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid)
