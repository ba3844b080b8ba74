"""Diffusers folders of random weights: what loads, what is recommended, and the sentence for each kind of damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.diffusion import CrossFrameAttention, loading
from engine.diffusion.loading import load
from engine.errors import InputError
from tests.tiny_diffusion import tiny_backbone, tiny_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "tiny"))


def _edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    found.update(changes)
    path.write_text(json.dumps(found))


def test_a_saved_folder_is_the_model_that_was_saved(folder: Path) -> None:
    saved, loaded = tiny_backbone(), load(folder)
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents, text = saved.encode(images), saved.encode_text(["make it gold", "Grün, 3 × größer!"])
    assert torch.equal(loaded.encode(images), latents)
    assert torch.equal(loaded.encode_text(["make it gold", "Grün, 3 × größer!"]), text)
    assert torch.equal(
        loaded.predict(latents, 300, text, latents), saved.predict(latents, 300, text, latents)
    )
    assert torch.equal(loaded.noise_schedule.alphas_cumprod, saved.noise_schedule.alphas_cumprod)
    assert (loaded.name, loaded.has_image_conditioning, loaded.dtype) == ("tiny", True, torch.float32)
    assert load(folder / "model_index.json").fingerprint == loaded.fingerprint


def test_no_model_index_and_no_scheduler_are_no_hindrance(copy: Path) -> None:
    shutil.rmtree(copy / "scheduler")
    (copy / "model_index.json").unlink()
    loaded = load(copy)
    assert loaded.noise_schedule.timesteps(20)[0] == 951
    assert loaded.noise_schedule.prediction == "epsilon"


def test_halves_of_a_float_are_taken_and_texts_stay_float32(folder: Path) -> None:
    loaded = load(folder, dtype="bf16")
    assert {p.dtype for p in loaded.unet.parameters()} == {torch.bfloat16}
    text = loaded.encode_text(["make it gold"])
    latents = loaded.encode(torch.rand(1, 32, 32, 3))
    assert text.dtype == latents.dtype == loaded.predict(latents, 500, text, latents).dtype == torch.float32


def test_fp16_files_are_found_by_their_name(copy: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        (weights,) = (copy / part).glob("*.safetensors")
        weights.rename(weights.with_name(weights.stem + ".fp16.safetensors"))
    assert load(copy).has_image_conditioning


def test_fingerprint_follows_the_weights_and_not_the_place(folder: Path, copy: Path) -> None:
    first = load(folder).fingerprint
    assert load(copy).fingerprint == first
    (weights,) = (copy / "vae").glob("*.safetensors")
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    assert load(copy).fingerprint != first


def test_recommended_numbers_come_with_the_model_or_with_its_kind(copy: Path, tmp_path: Path) -> None:
    found = load(copy).defaults
    assert (found.steps, found.guidance_scale, found.image_guidance_scale) == (20, 7.5, 1.5)
    assert found.resolution == 64  # the UNet's own sample size times the factor
    numbers = {
        "steps": 4,
        "guidance_scale": 1.5,
        "resolution": 256,
        "max_timestep": 0.9,
        "known_to_nobody": 1,
    }
    (copy / "gs4d.json").write_text(json.dumps({"recommended": numbers}))
    found = load(copy).defaults
    assert (found.steps, found.guidance_scale, found.resolution, found.max_timestep) == (4, 1.5, 256, 0.9)
    assert found.image_guidance_scale == 1.5
    (copy / "gs4d.json").write_text(json.dumps({"recommended": {"steps": "many"}}))
    with pytest.raises(InputError, match=r"gs4d\.json"):
        load(copy)
    plain = load(tiny_folder(tmp_path / "text", has_image_conditioning=False))
    assert (plain.has_image_conditioning, plain.defaults.image_guidance_scale) == (False, 1.0)


def test_schedule_comes_from_the_folder(tmp_path: Path) -> None:
    noise_schedule = load(
        tiny_folder(
            tmp_path / "v",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            set_alpha_to_one=True,
        )
    ).noise_schedule
    assert (noise_schedule.prediction, noise_schedule.timesteps(2), noise_schedule.alpha(999)) == (
        "v_prediction",
        [999, 499],
        0.0,
    )


def _no_part(path: Path) -> None:
    shutil.rmtree(path / "vae")


def _no_weights(path: Path) -> None:
    for file in (path / "unet").glob("*.safetensors"):
        file.unlink()


def _pickles(path: Path) -> None:
    for file in (path / "unet").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def _cut(path: Path) -> None:
    (weights,) = (path / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])


def _cut_header(path: Path) -> None:
    (weights,) = (path / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])


def _rubbish(path: Path) -> None:
    (weights,) = (path / "vae").glob("*.safetensors")
    weights.write_bytes((8).to_bytes(8, "little") + b"not json" + bytes(64))


def _lacking(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (weights,) = (path / "unet").glob("*.safetensors")
    tensors = load_file(weights)
    del tensors["conv_in.weight"]
    save_file(tensors, weights)


def _lacking_text(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (weights,) = (path / "text_encoder").glob("*.safetensors")
    tensors = load_file(weights)
    del tensors[next(key for key in tensors if key.endswith("final_layer_norm.weight"))]
    save_file(tensors, weights, metadata={"format": "pt"})


def _other_shapes(path: Path) -> None:
    _edit(path / "unet" / "config.json", block_out_channels=[32, 96])


def _wide_vae(path: Path) -> None:
    _edit(path / "vae" / "config.json", latent_channels=16)


def _other_text(path: Path) -> None:
    _edit(path / "text_encoder" / "config.json", hidden_size=48)


def _inpainting(path: Path) -> None:
    _edit(path / "unet" / "config.json", in_channels=9)


def _seventeen(path: Path) -> None:
    _edit(path / "unet" / "config.json", in_channels=17)


def _sdxl(path: Path) -> None:
    _edit(path / "model_index.json", _class_name="StableDiffusionXLPipeline")


def _sdxl_unet(path: Path) -> None:
    _edit(path / "unet" / "config.json", addition_embed_type="text_time")


def _flux(path: Path) -> None:
    (path / "model_index.json").unlink()
    (path / "unet").rename(path / "transformer")


def _no_json(path: Path) -> None:
    (path / "unet" / "config.json").write_text("{")


def _no_numbers(path: Path) -> None:
    (path / "vae" / "config.json").write_text("{}")


def _no_tokenizer(path: Path) -> None:
    shutil.rmtree(path / "tokenizer")


def _empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _flow(path: Path) -> None:
    _edit(path / "scheduler" / "scheduler_config.json", prediction_type="flow_prediction")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_part, r"lacks vae/config\.json"),
        (_no_weights, r"unet does not contain weights"),
        (_pickles, r"\.bin, which can run code.*\.safetensors"),
        (_cut, r"cut short: only \d+ of \d+ bytes.*download"),
        (_cut_header, r"cut off at its start.*download"),
        (_rubbish, r"header cannot be read"),
        (_lacking, r"unet.*conv_in"),
        (_lacking_text, r"text_encoder.*final_layer_norm"),
        (_other_shapes, r"unet"),
        (_wide_vae, r"VAE with 16 latent channels but a UNet with 4.*VAE that came with the UNet"),
        (_other_text, r"text encoder of width 48.*width 32"),
        (_inpainting, r"an inpainting model \(its UNet takes 9 channels\).*4 .*8"),
        (_seventeen, r"takes 17 channels.*4 .*8 \(InstructPix2Pix\)"),
        (_sdxl, r"is SDXL, which is not supported; choose Stable Diffusion 1\.x"),
        (_sdxl_unet, r"UNet of SDXL"),
        (_flux, r"diffusion transformer"),
        (_no_json, r"unet/config\.json cannot be read"),
        (_no_numbers, r"latent_channels"),
        (_no_tokenizer, r"lacks tokenizer/"),
        (_empty, r"not a diffusers folder"),
        (_flow, r"flow_prediction"),
    ],
    ids=lambda it: it.__name__.strip("_") if callable(it) else "",
)
def test_damage_is_said_in_a_sentence(copy: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(copy)
    with pytest.raises(InputError, match=said) as caught:
        load(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match=r"is a pickle.*\.safetensors"):
        load(path)


def test_what_is_no_model_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="No model found at"):
        load(tmp_path / "nothing")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"not a \.safetensors file"):
        load(tmp_path / "model.gguf")
    with pytest.raises(InputError, match="Precision is 'fp8'"):
        load(folder, dtype="fp8")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "sd15.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"choose the file sd15\.safetensors"):
        load(tmp_path / "loose")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="does not find a CUDA GPU"):
            load(folder, device="cuda")


def test_a_missing_shipped_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "EMBEDDED", tmp_path / "tiny-instruct-pix2pix")
    with pytest.raises(InputError, match="bundled model is missing"):
        loading.embedded()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="half precision on CUDA: no CUDA card here")
@pytest.mark.parametrize(("dtype", "kept"), [("auto", torch.float16), ("bf16", torch.bfloat16)])
def test_cuda_takes_half_precision_and_stays_close_to_the_cpu(
    folder: Path, dtype: str, kept: torch.dtype
) -> None:
    here, there = load(folder), load(folder, device="auto", dtype=dtype)
    assert there.dtype == kept
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = here.encode(images, torch.Generator().manual_seed(1))
    again = there.encode(images, torch.Generator().manual_seed(1))
    assert again.device.type == "cuda"
    torch.testing.assert_close(again.cpu(), latents, rtol=0.05, atol=0.05)
    text, condition = (there.encode_text(["make it gold", ""]), there.encode_image_latents(images))
    sharing = CrossFrameAttention("full3d", 2)
    output = there.predict(again, 500, text, condition, sharing)
    expected = here.predict(latents, 500, text.cpu(), condition.cpu(), sharing)
    torch.testing.assert_close(output.cpu(), expected, rtol=0.1, atol=0.1)
