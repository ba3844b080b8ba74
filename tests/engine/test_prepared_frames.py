"""Prepared frames: the same bits as the capture's files, written whole or not at all, in limited space."""

import errno
import gc
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture import frame_file, prepared_folder, prepared_frames
from engine.capture.depth_maps import DepthFile
from engine.capture.frames import FrameStore
from engine.capture.prepared_folder import PreparedFolder
from engine.capture.readers import LoadOptions, load_video
from engine.capture.undistort import Distortion
from engine.capture.video_file import VideoFile, probe
from engine.capture.view_images import ImageFile, ImageView, Lens, VideoView
from engine.errors import InputError
from engine.files.atomic import machine_name
from engine.messages import returned
from engine.scene import Frame
from tests.engine.test_frames import capture, mask_picture, write_video
from tests.memory import needs_linux, peak, start_measuring
from tests.video_files import write_hdr, write_interlaced, write_with_alpha

FRAME = 64 * 48 * 3


def video_view(path: Path, mask: Path | None = None, **more) -> VideoView:
    facts = probe(path, path.name)
    drawn = None if mask is None else VideoFile(mask, mask.name, probe(mask, mask.name))
    numbers = more.pop("numbers", dict(enumerate(range(facts.frames))))
    return VideoView(VideoFile(path, path.name, facts), numbers, more.pop("size", facts.size), drawn, **more)


def plain_view(folder: Path) -> VideoView:
    return video_view(write_video(folder / "plain.mp4", 30))


def smaller_view_of_every_third_frame(folder: Path) -> VideoView:
    path = write_video(folder / "large.mp4", 30, gop=250, size=(128, 96))
    return video_view(path, numbers={i: 3 * i for i in range(10)}, size=(64, 48))


def masked_view(folder: Path) -> VideoView:
    mask = write_video(folder / "mask.mp4", 20, draw=mask_picture)
    return video_view(write_video(folder / "image.mp4", 20), mask)


def alpha_view(folder: Path) -> VideoView:
    return video_view(write_with_alpha(folder / "alpha.webm", "libvpx-vp9"))


def hdr_view(folder: Path) -> VideoView:
    path = write_hdr(folder / "hdr.mkv", [(10, 200, 90), (250, 250, 250), (30, 60, 250)], "HLG", frames=4)
    return video_view(path)


def interlaced_view(folder: Path) -> VideoView:
    return video_view(write_interlaced(folder / "interlaced.mp4", bottom_first=False))


def bent_view(folder: Path) -> VideoView:
    K = (60.0, 0.0, 32.0, 0.0, 60.0, 24.0, 0.0, 0.0, 1.0)
    lens = Lens(Distortion("opencv", (-0.2, 0.05)), K, K)
    return video_view(write_video(folder / "bent.mp4", 12), lens=lens)


def image_view(folder: Path) -> ImageView:
    """Images with and without alpha, larger than they are read."""
    made = np.random.default_rng(0).integers(0, 255, (6, 96, 128, 4), dtype=np.uint8)
    files: dict[int, ImageFile] = {}
    for i, pixels in enumerate(made):
        path = folder / f"{i}.png"
        Image.fromarray(pixels if i % 2 else pixels[..., :3].copy()).save(path)
        files[2 * i] = ImageFile(path, path.name)
    return ImageView(files, (64, 48))


VIEWS = (
    plain_view,
    smaller_view_of_every_third_frame,
    masked_view,
    alpha_view,
    hdr_view,
    interlaced_view,
    bent_view,
    image_view,
)


def pairs_of(store: FrameStore) -> list[tuple[int, int]]:
    return [(v, m) for v, view in enumerate(store._views) for m in view.moments()]


def prepared(views, folder: Path, limit: int = 10**9, **more) -> FrameStore:
    """A store that is too large for its cache of nothing, with all of its frames prepared."""
    store = FrameStore(views, 0, prepared=PreparedFolder(folder, limit), **more)
    assert prepare(store) == ""
    return store


def prepare(store: FrameStore) -> str:
    assert store.prepared is not None
    return returned(store.prepared.prepare(store.prepared.missing(pairs_of(store))))


def assert_same(a: Frame, b: Frame) -> None:
    for ours, theirs in zip((a.image, a.mask, a.depth), (b.image, b.mask, b.depth), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(prepared_frames, "FILE_BYTES", 7 * FRAME)


@pytest.mark.parametrize("make", VIEWS, ids=lambda make: make.__name__)
def test_prepared_frames_have_the_bits_of_the_files(tmp_path: Path, make) -> None:
    view = make(tmp_path)
    direct, store = FrameStore([view], 0), prepared([view], tmp_path / "frames")
    pairs = pairs_of(store)
    for pair in [*pairs[::-2], *pairs]:
        assert_same(store.read(*pair), direct.read(*pair))
    assert store.decoded == 0, "every frame came from the prepared ones"


def test_depth_is_prepared_in_full_precision(tmp_path: Path) -> None:
    view = video_view(write_video(tmp_path / "clip.mp4", 4))
    values = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    np.save(tmp_path / "depth.npy", values)
    depths = [{1: DepthFile(tmp_path / "depth.npy", "depth.npy", 1.0)}]
    direct, store = FrameStore([view], 0, depths=depths), prepared([view], tmp_path / "frames", depths=depths)
    for moment in range(4):
        assert_same(store.read(0, moment), direct.read(0, moment))
    assert store.read(0, 1).depth is not None and store.decoded == 0


def test_a_capture_that_fits_into_the_cache_is_not_prepared(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path / "capture"), prepared=tmp_path / "frames")
    assert video.source.prepared is None
    options = LoadOptions(cache_megabytes=16, prepared_gigabytes=0)
    assert load_video(tmp_path / "capture", options, tmp_path / "frames").source.prepared is None
    assert not (tmp_path / "frames").exists()


def test_frames_are_prepared_once_for_all_that_read_them(tmp_path: Path) -> None:
    view = plain_view(tmp_path)
    prepared([view], tmp_path / "frames")
    again = FrameStore([view], 0, prepared=PreparedFolder(tmp_path / "frames", 10**9))
    assert again.prepared is not None and again.prepared.missing(pairs_of(again)) == []
    again.read(0, 17)
    assert again.decoded == 0


def test_a_capture_that_changed_is_prepared_again(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{i}.mp4", 14) for i in range(2)]
    prepared([video_view(path) for path in paths], tmp_path / "frames")
    write_video(paths[1], 14, gop=3)
    views = [video_view(path) for path in paths]
    store = FrameStore(views, 0, prepared=PreparedFolder(tmp_path / "frames", 10**9))
    assert store.prepared is not None
    missing = store.prepared.missing(pairs_of(store))
    assert store.prepared.count(missing) == 14, "the other video is as it was"
    assert prepare(store) == ""
    direct = FrameStore(views, 0)
    for pair in pairs_of(store):
        assert_same(store.read(*pair), direct.read(*pair))


def test_other_options_are_prepared_apart(tmp_path: Path) -> None:
    view = alpha_view(tmp_path)
    prepared([view], tmp_path / "frames")
    whole = FrameStore([view], 0, uses_masks=False, prepared=PreparedFolder(tmp_path / "frames", 10**9))
    assert whole.prepared is not None and len(whole.prepared.missing(pairs_of(whole))) > 0
    assert prepare(whole) == "" and whole.read(0, 3).mask is None


def test_a_canceled_preparation_keeps_whole_files_and_resumes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prepared_frames, "cores", lambda: 1)
    view = video_view(write_video(tmp_path / "clip.mp4", 40, gop=250))
    folder = tmp_path / "frames"
    store = FrameStore([view], 0, prepared=PreparedFolder(folder, 10**9))
    assert store.prepared is not None
    missing = store.prepared.missing(pairs_of(store))
    work = store.prepared.prepare(missing)
    for done in work:
        if done >= 15:
            break
    work.close()
    left = store.prepared.missing(pairs_of(store))
    assert 0 < len(left) < len(missing)
    assert not list(folder.glob("*.partial")), "what is not whole is removed"
    direct = FrameStore([view], 0)
    for pair in pairs_of(store):
        assert_same(store.read(*pair), direct.read(*pair))
    assert prepare(store) == ""
    assert store.prepared.missing(pairs_of(store)) == []


def test_progress_counts_every_frame_once(tmp_path: Path) -> None:
    store = FrameStore([plain_view(tmp_path)], 0, prepared=PreparedFolder(tmp_path / "frames", 10**9))
    assert store.prepared is not None
    numbers = store.prepared.missing(pairs_of(store))
    counts = list(store.prepared.prepare(numbers))
    assert counts == sorted(counts) and counts[-1] == 30 == store.prepared.count(numbers)


def test_a_full_disk_loses_nothing_and_is_left_as_it_was(tmp_path: Path, monkeypatch) -> None:
    view, folder = plain_view(tmp_path), tmp_path / "frames"
    written, whole = [], frame_file.FrameWriter.add

    def add(self, frame):
        written.append(frame)
        if len(written) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, frame)

    monkeypatch.setattr(frame_file.FrameWriter, "add", add)
    store = FrameStore([view], 0, prepared=PreparedFolder(folder, 10**9))
    note = prepare(store)
    assert "read from the capture's files" in note and "the disk is full" in note
    assert not list(folder.glob("*.frames")), "others need the space"
    assert store.prepared is not None and not any(store.prepared.has_all([pair]) for pair in pairs_of(store))
    direct = FrameStore([view], 0)
    for pair in pairs_of(store):
        assert_same(store.read(*pair), direct.read(*pair))


def test_a_disk_or_limit_without_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    view = plain_view(tmp_path)
    store = FrameStore([view], 0, prepared=PreparedFolder(tmp_path / "frames", 10 * FRAME))
    assert "limit of prepared frames" in prepare(store)
    usage = shutil.disk_usage(tmp_path)._replace(free=prepared_folder.RESERVE + 5 * FRAME)
    monkeypatch.setattr(prepared_folder.shutil, "disk_usage", lambda path: usage)
    store = FrameStore([view], 0, prepared=PreparedFolder(tmp_path / "frames", 10**9))
    assert "to spare" in prepare(store)
    assert not list(tmp_path.glob("frames/*.frames"))


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch) -> None:
    view, folder = plain_view(tmp_path), tmp_path / "frames"
    prepared([view], folder)

    def refused(*args, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(prepared_folder.os, "utime", refused)
    monkeypatch.setattr(prepared_folder, "open", refused, raising=False)
    monkeypatch.setattr(prepared_frames, "open", refused, raising=False)
    store = FrameStore([view], 0, prepared=PreparedFolder(folder, 10**9))
    assert prepare(store) == "" and store.read(0, 9).image.shape == (48, 64, 3) and store.decoded == 0
    other = FrameStore([bent_view(tmp_path)], 0, prepared=PreparedFolder(folder, 10**9))
    assert "Read-only file system" in prepare(other)
    assert other.read(0, 3).image.shape == (48, 64, 3)


def test_the_least_recently_used_files_go_first_and_none_in_use(tmp_path: Path) -> None:
    views = [video_view(write_video(tmp_path / f"{i}.mp4", 7)) for i in range(3)]
    folder, each = tmp_path / "frames", 7 * FRAME
    limit = int(2.5 * each)
    old, young = prepared(views[:1], folder, limit), prepared(views[1:2], folder, limit)
    names = [prepared_names(store) for store in (old, young)]
    for age, name in zip((50, 100), (names[0], names[1]), strict=True):
        os.utime(folder / name, (age, age))
    # in use: nothing can go
    third = FrameStore(views[2:], 0, prepared=PreparedFolder(folder, limit))
    assert "limit" in prepare(third)
    assert {p.name for p in folder.glob("*.frames")} == set(names)
    del old, young
    gc.collect()
    assert prepare(third) == ""
    assert {p.name for p in folder.glob("*.frames")} == {names[1], prepared_names(third)}


def test_marks_of_a_killed_process_with_this_number_hold_nothing(tmp_path: Path) -> None:
    """In a container that is started again, process numbers come back."""
    folder = PreparedFolder(tmp_path, limit=100)
    folder.file("old").write_bytes(bytes(80))
    left = tmp_path / f".in-use.{machine_name()}-{os.getpid()}-0123abcd"
    left.write_text(f"{folder.file('old').name}\n")
    assert folder.make_room(50, []) == "" and not left.exists() and not folder.file("old").exists()


def prepared_names(store: FrameStore) -> str:
    assert store.prepared is not None
    return next(f"{key}.frames" for key, _ in store.prepared._found.values())


def test_files_that_vanish_or_are_damaged_are_not_missed(tmp_path: Path) -> None:
    view, folder = plain_view(tmp_path), tmp_path / "frames"
    store, direct = prepared([view], folder), FrameStore([view], 0)
    shutil.rmtree(folder)
    for pair in pairs_of(store):
        assert_same(store.read(*pair), direct.read(*pair))
    prepared([view], folder)
    for path in folder.glob("*.frames"):
        path.write_bytes(path.read_bytes()[:-5])
    again = FrameStore([view], 0, prepared=PreparedFolder(folder, 10**9))
    for pair in pairs_of(again):
        assert_same(again.read(*pair), direct.read(*pair))
    assert prepare(again) == "" and again.prepared is not None and not again.prepared.missing(pairs_of(again))


def test_a_frame_that_cannot_be_decoded_says_so_when_it_is_read(tmp_path: Path) -> None:
    view = image_view(tmp_path)
    view.images[4].path.write_bytes(b"no image")
    other = video_view(write_video(tmp_path / "clip.mp4", 8))
    store = prepared([other, view], tmp_path / "frames")
    assert store.read(0, 3).image.shape == (48, 64, 3)
    with pytest.raises(InputError, match=r"4\.png|2\.png"):
        store.read(1, 4)


def test_a_file_that_another_process_wrote_meanwhile_is_used(tmp_path: Path, monkeypatch) -> None:
    view, folder = plain_view(tmp_path), tmp_path / "frames"
    store = FrameStore([view], 0, prepared=PreparedFolder(folder, 10**9))
    assert store.prepared is not None
    numbers = store.prepared.missing(pairs_of(store))
    prepared([view], folder)

    def refused(path):
        raise InputError(
            "FIL-003", f"{path.name} was not written: Permission denied. Choose a writable folder."
        )

    monkeypatch.setattr(prepared_frames, "write_atomically", refused)
    assert returned(store.prepared.prepare(numbers)) == ""
    assert store.prepared.has_all(pairs_of(store))


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders of other users are told by their owner")
def test_the_default_folder_is_nobody_elses(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(prepared_folder.tempfile, "tempdir", None)
    first = prepared_folder.default_folder()
    assert first.parent == tmp_path
    first.mkdir()
    first.chmod(0o777)
    assert prepared_folder.default_folder() not in (first, None)
    first.chmod(0o700)
    assert prepared_folder.default_folder() == first


@needs_linux
def test_memory_of_a_preparation_does_not_grow_with_the_video(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prepared_frames, "FILE_BYTES", 64 << 20)
    size = (640, 480)
    short, long = (write_video(tmp_path / f"{n}.mp4", n, size=size) for n in (20, 140))
    prepared([video_view(short)], tmp_path / "frames")
    before = start_measuring()
    store = prepared([video_view(long)], tmp_path / "frames")
    for moment in range(0, 140, 3):
        store.read(0, moment)
    grown = (peak() - before) / 2**20
    assert grown < 60, f"{grown:.0f} MB for {140 * 640 * 480 * 3 / 2**20:.0f} MB of frames"
