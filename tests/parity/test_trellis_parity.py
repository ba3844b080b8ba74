"""The networks of TRELLIS, and GVFDiffusion's canonical decoder, against numbers of their own code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.models import trellis
from engine.models.trellis.blocks import FlowBlock
from engine.models.trellis.raw_gaussians import decode_features, offset_perturbation
from engine.models.trellis.structure_decoder import pixel_shuffle_3d

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
PUBLISHED = FIXTURES / "full_size_keys"


def variants(name: str) -> list[Path]:
    """Every folder of numbers below a fixture's folder or a sibling with a suffix."""
    return sorted(p.parent for p in FIXTURES.glob(f"{name}*/**/config.json"))


STRUCTURE_FLOWS = variants("trellis_ss_flow")
STRUCTURE_DECODERS = variants("trellis_ss_decoder")
LATENT_FLOWS = variants("trellis_slat_flow")
GAUSSIAN_DECODERS = variants("trellis_gs_decoder")
CANONICAL_DECODERS = variants("gvf_canonical_decoder")


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "weights.safetensors"), load_file(folder / "data.safetensors")


def shape_of(kind: type, args: Mapping[str, Any], **more: Any) -> Any:
    known = {field.name for field in fields(kind)}
    picked = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items() if k in known}
    return kind(**picked, **more)


def format_of(args: Mapping[str, Any], count: int) -> trellis.GaussianFormat:
    form = args.get("representation_config", {})
    own = trellis.GaussianFormat()
    return trellis.GaussianFormat(
        count,
        form.get("voxel_size", own.voxel_size),
        form.get("lr", {}).get("_rotation", own.rotation_multiplier),
        form.get("scaling_bias", own.scale_bias),
        form.get("3d_filter_kernel_size", own.min_scale),
        form.get("opacity_bias", own.opacity_bias),
    )


def loaded(model: nn.Module, weights: Mapping[str, Tensor]) -> Any:
    model.load_state_dict(weights)
    return model.eval()


class Recorded:
    """Outputs of layers by name, while a network runs."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.values: dict[str, Tensor] = {}
        for key, layer in layers.items():
            layer.register_forward_hook(lambda _m, _i, out, key=key: self.values.__setitem__(key, out))


def close(got: Tensor, want: Tensor, atol: float) -> None:
    torch.testing.assert_close(got, want.to(got.dtype), rtol=0, atol=atol)


def blocks(model: Any, label: str = "block") -> dict[str, nn.Module]:
    return {f"{label}{i}.output": block for i, block in enumerate(model.blocks)}


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures():
    assert STRUCTURE_FLOWS
    assert STRUCTURE_DECODERS
    assert LATENT_FLOWS
    assert GAUSSIAN_DECODERS
    assert CANONICAL_DECODERS
    assert PUBLISHED.is_dir()


@pytest.mark.parametrize("folder", STRUCTURE_FLOWS, ids=name)
@torch.no_grad()
def test_structure_flow(folder: Path):
    config, weights, data = read(folder)
    fresh = trellis.StructureFlow(shape_of(trellis.StructureFlowShape, config["args"]))
    close(fresh.pos_emb, weights["pos_emb"], 1e-5)
    model = loaded(fresh, weights)
    first: FlowBlock = model.blocks[0]
    seen = Recorded(
        {
            **blocks(model),
            "timestep_embedding": model.t_embedder,
            "block0.self_attn_output": first.self_attn,
            "block0.cross_attn_output": first.cross_attn,
        }
    )
    close(model(data["in.x"], data["in.t"], data["in.cond"]), data["out.v"], 2e-5)
    for key, got in seen.values.items():
        close(got[:1] if got.ndim == 3 else got, data[f"mid.{key}"], 2e-5)


@pytest.mark.parametrize("folder", STRUCTURE_DECODERS, ids=name)
@torch.no_grad()
def test_structure_decoder(folder: Path):
    config, weights, data = read(folder)
    model = loaded(trellis.StructureDecoder(shape_of(trellis.StructureDecoderShape, config["args"])), weights)
    layers = {"input_layer": model.input_layer, "middle_block": model.middle_block}
    seen = Recorded({**blocks(model), **layers})
    logits = model(data["in.latent"])
    close(logits, data["out.logits"], 2e-5)
    for key, got in seen.values.items():
        close(got, data[f"mid.{key}"], 5e-5)
    assert torch.equal(trellis.occupied(logits), data["out.coords"].long())
    assert torch.equal(pixel_shuffle_3d(data["mid.pixel_shuffle_input"]), data["mid.pixel_shuffle_output"])


@pytest.mark.parametrize("folder", LATENT_FLOWS, ids=name)
@torch.no_grad()
def test_latent_flow(folder: Path):
    config, weights, data = read(folder)
    model = loaded(trellis.LatentFlow(shape_of(trellis.LatentFlowShape, config["args"])), weights)
    voxels = trellis.Voxels(data["in.coords"])
    coarse = voxels.coarse
    assert torch.equal(coarse.voxels.coords, data["mid.downsample.coords"].long())
    assert torch.equal(coarse.parent, data["mid.downsample.parent_index"])
    layers: dict[str, nn.Module] = {"timestep_embedding": model.t_embedder, "input_layer": model.input_layer}
    layers["input_block0.conv1"] = model.input_blocks[0].conv1
    for label, group in (("input_block", model.input_blocks), ("out_block", model.out_blocks)):
        layers |= {f"{label}{i}.output": block for i, block in enumerate(group)}
    seen = Recorded({**blocks(model), **layers})
    close(model(data["in.feats"], data["in.t"], data["in.cond"], voxels), data["out.feats"], 3e-5)
    for key, got in seen.values.items():
        close(got, data[f"mid.{key}"], 3e-5)
    close(coarse.pool(data["mid.input_block0.output"]), data["mid.downsample.feats"], 3e-5)


def check_gaussians(got: trellis.RawGaussians, data: Mapping[str, Tensor], key: str, atol: float) -> None:
    raw = {
        "xyz": got.means + 0.5,
        "features_dc": got.colors[:, None],
        "scaling": got.scales,
        "rotation": got.rotations,
        "opacity": got.opacities[:, None],
    }
    for part, value in raw.items():
        close(value, data[f"{key}.raw.{part}"], atol)
    if f"{key}.xyz" in data:
        a = got.activated()
        close(a.means, data[f"{key}.xyz"], atol)
        close(a.scales, data[f"{key}.scaling"], 1e-6)
        close(a.quats, data[f"{key}.rotation"], atol)
        close(a.opacities[:, None], data[f"{key}.opacity"], atol)
        close(a.sh, data[f"{key}.features_dc"], atol)
    if f"{key}.vector" in data:
        close(got.vector(), data[f"{key}.vector"], atol)


@pytest.mark.parametrize("folder", GAUSSIAN_DECODERS, ids=name)
@torch.no_grad()
def test_gaussian_decoder(folder: Path):
    config, weights, data = read(folder)
    args = config["args"]
    form = format_of(args, args["representation_config"]["num_gaussians"])
    fresh = trellis.GaussianDecoder(shape_of(trellis.GaussianDecoderShape, args, gaussians=form))
    close(fresh.offset_perturbation, data["mid.perturbation"], 1e-6)
    model = loaded(fresh, weights)
    voxels = trellis.Voxels(data["in.coords"])
    for key, theirs in data.items():
        if key.startswith("mid.window_id.shift"):
            ours = voxels.window_ids(args["window_size"], int(key.removeprefix("mid.window_id.shift")))
            assert torch.equal(ours[:, None] == ours, theirs[:, None] == theirs)
    layers = {"block0.attn_output": model.blocks[0].attn, "block1.attn_output_shifted": model.blocks[1].attn}
    seen = Recorded({**blocks(model), **layers})
    close(model.features(data["in.latent"], voxels), data["mid.raw_features"], 3e-5)
    for key, got in seen.values.items():
        close(got, data[f"mid.{key}"], 3e-5)
    for b, gaussians in enumerate(model(data["in.latent"], voxels)):
        check_gaussians(gaussians, data, f"out.{b}", 2e-5)
    # the mapping alone, at the published number of Gaussians
    mapping = config["mapping"]
    perturbation = offset_perturbation(mapping["num_gaussians"], form.voxel_size)
    close(perturbation, data["mid.mapping.perturbation"], 1e-6)
    mapped = decode_features(
        data["in.mapping.features"],
        data["in.mapping.coords"][:, 1:],
        mapping["resolution"],
        perturbation,
        format_of(args, mapping["num_gaussians"]),
    )
    check_gaussians(mapped, data, "out.mapping", 5e-6)


@pytest.mark.parametrize("folder", CANONICAL_DECODERS, ids=name)
@torch.no_grad()
def test_canonical_decoder_of_gvf_diffusion(folder: Path):
    config, weights, data = read(folder)
    args = config["args"]
    form = format_of(args, args["out_channels"] // 14)
    model = trellis.GaussianDecoder(shape_of(trellis.GaussianDecoderShape, args, gaussians=form))
    named = trellis.from_gvf_names({f"module.{key}": tensor for key, tensor in weights.items()})
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert (missing, unexpected) == (["offset_perturbation"], [])
    close(model.offset_perturbation, data["mid.perturbation"], 1e-6)
    voxels = trellis.Voxels(data["in.coords"])
    close(model.features(data["in.latent"], voxels), data["mid.raw_features"], 2e-5)
    for b, gaussians in enumerate(model(data["in.latent"], voxels)):
        check_gaussians(gaussians, data, f"out.{b}", 1e-5)


def published(stem: str) -> dict[str, Any]:
    path = PUBLISHED / f"{stem}.json"
    if not path.is_file():
        pytest.skip(f"{path.name}: names and shapes of the published models are not here (set GS4D_FIXTURES)")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("stem", "build"),
    [
        ("ss_flow_img_dit_L_16l8", trellis.StructureFlow),
        ("ss_dec_conv3d_16l8", trellis.StructureDecoder),
        ("slat_flow_img_dit_L_64l8p2", trellis.LatentFlow),
        ("slat_dec_gs_swin8_B_64l8gs32", trellis.GaussianDecoder),
    ],
)
def test_published_models_have_these_names_shapes_and_dtypes(stem: str, build: type[nn.Module]):
    want = published(stem)
    with torch.device("meta"):
        model: Any = build()
        # as the files are published: blocks in half precision between float32 norms, input and output
        model.cast_torso(torch.float16)
    state = model.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == {
        key: value["shape"] for key, value in want["tensors"].items()
    }
    assert {key: str(value.dtype) for key, value in state.items()} == {
        key: f"torch.{value['dtype']}" for key, value in want["tensors"].items()
    }
    assert sum(p.numel() for p in model.parameters()) == want["parameter_count"]


def test_published_canonical_decoder_has_these_names_and_shapes():
    want = published("gvf_canonical_decoder")["tensors"]
    with torch.device("meta"):
        state = trellis.GaussianDecoder(trellis.GVF_CANONICAL).state_dict()
    theirs = {key: torch.empty(value["shape"], device="meta") for key, value in want.items()}
    named = trellis.from_gvf_names(theirs)
    assert {key: value["trellis_name"] for key, value in want.items()} == dict(
        zip(theirs, named, strict=True)
    )
    assert {key: value.shape for key, value in state.items() if key != "offset_perturbation"} == {
        key: value.shape for key, value in named.items()
    }
