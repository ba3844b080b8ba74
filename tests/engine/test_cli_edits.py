"""The verbs of prompt editing on a tiny scene and a tiny model of RANDOM weights: files in, files out, resumed, refused."""

import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from engine import messages as m
from engine.cli import main
from engine.io.scene_file import load_scene, save_scene
from engine.io.selection_file import load_selection, save_selection
from engine.io.view_folder import load_views
from engine.scene import Selection
from engine.steps import edit_views
from tests.conftest import ROOT
from tests.scenes import moving_scene
from tests.tiny_diffusion import tiny_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp("models") / "tiny-random")
    (folder / "gs4d.json").write_text(json.dumps({"recommended": {"steps": 2, "resolution": 32}}))
    return folder


def still_motion():
    """A scene whose motion a file can hold."""
    from engine.scene import Static

    return moving_scene(count=60, views=3, moments=3).with_(deformation=Static())


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.safetensors"
    save_scene(still_motion(), path)
    return path


def told(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def verb(*words):
    return main([str(word) for word in (*words, "--json", "--device", "cpu")])


QUICK = ("--fit-iterations", 3, "--refine-iterations", 2, "--resolution", 32, "--refine-resolution", 32)


def test_a_scene_is_edited_refined_and_measured(tmp_path, scene, model, capsys):
    out, views = tmp_path / "edited.safetensors", tmp_path / "views"
    command = ("edit", "--scene", scene, "--model", model, "--prompt", "make it night", *QUICK)
    assert verb(*command, "--out", out, "--keep-views", views, "--refine") == 0
    assert told(capsys)["gaussians"] == 60
    before, after = load_scene(scene), load_scene(out)
    assert [entry["step"] for entry in after.history] == ["fit_edits", "refine_score"]
    assert {entry["prompt"] for entry in after.history} == {"make it night"}
    assert not torch.equal(before.canonical.sh, after.canonical.sh)
    assert torch.equal(before.canonical.quats, after.canonical.quats), (
        "the paper's preset leaves rotations alone"
    )
    assert not list(tmp_path.glob("edited.*.safetensors")), "unfinished work is cleared away at the end"
    assert len(load_views(views)) == 3
    sheet = tmp_path / "sheet.png"
    words = ("evaluate-edit", "--scene", out, "--original", scene, "--views", views, "--sheet", sheet)
    assert verb(*words) == 0
    numbers = told(capsys)["numbers"]
    assert numbers["deformation_equal"]["value"] == 1.0 and "psnr_to_edits" in numbers
    assert Image.open(sheet).width == 4 * 48


def test_masks_say_what_the_edited_views_keep(tmp_path, scene, model, capsys):
    masks, views = tmp_path / "masks", tmp_path / "views"
    masks.mkdir()
    for i in range(3):
        mask = Image.new("L", (96, 80))
        mask.paste(255, (0, 0, 96, 40))
        mask.save(masks / f"{i}.png")
    command = ("edit", "--scene", scene, "--model", model, "--prompt", "make it night", *QUICK)
    more = ("--keep", masks, "--keep-feather", 1, "--background", "as edited", "--keep-views", views)
    attention = ("--attention", "epipolar", "--frames-at-once", 2)
    assert verb(*command, "--out", tmp_path / "edited.safetensors", *more, *attention, "--refine") == 0
    kept = load_views(views)
    upper = (kept.images - kept.originals)[:, : kept.size[1] // 2 - 4].abs()
    assert float(upper.max()) <= 1 / 255 + 1e-6
    assert float((kept.images - kept.originals).abs().max()) > 0.02
    assert kept.edit["keeps"] and kept.edit["attention"] == "epipolar"
    free, pinned = tmp_path / "free.safetensors", tmp_path / "pinned.safetensors"
    again = (*command, "--use-views", views)
    assert verb(*again, "--out", free) == 0 == verb(*again, "--out", pinned, "--pin", masks)
    assert not torch.equal(load_scene(free).canonical.sh, load_scene(pinned).canonical.sh)
    (masks / "2.png").unlink()
    assert verb(*command, "--out", tmp_path / "other.safetensors", *more) == 1
    assert "keep has 2 masks, but there are 3 images" in capsys.readouterr().out


def test_replaced_pictures_are_what_is_fitted(tmp_path, scene, model, capsys):
    views, out = tmp_path / "views", tmp_path / "red.safetensors"
    assert verb("scene-views", "--scene", scene, "--out", views) == 0
    for path in (views / "edited").iterdir():
        Image.new("RGB", (48, 40), "red").save(path)
    assert verb("edit", "--scene", scene, "--use-views", views, "--out", out, "--fit-iterations", 60) == 0
    other = tmp_path / "also_red.safetensors"
    assert verb("fit-edits", "--scene", scene, "--views", views, "--out", other, "--iterations", 60) == 0
    edited, before = load_scene(out), load_scene(scene)
    dc = (edited.canonical.sh - before.canonical.sh)[:, 0].mean(0)
    assert dc[0] > 0 > max(dc[1], dc[2]), "redder, and no model was needed"
    assert torch.equal(edited.canonical.sh, load_scene(other).canonical.sh)


def test_an_edit_stopped_in_a_later_stage_does_not_edit_its_views_again(
    tmp_path, scene, model, capsys, monkeypatch
):
    from engine.steps import fit_edits

    out = tmp_path / "edited.safetensors"
    command = ("edit", "--scene", scene, "--model", model, "--prompt", "make it red", *QUICK, "--out", out)
    own = fit_edits.run

    def interrupted(*args, **kwargs):
        yield next(own(*args, **kwargs))
        raise KeyboardInterrupt

    whole_fit = fit_edits.STEP
    monkeypatch.setattr(fit_edits, "STEP", replace(whole_fit, run=interrupted))
    assert verb(*command) == 130
    assert (tmp_path / "edited.editing.safetensors").is_file() and not out.exists()
    monkeypatch.setattr(fit_edits, "STEP", whole_fit)
    steps = []
    whole = edit_views.run

    def counted(*args, **kwargs):
        for message in whole(*args, **kwargs):
            steps.extend([message.done] if isinstance(message, m.Progress) else [])
            yield message

    monkeypatch.setattr(edit_views, "STEP", replace(edit_views.STEP, run=counted))
    assert verb(*command) == 0
    assert steps == [], "the edited views came from the checkpoint"
    assert out.is_file() and not (tmp_path / "edited.editing.safetensors").exists()


def test_a_lifted_mask_limits_what_changes(tmp_path, scene, model, capsys):
    views, masks, selection = tmp_path / "views", tmp_path / "masks", tmp_path / "upper.safetensors"
    assert verb("scene-views", "--scene", scene, "--out", views) == 0
    masks.mkdir()
    for path in (views / "originals").iterdir():
        mask = Image.new("L", (48, 40), 0)
        mask.paste(255, (0, 0, 48, 20))
        mask.save(masks / path.name)
    assert verb("lift-mask", "--scene", scene, "--views", views, "--masks", masks, "--out", selection) == 0
    report = told(capsys)
    assert 0 < report["selected"] < 60
    assert f"{report['selected']} of 60" in report["notes"][0]
    out = tmp_path / "local.safetensors"
    common = ("--scene", scene, "--model", model, "--prompt", "make it red", "--selection", selection)
    assert verb("edit", *common, *QUICK, "--out", out) == 0
    weights = load_selection(selection).weights
    before, after = load_scene(scene).canonical.sh, load_scene(out).canonical.sh
    assert torch.equal(before[weights == 0], after[weights == 0])
    assert not torch.equal(before[weights > 0], after[weights > 0])


def test_refine_alone(tmp_path, scene, model, capsys):
    out = tmp_path / "refined.safetensors"
    words = ("refine", "--scene", scene, "--model", model, "--prompt", "make it red", "--iterations", 2)
    assert verb(*words, "--resolution", 32, "--out", out) == 0
    assert load_scene(out).history[-1]["step"] == "refine_score"


@pytest.mark.parametrize(
    "words, told",
    [
        (("edit", "--prompt", ""), "prompt is empty"),
        (("edit", "--prompt", "x", "--views", "9"), "9"),
        (("edit", "--prompt", "x", "--selection", "absent.safetensors"), "absent.safetensors does not exist"),
        (("edit", "--prompt", "x", "--model", "absent"), "No model found at"),
        (("fit-edits", "--views", "absent"), "absent"),
        (("evaluate-edit", "--clip", "absent"), "not a CLIP folder"),
        (("evaluate-edit", "--lpips", "absent.pth"), "absent.pth (LPIPS weights) was not found"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path, scene, model, capsys, words, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *rest = words
    own = () if first == "evaluate-edit" else ("--out", tmp_path / "out.safetensors")
    own += ("--model", model) if first == "edit" and "--model" not in rest else ()
    assert verb(first, "--scene", scene, *own, *rest) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert told in err[-1] and "Traceback" not in " ".join(err)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_selection_is_itself_after_saving_and_refused_when_it_is_none(tmp_path, scene, capsys):
    selection = Selection(torch.rand(60))
    path = save_selection(selection, tmp_path / "deep" / "some.safetensors")
    assert torch.equal(load_selection(path).weights, selection.weights)
    from engine.errors import InputError

    with pytest.raises(InputError, match="not a selection"):
        load_selection(scene)
    save_selection(replace(selection, weights=torch.full((3,), 2.0)), path)
    with pytest.raises(InputError, match="outside 0 to 1"):
        load_selection(path)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(InputError, match="damaged"):
        load_selection(path)


def test_too_few_masks_are_counted(tmp_path, scene, capsys):
    views, masks = tmp_path / "views", tmp_path / "masks"
    assert verb("scene-views", "--scene", scene, "--out", views) == 0
    masks.mkdir()
    for name in "ab":
        Image.new("L", (48, 40), 255).save(masks / f"{name}.png")
    words = (
        "lift-mask",
        "--scene",
        scene,
        "--views",
        views,
        "--masks",
        masks,
        "--out",
        tmp_path / "s.safetensors",
    )
    assert verb(*words) == 1
    assert "contains 2 mask images for 3 views" in capsys.readouterr().err
    for name in "bc":
        Image.new("L", (90, 20), 255).save(masks / f"{name}.png")
    assert verb(*words) == 1
    assert "90×20" in capsys.readouterr().err


def test_the_fit_has_the_numbers_of_the_workflow(capsys):
    """What `edit` says of its default is what the shipped graph sets."""
    graph = json.loads((ROOT / "workflows" / "instruct_4dgs.json").read_text(encoding="utf-8"))
    (fit,) = (node for node in graph["nodes"] if node["type"] == "GS4D_FitEdits")
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    (default,) = re.findall(r"--fit-iterations INT [^(]*\(default (\d+)\)", words)
    assert int(default) in fit["widgets_values"]
