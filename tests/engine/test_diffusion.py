"""The backbone of diffusers' parts: schedules, tokens, shapes, gradients, what goes wrong at run time. Random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.backends import explains_memory
from engine.diffusion import Backbone, DiscreteSchedule
from engine.diffusion.stable_diffusion import StableDiffusion
from engine.diffusion.tokenizer import clip_tokenizer, vocabulary
from engine.errors import InputError
from engine.guidance import classifier_free
from tests.conftest import ROOT
from tests.tiny_diffusion import SCHEDULER, tiny_backbone, tiny_parts

ZERO_TERMINAL = {
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
    "set_alpha_to_one": True,
}


@pytest.mark.parametrize(
    "config",
    [
        SCHEDULER,
        {**SCHEDULER, "timestep_spacing": "linspace"},
        {**SCHEDULER, **ZERO_TERMINAL},
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
    ],
    ids=["sd", "linspace", "zero terminal", "linear", "cosine"],
)
def test_noising_is_diffusers_ddim(config: dict) -> None:
    diffusers = pytest.importorskip("diffusers", reason="compares with diffusers' own scheduler")
    theirs = diffusers.DDIMScheduler.from_config({"clip_sample": False, **config})
    ours = DiscreteSchedule.from_config(config)
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-5, atol=1e-6)
    noisy, output = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for steps in (1, 4, 20):  # of 1000: where they divide it, diffusers' step ends where ours does
        theirs.set_timesteps(steps)
        moments = ours.timesteps(steps)
        assert moments == theirs.timesteps.tolist()
        if config.get("timestep_spacing") == "linspace":
            continue  # diffusers steps by T/steps from wherever it is; ours goes to the next timestep
        for t, earlier in zip(moments, [*moments[1:], -1], strict=True):
            expected = theirs.step(output, t, noisy).prev_sample
            torch.testing.assert_close(ours.step(output, noisy, t, earlier), expected, rtol=1e-4, atol=1e-4)


def test_zero_terminal_noise_holds_no_picture_and_divides_by_nothing() -> None:
    noise_schedule = DiscreteSchedule.from_config({**SCHEDULER, **ZERO_TERMINAL})
    latents, noise = torch.randn(2, 1, 4, 8, 8)
    last = len(noise_schedule) - 1
    assert noise_schedule.alpha(last) == 0.0
    assert torch.equal(noise_schedule.add_noise(latents, noise, last), noise)
    velocity = -latents  # √ᾱ ε − √(1 − ᾱ) z at ᾱ = 0
    torch.testing.assert_close(noise_schedule.predict_x0(velocity, noise, last), latents)
    torch.testing.assert_close(noise_schedule.predict_eps(velocity, noise, last), noise)


@pytest.mark.parametrize(
    ("config", "said"),
    [({"beta_schedule": "sigmoid"}, "sigmoid"), ({"prediction_type": "flow_prediction"}, "flow_prediction")],
)
def test_unknown_schedules_are_named(config: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        DiscreteSchedule.from_config(config)


def test_clip_tokens_are_the_published_ones() -> None:
    """Token numbers that OpenAI's tokenizer gives, and that every SD checkpoint was trained with."""
    pytest.importorskip("transformers", reason="diffusion needs transformers")
    words = vocabulary()
    assert len(words) == 49408
    assert (words["!"], words["a</w>"], words["<|startoftext|>"], words["<|endoftext|>"]) == (
        0,
        320,
        49406,
        49407,
    )
    cat = [49406, 320, 1125, 539, 320, 2368, 49407]
    assert clip_tokenizer()("a photo of a cat").input_ids == cat
    assert clip_tokenizer()("A  Photo of a CAT").input_ids == cat
    padded = clip_tokenizer("!")("a photo of a cat", padding="max_length").input_ids
    assert padded == cat + [0] * 70


def test_shapes_follow_the_model_and_not_a_constant() -> None:
    for channels, factor in ((4, 8), (32, 4), (16, 2)):
        backbone = tiny_backbone(latent_channels=channels, factor=factor)
        assert isinstance(backbone, Backbone)
        assert (backbone.latent_channels, backbone.vae_scale_factor, backbone.has_image_conditioning) == (
            channels,
            factor,
            True,
        )
        images = torch.rand(2, 32, 48, 3)
        latents = backbone.encode(images)
        assert latents.shape == (2, channels, 32 // factor, 48 // factor)
        text = backbone.encode_text(["make it gold", ""])
        assert (
            backbone.predict(latents, 500, text, backbone.encode_image_latents(images)).shape == latents.shape
        )
        assert backbone.decode(latents).shape == images.shape


def test_picture_condition_is_the_unscaled_mode() -> None:
    backbone = tiny_backbone()
    images = torch.rand(1, 32, 32, 3)
    scale = float(backbone.vae.config.scaling_factor)
    torch.testing.assert_close(backbone.encode(images), backbone.encode_image_latents(images) * scale)
    assert torch.equal(backbone.encode(images), backbone.scaled(backbone.encode_image_latents(images)))
    drawn = [backbone.encode(images, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_gradients_flow_through_pictures_and_latents_and_never_to_weights() -> None:
    backbone = tiny_backbone()
    images = torch.rand(1, 32, 32, 3, requires_grad=True)
    latents = backbone.encode(images, torch.Generator().manual_seed(0))
    latents.square().sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0
    held = latents.detach().requires_grad_()
    backbone.decode(held).square().sum().backward()
    assert held.grad is not None
    assert float(held.grad.abs().sum()) > 0
    assert not backbone.predict(held, 500, backbone.encode_text([""]), held).requires_grad
    models = (backbone.unet, backbone.vae, backbone.text_encoder)
    assert all(p.grad is None and not p.requires_grad for model in models for p in model.parameters())


def test_sides_that_the_factor_does_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"36×32.*multiples of 8"):
        tiny_backbone().encode(torch.rand(1, 32, 36, 3))


def test_long_prompts_are_cut_and_the_cut_is_known() -> None:
    backbone = tiny_backbone()
    assert backbone.encode_text(["gold " * 40]).shape[1] == 77
    tokens, read = backbone.cut_short("gold " * 40) or (0, 0)
    assert tokens > read == 77
    assert backbone.cut_short("gold") is None


@pytest.mark.parametrize(
    ("dtype", "remedy"),
    [(torch.float16, "bf16 or fp32"), (torch.float32, "weights or the input images are damaged")],
)
def test_overflow_says_which_precision_to_take(dtype: torch.dtype, remedy: str) -> None:
    parts = tiny_parts()
    with torch.no_grad():
        parts["unet"].conv_out.weight.fill_(float("inf"))
        parts["vae"].decoder.conv_out.weight.fill_(float("inf"))
        parts["vae"].quant_conv.weight.fill_(float("inf"))
    backbone = StableDiffusion(
        **parts,
        noise_schedule=DiscreteSchedule.from_config(SCHEDULER),
        name="broken",
        fingerprint="x",
        dtype=dtype,
    )
    latents, images = torch.randn(1, 4, 4, 4), torch.rand(1, 32, 32, 3)
    for call in (
        lambda: backbone.predict(latents, 500, backbone.encode_text([""]), latents),
        lambda: backbone.decode(latents),
        lambda: backbone.encode(images),
        lambda: backbone.encode_image_latents(images),
    ):
        with pytest.raises(InputError, match=remedy):
            call()


def test_full_memory_says_how_much_and_what_to_lower() -> None:
    with (
        pytest.raises(InputError, match=r"predicting 4 images.*\d+\.\d GB.*resolution.*batch size"),
        explains_memory("predicting 4 images of 512×512 pixels"),
    ):
        torch.empty(1 << 55, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"), explains_memory("x"):
        raise RuntimeError("something else")


def test_guided_sampling_is_diffusers_own_pipeline() -> None:
    """Vanilla attention, the same start: latents of our loop equal StableDiffusionInstructPix2PixPipeline's."""
    diffusers = pytest.importorskip("diffusers", reason="compares with diffusers' own pipeline")
    backbone = tiny_backbone()
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=backbone.vae,
        text_encoder=backbone.text_encoder,
        tokenizer=backbone.tokenizer,
        unet=backbone.unet,
        scheduler=diffusers.DDIMScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    image = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(1))
    start = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(2))
    expected = pipeline(
        "make it gold",
        image=image.permute(0, 3, 1, 2),
        num_inference_steps=4,
        guidance_scale=6.0,
        image_guidance_scale=1.4,
        latents=start,
        output_type="latent",
    ).images
    guidance = classifier_free.Guidance("make it gold", 6.0, 1.4)
    condition, latents = backbone.encode_image_latents(image), start
    moments = backbone.noise_schedule.timesteps(4)
    for t, earlier in zip(moments, [*moments[1:], -1], strict=True):
        output = classifier_free.predict(backbone, latents, t, guidance, condition)
        latents = backbone.noise_schedule.step(output, latents, t, earlier)
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def _taef2(folder: Path) -> torch.nn.Module:
    """TAEF2 (MIT): diffusers' AutoencoderTiny with 32 channels, whose innermost blocks also look at normalized sums."""
    diffusers = pytest.importorskip("diffusers", reason="diffusion needs diffusers")
    vae = diffusers.AutoencoderTiny(latent_channels=32, scaling_factor=1.0)

    class Pooled(torch.nn.Module):
        def __init__(self, block: torch.nn.Module) -> None:
            super().__init__()
            self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
            self.pool = torch.nn.Sequential(
                torch.nn.Conv2d(64, 256, 1, bias=False),
                torch.nn.GroupNorm(4, 256),
                torch.nn.ReLU(),
                torch.nn.Conv2d(256, 64, 1, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.pool(x)
            return self.fuse(self.conv(x) + self.skip(x))

    # the file's decoder counts its clamp as layer 0; diffusers clamps outside
    for layers, name, shift in ((vae.encoder.layers, "encoder", 0), (vae.decoder.layers, "decoder", 1)):
        weights = torch.load(folder / f"taef2_{name}.pth", weights_only=True)
        for number in {int(key.split(".")[0]) - shift for key in weights if ".pool." in key}:
            layers[number] = Pooled(layers[number])
        renamed = {f"{int(k.split('.')[0]) - shift}.{k.split('.', 1)[1]}": v for k, v in weights.items()}
        layers.load_state_dict(renamed)
    return vae


def test_a_real_autoencoder_of_32_channels_fits() -> None:
    folder = ROOT.parent / "shared" / "data" / "vae_32ch"
    if not folder.is_dir():
        pytest.skip("vae_32ch: TAEF2, a small real autoencoder of 32 channels, is not here")
    parts = tiny_parts(latent_channels=32)
    parts["vae"] = _taef2(folder)
    backbone = StableDiffusion(
        **parts, noise_schedule=DiscreteSchedule.from_config(SCHEDULER), name="TAEF2", fingerprint="x"
    )
    assert (backbone.latent_channels, backbone.vae_scale_factor, backbone.has_image_conditioning) == (
        32,
        8,
        True,
    )
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 96), indexing="ij")
    disc = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.09).float()
    image = torch.stack([0.2 + 0.6 * disc, 0.3 + 0.4 * x, 0.8 - 0.5 * y], dim=-1)[None]
    with torch.no_grad():
        latents = backbone.encode(image, torch.Generator().manual_seed(0))
        again = backbone.decode(latents)
    assert latents.shape == (1, 32, 8, 12)
    error = float((again.clamp(0, 1) - image).square().mean())
    assert -10 * np.log10(error) > 28  # real weights: the picture comes back
    text = backbone.encode_text(["make it gold"])
    assert backbone.predict(latents, 500, text, backbone.encode_image_latents(image)).shape == latents.shape
