"""Writes locales/<language>/ from the English files and phrases.json: python tools/locales/write_locales.py [--prune]

phrases.json holds each English label, tooltip and description once with its translations, and under "places" what one
spot says differently ("path" is a file here and a camera path there). A text that was changed in English loses its
translation, so that no tooltip goes on saying what was true once. Until it is translated again the files hold the
English text: where a name is missing, ComfyUI's frontend shows the input's id instead. The run and the tests warn about
every such text; `make release-check` fails. --prune drops the translations of texts that no longer exist. The English
files follow from the schemas: tests/nodes/write_contracts.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
LOCALES = REPOSITORY / "locales"
PHRASES = Path(__file__).with_name("phrases.json")
LANGUAGES = ("zh", "ja", "ko")  # the names by which ComfyUI's frontend asks for them
FILES = ("main", "nodeDefs")


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def translation(known: dict[str, Any], place: str, english: str, language: str) -> str | None:
    """What phrases.json says in `language` at `place`, or None where nobody has translated it."""
    return known["places"].get(place, known["phrases"].get(english, {})).get(language) or None


def translated(
    english: dict[str, Any], language: str, known: dict[str, Any], missing: list[str], at: str = ""
) -> dict[str, Any]:
    """The same tree with every text translated; a text without a translation stays English and is appended to `missing`."""
    result: dict[str, Any] = {}
    for key, value in english.items():
        place = f"{at}.{key}" if at else key
        if isinstance(value, dict):
            result[key] = translated(value, language, known, missing, place)
            continue
        text = translation(known, place, value, language) if value else value
        if text is None:
            missing.append(value)
        result[key] = value if text is None else text
    return result


def untranslated() -> dict[str, list[str]]:
    """By language, the English texts that have no translation."""
    return {language: list(dict.fromkeys(_all_files(language)[1])) for language in LANGUAGES}


def leftovers() -> list[str]:
    """Phrases and places of phrases.json that the English files no longer have."""
    known, places = read(PHRASES), english_places()
    texts = set(places.values())
    return [text for text in known["phrases"] if text not in texts] + [
        place for place in known["places"] if place not in places
    ]


def as_text(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _all_files(language: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The trees of one language by file name, and the English texts in them."""
    known, missing = read(PHRASES), list[str]()
    trees = {
        name: translated(read(LOCALES / "en" / f"{name}.json"), language, known, missing) for name in FILES
    }
    return trees, missing


def write() -> None:
    """Writes all languages."""
    for language in LANGUAGES:
        for name, tree in _all_files(language)[0].items():
            file = LOCALES / language / f"{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(as_text(tree), encoding="utf-8")


def prune() -> None:
    """Takes out of phrases.json what the English files no longer say."""
    known, places = read(PHRASES), english_places()
    texts = set(places.values())
    known["phrases"] = {text: value for text, value in known["phrases"].items() if text in texts}
    known["places"] = {place: value for place, value in known["places"].items() if place in places}
    PHRASES.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def english_places() -> dict[str, str]:
    """Every English text by its place, such as "GS4D_Train4DScene.inputs.seed.name"."""
    found: dict[str, str] = {}
    for name in FILES:
        found |= _places(read(LOCALES / "en" / f"{name}.json"))
    return found


def _places(tree: dict[str, Any], at: str = "") -> dict[str, str]:
    """Every text of a tree by its place."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        place = f"{at}.{key}" if at else key
        found |= _places(value, place) if isinstance(value, dict) else {place: value}
    return found


def main() -> int:
    if "--prune" in sys.argv[1:]:
        prune()
    write()
    for language, texts in untranslated().items():
        for text in texts:
            print(f"warning: {language}: no translation in {PHRASES.name} of: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
