"""The training of the small video model: true distances, what the losses reward, and resuming to the bit."""

from dataclasses import replace

import pytest
import torch

from engine.generation.image_models import ImageTo4DModels
from engine.models.reconstruction import Ldrm
from tests.tiny_image_model import LDRM, VIDEO
from training.camera_video.data import Clips, make_clip
from training.camera_video.evaluate import evaluate, held_out, sheet
from training.camera_video.train import Training, new_model, step_losses, train_model
from training.common.loop import LoopConfig, faster
from training.reconstruction.data import HELD_OUT_SEED
from training.reconstruction.export import export
from training.reconstruction.scenes import SceneShape

SHAPE = SceneShape(frames=5)
TRAINING = Training(batch=2, pool=3)


@pytest.fixture(scope="module")
def clips():
    return [make_clip(seed, SHAPE, 32) for seed in (0, 1)]


def test_distances_are_those_at_which_rays_meet_the_scene(clips):
    clip = make_clip(3, replace(SHAPE, movers=0), 32)
    points = clip.rays[0, ..., 3:] * clip.distances[..., None].float()
    pixels, depth = clip.cameras.project(points.reshape(-1, 3).double(), 0)
    centers = torch.arange(32) + 0.5
    assert float((pixels.view(32, 32, 2)[..., 0] - centers).abs().max()) < 0.01 and bool((depth > 0).all())
    assert torch.equal(clip.images, make_clip(3, replace(SHAPE, movers=0), 32).images)
    assert not torch.equal(clip.images, clips[0].images)


def test_there_is_no_loss_where_the_model_is_right(clips):
    """A new model predicts one distance everywhere, and frames warped by it."""
    model, generator = new_model(VIDEO), torch.Generator
    found = step_losses(model, clips, TRAINING, generator().manual_seed(0))
    assert set(found) == {"video", "depth"}
    distances = torch.full((1, 32, 32), VIDEO.distance)
    right = []
    for clip in clips:
        guess = model.guess(clip.video[None, 0], clip.rays[None])
        images = (255 * guess.frames[0]).round().byte()
        right.append(replace(clip, images=images, distances=distances[0].half()))
    none = step_losses(model, right, TRAINING, generator().manual_seed(0))
    assert float(none["depth"]) < 1e-3 < 0.05 < float(found["depth"])
    assert float(none["video"]) < 1e-3 < 0.05 < float(found["video"])


def test_training_goes_on_where_it_was_interrupted(tmp_path):
    def trained(steps, checkpoint=None):
        loop = LoopConfig(steps, 1e-3, warmup=2, save_every=2)
        return train_model(new_model(VIDEO), TRAINING, loop, checkpoint, SHAPE).state_dict()

    whole = trained(4)

    class Stop(Exception):
        pass

    calls, draw = [], Clips.draw

    def stopping(self, count, generator, share):
        calls.append(1)
        if len(calls) > 3:
            raise Stop
        return draw(self, count, generator, share)

    Clips.draw = stopping
    try:
        with pytest.raises(Stop):
            trained(4, tmp_path / "checkpoint.pt")
    finally:
        Clips.draw = draw
    resumed = trained(4, tmp_path / "checkpoint.pt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = new_model(VIDEO).state_dict()
    assert not torch.equal(start["out.weight"], whole["out.weight"])


def test_figures_and_the_sheet_are_of_unseen_scenes():
    static = replace(SHAPE, movers=0)
    clip = held_out(0, 32, static)
    assert torch.equal(clip.images, make_clip(HELD_OUT_SEED, static, 32).images)
    model = new_model(VIDEO).eval()
    figures = evaluate(model, [clip], steps=(1,))
    # before training the sample is the warp
    assert figures["psnr_1_steps"] == pytest.approx(figures["psnr_warp"], abs=0.01)
    assert figures["psnr_true_warp"] > figures["psnr_still"] + 3
    assert figures["psnr_static_still"] == figures["psnr_still"]
    assert sheet(model, [clip], 1).shape == (32, 8 * 32, 3)


def test_modules_made_faster_give_nearly_the_same_in_32_bits():
    layer = torch.nn.Linear(64, 32)
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    exact = layer(x).detach()
    faster(layer)
    made = layer(x)
    assert made.dtype == torch.float32 and not torch.equal(made, exact)
    torch.testing.assert_close(made.detach(), exact, atol=0.05, rtol=0.05)
    made.sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


def test_exported_models_are_loaded_with_their_sampling_steps(tmp_path):
    reconstruction = Ldrm(LDRM)
    export(reconstruction, new_model(VIDEO), 3, tmp_path / "out")
    models = ImageTo4DModels(tmp_path / "out")
    assert models.video.defaults.steps == 3
    weights = reconstruction.state_dict()
    for name, tensor in models.ldrm.state_dict().items():
        torch.testing.assert_close(tensor, weights[name].half().float(), atol=0, rtol=0)
