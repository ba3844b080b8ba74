"""A command knows that its output, and the checkpoint beside it, can be written before it reads or works."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import edit as edit_verb
from engine.cli import main, step_verb
from tests.faults.commands import ENDINGS, RESUMED, ROOT, Inputs


@pytest.fixture
def nothing_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def begun(*_: object) -> None:
        raise AssertionError("the command began to read its inputs")

    monkeypatch.setattr(step_verb, "read_input", begun)
    monkeypatch.setattr(edit_verb, "read_input", begun)


@pytest.mark.parametrize("verb", RESUMED)
def test_a_checkpoint_that_cannot_be_written_is_known_first(
    inputs: Inputs, tmp_path: Path, verb: str, nothing_begins: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("training", "editing", "fitting", "refining", "decoding"):
        (tmp_path / f"a.{word}.safetensors").mkdir()
    assert main(inputs.command(verb, tmp_path / "a.safetensors", 5)) == 1
    assert "is a folder" in capsys.readouterr().err and not (tmp_path / "a.safetensors").exists()


def test_folders_and_further_outputs_are_tried_too(
    inputs: Inputs, tmp_path: Path, nothing_begins: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("old")
    scene = ["scene-views", "--scene", str(inputs.folder / "scene.safetensors"), "--out"]
    assert main([*scene, str(tmp_path / "file")]) == 1
    assert main([*scene, str(tmp_path / "file" / "below")]) == 1
    assert "file is a file, not a folder" in capsys.readouterr().err
    edit = inputs.command("edit", tmp_path / "a.safetensors", 5)
    assert main([*edit, "--keep-views", str(tmp_path / "file")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes")
def test_a_disk_without_room_for_the_result_is_known_first(inputs: Inputs, tmp_path: Path) -> None:
    commands = [inputs.command(verb, tmp_path / f"a{ENDINGS[verb]}", 5) for verb in RESUMED]
    script = f"""
import resource
from engine.cli import edit, main, step_verb
def begun(*_):
    raise SystemExit("the command began to read its inputs")
step_verb.read_input = edit.read_input = begun
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for command in {commands!r}:
    print(main(command))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["1"] * len(RESUMED), done.stderr
    assert done.stderr.count("a.safetensors was not written") == len(RESUMED)
    assert list(tmp_path.iterdir()) == []
