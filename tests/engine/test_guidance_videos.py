"""Guidance on videos: latents with a time axis go through the same code, frame by frame the same numbers."""

import pytest
import torch

from engine.diffusion import DiscreteSchedule
from engine.guidance.classifier_free import Guidance, GuidanceQuery, predict, predict_each
from engine.guidance.delta import delta_loss, masked_reconstruction, vae_mismatch
from engine.guidance.score import WEIGHTINGS, score_loss, spread
from tests.tiny_diffusion import SCHEDULER, tiny_backbone

ASKED = Guidance("make it night", 7.5, 1.5)


class Pointwise:
    """A network that treats every latent alike, so that a video is its frames; it notes the cameras that it is given."""

    name = fingerprint = "pointwise"
    has_image_conditioning, latent_channels, vae_scale_factor, time_factor = True, 4, 8, 4
    noise_schedule = DiscreteSchedule.from_config({**SCHEDULER, "prediction_type": "v_prediction"})

    def __init__(self):
        self.cameras = []

    def encode_text(self, prompts):
        return torch.tensor([[[float(len(prompt))]] for prompt in prompts])

    def predict(self, noisy, t, text, condition=None, sharing=None, **camera):
        self.cameras.append(camera.get("camera"))
        words = text.reshape(-1, *[1] * (noisy.ndim - 1))
        return (noisy * (1 + 0.1 * words)).sin() + 0.3 * condition


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frames(videos):
    """[B, C, T', h, w] → [B·T', C, h, w]"""
    return videos.transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_video_gets_the_score_and_delta_of_its_frames_bit_for_bit(weighting):
    backbone, shape = Pointwise(), (2, 4, 3, 8, 6)
    video, noise, condition, source = (random(*shape, seed=i) for i in range(4))
    mask = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(5))
    one = score_loss(backbone, video, 400, noise, ASKED, condition, weighting, mask=mask)
    each = score_loss(
        backbone,
        frames(video),
        400,
        frames(noise),
        ASKED,
        frames(condition),
        weighting,
        mask=mask.flatten(0, 1),
    )
    assert torch.equal(frames(one.gradient), each.gradient) and torch.equal(frames(one.clean), each.clean)
    prompts = Guidance("a gold statue", 7.5, 1.0), Guidance("a statue", 7.5, 1.0)
    one = delta_loss(backbone, video, source, 400, noise, *prompts, condition, mask, weighting=weighting)
    each = delta_loss(
        backbone,
        *(frames(video), frames(source), 400, frames(noise), *prompts, frames(condition)),
        mask.flatten(0, 1),
        weighting=weighting,
    )
    assert torch.equal(frames(one.gradient), each.gradient)
    assert float(one.gradient.abs().max()) > 0


def test_the_gradient_of_a_video_reaches_its_latents_inside_the_mask_alone():
    video = random(1, 4, 3, 8, 6).requires_grad_()
    mask = torch.zeros(1, 3, 8, 6)
    mask[0, 1, 2:5, 1:4] = 1
    score = score_loss(Pointwise(), video, 500, random(1, 4, 3, 8, 6, seed=1), ASKED, None, mask=mask)
    score.loss.backward()
    torch.testing.assert_close(video.grad, score.gradient)
    assert not video.grad[:, :, [0, 2]].any() and video.grad[:, :, 1, 2:5, 1:4].all()


def test_a_mask_without_time_holds_for_every_frame():
    video, source = random(2, 4, 3, 8, 6), random(2, 4, 3, 8, 6, seed=1)
    still = torch.rand(2, 8, 6, generator=torch.Generator().manual_seed(2))
    moving = still[:, None].expand(2, 3, 8, 6)
    assert torch.equal(spread(still, video) * video, spread(moving, video) * video)
    weights = (2.0, 0.5)
    assert torch.equal(
        masked_reconstruction(video, source, still, *weights),
        masked_reconstruction(video, source, moving, *weights),
    )
    with pytest.raises(ValueError, match=r"\[2, 3, 8, 6\] does not fit latents of \[2, 4, 8, 6\]"):
        spread(moving, video[:, :, 0])


def test_every_branch_gets_the_camera_and_an_image_model_is_never_given_one():
    backbone, noisy, rays = Pointwise(), random(2, 4, 3, 8, 6), random(2, 9, 64, 48, 6)
    condition = random(2, 4, 3, 8, 6, seed=1)
    predict(backbone, noisy, 500, ASKED, condition, camera=rays)
    assert torch.equal(backbone.cameras.pop(), rays.repeat(3, 1, 1, 1, 1))
    predict(backbone, noisy, 500, ASKED, condition, branches_at_once=False, camera=rays)
    assert len(backbone.cameras) == 3 and all(torch.equal(seen, rays) for seen in backbone.cameras)
    backbone.cameras.clear()
    predict(backbone, noisy, 500, ASKED, condition)
    assert backbone.cameras == [None]
    assert vae_mismatch(backbone, noisy) > 0
    with pytest.raises(ValueError, match="takes no camera path"):
        tiny_backbone().predict(noisy[:, :, 0], 500, torch.zeros(2, 77, 32), noisy[:, :, 0], camera=rays)


def test_two_cameras_of_one_video_are_two_branches():
    backbone, noisy, condition = Pointwise(), random(1, 4, 3, 8, 6), random(1, 4, 3, 8, 6, seed=1)
    paths = random(1, 9, 64, 48, 6), random(1, 9, 64, 48, 6, seed=1)
    plain = Guidance("a statue", 1.0)
    predict_each(backbone, [GuidanceQuery(noisy, plain, condition, rays) for rays in paths], 500)
    assert torch.equal(backbone.cameras[0], torch.cat(paths))
