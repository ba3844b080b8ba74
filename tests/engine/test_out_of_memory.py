"""Memory that runs out anywhere in a step is one sentence that names the numbers to lower."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.backends import explains_memory
from engine.errors import InputError
from engine.fields import id_of
from engine.render.numba.rasterizer import NumbaRasterizer
from engine.steps import all_steps, delta_edit, edit_views, fit_edits, fit_scene, refine_score, train_latents
from engine.steps.step import Kind
from engine.train.out_of_memory import advice_of
from engine.train.parameter_groups import ParameterGroups
from engine.train.parameters import GaussianParameters
from tests.edit_scenes import PerfectEditor, edited_views
from tests.latent_scenes import EDIT, KEEP, Known, small_scene, small_video, trained  # noqa: F401  # fixtures

CUDA = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8.00 GiB"
MODELS = (Kind.GUIDANCE, Kind.SEGMENTATION, Kind.TRELLIS, Kind.VARIATION, Kind.IMAGE_TO_4D)
HEAVY = [s for s in all_steps() if s.has_device or any(i.kind in MODELS for i in s.inputs)]


def full(*_args, **_named):
    raise torch.OutOfMemoryError(CUDA)


@pytest.mark.parametrize("step", HEAVY, ids=lambda step: step.name)
@pytest.mark.parametrize("is_stream", [False, True])
def test_every_step_that_can_fill_a_gpu_says_what_to_lower(step, is_stream):
    def stream(**_named):
        yield m.Started(1)
        full()

    fails = replace(step, run=stream if is_stream else full)
    with pytest.raises(InputError) as caught:
        m.result(m.as_stream(fails(config=None)))
    said = caught.value.message
    assert caught.value.code == "ENG-002" and step.label in said and "2.5 GB" in said and "\n" not in said
    assert step.lowers, "the step does not say what its memory grows with"
    assert said.endswith(advice_of(step, (), {})) and said.count(". ") == 1


@pytest.mark.parametrize("step", all_steps(), ids=lambda step: step.name)
def test_advice_names_fields_of_the_step_or_inputs(step):
    known = {id_of(f) for f in step.fields()}
    words = [name for name in step.lowers if name not in known]
    assert all(" " in name for name in words), f"no fields: {words}"


def test_advice_says_values_and_leaves_out_what_is_on():
    step, config = refine_score.STEP, refine_score.Config(prompt="x", images_per_step=6, resolution=768)
    assert advice_of(step, (), {"config": config}) == (
        "Lower resolution (768) or batch size (6), or turn on low VRAM."
    )
    assert "VRAM" not in advice_of(step, (), {"config": replace(config, low_vram=True)})


PLACES = {
    "the encoder": (PerfectEditor, "encode"),
    "the conditioning": (PerfectEditor, "encode_image_latents"),
    "the UNet": (PerfectEditor, "predict"),
    "the decoder": (PerfectEditor, "decode"),
    "the rasterizer": (NumbaRasterizer, "render"),
    "the optimizer": (GaussianParameters, "step"),
    "the optimizer of latents": (ParameterGroups, "step"),
}


def calls(scene, video):
    """Each step that renders, encodes, predicts, decodes or optimizes, and where it does."""
    field = trained(scene, Known(), refiner="none", iterations=1, samples=2)
    views = edited_views(scene, (1, 2))
    known, few = Known(), {"iterations": 2, "preview_every": 1}
    return {
        "refine": (
            lambda: refine_score.STEP(
                scene, known, refine_score.Config(prompt=EDIT, images_per_step=2, **few), video
            ),
            ("the encoder", "the conditioning", "the UNet", "the decoder", "the rasterizer", "the optimizer"),
        ),
        "train": (
            lambda: fit_scene.STEP(video, fit_scene.Config(budget=300, initial_count=100, **few)),
            ("the rasterizer", "the optimizer"),
        ),
        "fit edits": (
            lambda: fit_edits.STEP(scene, views, fit_edits.Config(**few)),
            ("the rasterizer", "the optimizer"),
        ),
        "edit views": (
            lambda: edit_views.STEP(
                scene, known, edit_views.Config(prompt=EDIT, views="1 2", preview_every=1, detail="as painted"), video
            ),
            ("the conditioning", "the UNet", "the decoder"),
        ),
        "train latents": (
            lambda: train_latents.STEP(scene, known, train_latents.Config(refiner="none", samples=2, **few)),
            ("the encoder", "the decoder", "the rasterizer", "the optimizer of latents"),
        ),
        "delta edit": (
            lambda: delta_edit.STEP(field, known, delta_edit.Config(prompt=EDIT, source_prompt=KEEP, **few)),
            ("the conditioning", "the UNet", "the decoder", "the rasterizer", "the optimizer of latents"),
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["refine", "train", "fit edits", "edit views", "train latents", "delta edit"]
)
def test_memory_that_runs_out_in_any_part_of_a_step_is_one_sentence(scene, video, monkeypatch, name):
    call, places = calls(scene, video)[name]
    for place in places:
        with monkeypatch.context() as patch:
            patch.setattr(*PLACES[place], full)
            with pytest.raises(InputError) as caught:
                m.result(call())
        assert caught.value.code == "ENG-002", place
        assert "ower" in caught.value.message or "fewer" in caught.value.message


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Failed to allocate 1610612736 bytes on device 'cuda:0'",
    ],
)
def test_libraries_that_raise_a_plain_error_are_understood(message):
    with (
        pytest.raises(InputError, match=r"Out of memory while rendering: .*Lower x") as caught,
        explains_memory("rendering", "cpu", "Lower x."),
    ):
        raise RuntimeError(message)
    assert caught.value.code == "ENG-002" and ("1.5 GB" in caught.value.message) == ("16106" in message)


def test_other_errors_stay_as_they_are():
    def broken(**_named):
        yield m.Started(1)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        m.result(replace(refine_score.STEP, run=broken)(config=None))


def test_closing_a_step_closes_its_run():
    closed = []

    def endless(**_named):
        try:
            while True:
                yield m.Progress(1)
        finally:
            closed.append(True)

    stream = replace(refine_score.STEP, run=endless)(config=None)
    next(stream)
    stream.close()
    assert closed
