"""The benchmarks of editing on tiny scenes and RANDOM weights: every promised key is there, and what is counted is right."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import edit, full_size
from benchmarks.cost import Counting, costing, peak_mb, reset_peak
from benchmarks.edit_data import EDITS, EditedFrames, Pair, as_video, demo_pair, load_pair, true_views
from engine import demo
from engine import messages as m
from engine.capture.readers import LoadOptions
from engine.errors import InputError
from engine.steps import edit_views, fit_edits, fit_scene, refine_score, scene_views
from tests.edit_scenes import field_scene
from tests.engine.test_evaluate_edit import recoloured
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

PLAN = edit.Plan(
    training=fit_scene.Config(iterations=4, budget=60, initial_count=50, preview_every=0),
    edit=edit_views.Config(steps=2, resolution=32, preview_every=0),
    fit=fit_edits.Config(iterations=3, preview_every=0),
    refine=refine_score.Config(iterations=2, images_per_step=2, resolution=32, preview_every=0),
    every=2,
    repeats=1,
)


@pytest.fixture(scope="module")
def pair():
    scene = field_scene(count=60, views=4, moments=3)
    return scene, Pair("ball", capture_of(scene), capture_of(recoloured(scene)), "make it red")


def test_every_variant_is_measured_and_what_it_asked_of_the_model_is_counted(pair):
    scene, two = pair
    report = edit.run(edit.Benchmark(two, scene, tiny_backbone(), PLAN, "cpu"))
    json.dumps(report)
    variants = report["variants"]
    assert tuple(variants) == edit.VARIANTS
    for name, row in variants.items():
        assert {"psnr", "ssim", "seconds", "diffusion_calls"} <= row.keys(), name
    calls = {name: row["diffusion_calls"] for name, row in variants.items()}
    stage1 = 3 * 2 * 3  # trained views × steps × branches
    stage2 = 2 * 2 * 3  # iterations × pictures × branches
    assert calls["unedited"] == 0 and calls["stage1"] == stage1 and calls["score_only"] == stage2
    for name in ("stage1_stage2", "uncoherent", "deformation_trained"):
        assert calls[name] == stage1 + stage2, name
    assert calls["every_image"] >= 3 * stage1, "every moment was edited"
    assert report["calls_by_moments"] == {"8": stage1, "16": stage1, "32": stage1}, "however long the clip"
    assert report["seconds_by_moments"].keys() == {"8", "16", "32"} and report["peak_mb"] > 0
    assert variants["uncoherent"]["psnr"] != variants["stage1_stage2"]["psnr"]
    assert variants["lookup_table"]["psnr"] > variants["unedited"]["psnr"] + 3, (
        "the edit is a function of color"
    )
    assert variants["deformation_trained"]["psnr"] != variants["stage1_stage2"]["psnr"]


def test_epipolar_attention_is_measured_on_request(pair):
    scene, two = pair
    plan = replace(PLAN, variants=("stage1_stage2", "epipolar"), repeats=0)
    variants = edit.run(edit.Benchmark(two, scene, tiny_backbone(), plan, "cpu"))["variants"]
    assert tuple(variants) == ("stage1_stage2", "epipolar")
    assert variants["epipolar"]["psnr"] != variants["stage1_stage2"]["psnr"]
    assert variants["epipolar"]["diffusion_calls"] > variants["stage1_stage2"]["diffusion_calls"]


def test_finished_variants_are_taken_from_the_folder_where_the_numbers_are_the_same(pair, tmp_path):
    scene, two = pair
    plan = replace(PLAN, variants=("unedited", "stage1", "score_only"), repeats=0)
    backbone = Counting(tiny_backbone())
    first = edit.run(edit.Benchmark(two, scene, backbone, plan, "cpu"), tmp_path)
    assert (tmp_path / "stage1.png").is_file() and (tmp_path / "score_only.safetensors").is_file()
    (tmp_path / "stage1.json").unlink()
    calls = backbone.pictures
    again = edit.run(edit.Benchmark(two, scene, backbone, plan, "cpu"), tmp_path)
    assert backbone.pictures == calls + 3 * 2 * 3, "the views of stage 1, and nothing else"
    assert again["variants"]["score_only"] == first["variants"]["score_only"]
    assert again["variants"]["stage1"]["psnr"] == first["variants"]["stage1"]["psnr"]
    longer = replace(plan, refine=replace(plan.refine, iterations=3), variants=("score_only",))
    edit.run(edit.Benchmark(two, scene, backbone, longer, "cpu"), tmp_path)
    assert backbone.pictures == calls + 3 * 2 * 3 + 3 * 2 * 3, "other numbers are measured anew"


def test_true_pictures_bring_the_scene_nearer_to_the_truth(pair):
    scene, two = pair
    fit = replace(PLAN.fit, iterations=80, color_lr=2e-2)
    plan = replace(PLAN, fit=fit, repeats=0, variants=("unedited", "stage1"))
    variants = edit.run(edit.Benchmark(two, scene, None, plan, "cpu"))["variants"]
    assert variants["stage1"]["psnr"] > variants["unedited"]["psnr"] + 3
    assert variants["stage1"]["diffusion_calls"] == 0 and "stage1_reference_code" in variants


def test_the_demo_clip_has_an_exact_truth():
    two = demo_pair("gold")
    assert two.instruction == EDITS["gold"][0]
    before, after = two.original.source.read(0, 3), two.edited.source.read(0, 3)
    inside, outside = before.mask == 255, before.mask == 0
    want = torch.from_numpy(EDITS["gold"][1](before.image[inside].double().numpy() / 255)).clamp(0, 1) * 255
    torch.testing.assert_close(after.image[inside].double(), want, rtol=0, atol=0.51)
    ground = two.original.background
    assert float((after.image[outside].float() / 255 - ground).abs().max()) < 0.01
    with pytest.raises(InputError, match="choose one of night"):
        demo_pair("purple")


def test_an_edit_that_changes_nothing_leaves_the_frames(pair):
    _, two = pair
    frames = EditedFrames(two.original.source, two.original.background, "none")
    a, b = two.original.source.read(1, 1), frames.read(1, 1)
    assert int((a.image.int() - b.image.int()).abs().max()) <= 1 and frames.fingerprint() != a


def test_a_pair_that_is_none_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="original is missing"):
        load_pair(tmp_path, LoadOptions())
    for name in ("original", "edited"):
        (tmp_path / name).mkdir()
    (tmp_path / "instruction.txt").write_text(" \n")
    with pytest.raises(InputError, match="is empty"):
        load_pair(tmp_path, LoadOptions())


def test_edited_pictures_become_a_capture_again(pair):
    scene, two = pair
    views = m.result(scene_views.run(scene, scene_views.Config(moments="all"), two.original))
    edited = true_views(views, two.edited, scene.background)
    video = as_video(edited, two.original)
    assert video.available.sum() == len(views) == 9 and not bool(video.available[0].any())
    truth = two.edited.source.read(2, 1)
    got = video.source.read(2, 1)
    covered = truth.mask == 255
    assert int((got.image.int() - truth.image.int()).abs()[covered].max()) <= 1
    large = replace(
        edited, **{name: getattr(edited, name).repeat_interleave(2, 1).repeat_interleave(2, 2)
                   for name in ("images", "originals", "alphas")}
    )  # fmt: skip
    assert large.size == tuple(2 * side for side in edited.size)
    small = as_video(large, two.original)
    assert small.cameras.sizes == two.original.cameras.sizes, "no larger than what the first training saw"
    assert torch.equal(small.source.read(2, 1).image, got.image)


def test_costs_are_counted_and_peaks_are_reset():
    backbone = Counting(tiny_backbone())
    text = backbone.encode_text(["x"])
    with costing(backbone, "cpu") as cost:
        for count in (1, 3):
            noisy = torch.zeros(count, 4, 8, 8)
            backbone.predict(noisy, 5, text.expand(count, -1, -1), noisy)
    assert (cost.network_calls, cost.diffusion_calls) == (2, 4) and cost.seconds > 0
    reset_peak("cpu")
    before = peak_mb("cpu")
    held = torch.zeros(40_000_000)
    assert peak_mb("cpu") > before + 100
    del held


def test_full_size_runs_when_shrunk():
    report = full_size.run(0.01, "cpu", torch.float32, seed=0)
    json.dumps(report)
    assert report["weights"] == "random" and report["refine_score"]["network_calls"] > 0
    assert {"seconds", "seconds_stage1", "seconds_stage2", "peak_mb"} <= report.keys()
    per_image = [
        report[part]["diffusion_calls"] / images for part, images in (("edit_views", 3), ("key_views", 6))
    ]
    assert report["key_views"]["images"] == 6 and per_image[1] > per_image[0], "key passes come on top"


def test_full_size_needs_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["full_size.py", "--json", "--device", "cpu"])
    with pytest.raises(SystemExit, match="No CUDA device is available"):
        full_size.main()
    assert "No CUDA device" in json.loads(capsys.readouterr().out)["error"]


def test_full_size_is_instruct_pix2pix_of_860_million():
    with torch.device("meta"):
        from diffusers import UNet2DConditionModel

        config = json.loads((full_size.CONFIGS / "sd1" / "unet" / "config.json").read_text())
        unet = UNet2DConditionModel.from_config({**config, "in_channels": 8})
    assert sum(p.numel() for p in unet.parameters()) == 859_532_484


def test_the_demo_shows_before_and_after(pair, tmp_path):
    from PIL import Image

    scene, two = pair
    views = m.result(scene_views.run(scene, video=two.original))
    after = recoloured(scene)
    shown = demo.before_and_after(scene, after, views, "cpu", rows=2)
    assert shown.shape == (2, 40, 4 * 48, 3)
    before, model, edited, later = shown.split(48, dim=2)
    assert float((before - model).abs().mean()) < float((before - edited).abs().mean())
    assert not torch.equal(edited, later), "later the subject has moved"
    demo.page([demo.Sheet(shown, demo.EDITED, "line")] * 2, tmp_path / "page.png")
    page = Image.open(tmp_path / "page.png")
    assert page.width >= 192 and page.height >= 2 * (80 + 2 * 12), "both sheets, with headings and a line"
    half = page.height // 2
    upper, lower = (page.crop((0, top, page.width, top + half)) for top in (0, half))
    assert upper.tobytes() == lower.tobytes() and upper.getcolors(50) is None


def test_the_demo_says_what_is_missing(tmp_path):
    for words, told in (
        ({"clip": tmp_path / "none"}, "capture none/ is missing"),
        ({"model": tmp_path / "none"}, "model"),
    ):
        with pytest.raises(InputError, match=told):
            demo.run(tmp_path / "out", lambda stream, quiet: None, **words)
    assert not (tmp_path / "out").exists()
