"""Splats become scenes: one stands still, several are a flip-book that meets each of them exactly."""

from pathlib import Path

import pytest
import torch

from engine.deform import KINDS
from engine.deform.per_frame import PerFrame
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.scene import Gaussians, Scene4D
from engine.steps import splat_to_scene
from tests.scenes import moving_scene


def moments_of(scene: Scene4D, count: int) -> list[Gaussians]:
    return [scene.at(float(t)) for t in torch.linspace(0, 1.5, count)]


def test_every_moment_comes_back() -> None:
    moments = moments_of(moving_scene(), 5)
    scene = splat_to_scene.make(moments, splat_to_scene.Config(fps=4.0))
    assert torch.allclose(scene.times, torch.arange(5, dtype=torch.float64) / 4)
    for moment, seconds in zip(moments, scene.times.tolist(), strict=True):
        got = scene.at(seconds)
        for name, wanted in moment.activated().__dict__.items():
            value = getattr(got.activated(), name)
            if name == "quats":  # of either sign
                value = value * torch.sign((value * wanted).sum(-1, keepdim=True))
            assert torch.allclose(value, wanted, atol=1e-5), name


def test_the_first_moment_is_the_canonical_gaussians_bit_for_bit() -> None:
    moments = moments_of(moving_scene(), 3)
    scene = splat_to_scene.make(moments)
    for got, wanted in zip(scene.at(0.0).tensors().values(), moments[0].tensors().values(), strict=True):
        assert torch.equal(got, wanted)
    assert scene.at(-1.0).means.equal(moments[0].means)


def test_between_moments_it_blends_or_holds() -> None:
    moments = moments_of(moving_scene(), 3)
    blended = splat_to_scene.make(moments, splat_to_scene.Config(fps=1.0)).at(0.25).means
    assert torch.allclose(blended, torch.lerp(moments[0].means, moments[1].means, 0.25), atol=1e-6)
    config = splat_to_scene.Config(fps=1.0, blends_moments=False)
    held = splat_to_scene.make(moments, config)
    assert held.at(0.99).means.equal(moments[0].means)
    assert torch.allclose(held.at(1.0).means, moments[1].means, atol=1e-6)
    assert torch.allclose(held.at(7.0).means, moments[2].means, atol=1e-6)


def test_the_same_rotation_with_the_other_sign_does_not_spin() -> None:
    first = moving_scene().canonical
    flipped = first.with_(quats=-first.quats * 3)
    between = splat_to_scene.make([first, flipped], splat_to_scene.Config(fps=1.0)).at(0.5)
    unit = torch.nn.functional.normalize(first.quats, dim=-1)
    assert torch.allclose((between.activated().quats * unit).sum(-1).abs(), torch.ones(len(first)), atol=1e-5)


def test_unlike_counts_are_padded_with_what_cannot_be_seen_and_never_blended() -> None:
    small, large = moving_scene(count=20).canonical, moving_scene(count=50, seed=1).canonical
    scene = splat_to_scene.make([small, large], splat_to_scene.Config(fps=1.0))
    shown = scene.at(0.5).activated()
    assert len(shown.means) == 50
    assert (shown.opacities > 1e-4).sum() == 20 and torch.equal(shown.means[:20], small.means)
    assert (scene.at(1.0).activated().opacities > 1e-4).sum() == 50


def test_one_splat_stands_still_and_cameras_see_all_of_it() -> None:
    gaussians = moving_scene().canonical
    for up in ("y up", "y down", "z up"):
        scene = splat_to_scene.make([gaussians], splat_to_scene.Config(up=up))
        assert scene.deformation.kind == "still" and scene.duration == 0
        for view in range(len(scene.rig)):
            pixels, depth = scene.rig.project(gaussians.means.double(), view)
            assert (depth > 0).all() and (pixels > 0).all() and (pixels < 512).all()


def test_splats_that_cannot_be_seen_still_have_bounds() -> None:
    gaussians = moving_scene(count=20).canonical
    unseen = gaussians.with_(logit_opacities=torch.full((20,), -15.0))
    assert torch.isfinite(splat_to_scene.make([unseen]).bounds).all()


def test_a_flipbook_is_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    scene = splat_to_scene.make(moments_of(moving_scene(), 4))
    again = load_scene(save_scene(scene, tmp_path / "flip.safetensors"))
    assert KINDS["flipbook"] is PerFrame and isinstance(again.deformation, PerFrame)
    for seconds in (0.0, 0.03, 0.1):
        for a, b in zip(
            scene.at(seconds).tensors().values(), again.at(seconds).tensors().values(), strict=True
        ):
            assert torch.equal(a, b)


def test_gradients_reach_the_canonical_gaussians() -> None:
    scene = splat_to_scene.make(moments_of(moving_scene(), 3))
    leaf = scene.canonical.means.clone().requires_grad_()
    scene.deformation.deform(scene.canonical.with_(means=leaf), 0.05).means.sum().backward()
    assert leaf.grad is not None and leaf.grad.eq(1).all()


def test_what_cannot_be_a_scene_is_one_sentence() -> None:
    gaussians = moving_scene(count=5).canonical
    broken = gaussians.with_(means=gaussians.means * float("nan"))
    with pytest.raises(InputError, match="does not contain Gaussians"):
        splat_to_scene.make([gaussians.map(lambda t: t[:0])])
    with pytest.raises(InputError, match="NaN or infinite"):
        splat_to_scene.make([gaussians, broken])
    scene = splat_to_scene.make(moments_of(moving_scene(), 2))
    with pytest.raises(InputError, match="stored for 200 Gaussians"):
        scene.deformation.deform(gaussians, 0.0)


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"seconds": torch.tensor([0.0, 0.0])},
        {"seconds": torch.tensor([0.0, 1.0]), "means": torch.zeros(3, 4, 3)},
        {"seconds": torch.tensor([0.0, 1.0]), "means": torch.zeros(2, 4, 3), "sh": torch.zeros(2, 5, 1, 3)},
        {"seconds": torch.tensor([0.0]), "other": torch.zeros(1)},
    ],
)
def test_a_lying_file_is_refused(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(InputError):
        PerFrame.from_parts({}, tensors)
