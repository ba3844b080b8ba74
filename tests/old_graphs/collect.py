"""Keeps every workflow that the pack ever shipped: python tests/old_graphs/collect.py

Each workflows/*.json of the history with other nodes, numbers or wires is written once, as DATE-COMMIT-NAME.json of the
commit that brought it. Run it after a workflow was committed; people have saved graphs made from all of these, and tests
open every one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments],
        check=True,
        capture_output=True,
        text=True,
        encoding="utf-8",
    ).stdout


def meaning(graph: dict[str, Any]) -> str:
    """What matters when a graph is opened again: nodes, numbers and wires, not where they stand nor what notes say."""
    nodes = [
        {k: v for k, v in node.items() if k not in ("pos", "size", "order", "color", "bgcolor")}
        for node in graph["nodes"]
        if node["type"] not in ("MarkdownNote", "Note")
    ]
    return json.dumps([sorted(nodes, key=lambda node: node["id"]), graph["links"]], sort_keys=True)


def main() -> None:
    known = {meaning(json.loads(path.read_text(encoding="utf-8"))) for path in HERE.glob("*.json")}
    for line in git("log", "--reverse", "--format=%h %cs", "--", "workflows").splitlines():
        commit, day = line.split()
        for name in git("ls-tree", "--name-only", commit, "workflows/").splitlines():
            if not name.endswith(".json"):
                continue
            graph = json.loads(git("show", f"{commit}:{name}"))
            if meaning(graph) not in known:
                known.add(meaning(graph))
                target = HERE / f"{day.replace('-', '')}-{commit}-{Path(name).name}"
                text = json.dumps(graph, ensure_ascii=False, separators=(",", ":"))
                target.write_text(text + "\n", encoding="utf-8")
                print(target.name)


if __name__ == "__main__":
    main()
