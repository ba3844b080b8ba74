"""The standalone page in a real Chromium, opened from disk: it draws what the engine draws, and nothing else is fetched."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest

from engine.playback.page import WEB, write_page
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import decode_player_file
from engine.scene import Scene4D
from tests import markup
from tests.web import clips
from tests.web.pictures import centroid, coverage, drawn, engine_picture, over

pytestmark = [pytest.mark.browser]
SIZE = (288, 240)  # of the viewport; the scenes' cameras have this shape
NO_WEBGL2 = """const real = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind === 'webgl2' ? null : real.call(this, kind, ...more);
};"""
COUNT_UPLOADS = """for (const name of ['texImage3D', 'texSubImage3D', 'texStorage3D', 'compressedTexSubImage3D']) {
  const real = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...all) {
    if (name !== 'texStorage3D' && all.at(-1) ) window.uploads = (window.uploads ?? 0) + 1;
    return real.apply(this, all);
  };
}"""


class OpenPage:
    """A page from disk, with what it asked for and what it complained of."""

    def __init__(self, tab: browser.Page, path: Path, plays: bool = True) -> None:
        self.tab, self.page = tab, tab.page
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        if plays:
            self.page.wait_for_function(
                "() => document.querySelector('.gs4d')?.gs4d.clips.length", timeout=60_000
            )
            self.fit(*SIZE)

    def fit(self, width: int, height: int) -> None:
        """Give the viewport of the player this size, whatever its buttons take."""
        for _ in range(3):  # fewer rows of buttons fit beside each other in a narrower window
            extra = self.js("panel.root.clientHeight - panel.port.clientHeight")
            self.page.set_viewport_size({"width": width, "height": height + extra})
            self.page.wait_for_timeout(50)
        assert self.js("[panel.port.clientWidth, panel.port.clientHeight]") == [width, height]

    def js(self, expression: str) -> Any:
        """An expression about the `view` and its `panel`."""
        return self.page.evaluate(
            "() => { const view = document.querySelector('.gs4d').gs4d, { panel } = view; return "
            + expression
            + " }"
        )

    def picture(self, **at: Any) -> Any:
        return drawn(self.page, **at)

    def middle(self, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        return SIZE[0] * x, SIZE[1] * y


@pytest.fixture
def tab(chromium: str) -> Iterator[browser.Page]:
    with browser.browsing(chromium, *SIZE) as opened:
        yield opened


def opened(tab: browser.Page, folder: Path, *data: bytes, before: str = "") -> OpenPage:
    if before:
        tab.page.add_init_script(before)
    return OpenPage(tab, write_page(data, folder / "page.html", "A scene & <more>"), plays=not before)


def from_engine(player_file: PlayerFile, seconds: float, view: int) -> Any:
    rig = player_file.cameras.resized((SIZE,) * len(player_file.cameras.names))
    return engine_picture(player_file.at(seconds), rig, view)


@pytest.mark.parametrize("name", ["swing", "everything", "flicker", "still"])
def test_it_draws_what_the_engine_draws(
    tab: browser.Page, tmp_path: Path, made: dict[str, bytes], scenes: dict[str, Scene4D], name: str
) -> None:
    player_file, page = decode_player_file(made[name], name), opened(tab, tmp_path, made[name])
    last = float(player_file.times[-1])
    moments = sorted({0.0, 0.5 * last, 0.61 * last, last})
    for i, seconds in enumerate(moments):
        view = i % len(player_file.cameras.names)
        page.js(f"view.lookThrough('{player_file.cameras.names[view]}')")
        here, there = page.picture(seconds=seconds), from_engine(player_file, seconds, view)
        assert here.shape == there.shape == (SIZE[1], SIZE[0], 4)
        assert abs(coverage(here) - coverage(there)) < 0.002 and coverage(there) > 0.1, f"at {seconds}"
        for background in (0.0, 1.0):
            off = np.abs(over(here, background) - over(there, background))
            assert off.mean() < 0.003, f"at {seconds} on {background}: {off.mean()}"
        assert np.abs(over(here, 0).mean((0, 1)) - over(there, 0).mean((0, 1))).max() < 0.001
    # the bound above can tell one moment from the next
    if name in ("swing", "everything"):
        before = from_engine(player_file, 0.0, 0)
        assert np.abs(over(before, 0) - over(from_engine(player_file, 0.5 * last, 0), 0)).mean() > 0.02
    assert not tab.complaints
    assert all(url.startswith(("file:", "blob:", "data:")) for url in page.asked), page.asked
    assert page.page.title() == "A scene & <more>"


def test_names_that_are_markup_are_text(
    tab: browser.Page, tmp_path: Path, scenes: dict[str, Scene4D]
) -> None:
    rig = scenes["swing"].rig
    names = (markup.IMAGE, markup.SCRIPT, "cam02")
    scene = scenes["swing"].with_(rig=replace(rig, names=names))
    data = [clips.baked(scene, title) for title in (markup.SCRIPT, markup.IMAGE)]
    page = OpenPage(tab, write_page(data, tmp_path / f"{markup.IMAGE}.html", markup.SCRIPT))
    assert page.page.title() == markup.SCRIPT
    assert [page.js(f"panel.{side}.textContent") for side in ("left", "right")] == [
        f"Before · {markup.SCRIPT}",
        f"After · {markup.IMAGE}",
    ]
    assert page.js("[...panel.cameras.options].map(o => o.textContent)")[1:] == list(names)
    page.page.get_by_label("View through a captured camera").select_option(markup.SCRIPT)
    # a scene that cannot be read is named as text too
    page.js(
        "(view.load([{ name: '<img src=x onerror=window.ran=3>', bytes: async () => new Uint8Array(3) }]), 0)"
    )
    page.page.wait_for_function("() => document.querySelector('.gs4d-say').textContent.includes('<img')")
    page.page.wait_for_timeout(500)
    assert page.page.evaluate(markup.RAN) is None
    assert page.page.locator("img").count() == 0
    assert not tab.complaints


def test_it_moves_as_the_scene_does(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    player_file, page = (
        decode_player_file(made["everything"], "everything"),
        opened(tab, tmp_path, made["everything"]),
    )
    last = float(player_file.times[-1])
    page.js("view.lookThrough('cam01')")
    places = [centroid(page.picture(seconds=share * last)) for share in (0, 0.5, 1)]
    true = [centroid(from_engine(player_file, share * last, 1)) for share in (0, 0.5, 1)]
    assert np.abs(np.array(places) - np.array(true)).max() < 0.004
    assert min(np.abs(places[1] - places[0]).max(), np.abs(places[2] - places[1]).max()) > 0.02
    # playing by itself, it gets from one to the next
    page.js("[view.player.seek(0), view.player.play()]")
    page.page.wait_for_function("() => document.querySelector('.gs4d').gs4d.player.frame >= 3")
    assert page.js("panel.clock.textContent").split(" / ")[1].startswith("13 · ")


def test_the_divider_shows_before_on_the_left_and_after_on_the_right(
    tab: browser.Page, tmp_path: Path, made: dict[str, bytes]
) -> None:
    page = opened(tab, tmp_path, made["swing"], made["everything"])
    mouse, (width, _) = page.page.mouse, SIZE
    page.js("view.lookThrough('cam00')")
    before, after = (from_engine(decode_player_file(made[n], n), 0.3, 0) for n in ("swing", "everything"))
    for share in (0.5, 0.3, 0.8):
        handle = page.js("(({x, y, width, height}) => [x + width / 2, y + height / 2])"
                         "(panel.divider.getBoundingClientRect())")  # fmt: skip
        mouse.move(*handle)
        mouse.down()
        mouse.move(share * width, handle[1] + 5, steps=4)
        mouse.up()
        cut = round(page.js("view.state.divider") * width)
        assert abs(cut - share * width) <= 1
        both = page.picture(seconds=0.3)
        assert np.abs(both[:, :cut] - before[:, :cut]).mean() < 0.003
        assert np.abs(both[:, cut:] - after[:, cut:]).mean() < 0.003
        assert np.abs(both[:, cut:] - before[:, cut:]).mean() > 0.008
    assert [page.js(f"panel.{side}.textContent") for side in ("left", "right")] == [
        "Before · swing",
        "After · everything",
    ]
    page.page.keyboard.press("ArrowLeft")  # the handle has the focus
    assert page.js("view.state.divider") < 0.79 and page.js("view.player.time") == 0.3
    assert not tab.complaints


def test_hands_turn_move_and_come_nearer(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    page = opened(tab, tmp_path, made["still"])
    mouse = page.page.mouse
    still = page.picture()

    def drag(button: str, x: float, y: float) -> Any:
        mouse.move(*page.middle())
        mouse.down(button=button)
        mouse.move(*page.middle(0.5 + x, 0.5 + y), steps=3)
        mouse.up(button=button)
        return page.picture()

    moved = drag("right", 0.2, 0.1)
    assert np.allclose(centroid(moved) - centroid(still), [0.2, 0.1], atol=0.03)
    page.js("view.resetView()")
    mouse.move(*page.middle())
    mouse.wheel(0, -300)
    assert coverage(page.picture()) > 1.3 * coverage(still)
    page.js("view.resetView()")
    turned = drag("left", 0.3, 0)
    assert np.abs(turned - still).mean() > 0.02
    assert np.allclose(centroid(turned), centroid(still), atol=0.05)
    assert page.js("panel.cameras.value") == ""
    page.page.get_by_label("Reset view").click()
    assert np.abs(page.picture() - still).max() < 0.02
    assert page.js("panel.cameras.value") == "cam00"
    page.page.get_by_label("View through a captured camera").select_option("cam02")
    player_file = decode_player_file(made["still"], "still")
    assert np.abs(page.picture() - from_engine(player_file, 0.0, 2)).mean() < 0.003
    assert not tab.complaints


def test_keys_buttons_and_looks(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    page = opened(tab, tmp_path, made["swing"])
    page.page.wait_for_function("() => document.querySelector('.gs4d').gs4d.player.playing")
    page.js("panel.port.focus()")
    press = page.page.keyboard.press
    press(" ")
    assert page.js("view.player.playing") is False
    page.js("view.player.seek(0)")
    for key, frame in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowLeft", 0),
        ("ArrowLeft", 7),
    ):
        press(key)
        assert page.js("view.player.frame") == frame
    press(" ")
    assert page.js("view.player.playing") is True
    page.page.get_by_label("Pause (space)").click()
    page.page.get_by_label("Speed").select_option("0.25")
    page.page.get_by_label("Loop playback").click()
    assert page.js("[view.player.playing, view.player.speed, view.player.loop]") == [False, 0.25, False]
    usual = coverage(page.picture(seconds=0.2))
    page.js("(panel.size.value = 0.8, panel.size.dispatchEvent(new Event('input')))")
    assert coverage(page.picture()) > 1.1 * usual
    choose = page.page.get_by_label("Background").select_option
    for name, color in (
        ("scene", "rgb(255, 255, 255)"),
        ("black", "rgb(0, 0, 0)"),
        ("grey", "rgb(128, 128, 128)"),
    ):
        choose(name)
        page.picture()
        assert page.js("getComputedStyle(panel.port).backgroundColor") == color
    choose("checker")
    page.picture()
    assert "conic" in page.js("getComputedStyle(panel.port).backgroundImage")
    for selector in ("button", "select", "input"):
        assert page.js(f"[...panel.root.querySelectorAll('{selector}')].every(e => e.ariaLabel && e.title)")
    assert page.page.get_by_text("Use this camera").count() == 0  # there is no node to give it to


def test_it_rests_when_nothing_changes_and_when_nobody_looks(
    tab: browser.Page, tmp_path: Path, made: dict[str, bytes]
) -> None:
    page = opened(tab, tmp_path, made["swing"])

    def frames_drawn_in(milliseconds: int) -> int:
        before = page.js("view.stage.frames")
        page.page.wait_for_timeout(milliseconds)
        return page.js("view.stage.frames") - before

    def plays() -> None:
        assert any(frames_drawn_in(600) > 2 for _ in range(10)), "it does not play"

    plays()
    page.js("panel.root.parentElement.style.marginTop = '4000px'")
    page.page.wait_for_timeout(300)
    assert frames_drawn_in(500) == 0, "drawn while out of sight"
    page.js("panel.root.parentElement.style.marginTop = ''")
    page.page.wait_for_timeout(300)
    plays()
    page.js("view.player.pause()")
    page.picture()
    page.page.wait_for_timeout(300)
    assert frames_drawn_in(500) == 0, "drawn though nothing changes"


def test_scrubbing_uploads_no_motion(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    page = opened(tab, tmp_path, made["everything"], before=COUNT_UPLOADS)
    page.page.wait_for_function("() => document.querySelector('.gs4d')?.gs4d.clips.length")
    page.picture(seconds=0)
    loaded = page.page.evaluate("window.uploads")
    assert loaded >= page.js("view.stage.uploads") == 5  # position, rotation, scale, opacity, color
    first = page.picture(seconds=0.2)
    for seconds in (0.3, 0.9, 1.4):
        page.picture(seconds=seconds)
    assert np.abs(page.picture(seconds=1.2) - first).mean() > 0.01
    assert page.page.evaluate("window.uploads") == loaded


def test_gaussians_drawn_in_batches_look_as_drawn_one_by_one(
    tab: browser.Page, tmp_path: Path, made: dict[str, bytes]
) -> None:
    web, data = tmp_path / "web", made["everything"]
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("docs"))
    (web / "batches.mjs").write_text("export const drawInBatches = () => false;", encoding="utf-8")
    asked = "[view.stage.sides[0].spark.activeSplats, view.stage.sides[0].spark.geometry.instanceCount]"
    images, counts = [], []
    for i, folder in enumerate((WEB, web)):
        page = OpenPage(tab, write_page([data], tmp_path / f"{i}.html", "A scene", folder))
        images.append(page.picture(seconds=0.3))
        counts.append(page.js(asked))
    (gaussians, instances), (_, alone) = counts
    assert alone == gaussians > 128 and instances == -(-gaussians // 128)
    assert np.array_equal(*images)


def test_without_webgl2_it_says_so(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    page = opened(tab, tmp_path, made["still"], before=NO_WEBGL2)
    page.page.get_by_text("WebGL 2 is unavailable, and there is no video of the scene.").wait_for()
    assert not tab.complaints


def test_a_damaged_scene_is_named(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    whole = write_page([made["swing"]], tmp_path / "page.html", "t").read_text(encoding="utf-8")
    sound = base64.b64encode(made["swing"]).decode()
    cut = base64.b64encode(made["swing"][: len(made["swing"]) // 2]).decode()
    assert sound in whole
    (tmp_path / "page.html").write_text(whole.replace(sound, cut), encoding="utf-8")
    page = OpenPage(tab, tmp_path / "page.html", plays=False)
    page.page.get_by_text("cut short").wait_for()
    assert not tab.complaints


def test_a_lost_context_is_opened_again(tab: browser.Page, tmp_path: Path, made: dict[str, bytes]) -> None:
    page = opened(tab, tmp_path, made["swing"])
    before = page.picture(seconds=0.5)
    # losses count for a minute, which a busy machine may take to open a view three times
    page.js("(window.now = Date.now(), Date.now = () => window.now, 0)")
    lose = (
        "(window.gl = view.stage.gl, gl.getExtension('WEBGL_lose_context').loseContext(),"
        " view.element.dataset.gaussians = '', true)"
    )
    again = (
        "() => { const { stage, pending } = document.querySelector('.gs4d').gs4d;"
        " return stage && !pending && stage.gl !== window.gl && stage.sides[0]; }"
    )
    page.js(lose)
    page.page.wait_for_function(again, timeout=60_000)
    assert np.abs(page.picture(seconds=0.5) - before).max() < 0.02
    # while another clip is being loaded, that one comes
    page.js("(window.bytes = () => new Promise(done => { window.give = done }), 0)")
    page.js("(view.load([{ name: 'next', bytes: window.bytes }]), 0)")
    page.page.wait_for_function("() => window.give")
    page.js(f"(window.first = window.give, window.give = null, {lose})")
    page.page.wait_for_function("() => window.give")
    page.js(
        "(window.data = Uint8Array.from(atob(document.querySelector('script[data-clip]').textContent.trim()),"
        " c => c.charCodeAt(0)), window.first(window.data.slice()), window.give(window.data.slice()), 0)"
    )
    page.page.wait_for_function(again, timeout=60_000)
    assert page.js("view.element.dataset.gaussians") and page.js("view.plays")
    assert np.abs(page.picture(seconds=0.5) - before).max() < 0.02
    # where it is taken again and again, players would only take it from each other
    for _ in range(2):
        page.js(lose)
        page.page.wait_for_timeout(300)
        page.page.wait_for_function(f"() => ({again})() || !document.querySelector('.gs4d-say').hidden")
    assert "too many 3D views are open. Close some and reload" in page.js("panel.say.textContent")
    # three.js rejects, without a reason, what waits for the GPU when its context is lost
    expected = ("uncaught: undefined",)
    assert not [text for text in tab.complaints if "context" not in text.lower() and text not in expected]


def test_a_press_elsewhere_takes_the_keys_along(
    tab: browser.Page, tmp_path: Path, made: dict[str, bytes]
) -> None:
    page = opened(tab, tmp_path, made["still"])
    page.js(  # as ComfyUI's canvas does, which keeps the focus where it was
        "(document.body.insertAdjacentHTML('beforeend', '<canvas id=below style=\"position:fixed;left:0;top:0;"
        "width:40px;height:40px;z-index:9\"></canvas>'), document.getElementById('below').addEventListener("
        "'pointerdown', e => { e.preventDefault(); e.stopPropagation(); }), 0)"
    )
    page.page.mouse.click(*page.middle())
    assert page.js("document.activeElement === panel.port")
    page.page.mouse.click(20, 20)
    assert page.js("document.activeElement === document.body")


@pytest.mark.parametrize("locale", ["ja-JP", "zh-CN", "ko-KR"])
def test_the_players_parts_speak_the_readers_language(
    chromium: str, tmp_path: Path, made: dict[str, bytes], locale: str
) -> None:
    with browser.browsing(chromium, *SIZE, locale=locale) as tab:
        page = opened(tab, tmp_path, made["swing"], made["everything"])
        words: list[str] = page.page.evaluate(
            """() => [...document.querySelectorAll('.gs4d, .gs4d *')].flatMap(e => [
              e.title, e.getAttribute('aria-label'), e.getAttribute('aria-valuetext'),
              ...(e.matches('button, option, .gs4d-tag') ? [e.textContent] : []),
            ]).filter(text => text)"""
        )
    cameras = decode_player_file(made["swing"], "swing").cameras.names
    own = [word for word in words if word not in cameras and not word.endswith("×")]
    assert len(own) > 30 and not [word for word in own if word.isascii()], own
