"""Evaluate Edit on a scene whose edit is known: exact numbers where they are exact, and a name for each network."""

from dataclasses import replace

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.scene import harmonics
from engine.scene.view_set import ViewSet
from engine.steps import evaluate_edit as step
from tests.engine.test_perceptual import clip_folder, random_lpips_files
from tests.scenes import RenderedFrames, capture_of, moving_scene

__all__ = ["clip_folder"]


def recoloured(scene, towards=(0.9, 0.2, 0.1), share=0.7):
    sh = scene.canonical.sh.clone()
    sh[:, 0] = sh[:, 0] * (1 - share) + harmonics.rgb_to_dc(torch.tensor(towards)) * share
    edited = scene.with_(canonical=scene.canonical.with_(sh=sh))
    return edited.with_history("fit_edits", prompt="make it red")


@pytest.fixture(scope="module")
def scenes():
    before = moving_scene(count=120, views=4, moments=4)
    return before, recoloured(before)


def measured(*args, **kwargs):
    return m.result(step.run(*args, **kwargs))


def view_set(scene, moments=(0, 0)):
    frames = RenderedFrames(scene)
    images = torch.stack([frames.read(v, t).image.float() / 255 for v, t in enumerate(moments)])
    seconds = tuple(float(scene.times[t]) for t in moments)
    return ViewSet(
        images, images, scene.rig[[0, 1]], (0, 1), moments, seconds, edit={"prompt": "make it red"}
    )


def test_the_true_scene_scores_best_and_an_unedited_one_worse(scenes):
    before, after = scenes
    truth = capture_of(after)
    right = measured(after, before, view_set(after), truth)
    wrong = measured(before, before, view_set(after), truth)
    for name in ("psnr", "psnr_subject", "ssim", "psnr_to_edits", "ssim_to_edits", "psnr_held_out"):
        assert right[name] > wrong[name], name
    assert right["psnr"] > 45 and right["ssim"] > 0.99
    assert right["deformation_equal"] == 1.0 and right["gaussian_count_delta"] == 0.0
    assert wrong["psnr_to_original"] == 120 and wrong["ssim_to_original"] == pytest.approx(1)
    assert {n.pictures for n in right.numbers if n.name in ("psnr", "psnr_to_original")} == {16}
    assert right.pictures.shape[0] == 4 and "psnr" in right.text()
    assert any("LPIPS" in line for line in right.missing) and any("CLIP" in line for line in right.missing)
    with pytest.raises(KeyError):
        right["clip_similarity"]


def test_a_scene_that_flickers_is_less_steady(scenes):
    before, after = scenes

    class Flickering:
        """The scene's own motion, with colors that jump from moment to moment."""

        kind = "flickering"

        def deform(self, gaussians, seconds):
            moved = before.deformation.deform(gaussians, seconds)
            g = torch.Generator().manual_seed(int(seconds * 1000))
            jump = torch.zeros_like(moved.sh)
            jump[:, 0] = 0.3 * torch.randn(len(moved), 3, generator=g)
            return moved.with_(sh=moved.sh + jump)

        def tensors(self):
            return {"other": torch.zeros(1)}

        def to(self, device):
            return self

    steady = measured(after, before)
    flickering = measured(replace(after, deformation=Flickering()), before)
    assert flickering["flow_warp_error"] > 2 * steady["flow_warp_error"]
    assert flickering["static_variance"] > 10 * steady["static_variance"]
    assert flickering["deformation_equal"] == 0.0 and steady["flow_warp_error_original"] > 0
    assert not {"psnr", "ssim"} & {n.name for n in steady.numbers}, "nothing to compare with: no such number"


def test_each_number_of_a_network_carries_its_name(scenes, clip_folder, tmp_path, monkeypatch):
    before, after = scenes
    weights, linear = random_lpips_files(tmp_path, "alex")
    monkeypatch.setattr("engine.losses.perceptual._linear_of_package", lambda kind: linear)
    config = step.Config(every=3, source_caption="a ball", target_caption="a red ball", wants_temporal=False)
    large = [replace(s, rig=s.rig.scaled(2)) for s in (before, after)]  # AlexNet wants a few pixels
    made = measured(
        large[1], large[0], None, capture_of(large[1]), config, clip=clip_folder, lpips_weights=weights
    )
    rows = made.summary["numbers"]
    for name in ("clip_similarity", "clip_c_adjacent", "clip_c_direction", "clip_direction"):
        assert rows[name]["model"] == "tiny-random-clip at 32 px", name
        assert -1 <= rows[name]["value"] <= 1
    assert rows["clip_similarity"]["pictures"] == 4, "the first moment of each view"
    assert (
        rows["lpips_alex (standard)"]["model"] == rows["lpips_alex (3dgs input range)"]["model"] == "alex.pth"
    )
    assert rows["psnr"]["model"] is None and not made.missing
    unchanged = measured(large[0], large[0], config=config, clip=clip_folder).summary
    assert "clip_direction" not in unchanged["numbers"], "no change has no direction"
    assert any("CLIP similarity" in line for line in unchanged["missing"]), "no prompt is known"


def test_undefined_directions_are_skipped_and_counted(scenes, clip_folder):
    before, after = scenes

    class Appearing:
        """The edit appears at the second moment: the first has no direction."""

        kind = "appearing"

        def deform(self, gaussians, seconds):
            return before.deformation.deform(gaussians if seconds > 0.1 else before.canonical, seconds)

        def tensors(self):
            return {}

        def to(self, device):
            return self

    config = step.Config(source_caption="a ball", target_caption="a red ball", wants_temporal=False)
    made = measured(replace(after, deformation=Appearing()), before, config=config, clip=clip_folder)
    number = {n.name: n for n in made.numbers}["clip_direction"]
    assert number.pictures == 12 and number.skipped == 4
    assert "4 undefined" in made.text()


def test_a_truth_of_other_cameras_or_times_is_refused(scenes):
    before, after = scenes
    with pytest.raises(InputError, match="same cameras"):
        measured(after, before, None, capture_of(moving_scene(count=20, views=5, moments=4)))
    late = capture_of(after)
    late = replace(late, times=late.times * 1.5)
    with pytest.raises(InputError, match="other times"):
        measured(after, before, None, late)
    with pytest.raises(InputError, match="edited from"):
        measured(after, moving_scene(count=20, views=5, moments=4))


def test_measuring_changes_nothing(scenes):
    before, after = scenes
    kept = [t.clone() for t in (before.canonical.sh, after.canonical.sh)]
    stream = step.run(after, before, view_set(after), capture_of(after))
    messages = list(stream)
    assert isinstance(messages[0], m.Started) and messages[0].total == 18
    assert [x.done for x in messages if isinstance(x, m.Progress)] == list(range(1, 19))
    assert torch.equal(kept[0], before.canonical.sh) and torch.equal(kept[1], after.canonical.sh)
