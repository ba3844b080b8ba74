"""The verbs of editing in latent space on a tiny scene and a tiny model of RANDOM weights: files in, files out, resumed."""

import json
from dataclasses import replace

import pytest
import torch

from engine.cli import main
from engine.io.scene_file import load_scene, save_scene
from engine.io.selection_file import save_selection
from engine.io.view_folder import load_views
from engine.latent.files import load_field
from engine.scene import Selection, Static
from engine.steps import delta_edit
from tests.scenes import moving_scene
from tests.tiny_diffusion import tiny_folder

PROMPTS = ("--source-prompt", "a person", "--prompt", "a gold statue")


def verb(*words):
    return main([str(word) for word in (*words, "--json", "--device", "cpu")])


def told(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A scene, two models and a latent field of the scene."""
    folder = tmp_path_factory.mktemp("latents")
    for name, seed in (("model", 0), ("other", 5)):
        model = tiny_folder(folder / name, seed=seed)
        (model / "gs4d.json").write_text(json.dumps({"recommended": {"steps": 2, "resolution": 32}}))
    scene = moving_scene(count=60, views=3, moments=3).with_(deformation=Static())
    save_scene(scene, folder / "scene.safetensors")
    words = ("--scene", folder / "scene.safetensors", "--model", folder / "model", "--iterations", 3)
    assert verb("train-latents", *words, "-o", folder / "field.safetensors") == 0
    return folder


def test_from_scene_to_field_to_edit_to_scene(made, tmp_path, capsys):
    model = ("--model", made / "model")
    edited, out = tmp_path / "edited.safetensors", tmp_path / "scene.safetensors"
    words = ("delta-edit", "--field", made / "field.safetensors", *model, *PROMPTS, "--iterations", 3)
    assert verb(*words, "-o", edited) == 0
    report = told(capsys)
    assert report["gaussians"] == 60 and report["latents"] == [4, 3, 4]
    before, after = load_field(made / "field.safetensors"), load_field(edited)
    assert not torch.equal(before.features, after.features)
    assert after.before is not None and torch.equal(after.before.features, before.features)
    assert [e["step"] for e in after.scene.history] == ["train_latents", "delta_edit"]
    views = tmp_path / "views"
    assert verb("decode-latents", "--field", edited, *model, "--moments", "0 2", "-o", views) == 0
    assert told(capsys)["views"] == len(load_views(views)) == 6
    words = ("latents-to-scene", "--field", edited, *model, "--moments", "0", "--iterations", 3)
    assert verb(*words, "-o", out) == 0
    scene = load_scene(out)
    assert scene.history[-1]["step"] == "latents_to_scene"
    assert not torch.equal(scene.canonical.sh, load_scene(made / "scene.safetensors").canonical.sh)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edited.safetensors", "scene.safetensors", "views"]


def test_a_stopped_edit_goes_on_to_the_same_bits(made, tmp_path, capsys, monkeypatch):
    words = ("delta-edit", "--field", made / "field.safetensors", "--model", made / "model", *PROMPTS)
    words += ("--iterations", 6, "-o")
    assert verb(*words, tmp_path / "whole.safetensors") == 0
    own = delta_edit.run

    def interrupted(*args, **kwargs):
        stream = own(*args, **kwargs)
        try:
            for message in stream:
                yield message
                if getattr(message, "done", 0) >= 3:
                    raise KeyboardInterrupt
        finally:
            stream.close()

    out, unfinished = tmp_path / "again.safetensors", tmp_path / "again.editing.safetensors"
    monkeypatch.setattr(delta_edit, "STEP", replace(delta_edit.STEP, run=interrupted))
    assert verb(*words, out) == 130
    assert unfinished.is_file() and not out.exists()
    steps = []

    def counted(*args, **kwargs):
        for message in own(*args, **kwargs):
            steps.append(getattr(message, "done", None))
            yield message

    monkeypatch.setattr(delta_edit, "STEP", replace(delta_edit.STEP, run=counted))
    assert verb(*words, out) == 0
    assert 2 not in steps and 6 in steps, "the first half came from the checkpoint"
    assert not unfinished.exists()
    whole, again = load_field(tmp_path / "whole.safetensors"), load_field(out)
    assert torch.equal(whole.features, again.features)


def test_a_selection_limits_a_delta_edit(made, tmp_path, capsys):
    weights = (torch.arange(60) % 2).float()
    save_selection(Selection(weights), tmp_path / "odd.safetensors")
    words = ("delta-edit", "--field", made / "field.safetensors", "--model", made / "model", *PROMPTS)
    words += ("--iterations", 3, "--selection", tmp_path / "odd.safetensors")
    assert verb(*words, "-o", tmp_path / "local.safetensors") == 0
    before = load_field(made / "field.safetensors").features
    after = load_field(tmp_path / "local.safetensors").features
    assert torch.equal(before[weights == 0], after[weights == 0])
    assert not torch.equal(before[weights > 0], after[weights > 0])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("delta-edit", "--field", "field", "--prompt", "gold"), "source prompt is empty"),
        (("delta-edit", "--field", "field", *PROMPTS, "--model", "other"), "a different VAE"),
        (("delta-edit", "--field", "scene", *PROMPTS), "4D scene"),
        (("decode-latents", "--field", "field", "--views", "9"), "9"),
        (("latents-to-scene", "--field", "absent"), "does not exist"),
        (("latents-to-scene", "--field", "field", "--selection", "few"), "Gaussians"),
        (("train-latents", "--scene", "field"), "latent field"),
        (("train-latents", "--scene", "scene", "--resolution", 100), "multiple of 8"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(made, tmp_path, capsys, words, said):
    save_selection(Selection(torch.ones(5)), made / "few.safetensors")
    files = [
        str(made / f"{word}.safetensors") if word in ("field", "scene", "absent", "few") else word
        for word in words
    ]
    files = [str(made / word) if word == "other" else word for word in files]
    model = () if "--model" in words else ("--model", made / "model")
    assert verb(*files, *model, "-o", tmp_path / "out.safetensors") == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert said in err[-1] and "Traceback" not in " ".join(err)
    assert not list(tmp_path.iterdir())
