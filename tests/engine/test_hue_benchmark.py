"""The benchmark of hues: its measure, and a small run."""

import json
from dataclasses import replace

import torch

from benchmarks.edit_data import Pair
from benchmarks.hue import Errors, run
from tests.edit_scenes import field_scene, truth_of
from tests.latent_scenes import EDIT, Known
from tests.scenes import capture_of


def test_hue_and_brightness_are_measured_apart_and_inside_the_masks():
    truth = torch.full((4, 4, 3), 0.5)
    inside = torch.zeros(4, 4)
    inside[1:3, 1:3] = 1
    lighter, tinted = Errors(), Errors()
    lighter.add(torch.where(inside[..., None] > 0, truth + 0.1, 0.0), truth, inside)
    assert lighter.figures()["brightness"] == 20.0 and lighter.figures()["hue"] > 90
    # a change of color that keeps the luma: 0.299 r + 0.114 b = 0
    tinted.add(truth + torch.tensor([0.114, 0.0, -0.299]), truth, inside)
    assert tinted.figures()["brightness"] > 60 and tinted.figures()["hue"] < 20
    assert Errors().figures()["hue"] == 120.0, "nothing counted, nothing wrong"


def test_a_small_run_has_all_rows(tmp_path):
    scene = field_scene(count=60, views=3, moments=2)
    video = capture_of(scene)
    truth = capture_of(truth_of(scene).with_(background=scene.background))
    pair = Pair("small", video, replace(video, source=truth.source), EDIT)
    found = run(pair, scene, Known(), {"latents": 10, "edit": 5, "fit": 10}, every=1, keep=tmp_path)
    assert json.loads(json.dumps(found)) == found
    scenes = {"unedited", "unmatched", "matched", "stage1"}
    assert set(found) == {"own_edit", "decoded", *scenes}
    for name in scenes:
        assert {"psnr", "ssim", "hue", "brightness"} <= set(found[name])
        assert (tmp_path / f"{name}.safetensors").is_file()
    assert found["own_edit"]["hue"] > found["unedited"]["hue"]
    assert found["matched"]["cpu_seconds"] > 0
