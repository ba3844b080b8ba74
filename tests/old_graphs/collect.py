"""Keeps the workflows that the pack ships: python tests/old_graphs/collect.py

Each committed workflows/*.json whose nodes, numbers or wires are not kept yet is written once, as DATE-COMMIT-NAME.json of
the commit that last changed it. Run it at the end of a day on which workflows were committed; people have saved graphs made
from all of these, and tests open every one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
# types of inputs that are values on the node
VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


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


def as_saved(graph: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """The graph with a slot for every value, as the canvas saves it: values of new inputs were appended by hand."""
    for node in graph["nodes"]:
        names = {slot["name"] for slot in node.get("inputs", ()) if slot.get("widget")}
        count = len(node.get("widgets_values") or ()) - len(names)
        if node["type"] not in schemas or count <= 0:
            continue
        declared = schemas[node["type"]]["inputs"].items()
        new = [(n, about["type"]) for n, about in declared if about["type"] in VALUES and n not in names]
        assert len(new) == count, f"{node['type']}: run tests/web/make_workflow.py first"
        node["inputs"] += [
            {"name": name, "type": kind, "widget": {"name": name}, "link": None} for name, kind in new
        ]
    return graph


def main() -> None:
    schemas = json.loads(git("show", "HEAD:tests/nodes/schemas.json"))
    known = {meaning(json.loads(path.read_text(encoding="utf-8"))) for path in HERE.glob("*.json")}
    for name in git("ls-tree", "--name-only", "HEAD", "workflows/").splitlines():
        if not name.endswith(".json"):
            continue
        graph = as_saved(json.loads(git("show", f"HEAD:{name}")), schemas)
        if meaning(graph) not in known:
            commit, day = git("log", "-1", "--format=%h %cs", "--", name).split()
            target = HERE / f"{day.replace('-', '')}-{commit}-{Path(name).name}"
            text = json.dumps(graph, ensure_ascii=False, separators=(",", ":"))
            target.write_text(text + "\n", encoding="utf-8")
            print(target.name)


if __name__ == "__main__":
    main()
