"""Build a demo capture: a multi-view video of a walking figure or of a talking head, with exact cameras.

    python -m training.demo_clip.make walker --out assets/clips/walker
    python -m training.demo_clip.make head --out somewhere/head

Nothing is random: the same package versions write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from . import motion
from .edits import EDITS, composite
from .figure import Figure, FloatArray
from .picture import Camera, Studio, rig
from .raster import vertex_normals
from .wardrobe import Wardrobe

BACKGROUND = 235 / 255
_PHENOTYPE = {
    "gender": 0.85, "age": 0.66, "muscle": 0.5, "weight": 0.42, "height": 0.5, "proportions": 0.85,
}  # fmt: skip
# Aspect ratio (width / height), camera distance, fps, performance, arc of the cameras in degrees.
_SUBJECTS = {
    "walker": (10 / 13, 3.6, 12, motion.walk, 360.0),
    "head": (1.0, 1.25, 10, motion.talk, 210.0),
}


def _multiple_of_16(x: float) -> int:
    return max(16, round(x / 16) * 16)


def poses(subject: str, figure: Figure, moments: int, strides: int) -> tuple[FloatArray, FloatArray]:
    """Body vertices (moments, V, 3) in the world, feet on z = 0, and the head joint (moments, 3)."""
    act = _SUBJECTS[subject][3]
    frames = [act(figure, i / moments, strides) for i in range(moments)]
    base = np.stack([f[0] for f in frames])
    head = np.stack([f[1]["eye.L"] * 0.5 + f[1]["eye.R"] * 0.5 for f in frames])
    lowest = base[:, :13380, 2].min(axis=1)
    # The lowest foot carries the weight. Only low frequencies are kept, so that the hips move smoothly.
    spectrum = np.fft.rfft(lowest)
    spectrum[3 * strides + 1 :] = 0
    lift = np.fft.irfft(spectrum, moments)
    base[..., 2] -= lift[:, None]
    head[:, 2] -= lift
    return base, head


class _Video:
    """One H.264 file, written to a temporary name and then renamed."""

    def __init__(self, path: Path, size: tuple[int, int], fps: int, crf: int):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.partial = path, path.with_suffix(".partial.mp4")
        self.container = av.open(str(self.partial), "w", format="mp4")
        self.stream = self.container.add_stream("libx264", rate=fps)
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = "yuv420p"
        # One thread, so that the output does not depend on the number of cores.
        self.stream.options = {"crf": str(crf), "preset": "veryslow", "threads": "1"}

    def add(self, picture: FloatArray) -> None:
        """picture (H, W, 3), 0..1."""
        bytes_ = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(bytes_), format="rgb24")
        self.container.mux(self.stream.encode(frame.reformat(format="yuv420p", interpolation="AREA")))

    def close(self) -> None:
        self.container.mux(self.stream.encode(None))
        self.container.close()
        os.replace(self.partial, self.path)


def _coded_psnr(path: Path, frames: np.ndarray) -> float:
    """PSNR of a written video against the images before compression: the limit for training."""
    with av.open(str(path)) as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    return float(-10 * np.log10(((decoded / 255.0 - frames) ** 2).mean()))


def describe(
    args: argparse.Namespace, cameras: list[Camera], hold_out: list[str], fps: int, depth: tuple[float, float]
) -> dict[str, object]:
    """The contents of cameras.json."""
    return {
        "format": "multiview-video",
        "version": 1,
        "fps": fps,
        "frame_count": args.moments,
        "camera_axes": "opencv",
        "background": [BACKGROUND] * 3,
        "near": round(depth[0], 3),
        "far": round(depth[1], 3),
        "hold_out": hold_out,
        "cameras": [
            {
                "name": c.name,
                "video": f"videos/{c.name}.mp4",
                "mask": f"masks/{c.name}.mp4",
                "width": c.width,
                "height": c.height,
                "K": c.k.tolist(),
                "w2c": np.round(c.w2c, 12).tolist(),
            }
            for c in cameras
        ],
    }


def render(
    args: argparse.Namespace, studio: Studio, base: FloatArray, cameras: list[Camera]
) -> Iterator[tuple[int, int, FloatArray, FloatArray]]:
    """(moment, camera index, color, alpha), moment by moment."""
    start = time.time()
    for m in range(args.moments):
        points = studio.posed(base[m])
        light = studio.light(points)
        for i, camera in enumerate(cameras):
            yield (m, i, *studio.picture(camera, points, light, args.supersampling))
        print(f"moment {m + 1}/{args.moments}  {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("subject", choices=sorted(_SUBJECTS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=0, help="image height in pixels (walker 208, head 192)")
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--strides", type=int, default=2, help="number of strides in the loop (walker)")
    parser.add_argument("--fps", type=int, default=0, help="walker 12, head 10")
    parser.add_argument("--crf", type=int, default=12, help="0 is lossless except for chroma subsampling")
    parser.add_argument("--supersampling", type=int, default=4)
    parser.add_argument("--directions", type=int, default=160, help="number of light directions")
    parser.add_argument("--edit", choices=sorted(EDITS), default="none")
    parser.add_argument("--pair", action="store_true", help="write OUT/original, OUT/edited, instruction.txt")
    parser.add_argument("--truth", type=Path, help="also write surface tracks to this .npz")
    args = parser.parse_args()

    shape, distance, fps, _, arc = _SUBJECTS[args.subject]
    fps = args.fps or fps
    height = _multiple_of_16(args.size or (208 if args.subject == "walker" else 192))
    size = (_multiple_of_16(height * shape), height)

    figure = Figure(_PHENOTYPE)
    wardrobe = Wardrobe(figure, close_up=args.subject == "head")
    base, head = poses(args.subject, figure, args.moments, args.strides)
    studio = Studio(wardrobe, args.directions)
    drawn = studio.posed(base[0])
    if args.subject == "walker":
        top = float(max(studio.posed(b)[:, 2].max() for b in base))
        target, span = np.array([0.0, 0.0, top / 2 - 0.045]), top * 1.135
    else:
        target, span = head.mean(axis=0) + np.array([0.0, 0.055, -0.035]), 0.46
    cameras, hold_out = rig(args.views, size, target, distance, span, arc)
    reach = 1.15 if args.subject == "walker" else 0.6
    depth = (distance - reach, distance + reach * 1.5)

    jobs = {"": "none"} if args.edit == "none" else {"": args.edit}
    if args.pair:
        jobs = {"original": "none", "edited": args.edit}
    videos = {
        (sub, i): _Video(args.out / sub / "videos" / f"{c.name}.mp4", size, fps, args.crf)
        for sub in jobs
        for i, c in enumerate(cameras)
    }
    masks = {
        (sub, i): _Video(
            args.out / sub / "masks" / f"{c.name}.mp4", size, fps, max(args.crf, 20) if args.crf else 0
        )
        for sub in jobs
        for i, c in enumerate(cameras)
    }
    background = np.full(3, BACKGROUND)
    kept = np.zeros((len(cameras), args.moments, height, size[0], 3), np.float32)
    cover = 0.0
    for m, i, colour, alpha in render(args, studio, base, cameras):
        for sub, edit in jobs.items():
            videos[sub, i].add(composite(colour, alpha, background, edit))
            masks[sub, i].add(np.repeat(alpha[..., None], 3, axis=-1))
        kept[i, m] = composite(colour, alpha, background, next(iter(jobs.values())))
        cover += float(alpha.mean()) / (len(cameras) * args.moments)
    for video in (*videos.values(), *masks.values()):
        video.close()
    for sub in jobs:
        path = args.out / sub / "cameras.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(describe(args, cameras, hold_out, fps, depth), indent=1) + "\n")
        os.replace(partial, path)
    if args.edit != "none":
        (args.out / "instruction.txt").write_text(EDITS[args.edit][0] + "\n")
    if args.truth:
        write_truth(args.truth, studio, base, cameras)

    first = next(iter(jobs))
    coded = np.mean([_coded_psnr(videos[first, i].path, kept[i]) for i in range(len(cameras))])
    error = ((kept - kept.mean(axis=1, keepdims=True)) ** 2).mean(axis=(2, 3, 4))
    files = [p for p in args.out.rglob("*") if p.is_file()]
    travel = np.linalg.norm(base.max(axis=0) - base.min(axis=0), axis=1)[:13380].max()
    print(
        json.dumps(
            {
                "views": len(cameras),
                "moments": args.moments,
                "width": size[0],
                "height": height,
                "bytes": sum(p.stat().st_size for p in files),
                "subject_share_of_picture": round(cover, 4),
                "height_m": round(float(drawn[:, 2].max()), 3),
                "largest_travel_m": round(float(travel), 3),
                "psnr_of_coded_video": round(float(coded), 2),
                "psnr_of_time_mean": round(float((-10 * np.log10(error)).mean()), 2),
            }
        )
    )


def write_truth(
    path: Path, studio: Studio, base: FloatArray, cameras: list[Camera], count: int = 2000
) -> None:
    """Tracks of points on the rendered surface and their pixels in each camera.

    Arrays: points (moments, N, 3), normals (moments, N, 3), pixels (moments, views, N, 2), names (views,).
    """
    chosen = np.linspace(0, len(studio.scalars) - 1, count).astype(np.int64)
    tracks, normals, pixels = [], [], []
    for b in base:
        points = studio.posed(b)
        tracks.append(points[chosen])
        normals.append(vertex_normals(points, studio.triangles)[chosen])
        views = []
        for c in cameras:
            local = points[chosen] @ c.w2c[:3, :3].T + c.w2c[:3, 3]
            views.append(local[:, :2] / local[:, 2:] * np.diag(c.k)[:2] + c.k[:2, 2])
        pixels.append(views)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        points=np.array(tracks, np.float32),
        normals=np.array(normals, np.float32),
        pixels=np.array(pixels, np.float32),
        names=np.array([c.name for c in cameras]),
    )


if __name__ == "__main__":
    main()
