"""Arguments from configs: one flag a field, and what every verb does with its stream."""

from __future__ import annotations

import argparse
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


def add_config(parser: argparse.ArgumentParser, config: type[Any], skip: tuple[str, ...] = ()) -> None:
    """One flag per Config field, with its default, range and sentence."""
    for f in fields(config):
        if f.name in skip:
            continue
        name, meta = "--" + f.name.replace("_", "-"), f.metadata
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


def config_from(arguments: Arguments, config: type[Any], **fixed: Any) -> Any:
    """The Config whose flags `add_config` added."""
    named = {f.name: getattr(arguments, f.name) for f in fields(config) if hasattr(arguments, f.name)}
    return config(**{**named, **fixed})


def follow(stream: Any, quiet: bool, put_away: Callable[[Any], object] | None = None) -> Any:
    """Run a step's stream, printing its progress on stderr; Ctrl-C closes it between two messages.

    `put_away` is given what the step makes before the stream ends: where it fails, a training keeps its checkpoint.
    """
    from ..train import messages as m

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
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            "CUDA was asked for, but this machine or this build of torch has none; use --device cpu."
        )
    try:
        torch.device(name)
    except RuntimeError as error:
        raise InputError(f"There is no device called '{name}'; use auto, cpu or cuda.") from error
    return name


def with_data(
    sub: argparse.ArgumentParser, required: bool = True, text: str = "folder of the capture"
) -> None:
    """`--data` and the flags that say how a capture is read."""
    from ..io.datasets import LoadOptions

    sub.add_argument("--data", required=required, help=text)
    add_config(sub, LoadOptions, skip=("background",))


def with_device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda; auto takes cuda where gsplat works")


def load_capture(arguments: Arguments) -> Any:
    """The capture that `--data` names."""
    from ..io.datasets import LoadOptions, load_video

    return load_video(Path(arguments.data), config_from(arguments, LoadOptions))
