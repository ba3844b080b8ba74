"""A video model where single images are edited, and an image model where a video is made, are refused in a sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import messages as m
from engine.errors import InputError
from engine.generation.image_models import ImageTo4DModels
from engine.guidance.classifier_free import Guidance
from engine.guidance.video import VideoRequest, sample_video
from engine.steps import (
    decode_latents,
    delta_edit,
    edit_head,
    edit_views,
    latents_to_scene,
    refine_score,
    train_latents,
)
from tests.engine.test_head_steps import scene_of
from tests.latent_scenes import Known, trained
from tests.scenes import capture_of, moving_scene
from tests.tiny_cogvideox import tiny_video_model
from tests.tiny_diffusion import tiny_backbone, tiny_folder
from tests.tiny_head import tiny_head
from tests.tiny_image_model import save_image_model

PROMPT = "make it night"


def steps() -> dict[str, Callable[[Any], Any]]:
    """Every step that takes a diffusion model, as a function of that model."""
    scene, head = moving_scene(views=2, moments=2), tiny_head(frames=2)
    field = trained(scene, Known(), capture_of(scene))
    return {
        "editing views": lambda it: edit_views.run(scene, it, edit_views.Config(prompt=PROMPT)),
        "score distillation": lambda it: refine_score.run(scene, it, refine_score.Config(prompt=PROMPT)),
        "training a latent field": lambda it: train_latents.run(scene, it),
        "delta editing": lambda it: delta_edit.run(field, it, delta_edit.Config(prompt=PROMPT)),
        "decoding a latent field": lambda it: decode_latents.run(field, it),
        "decoding a latent field ": lambda it: latents_to_scene.run(field, it),
        "editing views ": lambda it: edit_head.run(
            scene_of(head), head, it, edit_head.Config(prompt=PROMPT, frames_per_round=1)
        ),
    }


def test_steps_of_single_images_refuse_a_video_model():
    model = tiny_video_model("5b")
    for work, run in steps().items():
        with pytest.raises(InputError) as error:
            m.result(run(model))
        assert error.value.code == "DIF-093", work
        assert f"tiny video is a video model, but {work.strip()} takes" in str(error.value)


def test_generating_from_an_image_refuses_an_image_model(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"ip2p is a StableDiffusionInstructPix2PixPipeline, not CogVideoX; .*DIF-083"
    ):
        ImageTo4DModels(save_image_model(tmp_path / "tiny"), tiny_folder(tmp_path / "ip2p"))


def test_sampling_a_video_refuses_an_image_model():
    with pytest.raises(InputError, match=r"makes single images, but a video is asked for.*DIF-094"):
        next(iter(sample_video(tiny_backbone(), VideoRequest(Guidance(PROMPT, 6.0, 1.0), 9, 32, 32, 2))))
