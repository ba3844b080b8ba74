"""The small video model: frames by warping, what it changes of them, files, and the rules of a video backbone. Random weights."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.diffusion import VideoBackbone
from engine.diffusion.camera_video import CameraVideoBackbone, load_camera_video_backbone
from engine.errors import InputError
from engine.guidance.classifier_free import Guidance
from engine.guidance.video import VideoRequest, sample_video
from engine.models.camera_video import CameraVideo, CameraVideoConfig, load_camera_video, save_camera_video
from engine.models.camera_video.warp import filled_holes, projections, warped
from engine.models.reconstruction import latents_to_pixels
from engine.scene import plucker_rays, relative_to_first
from engine.steps import camera_path
from tests.tiny_image_model import VIDEO, tiny_video
from training.camera_video.data import make_clip
from training.reconstruction.scenes import SceneShape

STATIC = SceneShape(frames=5, movers=0)


def path_rays(kind="arc left", frames=5, size=32, unit=0.5):
    path = camera_path.make(None, camera_path.Config(kind=kind, frames=frames, width=size, height=size))
    return plucker_rays(relative_to_first(path.cameras, unit)).float()


def picture(size=32, seed=0):
    return torch.rand(size, size, 3, generator=torch.Generator().manual_seed(seed))


def backbone(seed=0):
    return CameraVideoBackbone(tiny_video(seed=seed), name="tiny", fingerprint="random")


def psnr(a, b):
    return -10 * math.log10(float((a - b).square().mean()))


def test_projections_are_those_of_the_cameras_that_made_the_rays():
    path = camera_path.make(None, camera_path.Config(kind="arc left", frames=3, width=40, height=24))
    cameras = relative_to_first(path.cameras)
    centers, matrices = projections(plucker_rays(cameras).float())
    points = torch.tensor([[0.1, -0.2, 1.0], [-0.3, 0.1, 1.4], [0.0, 0.0, 0.7]])
    for view in range(3):
        wanted, depth = cameras.project(points.double(), view)
        found = (points - centers[view]) @ matrices[view].T
        assert bool((found[:, 2] > 0).all()) and bool((depth > 0).all())
        pixels = found[:, :2] / found[:, 2:] * torch.tensor([40.0, 24.0])
        torch.testing.assert_close(pixels.double(), wanted, atol=1e-3, rtol=0)


def test_a_camera_that_stands_still_sees_the_image():
    image = picture()
    frames, visible = warped(image[None], torch.full((1, 32, 32), 2.0), path_rays("still")[None])
    assert bool((visible == 1).all())
    torch.testing.assert_close(frames[0], image.expand(5, -1, -1, -1), atol=2e-4, rtol=0)


def test_warping_by_true_distances_gives_the_frames_of_a_static_scene():
    clip = make_clip(3, STATIC, 64)
    frames, visible = warped(clip.video[:1], clip.distances[None].float(), clip.rays[None])
    last, seen = clip.video[-1], visible[0, -1].bool()
    assert float(seen.float().mean()) > 0.6
    assert psnr(frames[0, -1][seen], last[seen]) > psnr(clip.video[0][seen], last[seen]) + 4


def test_holes_are_filled_from_around_them_and_nothing_else_changes():
    image, weights = picture(16)[None], torch.ones(1, 16, 16)
    weights[:, 4:9, 5:12] = 0
    filled = filled_holes(image, weights)
    known = weights[0] > 0
    torch.testing.assert_close(filled[0][known], image[0][known])
    flat = filled_holes(torch.full((1, 16, 16, 3), 0.3), weights)
    torch.testing.assert_close(flat, torch.full((1, 16, 16, 3), 0.3), atol=1e-5, rtol=0)


def test_before_training_the_video_is_the_warped_image():
    model = CameraVideo(VIDEO).eval()
    rays, noise = path_rays()[None], torch.randn(1, 768, 2, 4, 4)
    guess = model.guess(picture()[None], rays)
    assert not bool(guess.log_distances.any())
    video = latents_to_pixels(model(noise, torch.ones(1), guess, rays), VIDEO.latent)
    torch.testing.assert_close(video, guess.frames, atol=1e-5, rtol=0)


def test_a_sample_begins_with_the_image_and_follows_seed_and_path():
    model, image = backbone(), picture()
    request = VideoRequest(Guidance("", 1.0), 5, 32, 32, 3)

    def sampled(rays, **changed):
        *_, last = sample_video(model, replace(request, **changed), image, rays)
        return model.decode(last.latents)[0]

    rays = path_rays()
    first = sampled(rays)
    torch.testing.assert_close(first[0], image, atol=1e-5, rtol=0)
    assert torch.equal(first, sampled(rays))
    assert not torch.allclose(first, sampled(rays, seed=1))
    assert not torch.allclose(first, sampled(path_rays("dolly in")))
    assert not torch.allclose(first, sampled(rays, steps=1))


def test_the_same_frame_has_the_same_distances_on_any_path():
    model, image = tiny_video(), picture()[None]
    two = [model.guess(image, path_rays(kind)[None]).log_distances for kind in ("arc left", "truck right")]
    assert torch.equal(*two) and float(two[0].std()) > 0


def test_it_is_a_video_backbone_and_refuses_what_it_cannot_make():
    model = backbone()
    assert isinstance(model, VideoBackbone)
    assert model.latent_frames(9) == 3 and model.noise_schedule.rates(999)[0] == 0
    with pytest.raises(InputError, match="9 or 13 frames"):
        model.latent_frames(11)
    with pytest.raises(InputError, match="GS4D-DIF-101"):
        model.first_frame(torch.rand(1, 30, 32, 3), 5)
    with pytest.raises(InputError, match="GS4D-DIF-100"):
        model.encode_text(["a dog"])
    request = VideoRequest(Guidance("", 1.0), 5, 32, 32, 1)
    for camera in (None, path_rays(frames=9), path_rays(size=24)):
        with pytest.raises(InputError, match="GS4D-DIF-102"):
            next(sample_video(model, request, picture(), camera))


def test_latents_are_the_pixels():
    model, video = backbone(), torch.rand(1, 5, 32, 32, 3)
    latents = model.encode(video)
    assert latents.shape == (1, 768, 2, 4, 4)
    torch.testing.assert_close(model.decode(latents), video)
    torch.testing.assert_close(model.scaled(model.encode_image_latents(video))[:, :, :1], latents[:, :, :1])


def test_a_saved_model_is_itself_and_says_what_it_is(tmp_path):
    path = tmp_path / "video.safetensors"
    model = tiny_video()
    save_camera_video(model, path)
    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["config"])
    assert described["kind"] == "gs4d-camera-video" and described["plucker"] == "moment,direction"
    assert CameraVideoConfig.from_json(described, "it") == VIDEO
    same = load_camera_video(path)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), model.parameters(), strict=True))
    assert load_camera_video_backbone(path).fingerprint == load_camera_video_backbone(path).fingerprint


@pytest.mark.parametrize(
    ("change", "code"),
    [({"kind": "other"}, "REC-010"), ({"widht": 3}, "REC-010"), ({"plucker": "direction,moment"}, "REC-010"),
     ({"latent": {"channels": 16, "time_factor": 4, "space_factor": 8}}, "REC-010"), (None, "REC-011")],
)  # fmt: skip
def test_another_description_is_refused(tmp_path, change, code):
    described = None if change is None else {"config": json.dumps({**VIDEO.to_json(), **change})}
    path = tmp_path / "video.safetensors"
    save_file({"x": torch.zeros(1)}, path, described)
    with pytest.raises(InputError, match=f"GS4D-{code}"):
        load_camera_video(path)
