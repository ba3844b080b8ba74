"""Generated motion fitted to the video: with the bundled model on a toy that it never saw, and with random weights."""

import pytest
import torch

from engine import messages as m
from engine.generation.variation import VariationModels, bundled_variation
from engine.generation.variation_fit import fitted
from engine.steps import splat_to_scene
from engine.steps import variation_diffusion as step
from engine.steps.variation_diffusion import Config
from tests.tiny_variation import ball, save_variation
from training.variation_field import data, dit, evaluate, pictures
from training.variation_field.export import loaded

FRAMES = 6


def video(frames: int = FRAMES, size: int = 48) -> torch.Tensor:
    """A gray square that moves over white, with alpha."""
    images = torch.full((frames, size, size, 4), 0.5)
    images[..., 3] = 0
    for i in range(frames):
        images[i, 8 + i : 36 + i, 12:36, 3] = 1
    return images


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return VariationModels(save_variation(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def scene():
    return splat_to_scene.make([ball()], splat_to_scene.Config(up="z up"))


def changes(models, scene, config, **more):
    made = m.result(step.run(models, scene, video(), config=config, **more)).scene
    return made.deformation.changes, made


def test_the_fit_comes_nearer_to_the_video_and_to_the_truth():
    network, latents = loaded(bundled_variation())
    clip = latents.prepared(data.make_clip("bending", data.HELD_OUT_SEED + 1, data.ClipShape(frames=8)))
    vector = clip.clip.vector[None]
    made = latents.statistics.standardized(dit.sampled(network, latents.statistics, clip))[None]

    def decoded(values, frames):
        return latents.vae.decode(latents.statistics.latents(values[:, frames]), vector)[0]

    with torch.no_grad():
        before = decoded(made, torch.arange(8))
    *_, last = fitted(made, decoded, clip.clip.raw, clip.images, pictures.INPUT.cameras(), steps=15)
    with torch.no_grad():
        after = decoded(last, torch.arange(8))
    own = [evaluate.rendered_psnr(clip.clip, deltas, views=(0,)) for deltas in (before, after)]
    assert own[1] > own[0] + 4
    # what the camera does not see of the motion must not pay for it
    assert evaluate.position_error(clip.clip, after) < evaluate.position_error(clip.clip, before)
    assert evaluate.rendered_psnr(clip.clip, after) > evaluate.rendered_psnr(clip.clip, before) - 0.3


def test_without_steps_nothing_is_fitted(models, scene):
    plain, made = changes(models, scene, Config(preview_every=0))
    moved, _ = changes(models, scene, Config(preview_every=0, fit_steps=2))
    assert made.history[-1]["sampling"]["fit_steps"] == 0
    assert not torch.equal(plain["means"], moved["means"])


def test_a_run_canceled_in_the_fit_resumes_with_the_same_bits(models, scene, tmp_path):
    config, checkpoint = Config(preview_every=0, fit_steps=4), tmp_path / "run.generation.safetensors"
    whole, _ = changes(models, scene, config)
    stream = step.run(models, scene, video(), config=config, checkpoint=checkpoint)
    started = next(stream)
    for message in stream:
        # encoded and sampled, and two steps into the fit
        if isinstance(message, m.Progress) and message.done == started.total - FRAMES - 2:
            break
    stream.close()
    assert checkpoint.is_file()
    messages = list(step.run(models, scene, video(), config=config, checkpoint=checkpoint))
    assert "resumed" in messages[0].note
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    again = messages[-1].value.scene.deformation.changes
    assert all(torch.equal(again[name], change) for name, change in whole.items())
