"""Quality presets: each sets everything, changed values win, and without one nothing changes."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from engine import cli
from engine import messages as m
from engine.cli import config_from, main
from engine.errors import InputError
from engine.fields import as_record, id_of
from engine.steps import fit_scene
from engine.steps.fit_scene import FitScene
from engine.train import presets
from engine.train.fit import Fit
from engine.train.presets import preset_text, resolved
from tests.engine.test_fit import QUICK, assert_same_bits
from tests.scenes import capture_of, moving_scene

Config = fit_scene.Config
OLD_GRAPHS = [
    path
    for path in sorted((Path(__file__).parents[1] / "old_graphs").glob("*.json"))
    if "GS4D_Train4DScene" in path.read_text("utf-8")
]
TABLES = {"draft": presets.DRAFT, "standard": presets.STANDARD, **presets.PAPER}


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


@pytest.fixture(scope="module")
def moving_camera(video):
    """One view per image, as a clip of one camera."""
    available = torch.zeros_like(video.available)
    for moment in range(video.moments):
        available[moment % video.views, moment] = True
    return replace(video, available=available, test_views=())


@pytest.mark.parametrize("name", TABLES)
def test_a_preset_sets_every_parameter_to_a_value_that_it_may_have(name):
    assert set(TABLES[name]) == set(presets.PARAMETERS)
    config = Config(**TABLES[name])
    assert all(type(getattr(config, f.name)) is type(f.default) for f in fields(config))


def test_the_preset_of_a_paper_is_what_the_paper_publishes(video, moving_camera):
    config, _ = resolved(Config(quality="paper"), "cuda", video)
    assert (config.iterations, config.coarse_fraction * config.iterations) == (17_000, pytest.approx(3000))
    assert (config.budget, config.density, config.sh_degree, config.motion) == (
        360_000,
        "adaptive",
        3,
        "dynerf",
    )
    assert (config.position_lr, config.scale_lr, config.grid_lr, config.network_lr) == (
        1.6e-4,
        5e-3,
        1.6e-3,
        1.6e-4,
    )
    assert (config.views_per_step, config.ssim_weight, config.start_scale) == (4, 0.0, 1.0)
    config, found = resolved(Config(quality="paper"), "cuda", moving_camera)
    assert (config.motion, config.views_per_step, found["data_set"]) == ("hypernerf", 2, "hypernerf")
    config, found = resolved(Config(quality="paper"), "cuda", replace(moving_camera, layout="dnerf"))
    assert (config.iterations, config.initialization, config.initial_count) == (23_000, "random", 2000)
    assert config.coarse_fraction * config.iterations == pytest.approx(3000)
    assert "D-NeRF" in preset_text(found, Config)


def test_motion_names_the_data_set_of_the_paper(video):
    config, found = resolved(Config(quality="paper", motion="dnerf"), "cuda", video)
    assert (config.iterations, config.motion, found["data_set"]) == (23_000, "dnerf", "dnerf")
    assert found["own"] == {"motion": "dnerf"}


def test_a_changed_value_wins_and_the_note_says_so(video):
    config, found = resolved(Config(quality="standard", budget=60_000, grid_lr=2e-3), "cuda", video)
    assert (config.budget, config.grid_lr) == (60_000, 2e-3)
    assert (config.iterations, config.sh_degree, config.initial_count) == (14_000, 3, 40_000)
    text = preset_text(found, Config)
    assert "quality standard: iterations 14000" in text and "motion dynerf" in text
    assert "your own values: max Gaussians 60000, grid learning rate 0.002" in text


@pytest.mark.parametrize("keeps", ["SH degree, motion", "sh_degree,MOTION", " sh degree , motion, "])
def test_a_value_at_its_default_is_kept_where_it_is_named(keeps, video):
    config, found = resolved(Config(quality="standard", quality_keeps=keeps), "cuda", video)
    assert (config.sh_degree, config.motion, config.iterations) == (1, "small", 14_000)
    assert found["own"] == {"motion": "small", "sh_degree": 1}


def test_the_defaults_of_earlier_versions_are_replaced_too(video):
    """Graphs that were saved then hold them."""
    saved = Config(iterations=5000, budget=5000, initial_count=4000, quality="standard")
    config, found = resolved(saved, "cuda", video)
    assert (config.iterations, config.budget, config.initial_count) == (14_000, 100_000, 40_000)
    assert found["own"] == {}
    config, _ = resolved(replace(saved, quality="custom"), "cuda", video)
    assert (config.iterations, config.budget, config.initial_count) == (5000, 5000, 4000)


def test_every_parameter_can_be_kept_by_its_name_its_id_and_its_label():
    for f in fields(Config):
        if f.name in presets.PARAMETERS:
            names = [f.name, id_of(f), presets.label_of(f)]
            assert presets.kept(Config(quality_keeps=", ".join(names))) == {f.name}


@pytest.mark.parametrize("keeps", ["banana", "quality", "seed", "SH degree; motion", "iterations, \ud800"])
def test_what_is_not_a_parameter_cannot_be_kept(keeps):
    with pytest.raises(InputError) as caught:
        Config(quality="draft", quality_keeps=keeps)
    assert "\n" not in str(caught.value)


def test_auto_depends_on_the_device_and_says_what_it_chose(video):
    config, found = resolved(Config(quality="auto"), "cuda:1", video)
    assert config.budget == 100_000
    assert preset_text(found, Config).startswith("quality auto on cuda: standard: iterations 14000")
    config, found = resolved(Config(quality="auto"), "cpu", video)
    assert config == Config()
    assert preset_text(found, Config) == "quality auto on cpu: no preset, all parameters as they are"


def test_a_preset_for_a_gpu_warns_on_the_cpu(video):
    _, found = resolved(Config(quality="standard"), "cpu", video)
    assert "takes hours on the CPU" in preset_text(found, Config)
    _, found = resolved(Config(quality="draft"), "cpu", video)
    assert "hours" not in preset_text(found, Config)


def test_the_motion_of_a_start_scene_is_left_alone(video):
    scene = moving_scene()
    config, found = resolved(Config(quality="standard"), "cuda", video, scene)
    assert config.motion == "small" and "motion" not in found["values"]


def test_memory_is_asked_for_the_preset(video):
    def asked(**changes):
        return fit_scene.STEP.memory(Config(**changes), {"video": video}).megabytes

    assert (
        asked(quality="paper") > 100 + asked()
        and asked(quality="auto") == asked(quality="standard") > asked()
    )
    assert asked(quality="paper", budget=70_000) != asked(quality="paper")


def test_without_a_preset_the_bits_are_those_of_the_numbers(video):
    config, found = resolved(QUICK, "cpu", video)
    assert config is QUICK and not found

    class Plain(Fit):
        step_name = "plain"

    plain = Plain(video, QUICK, "cpu")
    while plain.iteration < QUICK.iterations:
        plain.step()
    made = m.result(fit_scene.run(video, QUICK))
    assert_same_bits(made, plain.result())
    assert "quality" not in made.history[-1]


SHORT = replace(QUICK, quality="draft", iterations=30, preview_every=0)


def test_a_preset_is_recorded_as_the_numbers_that_were_trained(video):
    stream = fit_scene.run(video, SHORT)
    started = next(stream)
    assert isinstance(started, m.Started) and "quality draft" in started.note
    made = m.result(stream)
    entry = made.history[-1]
    assert entry["quality"]["asked"] == entry["quality"]["preset"] == "draft"
    assert entry["quality"]["own"]["iterations"] == 30
    assert entry["config"]["quality"] == "custom"
    names = {id_of(f): f.name for f in fields(Config)}
    again = Config(**{names[n]: value for n, value in entry["config"].items()})
    assert_same_bits(made, m.result(fit_scene.run(video, again)))
    assert "quality draft" in fit_scene.STEP.note(made)
    json.dumps(entry)


def test_another_quality_does_not_go_on_with_a_checkpoint_and_says_so(video, tmp_path):
    checkpoint = tmp_path / "scene.training.safetensors"
    stream = fit_scene.run(video, replace(SHORT, quality="custom", density="adaptive"), checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 5:
            stream.close()
    assert checkpoint.is_file()
    again = fit_scene.run(video, SHORT, checkpoint=checkpoint)
    note = next(again).note
    again.close()
    assert "scene.training.safetensors belongs to a run with other inputs or settings" in note


def test_a_preset_and_its_numbers_are_the_same_run(video, tmp_path):
    checkpoint = tmp_path / "scene.training.safetensors"
    stream = fit_scene.run(video, SHORT, checkpoint=checkpoint)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 5:
            stream.close()
    numbers, _ = resolved(SHORT, "cpu", video)
    assert FitScene(video, numbers, "cpu").resume(checkpoint)
    assert as_record(numbers)["quality"] == "custom"


def test_a_flag_wins_even_with_its_default():
    def read(*flags: str) -> Config:
        given = ["fit-scene", "--data", "x", "--out", "x.safetensors", *flags]
        return config_from(cli._parser().parse_args(given), Config)

    assert read("--quality", "paper", "--sh-degree", "1").quality_keeps == "sh_degree"
    assert read("--position-rate", "0.0004", "--quality", "draft").quality_keeps == "position_lr"
    both = read("--quality", "paper", "--quality-keeps", "motion", "--iterations", "5000")
    assert presets.kept(both) == {"motion", "iterations"}
    assert read("--sh-degree", "1") == Config(), "without a preset, the config is that of before"


def test_an_unknown_quality_is_one_sentence_with_the_list(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "fit-scene",
                "--data",
                str(tmp_path),
                "--out",
                str(tmp_path / "s.safetensors"),
                "--quality",
                "best",
            ]
        )
    assert caught.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "best" in last and all(name in last for name in presets.QUALITIES)
    with pytest.raises(InputError, match="custom, auto, draft, standard, paper"):
        Config(quality="best")


@pytest.mark.parametrize("file", OLD_GRAPHS, ids=lambda path: path.stem)
def test_graphs_of_before_train_with_their_own_numbers(file):
    own = [f for f in fit_scene.STEP.fields() if not f.metadata["advanced"]]
    assert own[-1].name == "quality" and own[-1].metadata["since"]
    nodes = [n for n in json.loads(file.read_text("utf-8"))["nodes"] if n["type"] == "GS4D_Train4DScene"]
    for node in nodes:
        # the last value is the device's
        values = node["widgets_values"][:-1]
        config = Config(**{f.name: type(f.default)(v) for f, v in zip(own, values, strict=False)})
        # graphs from before there were presets
        assert len(values) == len(own) or config.quality == "custom"
        assert [getattr(config, f.name) for f in own[: len(values)]] == values
