"""`python -m tests.fuzz`: see `runner`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.runner import fuzz, repeat

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
    repeat(given.only[0], given.case, given.seed, given.keep)
    sys.exit()
findings, counts = fuzz(given.seconds, given.seed, given.only, verbose=True)
for name, (ran, refused) in counts.items():
    print(f"{name}: {ran} cases, {refused} refused")
print(f"{sum(ran for ran, _ in counts.values())} cases, {len(findings)} faults")
for finding in findings:
    print(finding)
sys.exit(bool(findings))
