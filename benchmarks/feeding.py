"""How long training waits for captured frames, without and with prepared frames.

    python benchmarks/feeding.py --json [--cameras 8] [--frames 120] [--gops 12 30 250] [--samples 200] [--quick]

Writes a capture of H.264 videos of moving noise (all cameras film the same), and draws views at random, as training does, two
in a step. `direct_ms` is the wait for a frame that is decoded when it is needed, `wait_ms` that for a prepared frame while
steps of `--step-ms` pass, `read_ms` that for one which was not read ahead, and `float_ms` the conversion of a frame to floating
point on the CPU afterward. Preparation: `prepare_cpu_ms` of a frame, over all threads, and its seconds; `prepare_mb` and
`wait_mb` are how much the process grew meanwhile.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import peak_mb, reset_peak
from benchmarks.environment import environment
from engine.capture.readers import LoadOptions, load_video, write_cameras_json
from engine.scene import Cameras, MultiViewVideo
from engine.scene.cameras import look_at
from engine.train.feeding import FRAMES, Feed
from engine.train.targets import composite

# larger by this on each side than the image, so that the picture can move
MARGIN = 64
SEED = 0

Pair = tuple[int, int]


def write_video(path: Path, frames: int, size: tuple[int, int], gop: int) -> None:
    """H.264 of a drifting texture with film grain, at a bit rate like that of a camera."""
    import av

    width, height = size
    noise = np.random.default_rng(SEED)
    coarse = torch.from_numpy(noise.random((1, 3, height // 24, width // 24), dtype=np.float32))
    shape = (height + 2 * MARGIN, width + 2 * MARGIN)
    smooth = torch.nn.functional.interpolate(coarse, shape, mode="bicubic")[0].permute(1, 2, 0).numpy()
    texture = (smooth * 200 + noise.random((*shape, 1)) * 40).clip(0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast", "g": str(gop), "sc_threshold": "0"}
        for i in range(frames):
            x, y = (int(MARGIN * (1 + np.sin(i / rate) * 0.9)) for rate in (17, 11))
            image = np.ascontiguousarray(texture[y : y + height, x : x + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_capture(folder: Path, cameras: int, frames: int, size: tuple[int, int], gop: int) -> Path:
    """A folder of videos with a ring of cameras."""
    folder.mkdir()
    names = [f"cam{i:02d}.mp4" for i in range(cameras)]
    write_video(folder / names[0], frames, size, gop)
    for name in names[1:]:
        shutil.copyfile(folder / names[0], folder / name)
    angles = torch.linspace(0, 2 * torch.pi, cameras + 1)[:-1]
    centers = torch.stack([4 * angles.cos(), 4 * angles.sin(), torch.ones(cameras)], dim=1)
    poses = [look_at(center, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])) for center in centers]
    width, height = size
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], dtype=torch.float64)
    rig = Cameras(torch.stack(poses), K.repeat(cameras, 1, 1), (size,) * cameras, tuple(names))
    write_cameras_json(folder, rig, 30.0, videos=names, frame_count=frames)
    return folder


def mean_ms(work: Callable[[Pair], object], pairs: Sequence[Pair]) -> float:
    start = time.perf_counter()
    for pair in pairs:
        work(pair)
    return round(1000 * (time.perf_counter() - start) / len(pairs), 2)


def waited(video: MultiViewVideo, pairs: Sequence[Pair], step_ms: float) -> float:
    """Mean milliseconds of waiting for a view, with steps of two views between."""
    total = 0.0
    with closing(Feed(video)) as feed:
        for i in range(0, len(pairs), 2):
            feed.expect(pairs[i : i + FRAMES])
            start = time.perf_counter()
            for pair in pairs[i : i + 2]:
                feed.read(*pair)
            # the first reads have nothing before them
            total += time.perf_counter() - start if i else 0.0
            time.sleep(step_ms / 1000)
    return round(1000 * total / max(len(pairs) - 2, 1), 2)


def measured(capture: Path, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one capture."""
    loading = LoadOptions(cache_megabytes=options.cache_megabytes)
    direct = load_video(capture, loading)
    draw = random.Random(SEED)
    pairs = [draw.choice(direct.samples()) for _ in range(options.samples)]
    made: dict[str, float] = {
        "direct_ms": mean_ms(lambda pair: direct.source.read(*pair), pairs[: options.direct_samples])
    }
    video = load_video(capture, loading, folder)
    feed = Feed(video)
    reset_peak("cpu")
    before, start, cpu = peak_mb("cpu"), time.perf_counter(), time.process_time()
    for _ in feed.prepare(video.samples()):
        pass
    if feed.note:
        raise SystemExit(feed.note)
    count = len(video.samples())
    made["prepare_seconds"] = round(time.perf_counter() - start, 2)
    made["prepare_cpu_ms"] = round(1000 * (time.process_time() - cpu) / count, 2)
    made["prepare_mb"] = round(peak_mb("cpu") - before, 1)
    made["store_mb"] = round(sum(path.stat().st_size for path in folder.glob("*.frames")) / 1e6, 1)
    reset_peak("cpu")
    before = peak_mb("cpu")
    made["wait_ms"] = waited(video, pairs, options.step_ms)
    made["wait_mb"] = round(peak_mb("cpu") - before, 1)
    made["read_ms"] = mean_ms(lambda pair: video.source.read(*pair), pairs)
    frame, background = video.source.read(*pairs[0]), torch.zeros(3)
    made["float_ms"] = mean_ms(lambda _: composite(frame, background), pairs[:20])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--size", type=int, nargs=2, default=(1352, 1014), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument(
        "--gops", type=int, nargs="+", default=(12, 30, 250), help="frames between key frames"
    )
    parser.add_argument("--samples", type=int, default=200, help="views that are drawn")
    parser.add_argument("--direct-samples", type=int, default=40, help="of them, without preparation")
    parser.add_argument("--step-ms", type=float, default=25.0, help="time of a training step of two views")
    parser.add_argument("--cache-megabytes", type=int, default=512)
    parser.add_argument("--quick", action="store_true", help="2 cameras, 24 frames of 640×480, one GOP")
    parser.add_argument("--folder", help="where captures and prepared frames are written for the run")
    options = parser.parse_args()
    if options.quick:
        options.cameras, options.frames, options.size, options.gops = 2, 24, (640, 480), (12,)
        options.samples, options.direct_samples, options.cache_megabytes = 20, 10, 16
    made: dict[str, Any] = {"env": environment("cpu", SEED)}
    for name in ("cameras", "frames", "size", "samples", "direct_samples", "step_ms"):
        made[name] = getattr(options, name)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for gop in options.gops:
            capture = write_capture(
                Path(place) / f"gop{gop}", options.cameras, options.frames, tuple(options.size), gop
            )
            made[f"gop_{gop}"] = measured(capture, Path(place) / f"frames{gop}", options)
            shutil.rmtree(Path(place) / f"frames{gop}")
            print(json.dumps({f"gop_{gop}": made[f"gop_{gop}"]}), file=sys.stderr, flush=True)
    print(json.dumps(made, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
