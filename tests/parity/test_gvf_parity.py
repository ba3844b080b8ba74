"""The networks of GVFDiffusion's variation field against numbers of their own code."""

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

from engine.deform import PerFrame
from engine.diffusion import CosineSchedule
from engine.diffusion.dpm_solver import multistep
from engine.models import variation_field as gvf
from engine.models.trellis import RawGaussians, from_gvf_names
from engine.models.variation_field.variation_dit import VariationBlock

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
PUBLISHED = FIXTURES / "full_size_keys"
VAES, DITS = (sorted(p.parent for p in FIXTURES.glob(f"{n}*/**/config.json")) for n in ("gvf_vae", "gvf_dit"))


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures():
    assert VAES
    assert DITS
    assert PUBLISHED.is_dir()


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    config = json.loads((folder / "config.json").read_text())
    return config, load_file(folder / "weights.safetensors"), load_file(folder / "data.safetensors")


def shape_of(kind: type, args: Mapping[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{k: v for k, v in args.items() if k in known})


def close(got: Tensor, want: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


def inputs_of(layer: nn.Module, seen: dict[str, Tensor], *names: str) -> None:
    def keep(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        for key, value in zip(names, args, strict=True):
            seen.setdefault(key, value)

    layer.register_forward_pre_hook(keep)


def vae_of(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> gvf.VariationVae:
    args = {**config["args"], "knn_k": config["knn_k"], "beta": config["beta"]}
    vae = gvf.VariationVae(shape_of(gvf.VariationVaeShape, args)).eval()
    torch.testing.assert_close(
        vae.state_dict()["position_encoding.0.omega"], weights["position_encoding.0.omega"]
    )
    vae.load_state_dict(weights)
    return vae


@pytest.mark.parametrize("folder", VAES, ids=name)
@torch.no_grad()
def test_encoder(folder: Path):
    config, weights, data = read(folder)
    vae, seen = vae_of(config, weights), {}
    vectors = [data[f"in.canonical{b}.vector"] for b in range(len(config["gaussians"]))]
    inputs_of(vae.cross_attend_blocks[0], seen, "query", "context")
    inputs_of(vae.mean_fc, seen, "tokens")
    points, displacements = data["in.static_points"], data["in.displacements"]
    posterior = vae.encode(points, displacements, vectors)
    assert torch.equal(posterior.anchors, data["mid.anchor_index"])
    for b, vector in enumerate(vectors):
        chosen = vector[posterior.anchors[b]]
        assert torch.equal(chosen, data["mid.anchor_vectors"][b])
        index, squared = gvf.nearest_points(chosen[:, :3], points[b], config["knn_k"])
        assert torch.equal(index.sort(dim=1).values, data["mid.knn_index"][b].sort(dim=1).values)
        close(squared, data["mid.knn_sqdist"][b], 1e-7)
        at_anchors = gvf.interpolate_displacements(displacements[b], points[b], chosen[:, :3])
        close(at_anchors, data["mid.anchor_displacements"][b], 1e-6)
        everywhere = gvf.interpolate_displacements(displacements[b], points[b], vector[:, :3])
        close(everywhere, data[f"mid.interpolated_gaussian_displacements{b}"], 1e-6)
        close(vae.position_encoding[0](chosen[:, :3]), data["mid.point_embed_anchors"][b], 3e-5)
    close(seen["query"], data["mid.query_tokens"], 3e-5)
    close(seen["context"][:, :16], data["mid.context_tokens_first16"], 3e-5)
    close(seen["tokens"].flatten(0, 1), data["mid.encoder_tokens"], 3e-5)
    close(posterior.mean.flatten(0, 1), data["mid.latent_mean"], 3e-5)
    close(posterior.logvar.flatten(0, 1), data["mid.latent_logvar"], 3e-5)
    close(posterior.kl().flatten(), data["mid.kl_per_frame"], 3e-5)
    noise = data["in.posterior_noise"].unflatten(0, displacements.shape[:2])
    close(posterior.sample(noise).flatten(0, 1), data["mid.latent_sample"], 3e-5)


@pytest.mark.parametrize("folder", VAES, ids=name)
@torch.no_grad()
def test_decoder_and_composition(folder: Path):
    config, weights, data = read(folder)
    vae, seen = vae_of(config, weights), {}
    counts, frames = config["gaussians"], data["in.displacements"].shape[1]
    vectors = gvf.padded([data[f"in.canonical{b}.vector"] for b in range(len(counts))])
    assert torch.equal(vectors, data["mid.padded_gaussians"])
    inputs_of(vae.decoder_cross_attn, seen, "query", "context")
    latents = data["mid.latent_sample"].unflatten(0, (-1, frames))
    deltas = vae.decode(latents, vectors)
    close(seen["context"], data["mid.decoder_tokens"][::frames], 1e-4)
    close(seen["query"][:, :16], data["mid.decoder_query_first16"][::frames], 3e-5)
    close(deltas, data["out.deltas"], 2e-5)
    mean = data["mid.latent_mean"].unflatten(0, (-1, frames))
    close(vae.decode(mean, vectors, chunk=37), data["out.deltas_from_mean"], 2e-5)
    for b, count in enumerate(counts):
        raw = RawGaussians(
            means=data[f"in.canonical{b}.raw.xyz"] - 0.5,
            colors=data[f"in.canonical{b}.raw.features_dc"][:, 0],
            scales=data[f"in.canonical{b}.raw.scaling"],
            rotations=data[f"in.canonical{b}.raw.rotation"],
            opacities=data[f"in.canonical{b}.raw.opacity"][:, 0],
        )
        close(raw.vector(), data[f"in.canonical{b}.vector"], 1e-6)
        changes = gvf.canonical_changes(raw, deltas[b, :, :count])
        book = PerFrame(torch.arange(frames, dtype=torch.float64), changes)
        for t in range(frames):
            now = book.deform(raw.to_gaussians(), float(t)).activated()
            for key, got in (
                ("xyz", now.means),
                ("rotation", now.quats),
                ("scaling", now.scales),
                ("opacity", now.opacities[:, None]),
                ("features_dc", now.sh),
            ):
                close(got, data[f"out.composed{b}.{key}"][t], 2e-5)


def dit_of(config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> gvf.VariationDit:
    dit = gvf.VariationDit(shape_of(gvf.VariationDitShape, config["args"])).eval()
    dit.load_state_dict(weights)
    return dit


@pytest.mark.parametrize("folder", DITS, ids=name)
@torch.no_grad()
def test_transformer(folder: Path):
    config, weights, data = read(folder)
    dit, seen = dit_of(config, weights), {}
    first = dit.blocks[0]
    assert isinstance(first, VariationBlock)
    layers = {
        "input_layer": dit.input_layer,
        "timestep_embedding": dit.t_embedder,
        "block0.spatial_attn_output": first.spatial_self_attn,
        "block0.temporal_attn_output": first.temporal_self_attn,
        **{f"block{i}.output": block for i, block in enumerate(dit.blocks)},
    }
    for key, layer in layers.items():
        layer.register_forward_hook(lambda _m, _i, out, key=key: seen.__setitem__(key, out))
    conditions = gvf.Conditions(data["in.image_tokens"], data["in.canonical_tokens"], data["in.anchor_xyz"])
    close(dit(data["in.x"], data["in.t"], conditions), data["out.v"], 2e-5)
    for key, got in seen.items():
        close(got, data[f"mid.{key}"], 2e-5)


@pytest.mark.parametrize("folder", DITS, ids=name)
@torch.no_grad()
def test_sampled_trajectories(folder: Path):
    config, weights, data = read(folder)
    dit, schedule = dit_of(config, weights), CosineSchedule()
    names = ("in.image_tokens", "in.canonical_tokens", "in.anchor_xyz")
    conditions = gvf.Conditions(*(data[n][:1] for n in names))
    g = config["guidance"]
    for key in [k.removesuffix(".final") for k in data if k.endswith(".final")]:
        is_guided = key.endswith("_guided")
        predict = gvf.guided_twice(dit, conditions, g[0], g[1]) if is_guided else gvf.guided(dit, conditions)
        steps = len(data[f"{key}.times"]) - 1
        states = [s.latents for s in multistep(predict, data["in.sample_noise"], schedule, steps)]
        tolerance = 1e-3 if is_guided else 2e-4
        close(torch.cat(states), data[f"{key}.states"][1:], tolerance)
        close(states[-1], data[f"{key}.final"], tolerance)


@pytest.mark.parametrize(
    ("stem", "build"), [("gvf_variation_vae", gvf.VariationVae), ("gvf_dit", gvf.VariationDit)]
)
def test_published_models_have_these_names_shapes_and_dtypes(stem: str, build: type[nn.Module]):
    path = PUBLISHED / f"{stem}.json"
    if not path.is_file():
        pytest.skip(f"{path.name}: names and shapes of the published models are not here (set GS4D_FIXTURES)")
    want = json.loads(path.read_text())
    with torch.device("meta"):
        model = build()
    got = {k: (list(v.shape), str(v.dtype)) for k, v in model.state_dict().items()}
    assert got == {k: (v["shape"], f"torch.{v['dtype']}") for k, v in want["tensors"].items()}
    assert sum(p.numel() for p in model.parameters()) == want["parameter_count"]


def test_the_whole_canonical_vae_holds_a_decoder():
    """Both published layouts of the canonical model give the same decoder."""
    paths = [PUBLISHED / f"{stem}.json" for stem in ("gvf_canonical_vae_full", "gvf_canonical_decoder")]
    if not all(path.is_file() for path in paths):
        pytest.skip("names and shapes of the published models are not here (set GS4D_FIXTURES)")
    whole, decoder = (
        from_gvf_names(
            {
                k: torch.empty(v["shape"], device="meta")
                for k, v in json.loads(p.read_text())["tensors"].items()
            }
        )
        for p in paths
    )
    assert {k: v.shape for k, v in whole.items()} == {k: v.shape for k, v in decoder.items()}
    assert len(whole) == 100
