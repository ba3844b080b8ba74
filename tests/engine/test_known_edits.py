"""A model of few edits says before the run which prompts it does not know."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.diffusion.known_edits import (
    BUNDLED_EDITS,
    KnownEdits,
    check_prompt,
    check_source_prompt,
)
from engine.diffusion.loading import EMBEDDED, known_edits_of
from engine.errors import InputError
from engine.steps import delta_edit, edit_views, refine_score
from tests.edit_scenes import PerfectEditor
from tests.scenes import moving_scene
from training.tiny_editor import edits, regions

FACTS = json.loads((EMBEDDED / "gs4d.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def known() -> KnownEdits:
    found = known_edits_of(EMBEDDED)
    assert found is not None
    return found


@pytest.mark.parametrize("prompt", ["حوّله", "बनाओ", "cafe\u0301", "it's"])
def test_marks_and_apostrophes_belong_to_their_word(known: KnownEdits, prompt: str) -> None:
    assert known.read(prompt).unknown == (() if prompt == "it's" else (prompt,))


def test_the_models_list_is_the_one_that_it_was_trained_with() -> None:
    told = edits.facts(FACTS["known_edits"], FACTS["weak_edits"])
    assert FACTS == {**told, "recommended": FACTS["recommended"]}


@pytest.mark.parametrize("name", FACTS["known_edits"])
def test_every_trained_sentence_names_its_edit_and_no_other(known: KnownEdits, name: str) -> None:
    for sentence in edits.PHRASINGS[name]:
        for front in ("", "please ", "could you "):
            reading = known.read(front + sentence + " in this photo")
            assert reading.edits == (name,) and not reading.unknown, sentence
        assert check_prompt(known, sentence) == "" or name in known.weak


def test_an_edit_that_the_model_hardly_learned_is_neither_offered_nor_silent() -> None:
    weak = KnownEdits.from_facts(edits.facts(weak=["red_lips"]), "small")
    assert weak is not None and "red_lips" not in weak.edits and "blue_hair" in weak.edits
    assert "small knows red lips, but changes little" in check_prompt(
        weak, "paint the lips red", is_local=True
    )
    assert check_prompt(weak, "dye the hair blue") == ""


def test_new_weights_do_not_keep_the_old_list_of_weak_edits(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="writes a diffusers folder")
    from training.tiny_editor.export import write_facts

    def weak() -> list[str]:
        return json.loads((tmp_path / "gs4d.json").read_text(encoding="utf-8"))["weak_edits"]

    write_facts(tmp_path, weak=["red_lips"])
    write_facts(tmp_path)
    assert weak() == ["red_lips"]
    write_facts(tmp_path, weak=[])
    assert weak() == []
    write_facts(tmp_path, weak=["red_lips"])
    write_facts(tmp_path, is_new=True)
    assert weak() == []


@pytest.mark.parametrize("name", [name for name in edits.HELD_OUT if name in FACTS["known_edits"]])
def test_new_sentences_of_known_words_pass(known: KnownEdits, name: str) -> None:
    for sentence in edits.HELD_OUT[name]:
        assert known.read(sentence).edits == (name,), sentence
        said = check_prompt(known, sentence.upper() + "!")
        assert said == "" or ("head" in sentence and name not in known.local) or name in known.weak


def test_edits_that_find_their_own_part_say_what_they_ignore(known: KnownEdits) -> None:
    assert check_prompt(known, "make the face look older") == ""
    said = check_prompt(known, "dye the hair of the wizard blue")
    assert "ignores 'wizard'" in said and "blue hair where it sees that part" in said


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("it should be night", "night"),
        ("night-time", "night"),
        ("I want it to be made of gold.", "gold"),
        ("black & white", "black_and_white"),
        ("remove the color", "black_and_white"),
        ("carved in marble", "marble"),
        ("put golden evening light on it", "golden_hour"),
    ],
)
def test_other_wordings_pass_by_their_key_words(known: KnownEdits, prompt: str, name: str) -> None:
    assert name in known.read(prompt).edits
    check_prompt(known, prompt)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("make it a dragon", ["dragon"]),
        ("watercolor", ["watercolor"]),
        ("asdf qwer", ["asdf", "qwer"]),
        ("no color", ["color"]),
        ("no hat", ["hat"]),
        ("make it white", []),
        ("makeitnight", ["makeitnight"]),
        ("変える", ["変える"]),
    ],
)
def test_a_prompt_of_no_known_edit_is_refused_with_the_list(
    known: KnownEdits, prompt: str, unknown: list[str]
) -> None:
    with pytest.raises(InputError) as refusal:
        check_prompt(known, prompt)
    text = str(refusal.value)
    assert prompt in text and all(f"'{word}'" in text for word in unknown)
    assert ("unknown:" in text) == bool(unknown)
    assert all(name.replace("_", " ") in text for name in edits.TEN)
    assert "'force'" in text and "another model" in text
    assert "'force' is on" in check_prompt(known, prompt, force=True)
    assert check_prompt(None, prompt) == ""


def test_a_long_prompt_makes_no_long_message(known: KnownEdits) -> None:
    with pytest.raises(InputError) as refusal:
        check_prompt(known, " ".join(f"word{i}" * 20 for i in range(2000)))
    assert len(str(refusal.value)) <= 400
    assert str(refusal.value).startswith("'word0word0") and "turn on 'force'" in str(refusal.value)


@pytest.mark.parametrize(
    ("prompt", "part", "edit"),
    [
        ("red cape", "cape", "red"),
        ("blue antlers", "antlers", "blue"),
        ("make the trousers green", "trousers", "green"),
        ("make the face green", "face", "green"),
    ],
)
def test_a_part_in_a_color_passes_with_a_note_on_masks(
    known: KnownEdits, prompt: str, part: str, edit: str
) -> None:
    note = check_prompt(known, prompt)
    assert f"'{part}'" in note and f"applies {edit} to the whole subject" in note
    assert "a selection lifted from masks" in note
    assert check_prompt(known, prompt, is_local=True) == "", "a mask is there already"


def test_several_edits_at_once_are_noted(known: KnownEdits) -> None:
    assert "(gold, blue)" in check_prompt(known, "make it gold and blue")


def test_every_trained_caption_is_accepted(known: KnownEdits) -> None:
    for name, pattern in FACTS["captions"]["edits"].items():
        for subject in FACTS["captions"]["subjects"]:
            caption = pattern.format(subject)
            said = check_prompt(known, caption, is_caption=True)
            assert (said == "") == (name not in known.weak), caption
            assert check_source_prompt(known, caption) == ""
            assert name == "none" or name in known.read(caption).edits


def test_a_source_prompt_may_describe_any_known_subject(known: KnownEdits) -> None:
    assert check_source_prompt(known, "a photo of a person walking") == ""
    assert check_source_prompt(known, "leave it as it is", sees_originals=True) == ""
    assert "'leave it as it is'" in check_source_prompt(known, "a person", sees_originals=True)
    with pytest.raises(InputError, match=r"unknown: 'fox'.*'leave it as it is' or 'a person'"):
        check_source_prompt(known, "a fox")
    assert "'force' is on" in check_source_prompt(known, "a fox", force=True)


def test_the_tooltips_name_all_ten_edits() -> None:
    for name in edits.TEN:
        assert name.replace("_", " ") in BUNDLED_EDITS
    for step in (edit_views, refine_score, delta_edit):
        (field,) = (f for f in step.Config.__dataclass_fields__.values() if f.name == "prompt")
        assert BUNDLED_EDITS in field.metadata["help"]


def test_the_command_line_lists_the_edits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["edit", "--help"])
    assert BUNDLED_EDITS in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("facts", [{}, {"known_edits": {}}, {"recommended": {"steps": 2}}])
def test_a_model_without_a_list_knows_anything(facts: dict[str, Any]) -> None:
    assert KnownEdits.from_facts(facts, "other") is None


def test_a_list_of_sentences_alone_is_enough() -> None:
    known = KnownEdits.from_facts({"known_edits": {"snow": ["make it snow"]}}, "other")
    assert known is not None and known.read("please make it snow").edits == ("snow",)
    with pytest.raises(InputError, match=r"'rain'.*Choose one of snow"):
        check_prompt(known, "rain")


@pytest.mark.parametrize(
    "found",
    [["night"], {"night": "make it night"}, {"night": 3}, "night"],
    ids=["list", "text", "number", "word"],
)
def test_a_damaged_list_is_refused(found: object) -> None:
    with pytest.raises(InputError, match=r"other/gs4d\.json.*restore the file"):
        KnownEdits.from_facts({"known_edits": found}, "other")


class FewEdits(PerfectEditor):
    """Never asked for a picture: the prompt is refused before."""

    def __init__(self, known: KnownEdits) -> None:
        super().__init__()
        self.known_edits = known

    def encode_image_latents(self, images: Any) -> Any:
        raise AssertionError("the run has begun")


def test_edit_views_and_refine_refuse_before_the_run(known: KnownEdits) -> None:
    scene, model = moving_scene(), FewEdits(known)
    edit = edit_views.Config(prompt="make it a dragon", preview_every=0)
    with pytest.raises(InputError, match="dragon"):
        next(edit_views.run(scene, model, edit))
    refine = refine_score.Config(prompt="make it a dragon")
    with pytest.raises(InputError, match="dragon"):
        next(refine_score.run(scene, model, refine))
    assert "'force' is on" in next(edit_views.run(scene, model, replace(edit, force=True))).note
    assert "'force' is on" in next(refine_score.run(scene, model, replace(refine, force=True))).note


def test_the_note_is_in_the_stream_and_stays_with_the_result(known: KnownEdits) -> None:
    model = PerfectEditor()
    model.known_edits = known
    scene = moving_scene()
    config = edit_views.Config(prompt="make the cape green", preview_every=0, views="0", steps=1)
    started, *_, finished = edit_views.run(scene, model, config)
    assert "'cape'" in started.note and "'cape'" in finished.value.edit["note"]
    refine = refine_score.Config(
        prompt="make the cape green", iterations=1, images_per_step=1, preview_every=0
    )
    started, *_, finished = refine_score.run(scene, model, refine)
    assert "'cape'" in started.note and "'cape'" in finished.value.history[-1]["note"]


def test_force_changes_no_checkpoint() -> None:
    scene, model = moving_scene(), PerfectEditor()
    keys = [
        refine_score.RefineScore(
            scene, model, refine_score.Config(prompt="x", force=force), None, None, "cpu", None
        ).checkpointed.key
        for force in (False, True)
    ]
    assert keys[0] == keys[1]


@pytest.fixture(scope="module")
def larger() -> KnownEdits:
    """A model that knows every edit with a truth, those of parts included."""
    found = KnownEdits.from_facts(edits.facts(), "larger")
    assert found is not None
    return found


@pytest.mark.parametrize("name", regions.NAMES)
def test_an_edit_of_a_part_is_told_from_its_color(larger: KnownEdits, name: str) -> None:
    for sentence in (*edits.PHRASINGS[name], *edits.HELD_OUT.get(name, ())):
        reading = larger.read(f"please {sentence} in this photo")
        assert reading.edits == (name,) and not reading.unknown, sentence


@pytest.mark.parametrize("name", edits.FUNCTIONS)
def test_edits_of_parts_take_no_sentence_from_the_others(larger: KnownEdits, name: str) -> None:
    for sentence in edits.PHRASINGS[name]:
        assert larger.read(sentence).edits == (name,), sentence
