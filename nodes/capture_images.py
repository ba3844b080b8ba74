"""The node that makes a capture of images or videos of other nodes, with their cameras."""

from __future__ import annotations

from typing import Any

import torch

from ..engine.capture.from_images import ORDERS, capture_of_images, frame_rate
from ..engine.errors import InputError
from ..engine.scene import Cameras
from . import host, pictures
from .compat import combo, io, make, schema
from .load3d import from_load3d
from .types import CameraPathSocket, ImagesOrVideoSocket, Load3DCameraSocket, MultiViewVideoSocket


class CaptureFromVideos(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_CaptureFromVideos",
            display_name="Capture from Videos",
            category="4dgs/load",
            description="Makes a capture of generated or rendered videos and their cameras, for Train 4D Scene.",
            is_input_list=True,
            inputs=[
                ImagesOrVideoSocket.Input(
                    "videos",
                    tooltip="A list of videos or image batches, one per view; or a single batch of the images of all views.",
                ),
                combo(
                    "order",
                    list(ORDERS),
                    ORDERS[0],
                    tooltip="Order of a single batch: all frames of a view, or all views of a frame, after one another; or one "
                    "camera that moves, with one image per camera.",
                ),
                make(
                    io.Float.Input,
                    "fps",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=1.0,
                    round=0.001,
                    display_name="frames per second (0 = auto)",
                    tooltip="Frame rate. Higher plays faster. 0 takes the videos' own, and 24 for images.",
                ),
                CameraPathSocket.Input(
                    "path",
                    optional=True,
                    display_name="camera path",
                    tooltip="The cameras in the order of the views, as a path with one camera per view.",
                ),
                Load3DCameraSocket.Input(
                    "cameras",
                    optional=True,
                    display_name="3D cameras",
                    tooltip="The cameras in the order of the views, as a list of ComfyUI's cameras.",
                ),
                make(
                    io.Mask.Input,
                    "masks",
                    optional=True,
                    tooltip="Masks of the subject, one per image in the order of the images.",
                ),
            ],
            outputs=[
                MultiViewVideoSocket.Output(
                    "video",
                    display_name="video",
                    tooltip="The videos and their cameras as a capture, for Train 4D Scene.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        videos: list[Any],
        order: list[str],
        fps: list[float],
        path: list[Any] | None = None,
        cameras: list[Any] | None = None,
        masks: list[Any] | None = None,
    ) -> Any:
        with host.node_context():
            batches, rate = _images(videos, float(fps[0]))
            if bool(path) == bool(cameras):
                raise InputError(
                    "NOD-071",
                    f"Capture from Videos has {'two kinds of' if path else 'no'} cameras; connect either a camera path or 3D "
                    "cameras, with one camera per view.",
                )
            count, cameras_at = _rig(path[0].cameras) if path else _framed(cameras or [])
            planes = [host.detach(mask) for mask in masks or [] if mask is not None]
            video = capture_of_images(batches, count, cameras_at, rate, order[0], planes)
            shown = pictures.capture(video)
        return host.output(video, notes="\n".join([video.summary(), *video.notes]), ui=shown)


def _images(videos: list[Any], fps: float) -> tuple[list[torch.Tensor], float]:
    """The images of each connected video or batch, and the frames per second."""
    batches: list[torch.Tensor] = []
    rates: list[float] = []
    for each in videos:
        if hasattr(each, "get_components"):
            parts = each.get_components()
            batches.append(host.detach(parts.images))
            rates.append(float(parts.frame_rate))
        else:
            batches.append(host.detach(each))
    return batches, frame_rate(fps, rates)


def _rig(rig: Cameras) -> tuple[int, Any]:
    """Number of cameras, and the cameras for images of a size."""

    def at(width: int, height: int) -> Cameras:
        known, shape = rig.sizes[0], (width, height)
        if abs(known[0] * height - known[1] * width) > max(known[0], known[1], width, height):
            raise InputError(
                "NOD-072",
                f"The images have {shape[0]}×{shape[1]} pixels, but the cameras {known[0]}×{known[1]}, another shape; set width "
                "and height of the camera path to those of the images.",
            )
        return rig.resized((shape,) * len(rig))

    return len(rig), at


def _framed(cameras: list[Any]) -> tuple[int, Any]:
    """As `_rig`, of ComfyUI's cameras."""
    flat = [one for each in cameras for one in (each if isinstance(each, list | tuple) else [each])]
    views = [view.as_stored() for view in from_load3d(flat)]

    def at(width: int, height: int) -> Cameras:
        return Cameras(
            torch.stack([view.world_to_camera for view in views]).double(),
            torch.stack([view.intrinsics(width, height) for view in views]),
            ((width, height),) * len(views),
            tuple(f"view{i:02}" for i in range(len(views))),
        )

    return len(views), at
