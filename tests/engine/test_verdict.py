"""A training ends with a verdict in words: figures against truth, and advice where the scene is not what its images show."""

from dataclasses import replace

import pytest
import torch

from engine.deform import Static
from engine.errors import InputError
from engine.messages import Progress, result
from engine.render import choose
from engine.scene import MultiViewVideo, Scene4D
from engine.scene.video import Frame
from engine.steps import fit_scene
from engine.train.verdict import verdict_of, verdict_text
from tests.scenes import capture_of, moving_scene

RASTERIZER = choose("auto", "cpu")


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return moving_scene(60, views=5)


@pytest.fixture(scope="module")
def video(scene: Scene4D) -> MultiViewVideo:
    return capture_of(scene)


def split(video: MultiViewVideo):
    trained = video.samples(video.views_to_train())
    return trained, sorted(set(video.samples()) - set(trained))


def test_the_true_scene_has_no_advice(scene, video) -> None:
    found = verdict_of(scene, video, *split(video), RASTERIZER)
    assert found.trained > 40 and found.held_out is not None and found.held_out > 40
    assert found.trained_inside is not None and found.trained_inside > 30
    assert found.advice == () and found.outside is not None and found.outside < 0.05
    assert verdict_text(found.to_json()).splitlines()[0].startswith("trained images: ")


def test_shards_of_a_body_are_called_so(scene, video) -> None:
    means = scene.canonical.means
    wrong = scene.with_(canonical=replace(scene.canonical, means=means[torch.randperm(len(means))] * 1.5))
    found = verdict_of(wrong, video, *split(video), RASTERIZER)
    assert found.trained_inside is not None and found.trained_inside < 15
    assert "does not look like the subject" in found.advice[0] and "Pre-flight Check" in found.advice[0]
    # it moves by a deformation field, and has few frames
    assert "set motion to per_frame" in found.advice[1]
    still = verdict_of(wrong.with_(deformation=Static()), video, *split(video), RASTERIZER)
    assert not any("per_frame" in line for line in still.advice)


def test_gaussians_outside_the_masks_are_counted(scene, video) -> None:
    means = scene.canonical.means.clone()
    means[::3] += torch.tensor([0.0, 0.0, 0.9])
    floating = scene.with_(canonical=replace(scene.canonical, means=means))
    found = verdict_of(floating, video, *split(video), RASTERIZER)
    assert found.outside is not None and 0.1 < found.outside < 0.5
    assert any("outside the masks" in line for line in found.advice)


class Inverted:
    """The frames of one view show something else."""

    def __init__(self, source, view: int) -> None:
        self.source, self.view = source, view

    def read(self, view: int, moment: int) -> Frame:
        frame = self.source.read(view, moment)
        return replace(frame, image=255 - frame.image) if view == self.view else frame

    def fingerprint(self) -> str:
        return f"inverted {self.source.fingerprint()}"


def test_held_out_views_that_are_worse_are_said(scene, video) -> None:
    (held,) = video.test_views
    other = replace(video, source=Inverted(video.source, held))
    found = verdict_of(scene, other, *split(video), RASTERIZER)
    assert any(line.startswith("Held-out images are") for line in found.advice)
    assert "does not look like" not in " ".join(found.advice)


class Unreadable(Inverted):
    """One view cannot be read."""

    def read(self, view: int, moment: int) -> Frame:
        if view == self.view:
            raise InputError("CAP-001", "cam.mp4 is damaged.")
        return self.source.read(view, moment)


def test_a_held_out_view_that_cannot_be_read_costs_nothing(video) -> None:
    (held,) = video.test_views
    damaged = replace(video, source=Unreadable(video.source, held))
    made = result(fit_scene.run(damaged, fit_scene.Config(iterations=2, preview_every=0)))
    verdict = made.history[-1]["verdict"]
    assert verdict["trained"] > 0 and verdict["held_out"] is None


def test_memory_that_runs_out_in_the_verdict_costs_nothing(video, monkeypatch) -> None:
    def full(*_args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    monkeypatch.setattr(fit_scene, "verdict_of", full)
    made = result(fit_scene.run(video, fit_scene.Config(iterations=2, preview_every=0)))
    assert made.history[-1]["verdict"] is None
    assert fit_scene.STEP.note(made).splitlines()[-1] == (
        "The scene is complete, but memory ran out when it was compared with its images. Evaluate Scene measures it."
    )


def test_what_was_trained_is_saved_before_the_result_is_made(video, tmp_path, monkeypatch) -> None:
    def fails(*_args: object) -> None:
        raise ValueError("no verdict")

    monkeypatch.setattr(fit_scene, "verdict_of", fails)
    kept, config = tmp_path / "kept.ckpt", fit_scene.Config(iterations=2, preview_every=0)
    with pytest.raises(ValueError, match="no verdict"):
        result(fit_scene.run(video, config, checkpoint=kept))
    monkeypatch.undo()
    steps = [step for step in fit_scene.run(video, config, checkpoint=kept) if isinstance(step, Progress)]
    assert steps == [] and not kept.exists(), "the same call measures the scene without training again"


def test_training_ends_with_a_verdict_on_the_node_and_in_the_file(video) -> None:
    made = result(fit_scene.run(video, fit_scene.Config(iterations=4, preview_every=0)))
    verdict = made.history[-1]["verdict"]
    assert verdict["trained"] > 0 and verdict["held_out"] is not None
    said = fit_scene.STEP.note(made)
    assert said.startswith(made.summary()) and f"trained images: {verdict['trained']:.1f} dB" in said
