"""What a rendering in parts costs: bytes of the lossless parts, and joining them against encoding the images at once.

    python benchmarks/render_parts.py [--json] [--frames 60] [--parts 3] [--repeats 3]

The bundled scene along an orbit at 1280×720. Images are rendered once; each row is the run of least CPU time of `--repeats`. Both
videos must have the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine import messages
from engine.files.mp4 import Pixels, mp4_writer, pixels_of
from engine.files.part_file import part_writer, read_header
from engine.io.scene_file import load_scene
from engine.render import join_parts
from engine.render.part import Part
from engine.steps import camera_path, render_scene

SCENE = Path(__file__).resolve().parents[1] / "assets" / "scenes" / "walker" / "walker.safetensors"
SIZE = (1280, 720)


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """CPU and wall-clock seconds of the run of least CPU time."""
    found: list[tuple[float, float]] = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(found)


def run(frames: int, parts: int, repeats: int) -> dict[str, Any]:
    """All figures, as plain JSON."""
    scene, rendering = load_scene(SCENE), render_scene.Config()
    path = camera_path.make(scene, camera_path.Config(frames=frames, width=SIZE[0], height=SIZE[1]))
    images: list[Pixels] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spans = [Part.parse(f"{i + 1}/{parts}").of(frames) for i in range(parts)]
        files = [folder / f"{i}.mkv" for i in range(parts)]

        def render() -> None:
            for span, file in zip(spans, files, strict=True):
                for message in render_scene.to_part(scene, path, rendering, span, file):
                    if isinstance(message, messages.Preview):
                        images.append(pixels_of(message.image))

        rendered = timed(render, 1)
        headers = [replace(read_header(file), sha256="") for file in files]
        direct, joined = folder / "direct.mp4", folder / "joined.mp4"

        def encode() -> None:
            with mp4_writer(path.fps, direct) as add:
                for pixels in images:
                    add(pixels)

        def write() -> None:
            for span, header, file in zip(spans, headers, files, strict=True):
                with part_writer(header, file) as add:
                    for i in span:
                        add(images[i])

        rows = {
            "encode": timed(encode, repeats),
            "write_parts": timed(write, repeats),
            "join": timed(lambda: messages.result(join_parts.run(files, joined)), repeats),
        }
        lossless = sum(file.stat().st_size for file in files)
        return {
            "frames": frames,
            "parts": parts,
            "render_to_parts_cpu_ms_per_frame": 1000 * rendered[0] / frames,
            **{f"{row}_cpu_ms_per_frame": 1000 * cpu / frames for row, (cpu, _) in rows.items()},
            **{f"{row}_ms_per_frame": 1000 * wall / frames for row, (_, wall) in rows.items()},
            "part_bytes_per_frame": lossless / frames,
            "raw_bytes_per_frame": images[0].nbytes,
            "video_bytes_per_frame": direct.stat().st_size / frames,
            "is_same_video": direct.read_bytes() == joined.read_bytes(),
            "env": environment("cpu", 0),
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--parts", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    report = run(options.frames, options.parts, options.repeats)
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{key}: {value}" for key, value in report.items()))
    return 0 if report["is_same_video"] else 1


if __name__ == "__main__":
    sys.exit(main())
