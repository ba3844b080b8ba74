"""Error codes are a contract: each is given once, never changes its meaning, and is explained in the docs."""

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from engine.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "troubleshooting.md"
TABLE = REPOSITORY / "tests" / "error_codes.json"
CODE = re.compile(r"[A-Z]{2,3}-\d{3}")


@cache
def raised() -> dict[str, list[str]]:
    """Every code in the source, with the places that raise it. A call without a literal code is listed under ''."""
    found: dict[str, list[str]] = {}
    for folder in ("engine", "nodes", "benchmarks", "training"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = (
                    getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if isinstance(node, ast.Call)
                    else ""
                )
                if name not in ("InputError", "HeaderError"):
                    continue
                first = node.args[0] if node.args else None
                passed_on = isinstance(first, ast.Attribute) and first.attr == "code"
                literal = first.value if isinstance(first, ast.Constant) else ""
                if not passed_on and ast.unparse(node) != "InputError(self.code, f'{place}: {self.message}')":
                    place = f"{file.relative_to(REPOSITORY).as_posix()}:{node.lineno}"
                    found.setdefault(str(literal), []).append(place)
    return found


@cache
def table() -> dict[str, str]:
    """Code to the title of its entry; a code that nothing raises any more keeps its line, with "retired"."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


@cache
def explained() -> dict[str, str]:
    """Code to the title of the entry of docs/troubleshooting.md that lists it."""
    found: dict[str, str] = {}
    for entry in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]:
        title, _, body = entry.partition("\n")
        codes = re.findall(r"`GS4D-([A-Z]{2,3}-\d{3})`", body)
        assert not set(codes) & set(found), f"{title}: listed twice"
        found |= dict.fromkeys(codes, title)
    return found


def test_every_error_has_one_literal_code_of_its_own() -> None:
    assert "" not in raised(), raised()[""]
    assert not {code: places for code, places in raised().items() if len(places) > 1}
    assert not [code for code in raised() if not CODE.fullmatch(code)]


def test_the_table_knows_every_code_and_none_has_vanished() -> None:
    current = {code for code, title in table().items() if title != "retired"}
    assert set(raised()) == current, "run tests/engine/write_error_codes.py after adding or removing an error"


def test_no_code_changes_its_meaning() -> None:
    assert {code: title for code, title in table().items() if title != "retired"} == explained()


def test_every_entry_says_what_to_do() -> None:
    for entry in PAGE.read_text(encoding="utf-8").split("\n### ")[1:]:
        title, _, body = entry.partition("\n")
        assert len(re.sub(r"`GS4D-\S+`", "", body).strip()) > 20, title


def test_the_code_is_shown_once_at_the_end() -> None:
    error = InputError("CAP-012", "cam01.mp4 is empty (0 bytes); copy it again.")
    assert str(error) == "cam01.mp4 is empty (0 bytes); copy it again. [GS4D-CAP-012]"
    placed = error.at("my capture")
    assert str(placed) == "my capture: cam01.mp4 is empty (0 bytes); copy it again. [GS4D-CAP-012]"


def test_an_error_survives_another_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(InputError("CAP-012", "x")))
    assert (error.code, error.message) == ("CAP-012", "x")


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_inside_the_documents_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), flags=re.M)
            slugs = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in slugs, f"{page.name}: {target}; there are {sorted(slugs)}"
