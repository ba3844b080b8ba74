"""A web server with the player and one scene, whose answers a test holds back, cuts or refuses."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WEB = Path(__file__).resolve().parents[2] / "web"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript"}
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin: 0"><main style="height: 100vh"></main><script type="module">
import { View } from "/web/view.js";
import { UrlBytes } from "/web/bytes.mjs";
const view = new View(document);
document.querySelector("main").append(view.element);
window.opening = view.load([{ name: "scene.gs4dclip", open: () => new UrlBytes("/scene.gs4dclip") }]);
</script>"""


@dataclass
class Scene:
    """The scene's bytes and what happens to requests for them.

    Attributes:
        data: The file.
        takes_ranges: Whether range requests are answered as such.
        gate: Called with the first byte that is asked for, before the answer: may wait.
        fate: By the first byte: "" (answered), "503", "cut" (half of the bytes), "drop" (no answer).
        asked: First bytes that were asked for, in order.
    """

    data: bytes
    takes_ranges: bool = True
    gate: Callable[[int], object] = lambda start: None
    fate: Callable[[int], str] = lambda start: ""
    asked: list[int] = field(default_factory=list[int])


class _Handler(BaseHTTPRequestHandler):
    scene: Scene

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            return self._send(200, "text/html", PAGE.encode())
        if path == "/scene.gs4dclip":
            return self._scene()
        file = WEB / path.removeprefix("/web/")
        if path.startswith("/web/") and ".." not in path and file.is_file():
            return self._send(200, TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes())
        return self._send(404, "text/plain", b"")

    def _scene(self) -> None:
        scene, data = self.scene, self.scene.data
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start = int(found[1]) if found else 0
        scene.asked.append(start)
        scene.gate(start)
        fate = scene.fate(start)
        if fate == "drop":
            self.close_connection = True
            self.connection.close()
            return None
        if fate == "503":
            return self._send(503, "text/plain", b"busy")
        if not found or not scene.takes_ranges:
            return self._send(200, "application/octet-stream", data, fate == "cut")
        if start >= len(data):
            return self._send(416, "text/plain", b"")
        body = data[start : int(found[2]) + 1]
        extent = f"bytes {start}-{start + len(body) - 1}/{len(data)}"
        return self._send(206, "application/octet-stream", body, fate == "cut", extent)

    def _send(self, status: int, kind: str, body: bytes, is_cut: bool = False, extent: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if extent:
            self.send_header("Content-Range", extent)
        self.end_headers()
        try:
            self.wfile.write(body[: len(body) // 2] if is_cut else body)
        except OSError:
            pass
        self.close_connection = True


@contextmanager
def serving(scene: Scene) -> Iterator[str]:
    """The address of a page that plays the scene."""
    handler = type("Handler", (_Handler,), {"scene": scene})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
