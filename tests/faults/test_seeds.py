"""Every command that takes a random seed ends well with the smallest and the largest one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from engine.cli import main
from engine.errors import InputError
from engine.fields import as_record, id_of, restored
from engine.steps import all_steps
from tests.faults.every_command import VERBS, Bench, flags_of

# `edit` makes the views that no command makes alone
SEEDS = {
    step.verb or "edit": (config, f)
    for step in all_steps()
    for config in (*step.more.values(), step.config)
    for f in fields(config)
    if f.name == "seed"
}


def test_every_command_with_a_seed_is_tried() -> None:
    found = {verb for verb in VERBS for flag in flags_of(verb) if flag.dest == "seed"}
    assert found == set(SEEDS)


@pytest.mark.parametrize("verb", SEEDS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_seeds_at_both_ends_are_used(
    bench: Bench, capsys: pytest.CaptureFixture[str], verb: str, end: str
) -> None:
    config, field = SEEDS[verb]
    seed = field.metadata[end]
    out = bench.output(verb)
    words = [*bench.command(verb), "--seed", str(seed), *(["--out", out] if out else [])]
    assert main(words) == 0, capsys.readouterr().err
    kept = as_record(config(seed=seed))
    assert restored(config, kept).seed == kept[id_of(field)] == seed
    beyond = seed + (1 if end == "high" else -1)
    with pytest.raises(InputError, match="seed"):
        config(seed=beyond)
    assert main([*bench.command(verb), "--seed", str(beyond), *(["--out", out] if out else [])]) == 1
    assert "seed" in capsys.readouterr().err
