"""Arguments from configs: one flag a field, and what every verb does with its stream."""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import InputError

Arguments = argparse.Namespace
AddVerb = Callable[[str, Callable[[Arguments], dict[str, Any]], str], argparse.ArgumentParser]


def add_config(
    parser: argparse.ArgumentParser, config: type[Any], skip: tuple[str, ...] = (), prefix: str = ""
) -> None:
    """One flag per Config field, with its default, range and sentence; `prefix` goes before each name."""
    for f in fields(config):
        if f.name in skip:
            continue
        name, meta = "--" + (prefix + f.name).replace("_", "-"), f.metadata
        text = str(meta.get("text", "")).replace("%", "%%")
        if isinstance(f.default, bool):
            parser.add_argument(name, default=f.default, action=argparse.BooleanOptionalAction, help=text)
        elif "options" in meta:
            parser.add_argument(
                name, default=f.default, choices=meta["options"], help=f"{text} (default {f.default})"
            )
        else:
            kind = type(f.default)
            parser.add_argument(
                name,
                default=f.default,
                type=kind,
                metavar=kind.__name__.upper(),
                help=f"{text} (default {f.default})",
            )


def config_from(
    arguments: Arguments, config: type[Any], prefix: str = "", shared: tuple[str, ...] = (), **fixed: Any
) -> Any:
    """The Config whose flags `add_config` added; the fields in `shared` are read from flags without the prefix."""
    flags = {f.name: f.name if f.name in shared else prefix + f.name for f in fields(config)}
    named = {name: getattr(arguments, flag) for name, flag in flags.items() if hasattr(arguments, flag)}
    return config(**{**named, **fixed})


def follow(
    stream: Any,
    quiet: bool,
    put_away: Callable[[Any], object] | None = None,
    keeps_checkpoint: bool = False,
) -> Any:
    """Run a step's stream, printing its progress on stderr; Ctrl-C closes it between two messages.

    `put_away` is given what the step makes before the stream ends: where it fails, a training keeps its checkpoint.
    With `keeps_checkpoint` the stream is closed there, so that a later stage may fail and this one be had again.
    """
    from .. import messages as m

    stopping: list[bool] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(*_: Any) -> None:
        if stopping:
            raise KeyboardInterrupt
        stopping.append(True)

    try:
        for number in before:
            signal.signal(number, stop)
    except ValueError:  # not the main thread: the caller owns the signals
        pass
    total, shown, value = 0, 0.0, None
    try:
        for message in stream:
            if isinstance(message, m.Started):
                total = message.total
                if not quiet:
                    print(message.note, file=sys.stderr)
            elif isinstance(message, m.Finished):
                value = message.value
                if put_away is not None:
                    put_away(value)
                if keeps_checkpoint:
                    break
                continue  # what is made is not thrown away for a Ctrl-C that came too late
            elif isinstance(message, m.Progress) and not quiet and time.monotonic() - shown > 1:
                shown = time.monotonic()
                numbers = "  ".join(f"{k} {v:.4f}" for k, v in message.losses.items())
                count = f"  {message.count} Gaussians" if message.count else ""
                print(f"  {message.done}/{total}{count}  {numbers}", file=sys.stderr)
            if stopping:
                raise KeyboardInterrupt
    finally:
        stream.close()
        try:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
        except ValueError:
            pass
    return value


def device_of(arguments: Arguments) -> str:
    import torch

    from ..render import choose_device

    name = arguments.device
    if name == "auto":
        return choose_device(getattr(arguments, "rasterizer", "auto"))
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", name) is None:
        raise InputError(f"There is no device called '{name}'; use auto, cpu or cuda.")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "CUDA was asked for, but this machine or this build of torch has none; use --device cpu."
        )
    if ":" in name and int(name.split(":")[1]) >= torch.cuda.device_count():
        raise InputError(f"There is no {name} here: {torch.cuda.device_count()} CUDA devices, from cuda:0.")
    return name


def with_data(
    sub: argparse.ArgumentParser, required: bool = True, text: str = "folder of the capture"
) -> None:
    """`--data` and the flags that say how a capture is read."""
    from ..capture.readers import LoadOptions

    sub.add_argument("--data", required=required, help=text)
    add_config(sub, LoadOptions, skip=("background",))


def with_device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda; auto takes cuda where gsplat works")


def load_capture(arguments: Arguments, **fixed: Any) -> Any:
    """The capture that `--data` names."""
    from ..capture.readers import LoadOptions, load_video

    return load_video(Path(arguments.data), config_from(arguments, LoadOptions, **fixed))
