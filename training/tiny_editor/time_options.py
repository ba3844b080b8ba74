"""How long the editor's trainings take: minutes of the clock as before, or a number of steps."""

from __future__ import annotations

import argparse

from training.common.options import add_loop_options


def add_time_options(parser: argparse.ArgumentParser, minutes: float) -> None:
    """Add `--minutes`, `--steps` and what all trainings have."""
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="on the clock; the learning rate follows it"
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="train this many steps instead; such a run is resumed to the bit"
    )
    add_loop_options(parser)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; with `--steps`, no minutes."""
    options = parser.parse_args()
    if options.device != "cpu":
        parser.error("this training computes on the CPU")
    if options.steps:
        options.minutes = 0.0
    options.bf16 = options.bf16 or options.bfloat16
    return options
