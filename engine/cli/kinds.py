"""How each kind of value looks on the command line: its flags, how it is read, how a result is written and reported."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..steps.step import Input, Kind
from .arguments import Arguments, add_config, config_from

CAPTURE_HELP = "folder of the capture"


@dataclass(frozen=True)
class Reader:
    """How an input of one kind is asked for and read."""

    flag: str  # the input's name where empty
    metavar: str
    read: Callable[
        [Arguments, str, Mapping[str, Any]], Any
    ]  # arguments, the flag's value, inputs read before
    help: str = ""  # the input's own where empty


@dataclass(frozen=True)
class Writer:
    """How a result of one kind is written."""

    help: str
    write: Callable[[Any, Path], object]
    report: Callable[[Any], dict[str, Any]]


def _scene(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..io.scene_file import load_scene

    return load_scene(Path(path))


def _latents(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..latent.files import load_field

    return load_field(path)


def _views(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..io.view_folder import load_views

    return load_views(path)


def _selection(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..io.selection_file import load_selection

    return load_selection(path)


def _guidance(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..diffusion.loading import embedded, load
    from .arguments import device_of

    return load(path or embedded(), device_of(arguments), arguments.dtype)


def _capture(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    from ..capture.options import BACKGROUNDS, LoadOptions
    from ..capture.readers import load_video

    # a step may have a background field of its own that means something else
    background = getattr(arguments, "background", "auto")
    known = background in ("auto", "keep", *BACKGROUNDS)
    return load_video(
        Path(path), config_from(arguments, LoadOptions, background=background if known else "auto")
    )


def _masks(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    """Mask images of a folder in the order of their names: [F, H, W] in 0..1, resampled to the views' size."""
    import numpy as np
    import torch

    from ..files.images import SUFFIXES, image_size, read_mask

    folder, views = Path(path), before["views"]
    if not folder.is_dir():
        raise InputError(
            "CLI-004", f"{folder.name} is no folder; give one that holds a mask picture for each view."
        )
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    count = 1 if views is None else len(views)
    if len(files) != count:
        raise InputError(
            "CLI-005",
            f"{folder.name} holds {len(files)} mask pictures, there are {count} views; give one for each, named like the "
            "views' pictures.",
        )
    size = image_size(files[0], files[0].name) if views is None else views.size
    for file in files:
        width, height = image_size(file, file.name)
        if abs(width / height / (size[0] / size[1]) - 1) > 0.05:
            raise InputError(
                "CLI-006",
                f"{file.name} is {width}×{height}, its view {size[0]}×{size[1]}: their shapes differ, so it cannot be "
                "its mask; resize without cropping.",
            )
    return torch.from_numpy(np.stack([read_mask(file, file.name, size) for file in files])).float() / 255


def _path(arguments: Arguments, path: str, before: Mapping[str, Any]) -> Any:
    return Path(path)


READERS: dict[Kind, Reader] = {
    Kind.SCENE: Reader("", "FILE", _scene),
    Kind.CAPTURE: Reader("data", "DIR", _capture),
    Kind.VIEWS: Reader("", "DIR", _views),
    Kind.GUIDANCE: Reader(
        "model",
        "DIR|FILE",
        _guidance,
        "diffusers folder or .safetensors file (default: the bundled InstructPix2Pix model)",
    ),
    Kind.LATENTS: Reader("", "FILE", _latents),
    Kind.SELECTION: Reader("", "FILE", _selection),
    Kind.MASKS: Reader("", "DIR", _masks),
    Kind.PATH: Reader("", "PATH", _path),
    Kind.TARGET: Reader("out", "PATH", _path, "file to write, or folder for a sequence"),
}


def add_input(parser: argparse.ArgumentParser, declared: Input) -> None:
    """The flags of one input; nothing for kinds that only the canvas has."""
    reader = READERS.get(declared.kind)
    if reader is None:
        return
    help = reader.help or declared.help
    if declared.kind is Kind.GUIDANCE:
        parser.add_argument("--model", metavar=reader.metavar, default="", help=help)
        parser.add_argument(
            "--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"), help="precision of the model"
        )
        return
    required = not declared.optional and declared.kind is not Kind.PATH
    flags = [flag_of(declared), *(["-o"] if declared.kind is Kind.TARGET else [])]
    parser.add_argument(*flags, required=required, metavar=reader.metavar, help=help)
    if declared.kind is Kind.CAPTURE:
        from ..capture.options import LoadOptions

        add_config(parser, LoadOptions, skip=("background",))


def flag_of(declared: Input) -> str:
    """ "--data" for an input of kind capture …"""
    return "--" + (declared.flag or READERS[declared.kind].flag or declared.name).replace("_", "-")


def read_input(arguments: Arguments, declared: Input, before: Mapping[str, Any]) -> Any:
    """The value of one input; None where its flag was not given."""
    reader = READERS.get(declared.kind)
    if reader is None:
        return None
    path = getattr(arguments, flag_of(declared)[2:].replace("-", "_"))
    return None if path is None else reader.read(arguments, path, before)


# -- results ----------------------------------------------------------------------------------------------------------


def _save_scene(scene: Any, out: Path) -> object:
    from ..io.scene_file import save_scene

    return save_scene(scene.to("cpu"), out)


def _save_latents(field: Any, out: Path) -> object:
    from ..latent.files import save_field

    return save_field(field.to("cpu"), out)


def _save_views(views: Any, out: Path) -> object:
    from ..io.view_folder import save_views

    return save_views(views, out)


def _save_selection(selection: Any, out: Path) -> object:
    from ..io.selection_file import save_selection

    return save_selection(selection, out)


def _save_samples(samples: Any, out: Path) -> object:
    from ..steps.sample_scene import write

    return write(samples, out)


def _latents_report(field: Any) -> dict[str, Any]:
    (width, height), factor = field.size, field.vae.factor
    latents = [field.vae.channels, height // factor, width // factor]
    return {"gaussians": len(field.scene.canonical), "latents": latents}


def _selection_report(selection: Any) -> dict[str, Any]:
    return {"selected": int((selection.weights > 0).sum()), "gaussians": len(selection.weights)}


WRITERS: dict[Kind, Writer] = {
    Kind.SCENE: Writer(
        "scene to write (.safetensors)", _save_scene, lambda s: {"gaussians": len(s.canonical)}
    ),
    Kind.LATENTS: Writer("latent field to write (.safetensors)", _save_latents, _latents_report),
    Kind.VIEWS: Writer("folder of views to write", _save_views, lambda v: {"views": len(v)}),
    Kind.SPLAT: Writer(
        "tensors to write (.safetensors)", _save_samples, lambda s: {"times": s["times"].tolist()}
    ),
    Kind.SELECTION: Writer("selection to write (.safetensors)", _save_selection, _selection_report),
}
