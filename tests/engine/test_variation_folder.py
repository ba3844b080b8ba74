"""A folder of GVFDiffusion's pickles: opened safely and once, and each kind of wrong file is named."""

import os
import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import InputError
from engine.files.torch_weights import as_safetensors
from engine.models import trellis
from engine.models.variation_field import (
    VariationDit,
    VariationDitShape,
    VariationFolder,
    VariationVae,
    VariationVaeShape,
)

DIT = VariationDitShape(8, 8, 48, 14, 10, num_blocks=1, num_heads=4)
VAE = VariationVaeShape(depth=1, dim=48, num_latents=16, latent_dim=8, heads=4)
CANONICAL = trellis.GaussianDecoderShape(16, 48, 4, 1, 3, window_size=4, gaussians=trellis.GaussianFormat(8))
SHAPES = (DIT, VAE, CANONICAL)


def canonical_state(per_voxel=8):
    form = trellis.GaussianFormat(per_voxel)
    shape = trellis.GaussianDecoderShape(16, 48, 4, 1, 3, window_size=4, gaussians=form)
    names = {"blocks": "decoder", "input_layer": "from_latent", "out_layer": "out_layer"}
    state = {}
    for name, tensor in trellis.GaussianDecoder(shape).state_dict().items():
        head, _, rest = name.partition(".")
        if head in names:
            state[f"{names[head]}.{rest}"] = tensor
    # the whole VAE is published: what the decoder does not need is there as well
    return {**state, "encoder.0.mlp.mlp.0.bias": torch.zeros(4), "MipGS_perturbation": torch.zeros(8, 3)}


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    place = tmp_path / "gvfdiffusion"
    place.mkdir()
    states = {
        "ema_diffusion_0.9999_500000": VariationDit(DIT).state_dict(),
        "ema_deformation_0.9999_200000": VariationVae(VAE).state_dict(),
        "ema_static_vae_0.9999_200000": canonical_state(),
    }
    for stem, state in states.items():
        torch.save(OrderedDict((f"module.{k}", v) for k, v in state.items()), place / f"{stem}.pt")
    for name, size in (("static", 14), ("deformation", 8)):
        torch.save(torch.randn(1, 1, size), place / f"{name}_mean.pt")
        torch.save(torch.rand(1, 1, size) + 0.5, place / f"{name}_std.pt")
    return place


def test_every_network_loads_as_it_was_saved(folder):
    found = VariationFolder(folder, *SHAPES)
    for network, file in (
        (found.transformer(), "ema_diffusion_0.9999_500000.pt"),
        (found.vae(), "ema_deformation_0.9999_200000.pt"),
    ):
        saved = torch.load(folder / file, weights_only=True)
        assert {f"module.{name}" for name in network.state_dict()} == set(saved)
        assert all(torch.equal(t, saved[f"module.{name}"]) for name, t in network.state_dict().items())
        assert not network.training and not any(p.requires_grad for p in network.parameters())
    saved = torch.load(folder / "ema_static_vae_0.9999_200000.pt", weights_only=True)
    assert torch.equal(found.canonical_decoder().out_layer.weight, saved["module.out_layer.weight"])
    statistics = found.statistics()
    assert statistics.static_mean.shape == (14,) and statistics.deformation_std.shape == (8,)
    assert torch.equal(
        statistics.static_std, torch.load(folder / "static_std.pt", weights_only=True).flatten()
    )
    assert (
        found.transformer(dtype=torch.float16).blocks[0].spatial_self_attn.to_qkv.weight.dtype
        == torch.float16
    )


def test_a_pickle_is_opened_once_and_not_needed_afterward(folder):
    first = VariationFolder(folder, *SHAPES).transformer().state_dict()
    converted = folder / "ema_diffusion_0.9999_500000.safetensors"
    written = converted.stat().st_mtime_ns
    VariationFolder(folder, *SHAPES).transformer()
    assert converted.stat().st_mtime_ns == written
    for file in ("ema_deformation_0.9999_200000", "ema_static_vae_0.9999_200000"):
        as_safetensors(folder / f"{file}.pt")
    VariationFolder(folder, *SHAPES).statistics()
    for pickled in folder.glob("*.pt"):
        pickled.unlink()
    again = VariationFolder(folder, *SHAPES)
    assert all(torch.equal(t, first[name]) for name, t in again.transformer().state_dict().items())
    again.vae(), again.canonical_decoder(), again.statistics()


def test_a_replaced_pickle_is_converted_again(folder):
    path = folder / "static_mean.pt"
    VariationFolder(folder, *SHAPES).statistics()
    size = path.stat().st_size
    torch.save(torch.arange(14.0).reshape(1, 1, 14), path)
    assert path.stat().st_size == size, "as another checkpoint of the same network has it"
    assert torch.equal(VariationFolder(folder, *SHAPES).statistics().static_mean, torch.arange(14.0))


def test_files_that_somebody_else_converted_are_used(folder):
    path = folder / "ema_deformation_0.9999_200000.pt"
    saved = torch.load(path, weights_only=True)
    save_file({k.removeprefix("module."): v + 1 for k, v in saved.items()}, path.with_suffix(".safetensors"))
    vae = VariationFolder(folder, *SHAPES).vae()
    assert torch.equal(vae.mean_fc.bias, saved["module.mean_fc.bias"] + 1)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_by_name_and_runs_nothing(folder, tmp_path, legacy):
    path, pwned = folder / "ema_diffusion_0.9999_500000.pt", tmp_path / "pwned"
    trap = {"module.input_layer.weight": Trap(pwned)}
    if legacy:
        path.write_bytes(pickle.dumps(trap, protocol=2))
    else:
        torch.save(trap, path)
    with pytest.raises(InputError, match=r"mkdir.*FIL-083"):
        VariationFolder(folder, *SHAPES).transformer()
    assert not pwned.exists() and not path.with_suffix(".safetensors").exists()


@pytest.mark.parametrize(
    "content, code",
    [
        ({"step": 3, "state_dict": {}}, "FIL-086"),
        ({"module.a": torch.zeros(1).expand(10**9)}, "FIL-087"),
        ([torch.zeros(3)], "FIL-085"),
        ({}, "FIL-085"),
    ],
)
def test_what_is_not_a_state_dict_is_named(folder, content, code):
    torch.save(content, folder / "ema_diffusion_0.9999_500000.pt")
    with pytest.raises(InputError, match=code):
        VariationFolder(folder, *SHAPES).transformer()


def test_a_download_that_broke_off_is_named(folder):
    path = folder / "ema_diffusion_0.9999_500000.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"ema_diffusion.*FIL-084"):
        VariationFolder(folder, *SHAPES).transformer()
    with pytest.raises(InputError, match="FIL-081"):
        as_safetensors(folder / "absent.pt")


def test_trellis_own_decoder_is_told_from_that_of_gvf(folder):
    torch.save(canonical_state(per_voxel=32), folder / "ema_static_vae_0.9999_200000.pt")
    with pytest.raises(InputError, match=r"makes 32 Gaussians per voxel.*makes 8.*MOD-005"):
        VariationFolder(folder, *SHAPES).canonical_decoder()


def test_swapped_files_are_told_apart(folder):
    names = ("ema_diffusion_0.9999_500000.pt", "ema_deformation_0.9999_200000.pt")
    first, second = ((folder / name).read_bytes() for name in names)
    (folder / names[0]).write_bytes(second)
    (folder / names[1]).write_bytes(first)
    for load in (VariationFolder(folder, *SHAPES).transformer, VariationFolder(folder, *SHAPES).vae):
        with pytest.raises(InputError, match="MOD-001"):
            load()


def test_statistics_of_another_model_are_refused(folder):
    torch.save(torch.zeros(8), folder / "deformation_std.pt")
    with pytest.raises(InputError, match=r"deformation_std.*MOD-024"):
        VariationFolder(folder, *SHAPES).statistics()
    torch.save(torch.ones(16), folder / "deformation_std.pt")
    with pytest.raises(InputError, match=r"deformation_std of 8 channels.*16.*MOD-024"):
        VariationFolder(folder, *SHAPES).statistics()


def test_an_incomplete_or_ambiguous_folder_is_named(folder):
    (folder / "ema_diffusion_0.9999_1300000.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"more than one transformer.*1300000.*MOD-022"):
        VariationFolder(folder)
    for file in folder.glob("ema_d*"):
        file.unlink()
    with pytest.raises(InputError, match=r"lacks ema_diffusion…, ema_deformation…\..*MOD-023"):
        VariationFolder(folder)
    with pytest.raises(InputError, match="MOD-023"):
        VariationFolder(folder / "nowhere")


def test_the_parent_of_the_folder_is_accepted(folder):
    assert len(VariationFolder(folder.parent).files) == 7
    converted = as_safetensors(folder / "static_mean.pt")
    assert as_safetensors(converted) == converted and list(load_file(converted)) == ["tensor"]
