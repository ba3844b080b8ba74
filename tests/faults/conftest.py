"""How long the tests of faults go on: GS4D_FAULT_ROUNDS and GS4D_FAULT_SEED, as `make test-faults` sets them."""

import os

import pytest

from tests.faults.commands import Inputs, make_inputs
from tests.faults.every_command import Bench

ROUNDS = int(os.environ.get("GS4D_FAULT_ROUNDS", "0"))
SEED = int(os.environ.get("GS4D_FAULT_SEED", "0"))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`draw`: seeds of random cases, none in `make test`."""
    if "draw" in metafunc.fixturenames:
        metafunc.parametrize("draw", range(SEED, SEED + ROUNDS))
