"""The rasterizers against a compositor written from the formulas, and the promises of the CPU kernels."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from torch import Tensor

from engine import backends
from engine.errors import InputError
from engine.render import RasterInfo, RasterSettings, choose, choose_device
from engine.render.torch_reference import TorchRasterizer
from engine.scene.cameras import look_at

numba_cpu = pytest.importorskip("engine.render.numba.rasterizer", reason="numba is not installed")
warp_source = pytest.importorskip("engine.render.warp.rasterizer", reason="warp-lang is not installed")

WIDTH, HEIGHT = 45, 38  # no multiples of a tile or a block
NAMES = ("means", "quats", "scales", "opacities", "features", "background", "means2d")


def make_scene(
    count: int, channels: int, dtype: torch.dtype = torch.float64, seed: int = 0, batched: bool = False
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """[means, quats, scales, opacities, features], background, world_to_camera [2, 4, 4] and K [2, 3, 3]."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    radius = 1.5 * torch.rand(count, 1, generator=generator, dtype=torch.float64) ** (1 / 3)
    leaves = [
        torch.nn.functional.normalize(normal(count, 3), dim=1) * radius,
        normal(count, 4),
        0.45 * max(count, 1) ** (-1 / 3) * torch.exp(0.5 * normal(count, 3)),
        torch.sigmoid(1.5 * normal(count)),
        torch.rand(*((2,) if batched else ()), count, channels, generator=generator, dtype=torch.float64),
    ]
    background = torch.rand(*((2,) if batched else ()), channels, generator=generator, dtype=torch.float64)
    positions = (
        [0.3, -0.2, -4.0],
        [1.2, 0.9, -1.1],
    )  # the second stands inside the cloud: some are behind it
    up = torch.tensor([0.0, -1.0, 0.0])
    w2c = torch.stack([look_at(torch.tensor(p), torch.zeros(3), up) for p in positions])
    K = torch.tensor(
        [[[50.0, 0, 22.0], [0, 47.0, 20.0], [0, 0, 1]], [[30.0, 0, 24.0], [0, 33.0, 17.0], [0, 0, 1]]]
    )
    return [t.to(dtype) for t in leaves], background.to(dtype), w2c.to(dtype), K.to(dtype)


def brute_force(
    leaves: list[Tensor], background: Tensor, w2c: Tensor, K: Tensor, settings: RasterSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Image, alpha and a mask of pixels that sit on no threshold: every Gaussian on every pixel, as the papers say."""
    means, quats, scales, opacities, features = leaves
    ys, xs = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    xs, ys = xs.to(means), ys.to(means)
    w, x, y, z = (quats / quats.norm(dim=1, keepdim=True)).unbind(1)
    # a quaternion's rotation as v + 2w (u × v) + 2 u × (u × v), column by column
    u = torch.stack([x, y, z], dim=1)
    columns = []
    for axis in torch.eye(3).to(means):
        side = torch.linalg.cross(u, axis.expand_as(u))
        columns.append(axis + 2 * w[:, None] * side + 2 * torch.linalg.cross(u, side))
    R = torch.stack(columns, dim=2)
    world_covariance = R @ torch.diag_embed(scales**2) @ R.transpose(1, 2)
    images, alphas, safe = [], [], []
    for b in range(len(w2c)):
        V, t = w2c[b, :3, :3], w2c[b, :3, 3]
        image = torch.zeros(HEIGHT, WIDTH, features.shape[-1]).to(means)
        T, stopped = torch.ones_like(xs), torch.zeros_like(xs, dtype=torch.bool)
        clear = torch.ones_like(stopped)
        points = means @ V.T + t
        for i in points[:, 2].detach().argsort(stable=True).tolist():
            px, py, pz = points[i]
            if not settings.near <= pz <= settings.far:
                continue
            fx, fy, cx, cy = K[b, 0, 0], K[b, 1, 1], K[b, 0, 2], K[b, 1, 2]
            rx = (px / pz).clamp(-cx / fx - 0.15 * WIDTH / fx, (WIDTH - cx) / fx + 0.15 * WIDTH / fx)
            ry = (py / pz).clamp(-cy / fy - 0.15 * HEIGHT / fy, (HEIGHT - cy) / fy + 0.15 * HEIGHT / fy)
            zero = torch.zeros_like(pz)
            J = torch.stack([fx / pz, zero, -fx * rx / pz, zero, fy / pz, -fy * ry / pz]).reshape(2, 3)
            sharp = J @ V @ world_covariance[i] @ V.T @ J.T
            blurred = sharp + settings.eps2d * torch.eye(2).to(means)
            opacity = opacities[i]
            if settings.antialiased:
                opacity = opacity * (torch.linalg.det(sharp) / torch.linalg.det(blurred)).sqrt()
            conic = torch.linalg.inv(blurred)
            d = torch.stack([xs - (fx * px / pz + cx), ys - (fy * py / pz + cy)], dim=-1)
            raw = opacity * torch.exp(-0.5 * (d @ conic * d).sum(-1))
            alpha = torch.where(raw >= 1 / 255, raw.clamp(max=settings.max_alpha), torch.zeros_like(raw))
            with torch.no_grad():
                following = T * (1 - alpha)
                clear &= stopped | (
                    ((raw * 255 - 1).abs() > 1e-3)
                    & ((following / 1e-4 - 1).abs() > 1e-2)
                    & ((raw / settings.max_alpha - 1).abs() > 1e-4)
                )
                stopped = stopped | (following <= 1e-4)
            alpha = torch.where(stopped, torch.zeros_like(alpha), alpha)
            color = features[i] if features.dim() == 2 else features[b, i]
            image = image + (alpha * T)[..., None] * color
            T = T * (1 - alpha)
        images.append(image + T[..., None] * (background if background.dim() == 1 else background[b]))
        alphas.append(1 - T)
        safe.append(clear)
    return torch.stack(images), torch.stack(alphas), torch.stack(safe)


def with_gradients(leaves: list[Tensor], background: Tensor) -> tuple[list[Tensor], Tensor]:
    copies = [t.detach().clone().requires_grad_() for t in (*leaves, background)]
    return copies[:5], copies[5]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


RASTERIZERS = [numba_cpu.NumbaRasterizer(), TorchRasterizer(), warp_source.WarpRasterizer()]
each_rasterizer = pytest.mark.parametrize("rasterizer", RASTERIZERS, ids=lambda r: r.name)


@each_rasterizer
@pytest.mark.parametrize(
    ("channels", "settings", "batched"),
    [
        (1, RasterSettings(), False),
        (3, RasterSettings(), False),
        (3, RasterSettings(max_alpha=0.99), True),
        (4, RasterSettings(antialiased=True), False),
        (2, RasterSettings(near=0.5, far=4.5, eps2d=0.1), True),
        (11, RasterSettings(), True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_image_and_gradients_equal_the_formulas(rasterizer, channels, settings, batched, dtype):
    if dtype == torch.float64 and channels not in (3, 11):
        pytest.skip("the sources are the same: two float64 builds are enough to compile")
    if dtype == torch.float64 and rasterizer.name == "warp":
        pytest.skip("Warp's kernels are float32")
    # float32 numbers for all, so that only the arithmetic differs, not what it is given
    leaves, background, w2c, K = make_scene(120, channels, torch.float32, batched=batched)
    leaves[3][:12] = 0.9995  # some alphas are clamped
    exact, exact_background = with_gradients([t.double() for t in leaves], background.double())
    image, alpha, safe = brute_force(exact, exact_background, w2c.double(), K.double(), settings)
    assert safe.float().mean() > 0.7
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(image.shape, generator=generator, dtype=torch.float64) * safe[..., None]
    alpha_weights = torch.randn(alpha.shape, generator=generator, dtype=torch.float64) * safe
    ((image * weights).sum() + (alpha * alpha_weights).sum()).backward()

    ours, our_background = with_gradients([t.to(dtype) for t in leaves], background.to(dtype))
    our_image, our_alpha, info = rasterizer.render(
        *ours, w2c.to(dtype), K.to(dtype), WIDTH, HEIGHT, our_background, settings
    )
    assert our_image.dtype == our_alpha.dtype == dtype
    ((our_image * weights.to(dtype)).sum() + (our_alpha * alpha_weights.to(dtype)).sum()).backward()
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert ((our_image - image).abs() * safe[..., None]).max() < tolerance
    assert ((our_alpha - alpha).abs() * safe).max() < tolerance
    for name, a, b in zip(NAMES, (*ours, our_background), (*exact, exact_background), strict=False):
        assert relative(a.grad, b.grad) < tolerance, name
    assert info.radii.shape == (2, 120) and info.visible.any() and not info.visible.all()


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_agree_with_finite_differences(antialiased):
    leaves, background, w2c, K = make_scene(6, 5, seed=4)
    leaves[2] *= 0.6
    settings = RasterSettings(antialiased=antialiased)

    def picture(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        image, alpha, _ = numba_cpu.NumbaRasterizer().render(
            *tensors[:5],
            w2c,
            K / torch.tensor([3.0, 3.0, 1.0])[:, None].double(),
            15,
            13,
            tensors[5],
            settings,
        )
        return image, alpha

    inputs = [t.requires_grad_() for t in (*leaves, background)]
    assert picture(*inputs)[1].max() > 0.5
    assert torch.autograd.gradcheck(picture, inputs, atol=1e-6, rtol=1e-5)


def test_gradients_of_camera_features_and_backgrounds_agree_with_finite_differences():
    leaves, background, w2c, K = make_scene(4, 5, seed=2, batched=True)

    def picture(features: Tensor, background: Tensor) -> Tensor:
        return numba_cpu.NumbaRasterizer().render(*leaves[:4], features, w2c, K / 4, 12, 10, background)[0]

    assert torch.autograd.gradcheck(picture, [leaves[4].requires_grad_(), background.requires_grad_()])


@each_rasterizer
def test_the_gradient_of_the_projected_means_is_kept(rasterizer):
    """Moving every mean sideways by what moves its projection by a pixel changes the loss by that much."""
    dtype, tolerance = (torch.float32, 1e-4) if rasterizer.name == "warp" else (torch.float64, 1e-10)
    leaves, background, w2c, K = make_scene(60, 3, dtype)
    leaves, background = with_gradients(leaves, background)
    w2c, K = w2c[:1], K[:1]
    image, _, info = rasterizer.render(*leaves, w2c, K, WIDTH, HEIGHT, background)
    with pytest.raises(RuntimeError, match="backward"):
        _ = info.means2d_gradient
    (image**2).sum().backward(retain_graph=True)
    once = info.means2d_gradient.clone()
    assert once.shape == (1, 60, 2) and once.abs().max() > 0
    assert (once[~info.visible] == 0).all()
    assert not info.means2d.requires_grad and info.radii.dtype == torch.int32
    (image**2).sum().backward()
    torch.testing.assert_close(info.means2d_gradient, 2 * once)
    reference, reference_background = with_gradients(leaves, background)
    other, _, other_info = TorchRasterizer().render(*reference, w2c, K, WIDTH, HEIGHT, reference_background)
    (other**2).sum().backward()
    assert relative(once, other_info.means2d_gradient) < tolerance
    seen = info.visible
    assert torch.equal(info.radii, other_info.radii)
    torch.testing.assert_close(info.means2d[seen], other_info.means2d[seen])


def test_projection_is_gsplats():
    reference = pytest.importorskip(
        "gsplat.cuda._torch_impl",
        reason="gsplat is not installed (pip install gsplat; no CUDA is needed for this)",
    )
    leaves, _, w2c, K = make_scene(3000, 3, torch.float32)
    means, quats, scales, _, features = leaves
    opacities = torch.ones(3000)
    covariances, _ = reference._quat_scale_to_covar_preci(quats, scales, True, False, triu=False)
    radii, means2d, _, _, _ = reference._fully_fused_projection(means, covariances, w2c, K, WIDTH, HEIGHT)
    both = 0
    for rasterizer in RASTERIZERS:
        _, _, info = rasterizer.render(means, quats, scales, opacities, features, w2c, K, WIDTH, HEIGHT)
        seen = info.visible & (radii > 0).all(-1)
        both += int(seen.sum())
        assert (info.means2d - means2d)[seen].abs().max() < 1e-4
        assert (info.radii - radii.amax(-1))[
            seen
        ].abs().max() <= 1  # gsplat's twin reaches 3.33 σ, not to 1/255
        assert (info.visible ^ (radii > 0).all(-1)).float().mean() < 2e-3
    assert both > 2000


def everything(rasterizer, channels: int = 3, count: int = 400) -> list[Tensor]:
    leaves, background, w2c, K = make_scene(count, channels, torch.float32, seed=3)
    leaves, background = with_gradients(leaves, background)
    image, alpha, info = rasterizer.render(*leaves, w2c, K, 150, 140, background)
    (image.sin().sum() + alpha.cos().sum()).backward()
    return [image.detach(), alpha.detach(), info.radii, info.means2d_gradient, background.grad] + [
        t.grad for t in leaves
    ]


@pytest.mark.parametrize("channels", [3, 9])
def test_bits_do_not_depend_on_run_or_thread_count(channels):
    rasterizer, before = numba_cpu.NumbaRasterizer(), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(everything(rasterizer, channels, count=6000))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_many_threads_may_render_at_once():
    rasterizer, before = numba_cpu.NumbaRasterizer(), torch.get_num_threads()
    expected = everything(rasterizer)
    found: list[list[Tensor]] = []
    try:
        torch.set_num_threads(2)
        threads = [threading.Thread(target=lambda: found.append(everything(rasterizer))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert len(found) == 6
    for result in found:
        assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (4,), (5,), (3, 5)], ids=lambda w: "+".join(NAMES[i] for i in w))
def test_only_wanted_gradients_are_made_and_they_are_the_same(wanted):
    leaves, background, w2c, K = make_scene(80, 3, torch.float32)
    all_leaves, all_background = with_gradients(leaves, background)
    rasterizer = numba_cpu.NumbaRasterizer()
    rasterizer.render(*all_leaves, w2c, K, WIDTH, HEIGHT, all_background)[0].square().sum().backward()
    some = [t.clone().requires_grad_(i in wanted) for i, t in enumerate((*leaves, background))]
    rasterizer.render(*some[:5], w2c, K, WIDTH, HEIGHT, some[5])[0].square().sum().backward()
    for i, (a, b) in enumerate(zip(some, (*all_leaves, all_background), strict=True)):
        assert (a.grad is not None) == (i in wanted)
        assert a.grad is None or torch.equal(a.grad, b.grad)


@each_rasterizer
@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_picture_is_the_background(rasterizer, count):
    leaves, background, w2c, K = make_scene(count, 3, torch.float32)
    leaves[0] = leaves[0] + torch.tensor([0.0, 0.0, 1e4])  # far behind both cameras' pictures
    leaves[3] = leaves[3] * 0
    leaves, background = with_gradients(leaves, background)
    image, alpha, info = rasterizer.render(*leaves, w2c, K, WIDTH, HEIGHT, background)
    assert torch.equal(image, background.expand(2, HEIGHT, WIDTH, 3)) and (alpha == 0).all()
    assert info.means2d.shape == (2, count, 2) and info.radii.shape == (2, count) and not info.visible.any()
    image.sum().backward()
    torch.testing.assert_close(background.grad, torch.full((3,), 2.0 * WIDTH * HEIGHT))
    assert all(t.grad is None or (t.grad == 0).all() for t in leaves)


@each_rasterizer
def test_degenerate_gaussians_leave_finite_pictures_and_gradients(rasterizer):
    leaves, background, w2c, K = make_scene(40, 3, torch.float32)
    leaves[1][0] = 0  # no direction
    leaves[2][1] = 0  # a point
    leaves[2][2] = 1e4  # larger than the world
    leaves[2][3, :2] = 0  # a needle
    leaves[3][4], leaves[3][5] = 0.0, 1.0
    leaves[0][6] = torch.tensor(float("nan"))
    leaves, background = with_gradients(leaves, background)
    for antialiased in (False, True):
        settings = RasterSettings(antialiased=antialiased)
        image, alpha, info = rasterizer.render(*leaves, w2c, K, WIDTH, HEIGHT, background, settings)
        assert image.isfinite().all() and alpha.isfinite().all() and (info.radii[:, 6] == 0).all()
        (image.sum() + alpha.sum()).backward()
        good = torch.arange(40) != 6
        assert all(t.grad[good].isfinite().all() for t in leaves)


def test_a_changed_picture_is_noticed_by_backward():
    leaves, background, w2c, K = make_scene(20, 3, torch.float32)
    leaves, background = with_gradients(leaves, background)
    image, _, _ = numba_cpu.NumbaRasterizer().render(*leaves, w2c, K, WIDTH, HEIGHT, background)
    image.detach().mul_(0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        image.sum().backward()


@each_rasterizer
def test_one_large_gaussian_has_the_alpha_of_its_formula(rasterizer):
    """σ² = (scale · f / z)² + eps2d around the principal point, at the centers of pixels."""
    identity = torch.eye(4)[None]
    K = torch.tensor([[[40.0, 0, 16.5], [0, 40.0, 8.5], [0, 0, 1]]])
    one = torch.ones(1, 1)
    args = (
        torch.tensor([[0.0, 0, 2]]),
        torch.tensor([[2.0, 0, 0, 0]]),
        torch.full((1, 3), 0.2),
        torch.tensor([0.8]),
    )
    _, alpha, info = rasterizer.render(*args, one, identity, K, 32, 17)
    variance = (0.2 * 40 / 2) ** 2 + 0.3
    for x, y in ((16, 8), (20, 8), (16, 13), (19, 4), (25, 12)):
        expected = 0.8 * math.exp(-((x - 16) ** 2 + (y - 8) ** 2) / (2 * variance))
        assert abs(float(alpha[0, y, x]) - expected) < 1e-6
    assert int(info.radii[0, 0]) == math.ceil(math.sqrt(2 * math.log(0.8 * 255)) * math.sqrt(variance))


def test_inputs_are_not_changed_and_no_gradient_is_needed():
    leaves, background, w2c, K = make_scene(30, 3, torch.float32)
    copies = [t.clone() for t in (*leaves, background, w2c, K)]
    with torch.inference_mode():
        numba_cpu.NumbaRasterizer._ready.clear()  # the first call of a process may be this one
        image, _, info = numba_cpu.NumbaRasterizer().render(*leaves, w2c, K, WIDTH, HEIGHT, background)
    assert not image.requires_grad and isinstance(info, RasterInfo)
    assert all(torch.equal(a, b) for a, b in zip(copies, (*leaves, background, w2c, K), strict=True))


@pytest.mark.parametrize(
    ("has_cuda", "gsplat", "has_warp", "has_numba", "rasterizer", "wanted"),
    [
        (False, False, True, True, "auto", "cpu"),
        (True, True, False, True, "auto", "cuda"),
        (True, False, True, True, "auto", "cuda"),
        (True, False, False, True, "auto", "cpu"),
        (True, False, False, False, "auto", "cuda"),
        (True, True, True, True, "numba", "cpu"),
        (True, False, False, True, "torch", "cuda"),
        (True, False, False, True, "warp", "cuda"),
    ],
)
def test_a_card_without_gsplat_and_warp_is_left_alone_where_the_cpu_kernel_is_there(
    monkeypatch, caplog, has_cuda, gsplat, has_warp, has_numba, rasterizer, wanted
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(backends, "_gsplat", {False: None if gsplat else "it was not compiled"})
    monkeypatch.setattr("engine.render.gsplat_cuda._wrong_here", lambda index: None)
    monkeypatch.setattr("engine.render.warp._wrong_here", lambda index: None if has_warp else "an old driver")
    monkeypatch.setattr(backends, "installed", lambda package: has_numba)
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose_device(rasterizer) == wanted
    assert ("gsplat cannot run" in caplog.text) == (wanted == "cpu" and has_cuda and rasterizer == "auto")


def test_choose_names_what_is_missing():
    assert choose("auto", "cpu").name == "numba"
    assert choose("torch").name == "torch"
    with pytest.raises(InputError, match="quick"):
        choose("quick")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="pip install gsplat"):
            choose("gsplat")
