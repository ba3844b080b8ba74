"""Connected models under ComfyUI's dynamic VRAM (a stand-in, see dynamic_vram.py) and with LoRAs."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy
STORED = ("fp32", "fp16", "bf16")


@pytest.fixture(scope="session")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("vae_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_the_stand_in_breaks_gradients_through_comfyuis_own_layers(answers: dict[str, Any]) -> None:
    faults = answers["faults"]
    assert "Buffer too small" in faults["fp32"]
    for stored in STORED:
        assert "Inference tensors cannot be saved for backward" in faults[f"{stored} used"]


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("working", ["fp32", "bf16"])
@pytest.mark.parametrize("used", [False, True])
def test_a_vae_under_dynamic_vram_gives_the_networks_own_images_and_gradients(
    answers: dict[str, Any], stored: str, working: str, used: bool
) -> None:
    said = answers["rows"][f"{stored}{' used' if used else ''} as {working}"]
    assert said["gradient length"] > 0.1
    for what in ("latents", "condition", "gradient", "images"):
        assert said[what] < 1e-5, f"{what}: {said[what]}"
    assert said["same afterwards"] and said["weights stay"]


def test_a_model_under_dynamic_vram_predicts_the_same(answers: dict[str, Any]) -> None:
    said = answers["model"]
    assert said["text"] < 1e-5 and said["prediction"] < 1e-5 and said["fingerprint"]


@pytest.mark.parametrize("what", ["vae lora", "model lora"])
@pytest.mark.parametrize("kind", ["plain", "dynamic"])
def test_a_lora_acts_as_in_comfyuis_own_sampling(answers: dict[str, Any], what: str, kind: str) -> None:
    said = answers[what][kind]
    assert said["changes"] > 1e-2 and said["apart"] < 1e-4


def test_the_copy_of_the_vae_is_held_for_the_run_of_a_node(answers: dict[str, Any]) -> None:
    assert answers["held"] == {"inside": True, "once": True, "after": True, "equal": True}


def test_room_is_made_before_a_model_is_moved_and_it_leaves_afterwards(answers: dict[str, Any]) -> None:
    assert answers["moved"]["fits"] == ["room 150 on cuda:0", "to cuda:0", "used", "to cpu"]
    *_, back, said = answers["moved"]["full"]
    assert back == "to cpu" and "used" not in answers["moved"]["full"]
    assert said.startswith("Out of memory while moving recorded to the GPU") and "2.0 GB" in said
    assert "Choose precision fp16, or device cpu" in said and "\n" not in said


def test_a_model_for_a_gpu_is_loaded_on_the_cpu_in_the_gpus_precision(answers: dict[str, Any]) -> None:
    said = answers["loaded"]
    assert (said["on"], said["as"], said["for"]) == (["cpu"], ["torch.float16"], "cuda:0")
    assert "Precision: fp16 on cuda:0 (this GPU would emulate bf16)" in said["notes"]
