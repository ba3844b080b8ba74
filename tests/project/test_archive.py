"""The archive that the ComfyUI registry hands out: complete, without what only developers need, and it runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.io.scene_file import load_scene

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "tools"), str(REPOSITORY / "tests" / "nodes")]
import release_check  # noqa: E402
import write_contracts as contracts  # noqa: E402

pytestmark = pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a git checkout")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack as ComfyUI Manager installs it."""
    folder = tmp_path_factory.mktemp("custom_nodes") / "gs4d-studio"
    for name in release_check.archive_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / name)
    return folder


def test_the_archive_holds_what_ships_and_nothing_else() -> None:
    files = release_check.archive_files()
    assert not release_check.archive_problems(files)
    developers_only = ("tests/", "training/", "benchmarks/", "tools/", ".github/", ".ci/", "Makefile")
    assert not [name for name in files if name.startswith(developers_only)]


def test_every_bundled_capture_scene_and_head_has_a_card_with_its_license() -> None:
    files = release_check.archive_files()
    kinds = ("assets/clips/", "assets/heads/", "assets/scenes/")
    folders = {"/".join(name.split("/")[:3]) for name in files if name.startswith(kinds)}
    expected = {"clips/walker", "clips/talking_head", "heads/bundled", "scenes/walker"}
    assert {f"assets/{name}" for name in expected} <= folders
    for folder in folders:
        assert f"{folder}/CARD.md" in files
        card = (REPOSITORY / folder / "CARD.md").read_text(encoding="utf-8")
        assert "License" in card and "Limits" in card, folder


def test_the_demo_scene_is_small_sharp_and_moves() -> None:
    file = REPOSITORY / "assets" / "scenes" / "walker" / "walker.safetensors"
    scene = load_scene(file)
    assert file.stat().st_size <= 4_000_000 and 20_000 <= len(scene.canonical) <= 40_000
    assert all(max(size) >= 512 for size in scene.rig.sizes) and len(scene.rig) == 12
    first, later = (scene.at(float(seconds)).means for seconds in scene.times[[0, 12]])
    height = float((scene.bounds[1] - scene.bounds[0]).max())
    assert float((later - first).norm(dim=1).max()) > 0.2 * height, "a foot"
    assert scene.history[0]["verdict"]["held_out"] > 32, "what its training measured"


def test_flame_does_not_ship() -> None:
    models = [name for name in release_check.archive_files() if name.startswith("assets/heads/")]
    assert not [name for name in models if "flame" in name.lower() or name.endswith(".pkl")]
    assert sum((REPOSITORY / name).stat().st_size for name in models) <= 3_000_000


def test_every_pattern_of_comfyignore_names_something() -> None:
    lines = (REPOSITORY / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert len(patterns) > 8
    # comfy-cli and git read negated patterns differently
    assert not [pattern for pattern in patterns if pattern.startswith("!")]
    assert not [pattern for pattern in patterns if not (REPOSITORY / pattern.strip("/")).exists()]


def test_what_does_not_belong_into_the_archive_is_reported() -> None:
    files = [*release_check.archive_files(), "notes.txt"]
    assert any("notes.txt" in problem for problem in release_check.archive_problems(files))
    without_web = [name for name in files if not name.startswith("web/") and name != "LICENSE"]
    problems = "\n".join(release_check.archive_problems(without_web))
    assert "lacks web/" in problems and "lacks LICENSE" in problems


def test_the_command_line_of_the_archive_runs(unpacked: Path) -> None:
    command = [sys.executable, "-m", "engine", "preflight", "--data", "assets/clips/walker", "--moments", "1"]
    done = subprocess.run(
        [*command, "--json"], cwd=unpacked, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.comfy
def test_comfyui_loads_every_node_from_the_archive(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GS4D_PACK", os.fspath(unpacked))
    try:
        info = contracts.ask("schemas")
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise
    known = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
    assert set(info) == set(known)
