"""Commands on the machines of a Ray cluster, through `ray_driver` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..backends import installed, require
from ..errors import InputError
from ..files.paths import printable
from ..wording import listed
from .jobs import Job, Jobs
from .local import PACK
from .place import Began, Closed, Ended, Event, Line, Lost
from .sessions import CAN_LIST, end_session
from .worker import source_digest

log = logging.getLogger("gs4d")

# seconds: to join a cluster or to start one, of it until that is said, without a sign of life until it counts as lost, for the
# driver's own end, of that until it is said, and for both where jobs are killed
JOINING, SLOW, SILENCE, ENDING, NOTICED, KILLING = 150.0, 8.0, 45, 5.0, 0.3, 1.0
DRIVER = Path(__file__).with_name("ray_driver.py")
TOKEN = ".gs4d-token-"


class RayPlace:
    """See `Place`. Raises InputError where the cluster cannot be joined or a machine of it cannot run jobs."""

    # Ray gives each a machine when one is free
    capacity = 1000
    settling = 30.0

    def __init__(self, jobs: Jobs, address: str, pack: str = "") -> None:
        require("ray")
        if address.startswith("ray://") and not installed("grpc"):
            raise InputError(
                "CLU-047", "An address ray://… needs the package grpcio: pip install 'ray[client]'."
            )
        self.events: queue.Queue[Event] = queue.Queue()
        self._address = address
        self._running: set[str] = set()
        # an end is told, and the job forgotten, at once
        self._ending = threading.Lock()
        # answers of the driver
        self._heard = 0
        self._said = deque[str](maxlen=20)
        self._is_over = self._is_own = self._is_killed = False
        self.machines: list[str] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._driver: subprocess.Popen[str] | None = None
        self._token = jobs.folder / f"{TOKEN}{secrets.token_hex(6)}"
        self._temporary = tempfile.mkdtemp(prefix="gs4d-ray-")
        try:
            self._begin(self._config(jobs, pack))
            self.machines = self._join()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._watch, daemon=True).start()

    def _config(self, jobs: Jobs, pack: str) -> dict[str, Any]:
        """What the driver is told; writes the file that all machines must see."""
        secret = secrets.token_hex(16)
        # nobody else works in the folder: those are of killed batches
        for left in jobs.folder.glob(f"{TOKEN}*"):
            with contextlib.suppress(OSError):
                left.unlink()
        self._token.write_text(secret, encoding="utf-8")
        terms = {
            "pack": pack or str(PACK),
            "version": __version__,
            "digest": source_digest(str(PACK)),
            "token": str(self._token),
            "secret": secret,
        }
        needs = sorted({(job.cpus, job.gpus): job.name for job in jobs.jobs}.items())
        return {
            "address": self._address,
            "temporary": self._temporary,
            "terms": terms,
            "needs": [(name, cpus, gpus) for (cpus, gpus), name in needs],
        }

    def _begin(self, config: dict[str, Any]) -> None:
        environment = dict(os.environ)
        # nothing is reported to Ray's makers
        environment.update(RAY_USAGE_STATS_ENABLED="0")
        self._driver = subprocess.Popen(
            [sys.executable, "-P", str(DRIVER), json.dumps(config)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        assert self._driver.stdout is not None and self._driver.stderr is not None
        for read, stream in (
            (self._read_answers, self._driver.stdout),
            (self._read_noise, self._driver.stderr),
        ):
            threading.Thread(target=read, args=(stream,), daemon=True).start()

    def _join(self) -> list[str]:
        is_elsewhere = self._address not in ("", "auto", "local")
        place = f"Ray cluster at {self._address}" if is_elsewhere else "Ray on this machine"
        notice = threading.Timer(SLOW, log.info, ("waiting for the %s", place))
        notice.daemon = True
        notice.start()
        try:
            answer = self._answers.get(timeout=JOINING)
        except queue.Empty:
            answer = {"refused": {"kind": "not there", "found": f"no answer in {JOINING:.0f} seconds"}}
        finally:
            notice.cancel()
        if "ready" in answer:
            self._is_own = bool(answer["is_own"])
            return [str(name) for name in answer["ready"]]
        refused = answer.get("refused", {"kind": "not there", "found": " ".join(list(self._said)[-1:])})
        found, machine = printable(str(refused.get("found", "")))[:200], refused.get("machine", "")
        if refused["kind"] == "too small":
            raise InputError(
                "CLU-048",
                f"No machine of the cluster has what '{refused['job']}' asks for: {found}. Lower its gpus or cpus, "
                "or add such a machine.",
            )
        if refused["kind"] == "other versions":
            raise InputError(
                "CLU-054",
                f"The {place} runs {found}, and this command {printable(str(refused['here']))[:200]}. Install the same "
                "versions on all machines.",
            )
        if any("AuthToken" in line for line in (found, *self._said)):
            # Ray sends its token to no address that was typed, unless it is told to
            raise InputError(
                "CLU-059",
                f"The {place} asks for a token. Set RAY_AUTH_MODE=token here, and give this machine the token of the cluster "
                "(~/.ray/auth_token).",
            )
        if refused["kind"] == "not there":
            raise InputError(
                "CLU-049", f"The {place} cannot be used: {found}. Check the address and that it runs."
            )
        raise _machine_error(refused["kind"], found, str(machine))

    def start(self, job: Job) -> None:
        with self._ending:
            self._running.add(job.name)
        order = {"name": job.name, "words": list(job.words), "processes": job.processes}
        self._order(start={**order, "cpus": job.cpus, "gpus": job.gpus})

    def stop(self) -> None:
        self._order(stop=True)

    def kill(self) -> None:
        self._is_killed = True
        self._order(kill=True)

    def running(self) -> list[str]:
        with self._ending:
            return [] if self._is_over else sorted(self._running)

    def close(self) -> None:
        """Leave the cluster; one that was started for the batch ends."""
        self._is_over = True
        try:
            with contextlib.suppress(OSError):
                self._token.unlink()
            if self._driver is not None:
                self._leave(self._driver)
        finally:
            # also when a signal comes meanwhile
            if self._driver is not None:
                end_session(self._driver, ENDING)
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _leave(self, driver: subprocess.Popen[str]) -> None:
        if driver.stdin is not None:
            # the driver ends with it
            with contextlib.suppress(OSError):
                driver.stdin.close()
        if CAN_LIST and (self._is_own or not self.machines):
            end = time.monotonic() + KILLING
            while self._running and time.monotonic() < end:
                # killed jobs; Ray ends their commands
                time.sleep(0.01)
            # all of a Ray of our own is in the driver's session, and no job needs it any more: its own way out takes 2 s
            return
        try:
            driver.wait(NOTICED)
        except subprocess.TimeoutExpired:
            log.info("leaving Ray")
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(KILLING if self._is_killed else ENDING)

    def _order(self, **order: Any) -> None:
        assert self._driver is not None and self._driver.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            print(json.dumps(order), file=self._driver.stdin, flush=True)

    def _read_noise(self, stream: IO[str]) -> None:
        for line in stream:
            if line.strip():
                self._said.append(line.strip()[:300])

    def _read_answers(self, stream: IO[str]) -> None:
        for line in stream:
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        self._answers.put(
            {"refused": {"kind": "not there", "found": " ".join(list(self._said)[-1:]) or "it ended"}}
        )
        self._lose("the program that speaks with it ended")

    def _take(self, answer: dict[str, Any]) -> None:
        self._heard += 1
        if "ready" in answer or "refused" in answer:
            self._answers.put(answer)
        elif "began" in answer:
            self.events.put(Began(answer["began"], str(answer["machine"])))
        elif "line" in answer:
            self.events.put(Line(answer["line"], answer["progress"]))
        elif "ended" in answer:
            ending = answer["ending"]
            self._end(Ended(answer["ended"], ending["code"], ending["last"], ending["said"]))
        elif "lost" in answer:
            problem = answer.get("problem")
            reason = answer.get("reason", "")
            if problem is not None:
                reason = str(_machine_error(problem["kind"], str(problem["found"]), str(problem["machine"])))
            self._end(Lost(answer["lost"], reason, bool(answer["is_final"])))
        elif answer.get("closed"):
            self._lose(str(answer["closed"]))

    def _end(self, event: Ended | Lost) -> None:
        with self._ending:
            self.events.put(event)
            self._running.discard(event.job)

    def _lose(self, reason: str) -> None:
        if not self._is_over:
            self._is_over = True
            self.events.put(Closed(reason))

    def _watch(self) -> None:
        """A cluster that says nothing any more is lost."""
        # counted here: a clock also runs while this process is paused (Ctrl-Z), and the cluster is not lost for that
        heard, silent = self._heard, 0
        while not self._is_over and silent < SILENCE:
            time.sleep(1)
            heard, silent = self._heard, silent + 1 if heard == self._heard else 0
        self._lose(f"no sign of it for {SILENCE} seconds")


def _machine_error(kind: str, found: str, machine: str) -> InputError:
    """Why a machine of the cluster cannot run jobs."""
    if kind == "no pack":
        return InputError(
            "CLU-050",
            f"{machine} has no GS4D Studio in {found}. Install it there, or say where it is with --pack.",
        )
    if kind == "other version":
        return InputError(
            "CLU-051",
            f"{machine} has another GS4D Studio: version {found}, and this one is {__version__}. Install the same "
            "on all machines.",
        )
    return InputError(
        "CLU-052",
        f"{machine} does not see the folder {listed([Path(found).name])} of this machine. Put it on storage that "
        "all machines have at the "
        "same path.",
    )
