"""`python -m tests.fuzz`: see `runner`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.player import NAME, OLDEST, fuzz_player, keep, node
from tests.fuzz.runner import Finding, fuzz, repeat

arguments = argparse.ArgumentParser(
    description="Read mutated inputs; only a value or a sentence may come out."
)
arguments.add_argument("--seconds", type=float, default=60.0)
arguments.add_argument("--seed", type=int, default=0)
arguments.add_argument("--only", nargs="*", default=())
arguments.add_argument("--case", type=int, help="run one case of the parser named by --only again")
arguments.add_argument("--keep", type=Path, default=Path("fuzz_case"), help="folder for that case's input")
given = arguments.parse_args()
if given.case is not None:
    again = keep if given.only[0] == NAME else repeat
    again(given.only[0], given.case, given.seed, given.keep)
    sys.exit()
# the player's decoder takes a tenth of the time
has_player = node() is not None and (not given.only or NAME in given.only)
others = [name for name in given.only if name != NAME]
findings: list[Finding] = []
counts: dict[str, tuple[int, int]] = {}
if others or not given.only:
    findings, counts = fuzz(given.seconds * (0.9 if has_player else 1), given.seed, others, verbose=True)
if has_player:
    more, counts[NAME] = fuzz_player(given.seconds * (0.1 if counts else 1), given.seed)
    findings += more
elif not given.only or NAME in given.only:
    print(f"{NAME}: NOT RUN, no node {OLDEST} or later here")
for name, (ran, refused) in counts.items():
    print(f"{name}: {ran} cases, {refused} refused")
print(f"{sum(ran for ran, _ in counts.values())} cases, {len(findings)} faults")
for finding in findings:
    print(finding)
sys.exit(bool(findings))
