"""Command-line options that all trainings have."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import InputError
from engine.files.paths import explains_files

from .full_size import Cost
from .loop import LoopConfig


def add_loop_options(parser: argparse.ArgumentParser) -> None:
    """Add what `loop_config` reads, but `--steps` and `--lr`."""
    parser.add_argument(
        "--seconds",
        type=float,
        default=0,
        help="stop after this CPU time, to be resumed; 0: no limit (default)",
    )
    parser.add_argument(
        "--accumulate",
        type=count,
        # as `accelerate launch --gradient_accumulation_steps`
        default=int(os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")),
        help="batches of each process whose gradients are averaged in a step; the whole batch is --batch times this times "
        "the processes",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where to train (default: %(default)s); with several processes each one takes a GPU of its machine. Made samples "
        "are made on the CPU",
    )
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16 where it is faster")
    parser.add_argument(
        "--save-every", type=count, default=200, help="steps between checkpoints (default: %(default)s)"
    )
    parser.add_argument(
        "--report-every",
        type=count,
        default=50,
        help="steps between lines of progress (default: %(default)s)",
    )
    parser.add_argument("--log", type=Path, help="folder of TensorBoard files; needs the package tensorboard")


def add_step_options(
    parser: argparse.ArgumentParser, steps: int, lr: float, paper_lr: float | None = None
) -> None:
    """Add `--steps` and `--lr` with their defaults; with a rate of the paper's size, `--lr` is None where it is not given."""
    parser.add_argument(
        "--steps", type=count, default=steps, help="of the optimizer, in all (default: %(default)s)"
    )
    also = "" if paper_lr is None else f"; {paper_lr:g} for the paper's size"
    parser.add_argument(
        "--lr", type=rate, default=lr if paper_lr is None else None, help=f"default: {lr:g}{also}"
    )


def add_data_option(parser: argparse.ArgumentParser, count: str | None = None) -> None:
    """Add `--data`."""
    parser.add_argument(
        "--data",
        nargs=count,
        help="train with samples of this folder of WebDataset shards or loose files, of one .tar file or of several "
        "(name-{000..099}.tar), not with made ones; training/shards.py writes some",
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--meta`."""
    parser.add_argument(
        "--config",
        choices=("small", "paper"),
        default="small",
        help="the bundled model's size, or that of the paper",
    )
    parser.add_argument(
        "--meta",
        action="store_true",
        help="with --config paper: take one step without memory, print parameters, bytes and operations, and stop",
    )


def show(cost: Cost, what: str) -> None:
    """Print what a step takes."""
    print("\n".join(cost.lines(what)), flush=True)


def loop_config(
    options: argparse.Namespace, steps: int | None = None, part: str = "", **more: Any
) -> LoopConfig:
    """The loop that the options ask for; a training of several loops gives the steps and the name of each."""
    more.setdefault("lr", getattr(options, "lr", None))
    return LoopConfig(
        options.steps if steps is None else steps,
        save_every=options.save_every,
        seconds=options.seconds,
        accumulate=options.accumulate,
        log=options.log / part if options.log else None,
        **more,
    )


def script(main: Callable[[], None]) -> None:
    """Run a script; input that cannot be used is one sentence, and so is Ctrl-C."""
    try:
        with explains_files():
            main()
    except InputError as error:
        print(error, file=sys.stderr, flush=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from what was saved last", file=sys.stderr, flush=True)
        raise SystemExit(128 + signal.SIGINT) from None


def count(text: str) -> int:
    """The value of an option that counts: 1 or more."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def rate(text: str) -> float:
    """The value of an option that is a learning rate: more than 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value
