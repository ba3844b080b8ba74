"""Keeps every workflow that the pack ever shipped: python tests/old_graphs/collect.py

Each distinct workflows/*.json of the history is written once, as DATE-COMMIT-NAME.json of the commit that brought it. Run it
after a workflow was committed; people have saved graphs made from all of these, and tests open every one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

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


def main() -> None:
    known = {path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}
    for line in git("log", "--reverse", "--format=%h %cs", "--", "workflows").splitlines():
        commit, day = line.split()
        for name in git("ls-tree", "--name-only", commit, "workflows/").splitlines():
            if not name.endswith(".json"):
                continue
            graph = json.loads(git("show", f"{commit}:{name}"))
            text = json.dumps(graph, ensure_ascii=False, separators=(",", ":")) + "\n"
            if text not in known:
                known.add(text)
                target = HERE / f"{day.replace('-', '')}-{commit}-{Path(name).name}"
                target.write_text(text, encoding="utf-8")
                print(target.name)


if __name__ == "__main__":
    main()
