"""Masks in every usual encoding give the same subject, and how they were read is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.capture.options import LoadOptions
from engine.capture.readers import load_video, write_cameras_json
from engine.errors import InputError
from engine.files.folders import visible
from engine.files.mask_layers import load_layers
from engine.files.masks import encoding_of_files, read_mask
from engine.io.mask_folder import load_masks
from engine.scene.cameras import Cameras
from engine.scene.video import MultiViewVideo

Array = NDArray[Any]
SIZE = (64, 48)
COUNT = 30
DAVIS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128]


def objects(frame: int) -> Array:
    """Labels [H, W]: two objects that touch and move; the second is out of sight at the end, both in frame 0."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    labels = np.zeros(rows.shape, dtype=np.uint8)
    if frame:
        labels[(columns - 20 - frame // 3) ** 2 + (rows - 20) ** 2 < 121] = 1
    if 0 < frame < 20:
        labels[(abs(columns - 36 - frame // 3) < 8) & (abs(rows - 28) < 9)] = 2
    return labels


def soft(labels: Array) -> Array:
    """The same with smooth edges, 255 inside."""
    wide = Image.fromarray((labels > 0) * np.uint8(255))
    small = wide.resize((SIZE[0] // 2, SIZE[1] // 2), Image.Resampling.BICUBIC)
    return np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC))


def palette(labels: Array, colors: list[int]) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(colors)
    return image


def alpha(colors: Array, values: Array) -> Image.Image:
    return Image.fromarray(np.dstack([colors, values]))


def white(labels: Array) -> Array:
    return (labels > 0) * np.uint8(255)


def photo(labels: Array) -> Array:
    return np.random.default_rng(int(labels.sum())).integers(0, 255, (*labels.shape, 3), np.uint8)


PNG: dict[str, Callable[[Array], Image.Image]] = {
    "gray": lambda o: Image.fromarray(white(o)),
    "gray, soft": lambda o: Image.fromarray(soft(o)),
    "one bit": lambda o: Image.fromarray(white(o)).convert("1"),
    "0 and 1": lambda o: Image.fromarray((o > 0) * np.uint8(1)),
    "0 and 128": lambda o: Image.fromarray((o > 0) * np.uint8(128)),
    "0 and 254": lambda o: Image.fromarray((o > 0) * np.uint8(254)),
    "half, soft": lambda o: Image.fromarray(soft(o) // 2),
    "labels": lambda o: Image.fromarray(o),
    "labels spread over gray": lambda o: Image.fromarray(o * np.uint8(85)),
    "labels up to white": lambda o: Image.fromarray((o * 127.5).astype(np.uint8)),
    "labels with a border of 255": lambda o: Image.fromarray(np.where(np.roll(o, 1, 1) < o, np.uint8(255), o)),
    "palette, DAVIS": lambda o: palette(o, DAVIS),
    "palette, first color not black": lambda o: palette(o, [68, 1, 84, 30, 150, 130, 253, 231, 36]),
    "palette of grays, white first": lambda o: palette((o == 0) * np.uint8(1), [255, 255, 255, 0, 0, 0]),
    "palette of grays, ramp": lambda o: palette(o, [i // 3 for i in range(768)]),
    "palette, colors in another order": lambda o: palette(2 - o, [0, 128, 0, 128, 0, 0, 0, 0, 0]),
    "16 bits": lambda o: Image.fromarray((o > 0) * np.uint16(65535)),
    "16 bits, soft": lambda o: Image.fromarray(soft(o).astype(np.uint16) * 257),
    "16 bits, soft, 12 used": lambda o: Image.fromarray(soft(o).astype(np.uint16) * 16),
    "16 bits, labels": lambda o: Image.fromarray(o.astype(np.uint16)),
    "16 bits, labels by class": lambda o: Image.fromarray(np.array([0, 26001, 26002], np.uint16)[o]),
    "16 bits, 255": lambda o: Image.fromarray((o > 0) * np.uint16(255)),
    "rgb": lambda o: Image.fromarray(np.dstack([white(o)] * 3)),
    "rgb, labels": lambda o: Image.fromarray(np.dstack([o] * 3)),
    "rgb, red": lambda o: Image.fromarray(np.dstack([white(o), 0 * o, 0 * o])),
    "rgb, colors": lambda o: palette(o, DAVIS).convert("RGB"),
    "rgba, opaque": lambda o: alpha(np.dstack([white(o)] * 3), np.full_like(o, 255)),
    "rgba, opaque labels": lambda o: alpha(np.dstack([o] * 3), np.full_like(o, 255)),
    "rgba, transparent": lambda o: alpha(np.dstack([white(o)] * 3), 0 * o),
    "rgba, white": lambda o: alpha(np.full((*o.shape, 3), 255, np.uint8), white(o)),
    "rgba, cut out": lambda o: alpha(photo(o), soft(o)),
    "rgba, alpha 0 and 1": lambda o: alpha(np.dstack([white(o)] * 3), (o > 0) * np.uint8(1)),
    "gray and alpha": lambda o: alpha(0 * o, white(o)),
    "gray and opaque alpha": lambda o: alpha(white(o), np.full_like(o, 255)),
}  # fmt: skip
TIFF: dict[str, Callable[[Array], Image.Image]] = {
    "float, 0 and 1": lambda o: Image.fromarray((o > 0).astype(np.float32)),
    "float, soft": lambda o: Image.fromarray(soft(o).astype(np.float32) / 255),
    "float, labels": lambda o: Image.fromarray(o.astype(np.float32)),
    "float, up to 255": lambda o: Image.fromarray(soft(o).astype(np.float32)),
    "32 bits, labels": lambda o: Image.fromarray(o.astype(np.int32)),
}
JPEG: dict[str, Callable[[Array], Image.Image]] = {
    "jpeg": lambda o: Image.fromarray(white(o)),
    "jpeg, rgb": lambda o: Image.fromarray(np.dstack([white(o)] * 3)),
    "jpeg, 0 and 128": lambda o: Image.fromarray((o > 0) * np.uint8(128)),
}
KINDS = (
    [(n, ".png", m) for n, m in PNG.items()]
    + [(n, ".tif", m) for n, m in TIFF.items()]
    + [(n, ".jpg", m) for n, m in JPEG.items()]
)
# nothing needs to be said about these
PLAIN = (
    "gray", "gray, soft", "one bit", "palette of grays, white first", "16 bits, 255", "float, up to 255", "rgb", "jpeg",
    "jpeg, rgb",
)  # fmt: skip
every_kind = pytest.mark.parametrize(("name", "suffix", "make"), KINDS, ids=[k[0] for k in KINDS])


def capture(
    folder: Path, suffix: str, make: Callable[[Array], Image.Image], labels: Callable[[int], Array] = objects
) -> Path:
    """A moving camera with COUNT images and their masks."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    frames: list[dict[str, Any]] = []
    for i in range(COUNT):
        Image.new("RGB", SIZE, (200, 120, 90)).save(folder / f"images/{i:03}.png")
        make(labels(i)).save(folder / f"masks/{i:03}{suffix}")
        pose = np.eye(4)
        pose[0, 3] = i / 10
        files = {"file_path": f"images/{i:03}.png", "mask_path": f"masks/{i:03}{suffix}"}
        frames.append(files | {"transform_matrix": pose.tolist(), "time": i / COUNT})
    about = {"w": SIZE[0], "h": SIZE[1], "fl_x": 60.0, "cx": SIZE[0] / 2, "cy": SIZE[1] / 2, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(about))
    return folder


def read_masks(video: MultiViewVideo) -> list[Array]:
    found = {m: video.source.read(v, m).mask for v, m in video.samples()}
    masks = [found[m] for m in sorted(found)]
    return [mask.numpy() for mask in masks if mask is not None]


def notes_on_masks(video: MultiViewVideo) -> list[str]:
    return [note for note in video.notes if note.startswith("Masks:")]


@every_kind
def test_every_encoding_gives_the_same_subject(
    tmp_path: Path, name: str, suffix: str, make: Callable[[Array], Image.Image]
) -> None:
    video = load_video(capture(tmp_path, suffix, make))
    masks = read_masks(video)
    assert video.has_masks and len(masks) == COUNT
    for frame, mask in enumerate(masks):
        if "border" in name:
            assert ((mask > 127) == (objects(frame) > 0)).all()
        elif "soft" in name or "cut out" in name or "up to 255" in name:
            assert (abs(mask.astype(int) - soft(objects(frame))) <= 3).all()
        elif suffix == ".jpg":
            assert ((mask > 127) == (objects(frame) > 0)).mean() > 0.998
            assert abs(float(mask.mean()) - float(white(objects(frame)).mean())) < 1
        else:
            assert (mask == white(objects(frame))).all()
    assert not [w for w in video.warnings if "masks" in w]
    assert len(notes_on_masks(video)) == (name not in PLAIN)


@every_kind
def test_folders_of_masks_are_read_alike(
    tmp_path: Path, name: str, suffix: str, make: Callable[[Array], Image.Image], caplog: Any
) -> None:
    video = load_video(capture(tmp_path, suffix, make))
    with caplog.at_level("INFO", "gs4d"):
        masks = load_masks(tmp_path / "masks", None, any_number=True)
    assert all((a.numpy() * 255 == b).all() for a, b in zip(masks, read_masks(video), strict=True))
    assert [r.getMessage() for r in caplog.records if "Masks" in r.getMessage()] == notes_on_masks(video)


@every_kind
def test_subjects_that_come_late_are_no_surprise(
    tmp_path: Path, name: str, suffix: str, make: Callable[[Array], Image.Image]
) -> None:
    """One frame in thirty, between those that are looked at first."""
    video = load_video(capture(tmp_path, suffix, make, lambda i: objects(i) if i == 3 else 0 * objects(i)))
    shares = [float((mask > 127).mean()) for mask in read_masks(video)]
    assert shares[3] > 0.1
    # the noise of a JPEG file is not a subject either
    assert max(shares[:3] + shares[4:]) == 0


# without their alpha these are photos, or white
@pytest.mark.parametrize("name", [n for n in PNG if n not in ("rgba, cut out", "rgba, white")])
@pytest.mark.parametrize("full", [False, True])
def test_masks_that_are_all_empty_or_all_full_are_refused(tmp_path: Path, name: str, full: bool) -> None:
    folder = capture(tmp_path, ".png", PNG[name], lambda i: np.full_like(objects(i), full))
    for read in (load_video, lambda path: load_masks(path / "masks", None, any_number=True)):
        with pytest.raises(InputError) as caught:
            read(folder)
        # a label that every pixel has is all there is
        wanted = ("FIL-130", "FIL-131") if full else ("FIL-130",)
        assert caught.value.code in wanted and f"{COUNT} masks" in str(caught.value)
    assert not load_video(folder, LoadOptions(background="keep")).has_masks


def test_darkness_is_no_subject(tmp_path: Path) -> None:
    """Labels in JPEG files are lost in its noise: they cannot be told from a black image."""
    with pytest.raises(InputError, match=r"all empty: values 0.*FIL-130"):
        load_video(capture(tmp_path, ".jpg", lambda o: Image.fromarray(o)))


def test_files_of_a_folder_may_differ(tmp_path: Path) -> None:
    """Programs that make PNG files smaller choose a mode for each."""

    def make(labels: Array) -> Image.Image:
        kinds = ["gray", "one bit", "rgb", "palette of grays, white first", "rgba, opaque"]
        return PNG[kinds[int(labels.sum()) % len(kinds)]](labels)

    for frame, mask in enumerate(read_masks(load_video(capture(tmp_path, ".png", make)))):
        assert (mask == white(objects(frame))).all()


def test_images_that_are_no_masks_are_doubted(tmp_path: Path) -> None:
    video = load_video(capture(tmp_path, ".png", lambda o: Image.fromarray(photo(o) // 2 + 60)))
    assert any("neither subject nor background" in w for w in video.warnings)


def test_opaque_alpha_of_images_is_no_mask(tmp_path: Path) -> None:
    folder = capture(tmp_path, ".png", PNG["gray"])
    for opaque in (True, False):
        for i, file in enumerate(visible(folder / "images")):
            values = np.full_like(objects(i), 255) if opaque else white(objects(i))
            alpha(np.asarray(Image.open(file).convert("RGB")), values).save(file)
        about = json.loads((folder / "transforms.json").read_text())
        for frame in about["frames"]:
            frame.pop("mask_path", None)
        (folder / "transforms.json").write_text(json.dumps(about))
        video = load_video(folder)
        assert video.has_masks == (not opaque) == bool(read_masks(video))
        assert (video.background is None) == opaque
        assert any("alpha channel is constant" in note for note in video.notes) == opaque


def video(path: Path, frames: list[Array], codec: str = "libx264", pixels: str = "yuv420p") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        for values in frames:
            layout = "rgba" if values.shape[-1] == 4 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format=layout)))
        container.mux(stream.encode())
    return path


def rig_of_videos(folder: Path, views: list[list[Array]], masks: list[list[Array]] | None) -> Path:
    """Cameras with one video each; frames with alpha are stored without loss."""
    names = [f"cam{i}" for i in range(len(views))]
    has_alpha = views[0][0].shape[-1] == 4
    for i, name in enumerate(names):
        options = ("png", "rgba") if has_alpha else ("libx264", "yuv420p")
        video(folder / f"videos/{name}.mov", views[i], *options)
        if masks is not None:
            video(folder / f"masks/{name}.mp4", masks[i])
    poses = torch.eye(4, dtype=torch.float64).repeat(len(names), 1, 1)
    poses[:, 0, 3] = torch.arange(len(names)).double()
    K = torch.tensor([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]], dtype=torch.float64)
    files = [f"masks/{n}.mp4" for n in names]
    write_cameras_json(
        folder,
        Cameras(poses, K.repeat(len(names), 1, 1), (SIZE,) * len(names), tuple(names)),
        30.0,
        videos=[f"videos/{n}.mov" for n in names],
        masks=None if masks is None else files,
        frame_count=len(views[0]),
    )
    return folder


@pytest.mark.parametrize("color", [(255, 255, 255), (128, 128, 128), (255, 0, 0)])
def test_mask_videos_are_read_by_what_they_show(tmp_path: Path, color: tuple[int, int, int]) -> None:
    """The subject comes into sight in the third frame of the second camera only."""
    images = [np.full((*SIZE[::-1], 3), 90, np.uint8)] * 4
    truth = [[0 * objects(1)] * 4, [0 * objects(1)] * 2 + [objects(1), objects(2)]]
    masks = [[(labels > 0)[..., None] * np.array(color, np.uint8) for labels in view] for view in truth]
    read = load_video(rig_of_videos(tmp_path, [images, images], masks))
    for view, moment in read.samples():
        mask = read.source.read(view, moment).mask
        assert mask is not None and ((mask.numpy() > 127) == (truth[view][moment] > 0)).mean() > 0.99
    assert bool(notes_on_masks(read)) == (color != (255, 255, 255))


def test_mask_videos_without_a_subject_are_refused(tmp_path: Path) -> None:
    images = [np.full((*SIZE[::-1], 3), 90, np.uint8)] * 4
    with pytest.raises(InputError, match=r"8 masks, such as 'masks/cam0\.mp4', are all empty"):
        load_video(rig_of_videos(tmp_path, [images] * 2, [[0 * images[0]] * 4] * 2))


def test_opaque_alpha_of_videos_is_no_mask(tmp_path: Path) -> None:
    color = np.full((*SIZE[::-1], 3), 90, np.uint8)
    for name, labels in {"opaque": [1, 1, 1], "cut out": [0, 0, 1]}.items():
        alphas = [np.full_like(objects(1), 255) if opaque else white(objects(1)) for opaque in labels]
        alphas = alphas if name == "opaque" else [0 * alphas[0], 0 * alphas[0], alphas[0]]
        views = [[np.dstack([color, values]) for values in alphas]] * 2
        read = load_video(rig_of_videos(tmp_path / name, views, None))
        assert read.has_masks == (name == "cut out") == (read.source.read(0, 2).mask is not None)
        assert any("alpha channel is constant" in note for note in read.notes) == (name == "opaque")


def test_reported_masks_show_the_subject(reported: Callable[..., list[Path]]) -> None:
    """The captures differ only in the encoding of their masks."""
    truth: list[Array] = []
    for folder in reported("06_mask_encodings", "grey") + reported("06_mask_encodings"):
        video = load_video(folder)
        found = [video.source.read(v, m).mask for v, m in video.samples()]
        masks = [mask.numpy().astype(int) for mask in found if mask is not None]
        assert len(masks) == len(video.samples()), folder.name
        truth = truth or masks
        for wanted, mask in zip(truth, masks, strict=True):
            assert ((wanted > 127) == (mask > 127)).mean() > 0.99, folder.name
            assert abs(wanted - mask).mean() < 12, folder.name
        said = notes_on_masks(video)
        assert len(said) == 1 or folder.name.startswith(("grey", "gray", "jpg", "jpeg", "rgb", "bit", "one"))


def test_one_mask_file_is_read_by_what_others_show(tmp_path: Path) -> None:
    files = [(tmp_path / f"{i}.png", f"{i}.png") for i in range(3)]
    for i, (path, _) in enumerate(files):
        Image.fromarray(objects(i)).save(path)
    encoding = encoding_of_files(files)
    assert encoding.white is None and "0, 1 and 2" in encoding.note
    assert load_layers(*files[0]).values.max() == 0
    assert (read_mask(*files[2], SIZE, encoding) == white(objects(2))).all()
