"""Sequences of splat files: folders and zips of one file per frame are written, and come back as the scene that they were."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.cli import main
from engine.deform.moments import scene_of_moments
from engine.errors import InputError
from engine.io.ply import read_ply, write_ply
from engine.io.scene_file import save_scene
from engine.io.splats import WRITTEN
from engine.messages import Started, result
from engine.scene import Scene4D
from engine.steps import export_scene
from tests.memory import bounded, needs_linux
from tests.scenes import moving_scene

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
SEQUENCES = [f"{name} sequence" for name in WRITTEN]


def changing_scene(count: int = 60, frames: int = 5, fps: float = 10.0) -> Scene4D:
    """SH of degree 3; positions, rotations, sizes, opacities and colors change from frame to frame."""
    first = moving_scene(count, views=2, sh_degree=3).canonical
    g = torch.Generator().manual_seed(3)
    rates = {name: 0.05 * torch.randn(t.shape, generator=g) for name, t in first.tensors().items()}
    moments = [first.map(lambda t: t.clone()) for _ in range(frames)]
    moments = [
        m.with_(**{name: t + i * rates[name] for name, t in m.tensors().items()})
        for i, m in enumerate(moments)
    ]
    return scene_of_moments(moments, fps, UP, blends=True)


def born_and_dying_scene() -> Scene4D:
    """Three frames of 30, 50 and 20 Gaussians."""
    everything = moving_scene(50, views=2, sh_degree=3).canonical
    parts = [slice(0, 30), slice(0, 50), slice(25, 45)]
    return scene_of_moments([everything.map(lambda t, s=s: t[s]) for s in parts], 2.0, UP, blends=True)


def exported(scene: Scene4D, target: Path, kind: str = "ply sequence", **config) -> export_scene.Written:
    return result(export_scene.run(scene, export_scene.Config(kind=kind, **config), target))


# -- written ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_zip_holds_the_same_files_as_a_folder(kind: str, tmp_path: Path) -> None:
    scene = changing_scene()
    files = exported(scene, tmp_path / "walk", kind)
    (written,) = exported(scene, tmp_path / "walk.zip", kind, container="zip")
    with zipfile.ZipFile(written) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(path.name for path in files)
        assert all(archive.read(path.name) == path.read_bytes() for path in files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk", "walk.zip"], "nothing else is left"
    first = written.read_bytes()
    # the command line says it by the name
    exported(scene, tmp_path / "walk.zip", kind)
    assert written.read_bytes() == first, "the same scene gives the same bytes"


def test_a_zip_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "walk.zip").write_bytes(b"before")
    stream = export_scene.run(
        changing_scene(), export_scene.Config(kind="ply sequence"), tmp_path / "walk.zip"
    )
    assert isinstance(next(stream), Started)
    next(stream)
    stream.close()
    assert [path.name for path in tmp_path.iterdir()] == ["walk.zip"]
    assert (tmp_path / "walk.zip").read_bytes() == b"before"


def test_frame_rates_and_uneven_times_are_described(tmp_path: Path) -> None:
    scene = changing_scene(frames=31, fps=29.97)
    assert exported(scene, tmp_path / "even").notes == ("31 frames, 29.97 per second",)
    described = json.loads((tmp_path / "even" / "sequence.json").read_text())
    assert described == {
        "format": "gs4d sequence",
        "version": 1,
        "frames": 31,
        "fps": 29.97,
        "interpolated": True,
    }
    uneven = replace(scene, times=torch.tensor([1.0, 1.1, 1.5], dtype=torch.float64))
    assert exported(uneven, tmp_path / "uneven").notes == ("3 frames, about 4 per second",)
    described = json.loads((tmp_path / "uneven" / "sequence.json").read_text())
    assert described["seconds"] == [1.0, 1.1, 1.5] and described["fps"] == 4
    exported(changing_scene(frames=1), tmp_path / "one")
    assert "fps" not in json.loads((tmp_path / "one" / "sequence.json").read_text())


def test_frames_that_are_held_leave_out_what_only_pads_them(tmp_path: Path) -> None:
    *frames, about = exported(born_and_dying_scene(), tmp_path / "walk")
    assert [len(read_ply(path)) for path in frames] == [30, 50, 20]
    assert json.loads(about.read_text())["interpolated"] is False


def test_a_frame_that_shows_nothing_is_written(tmp_path: Path) -> None:
    first = moving_scene(20, views=2).canonical
    scene = scene_of_moments([first, first.map(lambda t: t[:0])], 2.0, UP, blends=True)
    paths = exported(scene, tmp_path / "walk")
    assert len(read_ply(paths[1])) == 1 and float(read_ply(paths[1]).logit_opacities) < -10


def test_splats_that_would_become_frames_are_not_written_among(tmp_path: Path) -> None:
    scene = changing_scene()
    exported(scene, tmp_path / "walk")
    exported(scene, tmp_path / "walk")
    with pytest.raises(InputError, match=r"walk already holds frame_00003\.ply.*IO-107"):
        exported(scene, tmp_path / "walk", moments=3)
    with pytest.raises(InputError, match=r"frame_00000\.ply.*IO-107"):
        exported(scene, tmp_path / "walk", "spz sequence")
    write_ply(scene.canonical, tmp_path / "walk.ply")
    with pytest.raises(InputError, match="STP-012"):
        exported(scene, tmp_path / "walk.ply", container="zip")
    (tmp_path / "other.zip").mkdir()
    assert len(exported(scene, tmp_path / "other.zip", moments=2)) == 3, "a folder may have any name"


@needs_linux
@pytest.mark.parametrize("name", ["walk", "walk.zip"])
def test_memory_does_not_grow_with_the_frames(name: str, tmp_path: Path) -> None:
    scene = moving_scene(10_000, views=2, sh_degree=3)
    # what the first export imports is not counted
    exported(scene, tmp_path / f"0{name}", moments=1)
    # files of 2.5 MB, of which one is in memory, with its Gaussians
    few, many = (
        bounded(
            lambda moments=moments: exported(scene, tmp_path / f"{moments}{name}", moments=moments),
            "value",
            40,
        )
        for moments in (3, 30)
    )
    assert many.megabytes < few.megabytes + 5


def test_the_verb_writes_a_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = save_scene(changing_scene(), tmp_path / "a.safetensors")
    words = ["export", "--scene", scene, "--kind", "spz sequence", "--out", tmp_path / "b.zip", "--json"]
    assert main([str(word) for word in words]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["files"] == [str(tmp_path / "b.zip")] and "5 frames" in report["notes"][0]
