"""Image tokens: which, in which order, before which norm; the networks were trained with exactly these."""

import json
from pathlib import Path

import pytest
import torch

from engine.errors import InputError
from engine.models.dinov2 import DEVIATION, MEAN, ImageEncoder
from tests.tiny_trellis import CHANNELS, save_encoder

IMAGES = torch.rand(3, 28, 28, 3, generator=torch.Generator().manual_seed(0))


def prepared(images: torch.Tensor) -> torch.Tensor:
    return ((images - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).permute(0, 3, 1, 2)


def test_tokens_are_those_before_the_last_norm(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    folder = save_encoder(tmp_path / "dinov2")
    encoder = ImageEncoder(folder)
    assert (encoder.channels, encoder.registers, encoder.patches, encoder.pixels) == (CHANNELS, 4, 4, 28)
    whole = transformers.Dinov2WithRegistersModel.from_pretrained(folder, local_files_only=True).eval()
    with encoder.on("cpu"), torch.no_grad():
        tokens = encoder.tokens(IMAGES)
        torch.testing.assert_close(whole.layernorm(tokens), whole(prepared(IMAGES)).last_hidden_state)
        normalized = encoder.normalized_tokens(IMAGES)
    assert tokens.shape == (3, 1 + 4 + 4, CHANNELS)
    torch.testing.assert_close(normalized.mean(-1), torch.zeros(3, 9), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.std(-1, correction=0), torch.ones(3, 9), atol=1e-3, rtol=0)


def test_class_token_registers_and_patches_in_this_order(tmp_path: Path):
    # without blocks, the tokens are what they were embedded as
    transformers = pytest.importorskip("transformers")
    folder = save_encoder(tmp_path / "dinov2", layers=0)
    encoder = ImageEncoder(folder)
    embeddings = transformers.Dinov2WithRegistersModel.from_pretrained(folder).embeddings
    with encoder.on("cpu"), torch.no_grad():
        patches = embeddings.patch_embeddings(prepared(IMAGES)) + embeddings.position_embeddings[:, 1:]
        first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(3, -1, -1)
        registers = embeddings.register_tokens.expand(3, -1, -1)
        torch.testing.assert_close(encoder.tokens(IMAGES), torch.cat([first, registers, patches], dim=1))
        torch.testing.assert_close(encoder.patch_tokens(IMAGES), torch.cat([patches, first], dim=1))


def test_images_are_resized_to_the_models_size(tmp_path: Path):
    encoder = ImageEncoder(save_encoder(tmp_path / "dinov2"))
    flat = torch.full((1, 9, 9, 3), 0.25)
    with encoder.on("cpu"):
        torch.testing.assert_close(encoder.tokens(flat), encoder.tokens(torch.full((1, 28, 28, 3), 0.25)))
        assert encoder.tokens(IMAGES.repeat(4, 1, 1, 1)).shape[0] == 12
    with pytest.raises(RuntimeError, match="outside"):
        encoder.tokens(flat)


def test_another_model_is_named(tmp_path: Path):
    folder = save_encoder(tmp_path / "dinov2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "dinov2"}))
    with pytest.raises(InputError, match="type 'dinov2', not DINOv2 with registers"):
        ImageEncoder(folder)
    with pytest.raises(InputError, match=r"models/gs4d/trellis"):
        ImageEncoder(tmp_path / "nothing", "models/gs4d/trellis")
