"""How fast the player draws in this machine's browser: frames per second while playing and while orbiting.

    python benchmarks/player.py [--json] [--scene FILE] [--gaussians 50000] [--moments 48] [--size 512] [--seconds 6] [--gpu]

Opens the standalone page from disk in a headless Chromium (CHROMIUM_PATH, or the one on the path; needs playwright).
Without --gpu it uses software GL; `renderer` names the renderer. `draw_ms` is one frame completed by GL: motion
interpolated for every Gaussian, and all of them drawn. Without --scene, the figure of benchmarks/clip.py is played.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clip import SEED, report_text, scene_of, scene_parser
from benchmarks.environment import environment
from engine.errors import InputError
from engine.messages import result
from engine.playback.page import write_page
from engine.steps import bake_clip
from tests.web import browser

ON_A_GPU = ["--no-sandbox", "--no-first-run", "--ignore-gpu-blocklist", "--enable-gpu"]
MEASURE = """async (seconds) => {
  const view = document.querySelector('.gs4d').gs4d, { gl } = view.stage;
  const info = gl.getExtension('WEBGL_debug_renderer_info');
  const wait = (ms) => new Promise(done => setTimeout(done, ms));
  const rate = async () => { const from = view.stage.frames, t = performance.now(); await wait(1000 * seconds);
    return 1000 * (view.stage.frames - from) / (performance.now() - t); };
  await view.picture(); // stops, and waits until all is sorted
  view.player.play();
  await wait(1500);
  const playing = await rate();
  view.player.pause();
  const turning = setInterval(() => view.turn(0.01, 0), 1000 / 60);
  const turned = await rate();
  clearInterval(turning);
  await view.picture();
  const pixel = new Uint8Array(4), times = [];
  for (let i = 0; i < 12; i++) {
    view.player.seek(view.player.start + (i + 1) / 13 * (view.player.end - view.player.start));
    const t = performance.now();
    view.draw();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);  // waits for the GL
    times.push(performance.now() - t);
    await wait(50);
  }
  times.sort((a, b) => a - b);
  return { fps_playing: playing, fps_turning: turned, draw_ms: times[6], 
    renderer: gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER) };
}"""


def chromium() -> str:
    """Path of a Chromium. Raises InputError where none is found."""
    executable = browser.chromium()
    if executable is None:
        raise InputError("BEN-008", "Chromium was not found; install it or set CHROMIUM_PATH.")
    return executable


def measure(page_file: Path, size: int, seconds: float, gpu: bool) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    executable = chromium()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=executable, headless=True, args=ON_A_GPU if gpu else browser.FLAGS
        )
        try:
            page = opened.new_page(viewport={"width": size, "height": size})
            page.goto(page_file.as_uri())
            page.wait_for_function(
                "() => document.querySelector('.gs4d')?.gs4d.clips.length", timeout=120_000
            )
            extra = page.evaluate("document.querySelector('.gs4d').clientHeight - "
                                  "document.querySelector('.gs4d-port').clientHeight")  # fmt: skip
            page.set_viewport_size({"width": size, "height": size + extra})
            return page.evaluate(MEASURE, seconds)
        finally:
            opened.close()


def main() -> int:
    parser = scene_parser(__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels, both ways")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each of the two ways")
    parser.add_argument("--gpu", action="store_true", help="let the browser use this machine's GPU")
    arguments = parser.parse_args()
    try:
        baked = result(bake_clip.run(scene_of(arguments), bake_clip.Config()))
        with tempfile.TemporaryDirectory() as folder:
            page = write_page([baked.data], Path(folder) / "page.html", "benchmark")
            report = measure(page, arguments.size, arguments.seconds, arguments.gpu)
    except InputError as error:
        print(json.dumps({"error": str(error)}) if arguments.json else f"error: {error}", file=sys.stderr)
        return 1
    report = {
        "gaussians": len(baked.player_file.base),
        "moving": baked.player_file.moving,
        "size": arguments.size,
        **report,
    }
    report = {k: round(v, 2) if isinstance(v, float) else v for k, v in report.items()}
    report["env"] = environment("gpu" if arguments.gpu else "cpu", SEED)
    report_text(report, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
