"""A headless Chromium on a real ComfyUI page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader",
    "--ignore-gpu-blocklist",
]  # fmt: skip
# queues the graph of the page; `window.outcome` then says how the run ended
RUN = """() => {
  window.outcome = null;
  const on = (name, act) => app.api.addEventListener(name, act, {once: true});
  on('execution_success', () => { window.outcome = 'success'; });
  on('execution_error', e => { window.outcome = e.detail.exception_message; });
  return app.queuePrompt(0, 1);
}"""
# whether every node lies within the canvas
IN_VIEW = """() => {
  const {ds, canvas} = app.canvas;
  const inside = (low, length, offset, room) => low + offset >= 0 && low + length + offset <= room / ds.scale;
  return app.graph.nodes.every(n => inside(n.pos[0], n.size[0], ds.offset[0], canvas.clientWidth)
    && inside(n.pos[1], n.size[1], ds.offset[1], canvas.clientHeight));
}"""
# whether a player shows what it loaded
PLAYS = """() => { const view = document.querySelector('.gs4d')?.gs4d;
  return view && view.clips.length && view.panel.say.hidden; }"""


def chromium() -> str | None:
    """Path of a Chromium that can be started, or None."""
    named = os.environ.get("CHROMIUM_PATH")
    candidates = (
        [named] if named else ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    )
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


class Page:
    """One ComfyUI tab, with everything that its console complained about."""

    def __init__(self, page: Any) -> None:
        self.page, self.complaints = page, []
        page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.complaints.append(f"uncaught: {e}"))

    def open(self, url: str) -> None:
        """Load the page and wait until the canvas and all nodes are there."""
        # ComfyUI's own templates (a large package) are left out of the test environment; the browser wants their list
        self.page.route(
            "**/templates/index*.json",
            lambda route: route.fulfill(status=200, content_type="application/json", body="[]"),
        )
        self.page.goto(url, wait_until="domcontentloaded", timeout=90_000)
        self.page.wait_for_function(
            "() => window.app && app.graph && app.vueAppReady !== false && window.LiteGraph"
            " && LiteGraph.registered_node_types['GS4D_Preview4DScene']",
            timeout=90_000,
        )
        self.page.wait_for_timeout(1500)

    def js(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def fit(self) -> None:
        """Bring the whole graph into view; again where a frontend that has just started moves it away."""
        for _ in range(5):
            self.js(
                "() => { app.canvas.ds && app.extensionManager?.command?.execute('Comfy.Canvas.FitView'); }"
            )
            self.page.wait_for_timeout(1200)
            if self.js(IN_VIEW):
                return

    def picture(self, path: str) -> None:
        self.page.screenshot(path=path)

    def complaints_about_the_pack(self) -> list[str]:
        """Console errors that name the pack, its nodes or its files."""
        words = ("gs4d", "4dgs", "/extensions/", "uncaught")
        # the frontend asks its own registry about every pack, which the page's security policy forbids: not ours
        return [
            text
            for text in self.complaints
            if any(word in text.lower() for word in words) and "Content Security Policy" not in text
        ]


class Kept:
    """A Chromium that is started when a tab is first opened, and again where it has crashed."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.playwright, self.browser = stack, None, None

    def started(self, executable: str) -> Any:
        if self.playwright is None:
            from playwright.sync_api import sync_playwright

            self.playwright = self.stack.enter_context(sync_playwright())
        if self.browser is None or not self.browser.is_connected():
            self.browser = self.playwright.chromium.launch(
                executable_path=executable, headless=True, args=FLAGS
            )
            self.stack.callback(self.browser.close)
        return self.browser


_kept: list[Kept] = []


@contextmanager
def keeping() -> Iterator[None]:
    """While this lasts, all tabs are opened in one Chromium: starting one takes longer than most tests.

    Each tab still has a context of its own, without the others' storage, settings and cache.
    """
    with ExitStack() as stack:
        _kept.append(Kept(stack))
        try:
            yield
        finally:
            _kept.pop()


@contextmanager
def browsing(executable: str, width: int = 1600, height: int = 1000, locale: str = "en-US") -> Iterator[Page]:
    """A tab, in a Chromium of its own or in that of `keeping`."""
    with ExitStack() as stack:
        browser = (_kept[-1] if _kept else Kept(stack)).started(executable)
        page = browser.new_page(viewport={"width": width, "height": height}, locale=locale)
        stack.callback(page.context.close)
        yield Page(page)
