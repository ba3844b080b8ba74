"""The CPU kernels of training beside their twins of PyTorch's operators: value and gradient, CPU milliseconds.

    python benchmarks/kernels.py [--json] [--repeats 20] [--threads 1] [--only plane]

Rows {kernel, size, kernel_ms, twin_ms}: the fastest of the repeats, after one that compiles.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.environment import environment
from engine.deform import PRESETS, HexPlane
from engine.deform.hexplane_layout import GridLayout
from engine.deform.network import head_outputs, head_outputs_reference
from engine.deform.plane_sampling import field_features, field_features_reference
from engine.losses.color_loss import color_loss, color_loss_reference
from engine.losses.regularizers import hexplane_regularizer, hexplane_regularizer_reference
from engine.render.shading import shade, shade_reference
from engine.scene import Gaussians, harmonics
from engine.train import exploration
from tests.scenes import ring

SEED = 0
# views, height, width
IMAGES = ((2, 208, 160), (2, 512, 512), (1, 1014, 1352))
# preset, Gaussians
FIELDS = (("small", 5_000), ("small", 30_000), ("dynerf", 100_000))
# Gaussians that noise moves
MOVED = (5_000, 12_000, 100_000)
# Gaussians, SH degree; seen by two cameras
SHADED = ((5_000, 1), (5_000, 3), (100_000, 1), (100_000, 3))
Case = tuple[str, str, Callable[[], Any], Callable[[], Any]]


def colors(views: int, height: int, width: int) -> Case:
    generator = torch.Generator().manual_seed(SEED)
    truth = torch.rand(views, height, width, 3, generator=generator)
    rendered = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).requires_grad_()
    kernel, twin = (
        lambda f=f: torch.autograd.grad(f(rendered, truth, 0.2).loss, rendered)
        for f in (color_loss, color_loss_reference)
    )
    return "L1 + SSIM", f"{views} × {width}×{height}", kernel, twin


def grids_of(preset: str, generator: torch.Generator) -> tuple[Tensor, GridLayout]:
    layout = PRESETS[preset].grid_layout()
    return torch.rand(sum(layout.sizes), generator=generator).requires_grad_(), layout


def planes(preset: str, count: int) -> Case:
    generator = torch.Generator().manual_seed(SEED)
    grids, layout = grids_of(preset, generator)
    points = (torch.rand(count, 3, generator=generator) * 2 - 1).requires_grad_()

    def kernel() -> Any:
        return torch.autograd.grad(field_features(grids, layout, points, [0.3]).sum(), [points, grids])

    def twin() -> Any:
        features = field_features_reference(layout.planes(grids), points, [0.3])
        return torch.autograd.grad(features.sum(), [points, grids])

    return "HexPlane samples", f"{preset}, {count:,} Gaussians", kernel, twin


def plane_terms(preset: str) -> Case:
    grids, layout = grids_of(preset, torch.Generator().manual_seed(SEED))
    weights = 1e-4, 1e-2, 1e-4

    def kernel() -> Any:
        return torch.autograd.grad(hexplane_regularizer(grids, layout, *weights), grids)

    def twin() -> Any:
        return torch.autograd.grad(hexplane_regularizer_reference(layout.planes(grids), *weights), grids)

    return "plane regularizers", preset, kernel, twin


def shading(count: int, degree: int) -> Case:
    generator = torch.Generator().manual_seed(SEED)
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, harmonics.bases(degree), 3))
    gaussians = Gaussians(*(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes))
    inputs, cameras = list(gaussians.tensors().values()), ring(2)
    weights = [torch.ones_like(t) for t in shade(gaussians, cameras)]
    kernel, twin = (
        lambda f=f: torch.autograd.grad(list(f(gaussians, cameras)), inputs, weights)
        for f in (shade, shade_reference)
    )
    return "activation and colors", f"{count:,} Gaussians, SH degree {degree}, 2 views", kernel, twin


def noise(count: int) -> Case:
    generator = torch.Generator().manual_seed(SEED)
    shapes = {"log_scales": (count, 3), "quats": (count, 4), "logit_opacities": (count,)}
    given = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    held = torch.zeros(count, dtype=torch.bool)

    def twin() -> Tensor:
        drawn = torch.randn(count, 3, generator=generator)
        return exploration.shaped_reference(given, held, drawn, 1.0, 0.005)

    return (
        "noise",
        f"{count:,} Gaussians",
        lambda: exploration.shift(given, held, 1.0, 0.005, generator),
        twin,
    )


def network(preset: str, count: int) -> Case:
    generator = torch.Generator().manual_seed(SEED)
    field = HexPlane.create(PRESETS[preset], torch.tensor([[1.0] * 3, [-1.0] * 3]), generator)
    weights, layout = field.network, field.network_layout
    features = torch.rand(count, layout.inputs, generator=generator).t().requires_grad_()

    def kernel() -> Any:
        outputs = head_outputs(weights, layout, features)
        return torch.autograd.grad(torch.cat(outputs, dim=1).sum(), [features, weights])

    def twin() -> Any:
        outputs = head_outputs_reference(layout.layers(weights), features)
        return torch.autograd.grad(torch.cat(outputs, dim=1).sum(), [features, weights])

    return "HexPlane network", f"{preset}, {count:,} Gaussians", kernel, twin


def fastest(run: Callable[[], Any], repeats: int) -> float:
    """CPU milliseconds."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return round(1e3 * min(taken), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--only", default="", help="kernels whose name starts so")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    cases = (
        *(colors(*size) for size in IMAGES),
        *(make(*field) for make in (planes, network) for field in FIELDS),
        *(shading(*size) for size in SHADED),
        *(noise(count) for count in MOVED),
        *(plane_terms(preset) for preset in ("small", "dynerf")),
    )
    for kind, size, kernel, twin in cases:
        if not kind.startswith(arguments.only):
            continue
        row = {
            "kernel": kind,
            "size": size,
            "kernel_ms": fastest(kernel, arguments.repeats),
            "twin_ms": fastest(twin, arguments.repeats),
        }
        rows.append(row)
        print(row, file=sys.stderr)
    print(json.dumps({"rows": rows, "env": environment("cpu", SEED)}))


if __name__ == "__main__":
    main()
