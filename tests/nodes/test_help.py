"""Every node has a help page that says what, when, each number and where it comes from, with a picture."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "web" / "docs"
CONTRACTS = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
ENGLISH = json.loads((REPOSITORY / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
MOST_BYTES, MOST_IN_ALL = 60_000, 2_000_000
PICTURE = re.compile(r"!\[([^\]]+)\]\((pictures/[\w.]+)\)")


def page(node: str) -> str:
    return (DOCS / f"{node}.md").read_text(encoding="utf-8")


def part(text: str, name: str) -> str:
    """The paragraph that begins with the name in bold."""
    found = re.search(rf"^\*\*{name}\.\*\* (.+?)(?:\n\n|\Z)", text, re.M | re.S)
    return found[1] if found else ""


@pytest.mark.parametrize("node", CONTRACTS)
def test_every_input_stands_on_its_page_with_what_it_does(node: str) -> None:
    text = page(node)
    for name in CONTRACTS[node]["inputs"]:
        said = ENGLISH[node]["inputs"][name]
        rows = [line for line in text.splitlines() if line.startswith(f"* **{said['name']}** (")]
        assert rows, f"{node}: {name} ({said['name']}) is not on the page"
        assert any(said["tooltip"] in row for row in rows), (
            f"{node}: the page says another thing about {name}"
        )


@pytest.mark.parametrize("node", CONTRACTS)
def test_every_output_stands_on_its_page(node: str) -> None:
    text = page(node)
    for output in CONTRACTS[node]["outputs"]:
        assert f"* **{output['name']}** ({output['type']})" in text


@pytest.mark.parametrize("node", CONTRACTS)
def test_every_page_says_when_to_use_the_node_and_where_it_comes_from(node: str) -> None:
    text = page(node)
    assert len(part(text, "When to use it")) > 30
    source = part(text, "Where it comes from")
    # a paper with its year, or the plain word that there is none
    assert re.search(r"\((?:[^()]*\d{4}|[^()]*et al\.[^()]*)\)|No paper|`fourdgs`", source), (
        f"{node}: {source}"
    )


@pytest.mark.parametrize("node", CONTRACTS)
def test_every_page_has_a_picture_that_is_there(node: str) -> None:
    found = PICTURE.findall(page(node))
    assert found, f"{node} has no picture: tools/help_pictures.py, tools/help_canvas.py"
    for words, name in found:
        assert len(words) > 10, "what is seen, for those who cannot see it"
        file = DOCS / name
        assert file.stat().st_size <= MOST_BYTES, f"{name} is too large for a help page"
        with Image.open(file) as picture:
            picture.load()
            assert 300 <= picture.width <= 700


def test_no_page_or_picture_is_left_over() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(CONTRACTS)
    shown = {name for node in CONTRACTS for _, name in PICTURE.findall(page(node))}
    held = {f"pictures/{path.name}" for path in (DOCS / "pictures").iterdir()}
    assert held == shown
    assert sum((DOCS / name).stat().st_size for name in held) <= MOST_IN_ALL
