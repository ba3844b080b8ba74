"""What the verbs of editing read and write: scenes, models, selections, unfinished work."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from .arguments import Arguments, load_capture


def inputs_of(arguments: Arguments, device: str) -> tuple[Any, Any, Any]:
    """(scene on the device, the capture or None, the selection or None)."""
    from ..io.scene_file import load_scene

    scene = load_scene(Path(arguments.scene)).to(device)
    return scene, video_of(arguments), selection_of(arguments)


def field_inputs_of(arguments: Arguments, device: str) -> tuple[Any, Any, Any]:
    """(latent field on the device, the capture or None, the selection or None)."""
    from ..latent.files import load_field

    return load_field(arguments.field).to(device), video_of(arguments), selection_of(arguments)


def video_of(arguments: Arguments) -> Any:
    # what a capture shows is not for an edit's flags to say
    return load_capture(arguments, background="auto") if getattr(arguments, "data", None) else None


def selection_of(arguments: Arguments) -> Any:
    from ..io.selection_file import load_selection

    chosen = getattr(arguments, "selection", None)
    return load_selection(chosen) if chosen else None


def backbone_of(arguments: Arguments, device: str) -> Any:
    from ..diffusion.loading import embedded, load

    return load(arguments.model or embedded(), device, arguments.dtype)


def checkpoint_of(arguments: Arguments, name: str) -> Path:
    return (
        Path(arguments.checkpoint)
        if arguments.checkpoint
        else Path(arguments.out).with_suffix(f".{name}.safetensors")
    )


def save_made(scene: Any, out: Path, start: float) -> dict[str, Any]:
    from ..io.scene_file import save_scene

    save_scene(scene.to("cpu"), out)
    return {"out": str(out), "gaussians": len(scene.canonical), "seconds": round(time.monotonic() - start, 2)}


def save_field_made(field: Any, out: Path, start: float) -> dict[str, Any]:
    from ..latent.files import save_field

    save_field(field.to("cpu"), out)
    width, height = field.size
    factor = field.vae.factor
    return {
        "out": str(out),
        "gaussians": len(field.scene.canonical),
        "latents": [field.vae.channels, height // factor, width // factor],
        "seconds": round(time.monotonic() - start, 2),
    }


def with_model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--model", help="a diffusers folder or a .safetensors (default: the InstructPix2Pix that ships)"
    )
    sub.add_argument(
        "--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="precision of the model"
    )


def with_selection(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--selection", help="file of lift-mask: only these Gaussians are changed (default: all)")


def with_checkpoint(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--checkpoint", help="unfinished work, resumed from when it is there (default: beside --out)"
    )
