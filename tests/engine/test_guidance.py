"""Guidance does what its formulas say: invariants 3, 5 and 6 of Instruct-4DGS, and diffusers' own pipeline as oracle."""

import itertools
from dataclasses import replace

import pytest
import torch

from engine.diffusion import CrossFrameAttention, DiscreteSchedule, ModelDefaults
from engine.diffusion.in_parallel import is_split
from engine.diffusion.stable_diffusion import StableDiffusion
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance, predict
from engine.guidance.edit import Edit, EditRequest, edit_pictures
from engine.guidance.score import WEIGHTINGS, score_loss
from tests.tiny_diffusion import SCHEDULER, tiny_backbone, tiny_parts

PAPER = Guidance("make it a wood sculpture", 10.5, 1.2)


class Stub:
    """A backbone whose network answers with whatever `answer` makes of its input."""

    def __init__(self, answer, has_image_conditioning=True, prediction="epsilon"):
        self.name = self.fingerprint = "stub"
        self.has_image_conditioning, self.latent_channels, self.vae_scale_factor = (
            has_image_conditioning,
            4,
            8,
        )
        self.noise_schedule = DiscreteSchedule.from_config({**SCHEDULER, "prediction_type": prediction})
        self.defaults, self.device, self.answer = ModelDefaults(), torch.device("cpu"), answer
        self.known_edits = self.time_factor = None

    def encode_text(self, prompts):
        return torch.zeros(len(prompts), 3, 5)

    def predict(self, noisy, t, text, condition=None, sharing=None):
        return self.answer(noisy)


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def latents(count=2, seed=0, channels=4):
    return torch.randn(count, channels, 8, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("has_image_conditioning", [True, False])
def test_invariant_3_a_network_that_returns_the_noise_gives_no_gradient_at_all(
    weighting, has_image_conditioning
):
    noise = latents(4, seed=1)
    stub = Stub(lambda noisy: noise.repeat(len(noisy) // 4, 1, 1, 1), has_image_conditioning)
    z = latents(4).requires_grad_()
    condition = latents(4, seed=2) if has_image_conditioning else None
    score = score_loss(stub, z, 500, noise, PAPER, condition, weighting)
    score.loss.backward()
    assert float(score.loss.detach()) == 0
    assert not z.grad.any() and not score.gradient.any()


def test_a_network_that_is_off_by_a_little_does_give_a_gradient():
    noise = latents(4, seed=1)
    stub = Stub(lambda noisy: noise.repeat(len(noisy) // 4, 1, 1, 1) + 0.01)
    z = latents(4).requires_grad_()
    score_loss(stub, z, 500, noise, PAPER, latents(4, seed=2)).loss.backward()
    assert float(z.grad.abs().min()) > 1e-4


def test_invariant_5_guidance_of_one_is_the_text_and_picture_branch(backbone):
    noisy, picture = latents(), latents(seed=3)
    guided = predict(backbone, noisy, 400, Guidance("make it night", 1.0, 1.0), picture)
    text = backbone.encode_text(["make it night"]).expand(2, -1, -1)
    assert torch.equal(guided, backbone.predict(noisy, 400, text, picture))
    other = predict(backbone, noisy, 400, Guidance("make it night", 2.0, 1.0), picture)
    assert not torch.allclose(guided, other, atol=1e-4)


def test_invariant_6_the_picture_term_vanishes_with_an_empty_picture(backbone):
    noisy, empty = latents(), torch.zeros(2, 4, 8, 6)

    def guided(image_scale, picture):
        return predict(backbone, noisy, 400, Guidance("make it night", 7.5, image_scale), picture)

    assert torch.allclose(guided(1.5, empty), guided(9.0, empty), atol=2e-5)
    assert not torch.allclose(guided(1.5, latents(seed=3)), guided(9.0, latents(seed=3)), atol=1e-3)


def test_guidance_is_the_formula_of_the_paper(backbone):
    noisy, picture, nothing = latents(), latents(seed=3), torch.zeros(2, 4, 8, 6)
    say, empty = (backbone.encode_text([p]).expand(2, -1, -1) for p in ("make it gold", "ugly"))
    full = backbone.predict(noisy, 300, say, picture)
    seen = backbone.predict(noisy, 300, empty, picture)
    blind = backbone.predict(noisy, 300, empty, nothing)
    expected = blind + 1.5 * (seen - blind) + 7.5 * (full - seen)
    for at_once in (True, False):
        got = predict(
            backbone,
            noisy,
            300,
            Guidance("make it gold", 7.5, 1.5, "ugly"),
            picture,
            branches_at_once=at_once,
        )
        assert torch.allclose(got, expected, atol=2e-5)


def test_branches_without_weight_are_not_computed():
    seen = []

    def answer(noisy):
        seen.append(len(noisy))
        return noisy

    for scale, image_scale in ((7.5, 1.5), (7.5, 1.0), (1.5, 1.5), (1.0, 1.0), (0.0, 1.0)):
        predict(Stub(answer), latents(), 10, Guidance("x", scale, image_scale), latents())
    assert seen == [6, 4, 4, 2, 2]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_gradient_is_the_weighted_difference_of_noises(weighting, prediction):
    b = tiny_backbone(prediction=prediction)
    z, noise, picture, t = latents().requires_grad_(), latents(seed=5), latents(seed=6), 321
    score = score_loss(b, z, t, noise, PAPER, picture, weighting)
    score.loss.backward()
    a = b.noise_schedule.alpha(t)
    noisy = a**0.5 * z.detach() + (1 - a) ** 0.5 * noise
    guessed = b.noise_schedule.predict_eps(predict(b, noisy, t, PAPER, picture), noisy, t)
    w = {
        "reference code": a**0.5 * (1 - a),
        "standard": 1 - a,
        "uniform": 1,
        "picture": ((1 - a) / a) ** 0.5,
    }[weighting]
    assert torch.allclose(score.gradient, w * (guessed - noise), atol=1e-5)
    assert torch.allclose(z.grad, w * (guessed - noise) / len(z), atol=1e-5)
    assert torch.allclose(score.clean, (noisy - (1 - a) ** 0.5 * guessed) / a**0.5, atol=1e-4)


def test_the_reference_code_differentiates_through_the_noised_latents(backbone):
    """½‖z_t − sg(z_t − (1−ᾱ)(ε̂−ε))‖²/B of the noised latents has the gradient that our weighting gives at once."""
    z, noise, picture, t = latents().requires_grad_(), latents(seed=5), latents(seed=6), 700
    a = backbone.noise_schedule.alpha(t)
    noisy = a**0.5 * z + (1 - a) ** 0.5 * noise
    push = (1 - a) * (predict(backbone, noisy.detach(), t, PAPER, picture) - noise)
    (0.5 * (noisy - (noisy - push).detach()).square().sum() / len(z)).backward()
    theirs = z.grad.clone()
    z.grad = None
    score_loss(backbone, z, t, noise, PAPER, picture, "reference code").loss.backward()
    assert torch.allclose(z.grad, theirs, atol=1e-6)


def test_half_precision_latents_give_a_float32_loss(backbone):
    z = latents().half().requires_grad_()
    score = score_loss(backbone, z, 500, latents(seed=1).half(), PAPER, latents(seed=2))
    assert score.loss.dtype == torch.float32
    score.loss.backward()
    assert bool(z.grad.isfinite().all())


def test_a_text_model_gives_plain_guidance():
    b = tiny_backbone(has_image_conditioning=False)
    noisy = latents()
    say, empty = (b.encode_text([p]).expand(2, -1, -1) for p in ("a gold statue", ""))
    expected = b.predict(noisy, 100, empty) + 7.5 * (
        b.predict(noisy, 100, say) - b.predict(noisy, 100, empty)
    )
    assert torch.allclose(predict(b, noisy, 100, Guidance("a gold statue", 7.5), None), expected, atol=2e-5)


def test_what_cannot_be_scored_is_said():
    z, noise = latents(4), latents(4, seed=1)
    broken = Stub(lambda noisy: torch.full_like(noisy, torch.nan))
    with pytest.raises(InputError, match="not finite"):
        score_loss(broken, z, 500, noise, PAPER, z)
    with pytest.raises(InputError, match="weighting is 'dream'"):
        score_loss(Stub(lambda noisy: noisy), z, 500, noise, PAPER, z, "dream")
    with pytest.raises(InputError, match="schedule of 0 to 999"):
        score_loss(Stub(lambda noisy: noisy), z, 1000, noise, PAPER, z)


def pictures(count=3, height=64, width=48, seed=0):
    """Smooth pictures: random weights answer wildly to noise."""
    small = torch.rand(count, 3, 4, 3, generator=torch.Generator().manual_seed(seed))
    large = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return large.permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_vanilla_editing_is_diffusers_own_pipeline(prediction):
    """Random weights, three pictures, four DDIM steps from pure noise: pixels agree to 2e-4 (float32 sums in another
    order, amplified by a guidance of 7.5 over the steps)."""
    diffusers = pytest.importorskip("diffusers", reason="diffusion needs diffusers")
    parts = tiny_parts()
    scheduler = diffusers.DDIMScheduler.from_config({**SCHEDULER, "prediction_type": prediction})
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(
        **parts,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    originals = pictures()
    theirs = pipe(
        ["make it night"] * 3,
        image=originals.permute(0, 3, 1, 2),
        num_inference_steps=4,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        negative_prompt=["ugly"] * 3,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    ).images
    request = EditRequest(
        Guidance("make it night", 7.5, 1.5, "ugly"), steps=4, start="noise", attention="vanilla", seed=7
    )
    ours = edit_pictures(tiny_backbone(prediction=prediction), originals, request)
    assert float((ours - originals).abs().mean()) > 0.05, "something was edited"
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=2e-4)


def test_one_chunk_is_the_plain_denoising_loop_bit_for_bit(backbone):
    originals, masks = pictures(3, 32, 24), torch.zeros(3, 32, 24)
    masks[0, 8:20, 4:20] = 1
    masks[2, 3:9, 2:7] = 0.5
    asked = EditRequest(Guidance("make it night", 3.0, 1.5), steps=5, strength=0.6, key=1)
    schedule, encoded = (
        backbone.noise_schedule,
        [backbone.encode_image_latents(x[None])[0] for x in originals],
    )
    condition = torch.stack(encoded)
    clean = backbone.scaled(condition)
    noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(0))
    free = (torch.nn.functional.adaptive_max_pool2d(masks[:, None], (4, 3)) > 0.05).float()
    steps = [*schedule.timesteps(5)[2:], -1]
    z = schedule.add_noise(clean, noise, steps[0])
    for t, earlier in itertools.pairwise(steps):
        sharing = CrossFrameAttention("keyframe", 3, 1)
        z = schedule.step(predict(backbone, z, t, asked.guidance, condition, sharing), z, t, earlier)
        kept = clean if earlier < 0 else schedule.add_noise(clean, noise, earlier)
        z = (free * z + (1 - free) * kept).contiguous()
    with torch.no_grad():
        # with one thread, images are decoded one by one (diffusion/in_parallel.py)
        together = 1 if is_split(backbone) else 2
        painted = torch.cat([backbone.decode(part).clamp(0, 1) for part in z.split(together)])
    share = masks[..., None]
    assert torch.equal(
        edit_pictures(backbone, originals, asked, masks), share * painted + (1 - share) * originals
    )


def test_all_chunks_of_a_timestep_come_before_the_next_timestep(backbone):
    class Timed(Watching):
        def predict(self, noisy, t, text, condition=None, sharing=None):
            self.seen.append((t, len(noisy) // 3))
            return self.inner.predict(noisy, t, text, condition, sharing)

    timed = Timed(backbone)
    edit = Edit(timed, pictures(4, 32, 24), replace(ASKED, frames_at_once=3, key=2))
    assert (edit.total, edit.done, edit.frames) == (6, 0, [2, 0, 1])
    edit.step()
    assert (edit.done, edit.frames, edit.is_finished) == (1, [2, 3], False)
    while not edit.is_finished:
        edit.step()
    assert timed.seen == [(t, n) for t in edit.timesteps for n in (3, 2)]
    assert edit.calls == 15


def test_previews_show_the_same_images_all_along(backbone):
    originals = pictures(4, 32, 24)
    edit = Edit(backbone, originals, replace(ASKED, frames_at_once=2))
    assert torch.equal(edit.preview(3)[1], originals[:3]), "before the first step"
    shown = []
    while not edit.is_finished:
        edit.step()
        shown.append([len(x) for x in edit.preview(3)])
    assert shown[:3] == [[2, 2], [3, 3], [3, 3]]
    assert torch.equal(edit.preview(3)[1], edit.images[:3])


class Watching:
    """A backbone that notes down how it is asked."""

    def __init__(self, inner):
        self.inner, self.seen = inner, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def predict(self, noisy, t, text, condition=None, sharing=None):
        self.seen.append(sharing)
        return self.inner.predict(noisy, t, text, condition, sharing)


ASKED = EditRequest(Guidance("make it night", 3.0, 1.5), steps=3)


def test_chunks_give_what_one_batch_gives(backbone):
    originals = pictures(4, 32, 24)
    for mode, sizes in (("keyframe", (1, 3)), ("keyframe+self", (2,)), ("vanilla", (3,))):
        asked = replace(ASKED, attention=mode, key=2, steps=2)
        whole = edit_pictures(backbone, originals, asked)
        for at_once in sizes:
            parts = edit_pictures(backbone, originals, replace(asked, frames_at_once=at_once))
            assert torch.allclose(whole, parts, atol=2e-4), (mode, at_once)


def test_sharing_changes_what_the_others_become_but_not_the_key(backbone):
    originals = pictures(3)
    alone = edit_pictures(backbone, originals, replace(ASKED, attention="vanilla"))
    together = edit_pictures(backbone, originals, replace(ASKED, key=1))
    assert torch.allclose(alone[1], together[1], atol=2e-4)
    assert float((alone[0] - together[0]).abs().max()) > 1e-3


def test_strength_is_the_part_of_the_schedule_that_is_gone_through(backbone):
    originals = pictures(2)
    asked = replace(ASKED, steps=10)
    assert Edit(backbone, originals, asked).timesteps == backbone.noise_schedule.timesteps(10)
    assert Edit(backbone, originals, replace(asked, strength=0.3)).timesteps == [201, 101, 1]
    assert torch.equal(edit_pictures(backbone, originals, replace(asked, strength=0.0)), originals)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_network_that_knows_the_noise_gives_the_pictures_back(backbone, strength):
    originals = pictures(2)
    noise = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))

    class Knowing(Watching):
        def predict(self, noisy, t, text, condition=None, sharing=None):
            self.seen.append(t)
            return noise.repeat(3, 1, 1, 1)

    knowing = Knowing(backbone)
    edited = edit_pictures(knowing, originals, replace(ASKED, steps=10, strength=strength))
    alpha = backbone.noise_schedule.alpha(
        -1
    )  # diffusers' DDIM arrives at timestep 0, which still holds a trace of noise
    expected = backbone.noise_schedule.add_noise(backbone.encode(originals), noise, -1)
    assert alpha > 0.999 and torch.allclose(edited, backbone.decode(expected).clamp(0, 1), atol=1e-3)
    assert len(knowing.seen) == round(10 * strength)


def test_a_mask_limits_the_edit_to_its_pixels(backbone):
    originals, masks = pictures(2), torch.zeros(2, 64, 48)
    masks[0, 16:40, 8:32] = 1
    edited = edit_pictures(backbone, originals, ASKED, masks)
    inside = masks[0] > 0
    assert torch.equal(edited[0][~inside], originals[0][~inside])
    assert torch.equal(edited[1], originals[1])
    assert float((edited[0][inside] - originals[0][inside]).abs().mean()) > 0.02
    nothing = Edit(backbone, originals, ASKED, torch.zeros(2, 64, 48))
    assert nothing.is_finished and torch.equal(nothing.images, originals) and nothing.calls == 0


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_edit(backbone):
    originals = pictures(2)
    first = edit_pictures(backbone, originals, ASKED)
    assert torch.equal(first, edit_pictures(backbone, originals, ASKED))
    assert not torch.allclose(first, edit_pictures(backbone, originals, replace(ASKED, seed=1)), atol=1e-3)


def test_an_edit_goes_on_from_its_state_with_the_same_bits(backbone):
    originals = pictures(4)
    asked = replace(ASKED, frames_at_once=2)
    whole = edit_pictures(backbone, originals, asked)
    for stop in (0, 1, 3, 5):
        first, second = Edit(backbone, originals, asked), Edit(backbone, originals, asked)
        for _ in range(stop):
            first.step()
        tensors, numbers = first.state()
        second.load_state({name: t.clone() for name, t in tensors.items()}, numbers)
        while not second.is_finished:
            second.step()
        assert torch.equal(second.images, whole), stop
        assert second.calls == 3 * 2 * 3


def test_what_cannot_be_edited_is_said(backbone):
    originals = pictures(2)
    for prompt in ("", "  \n"):
        with pytest.raises(InputError, match="prompt is empty"):
            EditRequest(Guidance(prompt, 7.5), steps=3)
    with pytest.raises(InputError, match="images to edit are missing"):
        Edit(backbone, originals[:0], ASKED)
    with pytest.raises(InputError, match="4 input channels where 8 are needed"):
        Edit(tiny_backbone(has_image_conditioning=False), originals, ASKED)
    with pytest.raises(InputError, match="mask has 2 images of 24×64"):
        Edit(backbone, originals, ASKED, torch.zeros(2, 64, 24))
    with pytest.raises(InputError, match="key view is number 2 of 2"):
        Edit(backbone, originals, replace(ASKED, key=2))
    with pytest.raises(InputError, match="multiples of 8"):
        edit_pictures(backbone, pictures(1, 60, 44), ASKED)
    broken = tiny_backbone()
    broken.predict = lambda *a, **k: torch.full((6, 4, 8, 6), torch.nan)
    with pytest.raises(InputError, match="not finite"):
        Edit(broken, originals, ASKED).step()


def test_attention_is_shared_with_the_key_of_each_chunk(backbone):
    watching = Watching(backbone)
    edit_pictures(watching, pictures(4), replace(ASKED, steps=1, key=2, frames_at_once=3))
    assert watching.seen == [CrossFrameAttention("keyframe", 3, 0), CrossFrameAttention("keyframe", 2, 0)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here: the CPU path is tested above")
def test_the_same_seed_is_the_same_picture_on_the_gpu(backbone):
    """Noise is drawn on the CPU, so only the arithmetic differs (5e-3 with TF32 convolutions)."""
    on_gpu = StableDiffusion(
        **tiny_parts(), noise_schedule=backbone.noise_schedule, name="tiny", fingerprint="gpu", device="cuda"
    )
    masks = torch.zeros(3, 64, 48)
    masks[:, 16:40, 8:32] = 1
    for given in (None, masks):
        ours = edit_pictures(on_gpu, pictures(), ASKED, given)
        assert ours.device.type == "cpu"
        assert torch.allclose(ours, edit_pictures(backbone, pictures(), ASKED, given), atol=5e-3)
