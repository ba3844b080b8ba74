"""The HexPlane field, its regularizers and the photometric losses against numbers of the reference implementation."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.deform import HexPlane
from engine.io.imports.fourdgaussians import field_from_state
from engine.losses import hexplane_regularizer, l1, l2, plane_smoothness, psnr, ssim, time_l1, time_smoothness
from engine.losses.regularizers import second_difference
from engine.scene import Gaussians, harmonics

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
DEFORM = sorted(p.parent for p in FIXTURES.glob("fourdgaussians_deform*/*/config.json"))
TV = sorted(FIXTURES.glob("hexplane_tv*/expected.json"))
LOSSES = sorted(p.parent for p in FIXTURES.glob("losses*/**/expected.json"))
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES"
)


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


def field_of(folder: Path) -> tuple[HexPlane, dict]:
    config = json.loads((folder / "config.json").read_text())
    heads = tuple(head for head, enabled in config["heads_enabled"].items() if enabled)
    rotation = bool(config["flags"].get("apply_rotation", False))
    return field_from_state(load_file(folder / "state.safetensors"), heads, rotation), config


@needs_fixtures
def test_there_are_fixtures():
    assert DEFORM
    assert TV
    assert LOSSES


@pytest.mark.parametrize("folder", DEFORM, ids=name)
def test_deformed_values_match_the_reference(folder: Path):
    field, config = field_of(folder)
    x, want = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    g = Gaussians(x["xyz"], x["scales_raw"], x["rotations_raw"], x["opacity_raw"][:, 0], x["shs"])
    for i, time in enumerate(x["times"].tolist()):
        got = field.deform(g, time)
        activated = got.activated()
        assert torch.allclose(
            field.features(g.means, [time]).T, want["debug.grid_features"][i], rtol=0, atol=1e-4
        )
        pairs = {
            "raw.means": got.means,
            "raw.scales": got.log_scales,
            "raw.rotations": got.quats,
            "raw.opacity": got.logit_opacities[:, None],
            "raw.shs": got.sh,
            "act.scales": activated.scales,
            "act.rotations": activated.quats,
            "act.opacity": activated.opacities[:, None],
        }
        for key, value in pairs.items():
            torch.testing.assert_close(
                value, want[key][i], rtol=0, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}"
            )
        for head, key in (
            ("position", "means"),
            ("scale", "log_scales"),
            ("rotation", "quats"),
            ("sh", "sh"),
        ):
            if not config["heads_enabled"][head]:
                assert torch.equal(getattr(got, key), getattr(g, key))


@pytest.mark.parametrize("file", TV, ids=name)
def test_regularisers_match_the_reference(file: Path):
    for config in json.loads(file.read_text())["configs"].values():
        state = (file.parent / config["state"]).resolve()
        field, _ = field_of(state.parent)
        want = config["float32"]
        planes = field.planes()
        assert plane_smoothness(planes).item() == pytest.approx(want["plane_smoothness"], rel=1e-5)
        assert time_smoothness(planes).item() == pytest.approx(want["time_smoothness"], rel=1e-5)
        assert time_l1(planes).item() == pytest.approx(want["l1_time_planes"], rel=1e-5)
        weights = want["weights"]
        total = hexplane_regularizer(
            field.grids,
            field.grid_layout,
            weights["plane_tv_weight"],
            weights["time_smoothness_weight"],
            weights["l1_time_planes"],
        )
        assert total.item() == pytest.approx(want["weighted_total"], rel=1e-5)
        total.backward()
        assert field.grids.grad is not None
        gradients = field.grid_layout.planes(field.grids.grad)
        for entry in want["planes"]:
            plane = planes[entry["level"]][entry["plane"]]
            assert list(plane.shape) == entry["shape"]
            assert second_difference(plane).item() == pytest.approx(
                entry["second_difference_mean_square"], rel=1e-5
            )
            gradient = gradients[entry["level"]][entry["plane"]]
            assert gradient.norm().item() == pytest.approx(entry["grad_of_weighted_total_l2"], rel=1e-4)


@pytest.mark.parametrize("folder", LOSSES, ids=name)
def test_losses_match_the_reference(folder: Path):
    data, expected = (
        load_file(folder / "data.safetensors"),
        json.loads((folder / "expected.json").read_text()),
    )
    for entry in expected["pairs"]:
        prefix = f"pair{entry['pair']}."
        a = data[prefix + "a"].clone().requires_grad_()
        x, y = a, data[prefix + "b"]
        value = ssim(x, y)
        torch.testing.assert_close(value, data[prefix + "ssim_per_image"], rtol=0, atol=1e-5)
        assert value.mean().item() == pytest.approx(entry["ssim"], abs=1e-5)
        value.mean().backward()
        torch.testing.assert_close(a.grad, data[prefix + "ssim_grad_a"], rtol=0, atol=1e-6)
        assert l1(x, y).item() == pytest.approx(entry["l1"], abs=1e-6)
        assert l2(x, y).item() == pytest.approx(entry["l2"], abs=1e-6)
        torch.testing.assert_close(psnr(x, y).detach(), data[prefix + "psnr_per_image"], rtol=0, atol=1e-4)
        assert ssim(x, x).mean().item() == pytest.approx(entry["ssim_identical"], abs=1e-6)


@pytest.mark.parametrize("folder", LOSSES, ids=name)
def test_spherical_harmonics_match_the_reference(folder: Path):
    data = load_file(folder / "data.safetensors")
    for degree in range(4):
        got = harmonics.evaluate(data["sh.coeffs"], data["sh.dirs"], degree)
        torch.testing.assert_close(got, data[f"sh.eval_deg{degree}"], rtol=0, atol=2e-6)
        got = harmonics.colors(data["sh.coeffs"], data["sh.dirs"], degree)
        torch.testing.assert_close(got, data[f"sh.color_deg{degree}"], rtol=0, atol=2e-6)
    torch.testing.assert_close(harmonics.rgb_to_dc(data["sh.rgb"]), data["sh.rgb_to_dc"], rtol=0, atol=2e-6)
