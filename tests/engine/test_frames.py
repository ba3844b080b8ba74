"""Frames on demand: the right frame however it is asked for, in bounded memory, from several threads."""

import os
import random
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from engine.capture.frames import FrameStore
from engine.capture.readers import LoadOptions, load_video, write_cameras_json
from engine.capture.undistort import Distortion
from engine.capture.video_file import OPEN_AT_ONCE, Handles, VideoFile, probe
from engine.capture.view_images import Lens, VideoView
from engine.errors import InputError
from engine.scene.cameras import Cameras, look_at
from engine.train.targets import Targets
from tests.video_files import set_display_matrix

SIZE = (64, 48)


def shade(frame: int) -> tuple[int, int]:
    """Two gray levels that say which frame this is (a number in base 12), robust to compression."""
    return 20 + 18 * (frame % 12), 20 + 18 * (frame // 12)


def picture(frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    low, high = shade(frame)
    image = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    image[:, : size[0] // 2] = low
    image[:, size[0] // 2 :] = high
    return image


def number_in(image: torch.Tensor) -> int:
    width = image.shape[1]
    low = float(image[:, 2 : width // 2 - 2].float().mean())
    high = float(image[:, width // 2 + 2 : -2].float().mean())
    return round((low - 20) / 18) + 12 * round((high - 20) / 18)


def mask_picture(i: int, size: tuple[int, int]) -> np.ndarray:
    """The same with a white line where `number_in` does not look: masks reach white."""
    drawn = picture(i, size)
    drawn[:, size[0] // 2 - 1 : size[0] // 2 + 1] = 255
    return drawn


def write_video(
    path: Path,
    frames: int,
    codec: str = "libx264",
    size: tuple[int, int] = SIZE,
    gop: int = 12,
    stamps: list[int] | None = None,
    options: dict[str, str] | None = None,
    draw: Callable[[int, tuple[int, int]], np.ndarray] = picture,
) -> Path:
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        # MPEG-2 allows whole frames only
        stream.codec_context.time_base = Fraction(1, 30 if codec == "mpeg2video" else 600)
        if codec == "libx264":
            stream.options = {"crf": "12", "bf": "3", "preset": "veryfast"}
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(i, size), format="rgb24")
            frame.pts = stamps[i] if stamps else i * 20
            frame.time_base = Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def store_of(paths: list[Path], megabytes: int = 16) -> FrameStore:
    views = []
    handles = Handles()
    for path in paths:
        facts = probe(path, path.name)
        views.append(
            VideoView(
                VideoFile(path, path.name, facts, handles), dict(enumerate(range(facts.frames))), facts.size
            )
        )
    return FrameStore(views, megabytes)


CONTAINERS = [
    ("clip.mp4", "libx264", 250, {}),
    ("clip.mp4", "libx264", 8, {}),
    ("clip.mkv", "libx264", 40, {}),
    ("clip.mov", "mpeg4", 12, {}),
    ("clip.avi", "mpeg4", 30, {}),
    ("clip.webm", "libvpx-vp9", 30, {}),
    ("fragmented.mp4", "libx264", 20, {"movflags": "frag_keyframe+empty_moov"}),
    ("clip.ts", "libx264", 25, {}),
    ("clip.mpg", "mpeg2video", 8, {}),
]


@pytest.mark.parametrize(("name", "codec", "gop", "options"), CONTAINERS, ids=lambda v: str(v))
def test_any_order_gives_the_frame_that_was_asked_for(
    tmp_path: Path, name: str, codec: str, gop: int, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, 60, codec, gop=gop, options=options)
    facts = probe(path, name)
    assert facts.frames == 60 and facts.size == SIZE and abs(facts.fps - 30) < 0.1
    video = VideoFile(path, name, facts)
    order = list(range(60))
    random.Random(3).shuffle(order)
    for index in [0, 59, 1, 58, *order]:
        frame = video.read(index).to_ndarray(format="rgb24")
        assert number_in(torch.from_numpy(frame)) == index


def test_uneven_times_do_not_confuse_the_numbers(tmp_path: Path) -> None:
    stamps = np.cumsum([20 + (13 * i * i) % 37 for i in range(60)]).tolist()
    path = write_video(tmp_path / "vfr.mp4", 60, stamps=stamps)
    video = VideoFile(path, "vfr.mp4", probe(path, "vfr.mp4"))
    for index in (31, 5, 59, 0, 44, 45, 12):
        assert number_in(torch.from_numpy(video.read(index).to_ndarray(format="rgb24"))) == index


def test_reading_forwards_never_seeks(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 100, gop=10)
    video = VideoFile(path, "clip.mp4", probe(path, "clip.mp4"))
    for index in range(100):
        video.read(index)
    assert video.seeks == 1, "the first read begins, no other"
    video.read(50)
    assert video.seeks == 2


def test_a_small_clip_is_decoded_once(tmp_path: Path) -> None:
    store = store_of([write_video(tmp_path / "clip.mp4", 48, gop=250)])
    order = list(range(48))
    random.Random(1).shuffle(order)
    for index in order * 3:
        assert number_in(store.read(0, index).image) == index
    assert store.decoded < 24, "what is decoded on the way is kept where the whole clip fits"


def test_masks_from_a_video_are_kept_with_the_frames_that_are_passed(tmp_path: Path) -> None:
    paths = [
        write_video(tmp_path / f"{name}.mp4", 30, gop=250, draw=draw)
        for name, draw in (("clip", picture), ("mask", mask_picture), ("gone", picture))
    ]
    handles = Handles(most=1)
    video, mask, other = (VideoFile(p, p.name, probe(p, p.name), handles) for p in paths)
    numbers = dict(enumerate(range(30)))
    store = FrameStore([VideoView(video, numbers, SIZE, mask), VideoView(other, numbers, SIZE)], 16)
    last = store.read(0, 29)
    assert store.read(1, 0).mask is None
    for index in range(29):
        frame = store.read(0, index)
        assert (
            frame.mask is not None
            and number_in(frame.image) == number_in(frame.mask.float()[..., None]) == index
        )
    assert number_in(last.image) == 29 and store.decoded == 2
    assert video.seeks == 1, "the file that is read is not closed for the mask, though one may be open"


def test_a_mask_that_is_damaged_on_the_way_is_said_where_it_is_asked_for(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 40, gop=250)
    mask = write_video(tmp_path / "mask.mp4", 20, gop=250, draw=mask_picture)
    video, short = (VideoFile(p, p.name, probe(p, p.name)) for p in (clip, mask))
    numbers = dict(enumerate(range(40)))
    late = {i: i + 10 if i < 20 else i - 20 for i in range(40)}
    store = FrameStore([VideoView(video, numbers, SIZE, short, mask_numbers=late)], 16)
    assert number_in(store.read(0, 39).image) == 39
    with pytest.raises(InputError, match="CAP-155"):
        store.read(0, 15)


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    import resource

    size = (640, 480)
    short = store_of([write_video(tmp_path / "short.mp4", 40, size=size)])
    long = store_of([write_video(tmp_path / "long.mp4", 143, size=size)])
    for index in range(40):
        short.read(0, index)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in [*range(143), *range(0, 143, 7)]:
        assert number_in(long.read(0, index).image) == index
        assert long.kept_bytes <= 16 * 2**20
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 40, f"{grown} MB for {143 * 640 * 480 * 3 / 2**20:.0f} MB of frames"


def test_threads_read_the_same_frames(tmp_path: Path) -> None:
    store = store_of([write_video(tmp_path / f"{i}.mp4", 60, gop=15) for i in range(3)])
    store._kept.room = 60 * SIZE[0] * SIZE[1] * 3  # a third of all frames: threads push each other's out
    wrong: list[tuple[int, int]] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(60):
            view, moment = choose.randrange(3), choose.randrange(60)
            if number_in(store.read(view, moment).image) != moment:
                wrong.append((view, moment))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(t.is_alive() for t in threads)
    assert wrong == []
    assert store.kept_bytes <= store._kept.room


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_open_files_are_bounded(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "0.mp4", 12)
    paths = [clip, *(tmp_path / f"{i}.mp4" for i in range(1, 30))]
    for path in paths[1:]:
        os.link(clip, path)
    store = store_of(paths)
    before = len(os.listdir("/proc/self/fd"))
    for moment in (0, 6, 3):
        for view in range(30):
            assert number_in(store.read(view, moment).image) == moment
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_AT_ONCE + 1
    store.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def rig(count: int, size: tuple[int, int] = SIZE) -> Cameras:
    poses = []
    for i in range(count):
        angle = 2 * np.pi * i / count
        position = torch.tensor([4 * np.cos(angle), 4 * np.sin(angle), 1.0])
        poses.append(look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])))
    K = torch.tensor([[60.0, 0, size[0] / 2], [0, 60.0, size[1] / 2], [0, 0, 1]], dtype=torch.float64)
    names = tuple(f"cam{i:02d}" for i in range(count))
    return Cameras(torch.stack(poses), K.repeat(count, 1, 1), (size,) * count, names)


def capture(
    folder: Path, count: int = 4, frames: int = 6, masks: bool = True, size: tuple[int, int] = SIZE
) -> Path:
    (folder / "videos").mkdir(parents=True)
    (folder / "masks").mkdir()
    cameras = rig(count, size)
    for name in cameras.names:
        write_video(folder / "videos" / f"{name}.mp4", frames, size=size)
        if masks:
            write_video(folder / "masks" / f"{name}.mp4", frames, draw=mask_picture)
    write_cameras_json(
        folder,
        cameras,
        30.0,
        videos=[f"videos/{n}.mp4" for n in cameras.names],
        masks=[f"masks/{n}.mp4" for n in cameras.names] if masks else None,
        frame_count=frames,
        near=1.0,
        far=9.0,
        background=(0.2, 0.4, 0.6),
        hold_out=("cam02",),
    )
    return folder


def test_what_is_written_as_cameras_json_is_read_back(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path / "capture"))
    cameras = rig(4)
    assert video.cameras.names == cameras.names and video.cameras.sizes == cameras.sizes
    assert torch.equal(video.cameras.K, cameras.K)
    assert torch.allclose(video.cameras.world_to_camera, cameras.world_to_camera, atol=1e-15)
    assert (video.near, video.far, video.fps) == (1.0, 9.0, 30.0)
    assert video.test_views == (2,) and video.views_to_train() == (0, 1, 3)
    assert video.background is not None and torch.allclose(video.background, torch.tensor([0.2, 0.4, 0.6]))
    frame = video.source.read(1, 4)
    assert video.has_masks and frame.mask is not None
    assert number_in(frame.image) == 4 and number_in(frame.mask[..., None]) == 4
    assert not list((tmp_path / "capture").glob(".*tmp"))


def test_picture_folders_may_stand_for_videos(tmp_path: Path) -> None:
    from PIL import Image

    cameras = rig(3)
    for name in cameras.names:
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(5):
            if (name, i) != ("cam01", 3):
                Image.fromarray(picture(i)).save(tmp_path / "images" / name / f"f_{7 + i:04d}.png")
    patterns = ["images/cam00", "images/cam01/f_%04d.png", "images/cam02"]
    write_cameras_json(tmp_path, cameras, 10.0, frames=patterns)
    video = load_video(tmp_path)
    assert video.moments == 5 and video.available.sum() == 14 and not bool(video.available[1, 3])
    assert [number_in(video.source.read(1, m).image) for m in (0, 1, 2, 4)] == [0, 1, 2, 4]
    assert "cam01 has 4" in " ".join(video.warnings)


def test_a_lens_is_straightened_as_pictures_are_read(tmp_path: Path) -> None:
    cameras = rig(2)
    (tmp_path / "videos").mkdir()
    for name in cameras.names:
        write_video(tmp_path / "videos" / f"{name}.mp4", 4)
    lens = Distortion("opencv", (-0.25, 0.05, 0.001, 0.0))
    write_cameras_json(
        tmp_path, cameras, 30.0, videos=[f"videos/{n}.mp4" for n in cameras.names], distortions=[lens, None]
    )
    video = load_video(tmp_path)
    plain = video.source.read(1, 2).image
    bent = video.source.read(0, 2).image
    assert not torch.equal(video.cameras.K[0], cameras.K[0]) and torch.equal(video.cameras.K[1], cameras.K[1])
    K, new = (tuple(k.flatten().tolist()) for k in (cameras.K[0], video.cameras.K[0]))
    by_hand = Lens(lens, K, new).straighten(plain.numpy())
    assert np.abs(by_hand.astype(int) - bent.numpy()).max() <= 1 and number_in(bent) == 2


def test_the_fingerprint_follows_the_files(tmp_path: Path) -> None:
    folder = capture(tmp_path / "capture", masks=False)
    first = load_video(folder).source.fingerprint()
    assert load_video(folder).source.fingerprint() == first
    os.utime(folder / "videos" / "cam01.mp4", ns=(1, 1))
    second = load_video(folder).source.fingerprint()
    assert second != first
    os.utime(folder / "cameras.json", ns=(1, 1))
    assert load_video(folder).source.fingerprint() != second


def test_options_choose_views_and_background(tmp_path: Path) -> None:
    folder = capture(tmp_path / "capture", masks=False)
    video = load_video(folder, LoadOptions(hold_out="cam00, cam03", background="black"))
    assert video.test_views == (0, 3) and video.background is not None and video.background.sum() == 0
    assert load_video(folder, LoadOptions(hold_out="")).test_views == ()
    assert load_video(folder, LoadOptions(background="keep")).background is None
    with pytest.raises(InputError, match="cam07"):
        load_video(folder, LoadOptions(hold_out="cam07"))
    with pytest.raises(InputError, match="6 frames"):
        load_video(folder, LoadOptions(first_frame=6))
    with pytest.raises(InputError, match="scale"):
        LoadOptions(scale=2.0)


def test_kept_pictures_are_whole(tmp_path: Path) -> None:
    """keep: nothing is cut out and put over another color, by whatever trains or measures with these frames."""
    folder = capture(tmp_path / "capture")
    cut, kept = load_video(folder), load_video(folder, LoadOptions(background="keep"))
    assert cut.has_masks and not kept.has_masks and kept.source.read(1, 4).mask is None
    whole = Targets(kept, torch.ones(3)).get(1, 4)
    assert torch.equal(whole.image * 255, cut.source.read(1, 4).image.float()) and whole.mask is None
    assert kept.source.fingerprint() != cut.source.fingerprint(), (
        "a training must not be resumed with the other"
    )


def test_a_file_that_vanishes_later_is_one_sentence(tmp_path: Path) -> None:
    folder = capture(tmp_path / "capture", masks=False)
    video = load_video(folder)
    (folder / "videos" / "cam01.mp4").unlink()
    with pytest.raises(InputError, match=r"cam01\.mp4"):
        video.source.read(1, 0)


@pytest.mark.parametrize(
    ("codec", "pixel_format", "matrix", "full"),
    [
        ("libx264", "yuv420p", 5, False),
        ("libx264", "yuv420p", 1, False),
        ("libx264", "yuv420p", 2, False),
        ("libx264", "yuvj420p", 5, True),
        ("libx264", "yuv444p", 1, True),
        ("mjpeg", "yuvj420p", 5, True),
    ],
)
def test_colours_follow_the_videos_own_tags(
    tmp_path: Path, codec: str, pixel_format: str, matrix: int, full: bool
) -> None:
    """Y CbCr made here from the constants of BT.601 (0.299, 0.114) and BT.709 (0.2126, 0.0722) comes out as RGB."""
    from engine.capture.video_pixels import to_pixels

    rgb = np.array([200.0, 90.0, 40.0])
    kr, kb = (0.2126, 0.0722) if matrix == 1 else (0.299, 0.114)
    luma = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    cb, cr = (rgb[2] - luma) / (2 * (1 - kb)), (rgb[0] - luma) / (2 * (1 - kr))
    y, u, v = (
        (luma, cb + 128, cr + 128)
        if full
        else (16 + luma * 219 / 255, 128 + cb * 224 / 255, 128 + cr * 224 / 255)
    )
    path = tmp_path / "colour.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        if codec == "libx264":
            stream.options = {"crf": "4"}
        for i in range(3):
            frame = av.VideoFrame(64, 48, pixel_format)
            for plane, value in zip(frame.planes, (y, u, v), strict=True):
                plane.update(bytes([round(float(value))]) * plane.buffer_size)
            frame.pts, frame.colorspace, frame.color_range = i, matrix, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = VideoFile(path, "colour.mkv", probe(path, "colour.mkv"))
    for size in ((64, 48), (32, 24)):
        assert np.abs(to_pixels(video.read(1), video.facts, size)[10, 10].astype(float) - rgb).max() <= 4


def test_a_turned_video_is_shown_upright(tmp_path: Path) -> None:
    """A phone held upright stores a lying picture and a matrix that turns it a quarter clockwise."""
    from engine.capture.video_pixels import to_pixels

    path = set_display_matrix(write_video(tmp_path / "clip.mp4", 5), (0, 1, -1, 0))
    facts = probe(path, "clip.mp4")
    assert facts.size == (SIZE[1], SIZE[0])
    image = to_pixels(VideoFile(path, "clip.mp4", facts).read(4), facts)
    assert image.shape == (SIZE[0], SIZE[1], 3)
    low, high = shade(4)
    assert abs(float(image[:28].mean()) - low) < 3 and abs(float(image[-28:].mean()) - high) < 3, (
        "left is now on top"
    )


def test_an_image_that_was_composited_already_is_not_composited_twice():
    from engine.capture.view_images import without_background

    rng = np.random.default_rng(0)
    own = rng.integers(0, 256, (12, 10, 3)).astype(np.float64)
    mask = np.zeros((12, 10), dtype=np.uint8)
    mask[2:10, 2:8] = 255
    mask[2:10, 2] = 96
    mask[2:10, 7] = 200
    share = mask[..., None] / 255
    stored = (own * share + 255 * (1 - share)).round().astype(np.uint8)
    again = without_background(stored, mask) * share + 255 * (1 - share)
    assert np.abs(again - stored).max() <= 1
    # the captured background is not one color: nothing is known about the edges
    captured = own.astype(np.uint8)
    assert without_background(captured, mask) is captured
