"""On a CUDA machine without a rasterizer for it, networks run on the GPU and scenes are rendered on the CPU."""

from types import SimpleNamespace

import pytest
import torch

from engine.cli import arguments, kinds
from engine.cli.arguments import device_of, model_device_of
from engine.errors import InputError
from engine.steps.step import Kind


def asked(**flags: str) -> SimpleNamespace:
    return SimpleNamespace(**{"device": "auto", "rasterizer": "auto", "dtype": "auto", **flags})


@pytest.fixture
def cuda_without_rasterizer(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(arguments, "choose_device", lambda rasterizer: "cpu")


@pytest.mark.parametrize(
    ("flags", "renders_on", "predicts_on"),
    [
        ({}, "cpu", "cuda"),
        ({"diffusion_device": "auto"}, "cpu", "cuda"),
        ({"device": "cpu", "diffusion_device": "auto"}, "cpu", "cpu"),
        ({"device": "cuda:1", "diffusion_device": "auto"}, "cuda:1", "cuda:1"),
        ({"device": "cpu", "diffusion_device": "cuda:1"}, "cpu", "cuda:1"),
        ({"diffusion_device": "cpu"}, "cpu", "cpu"),
    ],
)
def test_rendering_and_diffusion_have_devices_of_their_own(
    cuda_without_rasterizer, flags, renders_on, predicts_on
):
    given = asked(**flags)
    assert (device_of(given), model_device_of(given)) == (renders_on, predicts_on)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(arguments, "choose_device", lambda rasterizer: "cuda")
    for name, value in {"MASTER_ADDR": "localhost", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert device_of(asked(device=device)) == "cuda:1"


@pytest.mark.parametrize("on_machine", ["2", "1"])
def test_a_gpu_by_number_is_for_one_process_of_a_machine(monkeypatch, on_machine):
    monkeypatch.setattr(arguments, "missing", lambda name: None)
    launch = {
        "MASTER_ADDR": "localhost",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": on_machine,
    }
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    if on_machine == "1":
        assert device_of(asked(device="cuda:1")) == "cuda:1"
        return
    with pytest.raises(InputError, match="all 2 processes") as caught:
        device_of(asked(device="cuda:1"))
    assert caught.value.code == "CLI-013"


def test_the_diffusion_model_is_loaded_on_the_gpu_there(cuda_without_rasterizer, monkeypatch):
    loaded = []
    monkeypatch.setattr(kinds, "load", lambda *given: loaded.append(given))
    kinds.READERS[Kind.GUIDANCE].read("model", asked(diffusion_device="auto"), {})
    assert loaded == [("model", "cuda", "auto")]


@pytest.mark.parametrize(("name", "code"), [("gpu", "CLI-001"), ("cuda:7", "CLI-003")])
def test_a_diffusion_device_that_is_not_there_is_one_sentence(
    cuda_without_rasterizer, monkeypatch, name, code
):
    monkeypatch.setattr(arguments, "missing", lambda name: f"There is no device '{name}'.")
    with pytest.raises(InputError, match=name) as caught:
        model_device_of(asked(diffusion_device=name))
    assert caught.value.code == code


def test_without_a_gpu_everything_is_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(asked()) == model_device_of(asked()) == "cpu"
    with pytest.raises(InputError) as caught:
        model_device_of(asked(diffusion_device="cuda"))
    assert caught.value.code == "CLI-002"
