"""The benchmark of latent editing on a tiny scene and RANDOM weights: every promised key is there, and measures measure."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import latent_edit
from benchmarks.edit_data import Pair
from benchmarks.latent_edit import METHODS, Benchmark, PartlyEdited, Plan, Way, lower_half, ways_of
from engine.masks.lift import render_selection
from engine.render import choose
from engine.scene import Selection
from engine.steps import delta_edit, fit_scene, latents_to_scene, train_latents
from tests.edit_scenes import field_scene, truth_of
from tests.engine.test_evaluate_edit import recoloured
from tests.latent_scenes import EDIT, KEEP, Known
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone

PLAN = Plan(
    training=fit_scene.Config(iterations=4, budget=60, initial_count=50, preview_every=0),
    latents=train_latents.Config(iterations=4, preview_every=0, samples=2, refiner="small"),
    edit=delta_edit.Config(iterations=2, preview_every=0),
    # network calls are then those of the edit alone
    back=latents_to_scene.Config(iterations=3, preview_every=0, views="0 1", matching="none"),
    every=2,
)
WAYS = {
    "variants": Way("a red ball", "a ball", "nothing"),
    "variants_seeing_originals": Way("make it red", KEEP, "auto"),
}


@pytest.fixture(scope="module")
def pair():
    scene = field_scene(count=60, views=4, moments=3)
    return scene, Pair("ball", capture_of(scene), capture_of(recoloured(scene)), "make it red")


def test_every_promised_key_is_there(pair, tmp_path):
    scene, two = pair
    file = tmp_path / "field.safetensors"
    benchmark = Benchmark(two, scene, tiny_backbone(), PLAN, WAYS, "cpu", file)
    report = latent_edit.run(benchmark, tmp_path)
    json.dumps(report)
    for group in WAYS:
        assert tuple(report[group]) == tuple(METHODS)
        for name, row in report[group].items():
            assert {"psnr", "ssim", "outside_change", "spill", "seconds", "peak_mb"} <= row.keys(), name
            assert row["network_calls"] == 2 and (tmp_path / f"{group}_{name}.png").is_file()
        assert report[group]["masked_dds"]["outside_change"] < report[group]["dds"]["outside_change"]
    rows = report["variants"]
    assert report["goals_of_variants"]["dds_ahead_db"] == round(rows["dds"]["psnr"] - rows["sds"]["psnr"], 3)
    for kind in ("raw", "refined", "alone"):
        assert {f"latent_psnr_{kind}", f"decoded_psnr_{kind}"} <= report.keys()
    assert report["latent_peak"] > 0 and report["decoded_psnr_ceiling"] > 0
    assert report["seconds_train"] > 0 and report["peak_mb"] > 0
    again = Benchmark(two, scene, tiny_backbone(), PLAN, WAYS, "cpu", file)
    assert torch.equal(again.field.features, benchmark.field.features) and again.cost.seconds == 0


def test_a_known_edit_is_nearer_to_the_truth_and_a_mask_keeps_the_rest(pair):
    scene, two = pair
    edit = replace(PLAN.edit, iterations=60, min_timestep=0.3, max_timestep=0.6)
    plan = replace(PLAN, latents=replace(PLAN.latents, iterations=40, refiner="none"), edit=edit)
    plan = replace(plan, back=replace(PLAN.back, iterations=80, views="0 1 3"))
    truth = capture_of(truth_of(scene).with_(background=scene.background))
    ways = {"variants": Way(EDIT, KEEP, "auto")}
    benchmark = Benchmark(replace(two, edited=truth), scene, Known(), plan, ways, "cpu")
    for masked in (False, True):
        edited, made, cost = benchmark.variant(ways["variants"], "dds", masked)
        before = benchmark.measure(None, benchmark.scene, masked)
        after = benchmark.measure(edited, made, masked)
        assert after["psnr"] > before["psnr"] + 2 and cost.network_calls == 60
        assert before["outside_change"] == 0
        assert (after["outside_change"] < 8) == masked, "of 255"


def test_the_truth_of_a_mask_is_the_edit_where_it_shows(pair):
    scene, two = pair
    rasterizer, every = choose("auto"), torch.ones(60)
    before, after = two.original.source.read(1, 1).image, two.edited.source.read(1, 1).image
    nowhere = PartlyEdited(two, scene, Selection(0 * every), rasterizer).read(1, 1).image
    assert torch.equal(nowhere, before)
    whole = PartlyEdited(two, scene, Selection(every), rasterizer).read(1, 1).image
    covered = two.original.source.read(1, 1).mask > 0
    solid = (
        render_selection(scene, Selection(every), scene.rig[1], [float(scene.times[1])], rasterizer)[0] > 0.99
    )
    assert int((whole.int() - after.int()).abs()[solid & covered].max()) <= 3
    half = lower_half(scene)
    assert float(half.weights.mean()) == pytest.approx(0.5, abs=0.02)
    low = scene.canonical.means[half.weights > 0][:, 2].mean()
    assert low < scene.canonical.means[half.weights == 0][:, 2].mean() - 0.5, "z is up"


def test_captions_are_taken_where_there_are_words_for_them():
    assert set(ways_of("gold", "turn it into a gold statue", "a person")) == set(WAYS)
    known = ways_of(None, "make it foggy", "a person")["variants"]
    assert (known.source_prompt, known.prompt, known.looks_at) == (
        "a person",
        "a person in the fog",
        "nothing",
    )
    free = ways_of(None, "give it wings", "a person")
    assert set(free) == {"variants"} and free["variants"].prompt == "give it wings"
    assert free["variants"].source_prompt == KEEP


def test_what_cannot_be_measured_is_said(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["latent_edit.py", "--json", "--variants", "vsd"])
    with pytest.raises(SystemExit):
        latent_edit.main()
    assert "vsd" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_full_size_runs_when_shrunk(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["latent_edit.py", "--full-size", "--shrink", "0.01", "--device", "cpu"])
    latent_edit.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["weights"] == "random" and report["delta_edit"]["network_calls"] == 2
    assert report["peak_mb"] > 0 and report["seconds"] > 0 and report["latents"] == [4, 12, 16]
