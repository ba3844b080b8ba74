"""What the canvas shows in each language: meant for that language, and true to the English.

A text that nobody has translated yet is shown in English: the tests warn, and tools/release_check.py fails.
"""

import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tools" / "locales"))
import write_locales  # noqa: E402

LANGUAGES = write_locales.LANGUAGES
SAME_EVERYWHERE = {"PSNR", "SSIM", "JSON", "vae", "splat"}
SCRIPTS = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff\u4e00-\u9fff]", "ko": r"[\uac00-\ud7a3]"}
FOREIGN = {
    "zh": r"[\u3040-\u30ff\uac00-\ud7a3]",
    "ja": r"[\uac00-\ud7a3]",
    "ko": r"[\u3040-\u30ff\u4e00-\u9fff]",
}
# what a translation hands on as it is: figures, quoted prompts, file endings, names of programs, options
KEPT = re.compile(
    r"\d+(?:\.\d+)?(?:e-\d+)?"
    r"|(?<!\w)'[^']+'(?!\w)"
    r"|(?<!\w)\.(?:ply|spz|4dgs|safetensors|html|gs4dclip)\b"
    r"|\b(?:LoRA|[A-Za-z]*[a-z][A-Z]\w*(?<!LoRAs)|[A-Z]{2,}\w*|\w+_\w+)\b"
    r"|\b(?:auto|vanilla)\b"
)


def tree(language: str, name: str) -> dict[str, Any]:
    return json.loads((REPOSITORY / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def leaves(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{at}.{key}" if at else key)
    else:
        yield at, value


def pairs(language: str) -> list[tuple[str, str, str]]:
    """(place, English, translation) of every text that has one."""
    known, result = write_locales.read(write_locales.PHRASES), []
    for name in write_locales.FILES:
        english, other = dict(leaves(tree("en", name))), dict(leaves(tree(language, name)))
        assert set(english) == set(other), (
            f"locales/{language}/{name}.json: run tools/locales/write_locales.py: "
            f"{sorted(set(english) ^ set(other))[:8]}"
        )
        result += [
            (place, text, other[place])
            for place, text in english.items()
            if not text or write_locales.translation(known, place, text, language)
        ]
    return result


def test_there_are_these_languages_and_no_others() -> None:
    folders = {folder.name for folder in (REPOSITORY / "locales").iterdir() if folder.is_dir()}
    assert folders == {"en", *LANGUAGES}


def test_english_names_every_node_input_and_output_of_the_contracts() -> None:
    contracts = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
    english = tree("en", "nodeDefs")
    assert set(english) == set(contracts)
    for node, contract in contracts.items():
        assert set(english[node]["inputs"]) == set(contract["inputs"]), node
        assert list(english[node]["outputs"]) == [str(i) for i in range(len(contract["outputs"]))], node
        assert english[node]["display_name"] and english[node]["description"], node


def test_english_names_every_category_and_type_of_the_contracts() -> None:
    contracts = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
    main = tree("en", "main")
    categories = {part for node in contracts.values() for part in node["category"].split("/")}
    assert categories == set(main["nodeCategories"])
    # languages translate them for all of ComfyUI
    assert [word for word in categories if not word.startswith(("4D", "4dgs"))] == []
    used = {
        slot["type"] for node in contracts.values() for slot in (*node["inputs"].values(), *node["outputs"])
    }
    assert {kind for kind in used if isinstance(kind, str) and kind.startswith("GS4D_")} == set(
        main["dataTypes"]
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_nobody_translated_is_shown_in_english(language: str) -> None:
    """Not left out: without a name of its own an input is shown under its id."""
    known = write_locales.read(write_locales.PHRASES)
    shown = {place: text for name in write_locales.FILES for place, text in leaves(tree(language, name))}
    missing = {
        place: text
        for place, text in write_locales.english_places().items()
        if text and not write_locales.translation(known, place, text, language)
    }
    assert {place: shown.get(place) for place in missing} == missing
    if missing:
        warnings.warn(
            f"{language}: {len(missing)} texts are not translated (tools/locales/phrases.json), such as "
            f"{next(iter(missing.values()))!r}",
            stacklevel=1,
        )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_translation_is_in_its_language(language: str) -> None:
    for place, english, text in pairs(language):
        assert bool(text.strip()) == bool(english.strip()), place
        if english and english not in SAME_EVERYWHERE and english != "Splat":
            same_name = english.lower() == text.lower()
            assert not same_name and re.search(SCRIPTS[language], text), (
                f"{place}: {text!r} is not {language}"
            )
        assert not re.search(FOREIGN[language], text), f"{place}: {text!r} is another language"


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_quotations_and_names_are_kept(language: str) -> None:
    lost = [
        (place, word)
        for place, english, text in pairs(language)
        for word in KEPT.findall(english)
        if word not in text
    ]
    assert not lost


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_canvas_finds_the_words_of_numbers_in_every_label(language: str) -> None:
    # "steps (0 = auto)": web/faces.js shows "auto" in place of 0
    english, words = re.compile(r"\((-?\d+) = [^()]+\)$"), re.compile(r"[(（](-?\d+) = [^()（）]+[)）]$")
    found = [
        (place, number[1], words.search(text))
        for place, label, text in pairs(language)
        if (number := english.search(label))
    ]
    assert len(found) > 50
    assert not [place for place, number, match in found if match is None or match[1] != number]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_node_is_called_the_same_wherever_it_is_mentioned(language: str) -> None:
    english, other = tree("en", "nodeDefs"), tree(language, "nodeDefs")
    known = write_locales.read(write_locales.PHRASES)
    labels = {
        english[node]["display_name"]: other[node]["display_name"]
        for node in english
        if write_locales.translation(known, f"{node}.display_name", english[node]["display_name"], language)
    }
    assert len(set(labels.values())) == len(labels), "two nodes have one name"
    for place, text, translation in pairs(language):
        for label in sorted(labels, key=len, reverse=True):
            if label in text:
                assert labels[label] in translation, f"{place}: says {label!r}, but not {labels[label]!r}"
                text = text.replace(label, "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_inputs_of_one_node_can_be_told_apart(language: str) -> None:
    english, other = tree("en", "nodeDefs"), tree(language, "nodeDefs")
    for node in english:
        for slots in ("inputs", "outputs"):
            ours = [slot["name"] for slot in english[node][slots].values()]
            names = [slot["name"] for slot in other[node][slots].values()]
            assert len(set(names)) == len(set(ours)), (
                f"{node}: {sorted(n for n in names if names.count(n) > 1)}"
            )


@pytest.mark.parametrize("language", ("en", *LANGUAGES))
def test_the_frontend_reads_every_text_literally(language: str) -> None:
    for name in write_locales.FILES:
        for place, text in leaves(tree(language, name)):
            assert not set(text) & set("{}|@"), (
                f"{place}: these characters mean something to the frontend's messages"
            )


def test_the_files_are_those_that_the_phrases_make() -> None:
    known = write_locales.read(write_locales.PHRASES)
    for language in LANGUAGES:
        for name in write_locales.FILES:
            made = write_locales.translated(tree("en", name), language, known, [])
            text = (REPOSITORY / "locales" / language / f"{name}.json").read_text(encoding="utf-8")
            assert text == write_locales.as_text(made), "run tools/locales/write_locales.py"


def test_every_phrase_knows_these_languages_only() -> None:
    known = write_locales.read(write_locales.PHRASES)
    for phrase, languages in (*known["phrases"].items(), *known["places"].items()):
        assert languages and set(languages) <= set(LANGUAGES), phrase
    left = write_locales.leftovers()
    if left:
        warnings.warn(
            f"{len(left)} translations of texts that are gone (write_locales.py --prune), such as {left[0]!r}",
            stacklevel=1,
        )


def test_a_changed_text_is_english_again_and_counts_as_missing() -> None:
    known = {"phrases": {"Old.": {"zh": "旧。"}}, "places": {"N.b": {"zh": "别处"}}}
    missing: list[str] = []
    made = write_locales.translated(
        {"N": {"a": "Old.", "b": "Old.", "c": "New.", "d": ""}}, "zh", known, missing
    )
    assert made == {"N": {"a": "旧。", "b": "别处", "c": "New.", "d": ""}}
    assert missing == ["New."]
