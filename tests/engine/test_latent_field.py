"""Latents drawn from Gaussians: where they lie, what stands behind them, whose they are, and the layer that refines them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from engine.diffusion.stable_diffusion import StableDiffusion
from engine.errors import InputError
from engine.latent import Drawing, FieldRenderer, LatentField, VaeSignature, draw, latent_cameras, min_scales
from engine.models.latent_refiner import LatentRefiner, RefinerShape
from engine.render import choose, render_gaussians
from engine.render.torch_reference import TorchRasterizer
from engine.scene import Cameras, harmonics
from engine.steps.train_latents import Config
from engine.train.latent_training import first_refiner
from tests.latent_scenes import Known
from tests.scenes import moving_scene, ring
from tests.tiny_diffusion import tiny_backbone, tiny_parts

PLAIN = Drawing(samples=4, scale_floor=0.0, antialiased=False)  # nothing but compositing and averaging


@pytest.fixture(scope="module")
def scene():
    return moving_scene(sh_degree=0)


@pytest.fixture(scope="module")
def numba():
    return choose("auto")


def colors_of(gaussians):
    return harmonics.dc_to_rgb(gaussians.sh[:, :1])


def shifted(cameras, pixels):
    K = cameras.K.clone()
    K[:, 0, 2] += pixels
    return Cameras(cameras.world_to_camera, K, cameras.sizes, cameras.names)


# -- the refinement layer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (24, 32)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_zero_init_identity(channels, size, blocks):
    refiner = LatentRefiner(RefinerShape(channels, width=32, groups=8, heads=2, blocks=blocks))
    z = 5 * torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(refiner(z), z)
    with torch.no_grad():
        refiner.conv_out.weight[0, 0, 1, 1] = 0.5
    assert not torch.equal(refiner(z), z), "and what comes before the last layer is not idle"


def test_the_full_size_refiner_has_the_keys_that_the_paper_like_one_is_read_from():
    shape = RefinerShape()
    names = set(LatentRefiner(shape).state_dict())
    blocks = [f"{b}.{part}" for b in ("res1", "res2") for part in ("norm1", "conv1", "norm2", "conv2")]
    parts = ["conv_in", *blocks, *(f"attn.{part}" for part in ("norm", "q", "k", "v", "proj"))]
    parts += ["norm_out", "conv_out"]
    assert names == {f"{part}.{what}" for part in parts for what in ("weight", "bias")}
    assert (shape.width, shape.groups, shape.heads, shape.blocks) == (128, 32, 1, 2)


def test_attention_reaches_across_the_whole_picture():
    refiner = LatentRefiner(RefinerShape(4, 16, groups=4))
    z = torch.randn(1, 16, 9, 9, generator=torch.Generator().manual_seed(1))
    other = z.clone()
    other[0, :, 0, 0] += 1
    assert bool((refiner.attn(z) != refiner.attn(other))[0, :, 8, 8].any())


def test_a_shape_that_cannot_be_is_refused():
    for shape in (RefinerShape(width=33), RefinerShape(width=32, heads=3), RefinerShape(blocks=0)):
        with pytest.raises(ValueError, match="refiner"):
            LatentRefiner(shape)


def refiner_of(model):
    refiner = first_refiner(Config(refiner="autoencoder"), model)
    assert refiner is not None
    return refiner


def middle_by_hand(vae, z):
    """(what the decoder's first convolution gives, what its middle block gives) of scaled latents."""
    raw = vae.post_quant_conv(z / vae.config.scaling_factor)
    first = vae.decoder.conv_in(raw)
    return first, vae.decoder.mid_block(first)


@torch.no_grad()
def test_the_autoencoders_middle_block_starts_the_refiner():
    model = tiny_backbone()
    for (
        name,
        parameter,
    ) in model.vae.named_parameters():  # diffusers' start is too near to nothing to tell parts apart
        if "norm" in name or name.endswith("bias"):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    # zero padding is of mixed latents in the decoder and of scaled ones here: the same where the mix adds nothing
    model.vae.post_quant_conv.bias.zero_()
    refiner = refiner_of(model)
    z = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(3))
    first, middle = middle_by_hand(model.vae, z)
    torch.testing.assert_close(refiner.conv_in(z), first, atol=1e-5, rtol=0)
    torch.testing.assert_close(refiner.res2(refiner.attn(refiner.res1(first))), middle, atol=1e-5, rtol=0)
    assert float((middle - first).abs().max()) > 0.1
    assert torch.equal(refiner(z), z), "it starts as the identity all the same"


@torch.no_grad()
def test_an_offset_of_the_decoders_mix_is_right_everywhere_but_on_the_rim():
    model = tiny_backbone()
    model.vae.post_quant_conv.bias.add_(0.5)
    z = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(3))
    first, _ = middle_by_hand(model.vae, z)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(refiner_of(model).conv_in(z)[inner], first[inner], atol=1e-5, rtol=0)


def test_a_model_without_middle_block_says_so():
    with pytest.raises(InputError, match="does not have a middle block"):
        first_refiner(Config(refiner="autoencoder"), Known())


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_intrinsics_scaling_averaged_pixels_are_the_latents(scene, numba):
    """As many samples a latent as pixels: the same. Half as many: within anti-aliasing, of which the tolerance is 0.06 at
    most and 0.01 in the mean (measured 0.039 and 0.0075; without Mip-Splatting's filter 0.076 and 0.018)."""
    now = scene.at(0.5)
    for how, factor, samples, most, mean in (
        (PLAIN, 4, 4, 1e-5, 1e-6),
        (PLAIN, 8, 8, 1e-5, 1e-6),
        (replace(PLAIN, antialiased=True), 8, 4, 0.06, 0.01),
    ):
        rendered = render_gaussians(now, scene.rig[[0, 3]], numba, scene.background).rgb.permute(0, 3, 1, 2)
        if how.antialiased:  # as a renderer with that filter would
            full = replace(how, samples=1)
            rendered = draw(now, colors_of(now), scene.background, scene.rig[[0, 3]], numba, full)[0]
        small = F.avg_pool2d(rendered, factor)
        cameras = latent_cameras(scene.rig, (48, 40), factor)[[0, 3]]
        how = replace(how, samples=samples)
        drawn, alpha, _ = draw(now, colors_of(now), scene.background, cameras, numba, how)
        apart = (drawn - small).abs()
        assert drawn.shape == (2, 3, 40 // factor, 48 // factor) and alpha.shape == drawn[:, 0].shape
        assert float(apart.max()) < most and float(apart.mean()) < mean, (factor, samples)
        # half a latent of carelessness (pixel centers taken for corners) would be seen
        careless, _, _ = draw(now, colors_of(now), scene.background, shifted(cameras, 0.5), numba, how)
        assert float((careless - small).abs().mean()) > 5 * mean


def test_a_principal_point_one_latent_aside_is_one_factor_of_pixels_aside(scene, numba):
    now, factor = scene.at(0.5), 4
    picture = render_gaussians(now, shifted(scene.rig[[2]], factor), numba, scene.background).rgb
    small = F.avg_pool2d(picture.permute(0, 3, 1, 2), factor)
    cameras = latent_cameras(scene.rig, (48, 40), factor)[[2]]
    moved = draw(now, colors_of(now), scene.background, shifted(cameras, 1.0), numba, PLAIN)[0]
    still = draw(now, colors_of(now), scene.background, cameras, numba, PLAIN)[0]
    torch.testing.assert_close(moved, small, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., 1:], still[..., :-1], atol=1e-5, rtol=0)


def test_nothing_covers_is_the_latent_background_and_not_zero(scene, numba):
    background = torch.tensor([3.0, -2.0, 0.5, 7.0])
    features = torch.randn(len(scene.canonical), 1, 4, generator=torch.Generator().manual_seed(0))
    away = latent_cameras(scene.rig, (48, 40), 8)[[1]]
    flip = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    behind = Cameras(flip @ away.world_to_camera, away.K, away.sizes, away.names)  # the scene is behind it
    drawn, alpha, _ = draw(scene.at(0.0), features, background, behind, numba, Drawing())
    assert float(alpha.max()) == 0
    assert torch.equal(drawn, background[None, :, None, None].expand_as(drawn))
    seen, alpha, _ = draw(scene.at(0.0), features, background, away, numba, Drawing())
    empty = alpha[0] == 0
    assert bool(empty.any()) and bool((alpha > 0.9).any())
    assert torch.equal(seen[0][:, empty], background[:, None].expand(-1, int(empty.sum())))


@pytest.mark.parametrize("bases", [1, 4])
def test_gradients_in_features_and_background_are_finite_differences(bases):
    small = moving_scene(count=7, sh_degree=0)
    now = small.at(0.25).map(torch.Tensor.double)
    g = torch.Generator().manual_seed(0)
    features = torch.randn(7, bases, 5, generator=g, dtype=torch.float64, requires_grad=True)
    background = torch.randn(5, generator=g, dtype=torch.float64, requires_grad=True)
    cameras = latent_cameras(small.rig, (48, 40), 8)[[0, 3]]

    def drawn(f, b):
        return draw(now, f, b, cameras, TorchRasterizer(), Drawing(samples=2))[0]

    assert torch.autograd.gradcheck(drawn, (features, background))
    drawn(features, background).square().sum().backward()
    assert bool((features.grad != 0).all()) and bool((background.grad != 0).all())


def test_gradients_in_the_geometry_are_finite_differences():
    """By projections of all parameters on random directions, at a step at which no Gaussian crosses a threshold."""
    small = moving_scene(count=5, sh_degree=0)
    now = small.at(0.25).map(torch.Tensor.double)
    g = torch.Generator().manual_seed(0)
    features = torch.randn(5, 1, 4, generator=g, dtype=torch.float64)
    cameras = latent_cameras(small.rig, (48, 40), 8)[[1]]
    weigh = torch.randn(1, 4, 5, 6, generator=g, dtype=torch.float64)

    def value(gaussians):
        return (
            weigh * draw(gaussians, features, features[0, 0], cameras, TorchRasterizer(), Drawing())[0]
        ).sum()

    names = ("means", "log_scales", "quats", "logit_opacities")
    for name in names:
        leaf = getattr(now, name).clone().requires_grad_()
        value(now.with_(**{name: leaf})).backward()
        step = torch.randn(leaf.shape, generator=g, dtype=torch.float64)
        step *= 1e-6 / step.norm()
        plus, minus = (value(now.with_(**{name: leaf.detach() + sign * step})) for sign in (1, -1))
        expected = float((plus - minus) / 2)
        assert float((leaf.grad * step).sum()) == pytest.approx(expected, rel=1e-3, abs=1e-10), name
        assert abs(expected) > 1e-9


def test_least_scales_are_a_share_of_a_sample_at_the_nearest_camera():
    cameras = latent_cameras(
        ring(2, distance=4.0, size=(64, 64), height=0.0), (64, 64), 8
    )  # at x = 4 and x = -4
    means = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 50.0, 0.0]])
    scene = moving_scene(count=3)
    scene = scene.with_(canonical=scene.canonical.with_(means=means))
    focal = float(cameras.K[0, 0, 0])  # latents
    assert focal == pytest.approx(1.2 * 64 / 8)
    found = min_scales(scene, cameras, Drawing(samples=4, scale_floor=0.25))
    expected = torch.tensor([3 / focal / 16, 4 / focal / 16, 0.0])  # the last is beside both pictures
    torch.testing.assert_close(found, expected)
    assert float(min_scales(scene, cameras, Drawing(scale_floor=0.0)).max()) == 0


def test_scale_floor_a_speck_is_drawn_as_large_as_the_least(scene, numba):
    cameras = latent_cameras(scene.rig, (48, 40), 8)[[0]]
    how = Drawing(samples=4, scale_floor=1.0)
    least = min_scales(scene, latent_cameras(scene.rig, (48, 40), 8), how)
    now = scene.canonical
    specks = now.with_(log_scales=torch.full_like(now.log_scales, -12.0))
    floored = now.with_(log_scales=least.log()[:, None].expand(-1, 3))
    features, ground = colors_of(now), torch.zeros(3)

    def drawn(gaussians, least=None):
        return draw(gaussians, features, ground, cameras, numba, how, least)[0]

    torch.testing.assert_close(drawn(specks, least), drawn(floored), atol=1e-5, rtol=0)
    assert float((drawn(specks) - drawn(floored)).abs().max()) > 0.1
    large = now.with_(log_scales=torch.zeros_like(now.log_scales))
    assert torch.equal(drawn(large, least), drawn(large)), "what is larger stays as it is"


def test_directions_change_latents_and_the_first_basis_is_the_latent_itself(scene, numba):
    now = scene.at(0.0)
    cameras = latent_cameras(scene.rig, (48, 40), 8)[[0, 4]]
    flat = colors_of(now)
    sh = torch.cat([flat, torch.zeros(len(flat), 3, 3)], dim=1)

    def drawn(features):
        return draw(now, features, scene.background, cameras, numba, Drawing())[0]

    torch.testing.assert_close(drawn(sh), drawn(flat), atol=1e-5, rtol=0)
    sh[:, 3] = 1.0
    bent = drawn(sh) - drawn(flat)  # −x: cameras on opposite sides are told apart
    assert float(bent[0].mean()) * float(bent[1].mean()) < 0


@pytest.mark.parametrize("size", [(50, 40), (48, 41), (0, 8), (4, 4)])
def test_a_size_that_is_no_multiple_of_the_factor_is_refused(scene, size):
    with pytest.raises(InputError, match="multiples of 8"):
        latent_cameras(scene.rig, size, 8)


# -- the field --------------------------------------------------------------------------------------------------------


def blank(scene, vae, channels=4):
    return LatentField(
        scene, torch.zeros(len(scene.canonical), 1, channels), torch.zeros(channels), (48, 40), vae
    )


def test_moments_that_are_kept_are_those_that_would_be_made(scene):
    vae = VaeSignature.of(tiny_backbone())
    field = blank(scene, vae)
    field = field.with_(
        features=torch.randn(field.features.shape, generator=torch.Generator().manual_seed(0))
    )
    renderer = FieldRenderer(field, choose("auto"))
    first = renderer.latents([0, 1], 0.25)[0]
    assert not torch.equal(renderer.latents([0, 1], 1.0)[0], first), "the field moves"
    assert torch.equal(renderer.latents([0, 1], 0.25)[0], first)
    assert torch.equal(FieldRenderer(field, choose("auto")).latents([0, 1], 0.25)[0], first)


def test_features_of_another_scene_or_autoencoder_are_refused(scene):
    vae = VaeSignature.of(tiny_backbone())
    with pytest.raises(InputError, match="train the field again"):
        blank(scene, vae, channels=3)
    with pytest.raises(InputError, match="train the field again"):
        blank(scene, vae).with_(scene=moving_scene(count=5))


def test_another_device_is_a_copy_with_a_refiner_of_its_own(scene):
    refiner = LatentRefiner(RefinerShape(4, 8, groups=4))
    field = blank(scene, VaeSignature.of(tiny_backbone())).with_(refiner=refiner)
    moved = field.with_(before=field).to("cpu")
    assert moved.refiner is not refiner and moved.before is not None
    with torch.no_grad():
        moved.refiner.conv_out.bias.add_(1)
    assert float(refiner.conv_out.bias.detach().abs().max()) == 0


# -- whose latents they are ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_same_autoencoder_in_half_precision_is_accepted(dtype):
    model = tiny_backbone()
    half = StableDiffusion(
        **tiny_parts(),
        noise_schedule=model.noise_schedule,
        name="another name",
        fingerprint="other",
        dtype=dtype,
    )
    VaeSignature.of(model).check(half)
    VaeSignature.of(half).check(model)


def test_another_autoencoder_is_refused_with_a_sentence():
    vae = VaeSignature.of(tiny_backbone())
    with pytest.raises(InputError, match="uses a different VAE"):
        vae.check(tiny_backbone(seed=1))
    with pytest.raises(InputError, match="16 at 1/8"):
        vae.check(tiny_backbone(latent_channels=16))
    with pytest.raises(InputError, match="4 at 1/4"):
        vae.check(tiny_backbone(factor=4))
    scaled = tiny_backbone()
    scaled.vae.register_to_config(scaling_factor=0.13025)
    with pytest.raises(InputError, match="train the latent field with"):
        vae.check(scaled)
