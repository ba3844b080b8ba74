"""Times of the rasterizers: forward, and forward + backward, in milliseconds (medians).

    python benchmarks/rasterizer.py [--json] [--quick] [--backends numba,torch] [--repeats 7]

The scene: N Gaussians uniform in a ball of radius 1.5, the camera 4 units away, fx = fy = 1.1 × image size,
scales 0.45·N^(-1/3)·exp(0.5·n), random quaternions, opacity sigmoid(1.5·n), n standard normal; the loss is a
randomly weighted sum of the image.
Machines and their load differ; compare only columns of the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.errors import InputError
from engine.render import Rasterizer, choose
from engine.render.registry import NAMES, find

COUNTS, SIZES, CHANNELS = (2_000, 20_000, 100_000), (128, 256, 512), (3, 4, 16)
TINY = ((300, 64, 3),)
QUICK = ((2_000, 128, 3), (20_000, 256, 3), (20_000, 256, 16))


def make_scene(
    count: int, size: int, channels: int, seed: int, device: str
) -> tuple[list[Tensor], Tensor, Tensor]:
    """[means, quats, scales, opacities, features], world_to_camera [1, 4, 4] and K [1, 3, 3] on `device`."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    tensors = [
        direction * 1.5 * torch.rand(count, 1, generator=g) ** (1 / 3),
        torch.randn(count, 4, generator=g),
        0.45 * count ** (-1 / 3) * torch.exp(0.5 * torch.randn(count, 3, generator=g)),
        torch.sigmoid(1.5 * torch.randn(count, generator=g)),
        torch.rand(count, channels, generator=g),
    ]
    camera = torch.eye(4)
    camera[2, 3] = 4.0
    K = torch.tensor([[1.1 * size, 0, size / 2], [0, 1.1 * size, size / 2], [0, 0, 1]])
    return [t.to(device).requires_grad_() for t in tensors], camera[None].to(device), K[None].to(device)


def device_of(name: str) -> str:
    """The device a rasterizer is measured on: the CPU if it runs there, but for Warp a GPU if there is one."""
    has_gpu = name == "warp" and torch.cuda.is_available()
    return "cpu" if "cpu" in find(name).priorities and not has_gpu else "cuda"


def measure(
    rasterizer: Rasterizer, count: int, size: int, channels: int, seed: int, repeats: int
) -> dict[str, Any]:
    """One row: `repeats` timed calls after a warm-up call."""
    device = device_of(rasterizer.name)
    leaves, camera, K = make_scene(count, size, channels, seed, device)
    weights = torch.rand(1, size, size, channels, generator=torch.Generator().manual_seed(seed)).to(device)

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() * 1e3

    forward, both = [], []
    for i in range(repeats + 1):
        for leaf in leaves:
            leaf.grad = None
        begin = now()
        image, _, _ = rasterizer.render(*leaves, camera, K, size, size)
        middle = now()
        (image * weights).sum().backward()
        end = now()
        if i or repeats == 1:
            forward.append(middle - begin)
            both.append(end - begin)
        if repeats == 1:
            break
    return {
        "backend": rasterizer.name,
        "gaussians": count,
        "size": size,
        "channels": channels,
        "forward_ms": round(statistics.median(forward), 2),
        "forward_backward_ms": round(statistics.median(both), 2),
        "forward_min_ms": round(min(forward), 2),
        "forward_backward_min_ms": round(min(both), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="three of the 27 scenes")
    parser.add_argument("--tiny", action="store_true", help="one scene, to check that it runs")
    parser.add_argument(
        "--backends", default="", help="comma-separated; default: all that run on this machine"
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="timed calls of the fast backends (torch: one or two)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's choice")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    rasterizers: list[Rasterizer] = []
    for name in args.backends.split(",") if args.backends else NAMES[1:]:
        try:
            rasterizers.append(choose(name, device_of(name)))
        except InputError as error:
            if args.backends:
                raise SystemExit(str(error)) from None
            print(f"without {name}: {error}")
    few = TINY if args.tiny else QUICK if args.quick else ()
    scenes = few or [(n, s, c) for n in COUNTS for s in SIZES for c in CHANNELS]
    rows = []
    print(
        f"{'backend':8} {'N':>7} {'size':>5} {'C':>3} {'forward':>10} {'fwd+bwd':>10}   ms, median (minimum)"
    )
    for scene in scenes:
        for rasterizer in rasterizers:
            slow = rasterizer.name in ("torch", "warp") and device_of(rasterizer.name) == "cpu"
            repeats = (2 if scene[0] < 10_000 else 1) if slow else args.repeats
            row = measure(rasterizer, *scene, args.seed, repeats)
            rows.append(row)
            print(
                f"{row['backend']:8} {row['gaussians']:7} {row['size']:5} {row['channels']:3} "
                f"{row['forward_ms']:10.2f} {row['forward_backward_ms']:10.2f}   "
                f"({row['forward_min_ms']:.2f} / {row['forward_backward_min_ms']:.2f})",
                flush=True,
            )
    if args.json:
        print(
            json.dumps(
                {
                    "rows": rows,
                    "env": environment(
                        "cuda" if any(device_of(r.name) == "cuda" for r in rasterizers) else "cpu", args.seed
                    ),
                }
            )
        )


if __name__ == "__main__":
    main()
