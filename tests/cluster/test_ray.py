"""Jobs on a real Ray cluster of two nodes on this machine, one of which is killed in the middle."""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from engine import __version__
from engine.cluster import ray_place, run
from engine.cluster.sessions import end_session, members
from engine.cluster.worker import machine_problem, source_digest
from engine.errors import InputError
from engine.messages import JobUpdate, result
from tests.cluster.conftest import NODE, free_port, listens
from tests.cluster.pretend_pack import pretend
from tests.cluster.small_jobs import ITERATIONS, ROOT, TEXT, bytes_of, small_jobs, wait_until, workers_of

ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two nodes on one machine: Linux only")


def test_a_node_killed_in_the_middle_changes_nothing_but_the_time(
    cluster: Any, folder_of_jobs: Path, tmp_path: Path
) -> None:
    node = cluster.add_node(**NODE)
    jobs, out = small_jobs(tmp_path), tmp_path / "out"
    updates, report = list[JobUpdate](), None
    stream = run(jobs, address=cluster.address, on="ray")
    for message in stream:
        if isinstance(message, JobUpdate):
            updates.append(message)
            is_fitting = message.verb == "fit-edits" and message.done > 0
            if node is not None and is_fitting and message.machine.endswith(node.node_id[:6]):
                cluster.remove_node(node, allow_graceful=False)
                node = None
        elif hasattr(message, "value"):
            report = message.value
    assert node is None and report is not None and report["done"] == 4, report
    again = [update for update in updates if update.note.startswith("again")]
    assert len(again) == 1 and "machine was lost" in again[0].note
    assert sorted(job["tries"] for job in report["jobs"]) == [1, 1, 1, 2]
    assert bytes_of(out) == bytes_of(folder_of_jobs / "out")
    wait_until(lambda: not workers_of(out))
    assert not list(out.glob(".gs4d-token-*"))
    assert result(run(jobs, address=cluster.address, on="ray"))["up_to_date"] == 4


def test_machines_that_cannot_run_jobs_are_named_before_any_job(cluster: Any, tmp_path: Path) -> None:
    jobs = small_jobs(tmp_path)
    other = tmp_path / "other"
    (other / "engine").mkdir(parents=True)
    with pytest.raises(InputError, match="has no GS4D Studio in") as caught:
        result(run(jobs, on="ray", address=cluster.address, pack=str(other)))
    assert caught.value.code == "CLU-050"
    (other / "engine" / "__init__.py").write_text("")
    (other / "pyproject.toml").write_text('version = "9.9.9"\n')
    with pytest.raises(InputError, match=r"another GS4D Studio: version 9\.9\.9") as caught:
        result(run(jobs, on="ray", address=cluster.address, pack=str(other)))
    assert caught.value.code == "CLU-051"
    with pytest.raises(InputError, match=r"'gold\[1\]' asks for: 1 CPUs and 2 GPUs") as caught:
        result(
            run(
                small_jobs(tmp_path, TEXT.replace("preset: gold", "gpus: 2")),
                on="ray",
                address=cluster.address,
            )
        )
    assert caught.value.code == "CLU-048"
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_machine_must_see_the_file_that_this_one_wrote(tmp_path: Path) -> None:
    token, digest = tmp_path / "token", source_digest(str(ROOT))

    def problem() -> str:
        return machine_problem(str(ROOT), __version__, digest, str(token), "secret").get("kind", "")

    assert problem() == "not shared"
    token.write_text("of another folder at the same path")
    assert problem() == "not shared"
    token.write_text("secret")
    assert problem() == ""


def test_a_cluster_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    port = free_port()
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "nowhere.invalid:6379", "no address"):
        with pytest.raises(InputError, match="cannot be used") as caught:
            result(run(small_jobs(tmp_path), on="ray", address=address))
        assert caught.value.code == "CLU-049"
        assert ("auto, local, HOST:PORT" in str(caught.value)) == (address == "no address")


def test_a_cluster_that_asks_for_a_token_is_joined_with_it_only(tmp_path: Path) -> None:
    """`ray start` asks for one wherever Ray has written one."""
    mode, port = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}, free_port()
    # sockets have short paths
    with tempfile.TemporaryDirectory(prefix="gs4d", ignore_cleanup_errors=True) as folder:
        words = ["start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=1"]
        head = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words, "--include-dashboard=false"],
            env={**os.environ, **mode, "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        try:
            wait_until(lambda: listens(port))
            jobs, address = small_jobs(tmp_path, TEXT.replace("preset: gold", "gpus: 2")), f"127.0.0.1:{port}"
            with pytest.MonkeyPatch.context() as patch:
                # attempts, one a second, until Ray gives up
                patch.setenv("RAY_NUM_REDIS_GET_RETRIES", "3")
                with pytest.raises(InputError, match=r"asks for a token\. Set RAY_AUTH_MODE=token") as caught:
                    result(run(jobs, on="ray", address=address))
                assert caught.value.code == "CLU-059"
                patch.delenv("RAY_NUM_REDIS_GET_RETRIES")
                for name, value in mode.items():
                    patch.setenv(name, value)
                # joined, and then refused
                with pytest.raises(InputError, match="asks for: 1 CPUs and 2 GPUs"):
                    result(run(jobs, on="ray", address=address))
        finally:
            end_session(head, 10)


def test_a_cluster_with_another_python_is_named(cluster: Any, tmp_path: Path) -> None:
    """Ray compares the versions that the head has written down."""
    client = ray._raylet.GcsClient(address=cluster.address)
    key, space = b"CLUSTER_METADATA", b"cluster"
    before = client.internal_kv_get(key, namespace=space)
    written = {**json.loads(before), "python_version": "3.99.1"}
    client.internal_kv_put(key, json.dumps(written).encode(), True, namespace=space)
    try:
        with pytest.raises(
            InputError, match=r"runs Ray \S+ with Python 3\.99\.1, and this command Ray "
        ) as caught:
            result(run(small_jobs(tmp_path), on="ray", address=cluster.address))
    finally:
        client.internal_kv_put(key, before, True, namespace=space)
    assert caught.value.code == "CLU-054"
    assert platform.python_version() in str(caught.value)


def driver_of_this_process() -> int:
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"ray_driver.py" in (place / "cmdline").read_bytes():
                return int(place.name)
    raise AssertionError("there is none")


def test_a_cluster_that_says_nothing_any_more_is_left(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path / "pack", monkeypatch)
    monkeypatch.setattr(ray_place, "SILENCE", 3)
    jobs = small_jobs(tmp_path, TEXT.replace(ITERATIONS, "iterations: 20000"))
    driver = 0
    with pytest.raises(InputError, match="no sign of it for 3 seconds"):
        for message in run(jobs, on="ray", address=cluster.address):
            if isinstance(message, JobUpdate) and message.done and not driver:
                driver = driver_of_this_process()
                os.kill(driver, signal.SIGSTOP)
    assert not members(driver)
    wait_until(lambda: not workers_of(tmp_path / "out"))


def test_a_cluster_that_loses_its_head_ends_the_batch_with_a_sentence(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    with (
        tempfile.TemporaryDirectory(prefix="gs4d", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        os.mkdir(os.path.join(folder, "ray"))
        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        try:
            stream = run(
                small_jobs(tmp_path, TEXT.replace(ITERATIONS, "iterations: 20000")),
                on="ray",
                address=made.address,
            )
            with pytest.raises(InputError, match="The cluster was lost") as caught:
                for message in stream:
                    if isinstance(message, JobUpdate) and message.done and made.head_node is not None:
                        made.remove_node(made.head_node, allow_graceful=False)
            assert caught.value.code == "CLU-046"
        finally:
            made.shutdown()
    wait_until(lambda: not workers_of(tmp_path / "out"))
