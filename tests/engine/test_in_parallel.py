"""Images that several threads give to a small model: the same bits as with one, and the caller's gradients and errors."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.diffusion.in_parallel import each, is_split
from engine.kernels.threads import fixed_threads
from engine.steps import decode_latents, delta_edit, refine_score, train_latents
from engine.train.threads import threads_for_model
from tests.edit_scenes import field_scene
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone


@pytest.fixture(scope="module")
def model():
    return tiny_backbone()


@contextmanager
def on_threads(model, count):
    with fixed_threads(count), threads_for_model(model):
        yield


def test_images_of_a_small_model_are_spread_over_threads_of_one_torch_thread_each(model):
    both = threading.Barrier(2)

    def look(item):
        # a single thread would wait for ever
        both.wait(60)
        return item, threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()

    with on_threads(model, 2):
        assert is_split(model)
        with torch.no_grad():
            without = each(model, look, [1, 2])
        found = each(model, look, [1, 2, 3, 4])
        assert torch.get_num_threads() == 1
    assert [item for item, *_ in found] == [1, 2, 3, 4]
    assert len({name for _, name, _, _ in found}) == 2 and {count for _, _, count, _ in found} == {1}
    assert {grad for *_, grad in found} == {True} and {grad for *_, grad in without} == {False}


@pytest.mark.parametrize("why", ["large", "other", "torch threads"])
def test_other_models_see_one_image_after_the_other_in_the_callers_thread(model, monkeypatch, why):
    if why == "large":
        monkeypatch.setattr(model, "megabytes", 10_000)
    if why == "other":
        monkeypatch.setattr(model, "allows_threads", False)
    with fixed_threads(2):
        before = torch.get_num_threads()
        torch.set_num_threads(2 if why == "torch threads" else 1)
        try:
            assert not is_split(model)
            names = each(model, lambda _: threading.current_thread().name, [1, 2])
        finally:
            torch.set_num_threads(before)
    assert set(names) == {threading.current_thread().name}


def test_an_error_in_a_thread_reaches_the_caller(model):
    def fail(item):
        raise ValueError(f"image {item}")

    with on_threads(model, 2), pytest.raises(ValueError, match="image 1"):
        each(model, fail, [1, 2])


def test_predictions_do_not_depend_on_the_number_of_threads(model):
    generator = torch.Generator().manual_seed(0)
    noisy, condition = torch.randn(2, 5, model.latent_channels, 8, 8, generator=generator)
    text = model.encode_text(["a", "b", "c", "d", "e"])
    made = []
    for count in (1, 2, 3):
        with on_threads(model, count):
            made.append(model.predict(noisy, 500, text, condition if model.has_image_conditioning else None))
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    together = model.predict(noisy, 500, text, condition if model.has_image_conditioning else None)
    assert torch.allclose(together, made[0], rtol=1e-3, atol=1e-4 * float(together.abs().max()))


@pytest.fixture(scope="module")
def scene():
    return field_scene()


def tensors_of(made):
    return made.canonical.tensors()


def test_refinements_and_latent_fields_do_not_depend_on_the_number_of_threads(model, scene):
    video = capture_of(scene)
    refine = refine_score.Config(prompt="swap the colors", iterations=2, preview_every=0, images_per_step=3)
    train = train_latents.Config(iterations=3, preview_every=0, resolution=32, images_per_step=3)
    edit = delta_edit.Config(prompt="a", source_prompt="b", iterations=2, preview_every=0)
    runs = []
    for count in (1, 2):
        with fixed_threads(count):
            refined = m.result(refine_score.run(scene, model, refine, video))
            low = m.result(refine_score.run(scene, model, replace(refine, low_vram=True), video))
            field = m.result(train_latents.run(scene, model, train, video))
            edited = m.result(delta_edit.run(field, model, edit))
            views = m.result(decode_latents.run(edited, model, decode_latents.Config()))
        runs.append(
            [
                *refined.canonical.tensors().values(),
                *low.canonical.tensors().values(),
                edited.features,
                views.images,
            ]
        )
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
    assert not torch.equal(runs[0][0], scene.canonical.means)
