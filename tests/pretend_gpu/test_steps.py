"""Every step that takes a device, on the pretend GPU: nothing is mixed with CPU tensors, and training hardly ever waits."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch

from engine import messages as m
from engine.files.part_file import read_header
from engine.scene import Selection
from engine.steps import (
    camera_path,
    delta_edit,
    edit_head,
    edit_views,
    evaluate_scene,
    fit_edits,
    fit_scene,
    lift_mask,
    refine_score,
    render_scene,
    train_latents,
)
from tests.edit_scenes import edited_views
from tests.engine.test_edit_head import CONFIG as HEAD_EDIT
from tests.engine.test_edit_head import rig as head_rig
from tests.engine.test_head_steps import scene_of
from tests.pretend_gpu.device import PretendGPU
from tests.pretend_gpu.rasterizer import rasterizer_on
from tests.tiny_diffusion import tiny_backbone
from tests.tiny_head import tiny_head

STEPS, WARM = 20, 8
FIT = fit_scene.Config(
    iterations=WARM + STEPS, budget=150, initial_count=100, sh_degree=1, coarse_fraction=0.1, preview_every=0
)


@pytest.fixture
def gpu() -> Generator[PretendGPU]:
    # fixtures of this module are made on the CPU before it
    with PretendGPU() as made, rasterizer_on(made):
        yield made


@pytest.fixture(scope="module")
def views(scene):
    return edited_views(scene, (0, 1, 2), (0, 2))


@pytest.fixture
def model(field, gpu):
    backbone = tiny_backbone()
    backbone.move("cuda")
    return backbone


def run(gpu: PretendGPU, stream: m.Stream, steps: int = STEPS, warm: int = WARM) -> Any:
    """The result of a training of `warm` + `steps` steps, of which the later ones wait at most once on average.

    The first ones fill caches.
    """
    value = None
    for message in stream:
        if isinstance(message, m.Progress) and message.done == warm:
            gpu.reset()
        if isinstance(message, m.Progress) and message.done == warm + steps:
            assert gpu.waits.total() <= steps, f"in {steps} steps: {gpu.waits.most_common()}"
        if isinstance(message, m.Finished):
            value = message.value
    return value


def on_the_cpu(scene) -> bool:
    tensors = [*scene.canonical.tensors().values(), *scene.deformation.tensors().values()]
    return all(tensor.device.type == "cpu" for tensor in tensors)


@pytest.mark.parametrize(
    ("motion", "density"), [("small", "adaptive"), ("small", "fixed budget"), ("per_frame", "fixed budget")]
)
def test_fit(gpu, video, motion, density):
    config = replace(FIT, motion=motion, density=density)
    assert on_the_cpu(run(gpu, fit_scene.run(video, config, "cuda")))


def test_fit_is_resumed(gpu, video, tmp_path):
    path = tmp_path / "training.safetensors"
    config = replace(FIT, iterations=12, motion="small")
    first = fit_scene.run(video, config, "cuda", checkpoint=path)
    for message in first:
        if isinstance(message, m.Progress) and message.done == 7:
            break
    first.close()
    second = list(fit_scene.run(video, config, "cuda", checkpoint=path))
    assert isinstance(second[0], m.Started) and "resumed at step 7" in second[0].note
    assert on_the_cpu(second[-1].value)


def test_train_on_from_a_scene(gpu, video, scene):
    run(gpu, fit_scene.run(video, FIT, "cuda", start=scene))


@pytest.mark.parametrize("some", [False, True])
def test_fit_edits(gpu, scene, views, some):
    half = Selection((torch.arange(len(scene.canonical)) % 2).float()) if some else None
    config = fit_edits.Config(iterations=STEPS + WARM, preview_every=0, densifies=True)
    assert on_the_cpu(run(gpu, fit_edits.run(scene, views, config, half, "cuda")))


def test_edit_views(gpu, scene, model):
    config = edit_views.Config(prompt="make it night", steps=2, views="0 1", resolution=48)
    assert m.result(edit_views.run(scene, model, config, device="cuda")).images.device.type == "cpu"


def test_refine(gpu, scene, video, model):
    config = refine_score.Config(prompt="make it night", iterations=14, preview_every=0, images_per_step=2)
    stream = refine_score.run(scene, model, config, video, device="cuda")
    assert on_the_cpu(run(gpu, stream, steps=10, warm=4))


@pytest.mark.parametrize("wanted", ["cuda", "cpu"])
def test_own_edits(gpu, scene, video, model, tmp_path, wanted):
    """Scene and model on one device, and on two; resumed in the fit."""
    fitted = m.result(fit_edits.run(scene, edited_views(scene, (0, 1, 2)), fit_edits.Config(iterations=8)))
    config = refine_score.Config(
        prompt="make it night", objective="own edits", resolution=48, preview_every=2
    )
    path = tmp_path / "half.safetensors"

    def stream() -> m.Stream:
        return refine_score.run(fitted, model, config, video, device=wanted, original=scene, checkpoint=path)

    first = stream()
    total = next(message.total for message in first if isinstance(message, m.Started))
    next(message for message in first if isinstance(message, m.Progress) and message.done == total - 2)
    first.close()
    messages = list(stream())
    assert "resumed at step" in messages[0].note
    assert on_the_cpu(messages[-1].value)


def test_train_latents(gpu, scene, video, model):
    config = train_latents.Config(iterations=STEPS + WARM, refiner="small", samples=2, warm_up=0.1)
    made = run(gpu, train_latents.run(scene, model, config, video, "cuda"))
    assert on_the_cpu(made.scene) and made.features.device.type == "cpu"


@pytest.mark.parametrize("some", [False, True])
def test_delta_edit(gpu, field, model, some):
    scene = field.scene
    half = Selection((torch.arange(len(scene.canonical)) % 2).float()) if some else None
    config = delta_edit.Config(prompt="a gold statue", source_prompt="a statue", iterations=18, frees="shape")
    config = replace(config, views="0 1", moments="0 2", preview_every=0)
    stream = delta_edit.run(field, model, config, half, device="cuda")
    assert on_the_cpu(run(gpu, stream, steps=10, warm=8).scene)


def test_edit_head(gpu, model, tmp_path):
    head, path = tiny_head(frames=5), tmp_path / "half.safetensors"
    scene = scene_of(head).with_(rig=head_rig())
    config = replace(HEAD_EDIT, rasterizer="auto", levels="300 300", iterations_per_frame=2)
    first = edit_head.run(scene, head, model, config, "cuda", checkpoint=path)
    total = next(message.total for message in first if isinstance(message, m.Started))
    # in the fit of the second round
    next(message for message in first if isinstance(message, m.Progress) and message.done == total - 2)
    first.close()
    messages = list(edit_head.run(scene, head, model, config, "cuda", checkpoint=path))
    assert "resumed at step" in messages[0].note
    assert on_the_cpu(messages[-1].value)


def test_render(gpu, scene):
    path = camera_path.make(scene, camera_path.Config(frames=2))
    config = render_scene.Config(wants_flow=True, wants_depth=True)
    assert m.result(render_scene.run(scene, path, config, "cuda")).images.device.type == "cpu"


def test_render_to_a_part(gpu, scene, tmp_path):
    path = camera_path.make(scene, camera_path.Config(frames=3, width=32, height=32))
    part = render_scene.to_part(scene, path, render_scene.Config(), range(1, 3), tmp_path / "a.mkv", "cuda")
    header = read_header(m.result(part))
    assert header.span == range(1, 3) and header.renderer.endswith("on cuda")


def test_evaluate(gpu, scene, video):
    assert m.result(evaluate_scene.run(scene, video, evaluate_scene.Config(pictures=1), "cuda"))


def test_lift_a_mask(gpu, scene, views):
    masks = (views.originals.mean(-1) > 0.5).float()
    selection = m.result(lift_mask.run(scene, views, masks, lift_mask.Config(), "cuda"))
    assert selection.weights.device.type == "cpu"
