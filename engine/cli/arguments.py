"""Arguments from configs: one flag a field, and what every verb does with its stream."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from typing import Any

import torch

from ..errors import InputError
from ..fields import id_of
from ..messages import Finished, Progress, Started, Stream
from ..render import choose_device

Arguments = argparse.Namespace
AddVerb = Callable[..., argparse.ArgumentParser]  # see `add_verb` in __init__.py


def add_config(
    parser: argparse.ArgumentParser, config: type[Any], skip: tuple[str, ...] = (), prefix: str = ""
) -> None:
    """One flag per Config field, with its default, range and help; `prefix` goes before each name.

    A field that was renamed keeps its old flag beside the new one.
    """
    for f in fields(config):
        if f.name in skip:
            continue
        names = ["--" + (prefix + name).replace("_", "-") for name in dict.fromkeys((f.name, id_of(f)))]
        help = f"{f.metadata['help']} (default {f.default})".replace("%", "%%")
        common: dict[str, Any] = {"default": f.default, "dest": prefix + f.name, "help": help}
        if isinstance(f.default, bool):
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
        elif "options" in f.metadata:
            parser.add_argument(*names, choices=f.metadata["options"], **common)
        else:
            kind = type(f.default)
            parser.add_argument(*names, type=kind, metavar=kind.__name__.upper(), **common)


def config_from(
    arguments: Arguments, config: type[Any], prefix: str = "", shared: tuple[str, ...] = (), **fixed: Any
) -> Any:
    """The Config whose flags `add_config` added; the fields in `shared` are read from flags without the prefix."""
    flags = {f.name: f.name if f.name in shared else prefix + f.name for f in fields(config)}
    named = {name: getattr(arguments, flag) for name, flag in flags.items() if hasattr(arguments, flag)}
    return config(**{**named, **fixed})


@contextmanager
def stop_requests() -> Generator[list[bool], None, None]:
    """A list that the first Ctrl-C fills, to be looked at where stopping is safe; the second one stops at once."""
    requests: list[bool] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(*_: Any) -> None:
        if requests:
            raise KeyboardInterrupt
        requests.append(True)

    # ValueError: not the main thread, whose caller owns the signals
    with suppress(ValueError):
        for number in before:
            signal.signal(number, stop)
    try:
        yield requests
    finally:
        with suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)


def follow(
    stream: Stream,
    quiet: bool,
    put_away: Callable[[Any], object] | None = None,
    keeps_checkpoint: bool = False,
) -> Any:
    """Run a step's stream, printing its progress on stderr; Ctrl-C closes it between two messages.

    `put_away` is given what the step makes before the stream ends: where it fails, a training keeps its checkpoint.
    With `keeps_checkpoint` the stream is closed there, so that a later stage may fail and this one be had again.
    """
    total, shown, value = 0, 0.0, None
    with stop_requests() as requests, closing(stream):
        for message in stream:
            if isinstance(message, Started):
                total = message.total
                if not quiet:
                    print(message.note, file=sys.stderr)
            elif isinstance(message, Finished):
                value = message.value
                if put_away is not None:
                    put_away(value)
                if keeps_checkpoint:
                    break
                continue  # what is made is not thrown away for a Ctrl-C that came too late
            elif isinstance(message, Progress) and not quiet and time.monotonic() - shown > 1:
                shown = time.monotonic()
                numbers = "  ".join(f"{k} {v:.4f}" for k, v in message.losses.items())
                count = f"  {message.count} Gaussians" if message.count else ""
                print(f"  {message.done}/{total}{count}  {numbers}", file=sys.stderr)
            if requests:
                raise KeyboardInterrupt
    return value


def say(text: str, arguments: Arguments) -> None:
    """Print what a person wants to know; with `--json` only the report is printed."""
    if text and not arguments.json:
        print(text)


def device_of(arguments: Arguments) -> str:
    name = arguments.device
    if name == "auto":
        return choose_device(getattr(arguments, "rasterizer", "auto"))
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", name) is None:
        raise InputError("CLI-001", f"'{name}' is not a device; use auto, cpu or cuda.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "CLI-002",
            "CUDA was asked for, but this machine or this build of torch has none; use --device cpu.",
        )
    if ":" in name and int(name.split(":")[1]) >= torch.cuda.device_count():
        raise InputError(
            "CLI-003", f"There is no {name} here: {torch.cuda.device_count()} CUDA devices, from cuda:0."
        )
    return name
