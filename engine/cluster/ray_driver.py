"""The program that speaks with Ray, in a process of its own: a cluster that is lost may end or block it, and never the batch.

    python -P engine/cluster/ray_driver.py '{"address": "auto", …}'

Reads one JSON object a line from stdin: {"start": …}, {"stop": true}, {"kill": true}; the end of stdin ends it. Writes one a line
to stdout: {"ready": …, "is_own": …} or {"refused": …}, then {"began": …}, {"line": …}, {"ended": …}, {"lost": …}, {"alive": true}
and, at the end, {"closed": reason}. Results of jobs never pass through Ray: files go to the shared storage, and only lines of
progress come back.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import queue
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# seconds: for a TCP connection, for the look at all machines, until a dead one is known, for one answer of the cluster, and that
# a job may find no machine
CONNECTING, LOOKING, LEAVING, ANSWERING, HOMELESS = 5.0, 60.0, 20.0, 20.0, 60.0
# seconds that news is waited for, and while jobs stop
WAITING, STOPPING = 0.2, 0.02
# bytes of a local cluster's object store: nothing passes through it
STORE = 100 << 20


def _load_worker() -> ModuleType:
    """worker.py without its package, which would load torch."""
    spec = importlib.util.spec_from_file_location("gs4d_worker", Path(__file__).with_name("worker.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gs4d_worker"] = module
    spec.loader.exec_module(module)
    return module


_worker: Any = _load_worker()


class Driver:
    def __init__(self, config: dict[str, Any], say: Callable[..., None]) -> None:
        self._config, self._say = config, say
        self._terms: dict[str, str] = config["terms"]
        self._running: dict[Any, str] = {}
        self._wanted: dict[str, tuple[float, float]] = {}
        self._began: set[str] = set()
        self._homeless: dict[str, float] = {}
        self._heard = time.monotonic()
        self._is_own = self._is_stopping = False

    def connect(self) -> bool:
        """Join the cluster, or start one; says why if that fails."""
        # without types: Ray makes its decorated functions at run time
        self._ray: Any = importlib.import_module("ray")
        # the machines may lack the pack
        self._ray.cloudpickle.register_pickle_by_value(_worker)
        address = self._config["address"]
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if address not in ("", "auto", "local"):
            try:
                socket.create_connection((host.strip("[]"), int(port)), CONNECTING).close()
            except (ValueError, OverflowError):
                return self._refuse("not there", "it is not auto, local, HOST:PORT or ray://HOST:PORT")
            except OSError as error:
                return self._refuse("not there", str(error))
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
        try:
            if address not in ("", "local"):
                self._ray.init(address=address, **({} if address.startswith("ray://") else quiet))
            elif address or not self._join(quiet):
                self._start(quiet)
        except Exception as error:
            # Ray names the versions of the cluster, then those of this process
            versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(error))
            if len(versions) == 2:
                there, here = (f"Ray {ray} with Python {python}" for ray, python in versions)
                return self._refuse("other versions", there, here=here)
            # a Ray client gives the server's traceback, which ends with what happened
            text = str(error).strip()
            text = text.splitlines()[-1] if "Traceback" in text else f"{type(error).__name__}: {text}"
            return self._refuse("not there", " ".join(text.split())[:200])
        return self._check_machines()

    def _join(self, quiet: dict[str, Any]) -> bool:
        """Whether there is a cluster of this machine, which is joined."""
        try:
            self._ray.init(address="auto", **quiet)
        except ConnectionError:
            return False
        return True

    def _start(self, quiet: dict[str, Any]) -> None:
        self._is_own = True
        self._ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=STORE,
            _temp_dir=self._config["temporary"],
            **quiet,
        )

    def _refuse(self, kind: str, found: str, **more: Any) -> bool:
        self._say(refused={"kind": kind, "found": found, **more})
        return False

    def _machines(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _fits(self, need: tuple[float, float]) -> bool:
        """Whether a machine of the cluster has these CPUs and GPUs at all."""
        return any(
            node["Resources"].get("CPU", 0) >= need[0] and node["Resources"].get("GPU", 0) >= need[1]
            for node in self._machines()
        )

    def _check_machines(self) -> bool:
        """Whether every machine has the pack and sees the folder, and each job fits on one."""
        strategies = importlib.import_module("ray.util.scheduling_strategies")

        for name, cpus, gpus in self._config["needs"]:
            if not self._fits((cpus, gpus)):
                return self._refuse("too small", f"{cpus:g} CPUs and {gpus:g} GPUs", job=name)
        looks: dict[str, Any] = {}
        for node in self._machines():
            place = strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            remote = self._ray.remote(_worker.look).options(
                num_cpus=0, max_retries=0, scheduling_strategy=place
            )
            looks[node["NodeID"]] = remote.remote(self._terms)
        end, machines = time.monotonic() + LOOKING, list[str]()
        for node, reference in looks.items():
            try:
                problem = self._ray.get(reference, timeout=max(1.0, end - time.monotonic()))
            except Exception as error:
                # one that died just now is still among them for a while
                if self._is_leaving(node):
                    continue
                return self._refuse("not there", f"a machine does not answer ({type(error).__name__})")
            if "kind" in problem:
                return self._refuse(**problem)
            machines.append(problem["machine"])
        # on the head: it ends with the cluster, not with a machine of it
        head: dict[str, Any] = {"resources": {"node:__internal_head__": 0.001}, "num_cpus": 0}
        self._inbox = self._ray.remote(_worker.Inbox).options(**head).remote()
        self._say(ready=machines, is_own=self._is_own)
        return True

    def _is_leaving(self, node: str) -> bool:
        """Whether the cluster notices soon that a machine is dead."""
        end = time.monotonic() + LEAVING
        while time.monotonic() < end:
            if node not in {machine["NodeID"] for machine in self._machines()}:
                return True
            time.sleep(0.5)
        return False

    def start(self, name: str, words: list[str], processes: int, cpus: float, gpus: float) -> None:
        remote = self._ray.remote(_worker.work).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        self._running[remote.remote(name, words, processes, self._terms, self._inbox)] = name
        self._wanted[name] = (cpus, gpus)
        self._began.discard(name)

    def stop(self, is_killing: bool) -> None:
        self._is_stopping = True
        for reference in list(self._running):
            with contextlib.suppress(Exception):
                self._ray.cancel(reference, force=is_killing)

    def wake(self) -> None:
        """End the wait of `turn`, from another thread."""
        with contextlib.suppress(Exception):
            self._inbox.wake.remote()

    def turn(self) -> None:
        """Pass on what came; raises what Ray raises when the cluster is lost."""
        seconds = STOPPING if self._is_stopping else WAITING
        for item in self._ray.get(self._inbox.take.remote(seconds), timeout=ANSWERING):
            self._began.update([item["began"]] if "began" in item else [])
            self._say(**item)
        if time.monotonic() - self._heard > 2:
            self._heard = time.monotonic()
            self._say(alive=True)
            self._drop_homeless()
        if self._running:
            done, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
            for reference in done:
                self._end(self._running.pop(reference), reference)

    def _end(self, name: str, reference: Any) -> None:
        errors = self._ray.exceptions
        try:
            result = self._ray.get(reference, timeout=ANSWERING)
        except errors.TaskCancelledError:
            self._say(lost=name, reason="it was stopped", is_final=True)
        except errors.RayTaskError as error:
            cause = str(error).strip().splitlines()[-1:]
            self._say(
                lost=name, reason=f"its machine could not run it ({' '.join(cause)[:200]})", is_final=True
            )
        except errors.RayError as error:
            self._say(lost=name, reason=f"its machine was lost ({type(error).__name__})", is_final=False)
        else:
            if "problem" in result:
                self._say(lost=name, problem=result["problem"], is_final=True)
            else:
                self._say(ended=name, ending=result["ending"])

    def _drop_homeless(self) -> None:
        """Give up jobs for which no machine is left that could ever run them."""
        for reference, name in list(self._running.items()):
            if name in self._began or self._fits(self._wanted[name]):
                self._homeless.pop(name, None)
            elif time.monotonic() - self._homeless.setdefault(name, time.monotonic()) > HOMELESS:
                self._running.pop(reference)
                self._ray.cancel(reference)
                self._say(lost=name, reason="no machine that is large enough is left", is_final=True)

    def running(self) -> bool:
        return bool(self._running)

    def leave(self) -> None:
        with contextlib.suppress(Exception):
            self._ray.shutdown()


def main() -> None:
    # whatever Ray prints must not come between the lines
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**content: Any) -> None:
        # whoever listened was killed: the end of stdin says so too, and stops the jobs
        with contextlib.suppress(OSError):
            print(json.dumps(content), file=out, flush=True)

    config = json.loads(sys.argv[1])
    driver = Driver(config, say)
    if not driver.connect():
        os._exit(1)
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders, driver.wake), daemon=True).start()
    is_ending = False
    try:
        while True:
            with contextlib.suppress(queue.Empty):
                while True:
                    order = orders.get_nowait()
                    if order is None:
                        is_ending = True
                        driver.stop(is_killing=False)
                    elif "start" in order:
                        driver.start(**order["start"])
                    else:
                        driver.stop(is_killing="kill" in order)
            if is_ending and not driver.running():
                break
            driver.turn()
    except Exception as error:
        say(closed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        os._exit(1)
    say(closed="")
    driver.leave()
    # a batch that was killed leaves them
    with contextlib.suppress(OSError):
        os.unlink(config["terms"]["token"])
    shutil.rmtree(config["temporary"], ignore_errors=True)
    # what Ray does at the end of a program takes a while, and is done
    os._exit(0)


def _listen(orders: queue.Queue[dict[str, Any] | None], wake: Callable[[], None]) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        orders.put(order)
        if "start" not in order:
            wake()
    orders.put(None)
    wake()


if __name__ == "__main__":
    main()
