"""Stage 2: a diffusion model pulls the scene through a frozen motion; what must not change does not."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.deform import FrozenAppearance
from engine.errors import InputError
from engine.guidance.score import surrogate_loss
from engine.scene import Selection
from engine.steps import fit_edits, refine_score
from engine.steps.refine_score import RefineScore, earlier_edits
from engine.train.state import fingerprint_of
from tests.edit_scenes import PerfectEditor, edited_views, field_scene, psnr, truth_of
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

QUICK = refine_score.Config(prompt="swap the colours", iterations=6, preview_every=3, images_per_step=2)


@pytest.fixture(scope="module")
def scene():
    return field_scene()


@pytest.fixture(scope="module")
def video(scene):
    return capture_of(scene)


@pytest.fixture(scope="module")
def random_model():
    return tiny_backbone()


def hash_of(deformation):
    return fingerprint_of(*(t for _, t in sorted(deformation.tensors().items())))


def same(a, b):
    return all(torch.equal(t, b.tensors()[name]) for name, t in a.tensors().items())


@pytest.mark.parametrize("preset", ["paper", "reference code"])
def test_invariant_1_the_deformation_is_bit_identical_after_stage_2(scene, video, preset):
    before = hash_of(scene.deformation)
    made = m.result(refine_score.run(scene, PerfectEditor(), replace(QUICK, preset=preset), video))
    assert hash_of(made.deformation) == before == hash_of(scene.deformation)
    assert len(made.canonical) == len(scene.canonical)
    changed = {
        n for n, t in made.canonical.tensors().items() if not torch.equal(t, scene.canonical.tensors()[n])
    }
    every = {"means", "log_scales", "quats", "logit_opacities", "sh"}
    assert changed == ({"means", "sh"} if preset == "paper" else every)


@pytest.mark.parametrize("moments", [3, 6])
def test_invariant_2_one_diffusion_call_an_iteration_however_many_moments(moments):
    scene = field_scene(moments=moments)
    model = PerfectEditor()
    made = m.result(refine_score.run(scene, model, QUICK, capture_of(scene)))
    assert model.calls == QUICK.iterations == made.history[-1]["diffusion_calls"]
    best, (width, height) = model.defaults, made.history[-1]["size"]
    told = f"{width}×{height}, guidance scale {best.guidance_scale:g}, image guidance scale {best.image_guidance_scale:g}"
    assert QUICK.guidance_scale == 0 and told in refine_score.summary(made), "what auto stood for is said"


def test_a_perfect_editor_pulls_all_moments_and_views_to_the_truth():
    """From the unedited scene by score distillation alone: the whole truth is known. Measured: 21.6 dB, then 28.7."""
    scene = field_scene(heads=("position", "scale", "rotation"))
    truth = truth_of(scene).with_(background=scene.background)
    config = replace(QUICK, iterations=120, preview_every=0, color_lr=3e-2, images_per_step=4)
    made = m.result(refine_score.run(scene, PerfectEditor(), config, capture_of(scene)))
    before, after = (psnr(s, truth, (0, 3, 5), (1, 4)) for s in (scene, made))
    assert after > before + 5


def test_stage_2_continues_stage_1(scene, video):
    """The model is shown the captured pictures, not the edited ones: a perfect editor would edit those twice."""
    truth = truth_of(scene).with_(background=scene.background)
    views = edited_views(scene, (1, 2, 5, 6))
    fitted = m.result(
        fit_edits.run(scene, views, fit_edits.Config(iterations=60, color_lr=5e-2, preview_every=0))
    )
    config = replace(QUICK, iterations=60, preview_every=0, images_per_step=4, color_lr=2e-2)
    refined = m.result(refine_score.run(fitted, PerfectEditor(), config, video))
    assert psnr(refined, truth, (0, 3), (2, 5)) > psnr(fitted, truth, (0, 3), (2, 5)) - 0.5
    twice = m.result(refine_score.run(fitted, PerfectEditor(), replace(config, condition="rendered")))
    assert psnr(refined, truth, (0, 3), (2, 5)) > psnr(twice, truth, (0, 3), (2, 5)) + 0.5


def test_gradients_reach_the_gaussians_through_a_real_vae(scene, video, random_model):
    made = m.result(refine_score.run(scene, random_model, QUICK, video))
    assert not torch.equal(made.canonical.means, scene.canonical.means)
    assert all(bool(torch.isfinite(t).all()) for t in made.canonical.tensors().values())
    parts = (random_model.unet, random_model.vae, random_model.text_encoder)
    assert all(p.grad is None for part in parts for p in part.parameters())


def test_saving_memory_gives_the_same_gradient(scene, video, random_model):
    gradients = []
    for saves in (False, True):
        config = replace(QUICK, low_vram=saves)
        work = RefineScore(scene, random_model, config, video, None, "cpu", None)
        work.learn = lambda infos: None  # gradients stay where they are
        work.step()
        gradients.append(work.parameters.tensors["sh_dc"].grad.clone())
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-6 * float(gradients[0].abs().max()))
    assert float(gradients[0].abs().max()) > 0


def test_encoding_twice_gives_the_gradient_of_encoding_once(scene, video, random_model, monkeypatch):
    """With low VRAM, as on a GPU, the encoder is differentiated after the model has run, an image at a time."""
    config = replace(QUICK, low_vram=True)
    work = RefineScore(scene, random_model, config, video, None, "cpu", None)
    work.learn = lambda infos: None
    encoded, scores = [], []
    encode, score = work._encode, work._score

    def watched(image, seed):
        encoded.append((image, seed, torch.is_grad_enabled(), len(scores)))
        return encode(image, seed)

    def scored(*args):
        scores.append(score(*args))
        return scores[-1]

    monkeypatch.setattr(work, "_encode", watched)
    monkeypatch.setattr(work, "_score", scored)
    work.step()
    first, second = encoded[: QUICK.images_per_step], encoded[QUICK.images_per_step :]
    assert all(not grad and done == 0 for _, _, grad, done in first)
    assert all(len(image) == 1 and grad and done == 1 for image, _, grad, done in second)
    assert [seed for _, seed, _, _ in first] == [seed for _, seed, _, _ in second]
    images = torch.cat([image.detach() for image, _, _, _ in first]).requires_grad_()
    latents = [encode(image, seed) for image, (_, seed, _, _) in zip(images.split(1), first, strict=True)]
    surrogate_loss(torch.cat(latents).float(), scores[0].gradient).backward()
    leaf = second[0][0]._base
    assert leaf.grad.abs().max() > 0
    torch.testing.assert_close(leaf.grad, images.grad, rtol=1e-5, atol=1e-5 * float(images.grad.abs().max()))


class Elsewhere:
    """A model that says it is on a GPU, whatever the scene is rendered on."""

    device = torch.device("cuda")

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)


def test_a_model_on_a_gpu_keeps_no_encoder_graph_while_it_predicts(scene, video, random_model, monkeypatch):
    """The scene is rendered on the CPU here, as where no rasterizer works on the GPU."""
    work = RefineScore(scene, Elsewhere(random_model), QUICK, video, None, "cpu", None)
    graphs, encode, score = [], work._encode, work._score
    monkeypatch.setattr(work, "_encode", lambda image, seed: graphs.append(encode(image, seed)) or graphs[-1])
    alive = []
    monkeypatch.setattr(
        work, "_score", lambda *args: alive.append([z.requires_grad for z in graphs]) or score(*args)
    )
    work.step()
    assert alive == [[False] * QUICK.images_per_step]
    assert [z.requires_grad for z in graphs[QUICK.images_per_step :]] == [True] * QUICK.images_per_step


@pytest.mark.parametrize("changes", [{}, {"trains_deformation": True}, {"anneals": True}])
def test_resumed_equals_uninterrupted(scene, video, random_model, tmp_path, changes):
    config = replace(QUICK, **changes)
    whole = m.result(refine_score.run(scene, random_model, config, video))
    checkpoint = tmp_path / "refine.safetensors"
    stream = refine_score.run(scene, random_model, config, video, checkpoint=checkpoint)
    next(x for x in stream if isinstance(x, m.Progress) and x.done == 4)
    stream.close()
    assert checkpoint.is_file()
    messages = list(refine_score.run(scene, random_model, config, video, checkpoint=checkpoint))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == [5, 6]
    assert same(whole.canonical, messages[-1].value.canonical)
    assert hash_of(whole.deformation) == hash_of(messages[-1].value.deformation)
    assert not checkpoint.exists()


def test_a_checkpoint_of_another_model_is_not_resumed(scene, video, random_model, tmp_path):
    checkpoint = tmp_path / "refine.safetensors"
    work = RefineScore(scene, random_model, QUICK, video, None, "cpu", None)
    work.step()
    work.save(checkpoint)
    assert RefineScore(scene, random_model, QUICK, video, None, "cpu", None).resume(checkpoint)
    assert not RefineScore(scene, tiny_backbone(seed=1), QUICK, video, None, "cpu", None).resume(checkpoint)
    assert not RefineScore(scene, random_model, QUICK, None, None, "cpu", None).resume(checkpoint)


def test_a_mask_of_zeros_leaves_every_gaussian_untouched_and_calls_nobody(scene, video):
    model = PerfectEditor()
    nothing = Selection(torch.zeros(len(scene.canonical)))
    assert same(m.result(refine_score.run(scene, model, QUICK, video, nothing)).canonical, scene.canonical)
    assert model.calls == 0


def test_gaussians_outside_the_mask_keep_their_bits(scene, video):
    weights = (scene.canonical.means[:, 2] > 0).float()
    made = m.result(refine_score.run(scene, PerfectEditor(), QUICK, video, Selection(weights)))
    outside = weights == 0
    for name, tensor in made.canonical.tensors().items():
        assert torch.equal(tensor[outside], scene.canonical.tensors()[name][outside]), name
    assert bool((made.canonical.sh[~outside] != scene.canonical.sh[~outside]).any())


def test_inputs_are_not_changed(scene, video):
    before = {n: t.clone() for n, t in scene.canonical.tensors().items()}
    picture, motion = video.source.read(1, 0).image.clone(), hash_of(scene.deformation)
    m.result(refine_score.run(scene, PerfectEditor(), replace(QUICK, trains_deformation=True), video))
    assert all(torch.equal(t, before[n]) for n, t in scene.canonical.tensors().items())
    assert torch.equal(picture, video.source.read(1, 0).image) and hash_of(scene.deformation) == motion
    assert all(p.requires_grad and p.grad is None for p in scene.deformation.parameters())


def test_timesteps_lie_in_the_range_and_fall_where_they_anneal(scene, video):
    work = RefineScore(scene, PerfectEditor(), replace(QUICK, iterations=100), video, None, "cpu", None)
    drawn = [work._timestep() for _ in range(4000)]
    assert (min(drawn), max(drawn)) == (19, 979)  # U{19, …, 979}
    config = replace(QUICK, iterations=100, anneals=True, min_timestep=0.1, max_timestep=0.5)
    work = RefineScore(scene, PerfectEditor(), config, video, None, "cpu", None)
    for work.iteration, most in ((0, 499), (50, 349), (100, 199)):
        drawn = [work._timestep() for _ in range(2000)]
        assert min(drawn) == 99 and max(drawn) == most


def test_test_views_are_not_judged(scene, video):
    work = RefineScore(scene, PerfectEditor(), QUICK, video, None, "cpu", None)
    assert {view for view, _ in work.pairs} == set(range(1, 8)) and len(work.pairs) == 7 * 6


def test_what_the_model_sees_of_before_the_edit(scene, video):
    model = PerfectEditor()

    def source(edited, video=None, original=None, **changes):
        config = replace(QUICK, **changes)
        return RefineScore(edited, model, config, video, None, "cpu", original)

    fitted = scene.with_history("fit_edits", prompt="swap the colours")
    assert source(scene).source == "rendered" and source(scene, video).source == "captured"
    assert source(fitted, video).source == "captured"
    kept = source(fitted, original=scene)
    assert kept.source == "rendered" and kept.originals.scene.canonical.means.equal(scene.canonical.means)
    with pytest.raises(InputError, match="before the edit"):
        source(fitted)
    again = fitted.with_history("refine_score", prompt="swap the colours")
    assert source(again, video).source == "captured", "refined once more: still the same edit"
    other = again.with_history("fit_edits", prompt="make it night")
    with pytest.raises(InputError, match="original"):
        source(other, video, prompt="make it night")
    stacked = source(other, video, again, prompt="make it night")
    assert stacked.source == "rendered" and len(earlier_edits(other, "make it night")) == 2
    assert source(fitted, condition="rendered").source == "rendered"


def test_muted_and_history(scene, video):
    made = m.result(refine_score.run(scene, PerfectEditor(), replace(QUICK, mutes_appearance=True), video))
    assert isinstance(made.deformation, FrozenAppearance)
    entry = made.history[-1]
    assert entry["step"] == "refine_score" and entry["prompt"] == "swap the colours"
    assert (
        entry["model"] == "perfect editor" and entry["iterations"] == 6 and entry["condition"] == "captured"
    )


def test_stream_tells_progress_previews_and_the_end(scene, video):
    messages = list(refine_score.run(scene, PerfectEditor(), QUICK, video))
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(1, 7))
    previews = [x.image for x in messages if isinstance(x, m.Preview)]
    assert len(previews) == 2 and all(p.shape[1] == 3 * 48 for p in previews)
    assert isinstance(messages[0], m.Started) and isinstance(messages[-1], m.Finished)


def test_a_model_without_picture_condition_refines_too(scene, video):
    model = tiny_backbone(has_image_conditioning=False)
    made = m.result(refine_score.run(scene, model, replace(QUICK, iterations=2), video))
    assert not torch.equal(made.canonical.sh, scene.canonical.sh)


def test_bad_input_says_what_and_what_to_do(scene, video):
    with pytest.raises(InputError, match="prompt is empty"):
        next(refine_score.run(scene, PerfectEditor(), replace(QUICK, prompt="  "), video))
    with pytest.raises(InputError, match="lift it again"):
        next(refine_score.run(scene, PerfectEditor(), QUICK, video, Selection(torch.ones(3))))
    with pytest.raises(InputError, match="min_timestep"):
        replace(QUICK, min_timestep=0.9, max_timestep=0.1)
    with pytest.raises(InputError, match="no video"):
        next(refine_score.run(scene, PerfectEditor(), replace(QUICK, condition="captured")))

    class Overflowing(PerfectEditor):
        def predict(self, *args, **kwargs):
            return super().predict(*args, **kwargs) * torch.inf

    with pytest.raises(InputError, match="not finite"):
        m.result(refine_score.run(scene, Overflowing(), QUICK, video))
