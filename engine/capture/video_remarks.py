"""What is worth saying about how videos are stored and read, in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from ..wording import listed
from .hdr import REFERENCE_WHITE
from .video_fields import deinterlacer
from .video_file import VideoFacts


def video_remarks(videos: Mapping[str, VideoFacts]) -> tuple[str, ...]:
    """Notes and warnings about videos, by their names."""
    return (*video_notes(videos), *video_warnings(videos))


def video_notes(videos: Mapping[str, VideoFacts]) -> list[str]:
    """How videos are read where they are not taken as they are stored."""
    hdr = {kind: names for kind, names in _by_transfer(videos).items() if kind != "SDR"}
    if not hdr:
        return []
    return [
        f"HDR video is tone-mapped to SDR, with white at {REFERENCE_WHITE:g} cd/m² and BT.709 colors: {_kinds(hdr)}."
    ]


def video_warnings(videos: Mapping[str, VideoFacts], has_images: bool = False) -> list[str]:
    """What is left out of videos, and in what they differ from each other; `has_images`: and from images beside them."""
    rows: list[str] = []
    if lost := [name for name, facts in videos.items() if facts.loses_alpha]:
        rows.append(
            f"The alpha of {listed(lost)} is left out, because this build of the package av has no libvpx. Install av from "
            "PyPI, or export the video as ProRes 4444."
        )
    if interlaced := [name for name, facts in videos.items() if facts.is_interlaced]:
        done = (
            "and is deinterlaced to one frame for each two fields, which softens details. Record progressive video."
            if deinterlacer()
            else "and this build of FFmpeg cannot deinterlace: moving edges look like combs. Deinterlace it first."
        )
        rows.append(f"Video is interlaced ({listed(interlaced)}), {done}")
    kinds = _by_transfer(videos)
    if len(kinds) > 1 or (has_images and kinds and "SDR" not in kinds):
        others = " Images are SDR." if has_images else ""
        rows.append(
            f"The cameras mix HDR and SDR, or kinds of HDR: {_kinds(kinds)}.{others} All are brought to SDR, but highlights and "
            "saturated colors may still differ. Record with one setting on all cameras."
        )
    return rows


def _by_transfer(videos: Mapping[str, VideoFacts]) -> dict[str, list[str]]:
    """Names by "HLG", "PQ" or "SDR"."""
    found: dict[str, list[str]] = {}
    for name, facts in videos.items():
        found.setdefault(facts.transfer or "SDR", []).append(name)
    return found


def _kinds(names: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{kind}: {listed(some)}" for kind, some in names.items())
