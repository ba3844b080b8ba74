"""Sequences of splat files come back: times, changes, births and deaths; which Gaussians are the same is not guessed."""

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.cli import main
from engine.deform.moments import scene_of_moments
from engine.errors import InputError
from engine.io.ply import read_ply, write_ply
from engine.io.scene_file import load_scene
from engine.io.sequences.frame_names import IRREGULAR, one_clip
from engine.io.splats import WRITTEN
from engine.io.spz import write_spz
from engine.io.writable import spatial_order
from engine.messages import Progress, result
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, Scene4D
from engine.steps import import_scene
from tests.engine.test_sequences import SEQUENCES, UP, born_and_dying_scene, changing_scene, exported
from tests.judges import splat_transform
from tests.scenes import moving_scene, ring

# what pixels may differ by, where it is not 0.05; a .splat has seven bits for parts of rotations
COARSE = {"splat sequence": 0.1, "ply sequence": 1e-4}


def imported(source: Path, **config) -> Scene4D:
    return result(import_scene.run(source, import_scene.Config(**config)))


def drawn(g: Gaussians) -> torch.Tensor:
    return render_gaussians(g, ring(3, size=(64, 48)), choose("auto"), torch.ones(3)).rgb


def zipped(folder: Path, target: Path, inside: str = "") -> Path:
    """As Python's zipfile makes it; `inside` is put before the names."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{inside}{file.name}")
    return target


def renamed(folder: Path, name: Callable[[int], str]) -> Path:
    """Without what our own export says of the frames."""
    (folder / "sequence.json").unlink(missing_ok=True)
    for i, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"{name(i)}{file.suffix}")
    return folder


# -- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["folder", "zip"])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_all_that_changes_comes_back(kind: str, container: str, tmp_path: Path) -> None:
    scene = changing_scene(fps=12.5)
    target = tmp_path / ("walk.zip" if container == "zip" else "walk")
    exported(scene, target, kind, container=container)
    again = imported(target)
    assert torch.allclose(again.times, scene.times, rtol=0, atol=1e-12)
    form = WRITTEN[kind.removesuffix(" sequence")]
    assert again.canonical.sh.shape == (60, 16 if form.has_harmonics else 1, 3)
    summary = import_scene.summary(again)
    assert "5 frames, 12.5 per second, as sequence.json says" in summary
    assert "60 Gaussians, the same in all frames by their order" in summary
    assert {path.name for path in tmp_path.iterdir()} == {target.name}, "nothing is left unpacked"
    # between frames too
    for t in (0.0, 0.08, 0.13, 0.32):
        before, after = scene.at(t), again.at(t)
        order = spatial_order(scene.at(0.0).means) if form.sorts else torch.arange(60)
        before = before.map(lambda tensor, order=order: tensor[order])
        before = before.with_(sh=before.sh[:, : after.sh.shape[1]])
        # of a scene of two units, in steps of a range (of 256 Gaussians with 10 and 11 bits)
        limit = {"sog sequence": 1e-4, "compressed ply sequence": 2e-3}.get(kind, 1e-5)
        assert float((before.means - after.means).abs().max()) < limit
        if kind == "ply sequence":
            for name in ("log_scales", "logit_opacities", "sh"):
                torch.testing.assert_close(getattr(before, name), getattr(after, name), rtol=0, atol=1e-5)
        assert float((drawn(before) - drawn(after)).abs().max()) < COARSE.get(kind, 0.05)


@pytest.mark.parametrize("kind", SEQUENCES)
def test_births_and_deaths_come_back(kind: str, tmp_path: Path) -> None:
    scene = born_and_dying_scene()
    target = tmp_path / "walk.zip"
    exported(scene, target, kind, container="zip")
    again = imported(target)
    assert again.times.tolist() == [0.0, 0.5, 1.0]
    assert "held until the next, as sequence.json says" in import_scene.summary(again)
    for t in (0.0, 0.4, 0.6, 1.0):
        assert float((drawn(again.at(t)) - drawn(scene.at(t))).abs().max()) < COARSE.get(kind, 0.05)
    twice = exported(again, tmp_path / "again")
    assert [len(read_ply(path)) for path in twice[:-1]] == [30, 50, 20]


def test_uneven_times_come_back_and_can_be_replaced(tmp_path: Path) -> None:
    scene = changing_scene(frames=3)
    times = torch.tensor([1.0, 1.1, 1.5], dtype=torch.float64)
    exported(replace(scene, times=times), tmp_path / "walk")
    assert torch.equal(imported(tmp_path / "walk").times, times)
    (tmp_path / "walk" / "frame_00000.ply").unlink()
    again = imported(tmp_path / "walk")
    assert again.times.tolist() == [1.1, 1.5] and "It lists 3 frames" in import_scene.summary(again)
    assert imported(tmp_path / "walk", fps=2.0).times.tolist() == [0.0, 0.5]


def test_frame_rates_are_asked_read_or_assumed_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    exported(changing_scene(frames=3), folder)
    for about, fps, step, said in [
        ({"fps": 50}, 0.0, 0.02, "50 per second, as sequence.json says."),
        ({"fps": 50}, 8.0, 0.125, "3 frames, 8 per second."),
        (None, 0.0, 1 / 24, "24 per second, which no file says"),
    ]:
        (folder / "sequence.json").unlink(missing_ok=True)
        if about is not None:
            (folder / "sequence.json").write_text(json.dumps(about))
        scene = imported(folder, fps=fps)
        assert scene.times.tolist() == pytest.approx([0.0, step, 2 * step])
        assert said in import_scene.summary(scene)


def test_the_verbs_take_a_zip_there_and_back(tmp_path: Path) -> None:
    exported(changing_scene(), tmp_path / "a.zip")
    words = ["import", "--source", tmp_path / "a.zip", "--out", tmp_path / "a.safetensors"]
    assert main([str(word) for word in words]) == 0
    words = [
        "export",
        "--scene",
        tmp_path / "a.safetensors",
        "--kind",
        "ply sequence",
        "--out",
        tmp_path / "b.zip",
    ]
    assert main([str(word) for word in words]) == 0
    with zipfile.ZipFile(tmp_path / "a.zip") as a, zipfile.ZipFile(tmp_path / "b.zip") as b:
        assert a.namelist() == b.namelist() and a.read("sequence.json") == b.read("sequence.json")
    assert len(load_scene(tmp_path / "a.safetensors").times) == 5


# -- folders and zips of other programs -------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "walk/", "export/take 2/"])
def test_a_zip_of_python_is_read_with_and_without_folders(inside: str, tmp_path: Path) -> None:
    scene = changing_scene()
    exported(scene, tmp_path / "walk")
    (tmp_path / "walk" / "readme.txt").write_text("Exported on Monday.")
    again = imported(zipped(tmp_path / "walk", tmp_path / "a.zip", inside))
    assert again.times.tolist() == scene.times.tolist()
    assert torch.equal(again.at(0.1).means, imported(tmp_path / "walk").at(0.1).means)


def test_a_zip_of_a_mac_is_read(tmp_path: Path) -> None:
    exported(changing_scene(), tmp_path / "walk")
    path = zipped(tmp_path / "walk", tmp_path / "a.zip", "walk/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("walk/", b"")
        archive.writestr("walk/.DS_Store", b"\0\0\0\1Bud1")
        archive.writestr("__MACOSX/._walk", b"\0\5\26\7")
        for i in range(5):
            archive.writestr(f"__MACOSX/walk/._frame_{i:05}.ply", b"\0\5\26\7")
            archive.writestr(f"walk/._frame_{i:05}.ply", b"\0\5\26\7")
    assert len(imported(path).times) == 5


@pytest.mark.skipif(not shutil.which("zip"), reason="the program zip is not installed")
def test_a_zip_of_info_zip_is_read(tmp_path: Path) -> None:
    import subprocess

    exported(changing_scene(), tmp_path / "walk")
    subprocess.run(["zip", "-qr", "a.zip", "walk"], cwd=tmp_path, check=True)
    assert len(imported(tmp_path / "a.zip").times) == 5


def test_the_only_folder_inside_a_folder_is_the_clip(tmp_path: Path) -> None:
    exported(changing_scene(), tmp_path / "unpacked" / "walk")
    assert len(imported(tmp_path / "unpacked").times) == 5
    exported(changing_scene(), tmp_path / "unpacked" / "run")
    with pytest.raises(
        InputError, match=r"unpacked holds splat files in several folders, such as run and walk.*IO-101"
    ):
        imported(tmp_path / "unpacked")
    shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "unpacked")
    with pytest.raises(
        InputError, match=r"two\.zip holds splat files in several folders, such as (run|walk) and.*IO-101"
    ):
        imported(tmp_path / "two.zip")


# -- names and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, order, places, note",
    [
        (["f10.ply", "f9.ply", "f8.ply"], [2, 1, 0], [0, 1, 2], ""),
        (["a.ply", "c.ply", "b.ply"], [0, 2, 1], [0, 1, 2], ""),
        (["Frame_2.PLY", "frame_1.ply"], [1, 0], [0, 1], ""),
        # every fifth frame is a rate of its own, not a gap
        ([f"f{n}.ply" for n in (0, 5, 10, 15)], [0, 1, 2, 3], [0, 1, 2, 3], ""),
        ([f"f{n}.ply" for n in (1, 2, 4, 5)], [0, 1, 2, 3], [0, 1, 3, 4], "Frame 3 is missing"),
        ([f"f{n}.ply" for n in (1, 2, 3, 5, 6, 9, 10)], list(range(7)), [0, 1, 2, 4, 5, 8, 9], "Frames 4, 7–8 are missing"),
        ([f"f{n}.ply" for n in (1, 9, 10, 100)], [0, 1, 2, 3], [0, 1, 2, 3], IRREGULAR),
        ([f"f{n}.ply" for n in (1, 2, 3, 1000)], [0, 1, 2, 3], [0, 1, 2, 3], IRREGULAR),
        # the scene's number is the same in all; a hash is not; the time grows faster than the number
        (["s2_f1.v3.ply", "s2_f2.v3.ply"], [0, 1], [0, 1], ""),
        ([f"f{n}_t{40 * n}.ply" for n in (1, 2, 4)], [0, 1, 2], [0, 1, 3], "Frame 3 is missing"),
        ([f"t_{n / 4}.ply" for n in (0, 1, 5, 2, 3, 4)], [0, 1, 3, 4, 5, 2], list(range(6)), ""),
        (["1.ply"], [0], [0], ""),
    ],
)  # fmt: skip
def test_names_say_order_and_gaps(names: list[str], order: list[int], places: list[int], note: str) -> None:
    clip = one_clip(names, "walk")
    assert (clip.order, clip.places) == (order, places)
    assert clip.note.startswith(note) and bool(clip.note) == bool(note)


@pytest.mark.parametrize(
    "names, first, other",
    [
        (["walk_1.ply", "walk_2.ply", "run_1.ply", "run_2.ply"], "run_1.ply", "walk_1.ply"),
        (["walk_1.ply", "walk_2.ply", "start.ply"], "start.ply", "walk_1.ply"),
        (["take1_1.ply", "take1_2.ply", "take2_1.ply", "take2_2.ply"], "take1_1.ply", "take2_1.ply"),
        (["a1.0001.ply", "a1.0002.ply", "a1.0003.ply", "a2.0001.ply", "a2.0002.ply"], "a1.0001.ply", "a2.0001.ply"),
        (["f_1.ply", "f_2.ply", "f_1.compressed.ply", "f_2.compressed.ply"], "f_1.compressed.ply", "f_1.ply"),
    ],
)  # fmt: skip
def test_several_clips_are_refused_and_both_are_named(names: list[str], first: str, other: str) -> None:
    with pytest.raises(InputError, match="IO-108") as error:
        one_clip(names, "my takes")
    assert f"my takes holds several clips: {first} and {other}" in error.value.message


def test_a_gap_keeps_its_time(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    exported(changing_scene(frames=6), folder)
    whole = imported(folder)
    (folder / "frame_00002.ply").unlink()
    again = imported(folder)
    assert again.times.tolist() == pytest.approx([0, 0.1, 0.3, 0.4, 0.5])
    said = import_scene.summary(again)
    assert "Frame 2 is missing" in said and "It lists 6 frames" in said
    halfway = (whole.at(0.1).means + whole.at(0.3).means) / 2
    assert torch.allclose(again.at(0.2).means, halfway, atol=1e-6)


# -- which Gaussians are the same -------------------------------------------------------------------------------------


def subject(count: int = 4000) -> Gaussians:
    """Gaussians that differ in size, color and opacity, as trained ones do."""
    g = torch.Generator().manual_seed(5)
    first = moving_scene(count, views=2).canonical
    scales = first.log_scales + torch.randn(count, 3, generator=g)
    return first.with_(log_scales=scales, logit_opacities=2 * torch.randn(count, generator=g))


def walking(count: int = 4000, frames: int = 4, reach: float = 0.2) -> list[Gaussians]:
    """The upper half moves by about five times the distance of neighbors; all of it changes slightly in color."""
    first = subject(count)
    upper = (first.means[:, 2:] > 0).float()
    steps = [torch.tensor([reach * i, 0.05 * i, 0.0]) for i in range(frames)]
    return [first.with_(means=first.means + upper * s, sh=first.sh + 0.005 * i) for i, s in enumerate(steps)]


def by_place(g: Gaussians) -> Gaussians:
    """In Morton order, as some compressed formats keep them."""
    cells = ((g.means - g.means.amin(0)) / (g.means.amax(0) - g.means.amin(0)) * 1023).long()
    bits = [(cells[:, axis] >> bit & 1) << (3 * bit + axis) for bit in range(10) for axis in range(3)]
    order = torch.stack(bits).sum(0).argsort()
    return g.map(lambda t: t[order])


def written(frames: list[Gaussians], folder: Path, write=write_ply) -> Path:
    folder.mkdir(exist_ok=True)
    ending = ".spz" if write is write_spz else ".ply"
    for i, frame in enumerate(frames):
        write(frame, folder / f"{i}{ending}")
    return folder


def travel(scene: Scene4D) -> float:
    """The longest way of a Gaussian in half a frame, of the size of the subject."""
    at, later = scene.at(float(scene.times[0])), scene.at(float(scene.times[1]) / 2)
    return float((later.means - at.means).norm(dim=-1).max()) / 1.6


@pytest.mark.parametrize("write", [write_ply, write_spz])
def test_gaussians_in_order_are_followed(write: Callable[..., Path], tmp_path: Path) -> None:
    scene = imported(written(walking(), tmp_path, write))
    assert "4,000 Gaussians, the same in all frames by their order." in import_scene.summary(scene)
    halfway = (walking()[0].means + walking()[1].means) / 2
    assert torch.allclose(scene.at(0.5 / 24).means, halfway, atol=1e-5)


@pytest.mark.parametrize("order", ["shuffled", "by place"])
@pytest.mark.parametrize("write", [write_ply, write_spz])
def test_another_order_is_matched_and_said(order: str, write: Callable[..., Path], tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(1)
    frames = walking(reach=0.05)
    if order == "by place":
        frames = [by_place(frame) for frame in frames]
    else:
        rows = [torch.randperm(len(frame), generator=g) for frame in frames]
        frames = [frame.map(lambda t, r=r: t[r]) for frame, r in zip(frames, rows, strict=True)]
    scene = imported(written(frames, tmp_path, write))
    assert "3 of 4 files have another order than the one before and were matched" in import_scene.summary(
        scene
    )
    # in file order they would fly across the subject
    assert travel(scene) < 0.05 < travel(imported(tmp_path, correspondence="file order"))
    for t, frame in zip(scene.times.tolist(), frames, strict=True):
        assert torch.allclose(drawn(scene.at(t)), drawn(frame), atol=1e-4 if write is write_ply else 0.05)


@pytest.mark.parametrize("ending", [".sog", ".compressed.ply"])
def test_frames_that_splat_transform_sorted_are_matched(ending: str, tmp_path: Path) -> None:
    frames = walking(count=2000, frames=3, reach=0.05)
    plain = written(frames, tmp_path / "plain")
    (tmp_path / "packed").mkdir()
    for i in range(3):
        splat_transform(plain / f"{i}.ply", tmp_path / "packed" / f"{i}{ending}")
    scene = imported(zipped(tmp_path / "packed", tmp_path / "packed.zip"))
    assert "2 of 3 files have another order than the one before" in import_scene.summary(scene)
    assert travel(scene) < 0.05 < travel(imported(tmp_path / "packed", correspondence="file order"))
    for t, frame in zip(scene.times.tolist(), frames, strict=True):
        assert float((drawn(scene.at(t)) - drawn(frame)).abs().mean()) < 0.02


def test_unrelated_frames_of_equal_counts_are_held_and_named(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(2)
    first = subject()
    # of the same cloud, but each frame by itself
    other = first.map(lambda t: t[torch.randperm(len(t), generator=g)])
    other = other.with_(means=0.8 * torch.nn.functional.normalize(torch.randn(len(first), 3, generator=g)))
    scene = imported(written([first, first, other], tmp_path))
    said = import_scene.summary(scene)
    assert "The Gaussians of 2.ply are not those of 1.ply" in said and "each frame is held" in said
    assert torch.equal(scene.at(1.9 / 24).means, first.means)
    trusted = imported(tmp_path, correspondence="file order")
    assert "which was not checked" in import_scene.summary(trusted)
    assert not torch.equal(trusted.at(1.9 / 24).means, first.means)


def test_other_counts_are_births_and_deaths(tmp_path: Path) -> None:
    frames = walking()
    scene = imported(written([*frames[:2], frames[2].map(lambda t: t[:3000])], tmp_path))
    said = import_scene.summary(scene)
    assert "The frames have 3,000 to 4,000 Gaussians: taken for births and deaths" in said
    assert torch.allclose(drawn(scene.at(2 / 24)), drawn(frames[2].map(lambda t: t[:3000])), atol=1e-5)


def test_a_subject_without_looks_is_followed_by_its_places(tmp_path: Path) -> None:
    """All of one size, color and opacity, moved as a whole by more than its size."""
    first = subject(500)
    flat = first.map(lambda t: t[:1].expand_as(t).clone()).with_(means=first.means)
    scene = imported(written([flat.with_(means=flat.means + 3.0 * i) for i in range(3)], tmp_path))
    assert "the same in all frames by their order" in import_scene.summary(scene)


@pytest.mark.parametrize("number", [3e38, float("inf"), float("nan")])
def test_numbers_of_damaged_files_are_compared_too(number: float, tmp_path: Path) -> None:
    first = subject(100)
    for name in ("means", "log_scales", "sh"):
        values = getattr(first, name).clone()
        values[7] = number
        scene = imported(written([first, first.with_(**{name: values})], tmp_path / name))
        assert "the same in all frames by their order" in import_scene.summary(scene)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["folder", "zip"])
def test_an_unreadable_frame_in_the_middle_is_named(container: str, tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    exported(changing_scene(), folder)
    whole = (folder / "frame_00002.ply").read_bytes()
    (folder / "frame_00002.ply").write_bytes(whole[:-99])
    source = folder if container == "folder" else zipped(folder, tmp_path / "walk.zip")
    with pytest.raises(InputError, match=rf"{source.name}, frame 3 of 5: frame_00002\.ply"):
        imported(source)


def test_a_damaged_file_in_a_zip_is_refused(tmp_path: Path) -> None:
    exported(changing_scene(), tmp_path / "a.zip", "spz sequence")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip is not a complete zip file.*FIL-143"):
        imported(tmp_path / "a.zip")


def bad_zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"ply")
    return path


@pytest.mark.parametrize(
    "names, code",
    [
        ([], "IO-100"),
        (["readme.txt", "a.png"], "IO-100"),
        (["walk/._1.ply", ".hidden/1.ply", "__MACOSX/walk/._1.ply"], "IO-100"),
        (["1.ply", "../2.ply"], "FIL-147"),
        (["1.ply", "/etc/2.ply"], "FIL-147"),
        (["1.ply", "C:\\2.ply"], "FIL-147"),
        (["run/cfg_args", "run/point_cloud/iteration_7/point_cloud.ply"], "IO-109"),
        (["1.ply", "2.spz"], "STP-019"),
        (["walk_1.ply", "walk_2.ply", "run_1.ply", "run_2.ply"], "IO-108"),
        (["1.ply", "walk/1.ply"], "IO-101"),
    ],
)
def test_zips_that_hold_no_clip_are_refused(names: list[str], code: str, tmp_path: Path) -> None:
    path = bad_zip(tmp_path / "bad.zip", *names)
    with pytest.raises(InputError, match=code) as error:
        imported(path)
    assert "bad.zip" in error.value.message
    assert [each.name for each in tmp_path.iterdir()] == ["bad.zip"]


def test_an_encrypted_zip_is_refused_as_such(tmp_path: Path) -> None:
    path = bad_zip(tmp_path / "secret.zip", "1.ply")
    data = bytearray(path.read_bytes())
    # the flag of a password, in the file's header and in the list of files
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"secret\.zip is encrypted.*FIL-148"):
        imported(path)


def test_a_zip_that_grows_beyond_reason_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"{i}.ply", bytes(32 << 20))
    with pytest.raises(InputError, match="FIL-145"):
        imported(tmp_path / "bomb.zip")


@pytest.mark.parametrize("container", ["folder", "zip"])
def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(changing_scene(), tmp_path / "walk")
    source = tmp_path / "walk" if container == "folder" else zipped(tmp_path / "walk", tmp_path / "walk.zip")
    size = sum(path.stat().st_size for path in (tmp_path / "walk").glob("*.ply"))
    messages: list[object] = []
    for free, read in ((0.9 * size, 0), (1.1 * size, 0), (10 * size, 5)):
        monkeypatch.setattr("engine.backends.free_memory", lambda free=free: free)
        messages.clear()
        stream = import_scene.run(source)
        if read:
            messages += stream
        else:
            with pytest.raises(InputError, match=r"walk(\.zip)?: 5 files.* need .* GB of memory.*STP-020"):
                messages += stream
        assert sum(isinstance(message, Progress) for message in messages) == read


@pytest.mark.parametrize(
    "text, code",
    [
        ("[]", "FIL-019"),
        ("{", "FIL-016"),
        ('{"fps": "fast"}', "IO-105"),
        ('{"fps": -5}', "IO-105"),
        ('{"fps": NaN}', "IO-105"),
        ('{"fps": 1e300}', "IO-105"),
        ('{"fps": true}', "IO-105"),
        ('{"frames": "many"}', "IO-106"),
        ('{"frames": 3, "seconds": [0, 1]}', "IO-106"),
        ('{"frames": 3, "seconds": [0, 2, 1]}', "IO-106"),
        ('{"frames": 3, "seconds": [0, 1, null]}', "IO-106"),
        ('{"frames": 3, "seconds": 5}', "IO-106"),
    ],
)
def test_a_description_that_makes_no_sense_is_one_sentence(text: str, code: str, tmp_path: Path) -> None:
    exported(changing_scene(frames=3), tmp_path / "walk")
    (tmp_path / "walk" / "sequence.json").write_text(text)
    for source in (tmp_path / "walk", zipped(tmp_path / "walk", tmp_path / "walk.zip")):
        with pytest.raises(InputError, match=rf"sequence\.json.*{code}"):
            imported(source)


def test_a_scene_of_one_frame_comes_back(tmp_path: Path) -> None:
    still = scene_of_moments([subject(50)], 24.0, UP, blends=True)
    exported(still, tmp_path / "a.zip")
    again = imported(tmp_path / "a.zip")
    assert again.deformation.kind == "still" and torch.equal(again.canonical.means, still.canonical.means)


def test_files_of_other_programs_need_no_description(tmp_path: Path) -> None:
    exported(changing_scene(), tmp_path / "walk")
    folder = renamed(tmp_path / "walk", lambda i: f"Take 3 - {i + 8}")
    scene = imported(folder)
    assert len(scene.times) == 5 and "which no file says" in import_scene.summary(scene)
    assert torch.allclose(scene.at(4 / 24).means, changing_scene().at(0.4).means, atol=1e-6)
