"""The first use of the CPU kernels: announced, kept in a folder that can be written, loaded by the next process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed")

SCRIPT = """
import json, logging, sys, time
from pathlib import Path
lines = []
class Keep(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())
logging.getLogger("gs4d").addHandler(Keep())
logging.getLogger("gs4d").setLevel(logging.INFO)
from engine.kernels.build import cache_folder
from engine.render.numba.composite import composite
from engine.render.numba.rasterizer import NumbaRasterizer
needed = NumbaRasterizer.needs_compiling(1)
compiled = NumbaRasterizer.warm_up(1)
print(json.dumps({
    "needed": needed, "compiled": compiled, "again": NumbaRasterizer.warm_up(1),
    "after": NumbaRasterizer.needs_compiling(1),
    "misses": sum(composite.stats.cache_misses.values()), "hits": sum(composite.stats.cache_hits.values()),
    "folder": str(cache_folder()), "lines": lines,
}))
"""


# the cheapest kernel stands for all: they share one decorator
ONE_KERNEL = """
import json, numpy as np
from engine.kernels.build import cache_folder
from engine.render.numba.projection import order
ids, counts = np.zeros((1, 3), np.int32), np.zeros(1, np.int64)
depths = np.array([[3.0, 1.0, 2.0]], np.float32)
order(0, 1, depths.view(np.uint32), np.array([[[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 0, 0]]], np.int32), ids, counts)
print(json.dumps({
    "folder": str(cache_folder()), "hits": sum(order.stats.cache_hits.values()), "drawn": int(counts[0]),
    "ids": ids[0, :2].tolist(),
}))
"""


def in_new_process(root: Path, script: str, **environment: str) -> dict:
    """The last line that `script` prints, run where `root` is the pack."""
    keep = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=root,
        env={**keep, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_first_use_is_announced_and_the_next_process_loads_it(root, tmp_path):
    first = in_new_process(root, SCRIPT, NUMBA_CACHE_DIR=str(tmp_path))
    assert first["needed"] and first["compiled"] and not first["again"] and not first["after"]
    assert first["misses"] == 1 and first["hits"] == 0
    assert Path(first["folder"]).parent == tmp_path
    assert len(first["lines"]) == 1 and "compiling the CPU rasterizer" in first["lines"][0]
    second = in_new_process(root, SCRIPT, NUMBA_CACHE_DIR=str(tmp_path))
    assert not second["needed"] and not second["compiled"] and second["lines"] == []
    assert second["misses"] == 0 and second["hits"] == 1


def copy_of_engine(root: Path, folder: Path) -> Path:
    shutil.copytree(root / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_package_folder_that_cannot_be_written_sends_kernels_to_the_temporary_folder(root, tmp_path):
    pack, temporary = copy_of_engine(root, tmp_path / "pack"), tmp_path / "temporary"
    temporary.mkdir()
    # a file where the folder should be stops even root, whom permissions do not
    (pack / "engine" / "kernels" / "__pycache__").write_text("")
    first = in_new_process(pack, ONE_KERNEL, TMPDIR=str(temporary))
    assert Path(first["folder"]).is_relative_to(temporary) and any(Path(first["folder"]).rglob("*.nbc"))
    assert first["drawn"] == 2 and first["ids"] == [1, 0]
    if os.name == "posix":
        assert (
            Path(first["folder"]).parent.stat().st_mode & 0o077 == 0
        )  # it holds code: nobody else may write there
    second = in_new_process(pack, ONE_KERNEL, TMPDIR=str(temporary))
    assert first["hits"] == 0 and second["hits"] == 1
    # changed sources make another folder: old machine code is never loaded
    with (pack / "engine" / "kernels" / "simd.py").open("a") as file:
        file.write("# changed\n")
    third = in_new_process(pack, ONE_KERNEL, TMPDIR=str(temporary))
    assert third["folder"] != first["folder"] and third["hits"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_renders_too(root):
    """Data loaders fork; the threads of the parent's pool do not come along."""
    script = """
import os, torch
torch.set_num_threads(2)
from engine.render.numba.rasterizer import NumbaRasterizer
g = torch.Generator().manual_seed(0)
args = (torch.rand(9000, 3, generator=g), torch.rand(9000, 4, generator=g), torch.rand(9000, 3, generator=g) / 50,
        torch.rand(9000, generator=g), torch.rand(9000, 3, generator=g), torch.eye(4)[None],
        torch.tensor([[[90.0, 0, 50], [0, 90, 50], [0, 0, 1]]]), 100, 100)
before = NumbaRasterizer().render(*args)[0]
child = os.fork()
if child == 0:
    after = NumbaRasterizer().render(*args)[0]
    os._exit(0 if torch.equal(before, after) and after.mean() > 0.01 else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=root, timeout=120).returncode == 0
