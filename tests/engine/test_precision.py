"""Which precision a model takes: by name, or by what the device computes itself."""

import pytest
import torch

from engine.diffusion import precision
from engine.diffusion.backbone import describe
from engine.diffusion.precision import PRECISIONS, choose_precision, computes_bf16, precision_note
from engine.generation.image_models import ImageTo4DModels, bundled_image_model
from tests.tiny_diffusion import tiny_backbone

CPU, GPU, SECOND = torch.device("cpu"), torch.device("cuda:0"), torch.device("cuda:1")
# RTX 2080 and RTX 3090 in one machine
CAPABILITIES = {GPU: (7, 5), SECOND: (8, 6)}


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: CAPABILITIES[device or GPU])
    # what torch says of a GPU that emulates it
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


def test_bf16_is_taken_where_the_gpu_computes_it_and_fp16_where_it_emulates(two_gpus):
    assert choose_precision("auto", GPU, prefers_bf16=True) == torch.float16
    assert choose_precision("auto", SECOND, prefers_bf16=True) == torch.bfloat16
    assert {choose_precision("auto", gpu) for gpu in CAPABILITIES} == {torch.float16}
    assert choose_precision("auto", GPU, overflows=True) == torch.float16
    assert choose_precision("auto", SECOND, overflows=True) == torch.bfloat16


@pytest.mark.parametrize("has_it", [False, True])
def test_a_cpu_takes_fp32_unless_it_computes_bf16_and_the_model_prefers_it(monkeypatch, has_it):
    monkeypatch.setattr(precision, "_cpu_computes_bf16", lambda: has_it)
    assert choose_precision("auto", CPU) == choose_precision("auto", CPU, overflows=True) == torch.float32
    assert choose_precision("auto", CPU, prefers_bf16=True) == (torch.bfloat16 if has_it else torch.float32)


def test_a_named_precision_is_taken_everywhere(two_gpus):
    for name, dtype in PRECISIONS.items():
        assert {choose_precision(name, where, True) for where in (CPU, GPU, SECOND)} == {dtype}


def test_the_note_says_the_precision_and_what_is_emulated(two_gpus, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_computes_bf16", lambda: False)
    assert "emulates slowly; choose auto or fp16" in precision_note(torch.bfloat16, GPU)
    assert precision_note(torch.bfloat16, SECOND) == "bf16 on cuda:1"
    assert precision_note(torch.float16, GPU) == "fp16 on cuda:0 (this GPU would emulate bf16)"
    assert "choose auto or fp32" in precision_note(torch.bfloat16, CPU)
    assert precision_note(torch.float32, CPU) == "fp32 on cpu" and precision_note(None, CPU) == ""
    assert "Precision: fp32 on cpu" in describe(tiny_backbone())


def test_models_that_move_to_a_gpu_later_get_its_precision(two_gpus, monkeypatch):
    """Weights stay on the CPU until a node makes room."""
    from engine.diffusion.loading import EMBEDDED, load

    loaded = load(EMBEDDED, "cpu", "auto", runs_on=GPU)
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.float16}
    assert {p.device.type for part in (loaded.unet, loaded.vae) for p in part.parameters()} == {"cpu"}
    assert ImageTo4DModels(bundled_image_model(), device=GPU).device == GPU


def test_without_a_name_for_it_torch_is_not_asked(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not computes_bf16(CPU)
