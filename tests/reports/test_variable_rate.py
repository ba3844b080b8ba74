"""Videos whose frames do not follow each other at one rate: cameras are paired by time, never by number alone."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from engine.capture.assembly import assemble
from engine.capture.cameras_json import write_cameras_json
from engine.capture.convert.native_folder import convert_dataset
from engine.capture.convert.real_capture import CaptureConfig, convert_capture
from engine.capture.description import Capture, ViewVideo
from engine.capture.findings import check_description
from engine.capture.pairing import pair
from engine.capture.readers import LoadOptions, folder, load_video
from engine.capture.video_file import VideoFacts
from engine.capture.video_pairing import pair_videos
from engine.errors import InputError
from engine.scene.video import MultiViewVideo
from tests.scenes import ring

CAMERAS, FRAMES, FPS = 4, 60, 30.0
SIZE = (32, 32)
TICKS = 90_000
DROPPED = {0: range(5, 10), 1: range(20, 25), 2: range(35, 40), 3: range(50, 55)}


def every(
    rate: float = FPS, count: int = FRAMES, start: float = 0.0, without: Sequence[int] = ()
) -> list[float]:
    """Times of frames in seconds."""
    return [start + i / rate for i in range(count) if i not in without]


def write(path: Path, times: Sequence[float], numbers: Sequence[int] | None = None) -> None:
    """A lossless video whose frames show their numbers, at most 80, or other ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"crf": "0", "preset": "ultrafast", "bf": "2", "g": "12"}
        stream.codec_context.time_base = Fraction(1, TICKS)
        for number, seconds in zip(numbers or range(len(times)), times, strict=True):
            image = np.full((SIZE[1], SIZE[0], 3), 12 + 3 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(seconds * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def capture(
    folder: Path, cameras: Sequence[Sequence[float]], suffix: str = ".mp4", fps: float = FPS, **more: Any
) -> Path:
    rig = ring(len(cameras), size=SIZE)
    for name, times in zip(rig.names, cameras, strict=True):
        write(folder / "videos" / f"{name}{suffix}", times)
    write_cameras_json(folder, rig, fps, videos=[f"videos/{n}{suffix}" for n in rig.names], **more)
    return folder


def shown(video: MultiViewVideo, view: int, moment: int) -> int:
    """The number that an image shows."""
    return round((float(video.source.read(view, moment).image.float().mean()) - 11.5) / 3)


def check(
    video: MultiViewVideo, cameras: Sequence[Sequence[float]], period: float, start: float = 0.0
) -> None:
    """Every image was taken within half a frame of its moment, and no frame between start and end is lost."""
    for view, moment in video.samples():
        off = cameras[view][shown(video, view, moment)] - start - float(video.times[moment])
        assert abs(off) <= 0.525 * period, (view, moment, off)
    last = start + float(video.times[-1])
    for view, times in enumerate(cameras):
        inside = [t for t in times if start - 1e-6 <= t <= last + 1e-6]
        assert abs(int(video.available[view].sum()) - len(inside)) <= 1, view


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_cameras_that_drop_frames_are_paired_by_time(tmp_path: Path, suffix: str) -> None:
    cameras = [every(without=DROPPED[c]) for c in range(CAMERAS)]
    video = load_video(capture(tmp_path, cameras, suffix, frame_count=FRAMES))
    assert video.moments == FRAMES and abs((video.fps or 0) - FPS) < 0.5
    assert np.abs(video.times.numpy() - np.arange(FRAMES) / FPS).max() < 2e-3
    for c, dropped in DROPPED.items():
        assert (~video.available[c]).nonzero().flatten().tolist() == list(dropped)
    check(video, cameras, 1 / FPS)
    (said,) = video.warnings
    assert "cam00 lacks 5 (first at 0.167 s)" in said and "cam03 lacks 5 (first at 1.667 s)" in said
    assert any("within 0 ms" in row.finding for row in check_description(video))


def test_reported_videos_are_paired_by_time(reported: Callable[..., list[Path]]) -> None:
    for source in reported("07_variable_rate"):
        video, described = load_video(source), folder.read(source, LoadOptions())
        start = min(min(facts.nanoseconds()) for facts in facts_of(described))
        for view, facts in enumerate(facts_of(described)):
            seconds = (np.array(facts.nanoseconds()) - start) / 1e9
            moments = video.available[view].nonzero().flatten()
            assert len(moments) >= 0.9 * len(seconds), source.name
            times = video.times[moments].numpy()
            # the container's own times are the truth: each moment that a camera has is near one of its frames
            away = np.abs(times[:, None] - seconds[None]).min(axis=1)
            assert away.max() <= 0.5 / FPS + 1e-3, source.name
        assert video.warnings and any("time stamps" in note for note in video.notes), source.name


def facts_of(described: Capture) -> list[VideoFacts]:
    return [view.images.facts for view in described.views if isinstance(view.images, ViewVideo)]


def test_constant_rate_stays_as_it_was(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path, [every()] * 3))
    assert (video.times.numpy() == np.arange(FRAMES) / FPS).all() and bool(video.available.all())
    assert video.fps == FPS and video.warnings == () and video.notes == ()


def test_jitter_below_half_a_frame_is_a_constant_rate(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    cameras = [[max(0.0, t + generator.uniform(-0.004, 0.004)) for t in every()] for _ in range(3)]
    video = load_video(capture(tmp_path, cameras))
    assert (video.times.numpy() == np.arange(FRAMES) / FPS).all() and bool(video.available.all())


def test_shorter_videos_of_constant_rate_are_cut_as_before(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path, [every(), every(count=50), every()]))
    assert video.moments == 50 and bool(video.available.all())
    assert any("Only the first 50 frames" in w for w in video.warnings)


def test_frames_that_all_cameras_drop_leave_a_gap(tmp_path: Path) -> None:
    times = every(without=range(20, 35))
    video = load_video(capture(tmp_path, [times] * 3))
    assert np.allclose(video.times.numpy(), times, atol=1e-4) and bool(video.available.all())
    assert abs((video.fps or 0) - FPS) < 0.1
    check(video, [times] * 3, 1 / FPS)
    assert any("gap of 0.5333 s" in row.finding for row in check_description(video))


def test_a_rate_that_changes_gives_the_true_times(tmp_path: Path) -> None:
    times = [*every(count=30), *every(15.0, 15, start=1.0)]
    video = load_video(capture(tmp_path, [times] * 3))
    check(video, [times] * 3, 1 / FPS)
    assert np.allclose(video.times.numpy(), times, atol=1e-4)


def test_a_camera_that_starts_late_is_said_and_paired(tmp_path: Path) -> None:
    cameras = [every(), every(count=54, start=0.2), every()]
    video = load_video(capture(tmp_path, cameras))
    assert video.moments == FRAMES
    assert (~video.available[1]).nonzero().flatten().tolist() == list(range(6))
    check(video, cameras, 1 / FPS)
    assert any("cam01 starts 0.200 s after cam00" in w for w in video.warnings)


def test_moments_that_few_cameras_show_are_left_out_at_the_ends(tmp_path: Path) -> None:
    cameras = [every(), every(count=50, start=1 / 3), every(count=50, start=1 / 3)]
    video = load_video(capture(tmp_path, cameras))
    assert video.moments == 50 and bool(video.available.all())
    check(video, cameras, 1 / FPS, start=1 / 3)
    assert any("10 frames at the start or end" in w for w in video.warnings)


def test_cameras_a_part_of_a_frame_apart_are_said(tmp_path: Path) -> None:
    cameras = [every(without=[7]), every(start=0.011), every()]
    video = load_video(capture(tmp_path, cameras))
    assert video.moments == FRAMES and int(video.available.sum()) == 3 * FRAMES - 1
    check(video, cameras, 1 / FPS)
    assert any("frames of cam01 are 11.0 ms late" in w for w in video.warnings)


@pytest.mark.parametrize(("slow", "fast"), [(24.0, 30.0), (30.0, 60.0), (25.0, 29.97)])
def test_cameras_of_other_rates_are_paired_with_the_nearest(tmp_path: Path, slow: float, fast: float) -> None:
    cameras = [
        every(fast, round(1.25 * fast)),
        every(slow, round(1.25 * slow)),
        every(fast, round(1.25 * fast)),
    ]
    video = load_video(capture(tmp_path, cameras, fps=fast))
    assert int(video.available[0].sum()) == video.moments == round(1.25 * fast)
    assert abs(int(video.available[1].sum()) - round(1.25 * slow)) <= 1
    check(video, cameras, 1 / fast)
    assert any("cam01 lacks" in w for w in video.warnings)


def test_clocks_that_drift_apart_are_paired_by_time(tmp_path: Path) -> None:
    """One camera runs 2 % slow: in the end, numbers are more than a frame apart."""
    cameras = [every(count=80), every(FPS / 1.02, 80), every(count=80)]
    video = load_video(capture(tmp_path, cameras))
    check(video, cameras, 1 / FPS)


def test_videos_of_other_clocks_start_together(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path, [every(), every(start=700.0), every()], ".mkv"))
    assert video.moments == FRAMES and bool(video.available.all())
    assert any("do not overlap" in w and "cam01 (+700.000 s)" in w for w in video.warnings)


@pytest.mark.parametrize("mask_has", ["its own frames", "all frames"])
def test_masks_stay_with_their_images(tmp_path: Path, mask_has: str) -> None:
    rig = ring(2, size=SIZE)
    cameras = [every(without=DROPPED[0]), every(without=DROPPED[1])]
    for name, times in zip(rig.names, cameras, strict=True):
        numbers = [round(FPS * t) for t in times]
        write(tmp_path / f"{name}.mp4", times, numbers)
        if mask_has == "its own frames":
            write(tmp_path / f"{name}_mask.mp4", times, numbers)
        else:
            write(tmp_path / f"{name}_mask.mp4", every())
    masks = [f"{name}_mask.mp4" for name in rig.names]
    write_cameras_json(tmp_path, rig, FPS, videos=[f"{n}.mp4" for n in rig.names], masks=masks)
    video = load_video(tmp_path)
    assert video.moments == FRAMES
    for view, moment in video.samples():
        frame = video.source.read(view, moment)
        assert frame.mask is not None
        assert shown(video, view, moment) == moment
        # the lightest of all masks becomes white, and levels of two frames are 3 apart
        gray = float(frame.mask.float().mean()) * (12 + 3 * (FRAMES - 1)) / 255
        assert abs(gray - float(frame.image.float().mean())) < 1.4


def test_depth_maps_stay_with_their_images(tmp_path: Path) -> None:
    cameras = [every(without=DROPPED[0]), every(without=DROPPED[1])]
    for c, times in enumerate(cameras):
        (tmp_path / f"depth{c}").mkdir()
        for i, seconds in enumerate(times):
            values = np.full(SIZE[::-1], round(1000 * (1 + seconds)), np.uint16)
            Image.fromarray(values).save(tmp_path / f"depth{c}" / f"{i:03d}.png")
    video = load_video(capture(tmp_path, cameras, depths=["depth0", "depth1"]))
    for view, moment in video.samples():
        depth = video.source.read(view, moment).depth
        assert depth is not None
        assert abs(float(depth.mean()) - 1 - float(video.times[moment])) < 2e-3


def test_chosen_frames_are_chosen_from_the_paired_ones(tmp_path: Path) -> None:
    cameras = [every(without=DROPPED[c]) for c in range(CAMERAS)]
    source = capture(tmp_path, cameras)
    video = load_video(source, LoadOptions(first_frame=5, frame_count=8, frame_step=2))
    assert np.allclose(video.times.numpy(), (5 + 2 * np.arange(8)) / FPS, atol=1e-4) and video.fps == FPS / 2
    assert video.available[0].tolist() == [False, False, False, True, True, True, True, True]
    for view, moment in video.samples():
        assert abs(cameras[view][shown(video, view, moment)] - float(video.times[moment])) < 1e-3
    without = load_video(source, LoadOptions(first_frame=5, frame_count=5))
    assert without.cameras.names == ("cam01", "cam02", "cam03")


@pytest.mark.parametrize("stamp", [2**62, -(2**62), 2**63 - 1])
def test_times_beyond_reason_leave_the_numbers(stamp: int) -> None:
    stamps = tuple(sorted([0, 1, 2, stamp]))
    facts = VideoFacts(SIZE, 4, FPS, stamps, (0,), unit=Fraction(1, 1000))
    assert facts.nanoseconds() == [round(1e9 / FPS) * i for i in range(4)]
    assert pair_videos({"a": facts.nanoseconds(), "b": every_ns(4)}, []) is None


def every_ns(count: int) -> list[int]:
    return [round(1e9 * t) for t in every(count=count)]


@pytest.mark.parametrize("seed", range(8))
def test_any_times_are_paired_within_half_a_frame(seed: int) -> None:
    """Random rates, offsets, jitter and drops: each frame is near its moment, and no moment is without frames."""
    generator = np.random.default_rng(seed)
    views: list[list[int]] = []
    for _ in range(int(generator.integers(1, 6))):
        times = np.arange(200) * 1e9 / generator.choice([24, 25, 29.97, 30, 60]) + generator.uniform(0, 1e9)
        times += generator.uniform(-3e6, 3e6, len(times))
        views.append(sorted(times[generator.random(len(times)) > 0.1].astype(np.int64).tolist()))
    paired = pair(views)
    assert (np.diff(paired.times) > 0).all()
    assert {m for frames in paired.frames for m in frames} == set(range(len(paired.times)))
    for stamps, frames, lag, unused in zip(views, paired.frames, paired.lags, paired.unused, strict=True):
        off = [stamps[n] - lag - int(paired.times[m]) for m, n in frames.items()]
        assert max(map(abs, off)) <= 0.521 * paired.period
        assert list(frames.values()) == sorted(set(frames.values())) and len(frames) + unused == len(stamps)
        assert unused <= 0.05 * len(stamps)


def studio(folder: Path, cameras: Sequence[Sequence[float]]) -> Path:
    """A capture folder with a Calib.toml, as studios leave it."""
    tables: list[str] = []
    for c, times in enumerate(cameras):
        write(folder / "videos" / f"c{c}.mp4", times)
        tables.append(
            f"[c{c}]\nname = 'c{c}'\nsize = [{SIZE[0]}, {SIZE[1]}]\ndistortions = [0.0, 0.0, 0.0, 0.0]\n"
            f"matrix = [[40.0, 0.0, 15.5], [0.0, 40.0, 15.5], [0.0, 0.0, 1.0]]\n"
            f"rotation = [1.2, {1.2 * (c - 1)}, {-1.2 * (c - 1)}]\ntranslation = [{0.1 * c}, 0.2, 4.0]\n"
        )
    (folder / "Calib.toml").write_text("\n".join(tables))
    return folder


def test_captures_of_studios_are_converted_by_time(tmp_path: Path) -> None:
    cameras = [every(without=DROPPED[c]) for c in range(3)]
    conversion = convert_capture(
        studio(tmp_path, cameras), tmp_path / "out", CaptureConfig(makes_masks=False)
    )
    said = " ".join(step.note for step in conversion)
    assert "45 of 60 frames are in all videos" in said and "c0.mp4 lacks 5" in said
    video = load_video(tmp_path / "out")
    there = [i for i in range(FRAMES) if not any(i in DROPPED[c] for c in range(3))]
    assert video.moments == len(there) and bool(video.available.all())
    assert (
        np.allclose(video.times.numpy(), np.array(there) / FPS, atol=1e-4)
        and abs((video.fps or 0) - FPS) < 0.1
    )
    for view, moment in video.samples():
        level = float(video.source.read(view, moment).image.float().mean())
        frame = cameras[view].index(there[moment] / FPS)
        assert abs(level - 12 - 3 * frame) < 3, (view, moment)
    assert not any("frame_count" in w for w in video.warnings)


def test_captures_without_a_common_frame_are_refused(tmp_path: Path) -> None:
    early, late = every(without=range(30, 59)), every(count=29, start=1.0)
    with pytest.raises(InputError, match=r"no frame in common.*CAP-262"):
        next(convert_capture(studio(tmp_path, [early, late, early]), tmp_path / "out"))


def test_conversions_of_uneven_times_keep_them(tmp_path: Path) -> None:
    times = every(without=range(20, 35))
    source = load_video(capture(tmp_path, [times] * 3))
    for _ in convert_dataset(source, tmp_path / "out"):
        pass
    made = load_video(tmp_path / "out")
    assert np.allclose(made.times.numpy(), times, atol=1e-4) and made.fps == source.fps
    assert not any("frame_count" in w for w in made.warnings)


def test_a_rate_that_is_stated_otherwise_is_said(tmp_path: Path) -> None:
    cameras = [every(without=DROPPED[c]) for c in range(CAMERAS)]
    video = load_video(capture(tmp_path, cameras, fps=27.5))
    assert abs((video.fps or 0) - FPS) < 0.1
    assert any("states 27.5 frames per second" in w and "30 per second" in w for w in video.warnings)


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    """Readers describe files anew each time; what assembling changes stays in the description it was given."""
    source = capture(tmp_path, [every(without=DROPPED[c]) for c in range(2)])
    described = folder.read(source, LoadOptions())
    first, second = assemble(described, LoadOptions()), load_video(source)
    assert first.times.tolist() == second.times.tolist()
    assert first.available.tolist() == second.available.tolist()
