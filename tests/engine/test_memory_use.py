"""Memory that is asked of the host follows from sizes: beside what a small model keeps, and numbers counted for a large one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from engine.diffusion.loading import EMBEDDED, load
from engine.diffusion.working_memory import ModelShapes
from engine.steps import (
    all_steps,
    delta_edit,
    edit_views,
    fit_edits,
    fit_scene,
    latents_to_scene,
    refine_score,
    train_latents,
)
from engine.steps.step import Kind
from engine.train.memory_use import BASE, MemoryUse, number_of, rendering_bytes
from tests.edit_scenes import edited_views
from tests.latent_scenes import EDIT, KEEP, Known, small_scene, small_video, trained  # noqa: F401  # fixtures
from tests.tiny_diffusion import tiny_backbone

GIB = 1 << 30
# what the memory of full-size models is counted with: Stable Diffusion in half precision, conditioned on an image
FULL = ModelShapes((128, 256, 512, 512), 2, 320, 8, 2, 3)


def kept_bytes(backbone, width, height):
    """What autograd keeps of an encoding, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in backbone.vae.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    images = torch.rand(1, height, width, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        backbone.encode(images)
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("size", [(64, 64), (128, 96)])
@pytest.mark.parametrize("which", ["random", "bundled"])
def test_the_encoders_gradient_needs_what_autograd_keeps(which, size):
    backbone = tiny_backbone() if which == "random" else load(EMBEDDED)
    counted = ModelShapes.of(backbone).encoding(*size, differentiated=True)
    measured = kept_bytes(backbone, *size)
    assert 0.7 * measured < counted < 1.6 * measured, counted / measured


def test_stable_diffusions_encoder_needs_what_its_shapes_give():
    """1.2 GiB for an image of 512×384 in half precision: four at once were the 5.5 GiB of one-pass distillation."""
    each = FULL.encoding(512, 384, differentiated=True) / GIB
    assert each == pytest.approx(1.2, rel=0.1)
    assert FULL.encoding(768, 576, differentiated=True) / GIB == pytest.approx(9 / 4 * each, rel=0.01)
    # less than the encoder's gradient: what the branches of four images need of the UNet
    assert FULL.predicting(512, 384, 12) / GIB < 0.8


def given_of(step, scene, video):
    values = {Kind.SCENE: scene, Kind.CAPTURE: video, Kind.GUIDANCE: Known()}
    given = {i.name: values.get(i.kind) for i in step.inputs}
    if "field" in given:
        given["field"] = trained(scene, Known(), refiner="none", iterations=1, samples=2)
    return given


@pytest.mark.parametrize("step", [s for s in all_steps() if s.has_device], ids=lambda step: step.name)
def test_every_step_that_can_use_a_gpu_says_what_it_needs(step, scene, video):
    config = step.config(prompt="x") if "prompt" in {f.name for f in step.fields()} else step.config()
    needed = step.memory(config, given_of(step, scene, video))
    assert isinstance(needed, MemoryUse) and needed.rendering >= BASE
    assert needed.megabytes < 2000
    has_model = any(i.kind is Kind.GUIDANCE for i in step.inputs)
    assert (needed.model > 0) == has_model


def test_score_distillation_needs_no_more_for_more_images(scene, video):
    """Two passes: one image's encoder graph lives at a time. Rendering and the UNet grow, which are small."""
    backbone = SimpleNamespace(
        vae_scale_factor=8,
        has_image_conditioning=True,
        dtype=torch.float16,
        defaults=SimpleNamespace(resolution=512),
    )
    given = {"scene": scene, "backbone": backbone}
    config = refine_score.Config(prompt="x", resolution=512)
    one, four = (refine_score.STEP.memory(replace(config, images_per_step=n), given).model for n in (1, 4))
    assert one == four and one / GIB < 2
    assert refine_score.STEP.memory(replace(config, resolution=768), given).model > 1.9 * one
    many, low = (
        refine_score.STEP.memory(replace(config, images_per_step=20, low_vram=v), given).model
        for v in (False, True)
    )
    assert many > low


def test_needs_grow_with_the_numbers_that_steps_say_to_lower(scene, video):
    def asked(step, config, given):
        return step.memory(config, given)

    train = fit_scene.Config(budget=100_000)
    small, large = (
        asked(fit_scene.STEP, c, {"video": video}).rendering
        for c in (train, replace(train, budget=1_000_000))
    )
    assert large - BASE > 5 * (small - BASE) and large < 4 * GIB
    views = edited_views(scene, (1, 2))
    fit = fit_edits.Config()
    one, two = (
        asked(fit_edits.STEP, replace(fit, views_per_step=n), {"scene": scene, "views": views}).rendering
        for n in (1, 8)
    )
    assert two > one
    edit, given = edit_views.Config(prompt="x"), {"scene": scene, "backbone": tiny_backbone()}
    every, few = (asked(edit_views.STEP, replace(edit, frames_at_once=n), given).model for n in (0, 2))
    assert every > few
    latents = train_latents.Config()
    rough, fine = (asked(train_latents.STEP, replace(latents, samples=n), given).rendering for n in (1, 4))
    assert fine > rough
    field = trained(scene, Known(), refiner="none", iterations=1, samples=2)
    delta, given = delta_edit.Config(prompt=EDIT, source_prompt=KEEP), {"field": field, "backbone": Known()}
    assert (
        asked(delta_edit.STEP, replace(delta, images_per_step=64), given).model
        > asked(delta_edit.STEP, delta, given).model
    )
    back = latents_to_scene.Config(views="0", moments="0")
    none, some = (
        asked(latents_to_scene.STEP, replace(back, matching=n), given).model for n in ("none", "own edits")
    )
    assert some > none


def test_a_published_size_is_near_what_training_holds():
    """300,000 Gaussians of degree 3 with gradients and Adam: 59 floats, four copies, 283 MB, and as much for the graph."""
    bytes_held = rendering_bytes(300_000, 16, (1352, 1014), 2, trained=True) - BASE
    assert 300_000 * 59 * 4 * 4 < bytes_held < 2.5 * GIB


@pytest.mark.parametrize(
    ("text", "count"), [("", 3), ("all", 10), ("0", 1), ("0 2-4", 4), ("1,2,3", 3), ("0-99", 10), ("x", 1)]
)
def test_numbers_in_a_text_are_counted(text, count):
    assert number_of(text, 10, 3) == count
