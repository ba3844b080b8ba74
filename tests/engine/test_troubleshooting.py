"""docs/troubleshooting.md explains what the player says itself: messages of the canvas carry no code."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "troubleshooting.md"
GAP = "…"


def quoted() -> list[str]:
    """What stands between the quotation marks of the canvas section's headings."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## The canvas\n")[2]
    headings = [line for line in section.splitlines() if line.startswith("### ")]
    return [part for line in headings for part in re.findall("“(.+?)”", line)]


def contains(sentence: str, part: str) -> bool:
    """Whether the words of `part` stand in the sentence, in this order."""
    at = 0
    for piece in filter(None, (p.strip() for p in part.split(GAP))):
        at = sentence.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def test_every_quoted_message_stands_in_the_source() -> None:
    """The player's own sentences are not InputErrors: any file of the pack may hold them."""
    files = [*(REPOSITORY / "web").glob("*js"), *(REPOSITORY / "web" / "page").glob("*.mjs")]
    files += [*(REPOSITORY / "engine").rglob("*.py"), *(REPOSITORY / "nodes").rglob("*.py")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    parts = quoted()
    assert len(parts) >= 5
    assert not [part for part in parts if not any(contains(line, part) for line in lines)]


def test_what_the_player_says_itself_is_explained() -> None:
    parts = quoted()
    said: list[str] = []
    for file in [*(REPOSITORY / "web").glob("*js"), *(REPOSITORY / "web" / "page").glob("*.mjs")]:
        text = re.sub(r"\$\{[^}]*\}", GAP, file.read_text(encoding="utf-8"))
        said += re.findall(
            r"(?:new (?:Clip)?Error\(|fail\(|= )[\"`]([^\"`]{25,}[.;:] ?[^\"`]{12,}\.)[\"`]", text
        )
    assert said, "the player says nothing?"
    assert not [sentence for sentence in said if not any(contains(sentence, part) for part in parts)]
