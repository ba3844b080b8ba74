"""The front page and the documents: short, with pictures that are there, links that lead somewhere, claims that have a script."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from engine.cli import _parser

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")
NODES = (REPOSITORY / "docs" / "nodes.md").read_text(encoding="utf-8")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def table(text: str, title: str) -> list[list[str]]:
    """The cells of the rows below the heading that begins with `title`."""
    lines = iter(text[text.index(f"| {title} |") :].splitlines())
    next(lines), next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_readme_shows_the_result_and_the_canvas() -> None:
    shown = IMAGE.findall(README)
    assert [name for _, name in shown] == ["docs/pictures/edited_walker.webp", "docs/pictures/canvas.webp"]
    for words, name in shown:
        assert len(words) > 20, "what is seen, for those who cannot see it"
        file = REPOSITORY / name
        with Image.open(file) as picture:
            assert picture.width >= 500
            assert getattr(picture, "n_frames", 1) > 1 or file.stat().st_size <= 200_000


def test_the_readme_names_every_workflow_and_no_other_as_available() -> None:
    available = {
        name
        for _, workflows, status in table(README, "paper")
        if status == "available"
        for name in re.findall(r"`([\w.]+\.json)`", workflows)
    }
    assert available == {path.name for path in (REPOSITORY / "workflows").glob("*.json")}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_figure_has_a_script_that_takes_these_options() -> None:
    scripts = {path.name: path for path in (REPOSITORY / "benchmarks").glob("*.py")}
    named = set(re.findall(r"benchmarks/(\w+\.py)", BENCHMARKS))
    assert named <= set(scripts)
    measuring = {name for name, path in scripts.items() if '"--json"' in path.read_text(encoding="utf-8")}
    assert not measuring - named - {"table.py"}, "measured, but not in docs/benchmarks.md"
    configs = [path for room in ("steps", "train") for path in (REPOSITORY / "engine" / room).glob("*.py")]
    steps = [path.read_text(encoding="utf-8") for path in configs]
    commands = re.findall(r"`(?:OMP_NUM_THREADS=1\s+)?python\s+benchmarks/(\w+\.py)\s([^`]*)`", BENCHMARKS)
    assert len(commands) >= 5
    for script, options in commands:
        source = "\n".join([scripts[script].read_text(encoding="utf-8"), *steps])
        for option in re.findall(r"--([a-z0-9-]+)", options):
            known = f'"--{option}"' in source or f"{option.replace('-', '_')}:" in source
            assert known, f"{script} has no option --{option}"


def test_every_node_is_listed_with_a_command_that_exists() -> None:
    rows = [row for part in NODES.split("| node |")[1:] for row in table("| node |" + part, "node")]
    labels = [label.strip() for names, _, _ in rows for label in names.split(",")]
    contracts = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
    assert sorted(labels) == sorted(node["display_name"] for node in contracts.values())
    verbs = set(re.findall(r"`([a-z][\w-]*)`", NODES))
    choices = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    known = {name for name in choices if "_" not in name}
    assert known - {"demo"} <= verbs
