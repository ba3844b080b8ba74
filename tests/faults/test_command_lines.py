"""Whatever is typed after a flag ends in one sentence, and writes nothing that was not asked for."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from engine.capture.readers import load_video
from engine.cli import main
from engine.errors import InputError
from engine.files.atomic import check_writable, write_atomically
from engine.files.paths import check_names, typed_path
from engine.io.ply import write_ply
from engine.io.scene_file import load_scene, save_scene
from engine.io.selection_file import save_selection
from engine.scene import Selection, Static
from tests.faults.command_lines import cases_of, draw, ended, is_root_of_disk, try_all
from tests.faults.commands import ROOT, is_one_sentence
from tests.faults.every_command import FOREIGN, VERBS, Bench, flags_of
from tests.fuzz.parsers import PARSERS
from tests.scenes import moving_scene
from tests.subjects import animal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, links and names of Linux")
# seconds of the sample in `make test`
SECONDS = float(os.environ.get("GS4D_FAULT_SECONDS", "8"))
ROUNDS = int(os.environ.get("GS4D_FAULT_ROUNDS", "0"))


def test_a_sample_of_all_command_lines(bench: Bench) -> None:
    findings, ends = try_all(bench, draw(bench, 0), SECONDS)
    assert not findings, "\n".join(findings)
    assert len(ends) >= 10 and any(end.code in (1, 2) for _, end in ends)


@pytest.mark.skipif(not ROUNDS, reason="make test-faults")
def test_every_command_ends_well_with_valid_values(bench: Bench) -> None:
    """What fails already would hide what a bad value does."""
    for verb in VERBS:
        out = bench.output(verb)
        words = [*bench.command(verb), *(["--out", out] if out else [])]
        code, said, fault = ended(words, 2 if verb == "demo" else 120)
        assert verb == "demo" or code == 0, (verb, said, fault)


@pytest.mark.skipif(not ROUNDS, reason="make test-faults")
@pytest.mark.parametrize("verb", list(VERBS))
def test_every_command_line(bench: Bench, verb: str) -> None:
    cases = draw(bench, 0, verb)
    findings, ends = try_all(bench, cases, float("inf"))
    assert not findings, "\n".join(findings)
    assert len(ends) == len(cases)


def test_every_flag_is_tried(bench: Bench) -> None:
    for verb in VERBS:
        assert {case.flag for case in cases_of(verb, bench)} == {
            action.option_strings[0] for action in flags_of(verb)
        }
    roots = [case for verb in VERBS for case in cases_of(verb, bench) if is_root_of_disk(case)]
    assert len(roots) >= 2 * sum(action.dest == "out" for verb in VERBS for action in flags_of(verb))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "path is empty"),
        (" ", "path is empty"),
        ("/", "root of a disk"),
        ("//", "root of a disk"),
        ("/..", "root of a disk"),
        ("a/" + "x" * 256, "cannot be a path"),
        ("a/" * 2001, "cannot be a path"),
        ("a\0b", "cannot be a path"),
        ("a\ud800", "cannot be a path"),
    ],
)
def test_paths_that_name_nothing_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        typed_path(text)


def test_a_path_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert typed_path(".") == tmp_path / "below" and typed_path("..") == tmp_path
    assert typed_path("a") == Path("a") and typed_path("a/.") == Path("a")
    for name in ("x" * 255, FOREIGN, "é" * 127):
        check_names(name)


def test_an_output_never_replaces_a_device_or_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "pipe", tmp_path / "link")
    os.symlink("/dev/null", tmp_path / "null")
    for name in ("pipe", "link", "null"):
        for write in (check_writable, lambda path: write_atomically(path).__enter__()):
            with pytest.raises(InputError, match="device or a pipe"):
                write(tmp_path / name)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "null"}


def test_two_outputs_are_never_one_file(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint is removed at the end, the result with it."""
    os.symlink(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    for checkpoint in ("a.safetensors", "b.safetensors", "../" + tmp_path.name + "/a.safetensors"):
        words = ["--out", tmp_path / "a.safetensors", "--checkpoint", tmp_path / checkpoint]
        assert main([*bench.command("fit-edits"), *map(str, words)]) == 1
        assert "would be written twice" in capsys.readouterr().err


def test_the_name_of_a_video_is_checked_before_it_is_generated(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--out", tmp_path / "a.safetensors", "--video-out", tmp_path / "new" / "a.mov"]
    assert main([*bench.command("generate"), *map(str, words)]) == 1
    said = capsys.readouterr().err
    assert "videos are written as .mp4" in said and len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_replaces_nothing_but_a_checkpoint(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = save_selection(Selection(torch.ones(3)), tmp_path / "selection.safetensors")
    before = selection.read_bytes()
    words = ["--out", str(tmp_path / "a.safetensors"), "--checkpoint", str(selection)]
    assert main([*bench.command("fit-edits"), *words]) == 1
    assert "is not a training checkpoint" in capsys.readouterr().err and selection.read_bytes() == before


def test_settings_are_checked_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those that this command does not need."""
    words = ["edit", "--scene", str(tmp_path / "missing"), "--out", str(tmp_path / "a" / "b.safetensors")]
    for flag, value in (("--refine-iterations", "-1"), ("--frames-per-second", "nan"), ("--seed", "-1")):
        assert main([*words, "--prompt", "gold", flag, value]) == 1
        assert "GS4D-ENG-005" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# -- names that are not UTF-8 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parser", [p for p in PARSERS if p.mutates_files], ids=lambda p: p.name)
def test_every_input_is_read_from_a_folder_of_any_name(tmp_path: Path, parser: object) -> None:
    folder = tmp_path / FOREIGN
    folder.mkdir()
    parser.build(folder)  # pyright: ignore
    parser.read(folder, Random(0))  # pyright: ignore


def test_files_of_any_name_are_imported_saved_and_opened_again(tmp_path: Path) -> None:
    splat, scene = tmp_path / f"{FOREIGN}.ply", tmp_path / f"{FOREIGN}.safetensors"
    write_ply(animal(20), splat)
    code, said, fault = ended(["import", "--source", str(splat), "--out", str(scene)], 60)
    assert (code, fault) == (0, ""), said
    assert load_scene(scene).history[-1]["source"] == splat.name
    code, said, fault = ended(["page", "--scene", str(scene), "--out", str(tmp_path / f"{FOREIGN}.html")], 60)
    assert (code, fault) == (0, ""), said


def test_a_camera_of_any_name_can_be_saved(tmp_path: Path) -> None:
    next(p for p in PARSERS if p.name == "capture dynerf").build(tmp_path / "capture")
    for view in sorted((tmp_path / "capture").glob("cam*")):
        view.rename(view.with_name(f"{view.name}{FOREIGN}"))
    cameras = load_video(tmp_path / "capture").cameras
    assert cameras.names == ("cam00caf\\udce9", "cam01caf\\udce9", "cam02caf\\udce9")
    scene = moving_scene(count=20, views=3).with_(rig=cameras, deformation=Static())
    assert load_scene(save_scene(scene, tmp_path / "a.safetensors")).rig.names == cameras.names


# -- in processes of their own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fit-scene", "--data", "x" * 300, "--out", "a.safetensors"], "cannot be a path"),
        (["render", "--scene", f"{FOREIGN}.safetensors", "--out", "a.mp4"], "does not exist"),
    ],
)
def test_a_shell_sees_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine", *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode in (1, 2) and is_one_sentence(done.stderr), done.stderr
    assert sentence in last
    assert list(tmp_path.iterdir()) == []
