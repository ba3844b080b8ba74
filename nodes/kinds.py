"""How each kind of value looks on the canvas: its socket, and what it becomes on the way in and out."""

from __future__ import annotations

from typing import Any

import torch

from ..engine.steps.step import Input, Kind, Output
from . import folders, host, types
from .compat import blocked, io, make, video
from .load3d import from_load3d

SOCKETS: dict[Kind, Any] = {
    Kind.SCENE: types.SceneSocket,
    Kind.CAPTURE: types.MultiViewVideoSocket,
    Kind.VIEWS: types.ViewsSocket,
    Kind.GUIDANCE: types.GuidanceSocket,
    Kind.LATENTS: types.LatentFieldSocket,
    Kind.SELECTION: types.SelectionSocket,
    Kind.CAMERA_PATH: types.CameraPathSocket,
    Kind.FRAMED_VIEW: types.Load3DCameraSocket,
    Kind.SETTINGS: types.TrainingSettingsSocket,
    Kind.IMAGES: io.Image,
    Kind.MASKS: io.Mask,
    Kind.VIDEO: io.Video,
    Kind.PATH: io.String,
    Kind.TEXT: io.String,
    Kind.REPORT: io.String,
    Kind.NUMBER: io.Float,
    Kind.FLAG: io.Boolean,
}


def socket(declared: Input) -> Any:
    """The input socket, or the text widget of a path."""
    keywords: dict[str, Any] = {"tooltip": declared.help, "optional": declared.optional or None}
    if declared.label:
        keywords["display_name"] = declared.label
    if declared.kind is Kind.PATH:
        keywords["default"] = ""
    return make(SOCKETS[declared.kind].Input, declared.socket, **keywords)


def output(declared: Output) -> Any:
    """The output socket."""
    keywords = {"tooltip": declared.help} if declared.help else {}
    label = declared.label or declared.id
    return make(SOCKETS[declared.kind].Output, declared.id, display_name=label, **keywords)


def entering(kind: Kind, value: Any) -> Any:
    """What the engine takes for the value of a socket; tensors of other nodes are copied."""
    if value is None:
        return None
    if kind is Kind.PATH:
        return folders.readable(value) if value.strip() else None
    if kind is Kind.MASKS:
        return host.detach(value).float()
    if kind is Kind.FRAMED_VIEW:
        return from_load3d(value)
    return host.detach(value) if kind is Kind.IMAGES else value


def leaving(declared: Output, result: Any) -> Any:
    """What the socket gives of a step's result."""
    value = declared.of(result)
    if value is None:
        return blocked(declared.absent)
    if declared.kind is Kind.IMAGES and not len(value):
        return torch.zeros(1, 8, 8, 3)  # the host takes no empty batch
    if declared.kind is Kind.VIDEO:
        return video(*value)
    return value.text() if declared.kind is Kind.REPORT else value
