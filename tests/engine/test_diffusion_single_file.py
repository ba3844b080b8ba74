"""Single files with the key names of real SD 1.5, 2.x and InstructPix2Pix checkpoints; random weights or none."""

import json
import math
from pathlib import Path

import pytest
import torch

from engine.diffusion import single_file
from engine.diffusion.loading import load
from engine.errors import InputError
from tests import ldm_names

pytest.importorskip("diffusers", reason="diffusion needs diffusers")

WORDS = 600  # of the narrow text encoders


@pytest.fixture
def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped configs with UNet and VAE an eighth as wide and one text layer: names and depth stay the real ones."""
    configs = tmp_path / "configs"
    for family, layers in (("sd1", 1), ("sd2", 1)):
        for part, changes in (
            ("unet", {"block_out_channels": [32, 64, 128, 128], "attention_head_dim": 4}),
            ("vae", {"block_out_channels": [32, 64, 128, 128]}),
            ("text_encoder", {"num_hidden_layers": layers, "vocab_size": WORDS}),
            ("scheduler", {}),
        ):
            name = "scheduler_config.json" if part == "scheduler" else "config.json"
            config = json.loads((single_file.CONFIGS / family / part / name).read_text())
            (configs / family / part).mkdir(parents=True)
            (configs / family / part / name).write_text(json.dumps({**config, **changes}))
    monkeypatch.setattr(single_file, "CONFIGS", configs)
    return configs


def _random(shapes: ldm_names.Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Numbers that fp16 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) / math.sqrt(max(math.prod(shape[1:]), 1)))
        .half()
        .float()
        for name, shape in shapes.items()
    }


def _saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    return ldm_names.hollow_file(path, {name: tuple(t.shape) for name, t in tensors.items()}, tensors)


def _sd1(in_channels: int = 4) -> ldm_names.Shapes:
    return ldm_names.unet(32, 768, in_channels) | ldm_names.vae(32) | ldm_names.clip_text(768, 1, WORDS)


def _sd2() -> ldm_names.Shapes:
    unet = ldm_names.unet(32, 1024, linear=True)
    return unet | ldm_names.vae(32) | ldm_names.open_clip_text(1024, 2, WORDS)


def _every_tensor_once(file: dict[str, torch.Tensor], prefix: str, model: torch.nn.Module) -> None:
    """Renaming is a bijection: the same tensors, none lost, none twice (1×1 convolutions may become matrices)."""

    def marks(tensors: list[torch.Tensor]) -> list[tuple[int, float, float]]:
        return sorted((t.numel(), float(t.double().sum()), float(t.flatten()[0])) for t in tensors)

    mine = [tensor for name, tensor in file.items() if name.startswith(prefix)]
    assert marks(mine) == marks(list(model.state_dict().values()))


def test_instruct_pix2pix_of_one_file(narrow: Path, tmp_path: Path) -> None:
    tensors = _random(_sd1(in_channels=8) | ldm_names.schedule())
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77.0)[None]
    backbone = load(_saved(tmp_path / "instruct.safetensors", tensors))
    assert (backbone.has_image_conditioning, backbone.latent_channels, backbone.vae_scale_factor) == (
        True,
        4,
        8,
    )
    assert (backbone.name, backbone.noise_schedule.prediction) == ("instruct", "epsilon")
    assert (backbone.defaults.image_guidance_scale, backbone.defaults.resolution) == (1.5, 512)
    assert backbone.noise_schedule.timesteps(20)[::19] == [951, 1]
    _every_tensor_once(tensors, "model.diffusion_model.", backbone.unet)
    _every_tensor_once(tensors, "first_stage_model.", backbone.vae)
    # correspondences that are known from both codes
    unet = dict(backbone.unet.named_parameters())
    ldm = "model.diffusion_model."
    for theirs, ours in (
        ("input_blocks.0.0.weight", "conv_in.weight"),
        ("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
         "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"),
        ("input_blocks.9.0.op.weight", "down_blocks.2.downsamplers.0.conv.weight"),
        ("middle_block.2.out_layers.3.bias", "mid_block.resnets.1.conv2.bias"),
        ("output_blocks.5.2.conv.weight", "up_blocks.1.upsamplers.0.conv.weight"),
        ("output_blocks.11.1.norm.weight", "up_blocks.3.attentions.2.norm.weight"),
        ("time_embed.2.bias", "time_embedding.linear_2.bias"),
    ):  # fmt: skip
        assert torch.equal(tensors[ldm + theirs], unet[ours])
    images = torch.rand(1, 64, 64, 3)
    states = backbone.text_encoder(torch.arange(77)[None] % WORDS)[0]
    output = backbone.predict(backbone.encode(images), 500, states, backbone.encode_image_latents(images))
    assert output.shape == (1, 4, 8, 8)


def test_the_averaged_unet_is_taken_where_there_is_one(narrow: Path, tmp_path: Path) -> None:
    shapes = _sd1()
    averages = _random(ldm_names.averages(shapes), seed=1)
    backbone = load(_saved(tmp_path / "ema.safetensors", {**_random(shapes), **averages}))
    expected = averages["model_ema.diffusion_modelinput_blocks00weight"]
    assert torch.equal(backbone.unet.conv_in.weight, expected)
    _every_tensor_once(averages, "model_ema.", backbone.unet)


def test_clip_text_of_either_naming(narrow: Path, tmp_path: Path) -> None:
    text = _random(ldm_names.clip_text(768, 1, WORDS))
    words = torch.randint(0, WORDS, (1, 77), generator=torch.Generator().manual_seed(0))

    def states(name: str, text: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes = ldm_names.unet(32) | ldm_names.vae(32) | {key: tuple(t.shape) for key, t in text.items()}
        return load(ldm_names.hollow_file(tmp_path / name, shapes, text)).text_encoder(words)[0]

    older = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in text.items()}
    newer = states("new.safetensors", text)
    assert float(newer.std()) > 0.1
    assert torch.equal(states("old.safetensors", older), newer)


def test_open_clip_text_computes_what_open_clip_would(narrow: Path, tmp_path: Path) -> None:
    """SD 2.x: the block structure of OpenCLIP, of torch's own parts, up to the last block but one, then the norm."""
    tensors = _random(_sd2() | ldm_names.schedule())
    backbone = load(_saved(tmp_path / "sd2.safetensors", tensors))
    assert backbone.tokenizer.pad_token == "!"
    _every_tensor_once(tensors, "model.diffusion_model.", backbone.unet)
    words = torch.randint(0, WORDS, (2, 77), generator=torch.Generator().manual_seed(0))

    def weights(name: str) -> dict[str, torch.Tensor]:
        prefix = f"cond_stage_model.model.{name}"
        return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}

    x = weights("token_embedding.")["weight"][words] + weights("")["positional_embedding"]
    blocked = torch.full((77, 77), float("-inf")).triu(1)
    for i in range(1):
        block = weights(f"transformer.resblocks.{i}.")
        attention = torch.nn.MultiheadAttention(1024, 16, batch_first=True)
        attention.load_state_dict(
            {k.removeprefix("attn."): v for k, v in block.items() if k.startswith("attn.")}
        )
        normed = torch.nn.functional.layer_norm(x, (1024,), block["ln_1.weight"], block["ln_1.bias"])
        x = x + attention(normed, normed, normed, attn_mask=blocked, need_weights=False)[0]
        normed = torch.nn.functional.layer_norm(x, (1024,), block["ln_2.weight"], block["ln_2.bias"])
        inner = torch.nn.functional.gelu(normed @ block["mlp.c_fc.weight"].T + block["mlp.c_fc.bias"])
        x = x + inner @ block["mlp.c_proj.weight"].T + block["mlp.c_proj.bias"]
    last = weights("ln_final.")
    expected = torch.nn.functional.layer_norm(x, (1024,), last["weight"], last["bias"])
    torch.testing.assert_close(backbone.text_encoder(words)[0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("spread", "metadata", "prediction", "resolution"),
    [
        (0.02, None, "epsilon", 512),
        (0.3, None, "v_prediction", 768),
        (0.02, {"modelspec.prediction_type": "v"}, "v_prediction", 768),
        (0.3, {"modelspec.prediction_type": "epsilon"}, "epsilon", 512),
    ],
)
def test_velocity_models_are_told_by_metadata_or_by_their_last_norm(
    narrow: Path, tmp_path: Path, spread: float, metadata: dict | None, prediction: str, resolution: int
) -> None:
    probe = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    values = {probe: torch.linspace(-1, 1, 32) * spread * 3**0.5}
    backbone = load(ldm_names.hollow_file(tmp_path / "sd2.safetensors", _sd2(), values, metadata))
    assert (backbone.noise_schedule.prediction, backbone.defaults.resolution) == (prediction, resolution)


@pytest.mark.parametrize("family", ["instruct", pytest.param("sd2", marks=pytest.mark.slow)])
def test_full_size_names_fill_the_full_size_model(tmp_path: Path, family: str) -> None:
    """The real sizes, as a file whose zeros take no disk, in fp16 straight from the file."""
    if family == "instruct":
        shapes = ldm_names.unet(in_channels=8) | ldm_names.vae() | ldm_names.clip_text()
    else:
        shapes = ldm_names.unet(320, 1024, linear=True) | ldm_names.vae() | ldm_names.open_clip_text()
    backbone = load(
        ldm_names.hollow_file(tmp_path / "real.safetensors", shapes | ldm_names.schedule()), dtype="fp16"
    )
    count = {
        name: sum(p.numel() for p in getattr(backbone, name).parameters())
        for name in ("unet", "vae", "text_encoder")
    }
    published = {
        "instruct": {"unet": 859_532_484, "vae": 83_653_863, "text_encoder": 123_060_480},
        "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    }
    assert count == published[family]


def _sdxl() -> ldm_names.Shapes:
    return ldm_names.unet(32, 2048) | {
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": (768,)
    }


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (_sdxl(), r"is an SDXL checkpoint; choose Stable Diffusion 1\.x"),
        ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (3, 3)}, "is a Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.qkv.weight": (3, 3)}, "is a Flux checkpoint"),
        ({"lora_unet_down_blocks_0.lora_up.weight": (3, 3)}, "is a LoRA"),
        ({"control_model.input_blocks.0.0.weight": (3, 3)}, "is a ControlNet"),
        (_sd1(in_channels=9), r"an inpainting model.*9 channels.*8 \(InstructPix2Pix\)"),
        (_sd1(in_channels=5), "depth-conditioned"),
        (ldm_names.unet(32), r"lacks a VAE and a text encoder \(it holds only a UNet\)"),
        ({"down_blocks.0.resnets.0.conv1.weight": (3,)}, "holds only a UNet in diffusers' names"),
        ({"encoder.down.0.block.0.conv1.weight": (3,)}, "holds only a VAE"),
        ({"anything": (3,)}, "lacks a UNet and a VAE and a text encoder"),
        (
            ldm_names.unet(32, 1280) | ldm_names.vae(32) | ldm_names.clip_text(768, 1, 9),
            "text states of width 1280",
        ),
    ],
)
def test_other_models_are_named(tmp_path: Path, shapes: ldm_names.Shapes, said: str) -> None:
    path = ldm_names.hollow_file(tmp_path / "other.safetensors", shapes)
    with pytest.raises(InputError, match=said):
        load(path)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("middle_block.1.norm.weight", "UNet.*incomplete"),
        ("encoder.mid.attn_1.q.weight", "VAE.*incomplete"),
        ("final_layer_norm.bias", "text encoder.*final_layer_norm.bias"),
        ("attn2.to_k.weight", "has a UNet that is not supported"),
    ],
)
def test_a_file_that_lacks_a_tensor_says_where(narrow: Path, tmp_path: Path, lost: str, said: str) -> None:
    shapes = {name: shape for name, shape in _sd1().items() if not name.endswith(lost)}
    with pytest.raises(InputError, match=said):
        load(ldm_names.hollow_file(tmp_path / "lacking.safetensors", shapes))


@pytest.mark.parametrize("cut", [1, 5000, 10**7])
def test_cut_downloads_are_found_before_anything_is_loaded(tmp_path: Path, cut: int) -> None:
    with pytest.raises(InputError, match=r"cut short: only \d+ of \d+ bytes.*download it again"):
        load(ldm_names.hollow_file(tmp_path / "cut.safetensors", _sd1(), cut=cut))
