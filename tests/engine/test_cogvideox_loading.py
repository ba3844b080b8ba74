"""CogVideoX folders of random weights: what loads, what is left out, and the sentence for each kind of damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.diffusion import loading
from engine.diffusion.cogvideox_loading import load_cogvideox
from engine.errors import InputError
from engine.files.weights import read_header
from tests.tiny_cogvideox import KINDS, tiny_video_folder, tiny_video_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_video_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "tiny"))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    found.update(changes)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_is_the_model_that_was_saved(tmp_path: Path, kind: str) -> None:
    saved, loaded = (
        tiny_video_model(kind),
        load_cogvideox(tiny_video_folder(tmp_path / "it", kind), dtype="fp32"),
    )
    images = torch.rand(1, 9, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    condition, text = saved.encode_image_latents(images), saved.encode_text(["gold"])
    latents = saved.encode(images, torch.Generator().manual_seed(1))
    assert torch.equal(loaded.encode(images, torch.Generator().manual_seed(1)), latents)
    assert torch.equal(loaded.encode_image_latents(images), condition)
    assert torch.equal(loaded.encode_text(["gold"]), text)
    weights = saved.transformer.state_dict()
    assert all(torch.equal(t, weights[name]) for name, t in loaded.transformer.state_dict().items())
    # weights that lie elsewhere in memory may be added up in another order
    outputs = (model.predict(latents, 300, text, condition) for model in (loaded, saved))
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    assert torch.equal(loaded.decode(latents), saved.decode(latents))
    assert torch.equal(loaded.noise_schedule.alphas_cumprod, saved.noise_schedule.alphas_cumprod)
    assert (loaded.name, loaded.flow_shift, loaded.defaults.resolution) == ("it", None, 32)


def test_text_left_out_is_a_warning_and_prompts_are_refused(
    copy: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(copy / "text_encoder")
    shutil.rmtree(copy / "tokenizer")
    model = load_cogvideox(copy / "model_index.json")
    assert "has no text_encoder, so text is left out" in caplog.text
    assert model.fingerprint != load_cogvideox(folder).fingerprint
    assert not model.encode_text([""]).any()
    with pytest.raises(InputError, match="no text encoder"):
        model.encode_text(["gold"])


def test_a_flow_scheduler_is_recognized_and_no_scheduler_is_that_of_the_size(
    copy: Path, tmp_path: Path
) -> None:
    assert load_cogvideox(copy).noise_schedule.alpha(0) == pytest.approx(0.99915, abs=1e-4)
    (copy / "scheduler" / "scheduler_config.json").write_text(
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    )
    flow = load_cogvideox(copy)
    assert flow.flow_shift == 3.0 and flow.noise_schedule.alpha(499) == pytest.approx(0.5)
    shutil.rmtree(copy / "scheduler")
    large, small = load_cogvideox(copy), load_cogvideox(tiny_video_folder(tmp_path / "2b", "2b"))
    assert large.noise_schedule.timesteps(4) == [999, 749, 499, 249] and large.noise_schedule.alpha(999) == 0
    shutil.rmtree(tmp_path / "2b" / "scheduler")
    shifted = load_cogvideox(tmp_path / "2b").noise_schedule
    assert shifted.alpha(500) < large.noise_schedule.alpha(500) == small.noise_schedule.alpha(500)


def test_halves_of_a_float_are_taken_and_results_stay_float32(folder: Path) -> None:
    loaded = load_cogvideox(folder, dtype="bf16")
    assert {p.dtype for p in loaded.transformer.parameters()} == {torch.bfloat16}
    latents = loaded.encode(torch.rand(1, 9, 32, 32, 3))
    text = loaded.encode_text(["gold"])
    assert latents.dtype == text.dtype == loaded.predict(latents, 500, text, latents).dtype == torch.float32


def test_camera_weights_are_saved_alone_and_loaded_with_the_model(folder: Path, tmp_path: Path) -> None:
    model = load_cogvideox(folder)
    projection = model.add_camera(samples=2)
    torch.nn.init.normal_(projection.added.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    path = model.save_camera(tmp_path / "camera.safetensors")
    header = read_header(path)
    assert list(header.shapes) == ["backbone_cam.weight"]
    assert json.loads(header.metadata["rays"])["order"] == "moment,direction"
    latents, rays = random(1, 4, 3, 4, 4), random(1, 9, 32, 32, 6)
    text = model.encode_text([""])
    again = load_cogvideox(folder, camera=path)
    expected = model.predict(latents, 500, text, latents, camera=rays)
    assert torch.equal(again.predict(latents, 500, text, latents, camera=rays), expected)
    # a file of a reconstruction model with its camera branch, which says nothing of the rays
    both = {**load_file(path), "ldrm.embed.weight": torch.zeros(3)}
    save_file(both, tmp_path / "both.safetensors", metadata={"format": "gs4d-ldrm"})
    again.load_camera(tmp_path / "both.safetensors")
    assert torch.equal(again.predict(latents, 500, text, latents, camera=rays), expected)


def test_camera_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    model = load_cogvideox(folder)
    model.add_camera()
    path = model.save_camera(tmp_path / "camera.safetensors")
    tensors, metadata = load_file(path), read_header(path).metadata
    another = tiny_video_model("1.5")
    with pytest.raises(InputError, match=r"camera\.safetensors.*1 have another shape"):
        another.load_camera(path)
    assert another.camera is None, "a camera that was not loaded is not taken for one"
    rays = json.loads(metadata["rays"])
    for changes, said in (
        ({"time_factor": 8}, "latents of 8 frames and 8 pixels, but those of tiny stand for 4 and 8"),
        ({"order": "direction,moment"}, "order moment,direction"),
    ):
        other = {**metadata, "rays": json.dumps({**rays, **changes})}
        save_file(tensors, tmp_path / "other.safetensors", metadata=other)
        with pytest.raises(InputError, match=said):
            model.load_camera(tmp_path / "other.safetensors")
    save_file({"weight": tensors["backbone_cam.weight"]}, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="does not hold camera weights"):
        model.load_camera(tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="do not exist"):
        load_cogvideox(folder, camera=tmp_path / "nothing.safetensors")
    (tmp_path / "camera.pt").write_bytes(b"x")
    with pytest.raises(InputError, match="is a pickle"):
        model.load_camera(tmp_path / "camera.pt")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        model.load_camera(path)


def _weights(path: Path, part: str) -> Path:
    (found,) = (path / part).glob("*.safetensors")
    return found


def _no_part(path: Path) -> None:
    shutil.rmtree(path / "vae")


def _wan(path: Path) -> None:
    _edit(path / "model_index.json", _class_name="WanImageToVideoPipeline")


def _wan_vae(path: Path) -> None:
    _edit(path / "vae" / "config.json", _class_name="AutoencoderKLWan")


def _wan_transformer(path: Path) -> None:
    _edit(path / "transformer" / "config.json", _class_name="WanTransformer3DModel")


def _wide_latents(path: Path) -> None:
    _edit(path / "vae" / "config.json", latent_channels=48)


def _control(path: Path) -> None:
    _edit(path / "transformer" / "config.json", in_channels=13)


def _no_numbers(path: Path) -> None:
    (path / "vae" / "config.json").write_text("{}")


def _pickles(path: Path) -> None:
    file = _weights(path, "transformer")
    file.rename(file.with_suffix(".bin"))


def _cut(path: Path) -> None:
    file = _weights(path, "transformer")
    file.write_bytes(file.read_bytes()[:-1000])


def _lacking(path: Path) -> None:
    file = _weights(path, "transformer")
    tensors = load_file(file)
    del tensors["patch_embed.proj.weight"]
    save_file(tensors, file)


def _other_shapes(path: Path) -> None:
    _edit(path / "transformer" / "config.json", num_attention_heads=4)


def _strange_config(path: Path) -> None:
    _edit(path / "transformer" / "config.json", num_layers="many")


def _no_tokenizer(path: Path) -> None:
    shutil.rmtree(path / "tokenizer")


def _half_an_encoder(path: Path) -> None:
    (path / "text_encoder" / "config.json").unlink()


def _other_text(path: Path) -> None:
    _edit(path / "text_encoder" / "config.json", d_model=24)


def _clip_text(path: Path) -> None:
    _edit(path / "text_encoder" / "config.json", model_type="clip_text_model")


def _epsilon(path: Path) -> None:
    _edit(path / "scheduler" / "scheduler_config.json", prediction_type="epsilon")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_part, r"lacks vae/config\.json; choose a diffusers folder of CogVideoX"),
        (_wan, r"is a WanImageToVideoPipeline, not CogVideoX"),
        (_wan_vae, r"vae is a AutoencoderKLWan, whose latents CogVideoX does not read"),
        (_wan_transformer, r"transformer is a WanTransformer3DModel"),
        (
            _wide_latents,
            r"vae with 48 latent channels and 4 frames per latent, but a transformer for 4 and 4",
        ),
        (_control, r"takes 13 channels, such as a control.*4 \(from text\) or 8 \(from an image\)"),
        (_no_numbers, r"latent_channels"),
        (_pickles, r"\.bin, which can run code"),
        (_cut, r"cut short: only \d+ of \d+ bytes"),
        (
            _lacking,
            r"tiny/transformer does not hold.*1 of \d+ tensors are missing.*patch_embed\.proj\.weight",
        ),
        (_other_shapes, r"tiny/transformer.*have another shape"),
        (_strange_config, r"transformer/config\.json cannot be loaded"),
        (_no_tokenizer, r"lacks tokenizer\. Add it, or remove text_encoder to leave text out"),
        (_half_an_encoder, r"lacks text_encoder/config\.json"),
        (_other_text, r"type t5 and width 24, but its transformer expects T5 of width 16"),
        (_clip_text, r"type clip_text_model"),
        (_epsilon, r"predicts 'epsilon', but CogVideoX predicts v"),
    ],
    ids=lambda it: it.__name__.strip("_") if callable(it) else "",
)
def test_damage_is_said_in_a_sentence(copy: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(copy)
    with pytest.raises(InputError, match=said) as caught:
        load_cogvideox(copy)
    assert "\n" not in str(caught.value)


def test_what_is_no_video_model_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="No video model found"):
        load_cogvideox(tmp_path / "nothing")
    (tmp_path / "wan.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="is a single file; choose a diffusers folder"):
        load_cogvideox(tmp_path / "wan.safetensors")
    with pytest.raises(InputError, match="Precision is 'fp8'"):
        load_cogvideox(folder, dtype="fp8")
    with pytest.raises(InputError, match="is CogVideoX, a video model, which is not supported"):
        loading.load(folder)


def test_a_tokenizer_of_sentencepiece_alone_says_which_package_it_needs(copy: Path) -> None:
    pytest.importorskip("diffusers")
    try:
        import sentencepiece  # noqa: F401
    except ImportError:
        (copy / "tokenizer" / "tokenizer.json").unlink()
        (copy / "tokenizer" / "spiece.model").write_bytes(b"")
        with pytest.raises(InputError, match="pip install sentencepiece"):
            load_cogvideox(copy)
    else:
        pytest.skip("sentencepiece is installed here")
