"""Captures of phone scanners: names of single images become file names, and foreign image formats are named."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from engine.capture.options import LoadOptions
from engine.capture.readers import load_video
from engine.capture.readers.listing import Place, number_images
from engine.cli import main
from engine.errors import InputError
from engine.files.images import image_size
from engine.files.paths import LONGEST_STEM, file_stems
from engine.io.image_files import load_images
from engine.io.mask_folder import load_masks


def test_reported_captures_are_converted(reported: Callable[..., list[Path]], tmp_path: Path) -> None:
    for source in reported("18_transforms"):
        video = load_video(source)
        if not bool(video.available.all()):
            continue
        out = tmp_path / source.name
        assert main(["import", "--source", str(source), "--out", str(out)]) == 0
        made = load_video(out)
        assert made.cameras.names == video.cameras.names
        assert made.cameras.world_to_camera.allclose(video.cameras.world_to_camera)
        small = load_video(source, LoadOptions(scale=made.cameras.sizes[0][1] / video.cameras.sizes[0][1]))
        for view, moment in made.samples():
            found, wanted = (each.source.read(view, moment).image.float() for each in (made, small))
            difference = found - wanted[: found.shape[0], : found.shape[1]]
            assert float(difference.abs().mean()) < 4, (source.name, view)


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["cam00", "Kamera ü", "a.b"], ["cam00", "Kamera ü", "a.b"]),
        (["images/frame_1", "images_frame_1"], ["images_frame_1", "images_frame_1_2"]),
        (["../x", "..", "", "/etc/passwd"], ["_x", "_", "__2", "_etc_passwd"]),
        (["A", "a", "a_2"], ["A", "a_2", "a_2_2"]),
        (["nul", "COM1.left", "c:d", "e?\n", "dot."], ["nul_", "COM1.left_", "c_d", "e__", "dot"]),
        (["caf\udce9"], ["caf_"]),
    ],
)
def test_any_names_become_different_file_names(names: list[str], stems: list[str]) -> None:
    assert file_stems(names) == stems


def test_long_names_become_file_names(tmp_path: Path) -> None:
    stems = file_stems(["ü" * 5000, "ü" * 5001])
    assert len(set(stems)) == 2
    for stem in stems:
        assert len(stem.encode()) <= LONGEST_STEM + 2
        (tmp_path / f"{stem}.mp4").touch()


# Formats ----------------------------------------------------------------------------------------------------------


def boxed(brand: bytes, *compatible: bytes) -> bytes:
    """The start of a file in boxes, as AVIF and HEIC are."""
    body = brand + bytes(4) + b"".join(compatible)
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


def tiff(values: NDArray[Any]) -> bytes:
    """A TIFF file of 32-bit floating point [H, W, C]."""
    height, width, channels = values.shape
    data = values.astype("<f4").tobytes()
    after = 8 + len(data)
    bits, formats = (
        struct.pack(f"<{channels}H", *[32] * channels),
        struct.pack(f"<{channels}H", *[3] * channels),
    )
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, after),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (339, 3, channels, after + len(bits)),
    ]
    table = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, after + len(bits) + len(formats)) + data + bits + formats + table


FOREIGN = {
    "AVIF": boxed(b"avif", b"mif1", b"miaf"),
    "an AVIF": boxed(b"mif1", b"avif"),
    "HEIC": boxed(b"heic", b"mif1"),
    "a HEIC": boxed(b"mif1", b"miaf"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "OpenEXR": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(40),
    "floating point in color": tiff(np.full((8, 8, 3), 0.5)),
    "a video": boxed(b"isom", b"mp41"),
}


def scan(folder: Path, suffix: str, write: Callable[[Path, int], object]) -> Path:
    """A capture of one moving camera; `write` makes the image of each frame."""
    (folder / "images").mkdir(parents=True)
    frames: list[dict[str, Any]] = []
    for i in range(6):
        write(folder / f"images/{i}{suffix}", i)
        pose = np.eye(4)
        pose[0, 3] = i
        frames.append({"file_path": f"images/{i}{suffix}", "transform_matrix": pose.tolist(), "time": i / 6})
    about = {"w": 8, "h": 8, "fl_x": 9.0, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("suffix", [".avif", ".heic", ".jpg", ".tif"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_formats_that_are_not_read_are_named(tmp_path: Path, kind: str, suffix: str) -> None:
    """Phones also save HEIC files that are named .jpg."""
    folder = scan(tmp_path, suffix, lambda path, i: path.write_bytes(FOREIGN[kind]))
    for read in (lambda: load_video(folder), lambda: load_images(folder / f"images/0{suffix}")):
        with pytest.raises(InputError) as caught:
            read()
        assert caught.value.code == "FIL-132"
        assert kind in str(caught.value) and f"0{suffix}" in str(caught.value) and "PNG" in str(caught.value)


def test_folders_of_foreign_images_are_not_called_empty(tmp_path: Path) -> None:
    (tmp_path / "1.heic").write_bytes(FOREIGN["HEIC"])
    for read in (
        load_images,
        lambda folder: load_masks(folder, None, any_number=True),
        lambda folder: number_images([Place(folder)], tmp_path),
    ):
        with pytest.raises(InputError, match=r"1\.heic is a HEIC image, which is not supported.*FIL-132"):
            read(tmp_path)
    # what was converted is read
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    assert len(load_images(tmp_path)) == 1


def test_real_avif_files_are_named(tmp_path: Path) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.avif")
    with pytest.raises(InputError, match=r"a\.avif is an AVIF image"):
        image_size(tmp_path / "a.avif", "a.avif")


# Values -----------------------------------------------------------------------------------------------------------

# 0 to 1; the first frame is nearly black
LEVELS = [np.linspace(0, least, 64).reshape(8, 8) for least in (0.003, 0.2, 0.5, 1.0, 0.9, 0.7)]
WHITES: dict[str, tuple[float, Any]] = {
    "0 to 1": (1.0, np.float32),
    "0 to 255": (255.0, np.float32),
    "0 to 65535": (65535.0, np.float32),
    "whole numbers to 255": (255.0, np.int32),
    "whole numbers to 65535": (65535.0, np.int32),
}


@pytest.mark.parametrize("kind", WHITES)
def test_images_without_a_white_are_scaled_by_the_range_of_all(
    tmp_path: Path, kind: str, caplog: Any
) -> None:
    white, type_ = WHITES[kind]
    folder = scan(
        tmp_path, ".tif", lambda path, i: Image.fromarray((LEVELS[i] * white).astype(type_)).save(path)
    )
    video = load_video(folder)
    with caplog.at_level("INFO", "gs4d"):
        batch = load_images(folder / "images")
    for view, moment in video.samples():
        image = video.source.read(view, moment).image.numpy()
        assert np.abs(image - 255 * LEVELS[moment][..., None]).max() <= 1
        assert (batch[moment].numpy() * 255 == image).all()
    for said in ([*video.notes], [r.getMessage() for r in caplog.records]):
        assert any(f"{white:g} is white" in sentence for sentence in said)


@pytest.mark.parametrize(
    "values", [LEVELS[3] * 5, LEVELS[3] * 3000, LEVELS[3] - 0.5, LEVELS[3] * 1e6, LEVELS[3] + np.nan]
)
def test_ranges_that_cannot_be_known_are_refused(tmp_path: Path, values: NDArray[Any]) -> None:
    folder = scan(tmp_path, ".tif", lambda path, i: Image.fromarray(values.astype(np.float32)).save(path))
    for read in (load_video, lambda path: load_images(path / "images")):
        with pytest.raises(InputError, match=r"0\.tif holds values from .*FIL-133"):
            read(folder)


def test_values_slightly_out_of_range_are_clipped(tmp_path: Path) -> None:
    values = LEVELS[3] * 1.02 - 0.01
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    read = load_images(tmp_path / "a.tif")
    assert read.min() == 0 and read.max() == 1
