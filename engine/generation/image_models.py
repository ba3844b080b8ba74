"""The networks that make a moving scene of one image: a video model with a camera condition, and a reconstruction model.

Source: Diff4Splat (CVPR 2026), section 3. A model's folder holds `ldrm.safetensors`, and `video.safetensors` where its video
model is the small one of engine/models/camera_video; otherwise a CogVideoX folder makes the video, and the camera condition is
in `ldrm.safetensors`.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..diffusion import VideoBackbone
from ..diffusion.camera_video import CameraVideoBackbone, load_camera_video_backbone
from ..diffusion.cogvideox import CogVideoX
from ..diffusion.cogvideox_loading import described_latents, load_cogvideox
from ..errors import InputError
from ..files.weights import fingerprint
from ..models.camera_video.files import read_config as read_video_config
from ..models.reconstruction import LatentFormat, Ldrm, load_ldrm
from ..models.reconstruction.files import camera_names
from ..models.reconstruction.files import read_config as read_ldrm_config
from ..render.camera_paths import CameraPath

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models" / "tiny-diff4splat"
LDRM, VIDEO = "ldrm.safetensors", "video.safetensors"


def bundled_image_model() -> Path:
    """Folder of the bundled model.

    Raises:
        InputError: It is not part of this installation.
    """
    if not (BUNDLED / LDRM).is_file():
        raise InputError(
            "GEN-060",
            f"This installation has no bundled image-to-4D model; choose a folder with {LDRM} in models/gs4d.",
        )
    return BUNDLED


class ImageTo4DModels:
    """A video model and a reconstruction model that read the same latents. They are on their device one after the other.

    Args:
        folder: Folder with `ldrm.safetensors`.
        video: A CogVideoX folder, or the .safetensors of a small video model; None: the folder's own `video.safetensors`.
        device: Where they run.
        dtype: Precision of CogVideoX; see `load_cogvideox`.

    Raises:
        InputError: A file is missing, damaged or of another model, or the latents are of two formats.

    Example:
        models = ImageTo4DModels(bundled_image_model())
        made = result(generate_from_image.run(models, image, path))
    """

    def __init__(
        self,
        folder: Path | str,
        video: Path | str | None = None,
        device: torch.device | str = "cpu",
        dtype: str = "auto",
    ) -> None:
        self.folder, self.device = Path(folder), torch.device(device)
        weights = self.folder / LDRM
        own = self.folder / VIDEO
        if not weights.is_file():
            raise InputError(
                "GEN-061",
                f"{self.folder.name} has no {LDRM}; choose the folder of a reconstruction model.",
            )
        if video is None and not own.is_file():
            raise InputError(
                "GEN-062",
                f"{self.folder.name} has no video model of its own ({VIDEO}); choose the folder of the one that it was trained "
                "with.",
            )
        source = own if video is None else Path(video)
        is_small = source.is_file() and source.suffix.lower() == ".safetensors"
        # compared before anything large is read
        made = read_video_config(source).latent if is_small else described_latents(source)
        read = read_ldrm_config(weights).latent
        name = self.folder.name if video is None else source.stem if is_small else source.name
        _check_latents(made, read, name, self.folder.name)
        self.ldrm: Ldrm = load_ldrm(weights)
        self.video: VideoBackbone
        self._network: CameraVideoBackbone | CogVideoX
        if is_small:
            self._network = load_camera_video_backbone(source)
        else:
            if not camera_names(weights):
                raise InputError(
                    "GEN-064",
                    f"{self.folder.name}/{LDRM} has no camera weights for {name}, so the video would not follow the camera path; "
                    "choose a model that was trained with this video model.",
                )
            self._network = load_cogvideox(source, "cpu", dtype, weights, runs_on=self.device)
        self.video = self._network
        self.name = self.folder.name if video is None else f"{name} + {self.folder.name}"
        self._files = [weights]

    @property
    def megabytes(self) -> int:
        """Size of the larger network, in MiB: only one is on the device."""
        own = sum(p.numel() * p.element_size() for p in self.ldrm.parameters()) >> 20
        return max(self._network.megabytes, own)

    @property
    def multiple(self) -> int:
        """Sides of videos are multiples of it."""
        return math.lcm(self.ldrm.config.cell, self.video.size_multiple)

    def unit(self, path: CameraPath) -> float:
        """World units that are one unit to the models, so that the path's subject is where they expect it."""
        distance = 1.0 if path.focus is None else float((path.cameras.centers[0] - path.focus).norm()) or 1.0
        return distance / self.ldrm.config.distance

    def text(self) -> str:
        """What the models make, in a line."""
        latent = self.ldrm.config.latent
        parameters = sum(p.numel() for p in self.ldrm.parameters()) / 1e6
        return (
            f"videos of {self.video.frames} frames, {self.video.defaults.resolution} pixels; reconstruction model of "
            f"{parameters:.3g} M parameters for latents of {latent.channels} channels"
        )

    def fingerprint(self) -> str:
        """Hash of all weights, for histories."""
        return f"{fingerprint(self._files)}-{self.video.fingerprint}"

    @contextmanager
    def video_in_use(self) -> Generator[VideoBackbone, None, None]:
        """Inside, the video model is on the device."""
        self._network.move(self.device)
        try:
            yield self.video
        finally:
            self._network.move("cpu")

    @contextmanager
    def ldrm_in_use(self) -> Generator[Ldrm, None, None]:
        """Inside, the reconstruction model is on the device."""
        self.ldrm.to(self.device)
        try:
            yield self.ldrm
        finally:
            self.ldrm.to("cpu")


def _check_latents(made: LatentFormat, read: LatentFormat, video: str, reconstruction: str) -> None:
    if made != read:
        sizes = [
            f"{x.channels} channels of {x.time_factor}×{x.space_factor}×{x.space_factor}"
            for x in (made, read)
        ]
        raise InputError(
            "GEN-063",
            f"{video} makes latents with {sizes[0]}, but the reconstruction model {reconstruction} reads {sizes[1]} (frames × "
            "height × width); choose models that belong together.",
        )
