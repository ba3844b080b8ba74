"""Image formats that are not read, by the first bytes of a file: they are named, so that nobody takes the file for damaged."""

from __future__ import annotations

from pathlib import Path

# bytes that are looked at
HEAD = 64
# endings of files that a capture or folder may hold instead of images that are read
SUFFIXES = (".avif", ".heic", ".heif", ".jxl", ".jp2", ".exr", ".hdr", ".dng", ".cr2", ".cr3", ".nef", ".arw")
_STARTS = {
    b"\xff\x0a": "a JPEG XL image",
    b"\x00\x00\x00\x0cJXL ": "a JPEG XL image",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"#?RGBE": "a Radiance HDR image",
    b"SDPX": "a DPX image",
    b"XPDS": "a DPX image",
    b"8BPS": "a Photoshop file",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x00\x05\x16\x07": "a macOS side file without an image",
    b"FUJIFILM": "a raw photo",
}
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# of files in boxes, as MPEG-4 has them: main or compatible brand
_BRANDS = {b"avif": "an AVIF image", b"avis": "an AVIF image", b"crx ": "a raw photo"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC image"
)


def foreign_format(path: Path) -> str:
    """What a file is that is not read, such as "is an AVIF image, which is not supported"; empty where it is unknown."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(_TIFF):
        return "is a TIFF image that is damaged or of an unsupported kind, such as floating point in color"
    what = next((what for start, what in _STARTS.items() if head.startswith(start)), "")
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), HEAD)
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, length - 3, 4))]
        # many of them say that they are mif1 first
        what = next(
            (what for brand, what in _BRANDS.items() if brand in brands), "a video instead of an image"
        )
    return f"is {what}, which is not supported" if what else ""
