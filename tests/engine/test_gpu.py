"""On a GPU: SSIM and its gradient are the CPU's, and a resumed training is as close to a whole one as a second one is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine import messages as m
from engine.losses.metrics import decibels
from engine.losses.photometric import ssim
from engine.render import choose, render_gaussians
from engine.scene import Scene4D
from engine.steps import fit_scene
from tests.scenes import capture_of, moving_scene

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU run: torch does not find a CUDA device"),
]


@pytest.mark.parametrize("size", [(33, 40), (507, 676), (1014, 1352)])
def test_ssim_and_its_gradient_are_the_cpus(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, *size, generator=generator)
    b = (a + 0.05 * torch.randn(a.shape, generator=generator)).clamp(0, 1)
    values, gradients = [], []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        image = a.to(device, dtype).requires_grad_()
        value = ssim(image, b.to(device, dtype))
        (gradient,) = torch.autograd.grad(value.sum(), image)
        values.append(value.detach().double().cpu())
        gradients.append(gradient.double().cpu())
    # TF32 would be off by 0.4
    assert float((values[1] - values[0]).abs().max()) < 1e-5
    assert float((gradients[1] - gradients[0]).norm()) < 1e-3 * float(gradients[0].norm())


@torch.no_grad()
def psnr(a: Scene4D, b: Scene4D) -> float:
    """Of all views of the middle frame, one scene against the other."""
    seconds = float(a.times[len(a.times) // 2])
    images = [render_gaussians(each.at(seconds), each.rig, choose("auto")).rgb.clamp(0, 1) for each in (a, b)]
    return float(decibels((images[0] - images[1]).square().mean()))


@pytest.mark.parametrize("density", ["none", "fixed budget", "adaptive"])
def test_a_resumed_training_is_as_close_to_a_whole_one_as_a_second_one(density: str, tmp_path: Path) -> None:
    video = capture_of(moving_scene())
    config = fit_scene.Config(
        iterations=60, budget=300, initial_count=150, coarse_fraction=0.2, preview_every=0, density=density
    )
    first, second = (m.result(fit_scene.run(video, config, "cuda")) for _ in range(2))
    checkpoint = tmp_path / "training.safetensors"
    stream = fit_scene.run(video, config, "cuda", checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done >= 31:
            break
    stream.close()
    assert checkpoint.is_file()
    messages = list(fit_scene.run(video, config, "cuda", checkpoint))
    assert next(x for x in messages if isinstance(x, m.Progress)).done > 31
    resumed = messages[-1].value
    # the order of sums on a GPU varies, and training enlarges the difference
    assert psnr(first, resumed) > min(45.0, psnr(first, second) - 6)
