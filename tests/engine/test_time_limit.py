"""Runs that time ends: motion is trained in its share of the time, the end is told, and the run goes on later."""

from dataclasses import replace

import pytest

from engine import messages as m
from engine.cli import main
from engine.scene import Static
from engine.steps import fit_scene
from engine.steps.fit_scene import FitScene
from engine.train.time_limit import FIRST_STEPS, TimeLimit
from tests.engine.test_fit import QUICK, assert_same_bits
from tests.scenes import capture_of, moving_scene

LONG = replace(QUICK, iterations=5000, coarse_fraction=0.2, preview_every=0)


@pytest.fixture(scope="module")
def video():
    return capture_of(moving_scene())


class Clock:
    """Seconds that pass only in steps."""

    def __init__(self, monkeypatch, seconds: float) -> None:
        self.now = 0.0
        step = FitScene._step

        def timed(fit: FitScene):
            self.now += seconds
            return step(fit)

        monkeypatch.setattr(FitScene, "_step", timed)

    def __call__(self) -> float:
        return self.now


def test_a_slow_machine_trains_motion_and_says_where_it_stopped(video, monkeypatch, tmp_path):
    clock, checkpoint = Clock(monkeypatch, 5.0), tmp_path / "scene.training.safetensors"
    stream = list(fit_scene.run(video, replace(LONG, max_seconds=180.0), checkpoint=checkpoint, clock=clock))
    last = stream[-1]
    assert isinstance(last, m.Finished)
    assert last.note == "stopped after 185 s at step 37 of 5000; run it again to go on"
    assert not isinstance(last.value.deformation, Static), "a fifth of 37 steps is coarse, not of 5000"
    assert last.value.history[-1]["ending"] == "stopped after 185 s at step 37 of 5000"
    assert "ending" not in last.value.history[-1]["config"] and checkpoint.is_file()
    progress = [message for message in stream if isinstance(message, m.Progress)]
    assert {message.total for message in progress[FIRST_STEPS + 1 :]} <= {36, 37, 38}
    assert m.status(progress[-1], 5000, 1, 175.0).startswith("37 of about 37 in the time set (of 5000)")


def test_all_frames_take_part_although_time_is_short(video, monkeypatch):
    clock = Clock(monkeypatch, 5.0)
    config = replace(LONG, max_seconds=300.0, order="outwards")
    seen = set()
    draw = FitScene._sample_at

    def noted(fit, step):
        moment, views = draw(fit, step)
        seen.add(moment)
        return moment, views

    monkeypatch.setattr(FitScene, "_sample_at", noted)
    m.result(fit_scene.run(video, config, clock=clock))
    assert seen == set(range(video.moments))


def test_a_stopped_training_goes_on_with_motion(video, monkeypatch, tmp_path):
    clock, checkpoint = Clock(monkeypatch, 5.0), tmp_path / "scene.training.safetensors"
    config = replace(LONG, iterations=200, max_seconds=100.0)
    m.result(fit_scene.run(video, config, checkpoint=checkpoint, clock=clock))
    again = fit_scene.run(video, config, checkpoint=checkpoint, clock=clock)
    assert "resumed at step 21" in next(again).note
    work = FitScene(video, config, "cpu")
    assert work.resume(checkpoint) and not work.is_coarse, "step 21 of 200 would be coarse"
    last = list(again)[-1]
    assert last.note.startswith("stopped after 105 s at step 42 of 200")


def test_motion_that_was_not_trained_is_named(video, monkeypatch):
    clock = Clock(monkeypatch, 60.0)
    (*_, last) = fit_scene.run(video, replace(LONG, max_seconds=100.0), clock=clock)
    assert last.note == "stopped after 120 s at step 2 of 5000; motion not trained"
    assert isinstance(last.value.deformation, Static)


def test_enough_time_changes_no_bits(video, monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    limited = list(fit_scene.run(video, replace(QUICK, max_seconds=1000.0), clock=clock))
    assert limited[-1].note == "" and "ending" not in limited[-1].value.history[-1]
    assert all(not message.total for message in limited if isinstance(message, m.Progress))
    assert_same_bits(limited[-1].value, m.result(fit_scene.run(video, QUICK)))


def test_a_clock_that_stands_still_or_jumps_predicts_no_nonsense():
    now = [0.0]
    limit = TimeLimit(replace(QUICK, max_seconds=10.0), lambda: now[0])
    for done in range(1, 20):
        limit.tick(done)
    assert limit.expected == QUICK.iterations and not limit.is_over(19)
    now[0] = 1e9
    limit.tick(20)
    assert limit.expected == 20 and limit.is_over(20)
    assert limit.is_over(QUICK.iterations) and limit.ending.startswith(
        "stopped after 1000000000 s at step 20"
    )


def test_the_command_says_it_too(tmp_path, capsys):
    from tests.engine.test_guide import CLIP

    out = tmp_path / "scene.safetensors"
    short = ["--iterations", "100000", "--max-seconds", "0.01", "--budget", "300", "--initial-count", "300"]
    assert main(["fit-scene", "--data", str(CLIP), "--scale", "0.25", "--out", str(out), *short]) == 0
    said = capsys.readouterr().out
    assert "stopped after" in said and "of 100000; motion not trained; run it again to go on" in said
    assert (tmp_path / "scene.training.safetensors").is_file()
