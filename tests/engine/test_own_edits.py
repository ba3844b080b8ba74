"""Stage 2 by own edits: images of other frames are edited and fitted, and what stage 1 fitted stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.fields import restored
from engine.masks.coverage import covering
from engine.scene import MultiViewVideo, Scene4D, Selection, ViewSet
from engine.steps import fit_edits, refine_score
from engine.steps.refine_score import NAMES, RefineOwnEdits
from engine.train.fitted_edit import fitted_edit
from engine.train.own_edits import AnchoredFit
from engine.train.view_edit_config import ViewEditConfig
from engine.train.view_fit import ViewFitConfig
from tests.edit_scenes import PerfectEditor, edited_views, psnr, render, truth_of
from tests.engine.test_image_choice import CORE, FRAMES, colors, outliers, scene
from tests.scenes import capture_of

__all__ = ["scene"]

PROMPT = "swap the colours"
CONFIG = refine_score.Config(prompt=PROMPT, objective="own edits", preview_every=0)
FIRST = (0, 1, 2, 3, 4, 5)


class OneStepEditor(PerfectEditor):
    """A perfect editor of one step, whose images have every pixel."""

    vae_scale_factor = 1
    defaults = replace(PerfectEditor.defaults, steps=1)


def of_views(scene: Scene4D, views: ViewSet | None = None, **changes: Any) -> Scene4D:
    """Stage 1 on the views of the first frame."""
    views = edited_views(scene, FIRST) if views is None else views
    return m.result(fit_edits.run(scene, views, replace(fit_edits.Config(preview_every=0), **changes)))


@pytest.fixture(scope="module")
def video(scene: Scene4D) -> MultiViewVideo:
    return capture_of(scene)


@pytest.fixture(scope="module")
def fitted(scene: Scene4D) -> Scene4D:
    return of_views(scene)


@pytest.fixture(scope="module")
def refined(scene: Scene4D, fitted: Scene4D, video: MultiViewVideo) -> Scene4D:
    return m.result(refine_score.run(fitted, OneStepEditor(), CONFIG, video, original=scene))


@pytest.fixture
def work(scene: Scene4D, fitted: Scene4D, video: MultiViewVideo) -> Callable[[], RefineOwnEdits]:
    return lambda: RefineOwnEdits(fitted, OneStepEditor(), CONFIG, "captured", video, scene)


def test_edited_images_are_of_other_frames_and_show_what_was_not_shown(
    scene: Scene4D, refined: Scene4D
) -> None:
    """The core is hidden at the first frame, and the shell has moved aside in the others."""
    entry = refined.history[-1]
    assert entry["step"] == "refine_score" and entry["objective"] == "own edits"
    assert 0 < len(entry["moments"]) < len(FIRST) and 0 not in entry["moments"]
    assert "more images of" in entry["note"] and "instead of" in entry["note"]
    said = refine_score.summary(refined)
    assert "fitting steps, three quarters of the fit's; iterations is for the objective score alone" in said
    assert f"{entry['edit']['steps']} steps, guidance scale" in said
    assert entry["diffusion_calls"] == 1 + len(entry["views"]), "the key view and the new images"


def test_outliers_of_the_first_frame_are_repaired(scene: Scene4D, fitted: Scene4D, refined: Scene4D) -> None:
    assert outliers(scene, fitted) > CORE / 3
    assert outliers(scene, refined) < outliers(scene, fitted) / 3
    truth = truth_of(scene).with_(background=scene.background)
    later = range(1, FRAMES)
    assert psnr(refined, truth, FIRST, later) > psnr(fitted, truth, FIRST, later) + 0.5


def test_fitted_images_do_not_drift(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor that paints the new images white pulls the fitted ones along, less where anchors hold them."""

    class White(OneStepEditor):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(super().decode(latents))

    def drift() -> float:
        made = m.result(refine_score.run(fitted, White(), CONFIG, video, original=scene))
        return max(float((render(made, v, 0) - render(fitted, v, 0)).abs().mean()) for v in FIRST)

    held = drift()
    monkeypatch.setattr(
        AnchoredFit, "_first", lambda self: int(torch.randint(self.added, (), generator=self.generator))
    )
    assert held < 0.75 * drift()


def test_the_motion_and_the_input_are_untouched(fitted: Scene4D, refined: Scene4D) -> None:
    for name, tensor in fitted.deformation.tensors().items():
        assert torch.equal(refined.deformation.tensors()[name], tensor), name
    assert len(refined.canonical) == len(fitted.canonical)
    assert refined.history[:-1] == fitted.history


@pytest.mark.parametrize("stop", [1, 2, 60, 149])
def test_resume_equals_uninterrupted(
    scene: Scene4D,
    fitted: Scene4D,
    refined: Scene4D,
    video: MultiViewVideo,
    work: Callable[[], RefineOwnEdits],
    tmp_path: Path,
    stop: int,
) -> None:
    half, file = work(), tmp_path / "half.safetensors"
    for _ in range(stop):
        half.step()
    half.save(file)
    messages = list(refine_score.run(fitted, OneStepEditor(), CONFIG, video, original=scene, checkpoint=file))
    assert isinstance(messages[0], m.Started) and f"resumed at step {stop};" in messages[0].note
    done = messages[-1]
    assert isinstance(done, m.Finished) and not file.exists()
    for name, tensor in refined.canonical.tensors().items():
        assert torch.equal(done.value.canonical.tensors()[name], tensor), name


def test_cancel_keeps_what_was_done(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo, tmp_path: Path
) -> None:
    file = tmp_path / "half.safetensors"
    stream = refine_score.run(fitted, OneStepEditor(), CONFIG, video, original=scene, checkpoint=file)
    for message in stream:
        if isinstance(message, m.Progress) and message.done == 30:
            break
    stream.close()
    first = next(
        iter(refine_score.run(fitted, OneStepEditor(), CONFIG, video, original=scene, checkpoint=file))
    )
    assert isinstance(first, m.Started) and "resumed at step 30;" in first.note


def test_a_selection_limits_the_edit_bit_for_bit(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo
) -> None:
    weights = torch.ones(len(scene.canonical))
    weights[: CORE // 2] = 0
    stream = refine_score.run(fitted, OneStepEditor(), CONFIG, video, Selection(weights), original=scene)
    made = m.result(stream)
    assert torch.equal(made.canonical.sh[: CORE // 2], fitted.canonical.sh[: CORE // 2])
    assert not torch.equal(made.canonical.sh[CORE // 2 : CORE], fitted.canonical.sh[CORE // 2 : CORE])


def test_renders_of_the_original_are_edited_without_a_capture(scene: Scene4D, fitted: Scene4D) -> None:
    made = m.result(refine_score.run(fitted, OneStepEditor(), CONFIG, original=scene))
    assert made.history[-1]["condition"] == "rendered" and outliers(scene, made) < outliers(scene, fitted) / 3


def test_nothing_new_to_show_changes_nothing_and_says_so(scene: Scene4D, video: MultiViewVideo) -> None:
    every = of_views(scene, edited_views(scene, FIRST, range(FRAMES)), iterations=5)
    messages = list(refine_score.run(every, OneStepEditor(), CONFIG, video, original=scene))
    assert isinstance(messages[0], m.Started) and "no other frames" in messages[0].note
    made = messages[-1].value
    assert torch.equal(made.canonical.sh, every.canonical.sh)
    assert "no other frames" in refine_score.summary(made)


def test_a_second_refinement_takes_frames_that_the_first_did_not(
    scene: Scene4D, refined: Scene4D, video: MultiViewVideo
) -> None:
    known = fitted_edit(refined, NAMES)
    assert known is not None and known.count == len(FIRST)
    used = list(zip(refined.history[-1]["views"], refined.history[-1]["moments"], strict=True))
    assert known.pairs == [(view, 0) for view in FIRST] + used
    again = RefineOwnEdits(refined, OneStepEditor(), CONFIG, "captured", video, scene)
    assert not {frame for _, frame in again.added} & {frame for _, frame in known.pairs}


@pytest.mark.parametrize(
    ("history", "changes", "words"),
    [
        ([], {}, "not from Fit Scene to Edited Views"),
        ([{"step": "grade_scene"}], {}, "not from Fit Scene to Edited Views"),
        ([{"step": "fit_edits", "views": [99], "moments": [0]}], {}, "not from Fit Scene to Edited Views"),
        ([{"step": "fit_edits", "views": "x", "moments": None}], {}, "not from Fit Scene to Edited Views"),
        ([{"step": "fit_edits", "views": [0], "moments": [0], "edit": {"keeps": True}}], {}, "keep mask"),
        (
            [{"step": "fit_edits", "views": [0], "moments": [0]}],
            {"trains_deformation": True},
            "train deformation",
        ),
    ],
)
def test_a_scene_without_a_fit_to_go_on_from_is_refused(
    scene: Scene4D, video: MultiViewVideo, history: list[Any], changes: dict[str, Any], words: str
) -> None:
    config, odd = replace(CONFIG, **changes), replace(scene, history=tuple(history))
    with pytest.raises(InputError, match=words) as found:
        m.result(refine_score.run(odd, OneStepEditor(), config, video, original=scene))
    assert found.value.code == "TRN-047"
    # auto goes on with the score, and says why
    first = next(
        iter(refine_score.run(odd, OneStepEditor(), replace(config, objective="auto"), video, original=scene))
    )
    assert isinstance(first, m.Started) and words in first.note and "objective score" in first.note


def test_without_images_before_the_edit_it_is_refused(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo
) -> None:
    for config, given in ((CONFIG, None), (replace(CONFIG, condition="rendered"), video)):
        with pytest.raises(InputError, match="before the edit") as found:
            m.result(refine_score.run(fitted, OneStepEditor(), config, given))
        assert found.value.code == "STP-026"
    shorter = scene.with_(times=scene.times[:2])
    for objective in ("own edits", "score"):
        config = replace(CONFIG, objective=objective)
        with pytest.raises(InputError, match="2 frames, the edited scene"):
            m.result(refine_score.run(fitted, OneStepEditor(), config, original=shorter))


def test_auto_takes_own_edits_for_a_model_of_few_steps_and_its_score_for_others(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo
) -> None:
    slow = OneStepEditor()
    slow.defaults = replace(slow.defaults, steps=20)
    auto = replace(CONFIG, objective="auto")

    def note(model: PerfectEditor, scene_now: Scene4D = fitted) -> str:
        first = next(iter(refine_score.run(scene_now, model, auto, video, original=scene)))
        assert isinstance(first, m.Started)
        return first.note

    assert note(OneStepEditor()).startswith("own edits of")
    assert "objective score, since perfect editor is not an editor of at most 4 steps" in note(slow)
    by_hand = of_views(
        scene, replace(edited_views(scene, FIRST), edit={"images": "replaced by hand"}), iterations=2
    )
    assert "images of another editor" in note(OneStepEditor(), by_hand)


def test_graphs_of_before_refine_by_score() -> None:
    assert refine_score.Config(prompt=PROMPT).objective == "score"
    assert refine_score.STEP.fields()[-1].name == "objective", "new inputs come last"


def test_another_prompt_than_the_fit_had_is_said(
    scene: Scene4D, fitted: Scene4D, video: MultiViewVideo
) -> None:
    config = replace(CONFIG, prompt="make it night")
    first = next(iter(refine_score.run(fitted, OneStepEditor(), config, video, original=scene)))
    assert isinstance(first, m.Started) and 'fitted to the edit "swap the colours"' in first.note


def test_what_stage_1_was_made_with_is_used_again(scene: Scene4D, video: MultiViewVideo) -> None:
    edit = {
        "prompt": PROMPT,
        "strength": 0.5,
        "seed": 7,
        "attention": "epipolar",
        "key_view": 3,
        "steps": "many",
    }
    views = replace(edited_views(scene, FIRST), edit=edit)
    made = of_views(scene, views, iterations=8, color_lr=0.01)
    work = RefineOwnEdits(made, OneStepEditor(), CONFIG, "captured", video, scene)
    request, config = work.editing.edit.request, work.editing.config
    assert (request.strength, request.seed, request.attention, request.steps) == (0.5, 7, "keyframe", 1)
    assert config.originals == "captured"
    assert work.key == (3, 0) == (work.editing.views.views[request.key], 0)
    while work.fit is None:
        work.step()
    assert work.fit_iterations == 6 == work.fit.config.iterations and work.fit.config.color_lr == 0.01


def test_a_config_is_restored_from_what_is_valid_in_a_record() -> None:
    record = {"color_rate": 0.5, "iterations": "many", "views_per_step": -1, "unknown": 1}
    assert restored(ViewFitConfig, record) == replace(ViewFitConfig(), color_lr=0.5)
    assert restored(ViewEditConfig, {}) == ViewEditConfig()


def test_covering_adds_to_what_was_seen() -> None:
    shown = torch.tensor([[1.0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    seen = torch.tensor([[1.0, 1, 0, 0]])
    assert covering(shown, 0, seen) == ([], 0.5)
    assert covering(shown, 1, seen)[1] == 0.75
    assert covering(shown, 9, seen, 0.01) == ([1, 2], 1.0)
    assert covering(shown, 9, shown, 0.01) == ([], 1.0)


def test_colors_follow_those_before_the_edit(scene: Scene4D, fitted: Scene4D, refined: Scene4D) -> None:
    """What no image shows changes from its color before the edit, not from what stage 1 made of it."""
    wanted = colors(truth_of(scene))
    off = (colors(refined) - wanted).abs().amax(dim=1)
    assert float(off.median()) < 0.1
