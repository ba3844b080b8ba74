"""A rendering in parts joins to what one run writes, byte for byte, on any number of cores; and bad parts are named."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from engine import messages as m
from engine.cli import main
from engine.deform import Static
from engine.errors import InputError
from engine.files.mp4 import mp4_writer, pixels_of, write_mp4
from engine.files.part_file import PartHeader, part_writer, read_frames, read_header
from engine.io.scene_file import save_scene
from engine.render import join_parts
from engine.render.part import Part
from engine.scene import Scene4D
from engine.steps import camera_path, render_scene
from tests.memory import needs_linux
from tests.scenes import moving_scene

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 9
# odd sizes lose a row and a column in the video, and not in the parts
PATH = camera_path.Config(frames=FRAMES, fps=23.976, width=67, height=49)
CONFIG = render_scene.Config(background="green")
HEADER = PartHeader(2, 5, 9, 64, 48, 24.0, "scene", (1.0, 1.0, 1.0), "ab", "numba on cpu")


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return moving_scene()


@pytest.fixture(scope="module")
def whole(scene: Scene4D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("whole") / "whole.mp4"
    return m.result(render_scene.to_video(scene, camera_path.make(scene, PATH), CONFIG, target))


def part(
    scene: Scene4D,
    text: str,
    target: Path,
    path: camera_path.Config = PATH,
    config: render_scene.Config = CONFIG,
) -> Path:
    made = camera_path.make(scene, path)
    return m.result(render_scene.to_part(scene, made, config, Part.parse(text).of(len(made)), target))


def parts(scene: Scene4D, folder: Path, *texts: str) -> list[Path]:
    return [part(scene, text, folder / f"{i}.mkv") for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    "texts",
    [
        ("0:2", "2:7", "7:9"),
        ("3/3", "1/3", "2/3"),
        (":1", "8:", "1:8"),
        tuple(f"{i}/{FRAMES}" for i in (5, 9, 1, 7, 3, 2, 8, 4, 6)),
        ("1/1",),
    ],
)
def test_parts_join_to_the_bytes_of_one_run(
    scene: Scene4D, whole: Path, tmp_path: Path, texts: tuple[str, ...]
) -> None:
    joined = m.result(join_parts.run(parts(scene, tmp_path, *texts), tmp_path / "joined.mp4"))
    assert joined.read_bytes() == whole.read_bytes()


def test_a_part_holds_the_rendered_images(scene: Scene4D, tmp_path: Path) -> None:
    import av

    path = camera_path.make(scene, PATH)
    images = m.result(render_scene.run(scene, path, CONFIG)).images[3:7]
    expected = (images * 255).round().to(torch.uint8).numpy()
    file = part(scene, "3:7", tmp_path / "a.mkv")
    assert np.array_equal(np.stack(list(read_frames(file))), expected)
    # as any other program reads it
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "ffv1" and float(stream.average_rate) == pytest.approx(23.976)
        assert json.loads(container.metadata["GS4D_PART"])["first"] == 3
    assert np.array_equal(np.stack(shown), expected)
    header = read_header(file)
    assert (header.span, header.frames, header.fps) == (range(3, 7), FRAMES, 23.976)
    assert (header.background, header.color) == ("green", (0.0, 1.0, 0.0))
    assert header.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
    assert len(file.read_bytes()) < expected.nbytes


SCRIPT = """
import hashlib, os, sys
from pathlib import Path
cores = int(sys.argv[1])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
import torch
torch.set_num_threads(cores)
from engine import cli
from engine.files.mp4 import write_mp4
folder = Path(sys.argv[2])
for words in (["a.mp4"], ["b.mkv", "--part", "2:6"]):
    target = folder / words[0]
    words = ["--out", str(target), *words[1:], *"--frames 8 --width 322 --height 240 --device cpu --json".split()]
    assert cli.main(["render", "--scene", sys.argv[3], *words]) == 0
    print(hashlib.sha256(target.read_bytes()).hexdigest())
noise = torch.rand(6, 360, 642, 3, generator=torch.Generator().manual_seed(1))
print(hashlib.sha256(write_mp4(noise, 24, folder / "noise.mp4").read_bytes()).hexdigest())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process is bound to one core")
def test_bytes_depend_neither_on_cores_nor_on_threads(scene: Scene4D, tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        pytest.skip("one core here")
    kept, made = save_scene(replace(scene, deformation=Static()), tmp_path / "scene.safetensors"), set()
    for count in (1, cores):
        folder = tmp_path / str(count)
        folder.mkdir()
        words = [sys.executable, "-c", SCRIPT, str(count), str(folder), str(kept)]
        done = subprocess.run(
            words,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "NUMBA_NUM_THREADS": str(count)},
        )
        assert done.returncode == 0, done.stderr
        made.add(tuple(line for line in done.stdout.splitlines() if len(line) == 64))
    assert len(made) == 1 and len(made.pop()) == 3


def test_images_in_8_bits_give_the_same_video(tmp_path: Path) -> None:
    images = torch.rand(8, 49, 67, 3, generator=torch.Generator().manual_seed(2))
    with mp4_writer(24, tmp_path / "b.mp4") as add:
        for image in images:
            add(pixels_of(image))
    assert (tmp_path / "b.mp4").read_bytes() == write_mp4(images, 24, tmp_path / "a.mp4").read_bytes()


def test_a_part_has_the_same_bytes_every_time(scene: Scene4D, tmp_path: Path) -> None:
    """So that a job that runs twice leaves the same file."""
    first, second = (part(scene, "2/3", tmp_path / name) for name in ("a.mkv", "b.mkv"))
    assert first.read_bytes() == second.read_bytes()


def refused(paths: list[Path], sentence: str, folder: Path) -> None:
    """Joining says `sentence`, and leaves an old video as it is."""
    out = folder / "out.mp4"
    out.write_bytes(b"old")
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=sentence):
        m.result(join_parts.run(paths, out))
    assert out.read_bytes() == b"old" and sorted(folder.iterdir()) == before


def test_frames_that_no_part_has_are_named(scene: Scene4D, tmp_path: Path) -> None:
    a, b, c = parts(scene, tmp_path, "1:3", "5:6", "8:9")
    refused([b, a], r"frames 0:1, 3:5, 6:9 of 0:9 are missing.*--part 0:1 .*REN-013", tmp_path)
    refused([c], r"frames 0:8 of 0:9 are missing", tmp_path)
    singles = parts(scene, tmp_path, *(f"{i}:{i + 1}" for i in (1, 3, 5, 7)))
    refused(singles, r"0:1, 2:3, 4:5, 6:7, 8:9 of", tmp_path)


def test_frames_that_two_parts_have_are_named(scene: Scene4D, tmp_path: Path) -> None:
    a, b, c = parts(scene, tmp_path, "0:5", "3:9", "4:5")
    refused([b, a], r"0\.mkv and 1\.mkv both have the frames 3:5.*REN-012", tmp_path)
    refused([a, c], r"0\.mkv and 2\.mkv both have the frames 4:5", tmp_path)
    refused([a, b, a], r"0\.mkv is given twice.*REN-010", tmp_path)
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(a.read_bytes())
    refused([a, copy], r"both have the frames 0:5", tmp_path)
    if hasattr(os, "symlink"):
        (tmp_path / "link.mkv").symlink_to(a)
        refused([a, tmp_path / "link.mkv"], r"link\.mkv is given twice", tmp_path)


def test_parts_of_another_rendering_are_refused(scene: Scene4D, tmp_path: Path) -> None:
    a = part(scene, "0:4", tmp_path / "a.mkv")
    other = tmp_path / "b.mkv"
    changed = scene.with_(canonical=scene.canonical.with_(means=scene.canonical.means + 1e-5))
    cases = [
        (scene, replace(PATH, width=64), CONFIG, "its frames have 64×49 pixels instead of 67×49"),
        (scene, replace(PATH, fps=24.0), CONFIG, "it has 24 frames per second instead of 23.976"),
        (scene, replace(PATH, frames=10), CONFIG, "its camera path has 10 frames instead of 9"),
        (scene, PATH, replace(CONFIG, background="black"), "its background is black instead of green"),
        (scene, PATH, replace(CONFIG, antialiased=True), "its scene, camera path or settings differ"),
        (scene, replace(PATH, elevation=20.0), CONFIG, "its scene, camera path or settings differ"),
        (scene, replace(PATH, speed=0.9), CONFIG, "its scene, camera path or settings differ"),
        (changed, PATH, CONFIG, "its scene, camera path or settings differ"),
    ]
    for another, path, config, words in cases:
        part(another, "4:9", other, path, config)
        refused(
            [a, other], rf"b\.mkv belongs to another rendering than a\.mkv: {words}\. .*REN-011", tmp_path
        )


def test_parts_of_two_rasterizers_are_joined_with_a_note(scene: Scene4D, tmp_path: Path) -> None:
    a = part(scene, "0:4", tmp_path / "a.mkv", config=replace(CONFIG, rasterizer="torch"))
    b = part(scene, "4:9", tmp_path / "b.mkv", config=replace(CONFIG, rasterizer="numba"))
    *_, last = join_parts.run([a, b], tmp_path / "out.mp4")
    assert isinstance(last, m.Finished)
    assert (
        last.note
        == "The parts were rendered by numba on cpu and torch on cpu, whose images may differ by rounding."
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A part of three frames of noise."""
    file = tmp_path_factory.mktemp("sound") / "a.mkv"
    with part_writer(HEADER, file) as add:
        for seed in range(3):
            add(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8))
    return file.read_bytes()


def read(data: bytes, folder: Path) -> list[np.ndarray]:
    file = folder / "part.mkv"
    file.write_bytes(data)
    read_header(file)
    return list(read_frames(file))


def test_a_part_that_is_cut_off_is_known_before_any_is_joined(sound: bytes, tmp_path: Path) -> None:
    frames = read(sound, tmp_path)
    for share in (0.2, 0.5, 0.9, 0.98):
        (tmp_path / "part.mkv").write_bytes(sound[: int(share * len(sound))])
        with pytest.raises(InputError, match=r"part\.mkv is cut off or damaged.*--part 2:5.*FIL-157"):
            read_header(tmp_path / "part.mkv")
    # behind the frames there is an index only
    assert np.array_equal(frames, read(sound[:-2], tmp_path))


def test_damage_is_never_taken_for_an_image(sound: bytes, tmp_path: Path) -> None:
    """FFmpeg fills damaged areas from the frame before, without an error."""
    frames, choose, refusals = read(sound, tmp_path), Random(3), 0
    for _ in range(150):
        at = choose.randrange(len(sound))
        damaged = bytearray(sound)
        damaged[at] ^= 1 << choose.randrange(8)
        try:
            assert np.array_equal(read(bytes(damaged), tmp_path), frames)
        except InputError as error:
            assert error.code in ("FIL-156", "FIL-157")
            refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b'"version": 1', b'"version": 2', "part of version 2. Update the pack"),
        (b'"gs4d-part"', b'"gs5d-part"', "is not a part"),
        (b'"first": 2', b'"first": 7', "is not a part"),
        (b'"first": 2', b'"first":-2', "is not a part"),
        (b'"frames": 9', b'"frames": 4', "is not a part"),
        (b'"fps": 24.0', b'"fps": -4.0', "is not a part"),
        (b'"fps": 24.0', b'"fps":  NaN', "is not a part"),
        (b'"width": 64', b'"width": 46', "is not a part"),
        (b'"width": 64', b'"width": 00', "is not a part"),
        (b'"stop": 5', b'"stop":{}', "is not a part"),
        (b"GS4D_PART", b"GS4D_PARS", "is not a part"),
        (b'"stop": 5', b'"stop": 6', "cut off or damaged"),
        (b'"stop": 5', b'"stop": 4', "cut off or damaged"),
    ],
)
def test_a_tag_that_lies_is_one_sentence(
    sound: bytes, tmp_path: Path, old: bytes, new: bytes, sentence: str
) -> None:
    assert sound.count(old) == 1 and len(old) == len(new)
    with pytest.raises(InputError, match=sentence):
        read(sound.replace(old, new), tmp_path)


def test_what_is_not_a_part_is_named(scene: Scene4D, whole: Path, tmp_path: Path) -> None:
    import av

    a = part(scene, "0:4", tmp_path / "a.mkv")
    text, folder, plain = tmp_path / "text.mkv", tmp_path / "folder", tmp_path / "plain.mkv"
    text.write_text("some words")
    folder.mkdir()
    with av.open(str(plain), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode()])
    for path in (text, plain, whole):
        refused([a, path], rf"{path.stem}\.m.. is not a part of a rendering.*FIL-156", tmp_path)
    refused([a, folder], r"folder cannot be read: it is a folder.*FIL-154", tmp_path)
    refused([a, tmp_path / "none.mkv"], r"none\.mkv cannot be read: No such file.*FIL-154", tmp_path)


def test_the_video_may_not_replace_a_part(scene: Scene4D, tmp_path: Path) -> None:
    a = part(scene, "1/1", tmp_path / "a.mkv")
    data = a.read_bytes()
    with pytest.raises(InputError, match=r"a\.mkv is one of the parts.*REN-009"):
        m.result(join_parts.run([a], tmp_path / "." / "a.mkv"))
    with pytest.raises(InputError, match=r"videos are written as \.mp4"):
        m.result(join_parts.run([a], tmp_path / "b.mkv"))
    assert a.read_bytes() == data and list(tmp_path.iterdir()) == [a]


@pytest.mark.parametrize(
    "text", ["", ":", "5", "3:3", "5:2", "0/3", "4/3", "1/0", "-1:4", "1:2:3", "9" * 400, "a:b", "0:4 "]
)
def test_words_that_are_not_a_part(text: str) -> None:
    if text == ":":
        assert Part.parse(text).of(5) == range(5)
        return
    with pytest.raises(InputError, match=r"is not a part of a rendering.*REN-006"):
        Part.parse(text)


def test_shares_are_even_and_leave_nothing_out() -> None:
    for frames in (1, 2, 7, 60, 241):
        for count in range(1, min(frames, 9) + 1):
            shares = [Part.parse(f"{i}/{count}").of(frames) for i in range(1, count + 1)]
            assert [i for share in shares for i in share] == list(range(frames))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(InputError, match=r"part 1/3 of 2 frames is empty.*at most 2 parts.*REN-007"):
        Part.parse("1/3").of(2)
    for text in ("0:61", "60:", "70:80"):
        with pytest.raises(InputError, match=r"outside the camera path, which has the frames 0:60.*REN-008"):
            Part.parse(text).of(60)


def test_a_part_that_is_cancelled_leaves_the_old_file_and_nothing_else(
    scene: Scene4D, tmp_path: Path
) -> None:
    target = tmp_path / "a.mkv"
    target.write_bytes(b"old")
    path = camera_path.make(scene, PATH)
    stream = render_scene.to_part(scene, path, CONFIG, range(2, 8), target)
    done = [next(message for message in stream if isinstance(message, m.Progress)) for _ in range(3)]
    assert done[-1].done == 3
    stream.close()
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_the_command_line_renders_parts_and_joins_them(
    scene: Scene4D, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = save_scene(replace(scene, deformation=Static()), tmp_path / "scene.safetensors")
    words = ["render", "--scene", str(kept), *"--frames 7 --width 64 --height 48 --device cpu --json".split()]

    def ran(*more: str) -> dict[str, object]:
        assert main([*words, *more]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    whole, joined = tmp_path / "whole.mp4", tmp_path / "joined.mp4"
    assert ran("--out", str(whole))["frames"] == 7
    files = [str(tmp_path / f"{i}.mkv") for i in (1, 2, 3)]
    made = [ran("--out", file, "--part", f"{i + 1}/3") for i, file in enumerate(files)]
    assert [(each["frames"], each["part"], each["of"]) for each in made] == [
        (2, "0:2", 7),
        (2, "2:4", 7),
        (3, "4:7", 7),
    ]
    assert main(["join", "--parts", *reversed(files), "--out", str(joined), "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["out"] == str(joined) and report["parts"] == 3 and report["notes"] == []
    assert joined.read_bytes() == whole.read_bytes()

    assert main([*words, "--out", str(tmp_path / "a.mp4"), "--part", "1/3"]) == 1
    assert "a part of a rendering is written as .mkv. Name it a.mkv" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "a.mkv"), "--part", "5:8"]) == 1
    assert "outside the camera path" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "a.mkv"), "--part", "0:1", "--width", "1"]) == 1
    assert "too small for a video" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main([*words, "--out", str(tmp_path / "a.mkv"), "--part", "8"])
    assert end.value.code == 2 and "'8' is not a part of a rendering" in capsys.readouterr().err
    assert not (tmp_path / "a.mkv").exists() and not (tmp_path / "a.mp4").exists()


MEASURED = """
import sys
from engine.cli import main
from tests.memory import peak, start_measuring
scene, folder, frames = sys.argv[1:]
words = f"--frames {frames} --width 512 --height 512 --device cpu --part 1/1 --json".split()
for command in (
    ["render", "--scene", scene, "--out", f"{folder}/a.mkv", *words],
    ["join", "--parts", f"{folder}/a.mkv", "--out", f"{folder}/a.mp4", "--json"],
):
    start_measuring()
    assert main(command) == 0
    print("peak", peak())
"""


@needs_linux
def test_the_memory_of_parts_does_not_grow_with_their_frames(scene: Scene4D, tmp_path: Path) -> None:
    """200 more frames of 512×512 would be 157 MB in 8 bits; how many of them the encoder holds differs by up to 50 MB."""
    kept = save_scene(replace(scene, deformation=Static()), tmp_path / "scene.safetensors")
    taken: list[list[float]] = []
    for frames in (60, 260):
        words = [sys.executable, "-c", MEASURED, str(kept), str(tmp_path), str(frames)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        taken.append([int(line[1]) / 2**20 for line in lines if line[0] == "peak"])
    assert len(taken[0]) == 2 and all(more - few < 60 for few, more in zip(*taken, strict=True)), taken
