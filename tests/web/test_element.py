"""<gs4d-player> in a real Chromium, from a web server: it plays, tells, says what is wrong, and leaves nothing behind."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from PIL import Image

from engine.playback.element import write_web_player
from engine.playback.player_file import decode_player_file
from engine.scene import Scene4D
from tests import markup
from tests.web import clips
from tests.web.pictures import Picture, engine_picture, over

pytestmark = [pytest.mark.browser]
SIZE = (288, 240)
VECTORS = Path(__file__).resolve().parents[1] / "player_format"
# as docs/web_player.md gives it
POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; worker-src blob:; style-src 'unsafe-inline'; "
    "connect-src 'self' data:"
)
LISTEN = """window.events = [];
for (const name of ['ready', 'timeupdate', 'play', 'pause', 'error'])
  document.addEventListener(name, e => window.events.push([e.target.id, name, e.detail]), true);"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, made: dict[str, bytes]) -> Iterator[tuple[Path, str]]:
    """A folder that a server gives out, and its address."""
    folder = tmp_path_factory.mktemp("site")
    write_web_player(made["swing"], folder, markup.SCRIPT)
    for name, data in made.items():
        (folder / f"{name}.gs4dclip").write_bytes(data)
    (folder / "cut.gs4dclip").write_bytes(made["swing"][: len(made["swing"]) // 2])
    (folder / "not.gs4dclip").write_text("<html>not found</html>")
    newer = made["swing"][:4] + (3).to_bytes(4, "little") + made["swing"][8:]
    (folder / "newer.gs4dclip").write_bytes(newer)
    segment = bytearray((VECTORS / "segments_cubic.gs4dclip").read_bytes())
    segment[12 + int.from_bytes(segment[8:12], "little") + 40] ^= 1
    (folder / "segment.gs4dclip").write_bytes(segment)
    for file in VECTORS.glob("*.gs4dclip"):
        (folder / f"vector_{file.name}").write_bytes(file.read_bytes())
    Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "poster.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Site:
    """A page with players, what it asked for, and what the players told it."""

    def __init__(self, tab: browser.Page, site: tuple[Path, str], body: str, head: str = "") -> None:
        self.tab, self.page, (self.folder, self.url) = tab, tab.page, site
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.add_init_script(LISTEN)
        style = (
            f"gs4d-player {{ width: {SIZE[0]}px; height: {SIZE[1]}px; aspect-ratio: auto; min-height: 0 }}"
        )
        (self.folder / "page.html").write_text(
            f'<!doctype html><meta charset="utf-8">{head}<script type="module" src="gs4d-player.js"></script>'
            f"<style>body {{ margin: 0 }} {style}</style><body>{body}</body>",
            encoding="utf-8",
        )
        self.page.goto(f"{self.url}/page.html")

    def js(self, expression: str, player: int = 0) -> Any:
        """An expression about the element `e` and its `view`."""
        return self.page.evaluate(
            f"async () => {{ const e = document.querySelectorAll('gs4d-player')[{player}];"
            f" const view = e.shadowRoot?.querySelector('.gs4d')?.gs4d; return {expression}; }}"
        )

    def ready(self, *names: str) -> None:
        for name in names or ("a",):
            self.told(name, "ready")

    def told(self, name: str, event: str) -> dict[str, Any]:
        found = f"events.find(([id, name]) => id === '{name}' && name === '{event}')"
        self.page.wait_for_function(f"() => {found}", timeout=60_000)
        return self.page.evaluate(f"() => {found}[2]")

    def picture(self, player: int = 0) -> Picture:
        data = self.js("(await view.picture()).toDataURL('image/png')", player).partition(",")[2]
        rgba = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")).astype(np.float64)
            / 255
        )
        rgba[..., :3] *= rgba[..., 3:]
        return rgba

    def says(self, player: int = 0) -> str:
        return self.js("view.panel.say.hidden ? '' : view.panel.say.textContent", player)


@pytest.fixture
def tab(chromium: str) -> Iterator[browser.Page]:
    with browser.browsing(chromium, 640, 480) as opened:
        yield opened


def engine_at(data: bytes, seconds: float, view: int) -> Picture:
    content = decode_player_file(data, "a")
    rig = content.cameras.resized((SIZE,) * len(content.cameras.names))
    return engine_picture(content.at(seconds), rig, view)


def test_it_plays_scrubs_and_tells(tab: browser.Page, site: tuple[Path, str], made: dict[str, bytes]) -> None:
    page = Site(tab, site, '<gs4d-player id="a" src="everything.gs4dclip" autoplay loop></gs4d-player>')
    about = page.told("a", "ready")
    content = decode_player_file(made["everything"], "everything")
    assert (
        about["gaussians"] == len(content.base) and about["frames"] == 13 and about["title"] == "everything"
    )
    page.told("a", "play")
    page.page.wait_for_function("() => events.filter(e => e[1] === 'timeupdate').length > 5")
    page.js("(e.pause(), 0)")
    page.told("a", "pause")
    assert page.js("[e.paused, e.duration]") == [True, pytest.approx(about["duration"])]
    for share, view in ((0.0, 0), (0.37, 1), (1.0, 2)):
        seconds = share * about["duration"]
        page.js(f"(e.camera = e.cameras[{view}], e.currentTime = {seconds}, 0)")
        off = np.abs(over(page.picture(), 0) - over(engine_at(made["everything"], seconds, view), 0)).mean()
        assert off < 0.003, f"at {seconds}: {off}"
        assert page.js("[e.currentTime, e.camera]") == [pytest.approx(seconds), content.cameras.names[view]]
    files = [url.rsplit("/", 1)[1] for url in page.asked if not url.startswith(("blob:", "data:"))]
    assert sorted(f for f in files if f != "favicon.ico") == [
        "everything.gs4dclip",
        "gs4d-player.js",
        "page.html",
    ]
    assert not tab.complaints_about_the_pack() and not page.says()


def test_two_players_do_not_disturb_each_other(
    tab: browser.Page, site: tuple[Path, str], made: dict[str, bytes]
) -> None:
    body = (
        '<gs4d-player id="a" src="swing.gs4dclip"></gs4d-player>'
        '<gs4d-player id="b" src="everything.gs4dclip" background="black" loop></gs4d-player>'
    )
    page = Site(tab, site, body)
    page.ready("a", "b")
    for i, seconds in enumerate((0.4, 1.1)):
        page.js(f"(e.currentTime = {seconds}, 0)", i)
    for i, (name, seconds) in enumerate((("swing", 0.4), ("everything", 1.1))):
        off = np.abs(over(page.picture(i), 0) - over(engine_at(made[name], seconds, 0), 0)).mean()
        assert off < 0.003, f"{name}: {off}"
    page.js("(e.play(), 0)", 1)
    page.page.wait_for_function(
        "() => events.some(e => e[0] === 'b' && e[1] === 'timeupdate' && e[2].currentTime > 1.2)"
    )
    assert page.js("[e.paused, e.currentTime]") == [True, pytest.approx(0.4)]
    colors = [page.js("getComputedStyle(view.panel.port).backgroundColor", i) for i in (0, 1)]
    assert colors == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.page.evaluate("document.getElementById('gs4d-style')") is None, (
        "the page's own styles are its own"
    )
    assert not tab.complaints_about_the_pack()


@pytest.mark.parametrize(
    ("src", "sentence"),
    [
        ("missing.gs4dclip", "missing.gs4dclip could not be loaded: the server answered 404; check the address in src."),
        ("not.gs4dclip", "not.gs4dclip is not a player file; use a .gs4dclip file."),
        ("cut.gs4dclip", "bytes do not hold its splat; reload the page, or export it again."),
        ("newer.gs4dclip", "version 3, but this player supports versions 1 and 2; update the player."),
        ("segment.gs4dclip", "its splat is damaged; reload the page, or export it again."),
        ("http://127.0.0.1:9/a.gs4dclip", "a.gs4dclip could not be loaded: check the address in src"),
        ("https://:no address", "could not be loaded: check the address in src"),
        ("", "This player has no src"),
        ("%3Cimg src=x onerror=window.ran=1%3E", "<img src=x onerror=window.ran=1> could not be loaded"),
    ],
)  # fmt: skip
def test_a_bad_src_is_a_sentence_in_the_element(
    tab: browser.Page, site: tuple[Path, str], src: str, sentence: str
) -> None:
    page = Site(tab, site, f'<gs4d-player id="a" src="{src}"></gs4d-player>')
    message = page.told("a", "error")["message"]
    assert sentence in message and page.says() == message
    assert page.page.get_by_role("status").inner_text() == message
    assert page.page.evaluate(markup.RAN) is None
    # nobody has a graph, a node or a pack here
    assert not re.search(r"ComfyUI|graph|nodes?\b|pack\b", message)
    # another address mends it
    page.js("(e.src = 'still.gs4dclip', 0)")
    page.ready()
    assert not page.says()
    assert not [text for text in tab.complaints if "uncaught" in text]


def test_names_that_are_markup_are_text(
    tab: browser.Page, site: tuple[Path, str], scenes: dict[str, Scene4D]
) -> None:
    rig = scenes["swing"].rig
    scene = scenes["swing"].with_(rig=replace(rig, names=(markup.IMAGE, markup.SCRIPT, "cam02")))
    (site[0] / "marked.gs4dclip").write_bytes(clips.baked(scene, markup.SCRIPT))
    page = Site(tab, site, '<gs4d-player id="a" src="marked.gs4dclip" controls></gs4d-player>')
    assert page.told("a", "ready")["title"] == markup.SCRIPT
    assert page.js("e.cameras")[:2] == [markup.IMAGE, markup.SCRIPT]
    assert page.js("[...view.panel.cameras.options].map(o => o.textContent)")[1:3] == [
        markup.IMAGE,
        markup.SCRIPT,
    ]
    assert page.js("e.shadowRoot.querySelectorAll('img, script').length") == 0
    # the folder's own page too: its title is such a name
    page.page.goto(f"{page.url}/index.html")
    assert page.page.title() == markup.SCRIPT and page.page.locator("h1").inner_text() == markup.SCRIPT
    page.page.wait_for_timeout(300)
    assert page.page.evaluate(markup.RAN) is None


def test_a_removed_player_frees_its_context_and_memory(tab: browser.Page, site: tuple[Path, str]) -> None:
    page = Site(
        tab, site, '<div id="box"><gs4d-player id="a" src="swing.gs4dclip" autoplay loop></gs4d-player></div>'
    )
    page.ready()
    page.js(
        "(window.gl = view.stage.gl, window.kept = new WeakRef(view), window.stage = new WeakRef(view.stage), 0)"
    )
    # moving it is not removing it
    page.js("(document.body.prepend(e), 0)")
    page.page.wait_for_timeout(200)
    assert page.js("view === window.kept.deref() && !view.closed && !window.gl.isContextLost()")
    page.js("(window.element = e, e.remove(), 0)")
    page.page.wait_for_function("() => window.gl.isContextLost()")
    page.page.evaluate("() => { window.gl = null; window.events = []; }")
    session = page.page.context.new_cdp_session(page.page)
    for _ in range(20):
        session.send("HeapProfiler.collectGarbage")
        page.page.wait_for_timeout(200)
        if page.page.evaluate("() => !window.kept.deref() && !window.stage.deref()"):
            break
    assert page.page.evaluate("() => [!window.kept.deref(), !window.stage.deref()]") == [True, True]
    # and it comes back
    page.page.evaluate("() => { document.body.append(window.element); }")
    page.ready()
    assert page.js("view.plays && !view.stage.lost")
    # one that goes while it is being loaded leaves nothing either
    page.page.evaluate(
        "() => { const e = document.createElement('gs4d-player'); e.src = 'everything.gs4dclip'; document.body.prepend(e);"
        " window.late = e.shadowRoot.querySelector('.gs4d').gs4d; setTimeout(() => e.remove(), 30); }"
    )
    page.page.wait_for_function("() => window.late.closed && !window.late.pending && !window.late.stage")
    assert not tab.complaints_about_the_pack()


def test_keys_and_wheel(tab: browser.Page, site: tuple[Path, str]) -> None:
    tall = '<div style="height: 3000px"></div>'
    page = Site(tab, site, f'<gs4d-player id="a" src="swing.gs4dclip" controls></gs4d-player>{tall}')
    page.ready()
    mouse, press = page.page.mouse, page.page.keyboard.press
    before = page.js("view.state.camera.position")
    mouse.move(100, 60)
    mouse.wheel(0, 200)
    page.page.wait_for_function("() => scrollY > 0")
    assert page.js("view.state.camera.position") == before, "the page scrolls over a player that nobody uses"
    page.page.evaluate("() => scrollTo(0, 0)")
    press("Tab")
    assert page.js("e.shadowRoot.activeElement === view.panel.port")
    press("Space")
    assert page.js("e.paused") is False
    press("Space")
    assert page.js("e.paused") is True
    page.js("(e.currentTime = 0, 0)")
    press("ArrowRight")
    assert page.js("view.player.frame") == 1
    press("Shift+ArrowRight")
    turned = page.js("view.state.camera.position")
    assert np.abs(np.array(turned) - before).max() > 0.05 and page.js("view.player.frame") == 1
    distance = "Math.hypot(...view.state.camera.position.map((v, i) => v - view.state.camera.target[i]))"
    far = page.js(distance)
    press("+")
    assert page.js(distance) == pytest.approx(0.9 * far)
    press("-")
    assert page.js(distance) == pytest.approx(far)
    mouse.wheel(0, 200)
    page.page.wait_for_timeout(200)
    assert page.js(distance) > far and page.page.evaluate("scrollY") == 0, "in use, the wheel zooms"
    # everything is reached by Tab and has a name
    for _ in range(3):
        press("Tab")
    assert page.js("e.shadowRoot.activeElement.ariaLabel")
    mouse.click(100, 460)
    assert page.js("e.shadowRoot.activeElement") is None
    # a press on a button keeps the focus inside
    page.page.get_by_label("Next frame (right arrow)").click()
    assert page.js("e.shadowRoot.activeElement === view.panel.forward") and page.js("view.player.frame") == 2


def test_attributes(tab: browser.Page, site: tuple[Path, str]) -> None:
    page = Site(tab, site, '<gs4d-player id="a" src="swing.gs4dclip" poster="poster.png"></gs4d-player>')
    page.ready()
    visible = "[view.panel.timeline, view.panel.tools].map(row => getComputedStyle(row).display !== 'none')"
    assert page.js(visible) == [False, False]
    page.js("(e.setAttribute('controls', 'timeline'), 0)")
    assert page.js(visible) == [True, False]
    page.js("(e.setAttribute('controls', ''), 0)")
    assert page.js(visible) == [True, True]
    page.page.wait_for_function(
        "() => !document.querySelector('gs4d-player').shadowRoot.querySelector('.gs4d-poster')"
    )
    assert any(url.endswith("/poster.png") for url in page.asked)
    assert page.js("view.player.loop") is False
    page.js("(e.toggleAttribute('loop'), 0)")
    assert page.js("view.player.loop") is True
    for name, color in (
        ("gray", "rgb(128, 128, 128)"),
        ("transparent", "rgba(0, 0, 0, 0)"),
        ("url(x)", "rgb(255, 255, 255)"),
    ):
        page.js(f"(e.setAttribute('background', '{name}'), 0)")
        page.picture()
        assert page.js("getComputedStyle(view.panel.port).backgroundColor") == color, name
    page.js("(e.setAttribute('background', 'transparent'), 0)")
    assert page.js("getComputedStyle(view.element).backgroundColor") == "rgba(0, 0, 0, 0)", "the page is seen"
    page.js("(e.src = 'everything.gs4dclip', 0)")
    page.page.wait_for_function("() => events.filter(e => e[1] === 'ready').length === 2")
    assert page.js("view.clips[0].title") == "everything"


def test_only_players_near_the_window_load(tab: browser.Page, site: tuple[Path, str]) -> None:
    far = '<div style="height: 4000px"></div><gs4d-player id="b" src="still.gs4dclip"></gs4d-player>'
    page = Site(tab, site, f'<gs4d-player id="a" src="swing.gs4dclip"></gs4d-player>{far}')
    page.ready("a")
    page.page.wait_for_timeout(300)
    assert not any("still" in url for url in page.asked)
    page.page.evaluate("() => scrollTo(0, 4000)")
    page.ready("b")


def test_a_page_with_the_documented_security_policy(tab: browser.Page, site: tuple[Path, str]) -> None:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    assert POLICY in (Path(__file__).resolve().parents[2] / "docs" / "web_player.md").read_text(
        encoding="utf-8"
    )
    page = Site(tab, site, '<gs4d-player id="a" src="swing.gs4dclip"></gs4d-player>', policy)
    page.ready()
    assert over(page.picture(), 1).min() < 0.9
    assert not [
        text for text in tab.complaints if "Content Security Policy" in text and "favicon" not in text
    ]


@pytest.mark.parametrize("name", ["cubic", "hold", "linear", "still", "segments_cubic", "segments_hold"])
def test_the_renderer_decodes_the_first_frame_of_the_vectors(
    tab: browser.Page, site: tuple[Path, str], name: str
) -> None:
    page = Site(tab, site, f'<gs4d-player id="a" src="vector_{name}.gs4dclip"></gs4d-player>')
    page.ready()
    base = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["base"]
    said = page.js(
        "await (async () => { const found = []; const mesh = view.stage.sides[0].mesh;"
        " mesh.forEachSplat((i, center, scales, turn, opacity, color) => found.push([center.toArray(), scales.toArray(),"
        " turn.toArray(), opacity, color.toArray()])); return found; })()"
    )
    assert len(said) == len(base["centers"])
    for i, (center, scales, turn, opacity, color) in enumerate(said):
        np.testing.assert_allclose(center, base["centers"][i], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(scales, base["scales"][i], rtol=5e-3)
        assert abs(np.dot(turn, base["rotations"][i])) > 1 - 1e-3
        assert abs(opacity - base["opacities"][i]) < 2e-3
        np.testing.assert_allclose(color, base["colors"][i], atol=4e-3)
