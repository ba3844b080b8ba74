"""A short, seeded run of the fuzzer; `make fuzz` runs longer."""

from __future__ import annotations

import os
import sys

import pytest

from tests.fuzz.parsers import PARSERS
from tests.fuzz.player import OLDEST, fuzz_player, node
from tests.fuzz.runner import BATCH, fuzz

SECONDS = float(os.environ.get("GS4D_FUZZ_SECONDS", "25"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked and read /proc")
def test_mutated_inputs_end_in_a_value_or_a_sentence() -> None:
    findings, counts = fuzz(SECONDS, seed=0)
    assert not findings, "\n".join(map(str, findings))
    assert len(counts) == len(PARSERS) > 30
    # each parser had its turn, and its inputs were changed enough to be refused
    for name, (ran, refused) in counts.items():
        assert not ran or ran >= BATCH, name
        assert not ran or refused, name


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pipes are waited for")
def test_mutated_player_files_end_in_a_picture_or_a_sentence() -> None:
    if node() is None:
        pytest.skip(f"NOT RUN: no node here (node {OLDEST} or later)")
    findings, (ran, refused) = fuzz_player(SECONDS / 3, seed=0)
    assert not findings, "\n".join(map(str, findings))
    assert ran >= BATCH and ran // 4 < refused < ran
