"""Warp's kernels as a GPU runs them: a tile's pixels on threads of their own, machine code for CUDA, groups of channels.

Their images and gradients are held to the formulas in test_rasterizer.py, on the CPU, where a tile is one thread.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import engine.render.warp as registered
from engine.render import self_check, torch_reference
from engine.render.rasterizer import RasterSettings
from engine.render.torch_reference import TorchRasterizer
from tests.engine.test_rasterizer import HEIGHT, NAMES, WIDTH, make_scene, relative, with_gradients

wp = pytest.importorskip("warp", reason="warp-lang is not installed")
source = pytest.importorskip("engine.render.warp.rasterizer", reason="warp-lang is not installed")


ROOT = Path(__file__).resolve().parents[2]


def gradients(rasterizer, channels: int, count: int = 300) -> list[torch.Tensor]:
    leaves, background, w2c, K = make_scene(count, channels, torch.float32, seed=3)
    leaves, background = with_gradients(leaves, background)
    image, alpha, info = rasterizer.render(*leaves, w2c, K, WIDTH, HEIGHT, background)
    (image.sin().sum() + alpha.cos().sum()).backward()
    return [*(t.grad for t in (*leaves, background)), info.means2d_gradient]


@pytest.mark.parametrize("block", [64, 256])
def test_threads_that_share_a_tile_add_up_its_gradients(monkeypatch, block):
    """Blocks of threads run as fibers on the CPU, so that the sums over a tile are those of a GPU."""
    monkeypatch.setattr(wp.config, "enable_cpu_blocks", True)
    alone = gradients(source.WarpRasterizer(), 3)
    shared = gradients(source.WarpRasterizer(block=block), 3)
    for name, a, b in zip(NAMES, shared, alone, strict=True):
        assert relative(a, b) < 1e-5, name


def test_many_channels_are_composited_in_groups():
    ours, reference = gradients(source.WarpRasterizer(), 37), gradients(TorchRasterizer(), 37)
    for name, a, b in zip(NAMES, ours, reference, strict=True):
        assert relative(a, b) < 1e-4, name


def test_nothing_is_printed_between_the_results_of_the_command_line():
    code = (
        "from tests.engine.test_warp import gradients, source\n"
        "gradients(source.WarpRasterizer(), 3, count=5)\n"
        "print('the result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "the result\n"


def test_the_same_call_gives_the_same_bits():
    first, second = (gradients(source.WarpRasterizer(), 3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("architecture", [75, 90])
def test_kernels_compile_for_cuda_without_a_gpu(tmp_path: Path, architecture: int):
    source.WarpRasterizer()
    kernels = *source.compositing(3, source.PIXELS), source.count_tiles, source.projection.project_backward
    for kernel in kernels:
        kernel.module.options["block_dim"] = source.PIXELS
        wp.compile_aot_module(kernel.module, arch=architecture, module_dir=tmp_path)
    assert len(list(tmp_path.glob(f"*.sm{architecture}.cubin"))) == len(kernels)


@pytest.mark.parametrize("antialiased", [False, True])
def test_projection_and_its_gradients_equal_the_formulas(antialiased: bool):
    """In two cameras, with Gaussians behind them, far outside of the image (their rays are clamped) and on its border."""
    generator = torch.Generator().manual_seed(4)
    count, size = 400, (64, 48)
    leaves = [
        torch.randn(count, 3, generator=generator) * torch.tensor([6.0, 4.0, 2.0]),
        torch.randn(count, 4, generator=generator) * 3.0,
        0.3 * torch.rand(count, 3, generator=generator) + 0.05,
        torch.rand(count, generator=generator),
    ]
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, 2, 3] = torch.tensor([3.0, 5.0])
    poses[1, :3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.3, 0.2], [0.3, 0, 0.1], [-0.2, -0.1, 0]]))
    K = torch.tensor([[50.0, 0, 30], [0, 55, 25], [0, 0, 1]]).repeat(2, 1, 1)
    settings = RasterSettings(antialiased=antialiased)
    found = []
    for project, dtype in (
        (source.projection.project, torch.float32),
        (torch_reference.project, torch.float64),
    ):
        copies = [leaf.to(dtype, copy=True).requires_grad_() for leaf in leaves]
        p = project(*copies, poses.to(dtype), K.to(dtype), *size, settings)
        shown = (p.radii > 0)[..., None]
        values = [p.means2d, p.conics, p.opacities[..., None], p.reach, p.depths[..., None]]
        values = [torch.where(shown, value, 0) for value in values]
        sum((value.sin() * (k + 1)).sum() for k, value in enumerate(values[:3])).backward()
        found.append([p.radii, *(value.detach() for value in values), *(copy.grad for copy in copies)])
    assert torch.equal(found[0][0], found[1][0])
    assert 100 < int((found[0][0] > 0).sum()) < 700
    for ours, reference in zip(found[0][1:], found[1][1:], strict=True):
        assert relative(ours.double(), reference) < 1e-4


def test_cameras_that_are_optimized_have_gradients():
    found = []
    for rasterizer in (source.WarpRasterizer(), TorchRasterizer()):
        leaves, background, w2c, K = make_scene(50, 3, torch.float32, seed=3)
        w2c, K = w2c.clone().requires_grad_(), K.clone().requires_grad_()
        image, *_ = rasterizer.render(*leaves, w2c, K, WIDTH, HEIGHT, background)
        image.sin().sum().backward()
        found.append((w2c.grad, K.grad))
    assert all(relative(ours, reference) < 1e-4 for ours, reference in zip(*found, strict=True))


def test_a_device_whose_images_differ_is_not_used(monkeypatch):
    assert self_check.difference("cpu", source.WarpRasterizer()) < 1e-5
    assert self_check.difference("cpu", Blurred()) > self_check.LARGEST
    assert not self_check.is_close(float("nan"))
    monkeypatch.setattr(self_check, "_found", {})
    monkeypatch.setattr(wp, "is_cuda_available", lambda: False)
    assert "update the NVIDIA driver" in registered._wrong_here(0)
    monkeypatch.setattr(wp, "is_cuda_available", lambda: True)
    monkeypatch.setattr(self_check, "difference", lambda device, ours: 0.5)
    assert "differ from the reference by 0.5" in registered._wrong_here(1)


class Blurred(source.WarpRasterizer):
    """One that reads the conics wrongly."""

    def render(self, *args, **kwargs):
        means, quats, scales, *rest = args
        return super().render(means, quats, scales * 1.05, *rest, **kwargs)
