"""One local run, to which all others are compared, and a Ray cluster on this machine."""

import importlib.util
import socket
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from engine.cluster import run
from engine.messages import result
from tests.cluster.small_jobs import small_jobs, wait_until


@pytest.fixture(scope="session")
def folder_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where jobs ran to their end on this machine; tests that change something take a copy."""
    folder = tmp_path_factory.mktemp("local")
    report = result(run(small_jobs(folder)))
    assert report["done"] == 4, report
    return folder


# of each node
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def cluster() -> Generator[Any, None, None]:
    """A real Ray of one node; `client` is its ray:// address, empty without grpcio."""
    pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
    from ray.cluster_utils import Cluster

    # sockets have short paths
    with (
        tempfile.TemporaryDirectory(prefix="gs4d", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # the server of a Ray client starts slowly on a busy machine
        patch.setenv("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "120")
        # Ray's proxy forks a server for each client while threads of gRPC run, whose fork handlers crash some of these servers
        patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
        Path(folder, "ray").mkdir()
        head: dict[str, Any] = {**NODE, "include_dashboard": False}
        port = free_port() if importlib.util.find_spec("grpc") else 0
        if port:
            head["ray_client_server_port"] = port
        made: Any = Cluster(initialize_head=True, head_node_args=head)
        made.client = f"ray://127.0.0.1:{port}" if port else ""
        try:
            if port:
                wait_until(lambda: listens(port))
            yield made
        finally:
            made.shutdown()


@pytest.fixture
def two_nodes(cluster: Any) -> Generator[Any, None, None]:
    """The cluster with a second node."""
    node = cluster.add_node(**NODE)
    yield cluster
    if node in cluster.worker_nodes:
        cluster.remove_node(node)
