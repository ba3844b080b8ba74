"""What a folder of variation-field networks says about itself: architectures, camera of the video, recommended sampling.

The published folder has no such file, and the defaults are its values; smaller models describe themselves in `gs4d.json`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import InputError
from ...files.jsonfile import read_json
from ...geometry.placement import BoxSides
from ...scene import Cameras
from ...scene.cameras import look_at
from .conditions import CANONICAL_TOKENS
from .image_encoder import ImageEncoderShape
from .variation_dit import VariationDitShape
from .variation_vae import VariationVaeShape

FILE = "gs4d.json"
KIND = "gs4d-variation-field"
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class ConditioningCamera:
    """The camera that the video is assumed to be taken with: in front of the splat, at the height of its center.

    Args:
        radius: Distance from the origin in world units.
        fov_degrees: Field of view of both axes.
        image_size: Width and height in pixels.
    """

    radius: float = 2.0
    fov_degrees: float = 49.1
    image_size: int = 518

    def cameras(self) -> Cameras:
        """The camera as a rig of one view: at (0, −radius, 0), looking at the origin, z up."""
        position = torch.tensor([0.0, -self.radius, 0.0], dtype=torch.float64)
        pose = look_at(position, torch.zeros(3).double(), torch.tensor([0.0, 0.0, 1.0]).double())
        size = self.image_size
        focal = size / 2 / math.tan(math.radians(self.fov_degrees) / 2)
        K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
        return Cameras(pose[None], K[None], ((size, size),), ("input",))


@dataclass(frozen=True)
class Sampling:
    """How the model samples best.

    Args:
        sampler: "multistep", "singlestep" or "adaptive" (engine/diffusion/dpm_solver.py).
        steps: Steps of the first two.
        image_scale: Guidance scale of the images.
        canonical_scale: Guidance scale of the splat.
        frames: Frames T that are generated at once.
        shared_noise: Whether all frames start from the same noise where there is one step; not in the paper. The motion
            trembles less with it. With more steps, it would no longer be the noise of the training.
    """

    sampler: str = "adaptive"
    steps: int = 100
    image_scale: float = 1.0
    canonical_scale: float = 1.0
    frames: int = 24
    shared_noise: bool = False


@dataclass(frozen=True)
class VariationConfig:
    """A folder's `gs4d.json`; the defaults are the published model's.

    Args:
        transformer: Architecture of the transformer.
        vae: Architecture of the variation-field VAE.
        image_encoder: Architecture of an image encoder in the folder; None: DINOv2's tokens are made elsewhere.
        camera: The camera that the video is assumed to be taken with.
        canonical_tokens: Canonical Gaussians that the transformer sees.
        standardized_anchors: How anchors go to the transformer; see `Statistics.anchors`.
        recommended: How the model samples best.
        canonical_sides: Sizes of the splats that the model was trained on.
    """

    transformer: VariationDitShape = field(default_factory=VariationDitShape)
    vae: VariationVaeShape = field(default_factory=VariationVaeShape)
    image_encoder: ImageEncoderShape | None = None
    camera: ConditioningCamera = ConditioningCamera()
    canonical_tokens: int = CANONICAL_TOKENS
    standardized_anchors: bool = False
    recommended: Sampling = field(default_factory=Sampling)
    canonical_sides: BoxSides = field(default_factory=BoxSides)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, the inverse of `from_json`."""
        return {"kind": KIND, **asdict(self)}

    @staticmethod
    def from_json(data: Mapping[str, Any], source: str) -> VariationConfig:
        """Read `gs4d.json`; what it leaves out is as published.

        Args:
            data: The file's content.
            source: The file's name in messages.

        Raises:
            InputError: The file is of another kind, or has unknown or unusable values.
        """
        parts: dict[str, Any] = {
            "transformer": VariationDitShape,
            "vae": VariationVaeShape,
            "image_encoder": ImageEncoderShape,
            "camera": ConditioningCamera,
            "recommended": Sampling,
            "canonical_sides": BoxSides,
        }
        try:
            if data.get("kind") != KIND:
                raise ValueError(f"kind is {data.get('kind')!r}, not {KIND!r}")
            values = {name: value for name, value in data.items() if name != "kind"}
            for name, part in parts.items():
                if values.get(name) is not None:
                    values[name] = _part(part, values[name])
            return _part(VariationConfig, values)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                "MOD-030",
                f"{source} does not describe a variation-field model ({error}); restore the file that came with it.",
            ) from error

    @staticmethod
    def of_folder(path: Path) -> VariationConfig | None:
        """The description in `path`, or None where there is none."""
        file, name = path / FILE, f"{path.name}/{FILE}"
        return VariationConfig.from_json(read_json(file, name), name) if file.is_file() else None


def _part(kind: type[_Part], values: Mapping[str, Any]) -> _Part:
    """Build a dataclass, with each value of the type that its default has."""
    defaults = kind()
    known = {f.name for f in fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{unknown[0]} is unknown")
    for name, value in values.items():
        default = getattr(defaults, name)
        allowed = (int, float) if isinstance(default, float) else type(default)
        is_flag = isinstance(value, bool) != isinstance(default, bool)
        if isinstance(default, (bool, int, float, str)) and (not isinstance(value, allowed) or is_flag):
            raise ValueError(f"{name} is {value!r}")
    return kind(**values)
