"""How far the colors of a written video are from those of its images, as FFmpeg and Chromium show them.

    python benchmarks/video_colors.py [--json]

Twelve flat colors, six of them saturated, at two sizes. `tagged` is what the pack writes: BT.709, and the file says so.
`untagged` is what PyAV writes when nothing is asked for: BT.601, and the file says nothing. Errors are in levels of 255, per
channel (red, green, blue) the mean over the colors, and the largest of all. Chromium (CHROMIUM_PATH, or the one on the path;
needs playwright) is left out where there is none, or none that plays H.264.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_pixels
from engine.files.mp4 import mp4_writer
from tests.color_charts import COLORS, chart, fields
from tests.web import browser
from tests.web.shown_colors import shown_colors

SIZES = [(320, 240), (1280, 720)]
FRAMES = 3


def write_untagged(path: Path, size: tuple[int, int]) -> None:
    """The chart as PyAV writes it by itself."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=24, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(chart(*size), format="rgb24")))
        container.mux(stream.encode())


def write_tagged(path: Path, size: tuple[int, int]) -> None:
    """The chart as the pack writes it."""
    with mp4_writer(24, path) as add:
        for _ in range(FRAMES):
            add(chart(*size))


def seen(path: Path, size: tuple[int, int], chromium: str | None) -> dict[str, NDArray[Any]]:
    """The colors [12, 3] by who decodes them."""
    import av

    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    facts = probe(path, path.name)
    found = {
        "ffmpeg": fields(frame.to_ndarray(format="rgb24")),
        "engine": fields(to_pixels(VideoFile(path, path.name, facts).read(0), facts)),
    }
    shown = shown_colors(chromium, path, size) if chromium else None
    return found | {f"chromium_{place}": colors for place, colors in (shown or {}).items()}


def run() -> dict[str, Any]:
    """All figures, as plain JSON."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, write in (("untagged", write_untagged), ("tagged", write_tagged)):
            for size in SIZES:
                path = Path(name) / f"{kind}_{size[1]}.mp4"
                write(path, size)
                for who, colors in seen(path, size, browser.chromium()).items():
                    error = np.abs(colors - COLORS)
                    report[f"{kind}_{size[1]}_{who}"] = [round(v, 2) for v in error.mean(0).tolist()]
                    report[f"{kind}_{size[1]}_{who}_max"] = error.max()
    return report | {"env": environment("cpu", 0)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args()
    report = run()
    print(json.dumps(report) if options.json else "\n".join(f"{k}: {v}" for k, v in report.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
