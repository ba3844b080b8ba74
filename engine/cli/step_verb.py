"""Verbs made from what steps declare about themselves (engine/steps/step.py)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cluster.verbs import Role
from ..errors import InputError
from ..figures.drawing import as_picture
from ..files.atomic import write_atomically
from ..messages import as_stream
from ..steps.step import Kind, Output, Step
from ..train import ranks
from .arguments import AddVerb, Arguments, add_path, config_from, device_of, follow, say
from .kinds import WRITERS, Writer, flag_of, read_input
from .outputs import check_outputs
from .stopping import signals

# bytes of a scene with few Gaussians
SMALL_SCENE = 1 << 16


def add_step(add_verb: AddVerb, step: Step) -> None:
    """The verb of a step, with a flag for each input and each Config field."""
    writer = writer_of(step)
    sub = add_verb(
        step.verb,
        lambda arguments: run(step, arguments),
        step.about or step.description,
        aliases=step.aliases,
        inputs=step.inputs,
        out=writer.help if writer else "",
        check_out=writer.check if writer else None,
        has_device=step.has_device,
        configs=(step.config, *step.more.values()),
    )
    for output in further_outputs(step):
        further = WRITERS[output.kind]
        add_path(
            sub, f"--{output.id}-out", role=Role.OUTPUT, check=further.check, help=f"also: {further.help}"
        )
    if step.outputs[0].kind is Kind.IMAGES:
        add_path(sub, "--sheet", metavar="FILE", role=Role.OUTPUT, help="image to write: the comparison rows")
    sub.set_defaults(shares_views=step.shares_views)
    if step.shares_views:
        help = "divide the Gaussians among the processes that torchrun starts: for scenes that do not fit one GPU"
        sub.add_argument("--shard-gaussians", action="store_true", help=help)
    if step.resumes:
        help = "unfinished work, resumed if it exists (default: next to --out)"
        add_path(sub, "--checkpoint", metavar="FILE", role=Role.KEPT, help=help)
        sub.set_defaults(checkpoints=(checkpoint_ending(step),))


def writer_of(step: Step) -> Writer | None:
    """How the step's first output is written; None for a step that reports."""
    return WRITERS.get(step.outputs[0].kind)


def further_outputs(step: Step) -> list[Output]:
    """Outputs after the first that the verb can write too."""
    return [output for output in step.outputs[1:] if output.kind in WRITERS]


def run(step: Step, arguments: Arguments) -> dict[str, Any]:
    """Read the inputs, run the step, write what it makes; returns the report. Processes that torchrun started share the work."""
    device = device_of(arguments) if step.has_device else "cpu"
    is_sharded = getattr(arguments, "shard_gaussians", False)
    if not ranks.launched():
        if is_sharded:
            raise InputError(
                "CLI-012",
                "--shard-gaussians divides the Gaussians among processes, and there is only one. Start several: torchrun "
                f"--nproc-per-node 2 -m engine {step.verb} …",
            )
        return _run(step, arguments, device)
    with ranks.joined(device, lambda: bool(signals.came), is_sharded):
        return _run(step, arguments, device)


def _run(step: Step, arguments: Arguments, device: str) -> dict[str, Any]:
    start, writer, leads = time.monotonic(), writer_of(step), ranks.current().leads
    checkpoint = checkpoint_of(step, arguments) if step.resumes else None
    if leads:
        check_outputs(outputs_of(step, arguments), filter(None, [checkpoint]), least_size(step, arguments))
    if checkpoint is not None and leads:
        arguments.unfinished.watch(checkpoint)
    config = config_from(arguments, step.config)
    given: dict[str, Any] = {}
    # masks are read at the size of their views
    for declared in sorted(step.inputs, key=lambda i: i.kind is Kind.MASKS):
        if declared.kind is not Kind.SETTINGS:
            given[declared.name] = read_input(arguments, declared, given)
    more: dict[str, Any] = {name: config_from(arguments, each) for name, each in step.more.items()}
    if step.has_device:
        more["device"] = device
    if step.resumes:
        more["checkpoint"] = checkpoint
    stream = as_stream(step(config=config, **given, **more))
    if writer is None:
        return _reported(follow(stream, arguments.json), arguments)
    report: dict[str, Any] = {"out": str(arguments.out)}

    endings: list[str] = []

    def put_away(made: Any) -> None:
        first = step.outputs[0].of(made)
        writer.write(first, Path(arguments.out))
        for output in further_outputs(step):
            if path := getattr(arguments, f"{output.id}_out"):
                WRITERS[output.kind].write(output.of(made), Path(path))
        report.update(writer.report(first), seconds=round(time.monotonic() - start, 2))
        if note := "\n".join(filter(None, (*endings, step.note(made)))):
            report["notes"] = note.splitlines()
            say(note, arguments)

    follow(stream, arguments.json, put_away if leads else None, resumes=bool(step.resumes), endings=endings)
    return report


def outputs_of(step: Step, arguments: Arguments) -> list[tuple[Kind, Path]]:
    """What the verb writes, and where."""
    named = [(step.outputs[0], "out")] if writer_of(step) is not None else []
    named += [(output, f"{output.id}_out") for output in further_outputs(step)]
    found = [(output.kind, getattr(arguments, name, None)) for output, name in named]
    if getattr(arguments, "sheet", None):
        found.append((Kind.IMAGES, arguments.sheet))
    return [(kind, Path(path)) for kind, path in found if path]


def least_size(step: Step, arguments: Arguments) -> int:
    """Bytes of the result, at least: an edited scene or field is about as large as what it is made of."""
    kinds = (Kind.SCENE, Kind.LATENTS)
    if step.outputs[0].kind not in kinds:
        return 1
    flags = [flag_of(each)[2:].replace("-", "_") for each in step.inputs if each.kind in kinds]
    paths = [Path(path) for flag in flags if (path := getattr(arguments, flag, None))]
    return max((path.stat().st_size for path in paths if path.is_file()), default=SMALL_SCENE)


def checkpoint_of(step: Step, arguments: Arguments) -> Path:
    """Where the step's unfinished work lies."""
    if arguments.checkpoint:
        return Path(arguments.checkpoint)
    return Path(arguments.out).with_suffix(checkpoint_ending(step))


def checkpoint_ending(step: Step) -> str:
    """What the name of a checkpoint has in place of the output's ending."""
    return f".{step.resumes}.safetensors"


def _reported(made: Any, arguments: Arguments) -> dict[str, Any]:
    sheet = getattr(arguments, "sheet", None)
    if sheet and len(made.comparison.rows):
        _write_image(torch.cat(list(made.comparison.rows)), Path(sheet))
    say(made.text(), arguments)
    return made.to_json()


def _write_image(image: Tensor, target: Path) -> None:
    with write_atomically(target) as partial:
        as_picture(image).save(partial, format="PNG")
