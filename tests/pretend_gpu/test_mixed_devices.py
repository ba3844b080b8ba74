"""Where no rasterizer works on the GPU, the diffusion model still does: scenes on the CPU, the model on the pretend GPU."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from engine import messages as m
from engine.steps import decode_latents, delta_edit, edit_views, latents_to_scene, refine_score, train_latents
from tests.latent_scenes import EDIT, KEEP
from tests.pretend_gpu.device import PretendGPU
from tests.tiny_diffusion import tiny_backbone

FEW = {"iterations": 2, "preview_every": 1}


@pytest.fixture
def model(scene, video, field) -> Generator:
    # what is on the CPU is made before
    with PretendGPU():
        backbone = tiny_backbone()
        backbone.move("cuda")
        yield backbone


def test_score_distillation(scene, video, model):
    config = refine_score.Config(prompt=EDIT, images_per_step=2, **FEW)
    made = m.result(refine_score.run(scene, model, config, video, device="cpu"))
    assert made.device.type == "cpu" and not made.canonical.means.equal(scene.canonical.means)


def test_editing_views(scene, video, model):
    config = edit_views.Config(prompt=EDIT, steps=2, preview_every=1)
    views = m.result(edit_views.run(scene, model, config, video, device="cpu"))
    assert views.images.device.type == "cpu"


def test_latent_fields(scene, video, field, model):
    config = train_latents.Config(refiner="small", samples=2, images_per_step=2, **FEW)
    made = m.result(train_latents.run(scene, model, config, video, "cpu"))
    assert made.features.device.type == "cpu"
    for method in ("dds", "sds"):
        config = delta_edit.Config(prompt=EDIT, source_prompt=KEEP, method=method, **FEW)
        edited = m.result(delta_edit.run(field, model, config, None, video, "cpu"))
        assert not edited.features.equal(field.features)
    m.result(decode_latents.run(field, model, decode_latents.Config(), video, "cpu"))
    back = latents_to_scene.Config(iterations=2, matching="own edits")
    made = m.result(latents_to_scene.run(edited, model, back, None, "cpu"))
    assert "colors matched" in made.history[-1]["note"]
