"""Writes the table of nodes and commands in docs/nodes.md from the steps' declarations: python tools/node_table.py"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
from engine.steps import all_steps  # noqa: E402

PAGE = REPOSITORY / "docs" / "nodes.md"
OPEN, CLOSE = "<!-- from the steps -->", "<!-- end -->"


def table() -> str:
    """One row for each step that declares itself, in menu order."""
    rows = ["| node | what it does | command |", "| --- | --- | --- |"]
    for step in all_steps():
        names = step.label if step.settings is None else f"{step.label}, {step.settings.label}"
        rows.append(f"| {names} | {step.description} | {f'`{step.verb}`' if step.verb else ''} |")
    return "\n".join(rows)


def renewed(text: str) -> str:
    """The page with its table renewed; it must have both marks."""
    before, _, rest = text.partition(OPEN)
    _, mark, after = rest.partition(CLOSE)
    assert mark, f"{PAGE.name} lacks the marks {OPEN} … {CLOSE}"
    return f"{before}{OPEN}\n{table()}\n{CLOSE}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
