"""What is worth saying about how videos are stored and read, in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from ..wording import listed
from .video_file import VideoFacts


def video_warnings(videos: Mapping[str, VideoFacts]) -> list[str]:
    """Sentences about videos, by their names, of which something is left out."""
    rows: list[str] = []
    if lost := [name for name, facts in videos.items() if facts.loses_alpha]:
        rows.append(
            f"The alpha of {listed(lost)} is left out, because this build of the package av has no libvpx. Install av from "
            "PyPI, or export the video as ProRes 4444."
        )
    return rows
