"""gsplat's and Warp's CUDA kernels give the CPU kernel's pictures and gradients."""

from __future__ import annotations

import pytest
import torch

from engine import backends
from engine.render import RasterSettings, choose
from engine.render.registry import find
from engine.scene.cameras import look_at

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU run: torch does not find a CUDA device"),
]
OBSTACLES = {
    "gsplat": lambda: backends.gsplat_obstacle(may_compile=True),
    "warp": find("warp").obstacle,
}

NAMES = ("means", "quats", "scales", "opacities", "features", "background")


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, 11, 40])
@pytest.mark.parametrize("rasterizer", list(OBSTACLES))
def test_a_cuda_rasterizer_equals_the_cpu_kernel(rasterizer, channels, antialiased, batched):
    obstacle = OBSTACLES[rasterizer]()
    if obstacle is not None:
        pytest.skip(obstacle)
    settings = RasterSettings(antialiased=antialiased)
    if rasterizer == "gsplat":
        import gsplat

        version = tuple(int(v) for v in gsplat.__version__.split(".")[:2])
        settings = RasterSettings(antialiased=antialiased, max_alpha=0.999 if version < (1, 6) else 0.99)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    n, width, height = 600, 120, 90
    leaves = [
        normal(n, 3) * 0.6,
        normal(n, 4),
        0.06 * torch.exp(0.5 * normal(n, 3)),
        torch.sigmoid(1.5 * normal(n)),
        torch.rand(*((2,) if batched else ()), n, channels, generator=generator),
        torch.rand(channels, generator=generator),
    ]
    up = torch.tensor([0.0, -1.0, 0.0])
    w2c = torch.stack(
        [look_at(torch.tensor(p), torch.zeros(3), up) for p in ([0.0, 0, -4], [3.0, 1, -1])]
    ).float()
    K = torch.tensor([[120.0, 0, 58], [0, 118, 47], [0, 0, 1]]).expand(2, 3, 3)
    weights = normal(2, height, width, channels)
    found = []
    for device, name in (("cpu", "numba"), ("cuda", rasterizer)):
        copies = [t.to(device).requires_grad_() for t in (x.clone() for x in leaves)]
        image, alpha, info = choose(name, device).render(
            *copies[:5], w2c.to(device), K.to(device), width, height, copies[5], settings
        )
        ((image * weights.to(device)).sum() + (alpha * weights[..., 0].to(device)).sum()).backward()
        tensors = [image, alpha, info.radii, info.means2d_gradient, *(t.grad for t in copies)]
        found.append([t.detach().cpu() for t in tensors])
    (cpu_image, cpu_alpha, cpu_radii, *cpu_gradients), (image, alpha, radii, *gradients) = found
    # single pixels sit on a threshold and decide differently
    assert ((image - cpu_image).abs() > 1e-4).float().mean() < 2e-3
    assert ((alpha - cpu_alpha).abs() > 1e-4).float().mean() < 2e-3
    assert (radii - cpu_radii).abs().max() <= 1
    for name, a, b in zip(("means2d", *NAMES), gradients, cpu_gradients, strict=True):
        assert a.shape == b.shape, name
        assert (a - b).norm() < 2e-3 * b.norm(), name


def test_warp_gives_the_same_bits_twice():
    obstacle = OBSTACLES["warp"]()
    if obstacle is not None:
        pytest.skip(obstacle)
    generator = torch.Generator().manual_seed(1)
    n, found = 4000, []
    leaves = [
        torch.randn(n, 3, generator=generator) * 0.6,
        torch.randn(n, 4, generator=generator),
        0.05 * torch.rand(n, 3, generator=generator),
        torch.rand(n, generator=generator),
        torch.rand(n, 3, generator=generator),
    ]
    w2c = look_at(torch.tensor([0.0, 0, -4]), torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))[None].float()
    K = torch.tensor([[[120.0, 0, 58], [0, 118, 47], [0, 0, 1]]])
    for _ in range(2):
        copies = [t.cuda().requires_grad_() for t in (x.clone() for x in leaves)]
        image, alpha, _ = choose("warp", "cuda").render(*copies, w2c.cuda(), K.cuda(), 120, 90)
        (image.sin().sum() + alpha.cos().sum()).backward()
        found.append([image.detach(), alpha.detach(), *(t.grad for t in copies)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
