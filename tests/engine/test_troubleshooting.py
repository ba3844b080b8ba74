"""docs/troubleshooting.md speaks of sentences that exist, and of all that a person may meet."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "troubleshooting.md"
GAP = "…"
# where what a person gives comes in
BOUNDARIES = (
    *(
        f"engine/{room}"
        for room in ("capture", "cli", "deform", "diffusion", "figures", "files", "guidance", "io")
    ),
    *(f"engine/{room}" for room in ("latent", "losses", "masks", "playback", "render", "steps", "train")),
    "nodes",
)


@cache
def constants() -> dict[str, str]:
    """Texts that modules give a name, such as WANTED, where all modules mean the same by it or mean alike."""
    found: dict[str, str] = {}
    for folder in ("engine", "nodes"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if (
                    isinstance(node, ast.Assign)
                    and isinstance(node.targets[0], ast.Name)
                    and isinstance(node.value, ast.Constant)
                    and isinstance(node.value.value, str)
                ):
                    name, text = node.targets[0].id, node.value.value
                    found[name] = f"{found[name]}{GAP}{text}" if found.get(name, text) != text else text
    return found


def literal(node: ast.expr) -> str:
    """The fixed parts of a message, with a gap for everything that is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        named = isinstance(node.value, ast.Name) and node.value.id.isupper()
        return constants().get(node.value.id, GAP) if named else GAP
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(v) for v in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    if isinstance(node, ast.IfExp):
        return literal(node.body) + GAP + literal(node.orelse)
    return GAP


@cache
def sentences() -> dict[str, str]:
    """The fixed part of every InputError in the source, and where it is raised."""
    found: dict[str, str] = {}
    for folder in ("engine", "nodes"):
        for file in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and node.args
                    and getattr(node.func, "id", getattr(node.func, "attr", ""))
                    in ("InputError", "HeaderError")
                ):
                    place = f"{file.relative_to(REPOSITORY).as_posix()}:{node.lineno}"
                    found.setdefault(literal(node.args[0]), place)
    return found


def headings() -> list[str]:
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("### ")]


def fixed_parts(canvas: bool = False) -> list[str]:
    """What stands between the quotation marks of the headings: of the last section, or of all others."""
    before, _, last = PAGE.read_text(encoding="utf-8").partition("\n## The canvas\n")
    lines = (last if canvas else before).splitlines()
    return [part for line in lines if line.startswith("### ") for part in re.findall("“(.+?)”", line)]


def says(sentence: str, part: str) -> bool:
    """Whether the words of `part` stand in the sentence, in this order."""
    at = 0
    for piece in filter(None, (p.strip() for p in part.split(GAP))):
        at = sentence.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return True


def passes_on(sentence: str) -> bool:
    """Whether it has no words of its own: it puts the file's name before another sentence, and a remedy behind."""
    for text in constants().values():
        sentence = sentence.replace(text, "")
    return len(re.sub(r"[^a-z]", "", sentence)) < 8


def test_every_heading_is_quoted_sentences() -> None:
    assert len(headings()) > 60
    for line in headings():
        assert re.fullmatch("### “[^“”]+”( · “[^“”]+”)*", line), line


def test_every_heading_is_really_said() -> None:
    invented = [part for part in fixed_parts() if not any(says(s, part) for s in sentences())]
    assert not invented, "no InputError says this any more"


def test_what_the_canvas_is_said_to_say_stands_in_its_source() -> None:
    """The player's own sentences are not InputErrors: any file of the pack may hold them."""
    files = [*(REPOSITORY / "web").glob("*.js"), *(REPOSITORY / "web" / "page").glob("*.mjs")]
    files += [*(REPOSITORY / "engine").rglob("*.py"), *(REPOSITORY / "nodes").rglob("*.py")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    parts = fixed_parts(canvas=True)
    assert len(parts) >= 5
    assert not [part for part in parts if not any(says(line, part) for line in lines)]


def test_what_the_player_says_itself_is_explained() -> None:
    parts = fixed_parts(canvas=True) + fixed_parts()
    said = []
    for file in [*(REPOSITORY / "web").glob("*.js"), *(REPOSITORY / "web" / "page").glob("*.mjs")]:
        text = re.sub(r"\$\{[^}]*\}", GAP, file.read_text(encoding="utf-8"))
        said += re.findall(
            r"(?:new (?:Clip)?Error\(|fail\(|= )[\"`]([^\"`]{25,}[.;:] ?[^\"`]{12,}\.)[\"`]", text
        )
    assert said, "the player says nothing?"
    assert not [sentence for sentence in said if not any(says(sentence, part) for part in parts)]


def test_every_sentence_of_the_boundaries_is_explained() -> None:
    parts = [part for part in fixed_parts() if len(part.replace(GAP, "").strip()) >= 6]
    unexplained = {
        place: sentence
        for sentence, place in sentences().items()
        if place.startswith(BOUNDARIES)
        and not passes_on(sentence)
        and not any(says(sentence, part) for part in parts)
    }
    assert not unexplained


def test_every_entry_says_what_to_do() -> None:
    entries = re.split(r"\n### ", PAGE.read_text(encoding="utf-8"))[1:]
    for entry in entries:
        _, _, body = entry.partition("\n")
        assert len(body.strip()) > 20, entry[:80]


def test_no_two_entries_have_one_heading() -> None:
    parts = [part for line in headings() for part in re.findall("“(.+?)”", line)]
    assert len(parts) == len(set(parts)), sorted(p for p in set(parts) if parts.count(p) > 1)


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
