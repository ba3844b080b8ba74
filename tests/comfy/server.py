"""A real ComfyUI server in a folder of its own, with the pack linked in, driven over HTTP and its web socket."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PACK_NAME = "gs4d-studio"
FORBIDDEN_IN_LOG = ("IMPORT FAILED", "Error while calling comfy_entrypoint", "Cannot import")


def prepare_base(base: Path) -> Path:
    """A base directory that ComfyUI starts in: the pack under custom_nodes, the tour switched off."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    if not settings.exists():
        settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}))
    link = base / "custom_nodes" / PACK_NAME
    if not link.exists():
        try:
            link.symlink_to(REPOSITORY, target_is_directory=True)
        except OSError:  # no right to make links (Windows): a copy serves as well
            shutil.copytree(
                REPOSITORY, link, ignore=shutil.ignore_patterns(".git", ".venv*", "demo", "build")
            )
    return base


def command(tree: Path, python: Path, base: Path, port: int, *more: str) -> list[str]:
    """How the server is started."""
    return [
        str(python), str(HERE / "boot_comfyui.py"), str(tree), "--listen", "127.0.0.1", "--port", str(port),
        "--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:", *more,
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Run:
    """What happened to one queued graph."""

    events: list[tuple[float, str, dict[str, Any]]] = field(
        default_factory=list
    )  # (seconds since queued, type, data)
    previews: int = 0
    texts: list[str] = field(default_factory=list)
    outcome: str = ""  # "execution_success", "execution_error" or "execution_interrupted"
    prompt: str = ""  # its id

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for _, name, data in self.events if name == kind]

    def progress(self, node: str) -> list[int]:
        """The values that the node's progress bar went through."""
        return [int(d["value"]) for d in self.of("progress") if str(d.get("node")) == node]

    @property
    def notes(self) -> dict[str, list[str]]:
        """What each node told when it was done."""
        return {
            data["node"]: data["output"]["gs4d_notes"]
            for data in self.of("executed")
            if "gs4d_notes" in (data["output"] or {})
        }

    @property
    def said(self) -> list[str]:
        """All that nodes showed as text, while they worked and when they were done."""
        return [*self.texts, *("\n".join(lines) for lines in self.notes.values())]

    @property
    def error(self) -> str:
        return "\n".join(str(d.get("exception_message", "")) for d in self.of("execution_error"))


@dataclass
class Server:
    url: str
    base: Path
    log_file: Path
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.loads(answer.read())

    def get_bytes(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def post(self, path: str, data: Any) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.url + path, json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return status, json.loads(body) if body.strip() else None

    def worked(self) -> float:
        """Seconds that the server has computed (Linux), else the clock's: what else the machine does is not its work."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def withdraw(self, seconds: float = 120) -> None:
        """Take back what is queued and end what runs: its messages would reach the pages of later tests."""
        end = time.monotonic() + seconds
        self.post("/queue", {"clear": True})
        while self.get("/queue")["queue_running"]:
            assert time.monotonic() < end, "a job does not end"
            self.interrupt()
            time.sleep(0.2)

    def run(
        self,
        graph: dict[str, Any],
        timeout: float = 180,
        on_event: Callable[[str, dict[str, Any], Run], None] | None = None,
    ) -> Run:
        """Queue an API graph and listen until it has ended; fails where it is refused or takes too long."""
        import websocket

        client, run = uuid.uuid4().hex, Run()
        ws = websocket.create_connection(
            self.url.replace("http", "ws") + f"/ws?clientId={client}", timeout=timeout
        )
        try:
            begun = time.monotonic()
            status, body = self.post("/prompt", {"prompt": graph, "client_id": client})
            assert status == 200, f"refused: {json.dumps(body)[:2000]}"
            prompt = run.prompt = body["prompt_id"]
            while not run.outcome:
                assert time.monotonic() - begun < timeout, f"not done after {timeout} s\n{self.log()[-3000:]}"
                frame = ws.recv()
                if isinstance(frame, bytes):
                    kind = int.from_bytes(frame[:4], "big")
                    if kind in (1, 4):
                        run.previews += 1
                    elif kind == 3:
                        skip = int.from_bytes(frame[4:8], "big")
                        run.texts.append(frame[8 + skip :].decode())
                    continue
                message = json.loads(frame)
                data = message.get("data") or {}
                run.events.append((time.monotonic() - begun, message["type"], data))
                if on_event is not None:
                    on_event(message["type"], data, run)
                ended = ("execution_success", "execution_error", "execution_interrupted")
                if message["type"] in ended and data.get("prompt_id") == prompt:
                    run.outcome = message["type"]
        finally:
            ws.close()
        return run


@contextmanager
def serving(tree: Path, python: Path, base: Path, *more: str, timeout: float = 300) -> Iterator[Server]:
    """A server that answers /object_info; ended, by its own process id, when the block is left."""
    prepare_base(base)
    port, log_file = free_port(), base / "server.log"
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    environment.pop("PYTHONPATH", None)
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command(tree, python, base, port, "--cpu", "--preview-method", "none", *more),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=base,
            env=environment,
        )
    server = Server(f"http://127.0.0.1:{port}", base, log_file, process)
    try:
        begun = time.monotonic()
        while True:
            assert process.poll() is None, f"ComfyUI ended while starting:\n{server.log()[-4000:]}"
            assert time.monotonic() - begun < timeout, f"no answer after {timeout} s:\n{server.log()[-4000:]}"
            try:
                server.get("/system_stats")
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.3)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)
