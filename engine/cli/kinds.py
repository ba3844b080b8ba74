"""How each kind of value looks on the command line: its flags, how it is read, how a result is written and reported."""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..capture.depth_maps import UNIT
from ..capture.options import BACKGROUNDS, LoadOptions
from ..capture.prepared_folder import default_folder
from ..capture.readers import load_video
from ..capture.single_video import is_video, load_clip
from ..cluster.verbs import Role
from ..diffusion.loading import embedded, load
from ..files.atomic import check_writable, write_atomically
from ..files.mp4 import write_mp4
from ..files.npyfile import read_numbers
from ..generation.image_models import ImageTo4DModels, bundled_image_model
from ..generation.trellis import TrellisModels
from ..generation.variation import VariationModels, bundled_variation
from ..io.heads import load_head
from ..io.image_files import load_depth_images, load_images, save_images
from ..io.mask_folder import load_masks, save_masks
from ..io.scene_file import load_scene, save_scene
from ..io.selection_file import load_selection, save_selection
from ..io.splats import SUFFIXES as SPLAT_SUFFIXES
from ..io.splats import read_splat, splat_origin
from ..io.view_folder import load_views, save_views
from ..latent.files import load_field, save_field
from ..masks.grounded import Segmentation
from ..messages import result
from ..scene.cameras import AT_ZERO
from ..scene.origins import origin_for
from ..steps import camera_path, import_scene, sample_scene
from ..steps.step import Input, Kind
from .arguments import (
    Arguments,
    NameCheck,
    add_config,
    add_path,
    config_from,
    ends_in,
    frame_rate,
    model_device_of,
    names_video,
)

log = logging.getLogger("gs4d")


# models of which a small one is bundled
BUNDLED = (Kind.GUIDANCE, Kind.VARIATION, Kind.IMAGE_TO_4D)


# before the flags of a camera path that is made on request, and fields that need no flag: a scene says what they would
CAMERA = "camera_"
WITHOUT = ("field_of_view", "camera_orientation", "fits_video_model")


@dataclass(frozen=True)
class Reader:
    """How an input of one kind is asked for and read."""

    metavar: str
    read: Callable[
        [str, Arguments, Mapping[str, Any]], Any
    ]  # the flag's value, all flags, inputs read before
    flag: str = ""  # the input's name where empty
    help: str = ""  # the input's own where empty


@dataclass(frozen=True)
class Writer:
    """How a result of one kind is written, and what checks the name of its file."""

    help: str
    write: Callable[[Any, Path], object]
    report: Callable[[Any], dict[str, Any]]
    check: NameCheck | None = None


def _capture(folder: str, arguments: Arguments, before: Mapping[str, Any]) -> Any:
    # a step may have a background field of its own that means something else
    background = getattr(arguments, "background", "auto")
    known = background in ("auto", "keep", *BACKGROUNDS)
    options = config_from(arguments, LoadOptions, background=background if known else "auto")
    # only verbs with --data have the flags of captures
    video = load_video(folder, options, Path(getattr(arguments, "prepared", default_folder())))
    for sentence in (*video.notes, *video.warnings):
        log.info(sentence)
    return video


def _head(path: str, arguments: Arguments, before: Mapping[str, Any]) -> Any:
    head = load_head(arguments.head_model, path or None, arguments.head_fps)
    if head.note:
        log.info(head.note)
    return head


def _masks(folder: str, _: Arguments, before: Mapping[str, Any]) -> Any:
    # a step without views as an input checks the number itself
    return load_masks(folder, before.get("views"), any_number="views" not in before)


def _frames(path: str, *_: Any) -> Any:
    return _video_frames(path) if is_video(path) else load_images(path)


def _video_frames(path: str) -> torch.Tensor:
    clip = load_clip(path)
    for note in clip.notes:
        log.info(note)
    return clip.frames


def _depth(path: str, *rest: Any) -> Any:
    if Path(path).suffix.lower() == ".npy":
        return torch.from_numpy(read_numbers(Path(path), Path(path).name).astype("float32"))
    return _video_frames(path) if is_video(path) else load_depth_images(path, UNIT)


def _write_depth(depth: Any, out: Path) -> None:
    check_writable(out)
    # np.save into a file reports a full disk without its error number
    data = io.BytesIO()
    np.save(data, depth.numpy())
    with write_atomically(out) as partial:
        partial.write_bytes(data.getbuffer())


def _segmentation(folder: str, arguments: Arguments, _: Mapping[str, Any]) -> Any:
    return Segmentation(folder, arguments.detector, model_device_of(arguments))


def _trellis(folder: str, arguments: Arguments, _: Mapping[str, Any]) -> Any:
    decoder = Path(arguments.canonical_decoder) if arguments.canonical_decoder else None
    return TrellisModels(folder, arguments.image_encoder, decoder, model_device_of(arguments))


def _scene_or_splat(name: str, *_: Any) -> Any:
    path = Path(name)
    if path.suffix.lower() not in SPLAT_SUFFIXES:
        return load_scene(path)
    if splat_origin(path) == AT_ZERO and origin_for(read_splat(path, as_stored=True).means) == AT_ZERO:
        return [read_splat(path)]
    # a list of Gaussians has no origin
    scene = result(import_scene.run(path))
    log.info(import_scene.summary(scene))
    return scene


def _variation(folder: str, arguments: Arguments, _: Mapping[str, Any]) -> Any:
    return VariationModels(folder or bundled_variation(), arguments.image_encoder, model_device_of(arguments))


def _image_models(folder: str, arguments: Arguments, _: Mapping[str, Any]) -> Any:
    place, video = folder or bundled_image_model(), arguments.video_model or None
    return ImageTo4DModels(place, video, model_device_of(arguments), arguments.dtype)


READERS: dict[Kind, Reader] = {
    Kind.SCENE: Reader("FILE", lambda path, *_: load_scene(path)),
    Kind.CAPTURE: Reader("DIR", _capture, flag="data"),
    Kind.VIEWS: Reader("DIR", lambda path, *_: load_views(path)),
    Kind.GUIDANCE: Reader(
        "DIR|FILE",
        lambda path, arguments, _: load(path or embedded(), model_device_of(arguments), arguments.dtype),
        flag="model",
        help="diffusers folder or .safetensors file (default: the bundled InstructPix2Pix model)",
    ),
    Kind.LATENTS: Reader("FILE", lambda path, *_: load_field(path)),
    Kind.SELECTION: Reader("FILE", lambda path, *_: load_selection(path)),
    Kind.MASKS: Reader("DIR", _masks),
    Kind.HEAD: Reader(
        "DIR|FILE",
        _head,
        help="head parameters: a flame_param.npz, or a head capture's folder",
    ),
    Kind.SEGMENTATION: Reader("DIR", _segmentation, flag="segmenter", help="folder of a SAM 2 model"),
    Kind.TRELLIS: Reader("DIR", _trellis, flag="trellis", help="folder of TRELLIS-image-large"),
    Kind.CANONICAL: Reader(
        "FILE", _scene_or_splat, help="scene (.safetensors) or splat file (.ply, .spz, .sog, .glb …)"
    ),
    Kind.VARIATION: Reader(
        "DIR",
        _variation,
        flag="variation",
        help="folder of GVFDiffusion, or of a smaller model (default: the bundled one)",
    ),
    Kind.IMAGE_TO_4D: Reader(
        "DIR",
        _image_models,
        flag="generator",
        help="folder with ldrm.safetensors, and perhaps video.safetensors (default: the bundled one)",
    ),
    Kind.FRAMES: Reader("FILE|DIR", _frames),
    Kind.DEPTH: Reader(
        "FILE|DIR",
        _depth,
        help="depth of the frames: a folder of images, a video, or a .npy file of maps [frames, height, width]; images of one "
        "channel are read at full precision, a stored 1 as 0.001 (millimeters in meters)",
    ),
    Kind.MESH: Reader("FILE", lambda path, *_: Path(path), help="animated mesh (.glb, .gltf)"),
    Kind.COLOR_TABLE: Reader("FILE", lambda path, *_: Path(path), help="color look-up table (.cube)"),
    Kind.PATH: Reader("PATH", lambda path, *_: Path(path)),
    Kind.TARGET: Reader(
        "PATH",
        lambda path, *_: Path(path),
        flag="out",
        help="file to write; for a sequence, a folder or a .zip",
    ),
}


def add_input(parser: argparse.ArgumentParser, declared: Input) -> None:
    """The flags of one input; nothing for kinds that only the canvas has."""
    if is_made_of_flags(declared):
        add_config(parser, camera_path.Config)
    if is_made_on_request(declared):
        camera = (
            "for usdc, usda and usdz: also write an animated camera, which the flags --camera-… describe as those of `render` "
            "do. The file's frames and frame rate are then the camera's"
        )
        parser.add_argument("--with-camera", action="store_true", help=camera)
        add_config(parser, camera_path.Config, WITHOUT, CAMERA)
    reader = READERS.get(declared.kind)
    if reader is None:
        return
    has_default = declared.optional or declared.kind in (Kind.PATH, *BUNDLED) or _may_be_model_alone(declared)
    add_path(
        parser,
        flag_of(declared),
        *(["-o"] if declared.kind is Kind.TARGET else []),
        required=not has_default,
        metavar=reader.metavar,
        role=Role.OUTPUT if declared.kind is Kind.TARGET else Role.INPUT,
        help=reader.help or declared.help,
    )
    if declared.kind is Kind.IMAGE_TO_4D:
        video = "video model: a CogVideoX folder or .safetensors file, instead of the folder's own"
        add_path(parser, "--video-model", metavar="DIR|FILE", help=video)
    if declared.kind in (Kind.GUIDANCE, Kind.IMAGE_TO_4D):
        precisions = ("auto", "fp32", "fp16", "bf16")
        parser.add_argument("--dtype", default="auto", choices=precisions, help="precision of the model")
    if declared.kind is Kind.GUIDANCE:
        parser.add_argument(
            "--diffusion-device",
            default="auto",
            metavar="NAME",
            help="auto, cpu or cuda, of the diffusion model; auto is --device, or CUDA if that is auto too and there is a GPU",
        )
    if declared.kind is Kind.SEGMENTATION:
        detector = "folder of a Grounding DINO model, for --prompt"
        add_path(parser, "--detector", metavar="DIR", help=detector)
    if declared.kind is Kind.TRELLIS:
        encoder = "folder of DINOv2 with registers (dinov2-with-registers-large)"
        add_path(parser, "--image-encoder", required=True, metavar="DIR", help=encoder)
        decoder = "GVFDiffusion's canonical VAE, for 8 Gaussians per voxel instead of 32"
        add_path(parser, "--canonical-decoder", metavar="FILE", help=decoder)
    if declared.kind is Kind.VARIATION:
        encoder = "folder of DINOv2 with registers, for models without an image encoder of their own"
        add_path(parser, "--image-encoder", metavar="DIR", help=encoder)
    if declared.kind in (Kind.SEGMENTATION, Kind.TRELLIS, Kind.VARIATION, Kind.IMAGE_TO_4D):
        parser.add_argument(
            "--device", default="auto", metavar="NAME", help="auto, cpu or cuda, of the models"
        )
    if _may_be_model_alone(declared):
        model = "head model (.npz or FLAME's .pkl); default: bundled"
        add_path(parser, "--head-model", metavar="FILE", help=model)
        parser.add_argument(
            "--head-fps",
            type=frame_rate,
            default=0.0,
            help="frame rate of the head parameters; 0 = as stored, else 25",
        )
    # one set of options for all captures of a verb
    if declared.kind is Kind.CAPTURE and flag_of(declared) == "--data":
        add_config(parser, LoadOptions, skip=("background",))
        place = "folder for prepared frames of large captures (default: %(default)s)"
        add_path(
            parser, "--prepared", metavar="DIR", role=Role.CACHE, default=str(default_folder()), help=place
        )


def is_made_of_flags(declared: Input) -> bool:
    """Whether the flags of Camera Path make this input: a path that the verb cannot do without."""
    return declared.kind is Kind.CAMERA_PATH and not declared.optional


def is_made_on_request(declared: Input) -> bool:
    """Whether `--with-camera`, or a flag of Camera Path after `--camera-`, makes this input: a path that looks at the scene."""
    return declared.kind is Kind.CAMERA_PATH and declared.optional and declared.flag == "with-camera"


def _may_be_model_alone(declared: Input) -> bool:
    """Whether `--head-model` alone gives this input: the scene's own head, but not another one that drives it."""
    return declared.kind is Kind.HEAD and flag_of(declared) == "--head"


def flag_of(declared: Input) -> str:
    """ "--data" for an input of kind capture …"""
    return "--" + (declared.flag or READERS[declared.kind].flag or declared.name).replace("_", "-")


def read_input(arguments: Arguments, declared: Input, before: Mapping[str, Any]) -> Any:
    """The value of one input; None where its flag was not given."""
    if is_made_of_flags(declared):
        return camera_path.make(None, config_from(arguments, camera_path.Config))
    if is_made_on_request(declared):
        given = getattr(arguments, "given", ())
        if not arguments.with_camera and not any(name.startswith(CAMERA) for name in given):
            return None
        return camera_path.make(before["scene"], config_from(arguments, camera_path.Config, CAMERA))
    reader = READERS.get(declared.kind)
    if reader is None:
        return None
    value = getattr(arguments, flag_of(declared)[2:].replace("-", "_"))
    is_model_alone = _may_be_model_alone(declared) and (not declared.optional or bool(arguments.head_model))
    has_default = is_model_alone or declared.kind in BUNDLED
    return None if value is None and not has_default else reader.read(value or "", arguments, before)


def _latents_report(field: Any) -> dict[str, Any]:
    (width, height), factor = field.size, field.vae.factor
    latents = [field.vae.channels, height // factor, width // factor]
    return {"gaussians": len(field.scene.canonical), "latents": latents}


def _selection_report(selection: Any) -> dict[str, Any]:
    return {"selected": int((selection.weights > 0).sum()), "gaussians": len(selection.weights)}


SAFETENSORS = ends_in(".safetensors")
WRITERS: dict[Kind, Writer] = {
    Kind.SCENE: Writer(
        "scene to write (.safetensors)",
        lambda scene, out: save_scene(scene.to("cpu"), out),
        lambda scene: {"gaussians": len(scene.canonical)},
        SAFETENSORS,
    ),
    Kind.LATENTS: Writer(
        "latent field to write (.safetensors)",
        lambda field, out: save_field(field.to("cpu"), out),
        _latents_report,
        SAFETENSORS,
    ),
    Kind.VIEWS: Writer("folder of views to write", save_views, lambda views: {"views": len(views)}),
    Kind.MASKS: Writer(
        "folder of masks to write",
        save_masks,
        lambda masks: {"masks": len(masks), "share": float(masks.mean())},
    ),
    Kind.DEPTH_MAPS: Writer(
        "depth maps to write (.npy)",
        _write_depth,
        lambda depth: {"frames": len(depth), "median": float(depth[depth > 0].median())},
        ends_in(".npy"),
    ),
    Kind.FRAMES: Writer(
        "folder of images to write",
        save_images,
        lambda images: {"images": len(images), "size": images.shape[1]},
    ),
    Kind.VIDEO: Writer(
        "video to write (.mp4)",
        lambda clip, out: write_mp4(clip[0], clip[1], out),
        lambda clip: {"frames": len(clip[0])},
        names_video,
    ),
    Kind.SPLAT: Writer(
        "tensors to write (.safetensors)",
        sample_scene.write,
        lambda samples: {"times": samples["times"].tolist()},
        SAFETENSORS,
    ),
    Kind.SELECTION: Writer(
        "selection to write (.safetensors)", save_selection, _selection_report, SAFETENSORS
    ),
}
