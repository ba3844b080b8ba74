"""MODEL, CLIP and VAE of a real ComfyUI (tiny, RANDOM weights) as the engine's backbone, beside diffusers' own modules."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy
KINDS = ("instruct", "instruct v", "text")


@pytest.fixture(scope="session")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("backbone_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("kind", KINDS)
def test_equal_weights_give_equal_pictures_gradients_and_predictions(
    answers: dict[str, Any], kind: str
) -> None:
    """Both run the same float32 sums in another order; ComfyUI's detour over sigma costs digits near the picture."""
    apart = answers[kind]["apart"]
    assert {"t0", "gradient", "sampled latents", "pictures", "keyframe", "full3d", "middle block"} <= set(
        apart
    )
    assert {"key pass", "key pass of another frame", "key pass is full3d", "injected"} <= set(apart)
    for what, distance in apart.items():
        assert distance < (1e-4 if what == "t0" else 1e-5), f"{what}: {distance}"
    assert answers[kind]["gradient length"] > 1, "no gradient came through the encoder"


@pytest.mark.parametrize("kind", ["instruct", "instruct v"])
@pytest.mark.parametrize("attention", ["keyframe", "epipolar"])
def test_equal_weights_give_equal_edits(answers: dict[str, Any], kind: str, attention: str) -> None:
    edits = answers[kind]["edits"]
    assert edits[f"{attention} change"] > 0.02
    assert edits[attention] < 1e-3
    assert edits["keyframe change"] != edits["epipolar change"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_of_cross_frame_attention_acts_and_leaves_no_trace(
    answers: dict[str, Any], kind: str
) -> None:
    moved = answers[kind]["moved"]
    assert moved.pop("vanilla") == 0
    assert min(moved.values()) > 0.05 and len(set(moved.values())) == len(moved)
    assert answers[kind]["same afterwards"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_made_in_inference_mode_stay_and_get_no_gradient(answers: dict[str, Any], kind: str) -> None:
    said = answers[kind]
    assert said["weights stay"] and said["outside inference"] and not said["weights ask"]


def test_the_models_own_numbers_are_read(answers: dict[str, Any]) -> None:
    assert [answers[k]["takes image"] for k in KINDS] == [True, True, False]
    assert [answers[k]["prediction"] for k in KINDS] == ["epsilon", "v_prediction", "epsilon"]
    assert answers["instruct"]["shape"] == [4, 8, 1000]
    # scaled linear betas from 0.00085 to 0.012: the published schedule of Stable Diffusion
    assert answers["instruct"]["alphas"] == pytest.approx([0.99915, 0.27633, 0.0046601], rel=1e-4)
    assert "SD15_instructpix2pix" in answers["instruct"]["name"]


def test_loras_act_on_their_own_model_alone(answers: dict[str, Any]) -> None:
    said = answers["lora"]
    assert said["changes"] > 1e-3 and said["comes off"]
    assert said["fingerprints differ"] and said["fingerprint stays"] and said["plain stays"]
    assert answers["fingerprints"] == {"same": True, "other": True}


def test_prompts_of_several_lengths_fit_into_one_batch(answers: dict[str, Any]) -> None:
    short, long = answers["text"]["lengths"]
    assert short == 77 and long > short and long % 77 == 0
    assert answers["text"]["repeated"] < 1e-5 and answers["text"]["prompts differ"] > 0.01


def test_prompts_of_thousands_of_words_are_cut_and_the_cut_is_known(answers: dict[str, Any]) -> None:
    said = answers["text"]
    assert said["cut"] == [2500, 300] and said["whole"] is None
    assert said["longest"] == 4 * 77


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no vae", ("VAE", "empty")),
        ("sdxl", ("SDXL", "InstructPix2Pix")),
        ("flux", ("Flux", "InstructPix2Pix", "the template edit_with_image_editor")),
        ("video", ("WAN21_T2V, a video model", "InstructPix2Pix")),
        ("inpaint", ("9 input channels", "8 (InstructPix2Pix)")),
        ("flow", ("flow", "InstructPix2Pix")),
        ("distilled", ("distilled",)),
        ("edm", ("cannot use",)),
        ("image to image", ("cannot use",)),
        ("vae", ("16 latent channels", "4 in 2")),
        ("clip", ("width 64", "expects 32")),
        ("size", ("64×60", "multiples of 8")),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    answers: dict[str, Any], case: str, words: tuple[str, ...]
) -> None:
    said = answers["refused"][case]
    assert all(word in said for word in words), said
    assert re.search(r"\. \[GS4D-NOD-\d{3}\]$", said) and "\n" not in said
    for template in re.findall(r"the template (\w+)", said):
        assert (contracts.REPOSITORY / "workflows" / f"{template}.json").is_file()


def test_other_samplings_that_editing_understands_are_taken(answers: dict[str, Any]) -> None:
    assert answers["refused"]["accepted v"] == "v_prediction"
    assert answers["refused"]["accepted x0"] == "sample"


def test_errors_of_memory_are_those_that_comfyui_knows(answers: dict[str, Any]) -> None:
    assert answers["memory"] == [True, False, False, False, False, True]
