"""Evaluate Edit in the settings of Edit3DGS on a tiny head whose edit is known: rows, columns, and what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import messages as m
from engine.cli import main
from engine.deform.head_scenes import bound_mesh_of, motion_of
from engine.errors import InputError
from engine.heads import Head
from engine.io.scene_file import save_scene
from engine.io.selection_file import save_selection
from engine.losses.means import Number
from engine.masks.head_regions import select_part
from engine.masks.lift import render_selection
from engine.render import choose
from engine.scene import MultiViewVideo, Scene4D, Selection, harmonics
from engine.steps import evaluate_edit as step
from engine.train.edit_settings import CROSS, HELD, NOVEL, OWN, SELF, SELF_DRIVEN, SettingInputs, settings_of
from engine.train.setting_table import SettingRow, SettingTable
from tests.engine.test_edit_head import rig
from tests.engine.test_head_steps import scene_of
from tests.engine.test_perceptual import clip_folder
from tests.scenes import capture_of, moving_scene
from tests.tiny_head import tiny_head

__all__ = ["clip_folder"]

CONFIG = step.Config(rasterizer="torch", wants_temporal=False, pictures=0)
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.2, 0.8)


@pytest.fixture(scope="module")
def head() -> Head:
    made = tiny_head(frames=5)
    # in front of the cameras, so that eyes and mouth are seen
    regions = {"lips": torch.arange(25, 27), "left_eyeball": torch.tensor([17, 18, 24, 32])}
    calm = {name: 0.1 * getattr(made.motion, name) for name in ("rotation", "jaw_pose", "neck_pose")}
    return Head(replace(made.model, regions=regions), made.motion.with_(**calm))


@pytest.fixture(scope="module")
def before(head: Head) -> Scene4D:
    return scene_of(head).with_(rig=rig())


@pytest.fixture(scope="module")
def capture(before: Scene4D) -> MultiViewVideo:
    """The second of 3 cameras and the last 2 of 5 frames are held out."""
    return replace(capture_of(before, test_views=(1,)), test_moments=(3, 4))


def recolored(scene: Scene4D, chosen: torch.Tensor, color: tuple[float, ...] = RED) -> Scene4D:
    sh = scene.canonical.sh.clone()
    sh[chosen, 0] = harmonics.rgb_to_dc(torch.tensor(color))
    return scene.with_(canonical=scene.canonical.with_(sh=sh)).with_history("fit_edits", prompt="make it red")


def measured(
    scene: Scene4D, original: Scene4D | None = None, config: step.Config = CONFIG, **inputs: Any
) -> step.EditEvaluation:
    return m.result(step.run(scene, original, config=config, **inputs))


def test_an_unedited_pair_is_at_the_cap_and_changes_nothing(
    head: Head, before: Scene4D, capture: MultiViewVideo
) -> None:
    region = select_part(before, head.model, "lips")
    made = measured(before, before, head=head, capture=capture, driver=tiny_head(seed=3), region=region)
    assert [row.name for row in made.settings.rows] == [NOVEL, SELF, CROSS]
    for row in made.settings.rows:
        assert row["psnr_eyes"] == row["psnr_mouth"] == 120
        assert row["ssim_eyes"] == pytest.approx(1) and row["ssim_mouth"] == pytest.approx(1)
        assert row["change_inside"] == row["change_outside"] == 0


def test_rows_hold_the_held_out_cameras_and_frames_alone(before: Scene4D, capture: MultiViewVideo) -> None:
    novel, own = settings_of(before, before, SettingInputs(capture=capture), 1)[0]
    assert (novel.name, novel.views, novel.seconds) == (NOVEL, (1,), tuple(before.times[:3].tolist()))
    assert (own.name, own.views, own.seconds) == (SELF, (0, 1, 2), tuple(before.times[3:].tolist()))
    thinned = settings_of(before, before, SettingInputs(capture=capture), 2)[0]
    assert thinned[0].seconds == tuple(before.times[:3:2].tolist())
    assert thinned[1].seconds == tuple(before.times[3:4].tolist())


def test_an_edit_of_held_out_frames_alone_shows_in_self_reenactment_alone(
    head: Head, before: Scene4D, capture: MultiViewVideo
) -> None:
    mesh = bound_mesh_of(before)
    frames = mesh.frames.clone()
    frames[3:] += 0.01
    made = measured(before.with_(deformation=mesh.with_(frames=frames)), before, head=head, capture=capture)
    assert made.settings[NOVEL]["psnr_mouth"] == 120
    assert made.settings[SELF]["psnr_mouth"] < 60


def test_a_recolor_of_a_region_changes_the_region_alone(before: Scene4D) -> None:
    still = before.with_(rig=before.rig[0], times=before.times[:1])
    # nothing hides the nearest ones, so that no trace of them shines through elsewhere
    depths = still.at(0.0).means @ still.rig.forward[0].float()
    chosen = depths.argsort()[:8]
    region = Selection(torch.zeros(len(depths)).index_fill(0, chosen, 1.0))
    blue = recolored(still, chosen, BLUE)
    row = measured(recolored(blue, chosen), blue, region=region).settings[OWN]
    share = render_selection(blue, region, blue.rig, [0.0], choose("torch"))
    color = (torch.tensor(RED) - torch.tensor(BLUE)).abs().mean()
    assert row["change_outside"] == 0
    assert row["change_inside"] == pytest.approx(float(share[share >= 0.5].mean() * color), rel=1e-4)
    elsewhere = recolored(blue, depths.argsort()[8:])
    assert measured(elsewhere, blue, region=region).settings[OWN]["change_outside"] > 0.01


def test_masked_psnr_sees_the_mask_alone(head: Head, before: Scene4D) -> None:
    one_view = before.with_(rig=before.rig[0])
    mouth = select_part(before, head.model, "mouth").weights > 0
    row = measured(recolored(one_view, mouth), one_view, head=head).settings[OWN]
    assert row["psnr_mouth"] < row["psnr_eyes"] - 3 and row["ssim_mouth"] < row["ssim_eyes"]


def test_a_cross_identity_driver_moves_both_scenes_and_keeps_their_shape(head: Head, before: Scene4D) -> None:
    driver = tiny_head(frames=7, seed=6)
    assert not torch.allclose(driver.motion.shape, head.motion.shape)
    after = recolored(before, torch.arange(10))
    driven = settings_of(after, before, SettingInputs(head, driver=driver), 1)[0][-1]
    assert driven.name == CROSS and driven.seconds == tuple(driver.motion.times.tolist())
    for scene, source in ((driven.scene, after), (driven.original, before)):
        motion = motion_of(scene, head.model)
        assert torch.equal(motion.shape, head.motion.shape)
        assert torch.equal(scene.canonical.sh, source.canonical.sh)
        torch.testing.assert_close(motion.expr.diff(dim=0), driver.motion.expr.diff(dim=0))
    as_is = settings_of(after, before, SettingInputs(head, driver=driver, is_relative=False), 1)[0][-1]
    assert torch.equal(motion_of(as_is.scene, head.model).expr, driver.motion.expr)


def test_a_driver_with_the_own_shape_is_not_called_another_person(head: Head, before: Scene4D) -> None:
    other = tiny_head(frames=4, seed=6).motion.with_(shape=head.motion.shape)
    made = measured(before, before, head=head, driver=Head(head.model, other))
    assert [row.name for row in made.settings.rows] == [OWN, SELF_DRIVEN]
    assert any("the scene's own shape coefficients" in line for line in made.missing)


def test_clip_s_and_clip_c_come_in_both_definitions(
    head: Head, before: Scene4D, capture: MultiViewVideo, clip_folder: Path
) -> None:
    captions = {"source_caption": "a head", "target_caption": "a red head"}
    config = replace(CONFIG, **captions)
    after = recolored(before, torch.arange(len(before.canonical)))
    made = measured(after, before, config=config, head=head, capture=capture, clip=clip_folder)
    novel = {n.name: n for n in made.settings[NOVEL].numbers}
    names = ("clip_s_sim", "clip_s_dir", "clip_c_adjacent", "clip_c_direction")
    assert all(novel[name].model == "tiny-random-clip at 32 px" for name in names)
    # neighbors are frames of one camera
    assert [novel[name].pictures for name in names] == [3, 3, 2, 2]
    own = {n.name: n.pictures for n in made.settings[SELF].numbers}
    assert [own[name] for name in names] == [6, 6, 3, 3]
    assert "clip_s_sim is the similarity with 'a red head' (tiny-random-clip at 32 px)." in made.missing

    swapped = replace(config, source_caption="a red head", target_caption="a head")
    back = measured(after, before, config=swapped, head=head, capture=capture, clip=clip_folder)
    assert back.settings[NOVEL]["clip_s_dir"] == pytest.approx(-novel["clip_s_dir"].value, abs=1e-5)
    undone = measured(before, after, config=config, head=head, capture=capture, clip=clip_folder)
    assert undone.settings[NOVEL]["clip_s_dir"] == pytest.approx(-novel["clip_s_dir"].value, abs=1e-5)


def test_a_sentence_stands_for_each_number_that_is_missing(
    head: Head, before: Scene4D, clip_folder: Path
) -> None:
    nothing = measured(before, before, capture=capture_of(before, test_views=()))
    text = "\n".join(nothing.missing)
    for words in (
        "LPIPS was skipped",
        "CLIP metrics were skipped",
        "novel view was skipped; rendered holds out no camera.",
        "self-reenactment was skipped; rendered holds out no frame.",
        "cross-identity was skipped; connect another person's motion",
        "Eyes and mouth were skipped; connect the head model",
        "Change inside and outside the edit was skipped",
        "Flow-warped error was skipped",
        "Identity similarity is not measured",
    ):
        assert words in text
    assert "connect the head model" in "\n".join(measured(before, before, driver=head).missing)
    no_eyes = Head(replace(head.model, regions={"lips": head.model.regions["lips"]}), head.motion)
    assert "'eyes' was skipped; tiny head does not say where it is" in "\n".join(
        measured(before, before, head=no_eyes).missing
    )
    assert "they need the scene before the edit" in "\n".join(measured(before, head=head).missing)
    captions = {"source_caption": "a head", "target_caption": "a red head"}
    lonely = before.with_(times=before.times[:1])
    alone = measured(lonely, lonely, config=replace(CONFIG, **captions), head=head, clip=clip_folder).missing
    assert "scene's views: clip_c_adjacent, clip_c_direction undefined; it takes two frames." in alone
    assert "scene's views: clip_s_dir undefined; the edit changes no image." in alone


def test_a_scene_without_a_head_has_no_rows_and_sentences_of_heads() -> None:
    scene = moving_scene(count=30, views=3, moments=4)
    capture = replace(capture_of(scene), test_moments=(2,))
    made = measured(scene, scene, capture=capture, region=Selection(torch.ones(30)))
    assert [row.name for row in made.settings.rows] == [NOVEL, HELD]
    assert not [line for line in made.missing if "dentity" in line or "reenactment" in line or "Eyes" in line]
    with pytest.raises(InputError, match="is not a head's"):
        measured(scene, scene, head=tiny_head())


def test_steadiness_stands_beside_that_of_the_unedited_scene(head: Head, before: Scene4D) -> None:
    row = measured(before, before, config=replace(CONFIG, wants_temporal=True), head=head).settings[OWN]
    assert row["flow_warp_error"] == row["flow_warp_error_original"] > 0


def test_without_the_new_inputs_the_report_stays_as_it_was(before: Scene4D) -> None:
    made = measured(recolored(before, torch.arange(10)), before)
    assert set(made.summary) == {"numbers", "missing"} and len(made.settings) == 0
    assert len(made.missing) == 2 and "setting" not in made.text()


def test_the_table_is_text_of_fixed_columns() -> None:
    rows = (
        SettingRow("novel view", 6, (Number("psnr_eyes", 31.25, 6), Number("clip_s_sim", 0.269, 6, "clip"))),
        SettingRow("cross-identity", 120, (Number("clip_s_sim", 0.0741, 120, "clip"),)),
    )
    assert SettingTable(rows).text().splitlines() == [
        "setting         clip_s_sim  psnr_eyes  images",
        "novel view          0.2690    31.2500       6",
        "cross-identity      0.0741          –     120",
    ]


def test_each_setting_shows_one_comparison_row(head: Head, before: Scene4D, capture: MultiViewVideo) -> None:
    config = replace(CONFIG, pictures=1)
    made = measured(before, before, config=config, head=head, capture=capture, driver=tiny_head(seed=3))
    assert len(made.pictures) == len(made.titles) == 4
    assert [title.split(" · ")[-1] for title in made.titles[1:]] == [NOVEL, SELF, CROSS]


def test_what_belongs_to_another_scene_is_refused(
    head: Head, before: Scene4D, capture: MultiViewVideo
) -> None:
    late = replace(capture, times=capture.times * 1.5)
    with pytest.raises(InputError, match="other times"):
        measured(before, before, capture=late)
    with pytest.raises(InputError, match="lift it again"):
        measured(before, before, region=Selection(torch.ones(7)))
    with pytest.raises(InputError, match="2 expression coefficients, the head has 3"):
        measured(before, before, head=head, driver=tiny_head(expressions=2))


def test_the_verb_prints_the_table_and_its_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    head: Head,
    before: Scene4D,
) -> None:
    loaded: list[Any] = []

    def load(model: Any, motion: Any, fps: float) -> Head:
        loaded.append(motion)
        return tiny_head(seed=3) if motion else head

    monkeypatch.setattr("engine.cli.kinds.load_head", load)
    save_scene(before, tmp_path / "before.safetensors")
    save_scene(recolored(before, torch.arange(10)), tmp_path / "after.safetensors")
    save_selection(select_part(before, head.model, "lips"), tmp_path / "lips.safetensors")
    words = ["evaluate-edit", "--scene", str(tmp_path / "after.safetensors"), "--pictures", "0"]
    words += [
        "--original",
        str(tmp_path / "before.safetensors"),
        "--region",
        str(tmp_path / "lips.safetensors"),
    ]
    words += ["--head-model", "tiny.npz", "--driver", "driver.npz", "--every", "2", "--no-wants-temporal"]
    words += ["--rasterizer", "torch", "--device", "cpu"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(report["settings"]) == [OWN, CROSS] and loaded == [None, "driver.npz"]
    assert report["settings"][CROSS]["images"] == 6
    assert report["settings"][CROSS]["psnr_mouth"]["value"] > 0
    assert main(words) == 0
    assert "setting" in capsys.readouterr().out
