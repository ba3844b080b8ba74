"""The engine stands alone: no ComfyUI, no optional package, and nothing of the host is reached for."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from engine import messages as m
from engine.scene import Scene4D
from engine.steps import evaluate_scene, fit_scene
from tests.scenes import capture_of, moving_scene

ALONE = """
import sys
ABSENT = {absent}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in ABSENT else real(name, package)
from engine.steps import camera_path, fit_scene, render_scene
from engine import messages as m
from tests.scenes import capture_of, moving_scene
scene = moving_scene(count=30, views=4, moments=3)
config = fit_scene.Config(iterations=3, budget=40, initial_count=30, preview_every=0)
trained = m.result(fit_scene.run(capture_of(scene), config))
path = camera_path.make(trained, camera_path.Config(frames=2))
images = m.result(render_scene.run(trained, path)).images
assert images.shape[0] == 2 and float(images.std()) > 0
loaded = {{name.split(".")[0] for name in sys.modules}}
assert not loaded & {{"comfy", "comfy_api", "folder_paths", "server", "aiohttp", "nodes"}}, loaded
print("trained and rendered with", render_scene.choose("auto").name)
"""


@pytest.mark.parametrize(
    "absent, rasterizer",
    [
        ({"comfy", "comfy_api", "folder_paths", "server", "aiohttp"}, "numba"),
        ({"numba", "gsplat", "fourdgs", "pxr", "lpips", "diffusers", "transformers"}, "torch"),
    ],
)
def test_the_engine_trains_and_renders_alone(root, absent, rasterizer):
    code = ALONE.format(absent=repr(absent))
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith(f"with {rasterizer}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here: the CPU path is tested above")
def test_a_fit_on_the_gpu_learns_as_on_the_cpu():
    video = capture_of(moving_scene(count=120, views=16, moments=5))
    config = fit_scene.Config(
        iterations=300, budget=300, initial_count=300, preview_every=0, position_lr=1e-3, color_lr=1e-2
    )
    scene = m.result(fit_scene.run(video, config, "cuda"))
    assert isinstance(scene, Scene4D) and scene.device.type == "cpu"
    assert m.result(evaluate_scene.run(scene, video)).summary["psnr"] > 22


def _yields_in(nodes: Sequence[ast.AST]) -> Iterator[int]:
    """Lines of `yield` in the statements themselves, not in functions inside them."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Yield | ast.YieldFrom):
            yield node.lineno
        yield from _yields_in(list(ast.iter_child_nodes(node)))


def test_no_generator_waits_with_gradients_off(root: Path) -> None:
    """`with torch.no_grad()` around a `yield` turns gradients off for whoever follows the generator; the decorator does not."""
    found = [
        f"{path.relative_to(root)}:{line}"
        for path in (root / "engine").rglob("*.py")
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(block, ast.With)
        and any(mode in ast.unparse(item) for item in block.items for mode in ("no_grad", "inference_mode"))
        for line in _yields_in(block.body)
    ]
    assert found == []


def test_modules_of_trainings_are_imported_by_their_package(root: Path) -> None:
    """Several have the same name: by that alone, and a folder on `sys.path`, one would get that of another training."""
    names = {path.stem for path in (root / "training").glob("*/*.py")} - sys.stdlib_module_names
    assert {"picture", "train", "data"} <= names
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for folder in ("training", "tests", "benchmarks")
        for path in (root / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and names & {a.name.partition(".")[0] for a in node.names})
        or (isinstance(node, ast.ImportFrom) and not node.level and node.module in names)
    ]
    assert found == []
