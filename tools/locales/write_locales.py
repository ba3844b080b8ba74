"""Writes locales/<language>/ from the English ones and phrases.json: python tools/locales/write_locales.py [--prune]

phrases.json holds each English label, tooltip and description once with its translations, and under "places" what one
spot says differently ("path" is a file here and a camera path there). A sentence that was changed in English has no
translation any more, so that no tooltip goes on saying what was true once: the run lists it, and the test of the
locales fails until it is translated. --prune takes out what English no longer says. The English files follow from the
schemas: tests/nodes/write_contracts.py.
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


def translated(
    english: dict[str, Any], language: str, known: dict[str, Any], missing: list[str], at: str = ""
) -> dict[str, Any]:
    """The same tree with every text translated; what is not known is left out and appended to `missing`."""
    result: dict[str, Any] = {}
    for key, value in english.items():
        place = f"{at}.{key}" if at else key
        if isinstance(value, dict):
            result[key] = translated(value, language, known, missing, place)
        elif not value:
            result[key] = value
        else:
            text = known["places"].get(place, known["phrases"].get(value, {})).get(language)
            if text:
                result[key] = text
            else:
                missing.append(value)
    return result


def as_text(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def write() -> dict[str, list[str]]:
    """Writes all languages. Returns, by language, the English texts that have no translation."""
    known, missing = read(PHRASES), {language: [] for language in LANGUAGES}
    for language in LANGUAGES:
        for name in FILES:
            tree = translated(read(LOCALES / "en" / f"{name}.json"), language, known, missing[language])
            file = LOCALES / language / f"{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(as_text(tree), encoding="utf-8")
    return {language: list(dict.fromkeys(texts)) for language, texts in missing.items()}


def prune() -> None:
    """Takes out of phrases.json what the English files no longer say."""
    known = read(PHRASES)
    said: dict[str, str] = {}
    for name in FILES:
        said |= _places(read(LOCALES / "en" / f"{name}.json"))
    texts = set(said.values())
    known["phrases"] = {text: value for text, value in known["phrases"].items() if text in texts}
    known["places"] = {place: value for place, value in known["places"].items() if place in said}
    PHRASES.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _places(tree: dict[str, Any], at: str = "") -> dict[str, str]:
    """Every text of a locale by its place, such as "GS4D_Train4DScene.inputs.seed.name"."""
    found: dict[str, str] = {}
    for key, value in tree.items():
        place = f"{at}.{key}" if at else key
        found |= _places(value, place) if isinstance(value, dict) else {place: value}
    return found


def main() -> int:
    if "--prune" in sys.argv[1:]:
        prune()
    missing = write()
    for language, texts in missing.items():
        for text in texts:
            print(f"{language}: no translation in {PHRASES.name} of: {text}")
    return 1 if any(missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
