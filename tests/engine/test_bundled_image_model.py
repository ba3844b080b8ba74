"""The bundled small image-to-4D models, on scenes that nobody trained on: better than standing still, in seconds, and small."""

import pytest
import torch

from engine.capture.single_video import load_clip
from engine.generation.image_models import LDRM, VIDEO, ImageTo4DModels, bundled_image_model
from engine.messages import result
from engine.steps import camera_path, generate_from_image
from training.camera_video.evaluate import evaluate as evaluate_video
from training.camera_video.evaluate import held_out as held_out_clip
from training.reconstruction.evaluate import evaluate, held_out


@pytest.fixture(scope="module")
def models() -> ImageTo4DModels:
    return ImageTo4DModels(bundled_image_model())


def test_the_folder_is_small_and_has_its_card() -> None:
    folder = bundled_image_model()
    assert sum((folder / name).stat().st_size for name in (LDRM, VIDEO)) < 20_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("license: mit", "Photographs", "dB"))


def test_true_videos_become_scenes_that_are_right_beside_the_path(models: ImageTo4DModels) -> None:
    found = evaluate(models.ldrm, [held_out(i, models.ldrm.config) for i in range(4)])
    assert found["psnr_path"] > 26
    assert found["psnr_novel"] > found["nearest_psnr"] + 1
    assert found["depth_pearson"] > 0.8
    assert found["track_error"] < 0.85 * found["track_error_still"]


def test_videos_of_one_image_follow_the_path(models: ImageTo4DModels) -> None:
    video = models.video.model  # pyright: ignore[reportAttributeAccessIssue]
    found = evaluate_video(video, [held_out_clip(i) for i in range(4)], steps=[models.video.defaults.steps])
    steps = f"{models.video.defaults.steps}_steps"
    assert found[f"psnr_{steps}"] > found["psnr_still"] + 0.8
    assert found[f"psnr_static_{steps}"] > found["psnr_static_still"] + 0.8
    assert found["depth_pearson"] > 0.8


def test_the_example_image_becomes_a_scene(models: ImageTo4DModels) -> None:
    clip = bundled_image_model().parents[1] / "clips" / "made_scene" / "made_scene.mp4"
    image = load_clip(clip).frames[:1]
    moves = camera_path.Config(kind="arc left", amount=0.5, frames=9, width=64, height=64)
    path = camera_path.make(None, moves)
    made = result(generate_from_image.run(models, image, path))
    assert made.frames.shape == (9, 64, 64, 3) and len(made.scene.canonical) > 1000
    small = torch.nn.functional.interpolate(image.permute(0, 3, 1, 2), (64, 64), mode="area")[0].permute(
        1, 2, 0
    )
    assert float((made.frames[0] - small).abs().mean()) < 0.02
