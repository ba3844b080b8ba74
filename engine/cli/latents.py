"""Verbs that edit a scene in the latent space of a diffusion model (ED-NeRF): field, edit, pictures, scene."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from .arguments import AddVerb, Arguments, add_config, config_from, device_of, follow, with_data, with_device
from .editing import (
    backbone_of,
    checkpoint_of,
    field_inputs_of,
    inputs_of,
    save_field_made,
    save_made,
    with_checkpoint,
    with_model,
    with_selection,
)


def train_latents(arguments: Arguments) -> dict[str, Any]:
    from ..steps import train_latents as step

    start, out, device = time.monotonic(), Path(arguments.out), device_of(arguments)
    scene, video, _ = inputs_of(arguments, device)
    config = config_from(arguments, step.Config)
    checkpoint = checkpoint_of(arguments, "training")
    stream = step.run(scene, backbone_of(arguments, device), config, video, device, checkpoint)
    return _kept(stream, arguments, lambda made: save_field_made(made, out, start))


def delta_edit(arguments: Arguments) -> dict[str, Any]:
    from ..steps import delta_edit as step

    start, out, device = time.monotonic(), Path(arguments.out), device_of(arguments)
    config = config_from(arguments, step.Config)
    field, video, selection = field_inputs_of(arguments, device)
    checkpoint = checkpoint_of(arguments, "editing")
    stream = step.run(field, backbone_of(arguments, device), config, selection, video, device, checkpoint)
    return _kept(stream, arguments, lambda made: save_field_made(made, out, start))


def decode_latents(arguments: Arguments) -> dict[str, Any]:
    from ..io.view_folder import save_views
    from ..steps import decode_latents as step

    device = device_of(arguments)
    field, video, _ = field_inputs_of(arguments, device)
    config = config_from(arguments, step.Config)
    views = follow(step.run(field, backbone_of(arguments, device), config, video, device), arguments.json)
    return {"out": str(save_views(views, arguments.out)), "views": len(views)}


def latents_to_scene(arguments: Arguments) -> dict[str, Any]:
    from ..steps import latents_to_scene as step

    start, out, device = time.monotonic(), Path(arguments.out), device_of(arguments)
    field, _, selection = field_inputs_of(arguments, device)
    config = config_from(arguments, step.Config)
    checkpoint = checkpoint_of(arguments, "fitting")
    stream = step.run(field, backbone_of(arguments, device), config, selection, device, checkpoint)
    return _kept(stream, arguments, lambda made: save_made(made, out, start))


def _kept(stream: Any, arguments: Arguments, save: Any) -> dict[str, Any]:
    """What the step makes is written before its checkpoint goes."""
    report: dict[str, Any] = {}
    follow(stream, arguments.json, put_away=lambda made: report.update(save(made)))
    return report


def add_verbs(verb: AddVerb) -> None:
    """Each verb with its flags."""
    from ..steps import decode_latents as decode_step
    from ..steps import delta_edit as edit_step
    from ..steps import latents_to_scene as scene_step
    from ..steps import train_latents as train_step

    capture = "folder of the capture that the scene was trained on (default: its own renders are used)"

    def with_field(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--field", required=True, help="latent field (.safetensors)")

    sub = verb(
        "train-latents",
        train_latents,
        "Train a latent field of a scene: what a diffusion model's autoencoder makes of it, for delta-edit.",
    )
    sub.add_argument("--scene", required=True)
    sub.add_argument("--out", "-o", required=True, help="latent field to write (.safetensors)")
    with_data(sub, False, capture)
    with_device(sub)
    with_model(sub)
    with_checkpoint(sub)
    add_config(sub, train_step.Config)

    sub = verb("delta-edit", delta_edit, "Edit a latent field by what two prompts disagree about.")
    with_field(sub)
    sub.add_argument("--out", "-o", required=True, help="edited latent field to write (.safetensors)")
    with_data(sub, False, capture)
    with_device(sub)
    with_model(sub)
    with_selection(sub)
    with_checkpoint(sub)
    add_config(sub, edit_step.Config)

    sub = verb("decode-latents", decode_latents, "Write the pictures that views of a latent field decode to.")
    with_field(sub)
    sub.add_argument("--out", "-o", required=True, help="folder of views to write")
    with_data(sub, False, "folder of the capture whose pictures are put beside (default: renders)")
    with_device(sub)
    with_model(sub)
    add_config(sub, decode_step.Config)

    sub = verb(
        "latents-to-scene",
        latents_to_scene,
        "Bring an edited latent field back to colours: a scene that plays and exports.",
    )
    with_field(sub)
    sub.add_argument("--out", "-o", required=True, help="scene to write (.safetensors)")
    with_device(sub)
    with_model(sub)
    with_selection(sub)
    with_checkpoint(sub)
    add_config(sub, scene_step.Config)
