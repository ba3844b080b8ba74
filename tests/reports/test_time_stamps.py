"""Times and frame numbers in the names of image files, as cameras and converters write them."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.cameras_json import write_cameras_json
from engine.capture.pairing import pair
from engine.capture.readers import LoadOptions, load_video
from engine.capture.readers.name_times import read_times
from engine.errors import InputError
from engine.files.folders import natural_key
from engine.io.image_files import load_images
from engine.io.mask_folder import load_masks
from engine.scene.video import MultiViewVideo
from tests.scenes import ring

CAMERAS, FRAMES, FPS = 3, 12, 12.0
START = 1_305_031_102_775_304_000
SIZE = (32, 24)


def instant(frame: int, fps: float = FPS) -> int:
    """Nanoseconds since 1970."""
    return START + round(frame * 1e9 / fps)


def dated(frame: int, form: str) -> str:
    at = datetime(2024, 5, 1, 23, 59, 59, 600_000, tzinfo=UTC) + timedelta(seconds=frame / FPS)
    return at.strftime(form)


# each name with its frame, and the greatest error of its time in seconds
TIMES: dict[str, tuple[Callable[[int], str], float]] = {
    "TUM": (lambda f: f"{instant(f) // 10**9}.{instant(f) // 1000 % 10**6:06d}", 1e-6),
    "printed seconds": (lambda f: str(instant(f) / 1e9), 1e-6),
    "nanoseconds": (lambda f: str(instant(f)), 1e-9),
    "microseconds": (lambda f: str(instant(f) // 1000), 1e-6),
    "milliseconds": (lambda f: str(instant(f) // 10**6), 1e-3),
    "in words": (lambda f: f"cam_rgb_{instant(f) // 1000}_color", 1e-6),
    "after a number": (lambda f: f"frame_{f:04d}_{instant(f)}", 1e-9),
    "before a number": (lambda f: f"{instant(f)}_{f}", 1e-9),
    "after a counter that jumps": (lambda f: f"{7 * f * f}-{instant(f)}", 1e-9),
    "seconds and nanoseconds": (lambda f: f"{instant(f) // 10**9}_{instant(f) % 10**9:09d}", 1e-9),
    "seconds and short nanoseconds": (lambda f: f"{instant(f) // 10**9}-{instant(f) % 10**9}", 1e-9),
    "date": (lambda f: dated(f, "%Y-%m-%d_%H-%M-%S_%f")[:-3], 1e-3),
    "date with microseconds": (lambda f: dated(f, "%Y%m%dT%H%M%S.%f"), 1e-6),
    "phone": (lambda f: dated(f, "PXL_%Y%m%d_%H%M%S%f")[:-3], 1e-3),
    "digits of a date": (lambda f: dated(f, "%Y%m%d%H%M%S%f")[:-3], 1e-3),
    "microseconds from the start": (lambda f: str(round(f * 1e6 / FPS)), 1e-6),
    "padded microseconds from the start": (lambda f: f"color_{round(f * 1e6 / FPS):09d}", 1e-6),
    "nanoseconds from the start": (lambda f: str(45_000_123 + round(f * 1e9 / FPS)), 1e-9),
    "milliseconds from the start": (lambda f: f"{round(f * 1e3 / FPS):06d}", 1e-3),
    "decimal seconds": (lambda f: f"{f / FPS:.6f}", 1e-6),
    "printed decimals": (lambda f: str(f / FPS), 1e-6),
}  # fmt: skip

# names whose digits count frames
NUMBERS: dict[str, Callable[[int], str]] = {
    "plain": lambda f: f"{f:05d}",
    "from one": lambda f: f"frame_{f + 1:05d}",
    "without zeros": lambda f: f"f{f}",
    "ten digits": lambda f: f"{f:010d}",
    "twenty digits": lambda f: f"{f:020d}",
    "every tenth": lambda f: f"{10 * f:06d}",
    "every thousandth": lambda f: f"{1000 * f:06d}",
    "evenly chosen": lambda f: f"{round(f * 299 / 17):04d}",
    "large": lambda f: str(1_000_000 + f),
    "suffix": lambda f: f"frame_{f:04d}_rgb",
    "side": lambda f: f"{f:04d}_left",
    "resolution": lambda f: f"frame_{f}_1920x1080",
    "version": lambda f: f"{f:04d}_v2",
    "film": lambda f: f"shot010_beauty_v003.{f:04d}",
    "day of the recording": lambda f: f"2024-05-01_12-30-05_{f:04d}",
    "second of the recording": lambda f: f"{START // 10**9}_{f:06d}",
    "serial number": lambda f: f"dev{START // 10**6}_{f}",
    "frames in seconds": lambda f: f"00-00-{f // 5:02d}-{f % 5:02d}",
    "frames in folders of five": lambda f: f"part{f // 5}_{f % 5}",
    "clock that wraps": lambda f: f"12-{(f + 53) // 60:02d}-{(f + 53) % 60:02d}",
    "number before a setting": lambda f: f"{f:04d}_{900 - f * f}",
    "number after a setting": lambda f: f"exposure{30 + f % 2}_{f:04d}",
    "another number": lambda f: f"{f:04d}_{f // 2 + 30}",
}  # fmt: skip


def capture(
    folder: Path,
    name: Callable[[int, int], str],
    frames: Callable[[int], Sequence[int]] = lambda c: range(FRAMES),
    fps: float = FPS,
    masks: Callable[[int, int], str] | None = None,
) -> Path:
    """Images whose red is 10 (frame + 1) and green 20 (camera + 1); `name` of a frame and camera."""
    rig = ring(CAMERAS, size=SIZE)
    for c, camera in enumerate(rig.names):
        for f in frames(c):
            save(folder / "images" / camera / f"{name(f, c)}.png", (10 * (f + 1), 20 * (c + 1), 0))
            if masks is not None:
                save_mask(folder / "masks" / camera / f"{masks(f, c)}.png", f)
    write_cameras_json(
        folder,
        rig,
        fps,
        frames=[f"images/{camera}" for camera in rig.names],
        masks=[f"masks/{camera}" for camera in rig.names] if masks is not None else None,
    )
    return folder


def save(path: Path, color: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not path.exists()
    Image.new("RGB", SIZE, color).save(path)


def save_mask(path: Path, frame: int) -> None:
    """A mask whose number of white columns is one more than the frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(np.uint8(255) * (np.arange(SIZE[0]) <= frame), (SIZE[1], 1))).save(path)


def frame_of_mask(mask: torch.Tensor | None) -> int:
    """Which frame `save_mask` saved."""
    assert mask is not None
    return int((mask[0] > 0).sum()) - 1


def shown(video: MultiViewVideo) -> dict[int, list[int]]:
    """Moment → the frames that the views show, each checked to be of its own camera."""
    found: dict[int, list[int]] = {}
    for view, moment in video.samples():
        red, green, _ = video.source.read(view, moment).image[0, 0].tolist()
        assert green == 20 * (view + 1)
        found.setdefault(moment, []).append(red // 10 - 1)
    return dict(sorted(found.items()))


@pytest.mark.parametrize("kind", TIMES)
def test_times_in_names_give_the_times(tmp_path: Path, kind: str) -> None:
    name, error = TIMES[kind]
    video = load_video(capture(tmp_path, lambda f, c: name(f)))
    assert shown(video) == {f: [f] * CAMERAS for f in range(FRAMES)}
    assert np.abs(video.times.numpy() - np.arange(FRAMES) / FPS).max() <= 2 * error
    assert video.warnings == () and any("read as times" in note for note in video.notes)
    assert video.fps is not None and abs(video.fps / FPS - 1) < 0.02


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_in_names_give_the_order_alone(tmp_path: Path, kind: str) -> None:
    name = NUMBERS[kind]
    video = load_video(capture(tmp_path, lambda f, c: name(f)))
    assert shown(video) == {f: [f] * CAMERAS for f in range(FRAMES)}
    assert (video.times.numpy() == np.arange(FRAMES) / FPS).all() and video.fps == FPS
    assert video.warnings == () and not any("read as times" in note for note in video.notes)


@pytest.mark.parametrize(
    "name",
    [
        lambda f, c: f"cam{c}_{f:03d}",
        lambda f, c: f"{f:03d}_cam{c}",
        lambda f, c: f"take{c + 3}_{f}_of_12",
        lambda f, c: f"{f:03d}_{['left', 'right1', 'top'][c]}",
    ],
)
def test_numbers_of_cameras_do_not_count(tmp_path: Path, name: Callable[[int, int], str]) -> None:
    assert shown(load_video(capture(tmp_path, name))) == {f: [f] * CAMERAS for f in range(FRAMES)}


@pytest.mark.parametrize(
    "kind", ["TUM", "nanoseconds", "microseconds", "milliseconds", "date with microseconds"]
)
def test_cameras_with_stamps_of_their_own_are_paired_with_the_nearest(tmp_path: Path, kind: str) -> None:
    """Cameras that run 0, 5 and -8 ms apart, with 2 ms of jitter, each without two frames of its own."""
    generator = np.random.default_rng(0)
    late = {
        (f, c): int(1e6 * ((0, 5, -8)[c] + generator.uniform(-2, 2))) for f in range(FRAMES) for c in range(3)
    }
    missing = {0: (3, 4), 1: (7, 8), 2: (10, 3)}

    def name(f: int, c: int) -> str:
        at = instant(f) + late[f, c]
        if kind == "date with microseconds":
            return datetime.fromtimestamp(at / 1e9, UTC).strftime("%Y%m%d_%H%M%S_%f")
        seconds = f"{at // 10**9}.{at // 1000 % 10**6:06d}"
        digits = {"nanoseconds": 1, "microseconds": 10**3, "milliseconds": 10**6}
        return seconds if kind == "TUM" else str(at // digits[kind])

    frames = {c: [f for f in range(FRAMES) if f not in missing[c]] for c in range(CAMERAS)}
    video = load_video(capture(tmp_path, name, lambda c: frames[c]))
    assert video.moments == FRAMES
    assert shown(video) == {f: [f] * sum(f in frames[c] for c in range(CAMERAS)) for f in range(FRAMES)}
    assert np.abs(video.times.numpy() - np.arange(FRAMES) / FPS).max() < 0.012
    said = " ".join(video.warnings)
    assert (
        "cam00 lacks 2 (first at 0.2" in said
        and "offset in time" in said
        and "frames of cam02 are" in said
        and "ms early" in said
    )


def test_a_camera_that_starts_late_is_said(tmp_path: Path) -> None:
    frames = [range(FRAMES), range(4, FRAMES), range(FRAMES)]
    video = load_video(capture(tmp_path, lambda f, c: TIMES["nanoseconds"][0](f), lambda c: frames[c]))
    assert shown(video) == {f: [f] * (2 if f < 4 else 3) for f in range(FRAMES)}
    assert any("cam01 starts 0.333 s after cam00" in w for w in video.warnings)


def test_stamps_decide_against_a_stated_rate_and_options_against_both(tmp_path: Path) -> None:
    folder = capture(tmp_path, lambda f, c: TIMES["nanoseconds"][0](f), fps=30)
    video = load_video(folder)
    assert video.fps is not None and abs(video.fps - FPS) < 1e-6
    assert any("states 30 frames per second" in w and "12 per second" in w for w in video.warnings)
    chosen = load_video(folder, LoadOptions(frames_per_second=24))
    assert np.allclose(chosen.times.numpy(), np.arange(FRAMES) / 24) and chosen.fps == 24
    assert chosen.warnings == ()


def test_time_lapses_keep_a_stated_rate(tmp_path: Path) -> None:
    """Whole seconds are the times where nothing else is stated, and the order where another rate is."""

    def name(f: int, c: int) -> str:
        at = datetime(2024, 5, 1, 23, 59, 50, tzinfo=UTC) + timedelta(seconds=2 * f)
        return at.strftime("IMG_%Y%m%d_%H%M%S")

    slow = load_video(capture(tmp_path / "a", name, fps=0.5))
    assert np.allclose(slow.times.numpy(), 2.0 * np.arange(FRAMES))
    fast = load_video(capture(tmp_path / "b", name, fps=12))
    assert np.allclose(fast.times.numpy(), np.arange(FRAMES) / 12)
    for video in (slow, fast):
        assert shown(video) == {f: [f] * CAMERAS for f in range(FRAMES)}


@pytest.mark.parametrize("kind", ["nanoseconds", "TUM", "suffix", "frames in folders of five"])
def test_masks_belong_to_their_images(tmp_path: Path, kind: str) -> None:
    name = TIMES[kind][0] if kind in TIMES else NUMBERS[kind]
    video = load_video(capture(tmp_path, lambda f, c: name(f), masks=lambda f, c: name(f)))
    for view, moment in video.samples():
        assert frame_of_mask(video.source.read(view, moment).mask) == moment


def test_masks_with_stamps_of_their_own_belong_to_the_nearest_images(tmp_path: Path) -> None:
    def late(f: int, c: int) -> str:
        return str(instant(f) + 9_000_000 + 1_000_000 * c)

    video = load_video(capture(tmp_path, lambda f, c: str(instant(f)), masks=late))
    for view, moment in video.samples():
        assert frame_of_mask(video.source.read(view, moment).mask) == moment
    with pytest.raises(InputError, match=r"has no mask.*CAP-118"):
        load_video(
            capture(tmp_path / "far", lambda f, c: str(instant(f)), masks=lambda f, c: str(instant(f + 40)))
        )


def test_one_image_of_each_camera_is_one_frame(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path, lambda f, c: str(instant(f) + 3_000_000 * c), lambda c: [5]))
    assert shown(video) == {0: [5] * CAMERAS}
    serial = load_video(
        capture(tmp_path / "b", lambda f, c: f"{1_305_031_102_775 + 10**9 * c}_{f}", lambda c: [5])
    )
    assert shown(serial) == {0: [5] * CAMERAS}


def test_images_of_one_moving_camera_are_frames_of_their_own(tmp_path: Path) -> None:
    """Each camera of the list has one image, and their times run on."""
    rig = ring(8, size=SIZE)
    for c, name in enumerate(rig.names):
        save(tmp_path / name / f"{instant(c, 60)}.png", (10 * (c + 1), 20 * (c + 1), 0))
    write_cameras_json(tmp_path, rig, 60, frames=list(rig.names))
    video = load_video(tmp_path)
    assert shown(video) == {c: [c] for c in range(8)} and video.warnings == ()
    assert np.abs(video.times.numpy() - np.arange(8) / 60).max() < 1e-8


def test_names_that_read_as_one_are_refused(tmp_path: Path) -> None:
    names = {0: "1", 1: "01"}
    with pytest.raises(InputError, match=r"01\.png and .*1\.png have the same frame number.*CAP-130"):
        load_video(capture(tmp_path, lambda f, c: names.get(f, str(f))))


@pytest.mark.parametrize(
    "digits", ["9" * 5000, "9" * 18, "9" * 40, "0" * 300 + "1", "1305031102." + "9" * 200]
)
def test_digits_beyond_reason_end_in_an_order_or_a_sentence(digits: str) -> None:
    names = [
        [f"{i}_{digits}" for i in range(4)],
        [f"{digits}_{i}" for i in range(4)],
        [f"{digits}{i}" for i in range(4)],
    ]
    for group in names:
        read_times([group])
        read_times([group[:1]], 30)


def test_pairing_survives_cameras_half_a_frame_apart() -> None:
    """Stamps in whole milliseconds of cameras that take turns: each frame keeps its partner."""
    generator = np.random.default_rng(1)
    one = [round(33.333 * i) * 10**6 for i in range(600)]
    other = [round(33.333 * i + 16.667 + generator.uniform(-1.5, 1.5)) * 10**6 for i in range(600)]
    paired = pair([one, other])
    assert len(paired.times) in (600, 601) and len(paired.frames[1]) == 600
    shifts = {moment - frame for moment, frame in paired.frames[1].items()}
    assert len(shifts) == 1


def test_reported_names_play_in_their_order(reported: Callable[..., list[Path]]) -> None:
    """All of the inputs show the same images, and unpadded numbers are read as they always were."""
    folders = reported("02_stamp_names")
    plain = [load_video(folder) for folder in folders if folder.name == "stamp_unpadded"]
    for folder in folders:
        video = load_video(folder)
        assert bool(video.available.all()), folder.name
        gaps = video.times.diff()
        assert float((gaps - 1 / 12).abs().max()) < 2e-3, folder.name
        for view, moment in video.samples():
            for truth in plain:
                image, wanted = (each.source.read(view, moment).image for each in (video, truth))
                assert bool((image == wanted).all()), (folder.name, view, moment)


def test_batches_of_images_and_masks_are_in_natural_order(tmp_path: Path) -> None:
    for i, name in enumerate(["f7", "f8", "f9", "f10", "f11"]):
        save(tmp_path / f"images/{name}.png", (10 * i, 10 * i, 10 * i))
        save_mask(tmp_path / f"masks/{name}.png", i)
    levels = [0.0, 10 / 255, 20 / 255, 30 / 255, 40 / 255]
    assert np.allclose(load_images(tmp_path / "images")[:, 0, 0, 0].numpy(), levels)
    masks = load_masks(tmp_path / "masks", None, any_number=True)
    assert [frame_of_mask(mask) for mask in masks] == list(range(5))
    assert sorted(["1305031102.5", "1305031102.45", "1305031103.1"], key=natural_key)[0] == "1305031102.45"
