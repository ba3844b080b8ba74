"""The verb `edit`: three steps in a row, each resumed where it was stopped."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..cluster.verbs import Role
from ..io.view_folder import load_views, save_views
from ..steps import edit_views, fit_edits, refine_score
from ..steps.step import Kind
from .arguments import AddVerb, Arguments, add_config, add_path, config_from, device_of, follow
from .kinds import SAFETENSORS, WRITERS, read_input
from .outputs import check_outputs
from .step_verb import checkpoint_ending, least_size

# one flag for all stages
SHARED = ("rasterizer", "seed", "preview_every", "checkpoint_seconds")
PROMPTS = ("prompt", "negative", "force")
STAGES = (edit_views.STEP, fit_edits.STEP, refine_score.STEP)
# an input of the fit
PIN = next(each for each in fit_edits.STEP.inputs if each.name == "pin")


def edit(arguments: Arguments) -> dict[str, Any]:
    """Edit views, fit the scene to them, and, where asked, refine it."""
    start, out, device = time.monotonic(), Path(arguments.out), device_of(arguments)
    checkpoints = [out.with_suffix(checkpoint_ending(stage)) for stage in STAGES]
    outputs = [
        (Kind.SCENE, out),
        *([(Kind.VIEWS, Path(arguments.keep_views))] if arguments.keep_views else []),
    ]
    check_outputs(outputs, checkpoints, least_size(fit_edits.STEP, arguments))
    for path in checkpoints:
        arguments.unfinished.watch(path)
    needs_model = arguments.refine or not arguments.use_views
    given = {
        i.name: read_input(arguments, i, {})
        for i in edit_views.STEP.inputs
        if needs_model or i.kind is not Kind.GUIDANCE
    }
    scene, selection = given["scene"], given["selection"]

    def finish(stream: Any) -> Any:
        return follow(stream, arguments.json, keeps_checkpoint=True, resumes=True)

    if arguments.use_views:
        if arguments.refine:
            # else the refinement would refuse it after the fit
            refine_score.check_instruction(given["backbone"], arguments.prompt, arguments.force)
        views = load_views(arguments.use_views)
    else:
        config = config_from(arguments, edit_views.Config)
        views = finish(edit_views.STEP(**given, config=config, checkpoint=checkpoints[0], device=device))
    if arguments.keep_views:
        save_views(views, arguments.keep_views)
    config = config_from(arguments, fit_edits.Config, "fit_", SHARED)
    # the fit checks number and shape: the model may have stretched the views
    pin = read_input(arguments, PIN, {})
    edited = finish(fit_edits.STEP(scene, views, config, selection, device, checkpoints[1], pin=pin))
    if arguments.refine:
        config = config_from(arguments, refine_score.Config, "refine_", (*SHARED, *PROMPTS))
        inputs = {**given, "scene": edited, "original": scene}
        # of the views alone
        del inputs["keep"]
        edited = finish(refine_score.STEP(**inputs, config=config, device=device, checkpoint=checkpoints[2]))
    writer = WRITERS[Kind.SCENE]
    writer.write(edited, out)
    for path in checkpoints:
        path.unlink(missing_ok=True)
    return {"out": str(out), **writer.report(edited), "seconds": round(time.monotonic() - start, 2)}


def add_edit(add_verb: AddVerb) -> None:
    """The verb with its flags."""
    sub = add_verb(
        "edit",
        edit,
        "Edit a scene with a prompt: edit views of it, fit the scene to them, refine it.",
        inputs=(*edit_views.STEP.inputs, PIN),
        out="edited scene to write (.safetensors)",
        check_out=SAFETENSORS,
        has_device=True,
        configs=(edit_views.Config,),
    )
    sub.set_defaults(checkpoints=tuple(map(checkpoint_ending, STAGES)))
    keep = "folder to save the edited views in, to check or change them"
    add_path(sub, "--keep-views", metavar="DIR", role=Role.OUTPUT, help=keep)
    use = "folder of edited views to fit to (from --keep-views)"
    add_path(sub, "--use-views", metavar="DIR", help=use)
    sub.add_argument(
        "--refine",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="then refine the whole scene by score distillation (stage 2 of Instruct-4DGS)",
    )
    add_config(sub, fit_edits.Config, SHARED, "fit_")
    add_config(sub, refine_score.Config, (*SHARED, *PROMPTS), "refine_")
