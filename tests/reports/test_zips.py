"""Captures in zip files: whole ones are unpacked, what is damaged or leads outside is one sentence and leaves nothing."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from engine.capture.readers import LoadOptions, load_video
from engine.errors import InputError
from engine.files import archive

# what only reading all of a file can find
AT_UNPACKING = ("FIL-143", "FIL-146")


def zipped(path: Path, files: dict[str, bytes], *more: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
        for entry in more:
            made.writestr(entry, b"target")
    return path


def patched(path: Path, **fields: int) -> Path:
    """A zip whose headers say something else of every file: `flags` are added, `method` is put in its place."""
    data = bytearray(path.read_bytes())
    for mark, flags, method in ((b"PK\3\4", 6, 8), (b"PK\1\2", 8, 10)):
        at = data.find(mark)
        while at >= 0:
            (old,) = struct.unpack_from("<H", data, at + flags)
            struct.pack_into("<H", data, at + flags, old | fields.get("flags", 0))
            if "method" in fields:
                struct.pack_into("<H", data, at + method, fields["method"])
            at = data.find(mark, at + 4)
    path.write_bytes(data)
    return path


def refused(path: Path, folder: Path) -> str:
    with pytest.raises(InputError) as error:
        archive.unpack(path, folder)
    assert not folder.exists()
    assert [entry.name for entry in folder.parent.iterdir()] == [], "nothing is left behind"
    assert path.name in error.value.message
    # found when the graph is checked, before anything is unpacked
    if error.value.code not in AT_UNPACKING:
        with pytest.raises(InputError, match=error.value.code):
            archive.check_archive(path)
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


def test_a_list_of_files_that_leads_out_of_the_zip_is_refused(tmp_path: Path, folder: Path) -> None:
    path = zipped(tmp_path / "lost.zip", {"cam.mp4": b"video"})
    data = bytearray(path.read_bytes())
    # the list is said to begin later than it does, so that its files begin before the zip
    end = data.rfind(b"PK\5\6")
    struct.pack_into("<I", data, end + 16, struct.unpack_from("<I", data, end + 16)[0] + 9)
    path.write_bytes(data)
    assert refused(path, folder) == "FIL-143"


def test_a_file_without_a_name_is_refused(tmp_path: Path, folder: Path) -> None:
    path = zipped(tmp_path / "nameless.zip", {"a": b"video"})
    data = bytearray(path.read_bytes())
    # the name becomes the comment that follows it
    at = data.index(b"PK\1\2")
    struct.pack_into("<HHH", data, at + 28, 0, 0, 1)
    path.write_bytes(data)
    assert refused(path, folder) == "FIL-147"


@pytest.mark.parametrize(
    ("method", "name"),
    [(1, "Shrink"), (9, "Deflate64"), (93, "Zstandard"), (95, "XZ"), (98, "PPMd"), (77, "method 77")],
)
def test_a_compression_that_cannot_be_read_is_named(
    tmp_path: Path, folder: Path, method: int, name: str
) -> None:
    path = patched(zipped(tmp_path / "large.zip", {"shot/cam00.mp4": b"a" * 99}), method=method)
    assert refused(path, folder) == "FIL-151"
    with pytest.raises(
        InputError,
        match=rf"shot/cam00.mp4 in large.zip is compressed with {name}, which .*Deflate",
    ):
        archive.check_archive(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_read(tmp_path: Path, folder: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "shot.zip", "w", method) as made:
        made.writestr("cam00.mp4", b"video" * 50)
    assert (archive.unpack(tmp_path / "shot.zip", folder) / "cam00.mp4").read_bytes() == b"video" * 50


def test_a_later_version_of_the_format_is_not_called_damaged(tmp_path: Path, folder: Path) -> None:
    path = zipped(tmp_path / "new.zip", {"cam00.mp4": b"a"})
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\1\2") + 6] = 99
    path.write_bytes(data)
    assert refused(path, folder) == "FIL-151"


@pytest.mark.parametrize(
    "fields", [{"flags": 1}, {"flags": 1 | 64}, {"flags": 1, "method": 99}, {"method": 99}]
)
def test_encrypted_files_are_refused_as_such(tmp_path: Path, folder: Path, fields: dict[str, int]) -> None:
    path = patched(zipped(tmp_path / "secret.zip", {"cam00.mp4": b"a" * 99}), **fields)
    assert refused(path, folder) == "FIL-148"


def test_a_zip_whose_list_of_files_is_encrypted_is_refused_as_such(tmp_path: Path, folder: Path) -> None:
    path = patched(zipped(tmp_path / "secret.zip", {"cam00.mp4": b"a" * 99}), flags=1 | 1 << 13)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\1\2", b"\x93\x0e\x51\xc4"))
    assert refused(path, folder) == "FIL-148"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "names",
    [
        ["cam00.mp4", "cam01.mp4", "cam00.mp4"],
        ["shot/cam00.mp4", "shot//cam00.mp4"],
        ["shot", "shot/cam00.mp4"],
        ["shot/cam00.mp4", "shot"],
    ],
)
def test_two_files_of_one_name_are_refused(tmp_path: Path, folder: Path, names: list[str]) -> None:
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as made:
        for i, name in enumerate(names):
            made.writestr(name, bytes([i]))
    assert refused(path, folder) == "FIL-152"
    with pytest.raises(InputError, match=r"'(shot/)?(cam00.mp4|shot)' twice"):
        archive.check_archive(path)


def test_names_that_this_disk_does_not_tell_apart_are_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "case.zip", {"Cam00.mp4": b"a", "cam00.mp4": b"b"})
    # as on Windows and macOS
    monkeypatch.setattr(archive, "open", lambda file, mode: open(Path(file).with_name("cam00.mp4"), mode)
                        if "x" in mode else open(file, mode), raising=False)  # fmt: skip
    with pytest.raises(InputError, match="FIL-152"):
        archive.unpack(path, folder)
    assert not list(folder.parent.iterdir())


@pytest.mark.parametrize(
    ("head", "kind"), [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07\0", "RAR"), (b"\x1f\x8b\x08", "gzip")]
)
def test_another_archive_that_is_called_zip_is_named(
    tmp_path: Path, folder: Path, head: bytes, kind: str
) -> None:
    path = tmp_path / "shot.zip"
    path.write_bytes(head + bytes(500))
    assert refused(path, folder) == "FIL-149"
    with pytest.raises(InputError, match=f"shot.zip is a {kind} archive"):
        archive.check_archive(path)


@pytest.mark.parametrize("part", ["first", "last"])
def test_one_of_several_parts_is_refused_as_such(tmp_path: Path, folder: Path, part: str) -> None:
    path = zipped(tmp_path / "shot.zip", {"cam00.mp4": bytes(range(256)) * 40})
    data = bytearray(path.read_bytes())
    if part == "first":
        data = bytearray(b"PK\7\x08") + data[: len(data) // 2]
    else:
        struct.pack_into("<HH", data, data.rfind(b"PK\5\6") + 4, 2, 2)
        data = data[len(data) // 2 :]
    path.write_bytes(data)
    assert refused(path, folder) == "FIL-150"


def test_a_name_that_no_disk_takes_is_refused(tmp_path: Path, folder: Path) -> None:
    path = zipped(tmp_path / "long.zip", {f"{'x' * 300}.mp4": b"a"})
    with pytest.raises(InputError, match="FIL-141"):
        archive.unpack(path, folder)


def test_a_zip_without_videos_is_no_capture(tmp_path: Path, folder: Path) -> None:
    for name, files in {"empty": {}, "text": {"readme.txt": b"no videos", "more/notes.md": b"none"}}.items():
        found = archive.unpack(zipped(tmp_path / f"{name}.zip", files), folder.parent / name)
        with pytest.raises(InputError, match=r"not recognized|empty") as error:
            load_video(found, LoadOptions())
        assert error.value.code == "CAP-077"
