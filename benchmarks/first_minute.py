"""How long an artist waits on the canvas: from Run to the first picture of a moving scene, and to the first edit.

    python benchmarks/first_minute.py [--workflow play_and_edit] [--json] [--picture FILE.png]

Starts a real ComfyUI server with the pack in a new, empty folder, opens the workflow in a headless Chromium (CHROMIUM_PATH,
or the one on the path; needs playwright) that draws without a GPU, and presses Run; then all of it once more. `first` compiles
the kernels, which happens once on a machine, and `later` does not. `players` are the seconds after which each player of the
graph had loaded its scene; `finished` is the whole run, `nodes` the seconds of each node. The browser takes its share of the
same CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "comfy"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "web"))

import browser
import server
import setup_comfy

from benchmarks.environment import environment
from engine.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
# how many players show what they loaded, and how the run ended
STATE = """() => [[...document.querySelectorAll('.gs4d')].filter(host => host.gs4d?.clips.length
  && host.gs4d.panel.say.hidden).length, window.outcome]"""
LONGEST = 900.0
# notes when each node begins; ComfyUI names the node, and null at the end
LISTEN = """() => {
  window.begun = [];
  app.api.addEventListener('executing', event => window.begun.push(
    [performance.now() / 1000, app.graph.getNodeById(event.detail)?.type ?? null]));
}"""


def measure(name: str, picture: str | None) -> dict[str, Any]:
    comfy, executable = setup_comfy.locate(), browser.chromium()
    if comfy is None or executable is None:
        raise InputError(
            "BEN-016",
            "ComfyUI or Chromium is missing; 'make comfy-env' builds the first, CHROMIUM_PATH names the second.",
        )
    graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as base:
        # the cache of compiled kernels is named after the folder of the pack
        first, later = (_run(comfy, executable, Path(base), graph, picture) for _ in range(2))
    return {"workflow": name, "first": first, "later": later}


def _run(
    comfy: Any, executable: str, base: Path, graph: dict[str, Any], picture: str | None
) -> dict[str, Any]:
    """Run the graph in a new server."""
    with (
        server.serving(comfy.tree, comfy.python, base) as running,
        browser.browsing(executable, 1900, 1000) as page,
    ):
        page.open(running.url)
        page.js("graph => app.loadGraphData(graph)", graph)
        page.page.wait_for_timeout(1500)
        page.fit()
        began, players = time.monotonic(), []
        page.js(LISTEN)
        page.js(browser.RUN)
        outcome = None
        while outcome is None and time.monotonic() - began < LONGEST:
            shown, outcome = page.js(STATE)
            players += [round(time.monotonic() - began, 1)] * (shown - len(players))
            time.sleep(0.2)
        finished = round(time.monotonic() - began, 1)
        # the last player loads its file when the run is over
        total = sum(node["type"] == "GS4D_Preview4DScene" for node in graph["nodes"])
        while outcome == "success" and len(players) < total and time.monotonic() - began < LONGEST:
            players += [round(time.monotonic() - began, 1)] * (page.js(STATE)[0] - len(players))
            time.sleep(0.2)
        if picture:
            page.fit()
            page.picture(picture)
        nodes = _seconds(page.js("() => window.begun"))
        return {
            "outcome": outcome,
            "players": players,
            "finished": finished,
            "nodes": nodes,
        }


def _seconds(begun: list[tuple[float, str | None]]) -> list[tuple[str, float]]:
    """(type, seconds) of each node that ran, in order, from (seconds, type) of their beginnings."""
    return [(name, round(after[0] - at, 1)) for (at, name), after in pairwise(begun) if name is not None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workflow", default="play_and_edit")
    parser.add_argument("--picture", help="also write a picture of the canvas after the run")
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    arguments = parser.parse_args()
    print(json.dumps({**measure(arguments.workflow, arguments.picture), "env": environment("cpu", 0)}))


if __name__ == "__main__":
    main()
