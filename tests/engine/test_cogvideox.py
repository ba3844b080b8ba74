"""CogVideoX of diffusers' parts: equal to its pipeline, a camera that starts neutral, shapes, gradients. Random weights."""

import itertools

import pytest
import torch

from engine.diffusion import Backbone, DiscreteSchedule, VideoBackbone
from engine.diffusion.backbone import describe
from engine.diffusion.camera_condition import RayGrid, WidenedProjection
from engine.diffusion.cogvideox_sizes import full_size
from engine.diffusion.sampling import straight_alphas
from engine.diffusion.tiles import starts, tiled
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance, predict
from engine.guidance.delta import delta_loss
from engine.guidance.score import score_loss
from engine.guidance.video import VideoRequest, sample_video
from engine.scene import plucker_rays, relative_to_first
from tests.scenes import ring
from tests.tiny_cogvideox import KINDS, SCHEDULER, tiny_parts, tiny_video_model
from tests.tiny_diffusion import tiny_backbone

ASKED = Guidance("gold", 6.0, 1.0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def video(batch=1, frames=9, side=32):
    return torch.rand(batch, frames, side, side, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_guided_sampling_is_diffusers_own_pipeline(kind):
    diffusers = pytest.importorskip("diffusers", reason="compares with diffusers' own pipeline")
    model = tiny_video_model(kind, in_tiles=False)
    scheduler = diffusers.CogVideoXDDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"})
    pipeline = diffusers.CogVideoXImageToVideoPipeline(**tiny_parts(kind), scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    # so that the pipeline, which draws the image's latents, takes their mean
    pipeline.vae.encode = mean_alone(pipeline.vae.encode)
    image, request = video()[0, 0], VideoRequest(ASKED, 9, 32, 32, steps=4, seed=3)
    count = model.sampled_frames(9)
    start = torch.randn(1, 4, count, 4, 4, generator=torch.Generator().manual_seed(3))
    expected = pipeline(
        image=image.permute(2, 0, 1)[None],
        prompt="gold",
        negative_prompt="",
        height=32,
        width=32,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=6.0,
        latents=start.transpose(1, 2),
        output_type="latent",
        max_sequence_length=12,
    ).frames.transpose(1, 2)
    *_, last = sample_video(model, request, image)
    assert last.latents.shape == (1, 4, 3, 4, 4)
    torch.testing.assert_close(last.latents, expected[:, :, -3:], rtol=1e-4, atol=1e-4)


def mean_alone(encode):
    def encoded(x):
        found = encode(x)
        found.latent_dist.sample = lambda generator=None: found.latent_dist.mean
        return found

    return encoded


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_follow_the_model(kind):
    model, images = tiny_video_model(kind), video(2)
    assert isinstance(model, Backbone) and isinstance(model, VideoBackbone)
    assert not isinstance(tiny_backbone(), VideoBackbone)
    assert (model.time_factor, model.vae_scale_factor, model.latent_channels) == (4, 8, 4)
    assert (
        model.has_image_conditioning and model.frames == 9 and "makes videos from an image" in describe(model)
    )
    latents = model.encode(images)
    assert latents.shape == (2, 4, 3, 4, 4) and model.decode(latents).shape == images.shape
    assert model.sampled_frames(9) == (4 if kind == "1.5" else 3)
    with pytest.raises(ValueError, match="2 latent frames cannot be decoded"):
        model.decode(latents[:, :, :2])
    condition = model.encode_image_latents(images)
    assert condition.shape == latents.shape and not condition[:, :, 1:].any()
    torch.testing.assert_close(model.scaled(condition)[:, :, :1], model.encode(images[:, :1]))
    assert torch.equal(condition, model.first_frame(images[:, 0], 9))
    text = model.encode_text(["gold", ""])
    assert text.shape == (2, 12, 16) and not torch.equal(text[0], text[1])
    assert model.predict(latents, 500, text, condition).shape == latents.shape


def test_another_length_runs_where_positions_are_not_learned():
    for kind in ("2b", "5b", "1.5"):
        model, images = tiny_video_model(kind), video(1, 17)
        latents = model.encode(images)
        text, condition = model.encode_text([""]), model.encode_image_latents(images)
        assert model.predict(latents, 500, text, condition).shape == (1, 4, 5, 4, 4)
    learned = tiny_video_model("5b learned")
    with pytest.raises(InputError, match="makes 9 frames of 32×32 pixels only, not 17 of 32×32"):
        learned.predict(latents, 500, text, condition)
    wide = random(1, 4, 3, 4, 6)
    with pytest.raises(InputError, match="positions for 32×32 pixels, but the video has 48×32"):
        tiny_video_model("1.5").predict(wide, 500, text, wide)
    with pytest.raises(InputError, match=r"cannot make 8 frames.*Choose 1 or 9 frames"):
        model.encode(video(1, 8))
    with pytest.raises(InputError, match=r"24×24.*multiples of 16"):
        model.encode(video(1, 9, 24))


@pytest.mark.parametrize("kind", KINDS)
def test_a_widened_embedding_changes_nothing_until_it_is_trained(kind):
    model, images = tiny_video_model(kind), video(2)
    latents, condition = model.encode(images), model.encode_image_latents(images)
    text, rays = model.encode_text(["gold", ""]), random(2, 9, 32, 32, 6)
    before = model.predict(latents, 500, text, condition)
    projection = model.add_camera(samples=2)
    assert torch.equal(model.predict(latents, 500, text, condition, camera=rays), before)
    assert torch.equal(model.predict(latents, 500, text, condition), before)
    torch.nn.init.normal_(projection.added.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    moved = model.predict(latents, 500, text, condition, camera=rays)
    assert float((moved - before).abs().mean()) > 1e-3
    assert torch.equal(model.predict(latents, 500, text, condition), before), (
        "without a path it is the base model"
    )


def test_a_widened_embedding_is_one_convolution_of_all_channels():
    base = torch.nn.Conv2d(8, 16, 2, 2)
    wide = WidenedProjection(base, RayGrid(4, 8), 4)
    torch.nn.init.normal_(wide.added.weight)
    x = random(3, 8 + 24, 4, 6)
    joined = torch.cat([base.weight, wide.added.weight], dim=1)
    torch.testing.assert_close(wide(x), torch.nn.functional.conv2d(x, joined, base.bias, stride=2))


def test_a_camera_path_that_stands_still_gives_every_latent_the_same_rays():
    rays = plucker_rays(relative_to_first(ring(1, size=(32, 32)))).float()
    folded = RayGrid(4, 8).fold(rays.expand(9, -1, -1, -1)[None])
    assert torch.equal(folded[0, 0], folded[0, 1]) and torch.equal(folded[0, 1], folded[0, 2])
    moment, direction = folded[0, 0].unflatten(0, (4, 6))[0].split(3)
    assert not moment.any(), "the first camera is the origin"
    torch.testing.assert_close(direction.norm(dim=0), torch.ones(4, 4), rtol=0, atol=0.02)


def test_rays_lie_on_their_latents():
    rays = random(1, 9, 16, 24, 6)
    folded = RayGrid(4, 8).fold(rays)
    assert folded.shape == (1, 3, 24, 2, 3)
    mean = rays.unflatten(2, (2, 8)).unflatten(4, (3, 8)).mean(dim=(3, 5))
    # the first latent is the first frame, the others are four frames each
    torch.testing.assert_close(
        folded[0, 0].unflatten(0, (4, 6)), mean[0, 0].permute(2, 0, 1).expand(4, 6, 2, 3)
    )
    torch.testing.assert_close(folded[0, 2].unflatten(0, (4, 6)), mean[0, 5:9].permute(0, 3, 1, 2))
    whole = RayGrid(4, 8, samples=8)
    assert whole.channels == 6 * 4 * 64 and whole.fold(rays).shape == (1, 3, 1536, 2, 3)
    torch.testing.assert_close(whole.fold(rays)[0, 1].flatten(1).sort(dim=0).values.sum(), rays[0, 1:5].sum())


def test_a_gradient_reaches_the_camera_weights_alone():
    model = tiny_video_model("5b")
    projection = model.add_camera()
    projection.added.requires_grad_(True)
    latents, rays = random(1, 4, 3, 4, 4), random(1, 9, 32, 32, 6)
    model.network(latents, 500.0, model.encode_text([""]), latents, rays).square().mean().backward()
    assert float(projection.added.weight.grad.abs().max()) > 0
    parts = (model.transformer, model.autoencoder.vae, model.text.encoder)
    others = [p for part in parts for p in part.parameters() if p is not projection.added.weight]
    assert all(p.grad is None and not p.requires_grad for p in others)


def test_a_camera_path_that_does_not_fit_is_refused():
    model, latents = tiny_video_model("1.5"), random(1, 4, 3, 4, 4)
    text = model.encode_text([""])
    with pytest.raises(InputError, match=r"no camera condition.*leave the path out"):
        model.predict(latents, 500, text, latents, camera=random(1, 9, 32, 32, 6))
    model.add_camera()
    assert (
        model.predict(random(1, 4, 4, 4, 4), 500, text, latents, camera=random(1, 9, 32, 32, 6)).shape[2] == 4
    )
    for shape, said in (((1, 17, 32, 32, 6), "17 frames of 32×32"), ((1, 9, 32, 48, 6), "9 frames of 48×32")):
        with pytest.raises(InputError, match=f"path has {said} rays, but the video has 9 of 32×32"):
            model.predict(latents, 500, text, latents, camera=random(*shape))


def test_text_is_left_out_where_there_is_no_encoder():
    model = tiny_video_model("5b", text=False)
    text = model.encode_text(["", " "])
    assert text.shape == (2, 12, 16) and not text.any()
    latents = random(2, 4, 3, 4, 4)
    assert model.predict(latents, 500, text, latents).isfinite().all()
    with pytest.raises(InputError, match=r"no text encoder.*Leave the prompt empty"):
        model.encode_text(["gold"])


def test_score_distillation_and_delta_edit_a_rendered_video():
    model = tiny_video_model("5b")
    model.add_camera()
    rendered, rays = video(1).requires_grad_(), random(1, 9, 32, 32, 6)
    condition = model.encode_image_latents(rendered.detach())
    latents = model.encode(rendered)
    noise = random(*latents.shape, seed=4)
    score = score_loss(model, latents, 600, noise, ASKED, condition, "standard", camera=rays)
    score.loss.backward()
    assert score.gradient.shape == latents.shape and rendered.grad.shape == rendered.shape
    assert all(float(frame.abs().max()) > 0 for frame in rendered.grad[0]), "every frame is pulled"
    output = predict(
        model, model.noise_schedule.add_noise(latents.detach(), noise, 600), 600, ASKED, condition
    )
    weight = 1 - model.noise_schedule.alpha(600)
    eps = model.noise_schedule.predict_eps(
        output, model.noise_schedule.add_noise(latents.detach(), noise, 600), 600
    )
    torch.testing.assert_close(score.gradient, weight * (eps - noise), rtol=1e-4, atol=1e-5)
    same = delta_loss(
        model, latents.detach(), latents.detach(), 600, noise, ASKED, ASKED, condition, camera=rays
    )
    assert not same.gradient.any()


def test_a_video_from_an_image_a_prompt_and_a_path():
    model, image, rays = tiny_video_model("1.5"), video()[0, 0], random(9, 32, 32, 6)
    torch.nn.init.normal_(
        model.add_camera().added.weight, std=0.1, generator=torch.Generator().manual_seed(0)
    )
    request = VideoRequest(ASKED, 9, 32, 32, steps=3)
    samples = list(sample_video(model, request, image, rays))
    assert len(samples) == 3 and model.decode(samples[-1].latents).shape == (1, 9, 32, 32, 3)
    *_, again = sample_video(model, request, image, rays)
    assert torch.equal(again.latents, samples[-1].latents)
    *_, other = sample_video(model, request, image, random(9, 32, 32, 6, seed=1))
    assert not torch.allclose(other.latents, again.latents, atol=1e-3)
    with pytest.raises(InputError, match="makes videos from an image; connect one"):
        next(sample_video(model, request))
    with pytest.raises(InputError, match="image is 32×32, but the video is 48×32"):
        next(sample_video(model, VideoRequest(ASKED, 9, 48, 32, steps=3), image))
    words = tiny_video_model("2b", from_image=False)
    assert words.encode_image_latents(video()).shape == (1, 4, 3, 4, 4) and not words.has_image_conditioning
    *_, made = sample_video(words, VideoRequest(ASKED, 9, 32, 48, steps=2, sampler="flow", shift=3.0))
    assert made.latents.shape == (1, 4, 3, 6, 4)
    with pytest.raises(InputError, match=r"40×33, .* multiples of 16; choose 32×32.*GUI-022"):
        next(sample_video(words, VideoRequest(ASKED, 9, 40, 33, steps=2)))
    with pytest.raises(InputError, match="takes no image"):
        next(sample_video(words, request, image))
    with pytest.raises(InputError, match="sampler is 'heun'"):
        VideoRequest(ASKED, 9, 32, 32, steps=3, sampler="heun")


@pytest.mark.parametrize("sampler", ["ddim", "flow"])
@pytest.mark.parametrize("kind", ["5b", "1.5"])
def test_sampling_goes_on_from_any_step_with_the_same_bits(kind, sampler):
    """What fills the first patch of 1.5 before the video is part of what is kept."""
    model, image = tiny_video_model(kind), video()[0, 0]
    request = VideoRequest(ASKED, 9, 32, 32, steps=3, sampler=sampler)
    samples = list(sample_video(model, request, image))
    assert [s.done for s in samples] == [1, 2, 3]
    for sample in samples:
        rest = list(sample_video(model, request, image, begun=sample.to_save()))
        assert [s.done for s in rest] == list(range(sample.done + 1, 4))
        assert not rest or torch.equal(rest[-1].latents, samples[-1].latents)


def test_weights_trained_as_a_flow_are_asked_at_their_own_times():
    straight = DiscreteSchedule(straight_alphas(), "v_prediction", "trailing")
    model = tiny_video_model("5b", noise_schedule=straight, flow_shift=3.0)
    noisy, text = random(1, 4, 3, 4, 4), model.encode_text([""])
    signal, sigma = straight.rates(399)
    velocity = model.network(noisy / (signal + sigma), 400.0, text, noisy)
    output = model.predict(noisy, 399, text, noisy)
    expected = noisy / (signal + sigma) - 0.4 * velocity
    torch.testing.assert_close(straight.predict_x0(output, noisy, 399), expected, rtol=1e-3, atol=1e-4)
    *_, auto = sample_video(model, VideoRequest(ASKED, 9, 32, 32, steps=2), video()[0, 0])
    *_, flow = sample_video(model, VideoRequest(ASKED, 9, 32, 32, 2, "flow", 3.0), video()[0, 0])
    assert torch.equal(auto.latents, flow.latents)


def test_overflow_says_which_precision_to_take():
    parts = tiny_parts("5b")
    with torch.no_grad():
        parts["transformer"].proj_out.weight.fill_(float("inf"))
    from engine.diffusion.cogvideox import CogVideoX

    schedule = DiscreteSchedule.from_config(SCHEDULER)
    broken = CogVideoX(**parts, noise_schedule=schedule, name="broken", fingerprint="x")
    latents = random(1, 4, 3, 4, 4)
    with pytest.raises(InputError, match="weights or the input images are damaged"):
        broken.predict(latents, 500, broken.encode_text([""]), latents)


def test_tiles_cover_a_side_and_overlap():
    assert starts(10, 12, 3) == [0]
    for length, tile, overlap in ((13, 12, 2), (90, 45, 9), (60, 30, 6), (31, 8, 3)):
        found = starts(length, tile, overlap)
        assert found[0] == 0 and found[-1] == length - tile
        assert all(b - a <= tile - overlap for a, b in itertools.pairwise(found))


def test_what_is_local_is_the_same_in_tiles():
    """An autoencoder that treats every latent alone: tiles change nothing, at any size."""

    def encode(x):
        return torch.nn.functional.pixel_unshuffle(x, 8)

    def decode(x):
        return torch.nn.functional.pixel_shuffle(x, 8)

    for height, width in ((16, 24), (72, 40), (104, 136)):
        x = random(2, 3, height, width).requires_grad_()
        latents = tiled(encode, x, (4, 6), 8, 1)
        torch.testing.assert_close(latents, encode(x))
        torch.testing.assert_close(tiled(decode, latents, (4, 6), 1, 8), x)
        latents.square().sum().backward()
        torch.testing.assert_close(x.grad, 2 * x.detach(), rtol=1e-4, atol=1e-4)


def test_small_frames_are_not_tiled_and_large_ones_keep_their_size():
    whole, model = tiny_video_model("5b", in_tiles=False), tiny_video_model("5b")
    small, large = video(1, 9, 16), video(1, 9, 48)
    assert torch.equal(model.encode(small), whole.encode(small))
    latents = model.encode(large)
    assert latents.shape == whole.encode(large).shape == (1, 4, 3, 6, 6)
    assert model.decode(latents).shape == large.shape


def test_full_sizes_are_the_published_ones():
    """Counts of the published weights (2B: 1.69, 5B: 5.57 billion), from the config alone."""
    assert str(full_size("2B", 49, 720, 480)) == (
        "CogVideoX 2B: 1,693,783,872 parameters, 184,320 more with a camera; latents 16×13×60×90, 17,550 tokens"
    )
    large = full_size("5B", 49, 720, 480)
    assert (large.parameters, large.tokens) == (5_570_283_072, 17_550)
    image = full_size("5B-I2V", 49, 720, 480)
    # 16 more input channels in 2×2 patches, and a learned position for each token and each of 226 words
    assert image.parameters - large.parameters == 3072 * (16 * 4 + 17_550 + 226)
    longer = full_size("1.5-5B-I2V", 81, 1360, 768)
    assert longer.latents == (16, 21, 96, 170) and longer.tokens == 11 * 48 * 85
