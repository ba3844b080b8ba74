"""Variation fields on canonical Gaussians, as per-frame motion of a scene, against numbers of GVFDiffusion's own code."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.deform import PerFrame
from engine.models.trellis import RawGaussians
from engine.models.variation_field.deltas import canonical_changes
from engine.scene import ActivatedGaussians, Gaussians

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
COMPOSED = sorted(FIXTURES.glob("gvf_compose*/**/data.safetensors"))


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures():
    assert COMPOSED


def raw_of(data) -> RawGaussians:
    return RawGaussians(
        # from the unit cube to the world's box
        means=data["in.raw.xyz"] - 0.5,
        colors=data["in.raw.features_dc"][:, 0],
        scales=data["in.raw.scaling"],
        rotations=data["in.raw.rotation"],
        opacities=data["in.raw.opacity"][:, 0],
    )


@pytest.mark.parametrize("path", COMPOSED, ids=name)
def test_every_stored_frame_of_the_scene_is_the_reference_s(path: Path):
    data = load_file(path)
    raw, frames = raw_of(data), len(data["in.deltas"])
    seconds = torch.arange(frames, dtype=torch.float64) / 24
    book = PerFrame(seconds, canonical_changes(raw, data["in.deltas"]))
    canonical = raw.to_gaussians()
    for t in range(frames):
        now = book.deform(canonical, float(seconds[t])).activated()
        assert torch.equal(now.means, data["out.xyz"][t])
        assert torch.equal(now.quats, data["out.rotation"][t])
        assert torch.equal(now.opacities, data["out.opacity"][t, :, 0])
        assert torch.equal(now.sh, data["out.features_dc"][t])
        sizes = data["out.scaling"][t]
        assert bool(((now.scales - sizes).abs() <= 3e-7 * sizes.clamp(min=1)).all())
        assert bool(((now.scales - sizes).abs() <= 2e-6 * sizes).all())
    torch.testing.assert_close(raw.vector(), data["mid.canonical_vector"], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("path", COMPOSED, ids=name)
def test_raw_values_are_recovered_from_activated_ones(path: Path):
    data = load_file(path)
    position, color, opacity, scale, quat = data["mid.canonical_vector"].split([3, 3, 1, 3, 4], dim=-1)
    activated = ActivatedGaussians(position, quat, scale, opacity[:, 0], color[:, None])
    raw = RawGaussians.from_gaussians(Gaussians.from_activated(activated))
    for got, key in (
        (raw.means + 0.5, "out.inverse.xyz"),
        (raw.rotations, "out.inverse.rotation"),
        (raw.scales[9:], "out.inverse.scaling_from9"),
        (raw.opacities[9:, None], "out.inverse.opacity_from9"),
    ):
        torch.testing.assert_close(got, data[key], rtol=0, atol=1e-5)
