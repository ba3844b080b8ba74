"""Arguments from configs: one flag a field, and what every verb does with its stream."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

import torch

from ..cluster.verbs import Role
from ..errors import InputError
from ..fields import id_of, number_of, text_of
from ..files.mp4 import check_video_name
from ..files.paths import printable, typed_path
from ..messages import Finished, Progress, Started, Stream
from ..render import choose_device
from ..render.hardware import missing
from ..train import compile_ahead, ranks
from ..train.presets import PARAMETERS
from ..wording import LONGEST_SENTENCE, sentence
from .console import tell
from .progress import progress_for
from .stopping import Stopped, signals

Arguments = argparse.Namespace
# frames per second
FASTEST = 1000
AddVerb = Callable[..., argparse.ArgumentParser]  # see `add_verb` in __init__.py
# InputError for the name of a path that will not do
NameCheck = Callable[[Path, Arguments], None]


class Parser(argparse.ArgumentParser):
    """Wrong arguments end in one line that a person can read, whatever was typed."""

    def error(self, message: str) -> NoReturn:
        super().error(sentence(message, LONGEST_SENTENCE - len(f"{self.prog}: error: ")))


class _Store(argparse.Action):
    """Stores a value, and that its flag was given: it may equal the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: Arguments,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = {*getattr(namespace, "given", ()), self.dest}


def add_path(
    parser: argparse.ArgumentParser,
    *names: str,
    metavar: str = "PATH",
    role: Role = Role.INPUT,
    check: NameCheck | None = None,
    **more: Any,
) -> None:
    """A flag that names a file or folder; its `role` tells job files what it is, and `check` says whether its name will do."""
    action = parser.add_argument(*names, type=_path, metavar=metavar, **more)
    parser.set_defaults(path_roles={**(parser.get_default("path_roles") or {}), action.dest: role})
    if check is not None:
        parser.set_defaults(name_checks={**(parser.get_default("name_checks") or {}), action.dest: check})


def ends_in(ending: str) -> NameCheck:
    """The check of a path whose name has to end so: programs choose a reader by it."""

    def check(path: Path, _: Arguments) -> None:
        if path.suffix.lower() != ending:
            raise InputError(
                "CLI-014",
                f"{printable(path.name)}: this output is a {ending} file. Name it {printable(path.stem)}{ending}.",
            )

    return check


def names_video(path: Path, _: Arguments) -> None:
    """The check of a video's name."""
    check_video_name(path)


def check_names(arguments: Arguments) -> None:
    """InputError for the first output that has the ending of another format."""
    for name, check in getattr(arguments, "name_checks", {}).items():
        if path := getattr(arguments, name):
            check(Path(path), arguments)


def frame_rate(text: str) -> float:
    """The value of a flag with a frame rate; 0 is one that is stored elsewhere."""
    rate = float(text)
    if not 0 <= rate <= FASTEST:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to {FASTEST} frames per second")
    return rate


def _path(text: str) -> str:
    try:
        return str(typed_path(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_config(
    parser: argparse.ArgumentParser,
    config: type[Any],
    skip: tuple[str, ...] = (),
    prefix: str = "",
) -> None:
    """One flag per Config field, with its default, range and help; `prefix` goes before each name.

    A field that was renamed keeps its old flag beside the new one.
    """
    parser.set_defaults(configs=[*(parser.get_default("configs") or ()), (config, skip, prefix)])
    for f in fields(config):
        if f.name in skip:
            continue
        names = ["--" + (prefix + name).replace("_", "-") for name in dict.fromkeys((f.name, id_of(f)))]
        help = f"{f.metadata['help']} (default {text_of(f, f.default)})".replace("%", "%%")
        common: dict[str, Any] = {"default": f.default, "dest": prefix + f.name, "help": help}
        if isinstance(f.default, bool):
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
        elif "options" in f.metadata:
            parser.add_argument(*names, action=_Store, choices=f.metadata["options"], **common)
        else:
            kind = type(f.default)
            taken = _number_type(f) if f.metadata.get("words") else kind
            parser.add_argument(*names, action=_Store, type=taken, metavar=kind.__name__.upper(), **common)


def _number_type(f: Field[Any]) -> Callable[[str], float | int]:
    """What reads the flag of a number that has words, such as "auto"."""

    def read(text: str) -> float | int:
        return number_of(f, text)

    # argparse names the type where a value is wrong
    read.__name__ = f"{type(f.default).__name__} or {' or '.join(f.metadata['words'].values())}"
    return read


def config_from(
    arguments: Arguments, config: type[Any], prefix: str = "", shared: tuple[str, ...] = (), **fixed: Any
) -> Any:
    """The Config whose flags `add_config` added; the fields in `shared` are read from flags without the prefix."""
    flags = {f.name: f.name if f.name in shared else prefix + f.name for f in fields(config)}
    named = {name: getattr(arguments, flag) for name, flag in flags.items() if hasattr(arguments, flag)}
    if "quality_keeps" in named and named["quality"] != "custom":
        # a flag that was given wins over a preset, even with the value of its default
        given = [name for name in PARAMETERS if flags[name] in getattr(arguments, "given", ())]
        named["quality_keeps"] = ", ".join(filter(None, [named["quality_keeps"], *given]))
    return config(**{**named, **fixed})


def check_configs(arguments: Arguments) -> None:
    """InputError for the first value that its field does not take, of configs that the verb may never need, too."""
    for config, skip, prefix in getattr(arguments, "configs", ()):
        names = [f.name for f in fields(config) if f.name not in skip]
        config(**{name: getattr(arguments, prefix + name) for name in names})


def follow(
    stream: Stream,
    quiet: bool,
    put_away: Callable[[Any], object] | None = None,
    keeps_checkpoint: bool = False,
    resumes: bool = False,
    endings: list[str] | None = None,
) -> Any:
    """Run a step's stream, printing its progress on stderr.

    `put_away` is given what the step makes before the stream ends: where it fails, a training keeps its checkpoint.
    With `keeps_checkpoint` the stream is closed there, so that a later stage may fail and this one be had again.
    `endings`, if given, gets what the step says about an early end; else it is printed.
    `resumes`: the step saves a checkpoint when it is closed between two messages, so a signal waits for the next one.
    """
    value, has_worked, progress = None, False, progress_for(quiet)
    shared = ranks.current()
    with closing(stream), signals.waiting(shared.size > 1):
        while True:
            # before the first progress there is nothing to lose, except that others would wait for this process
            with signals.waiting(resumes and (has_worked or shared.size > 1)):
                message = next(stream, None)
            if message is None:
                return value
            if isinstance(message, Finished):
                value = message.value
                if message.note and endings is not None:
                    endings.append(message.note)
                else:
                    progress.finished(message)
                # what is made is not thrown away for a signal that came too late
                with signals.waiting():
                    if put_away is not None:
                        put_away(value)
                    if not keeps_checkpoint:
                        deque(stream, maxlen=0)
                return value
            if isinstance(message, Started):
                progress.started(message)
            elif isinstance(message, Progress):
                has_worked = True
                progress.went_on(message)
            if shared.size == 1:
                signals.check()
            elif shared.is_stopping:
                raise Stopped(signals.came or signal.SIGTERM)


def say(text: str, arguments: Arguments) -> None:
    """Print what a person wants to know; with `--json` only the report is printed."""
    if text and not arguments.json:
        tell(text, sys.stdout)


def device_of(arguments: Arguments) -> str:
    """The device that scenes are rendered and trained on. For the CPU, its kernels begin to be compiled if they are not yet."""
    if arguments.device == "auto":
        device = choose_device(getattr(arguments, "rasterizer", "auto"))
    else:
        device = _checked_device(arguments.device)
    if ranks.launched() and device.startswith("cuda"):
        device = _own_gpu(device)
    if device == "cpu":
        compile_ahead.start()
    return device


def model_device_of(arguments: Arguments) -> str:
    """The device of a verb's networks: any GPU is faster for them, also where scenes are rendered on the CPU."""
    for name in (getattr(arguments, "diffusion_device", "auto"), arguments.device):
        if name != "auto":
            return _checked_device(name)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _own_gpu(device: str) -> str:
    """The GPU of this process, one of several. InputError where all of a machine would have the same."""
    if device == "cuda":
        return f"cuda:{ranks.local_number()}"
    if ranks.local_count() > 1:
        raise InputError(
            "CLI-013",
            f"--device {device} gives all {ranks.local_count()} processes of this machine the same GPU. Give --device cuda, and "
            "each takes its own.",
        )
    return device


def _checked_device(name: str) -> str:
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", name) is None:
        raise InputError(
            "CLI-001", f"'{name}' is not a device; use auto, cpu, cuda or cuda:1 (the second GPU)."
        )
    problem = missing(name)
    if problem is not None and not torch.cuda.is_available():
        raise InputError("CLI-002", problem)
    if problem is not None:
        raise InputError("CLI-003", problem)
    return name
