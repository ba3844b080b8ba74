"""Camera path to the ray maps that condition a camera-controlled video model (Wan Fun Camera in ComfyUI's own nodes)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .. import backends
from ..errors import InputError
from ..fields import number, validate
from ..render.camera_paths import CameraPath
from ..scene.rays import common_size, wan_camera_embedding
from .step import Input, Kind, Output, Step

__all__ = ["STEP", "CameraEmbedding", "Config", "make"]

# image sizes of Wan are multiples of this
MULTIPLE = 16


@dataclass(frozen=True)
class Config:
    unit: float = number(
        0.0,
        0.0,
        1e6,
        "World distance that is one unit of the video model. Higher weakens the camera's movement, lower strengthens it. 0 "
        "uses the distance from the first camera to the subject.",
        label="unit length",
        words={0: "distance to the subject"},
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, eq=False)
class CameraEmbedding:
    """The ray maps [1, 24, n, H, W] of a path with 4(n − 1) + 1 frames; see `wan_camera_embedding`. `note` is for the user."""

    rays: Tensor
    width: int
    height: int
    frames: int
    note: str


def make(path: CameraPath, config: Config = Config()) -> CameraEmbedding:
    """The camera embedding of a path, as WanCameraEmbedding makes it for its own named paths.

    Args:
        path: The cameras; their times play no part.
        config: The unit of length.

    Returns:
        Plücker rays relative to the first camera, four frames to a latent frame.

    Raises:
        InputError: The number of frames or the image size is not one that Wan generates, or memory would not suffice.
    """
    width, height = common_size(path.cameras)
    if width % MULTIPLE or height % MULTIPLE:
        near = [max(round(n / MULTIPLE), 1) * MULTIPLE for n in (width, height)]
        raise InputError(
            "STP-067",
            f"The path's images have {width}×{height} pixels, and Wan takes multiples of {MULTIPLE}; set {near[0]}×{near[1]} "
            "in Camera Path.",
        )
    need = 24 * (len(path) + 3) * width * height
    shortage = backends.shortage(need)
    if shortage:
        raise InputError(
            "STP-068",
            f"The ray maps of {len(path)} frames of {width}×{height} pixels need {shortage}; lower frames, width or "
            "height, or close other programs.",
        )
    unit, about = _unit(path, config)
    rays = wan_camera_embedding(path.cameras, unit)
    note = f"{len(path)} frames, {width}×{height}, {rays.shape[2]} latent frames\nunit length: {unit:.4g} ({about})"
    return CameraEmbedding(rays, width, height, len(path), note)


def _unit(path: CameraPath, config: Config) -> tuple[float, str]:
    """The unit of length, and where it is from."""
    if config.unit:
        return config.unit, "as set"
    distance = 0.0 if path.focus is None else float((path.cameras.centers[0] - path.focus).norm())
    if distance:
        return distance, "distance from the first camera to the subject"
    missing = "the path has no subject" if path.focus is None else "the path starts at its subject"
    return 1.0, f"{missing}; set 'unit length' if the camera moves too much or too little"


STEP = Step(
    name="camera_embedding",
    node="CameraEmbedding",
    label="Camera Path to Wan Embedding",
    category="4dgs/render",
    description="Converts a camera path to the camera embedding (Plücker rays) of WanCameraImageToVideo, so that one path "
    "moves the camera of a generated video and of the scene made from it.",
    search=("plucker", "WanCameraEmbedding", "camera control", "camera motion", "WanCameraImageToVideo"),
    config=Config,
    run=make,
    inputs=(
        Input("path", Kind.CAMERA_PATH, "The path, with 4n + 1 frames and sizes that are multiples of 16."),
    ),
    outputs=(
        Output(
            "camera_embedding",
            Kind.WAN_CAMERA_EMBEDDING,
            "For the camera_conditions of WanCameraImageToVideo.",
            "camera embedding",
            of=lambda made: made.rays,
        ),
        Output("width", Kind.WHOLE_NUMBER, "Image width of the path.", of=lambda made: made.width),
        Output("height", Kind.WHOLE_NUMBER, "Image height of the path.", of=lambda made: made.height),
        Output("length", Kind.WHOLE_NUMBER, "Number of frames of the path.", of=lambda made: made.frames),
    ),
    has_device=False,
    note=lambda made: made.note,
)
