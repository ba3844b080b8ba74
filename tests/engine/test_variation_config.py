"""Folders of variation-field models that describe themselves, and image features at the anchors."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from engine.errors import InputError
from engine.models import variation_field as gvf

DIT = gvf.VariationDitShape(8, 8, 48, 14, 12, num_blocks=1, num_heads=4, projected_channels=10)
VAE = gvf.VariationVaeShape(1, 48, 16, 8, 4, appearance_input=True)
ENCODER = gvf.ImageEncoderShape(32, 8, 12, 10, 2, 2)
CONFIG = gvf.VariationConfig(DIT, VAE, ENCODER, gvf.ConditioningCamera(2.0, 36.0, 32), 64)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    states = {
        "ema_diffusion": gvf.VariationDit(DIT),
        "ema_deformation": gvf.VariationVae(VAE),
        "image_encoder": gvf.ImageEncoder(ENCODER),
    }
    for name, network in states.items():
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors")
    for name, size in (("static", 14), ("deformation", 8)):
        save_file({"tensor": torch.zeros(size)}, tmp_path / f"{name}_mean.safetensors")
        save_file({"tensor": torch.ones(size)}, tmp_path / f"{name}_std.safetensors")
    (tmp_path / "gs4d.json").write_text(json.dumps(CONFIG.to_json()))
    return tmp_path


def test_a_described_folder_loads_without_shapes_and_without_a_canonical_decoder(folder):
    found = gvf.VariationFolder(folder)
    assert found.config == CONFIG
    dit, vae, encoder = found.transformer(), found.vae(), found.image_encoder()
    assert dit.shape == DIT and vae.shape == VAE and encoder is not None
    statistics = found.statistics()
    generator = torch.Generator().manual_seed(0)
    anchors = torch.rand(1, 16, 3, generator=generator) - 0.5
    images = torch.rand(1, 3, 32, 32, 3, generator=generator)
    tokens, projected = encoder(images, anchors, found.config.camera.cameras())
    assert tokens.shape == (1, 3, 16, 12) and projected.shape == (1, 3, 16, 10)
    conditions = gvf.Conditions(tokens, torch.zeros(1, 4, 14), anchors, projected)
    x = torch.randn(1, 3, 16, 8, generator=generator)
    assert dit(x, torch.tensor([500.0]), conditions).shape == x.shape
    assert statistics.latents(x).shape == x.shape
    with pytest.raises(InputError, match="MOD-031"):
        found.canonical_decoder()


def test_the_published_folder_is_the_default(folder):
    assert gvf.VariationConfig().transformer == gvf.VariationDitShape()
    assert gvf.VariationConfig().camera.image_size == 518
    (folder / "gs4d.json").unlink()
    with pytest.raises(InputError, match="MOD-023"):
        gvf.VariationFolder(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"transformer": {"blocks": 3}},
        {"vae": {"dim": "wide"}},
        {"camera": {"image_size": True}},
        {"recommended": 3},
        {"unknown": 1},
    ],
)
def test_a_damaged_description_is_named(folder, change):
    (folder / "gs4d.json").write_text(json.dumps(CONFIG.to_json() | change))
    with pytest.raises(InputError, match="MOD-030"):
        gvf.VariationFolder(folder)


def test_a_missing_image_encoder_is_named(folder):
    (folder / "image_encoder.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks image_encoder….*MOD-023"):
        gvf.VariationFolder(folder)


def test_features_at_an_anchor_come_from_where_it_projects():
    torch.manual_seed(0)
    encoder = gvf.ImageEncoder(gvf.ImageEncoderShape(64, 8, 12, 10, 1, 1)).eval()
    camera = gvf.ConditioningCamera(2.0, 36.0, 64).cameras()
    anchors = torch.tensor([[[0.1, 0.0, 0.1], [-0.2, 0.0, -0.2]]])
    # the background is what the convolutions are padded with
    images = torch.full((1, 2, 64, 64, 3), 0.5)
    images[0, :, 20:32, 30:42] = torch.rand(2, 12, 12, 3)
    K = camera.K.clone()
    K[:, 0, 2] += 6
    K[:, 1, 2] -= 4
    with torch.no_grad():
        features = encoder(images, anchors, camera)[1]
        # image and camera are shifted alike: the anchors see the same
        shifted = images.roll((-4, 6), (2, 3))
        moved = encoder(shifted, anchors, replace(camera, K=K))[1]
        torch.testing.assert_close(moved, features, atol=1e-4, rtol=0)
        # the image alone: they see something else
        assert float((encoder(shifted, anchors, camera)[1] - features).abs().max()) > 0.01


def test_a_transformer_with_projected_features_uses_and_needs_them():
    torch.manual_seed(0)
    dit = gvf.VariationDit(DIT).eval()
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.normal_(std=0.2)
    x, t = torch.randn(1, 2, 16, 8), torch.tensor([300.0])
    image, static, anchors = torch.randn(1, 2, 4, 12), torch.randn(1, 5, 14), torch.rand(1, 16, 3)
    with pytest.raises(ValueError, match="projections"):
        dit(x, t, gvf.Conditions(image, static, anchors))
    projected = torch.randn(1, 2, 16, 10)
    whole = gvf.Conditions(image, static, anchors, projected)
    with torch.no_grad():
        assert float((dit(x, t, whole) - dit(x, t, whole.without_images())).abs().max()) > 1e-3
    assert not bool(whole.without_images().projected.any())
    assert gvf.Conditions.concatenate([whole, whole]).projected.shape == (2, 2, 16, 10)


def test_the_published_transformer_has_no_tensors_of_ours():
    with torch.device("meta"):
        names = set(gvf.VariationDit(gvf.VariationDitShape()).state_dict())
    assert not any("projected" in name for name in names)


def test_the_positional_prior_is_a_switch():
    torch.manual_seed(0)
    plain = gvf.VariationDitShape(8, 8, 48, 14, 12, num_blocks=1, num_heads=4)
    x, t = torch.randn(1, 2, 16, 8), torch.tensor([300.0])
    image, static = torch.randn(1, 2, 4, 12), torch.randn(1, 5, 14)
    for prior in (True, False):
        dit = gvf.VariationDit(gvf.VariationDitShape(**(vars(plain) | {"positional_prior": prior}))).eval()
        with torch.no_grad():
            for parameter in dit.parameters():
                parameter.normal_(std=0.2)
            here, there = (dit(x, t, gvf.Conditions(image, static, a)) for a in torch.rand(2, 1, 16, 3))
        assert bool((here != there).any()) == prior
