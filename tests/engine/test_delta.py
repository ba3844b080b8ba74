"""Delta denoising does what its formulas say: on random networks exactly, on a model whose scores are known in the end."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.diffusion import CrossFrameAttention, DiscreteSchedule, ModelDefaults
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance
from engine.guidance.delta import MISMATCH, delta_loss, masked_reconstruction, vae_mismatch
from engine.guidance.score import score_loss
from tests.tiny_diffusion import SCHEDULER, tiny_backbone

PERSON, GOLD = Guidance("a person walking", 7.5), Guidance("a gold statue of a person walking", 7.5)


def latents(count=2, seed=0, channels=4):
    return torch.randn(count, channels, 8, 6, generator=torch.Generator().manual_seed(seed))


def half(count=2):
    """A mask whose left three columns are edited, the third by half."""
    mask = torch.zeros(count, 8, 6)
    mask[..., :2], mask[..., 2] = 1, 0.5
    return mask


class Mixture:
    """A diffusion model of which the score is known: every cell of a picture is N(mean of the prompt, spread² I), and
    without a prompt the mixture of all of them in equal parts."""

    def __init__(self, means: dict[str, Tensor], spread: float = 0.3, prediction: str = "epsilon") -> None:
        self.name = self.fingerprint = "an exact mixture"
        self.means, self.spread = means, spread  # [C] by prompt
        self.has_image_conditioning, self.vae_scale_factor = False, 8
        self.latent_channels = len(next(iter(means.values())))
        self.noise_schedule = DiscreteSchedule.from_config({**SCHEDULER, "prediction_type": prediction})
        self.defaults, self.device = ModelDefaults(), torch.device("cpu")

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        names = list(self.means)
        return torch.tensor([[[float(names.index(p) if p else -1)]] for p in prompts])

    def predict(
        self,
        noisy: Tensor,
        t: int,
        text: Tensor,
        condition: Tensor | None = None,
        sharing: CrossFrameAttention | None = None,
    ) -> Tensor:
        a = self.noise_schedule.alpha(t)
        variance = a * self.spread**2 + 1 - a
        means = a**0.5 * torch.stack(list(self.means.values()))  # [K, C]
        away = noisy[:, None] - means[:, :, None, None]  # [B, K, C, h, w]
        belongs = (-away.square().sum(2) / (2 * variance)).softmax(1)  # [B, K, h, w]
        which = text[:, 0, 0].long()
        asked = torch.nn.functional.one_hot(which.clamp(min=0), len(means))[..., None, None].to(noisy)
        belongs = torch.where((which < 0)[:, None, None, None], belongs, asked.expand_as(belongs))
        noise = (1 - a) ** 0.5 / variance * (belongs[:, :, None] * away).sum(1)  # −√(1 − ᾱ) ∇ log p_t
        centre = (
            torch.stack(list(self.means.values()))[:, :, None, None]
            + a**0.5 * self.spread**2 / variance * away
        )
        clean = (belongs[:, :, None] * centre).sum(1)
        answers = {"epsilon": noise, "sample": clean, "v_prediction": a**0.5 * noise - (1 - a) ** 0.5 * clean}
        return answers[self.noise_schedule.prediction]


def two_modes(channels=4, prediction="epsilon"):
    g = torch.Generator().manual_seed(5)
    cat, dog = torch.randn(2, channels, generator=g)
    return Mixture({"a cat": cat, "a dog": dog}, prediction=prediction)


def edited(model, source, mask=None, steps=150, rate=0.3, scale=1.0, loss=delta_loss):
    g = torch.Generator().manual_seed(2)
    z = source.clone().requires_grad_()
    optimizer = torch.optim.SGD([z], rate)
    cat, dog = Guidance("a cat", scale), Guidance("a dog", scale)
    for _ in range(steps):
        t = int(torch.randint(50, 950, (1,), generator=g))
        noise = torch.randn(source.shape, generator=g)
        if loss is delta_loss:
            score = delta_loss(model, z, source, t, noise, dog, cat, mask=mask)
        else:
            score = score_loss(model, z, t, noise, dog, None, "uniform", mask=mask)
        optimizer.zero_grad()
        (score.loss * len(z)).backward()
        optimizer.step()
    return z.detach()


@pytest.fixture(scope="module", params=[True, False], ids=["takes a picture", "text alone"])
def backbone(request):
    return tiny_backbone(has_image_conditioning=request.param)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("seen", [True, False])
def test_delta_is_exactly_zero_for_equal_prompts_and_latents(backbone, at_once, seen):
    z = latents().requires_grad_()
    picture = latents(seed=7) if seen and backbone.has_image_conditioning else None
    asked = replace(PERSON, image_scale=1.5)
    score = delta_loss(
        backbone, z, latents(), 400, latents(seed=1), asked, asked, picture, branches_at_once=at_once
    )
    score.loss.backward()
    assert float(score.loss.detach()) == 0
    assert not score.gradient.any() and not z.grad.any()


def test_delta_of_other_prompts_or_other_latents_is_not_zero(backbone):
    z, noise = latents().requires_grad_(), latents(seed=1)
    assert bool(delta_loss(backbone, z, latents(), 400, noise, GOLD, PERSON).gradient.any())
    assert bool(delta_loss(backbone, z, latents(seed=3), 400, noise, PERSON, PERSON).gradient.any())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("at_once, weighting", [(True, "uniform"), (False, "uniform"), (True, "picture")])
def test_delta_is_the_score_of_the_target_minus_the_score_of_the_source_with_shared_noise(
    prediction, at_once, weighting
):
    b = tiny_backbone(prediction=prediction)
    z, source, noise, picture = latents().requires_grad_(), latents(seed=3), latents(seed=1), latents(seed=4)
    target, original = replace(GOLD, image_scale=1.5), replace(PERSON, image_scale=1.2, negative="ugly")
    for condition in (None, picture):
        z.grad = None
        delta = delta_loss(b, z, source, 400, noise, target, original, condition, None, at_once, weighting)
        delta.loss.backward()
        to = score_loss(b, z.detach(), 400, noise, target, condition, weighting)
        away = score_loss(b, source, 400, noise, original, condition, weighting)
        difference = to.gradient - away.gradient
        assert torch.allclose(delta.gradient, difference, atol=2e-5)
        assert torch.allclose(z.grad, difference / len(z), atol=2e-5)
        assert torch.allclose(delta.clean, to.clean, atol=2e-4)
        assert float(difference.abs().mean()) > 1e-3


def test_a_whole_step_by_the_picture_lands_on_the_source_plus_what_the_guesses_differ_by():
    """Of one Gaussian a prompt that is the edit itself, however much noise there was: even where nothing else is left."""
    for prediction in ("v_prediction", "sample"):
        model = two_modes(prediction=prediction)
        alphas = torch.cat([model.noise_schedule.alphas_cumprod[:-1], torch.zeros(1)])  # zero terminal SNR
        model.noise_schedule = replace(model.noise_schedule, alphas_cumprod=alphas)
        cat, dog = (mean[:, None, None] for mean in model.means.values())
        source = cat + 0.3 * latents()
        score = delta_loss(
            model,
            source,
            source,
            999,
            latents(seed=1),
            Guidance("a dog", 1.0),
            Guidance("a cat", 1.0),
            weighting="picture",
        )
        assert torch.allclose(source - score.gradient, source + dog - cat, atol=1e-5)
        plain = delta_loss(
            model, source, source, 999, latents(seed=1), Guidance("a dog", 1.0), Guidance("a cat", 1.0)
        )
        assert float(plain.gradient.abs().max()) < 1e-5, "a difference of noises says nothing there"


def test_all_branches_take_one_call_and_what_both_sides_share_is_asked_once():
    seen = []

    class Counting(Mixture):
        def predict(self, noisy, t, text, condition=None, sharing=None):
            seen.append(len(noisy))
            return super().predict(noisy, t, text, condition, sharing)

    model = Counting(two_modes().means)
    cat, dog = Guidance("a cat", 7.5), Guidance("a dog", 7.5)
    z, noise = latents(), latents(seed=1)
    delta_loss(model, latents(seed=2), z, 300, noise, dog, cat)
    delta_loss(model, z, z.clone(), 300, noise, dog, cat)  # the branches without a prompt are one
    delta_loss(model, latents(seed=2), z, 300, noise, dog, cat, branches_at_once=False)
    delta_loss(model, z, latents(seed=2), 300, noise, replace(dog, scale=1), replace(cat, scale=1))
    assert seen == [8, 6, 2, 2, 2, 2, 4]


def test_without_a_condition_a_picture_model_is_a_text_model_that_sees_an_empty_picture():
    b = tiny_backbone(has_image_conditioning=True)
    z, noise, empty = latents().requires_grad_(), latents(seed=1), torch.zeros(2, 4, 8, 6)
    blind = delta_loss(b, z, latents(seed=3), 400, noise, replace(GOLD, image_scale=9.0), PERSON)
    shown = delta_loss(b, z, latents(seed=3), 400, noise, GOLD, PERSON, empty)
    assert torch.allclose(blind.gradient, shown.gradient, atol=2e-5)
    once = score_loss(b, z, 400, noise, replace(GOLD, image_scale=9.0), None, "uniform")
    assert torch.allclose(
        once.gradient, score_loss(b, z, 400, noise, GOLD, empty, "uniform").gradient, atol=2e-5
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("channels", [4, 16])
def test_an_analytic_mixture_moves_a_latent_between_modes_and_keeps_what_is_its_own(prediction, channels):
    """Of one Gaussian a prompt the delta's only rest is s + μ_target − μ_source: every cell keeps its own deviation,
    which score distillation gives up for the mode."""
    model = two_modes(channels, prediction)
    cat, dog = (mean[:, None, None] for mean in model.means.values())
    own = 0.3 * latents(channels=channels)
    source = cat + own
    moved = edited(model, source)
    assert float((moved - (dog + own)).abs().max()) < 2e-3
    pulled = edited(model, source, loss=score_loss)
    kept = float((pulled - dog).flatten() @ own.flatten() / own.square().sum())
    assert abs(kept) < 0.2, "score distillation keeps none of the cell's own"


def test_stronger_guidance_still_ends_in_the_other_mode():
    model = two_modes()
    cat, dog = (mean[:, None, None] for mean in model.means.values())
    moved = edited(model, cat + 0.3 * latents(), scale=3.0, rate=0.1)
    assert bool(((moved - dog).square().sum(1) < 0.5 * (moved - cat).square().sum(1)).all())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("loss", [delta_loss, score_loss])
def test_what_is_outside_the_mask_is_untouched_bit_for_bit(optimizer, loss):
    model, mask = two_modes(), half()
    source = next(iter(model.means.values()))[:, None, None] + 0.3 * latents()
    cat, dog = Guidance("a cat", 2.0), Guidance("a dog", 2.0)
    z = source.clone().requires_grad_()
    steps = optimizer([z], 0.1)
    for i in range(20):
        if loss is delta_loss:
            score = delta_loss(model, z, source, 40 * i + 50, latents(seed=i), dog, cat, mask=mask)
        else:
            score = score_loss(model, z, 40 * i + 50, latents(seed=i), dog, None, mask=mask)
        held = masked_reconstruction(z, source, mask, 0.01, 1.0)
        steps.zero_grad()
        (score.loss + held).backward()
        steps.step()
    outside = (mask == 0)[:, None].expand_as(source)
    assert torch.equal(z.detach()[outside], source[outside])
    assert float((z.detach() - source)[~outside].abs().mean()) > 0.05


def test_the_gradient_has_its_support_inside_the_mask_and_is_weighed_by_it(backbone):
    z, source, noise, mask = latents().requires_grad_(), latents(seed=3), latents(seed=1), half()
    everywhere = delta_loss(backbone, z, source, 400, noise, GOLD, PERSON).gradient
    score = delta_loss(backbone, z, source, 400, noise, GOLD, PERSON, mask=mask)
    score.loss.backward()
    assert torch.equal(z.grad != 0, (mask > 0)[:, None].expand_as(z))
    assert torch.allclose(z.grad * len(z), everywhere * mask[:, None], atol=1e-6)
    assert torch.allclose(z.grad * len(z), score.gradient, atol=1e-6)
    plain = score_loss(backbone, z, 400, noise, GOLD, None, "uniform").gradient
    inside = score_loss(backbone, z, 400, noise, GOLD, None, "uniform", mask=mask).gradient
    assert torch.equal(inside, plain * mask[:, None])
    assert not delta_loss(backbone, z, source, 400, noise, GOLD, PERSON, mask=0 * mask).gradient.any()


def test_a_16_channel_latent_goes_through_the_same_code():
    b = tiny_backbone(has_image_conditioning=False, latent_channels=16)
    z = latents(channels=16).requires_grad_()
    score = delta_loss(
        b, z, latents(seed=3, channels=16), 400, latents(seed=1, channels=16), GOLD, PERSON, mask=half()
    )
    score.loss.backward()
    assert z.grad.shape == (2, 16, 8, 6) and bool(z.grad[..., :3].all()) and not z.grad[..., 3:].any()


def test_masked_reconstruction_is_the_formula_and_zero_at_the_source():
    z, source, mask = latents().requires_grad_(), latents(seed=3), half()
    assert float(masked_reconstruction(source, source, mask, 0.1, 10.0)) == 0
    loss = masked_reconstruction(z, source, mask, 0.1, 10.0)
    loss.backward()
    m = mask[:, None]
    assert torch.allclose(z.grad, (0.1 * m**2 + 10.0 * (1 - m) ** 2) * (z.detach() - source) / 2, atol=1e-6)
    away = z.detach() - source
    expected = (0.1 * (m * away).square().sum() + 10 * ((1 - m) * away).square().sum()) / 4
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_half_precision_latents_give_a_float32_loss(backbone):
    z = latents().half().requires_grad_()
    score = delta_loss(
        backbone, z, latents(seed=3).half(), 400, latents(seed=1).half(), GOLD, PERSON, mask=half().half()
    )
    assert score.loss.dtype == score.gradient.dtype == torch.float32
    score.loss.backward()
    assert bool(z.grad.isfinite().all()) and bool(z.grad.any())


def test_latents_of_the_model_match_it_better_than_those_of_another():
    model = two_modes(prediction="v_prediction")
    right = torch.stack(list(model.means.values()))[:, :, None, None] + 0.3 * latents()
    assert vae_mismatch(model, right) < MISMATCH
    assert vae_mismatch(model, right) == vae_mismatch(model, right)
    for wrong in (5 * right, right + 2, -3 * right):
        assert vae_mismatch(model, wrong) > MISMATCH


def test_what_cannot_be_edited_is_said():
    model = two_modes()
    z, noise = latents(), latents(seed=1)
    cat, dog = Guidance("a cat", 7.5), Guidance("a dog", 7.5)
    with pytest.raises(
        InputError, match=r"source prompt is empty.*compares two prompts.*'a person walking'.*sds"
    ):
        delta_loss(model, z, z, 500, noise, dog, replace(cat, prompt=" "))
    with pytest.raises(InputError, match="schedule of 0 to 999"):
        delta_loss(model, z, z, 1000, noise, dog, cat)
    model.means["a dog"] = torch.full((4,), torch.nan)
    with pytest.raises(InputError, match=r"not finite.*half precision"):
        delta_loss(model, z, z, 500, noise, dog, cat)
