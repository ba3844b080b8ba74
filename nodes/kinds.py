"""The socket of each kind of value, and its conversion on the way in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..engine.geometry.upright import SampledFrom, Splats
from ..engine.scene import ActivatedGaussians, Gaussians, Scene4D
from ..engine.scene.view_set import one_batch
from ..engine.steps.step import Input, Kind, Output
from . import color_tables, folders, host, mesh_files, types
from .compat import blocked, combo, io, make, splat, splat_parts, video
from .load3d import from_load3d, path_to_load3d
from .model_files import model_document

SOCKETS: dict[Kind, Any] = {
    Kind.SCENE: types.SceneSocket,
    Kind.CAPTURE: types.MultiViewVideoSocket,
    Kind.VIEWS: types.ViewsSocket,
    Kind.GUIDANCE: types.GuidanceSocket,
    Kind.LATENTS: types.LatentFieldSocket,
    Kind.SELECTION: types.SelectionSocket,
    Kind.CAMERA_PATH: types.CameraPathSocket,
    Kind.FRAMED_VIEW: types.Load3DCameraSocket,
    Kind.WAN_CAMERA_EMBEDDING: types.WanCameraSocket,
    Kind.SETTINGS: types.TrainingSettingsSocket,
    Kind.IMAGES: io.Image,
    Kind.FRAMES: io.Image,
    Kind.MASKS: io.Mask,
    Kind.DEPTH_MAPS: io.Image,
    Kind.VIDEO: io.Video,
    Kind.PATH: io.String,
    Kind.SOURCE: io.String,
    Kind.TARGET: io.String,
    Kind.FILES: io.String,
    Kind.SPLAT: types.SplatSocket,
    Kind.MESH: io.Combo,
    Kind.COLOR_TABLE: io.Combo,
    Kind.MODEL_FILE: types.ModelFileSocket,
    Kind.TEXT: io.String,
    Kind.REPORT: io.String,
    Kind.NUMBER: io.Float,
    Kind.WHOLE_NUMBER: io.Int,
    Kind.FLAG: io.Boolean,
    Kind.HEAD: types.HeadSocket,
    Kind.SEGMENTATION: types.SegmentationSocket,
    Kind.TRELLIS: types.TrellisSocket,
    Kind.VARIATION: types.VariationSocket,
    Kind.IMAGE_TO_4D: types.ImageTo4DSocket,
    Kind.DEPTH: types.DepthSocket,
    Kind.CANONICAL: types.SceneOrSplatSocket,
}

# attribute of a SPLAT
SAMPLED_FROM = "gs4d_sampled_from"

# models that occupy their device only while a step runs: their values have `in_use`
MODELS = (Kind.GUIDANCE, Kind.SEGMENTATION, Kind.TRELLIS, Kind.VARIATION, Kind.IMAGE_TO_4D)


def path(text: str) -> Path | None:
    """The path in a text widget; None if it is empty."""
    return folders.readable(text) if text.strip() else None


# checks of a widget's text, before a graph runs and again when it runs
CHECKS: dict[Kind, Callable[[str], object]] = {
    Kind.PATH: path,
    Kind.SOURCE: folders.source,
    Kind.TARGET: folders.check_prefix,
    Kind.MESH: mesh_files.mesh_file,
    Kind.COLOR_TABLE: color_tables.table_file,
}
# files that are chosen from a list, of which the first is the default
LISTS: dict[Kind, Callable[[], list[str]]] = {
    Kind.MESH: mesh_files.meshes,
    Kind.COLOR_TABLE: color_tables.tables,
}


def socket(declared: Input) -> Any:
    """The input socket, or the text widget of a path or name."""
    keywords: dict[str, Any] = {"tooltip": declared.help, "optional": declared.optional or None}
    if declared.label:
        keywords["display_name"] = declared.label
    if declared.kind in LISTS:
        names = LISTS[declared.kind]()
        return combo(declared.socket, names, names[0] if names else None, **keywords)
    if declared.kind in CHECKS:
        keywords["default"] = declared.default
    return make(SOCKETS[declared.kind].Input, declared.socket, **keywords)


def output(declared: Output) -> Any:
    """The output socket."""
    keywords = {"tooltip": declared.help} if declared.help else {}
    label = declared.label or declared.id
    return make(SOCKETS[declared.kind].Output, declared.id, display_name=label, **keywords)


def entering(kind: Kind, value: Any, suffix: str = "") -> Any:
    """The engine's value for a socket's value; tensors of other nodes are copied. `suffix`: of a target."""
    if value is None:
        return None
    if kind is Kind.TARGET:
        return folders.output_target(value, suffix)
    if kind in CHECKS:
        return CHECKS[kind](value)
    if kind is Kind.CANONICAL:
        # in the axes of the scene that it was made from, as if that were connected
        return value if isinstance(value, Scene4D) else _splats(value).as_stored()
    if kind is Kind.SPLAT:
        return _splats(value)
    if kind is Kind.MODEL_FILE:
        return model_document(value)
    if kind is Kind.MASKS:
        return host.detach(value).float()
    if kind is Kind.DEPTH and isinstance(value, Mapping):
        # tensors alone: a geometry also names the mode of its model
        return {key: host.detach(v) for key, v in value.items() if isinstance(v, torch.Tensor)}
    if kind is Kind.FRAMED_VIEW:
        return from_load3d(value)
    return host.detach(value) if kind in (Kind.IMAGES, Kind.FRAMES, Kind.DEPTH) else value


def one_value(kind: Kind, parts: list[Any], name: str) -> Any:
    """A list of batches of images or masks, as ComfyUI gives it, as one batch; None where nothing is connected."""
    if parts == [None]:
        return None
    if kind is Kind.MASKS:
        return one_batch([part[None] if part.ndim == 2 else part for part in parts], name)
    # images with alpha may stand beside images without
    return one_batch(parts, name, channels=3)


def _splats(value: Any) -> Splats:
    moments = [
        Gaussians.from_activated(ActivatedGaussians(means, quats, scales, opacities, sh))
        for means, scales, quats, opacities, sh in splat_parts(value)
    ]
    known = getattr(value, SAMPLED_FROM, None)
    return Splats(moments, known if isinstance(known, SampledFrom) else None)


def leaving(declared: Output, result: Any) -> Any:
    """The socket's value from a step's result."""
    value = declared.of(result)
    if value is None:
        return blocked(declared.absent)
    if declared.kind is Kind.IMAGES and not len(value):
        # ComfyUI does not accept an empty batch
        return torch.zeros(1, 8, 8, 3)
    if declared.kind is Kind.VIDEO:
        return video(*value)
    if declared.kind is Kind.DEPTH_MAPS:
        return value[..., None].repeat(1, 1, 1, 3)
    if declared.kind is Kind.FRAMED_VIEW:
        return path_to_load3d(value)
    if declared.kind is Kind.FILES:
        return str(value[0])
    if declared.kind is Kind.SPLAT:
        opacities = value["opacities"][..., None].contiguous()
        made = splat(value["means"], value["scales"], value["quats"], opacities, value["sh"])
        # stays with the splat through nodes that hand it on as it is; those that make a new one drop it
        setattr(made, SAMPLED_FROM, SampledFrom(value["times"], value.get("turn")))
        return made
    return value.text() if declared.kind is Kind.REPORT else value


def note(declared: Output, result: Any) -> str:
    """The node's note for an output: the first written files, relative to ComfyUI's folder."""
    if declared.kind is not Kind.FILES:
        return ""
    names = [f"output/{folders.relative(path)}" for path in declared.of(result)]
    return "\n".join(names if len(names) <= 3 else [names[0], "…", names[-1]])
