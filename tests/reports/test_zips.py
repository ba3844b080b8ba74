"""Captures in zip files: whole ones are unpacked, what is damaged or leads outside is one sentence and leaves nothing."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from engine.errors import InputError
from engine.files import archive


def zipped(path: Path, files: dict[str, bytes], *more: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        for entry in more:
            made.writestr(entry, b"target")
    return path


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(InputError) as error:
        archive.unpack(path, folder)
    assert not folder.exists()
    assert [entry.name for entry in folder.parent.iterdir()] == [], "nothing is left behind"
    return error.value.code


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unpacked").mkdir()
    return tmp_path / "unpacked" / "capture"


def test_the_only_folder_of_a_zip_is_the_capture(tmp_path: Path, folder: Path) -> None:
    files = {"shot/cam00.mp4": b"a" * 9, "shot/masks/cam00.mp4": b"b", "__MACOSX/shot/._cam00.mp4": b"x"}
    found = archive.unpack(zipped(tmp_path / "shot.zip", files), folder)
    assert found == folder / "shot" and (found / "masks" / "cam00.mp4").read_bytes() == b"b"
    assert archive.unpack(tmp_path / "shot.zip", folder) == found, "a second time, it is there already"
    flat = archive.unpack(
        zipped(tmp_path / "flat.zip", {"a.mp4": b"a", "b.mp4": b"b"}), folder.parent / "flat"
    )
    assert flat == folder.parent / "flat"


@pytest.mark.parametrize(
    "name", ["../out.mp4", "a/../../out.mp4", "/etc/out.mp4", "C:\\out.mp4", "..\\out.mp4"]
)
def test_names_that_lead_outside_are_refused(tmp_path: Path, folder: Path, name: str) -> None:
    assert refused(zipped(tmp_path / "bad.zip", {"good.mp4": b"a", name: b"b"}), folder) == "FIL-147"
    assert not list(tmp_path.rglob("out.mp4"))


def test_links_are_refused(tmp_path: Path, folder: Path) -> None:
    link = zipfile.ZipInfo("link.mp4")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert refused(zipped(tmp_path / "bad.zip", {}, link), folder) == "FIL-147"


def test_a_hundred_thousand_files_are_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as made:
        for i in range(100_000):
            made.writestr(zipfile.ZipInfo(f"{i}.png"), b"")
    assert refused(path, folder) == "FIL-144"


def test_a_zip_that_grows_beyond_reason_is_refused(tmp_path: Path, folder: Path) -> None:
    assert refused(zipped(tmp_path / "bomb.zip", {"zeros.mp4": bytes(64 << 20)}), folder) == "FIL-145"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_an_upload_that_was_cut_off_is_refused(tmp_path: Path, folder: Path, share: float) -> None:
    path = zipped(tmp_path / "half.zip", {"cam.mp4": bytes(range(256)) * 40})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refused(path, folder) == "FIL-143"


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "flipped.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        made.writestr("cam.mp4", b"video" * 100)
    data = bytearray(path.read_bytes())
    data[120] ^= 255
    path.write_bytes(bytes(data))
    assert refused(path, folder) == "FIL-143"
