"""What a frame costs in the player and in other splat renderers, side by side in one headless Chromium.

    python benchmarks/player_peers.py [--json] [--gaussians 5000 50000] [--moments 48] [--size 512] [--frames 5] [--rounds 3]
        [--images FOLDER]

Renderers: the player of this pack, the same with one Gaussian in an instance (`unbatched`), plain Spark (the version that the
player contains) and gsplat.js, which show the first frame as a still scene. Cases: `playing` (another time in each frame),
`still` (the same image again) and `orbiting` (the camera turns, the time stands). `draw_ms` is the time until GL has completed
a frame. Renderers and cases take turns, and before each frame the sorting that the last one began has ended. The renderers
come from npm into tools/peers on the first run. GL is software; needs playwright, a Chromium (CHROMIUM_PATH, or the one on
the path) and npm. `--images` keeps what each draws.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.clip import SEED, figure
from benchmarks.environment import environment
from benchmarks.player import chromium
from engine.errors import InputError
from engine.io.ply import write_ply
from engine.io.spz import write_spz
from engine.messages import result
from engine.playback.page import write_page
from engine.steps import bake_clip
from tests.web import browser

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "tools" / "peers"
# never asked: every request is answered from files
SITE = "http://localhost:1"
KINDS = {".html": "text/html", ".js": "text/javascript", ".spz": "application/octet-stream"}
CASES = {
    "player": ("playing", "still", "orbiting"),
    "unbatched": ("playing", "still", "orbiting"),
    "spark": ("still", "orbiting"),
    "gsplatjs": ("still", "orbiting"),
}
UNBATCHED = "export const drawInBatches = () => false;"
# the player, with the interface of player_peers.html
OPEN_PLAYER = """async (count) => {
  const view = document.querySelector('.gs4d').gs4d, { stage, player } = view, draw = stage.draw.bind(stage);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms)), cameras = [];
  await view.picture(); // stops, and waits until all is sorted
  stage.draw = (given) => cameras.push(given);
  for (let i = 0; i < count; i++) {
    view.turn(0.03, 0);
    view.draw();
  }
  let camera = cameras[0];
  stage.draw = (given, ...more) => draw(camera, ...more);
  window.peer = {
    gl: stage.gl, look: (given) => { camera = given; }, draw: () => view.draw(),
    time: (share) => player.seek(player.start + share * (player.end - player.start)),
  };
  window.settle = async () => {
    const ends = performance.now() + 60_000;
    do {
      if (stage.stale) view.draw();
      await pause(50);
    } while ((view.waiting || stage.busy || stage.unsettled) && performance.now() < ends);
    await pause(100);
  };
  await settle();
  return cameras.slice(0, count);
}"""
MEASURE = """async ([cameras, times]) => {
  const pixel = new Uint8Array(4), spent = [], { gl } = peer;
  for (let i = 0; i < cameras.length; i++) {
    await settle();
    const begun = performance.now();
    peer.look(cameras[i]);
    peer.time?.(times[i]);
    peer.draw();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits for the GL
    spent.push(performance.now() - begun);
  }
  await settle();
  return spent;
}"""
RENDERER = """() => { const info = peer.gl.getExtension('WEBGL_debug_renderer_info');
  return peer.gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : peer.gl.RENDERER); }"""
IMAGE = """() => { peer.draw(); return document.querySelector('canvas').toDataURL('image/png'); }"""


def modules() -> Path:
    """node_modules with the other renderers, installed where it is missing."""
    folder, npm = PEERS / "node_modules", shutil.which("npm")
    if not all((folder / name).is_dir() for name in ("three", "gsplat", "@sparkjsdev/spark")):
        if npm is None:
            raise InputError("BEN-018", "npm was not found; install Node.js to compare with other renderers.")
        subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=PEERS,
            check=True,
            stdout=sys.stderr,
        )
    return folder


def serve(page: Any, files: dict[str, Path]) -> None:
    """Answer every request of `page` from `files` and from the installed modules."""

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(SITE + "/").split("?")[0]
        path = files.get(name) or modules() / name.removeprefix("modules/")
        if not path.is_file():
            return route.fulfill(status=404)
        return route.fulfill(content_type=KINDS.get(path.suffix, "text/plain"), body=path.read_bytes())

    page.route("**/*", answer)


def measure(count: int, arguments: argparse.Namespace, folder: Path, opened: Any) -> list[dict[str, Any]]:
    """One row for each renderer and case, at `count` Gaussians."""
    baked = result(bake_clip.run(figure(count, arguments.moments), bake_clip.Config()))
    base, web = baked.player_file.base, folder / "web"
    shutil.copytree(HERE.parent / "web", web, dirs_exist_ok=True)
    (web / "batches.mjs").write_text(UNBATCHED, encoding="utf-8")
    files = {
        "player.html": write_page([baked.data], folder / "player.html", "benchmark"),
        "unbatched.html": write_page([baked.data], folder / "unbatched.html", "benchmark", web),
        "peer.html": HERE / "player_peers.html",
        "scene.spz": write_spz(base, folder / "scene.spz"),
        "scene.ply": write_ply(base, folder / "scene.ply"),
    }
    pages, cameras = {}, []
    for name in CASES:
        page = pages[name] = opened.new_page(viewport={"width": arguments.size, "height": arguments.size})
        page.on("pageerror", lambda error: print(f"page: {error}", file=sys.stderr))
        serve(page, files)
        if name in ("player", "unbatched"):
            page.goto(f"{SITE}/{name}.html")
            page.wait_for_function(
                "() => document.querySelector('.gs4d')?.gs4d.clips.length", timeout=120_000
            )
            extra = page.evaluate("document.querySelector('.gs4d').clientHeight - "
                                  "document.querySelector('.gs4d-port').clientHeight")  # fmt: skip
            page.set_viewport_size({"width": arguments.size, "height": arguments.size + extra})
            cameras = page.evaluate(OPEN_PLAYER, arguments.frames + 1)  # the same for both
        else:
            page.goto(f"{SITE}/peer.html")
            page.wait_for_function("() => window.open_peer", timeout=60_000)
            page.evaluate("([name, size]) => open_peer(name, size)", [name, arguments.size])
            page.evaluate("(camera) => { peer.look(camera); return settle(); }", cameras[0])
    spent: dict[tuple[str, str], list[float]] = {
        (name, case): [] for name, cases in CASES.items() for case in cases
    }
    for turn in range(arguments.rounds):
        for name, case in spent:
            pages[name].bring_to_front()
            still = case != "orbiting"
            views = [cameras[0]] * arguments.frames if still else cameras[1:]
            # the frame of the other renderers is the first one; no two times of all rounds are equal
            steps = arguments.frames * arguments.rounds + 1
            times = [
                (turn * arguments.frames + i + 1) / steps if case == "playing" else 0
                for i in range(arguments.frames)
            ]
            pages[name].evaluate(
                "(camera) => { peer.look(camera); peer.time?.(0); peer.draw(); return settle(); }", cameras[0]
            )
            spent[name, case] += pages[name].evaluate(MEASURE, [views, times])
    rows = []
    for (name, case), times in spent.items():
        rows.append({"gaussians": count, "renderer": name, "case": case, "draw_ms": statistics.median(times),
                     "min": min(times), "n": len(times), "gl": pages[name].evaluate(RENDERER)})  # fmt: skip
    for name, page in pages.items():
        if arguments.images:
            Path(arguments.images).mkdir(parents=True, exist_ok=True)
            page.evaluate(
                "(camera) => { peer.look(camera); peer.time?.(0); peer.draw(); return settle(); }", cameras[0]
            )
            image = page.evaluate(IMAGE)
            (Path(arguments.images) / f"{name}_{count}.png").write_bytes(
                base64.b64decode(image.split(",")[1])
            )
        page.close()
    return rows


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--gaussians", type=int, nargs="+", default=[5000, 50_000])
    parser.add_argument("--moments", type=int, default=48)
    parser.add_argument("--size", type=int, default=512, help="pixels, both ways")
    parser.add_argument("--frames", type=int, default=5, help="of a case in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", help="a folder for an image of each renderer")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        executable = chromium()
        modules()
        rows: list[dict[str, Any]] = []
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
            opened = playwright.chromium.launch(executable_path=executable, headless=True, args=browser.FLAGS)
            try:
                for count in arguments.gaussians:
                    rows += measure(count, arguments, Path(folder), opened)
            finally:
                opened.close()
    except InputError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps({"rows": rows, "load": os.getloadavg()[0], "env": environment("cpu", SEED)}))
        return 0
    for row in rows:
        print("{gaussians:>7} {renderer:<9} {case:<9} {draw_ms:8.1f} ms  min {min:8.1f}  n {n}".format(**row))
    print(rows[0]["gl"], f"load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
