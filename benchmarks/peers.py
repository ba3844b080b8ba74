"""The CPU rasterizer against others on the same machine in one run: forward, and forward + backward, in CPU milliseconds.

    python benchmarks/peers.py --json [--opensplat DIR] [--repeats 7] [--threads 1]

Peers: OpenSplat's CPU path, compiled here from a clone of its repository (`--opensplat`; it needs a C++ compiler and is not part
of this project: its license is the AGPL), Warp's kernels on the CPU, and PyTorch's operators. Scenes are those of rasterizer.py,
three channels. Each row takes the fastest of its repeats, with the peers in turn. `difference` is the mean absolute difference of
a peer's image from ours, in 0..1: a check that all draw the same scene.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.rasterizer import make_scene
from engine.render import choose
from engine.render.registry import find

SEED = 0
SCENES = ((2_000, 128), (20_000, 256), (20_000, 512), (100_000, 256), (100_000, 512))
# from here on, the slow ones are called once, without a warm-up
MANY = 10_000
SLOW = ("torch", "warp")
# leaves, camera, intrinsics and size → image [H, W, 3]
Draw = Callable[[list[Tensor], Tensor, Tensor, int], Tensor]
GLUE = """
#include <torch/extension.h>
#include "rasterizer/gsplat-cpu/bindings.h"
using torch::Tensor;
std::vector<Tensor> project(Tensor means, Tensor scales, Tensor quats, Tensor view, Tensor projection, double focal,
                            int64_t size) {
    auto t = project_gaussians_forward_tensor_cpu(means.size(0), means, scales, 1.0f, quats, view, projection, focal, focal,
                                                  size / 2.0f, size / 2.0f, size, size, 0.01f);
    return {std::get<0>(t), std::get<2>(t), std::get<3>(t), std::get<4>(t)};
}
std::tuple<Tensor, Tensor, int64_t> draw(int64_t size, Tensor xys, Tensor conics, Tensor colors, Tensor opacities,
                                         Tensor background, Tensor cov2d, Tensor depths) {
    auto t = rasterize_forward_tensor_cpu(size, size, xys, conics, colors, opacities, background, cov2d, depths);
    return {std::get<0>(t), std::get<1>(t), reinterpret_cast<int64_t>(std::get<2>(t))};
}
std::vector<Tensor> draw_backward(int64_t size, Tensor xys, Tensor conics, Tensor colors, Tensor opacities, Tensor background,
                                  Tensor cov2d, Tensor depths, Tensor left, int64_t ids, Tensor gradient) {
    auto kept = reinterpret_cast<std::vector<int32_t> *>(ids);
    auto t = rasterize_backward_tensor_cpu(size, size, xys, conics, colors, opacities, background, cov2d, depths, left, kept,
                                           gradient, torch::zeros_like(gradient.select(-1, 0)));
    delete[] kept;
    return {std::get<0>(t), std::get<1>(t), std::get<2>(t), std::get<3>(t)};
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
    m.def("project", &project);
    m.def("draw", &draw);
    m.def("draw_backward", &draw_backward);
}
"""


def opensplat(folder: Path) -> Draw:
    """OpenSplat's CPU rasterizer, compiled from the clone in `folder` as its own build does, for this machine's processor."""
    from torch.utils.cpp_extension import load

    build = folder / "build-peers"
    build.mkdir(exist_ok=True)
    glue = build / "glue.cpp"
    glue.write_text(GLUE)
    sources = [str(glue), str(folder / "rasterizer" / "gsplat-cpu" / "gsplat_cpu.cpp")]
    flags = ["-O3", "-march=native", "-DNDEBUG"]
    native: Any = load(
        "opensplat_cpu",
        sources,
        extra_cflags=flags,
        extra_include_paths=[str(folder)],
        build_directory=str(build),
    )

    class Rasterize(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, size: int, *given: Tensor) -> Tensor:
            image, left, ctx.ids = native.draw(size, *given)
            ctx.size = size
            ctx.save_for_backward(*given, left)
            return image

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            *given, left = ctx.saved_tensors
            slopes = native.draw_backward(ctx.size, *given, left, ctx.ids, grads[0].contiguous())
            return None, *slopes, None, None, None

    def draw(leaves: list[Tensor], camera: Tensor, K: Tensor, size: int) -> Tensor:
        means, quats, scales, opacities, colors = leaves
        focal, near, far = float(K[0, 0, 0]), 0.001, 1000.0
        wide = 2 * focal / size
        projection = torch.tensor(
            [
                [wide, 0, 0, 0],
                [0, wide, 0, 0],
                [0, 0, (far + near) / (far - near), -far * near / (far - near)],
                [0, 0, 1, 0],
            ]
        )
        unit = quats / quats.norm(dim=-1, keepdim=True)
        xys, conics, cov2d, depths = native.project(
            means, scales, unit, camera[0], projection @ camera[0], focal, size
        )
        # OpenSplat reads the depths as if they were contiguous, which sorts a strided view wrongly
        depths, background = depths.contiguous(), torch.zeros(3)
        given = (xys, conics, colors, opacities[:, None], background, cov2d, depths)
        return Rasterize.apply(size, *given)  # pyright: ignore

    return draw


def registered(name: str) -> Draw:
    """A rasterizer of the engine, on the CPU."""
    rasterizer = choose(name, "cpu")

    def draw(leaves: list[Tensor], camera: Tensor, K: Tensor, size: int) -> Tensor:
        means, quats, scales, opacities, colors = leaves
        return rasterizer.render(means, quats, scales, opacities, colors, camera, K, size, size)[0][0]

    return draw


def cost(draw: Draw, count: int, size: int) -> tuple[float, float, Tensor]:
    """(forward, forward + backward) in CPU milliseconds of one call, and the image."""
    leaves, camera, K = make_scene(count, size, 3, SEED, "cpu")
    weights = torch.rand(size, size, 3, generator=torch.Generator().manual_seed(SEED))
    begin = time.process_time()
    image = draw(leaves, camera, K, size)
    middle = time.process_time()
    (image * weights).sum().backward()
    return 1e3 * (middle - begin), 1e3 * (time.process_time() - begin), image.detach()


def rows_of(peers: dict[str, Draw], count: int, size: int, repeats: int) -> list[dict[str, Any]]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    images: dict[str, Tensor] = {}
    for turn in range(repeats + 1):
        for name, draw in peers.items():
            is_slow = name in SLOW and count >= MANY
            if is_slow and turn:
                continue
            forward, both, images[name] = cost(draw, count, size)
            if turn or is_slow:
                times[name].append((forward, both))
    ours = images["numba"]
    return [
        {
            "peer": name,
            "gaussians": count,
            "size": size,
            "forward_ms": round(min(forward for forward, _ in measured), 1),
            "forward_backward_ms": round(min(both for _, both in measured), 1),
            "difference": round(float((images[name] - ours).abs().mean()), 5),
        }
        for name, measured in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--opensplat", type=Path, help="a clone of OpenSplat's repository")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = ["numba", *(name for name in SLOW if find(name).obstacle() is None)]
    peers = {name: registered(name) for name in names}
    if arguments.opensplat:
        peers["OpenSplat"] = opensplat(arguments.opensplat.resolve())
    rows: list[dict[str, Any]] = []
    for count, size in SCENES:
        for row in rows_of(peers, count, size, arguments.repeats):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    print(json.dumps({"rows": rows, "threads": arguments.threads, "env": environment("cpu", SEED)}))


if __name__ == "__main__":
    main()
