"""GPU memory that a step needs besides its inputs' files, from sizes that are known before it starts.

A host frees this much first. The numbers follow from shapes and are upper bounds of what is usual, not measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..deform import PRESETS
from ..diffusion.backbone import Backbone
from ..diffusion.sizes import size_for
from ..diffusion.working_memory import ModelShapes
from ..guidance.image_latents import AT_ONCE
from ..scene import Cameras, Scene4D
from .own_colors import IMAGES, matches_colors
from .presets import resolved

FLOAT = 4
# what CUDA, its libraries and torch's allocator hold besides tensors
BASE = 300 << 20
# floats of a Gaussian besides its color: position, scale, rotation, opacity
GEOMETRY = 11
# copies of all Gaussians: the stored ones and those of a frame; trained: also gradients, two moments of Adam, averages, and
# the graph
COPIES, TRAINED_COPIES = 3, 10
# tiles that a Gaussian covers, with a sort key and an index each, twice for sorting
TILE_BYTES = 12 * (8 + 4) * 2
# floats per pixel and channel of an image: with its alpha; trained: also target, gradients, and the maps of SSIM
PIXEL, TRAINED_PIXEL = 2, 28
# tensors of a deformation with gradients, two moments, and averages
TRAINED_MOTION = 5


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that a step needs: on the device that renders, and on its diffusion model's (besides the weights)."""

    rendering: int = BASE
    model: int = 0

    @property
    def megabytes(self) -> int:
        """Of rendering, in MiB."""
        return -(-self.rendering >> 20)

    @property
    def model_megabytes(self) -> int:
        """Of the model, in MiB."""
        return -(-self.model >> 20)


def rendering_bytes(
    count: int,
    bases: int,
    size: tuple[int, int],
    images: int = 1,
    *,
    trained: bool = False,
    channels: int = 3,
    motion: int = 0,
) -> int:
    """Bytes of rendering Gaussians, or of a training step on them.

    Args:
        count: Gaussians.
        bases: SH coefficients per color channel.
        size: (width, height) of an image, in pixels.
        images: Images that are rendered at once, or that live until the gradient is computed.
        trained: Whether the Gaussians are optimized.
        channels: Channels of an image.
        motion: Floats of the deformation.
    """
    gaussians = count * (GEOMETRY + channels * bases) * (TRAINED_COPIES if trained else COPIES) * FLOAT
    width, height = size
    pixels = width * height * images * (channels + 1) * (TRAINED_PIXEL if trained else PIXEL) * FLOAT
    field = motion * FLOAT * (TRAINED_MOTION if trained else 1)
    return BASE + gaussians + count * TILE_BYTES + pixels + field


def of_scene(
    scene: Scene4D, size: tuple[int, int] | None = None, images: int = 1, *, trained: bool = False
) -> int:
    """`rendering_bytes` of a scene; `size` None: the largest of its rig."""
    motion = sum(tensor.numel() for tensor in scene.deformation.tensors().values())
    return rendering_bytes(
        len(scene.canonical),
        int(scene.canonical.sh.shape[1]),
        size or largest(scene.rig),
        images,
        trained=trained,
        motion=motion,
    )


def largest(cameras: Cameras) -> tuple[int, int]:
    """(width, height) of the largest image of a rig."""
    return max(cameras.sizes, key=lambda size: size[0] * size[1])


def model_size(backbone: Backbone, scene: Scene4D, resolution: int) -> tuple[int, int]:
    """(width, height) at which a model works on a scene's views."""
    return size_for(backbone, *scene.rig.sizes[0], resolution)


def number_of(indices: str, all_of_them: int, by_default: int) -> int:
    """How many numbers a text such as "0 3-5" names; at most `all_of_them`."""
    if not indices.split():
        return by_default
    if indices.strip() == "all":
        return all_of_them
    count = 0
    for word in indices.replace(",", " ").split():
        ends = [int(end) for end in word.split("-") if end.isdigit()]
        count += ends[-1] - ends[0] + 1 if len(ends) == 2 else 1
    return min(max(count, 1), all_of_them)


# -- what each kind of step needs -------------------------------------------------------------------------------------


def training(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """A scene trained on a capture, at the values of its preset for a GPU."""
    video = given["video"]
    config = resolved(config, "cuda", video, given.get("start"))[0]
    motion = _planes(config.motion, config.time_resolution or len(video.times) // 2)
    return MemoryUse(
        rendering_bytes(
            config.budget,
            (config.sh_degree + 1) ** 2,
            largest(video.cameras),
            config.views_per_step,
            trained=True,
            motion=motion,
        )
    )


def _planes(motion: str, time_steps: int) -> int:
    """Values of a HexPlane's planes; 0 for another motion."""
    preset = PRESETS.get(motion)
    if preset is None:
        return 0
    sides = [preset.resolution[0] * factor for factor in preset.multires]
    return 3 * preset.features * sum(side * side + side * time_steps for side in sides)


def distilling(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Score distillation: the encoder's gradient one image at a time, the UNet for all images, one decoded preview."""
    scene, backbone = given["scene"], given["backbone"]
    size, shapes = model_size(backbone, scene, config.resolution), ModelShapes.of(backbone)
    branches = 1 if config.low_vram else shapes.branches
    images = config.images_per_step
    model = max(
        shapes.encoding(*size, differentiated=True),
        shapes.predicting(*size, images * branches),
        shapes.decoding(*size),
    )
    return MemoryUse(of_scene(scene, size, images, trained=True), model)


def refining(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Score distillation, or own edits: as many images as there are views, and a fit to them; the larger where both may be."""
    uses = [distilling(config, given)] if config.objective != "own edits" else []
    if config.objective != "score":
        scene, backbone = given["scene"], given["backbone"]
        uses.append(_editing_and_fitting(scene, backbone, config.resolution, len(scene.rig)))
    return MemoryUse(max(use.rendering for use in uses), max(use.model for use in uses))


def _editing_and_fitting(scene: Scene4D, backbone: Backbone, resolution: int, images: int) -> MemoryUse:
    """Denoising of so many images at once, and a fit to them, two at a time."""
    size, shapes = model_size(backbone, scene, resolution), ModelShapes.of(backbone)
    model = max(
        shapes.predicting(*size, images * shapes.branches), shapes.decoding(*size, min(images, AT_ONCE))
    )
    return MemoryUse(of_scene(scene, size, 2, trained=True), model)


def editing_views(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Denoising of the chosen views, so many at once."""
    scene, backbone = given["scene"], given["backbone"]
    size = model_size(backbone, scene, config.resolution)
    views = number_of(config.views, len(scene.rig), len(scene.rig))
    # "auto" counts as one frame: it edits as many images as there are views
    every = views * number_of(config.moments, len(scene.times), 1)
    at_once = min(config.frames_at_once or every, every)
    return MemoryUse(of_scene(scene, size), _editing(backbone, size, every, at_once))


def _editing(backbone: Backbone, size: tuple[int, int], images: int, at_once: int) -> int:
    """Bytes of the model that edits images, so many at once."""
    shapes = ModelShapes.of(backbone)
    return max(
        shapes.encoding(*size),
        shapes.predicting(*size, at_once * shapes.branches),
        shapes.decoding(*size, min(images, AT_ONCE)),
    )


def editing_head(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Denoising of the views of a round, and a fit to them."""
    scene = given["scene"]
    images = number_of(config.views, len(scene.rig), len(scene.rig)) * config.frames_per_round
    return _editing_and_fitting(scene, given["backbone"], config.resolution, images)


def training_latents(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Latents rasterized with samples, encoded images, and one decoded preview."""
    scene, backbone = given["scene"], given["backbone"]
    size, shapes = model_size(backbone, scene, config.resolution), ModelShapes.of(backbone)
    rendering = _latents(
        scene, size, shapes.factor, config.samples, config.images_per_step, backbone.latent_channels
    )
    return MemoryUse(rendering, max(shapes.encoding(*size), shapes.decoding(*size)))


def editing_latents(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Two prompts for each latent image, and a preview of two decoded images."""
    field, backbone = given["field"], given["backbone"]
    size: tuple[int, int] = field.size
    shapes = ModelShapes.of(backbone)
    branches = 1 if config.low_vram else 2 * shapes.branches
    model = max(
        shapes.encoding(*size),
        shapes.predicting(*size, config.images_per_step * branches),
        2 * shapes.decoding(*size),
    )
    rendering = _latents(
        field.scene, size, shapes.factor, field.how.samples, config.images_per_step, field.vae.channels
    )
    return MemoryUse(rendering, model)


def decoding_latents(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """Latent images, decoded one at a time; where the step also fits a scene to them, its training and the
    editing of a few images."""
    field, shapes = given["field"], ModelShapes.of(given["backbone"])
    images = getattr(config, "views_per_step", 0)
    rendering = of_scene(field.scene, field.size, max(images, 1), trained=images > 0)
    model = shapes.decoding(*field.size)
    if matches_colors(getattr(config, "matching", "none"), given["backbone"]):
        size = model_size(given["backbone"], field.scene, 0)
        model = max(model, _editing(given["backbone"], size, IMAGES, IMAGES))
    return MemoryUse(rendering, model)


def _latents(
    scene: Scene4D, size: tuple[int, int], factor: int, samples: int, images: int, channels: int
) -> int:
    fine = size[0] // factor * samples, size[1] // factor * samples
    return rendering_bytes(len(scene.canonical), 4, fine, images, trained=True, channels=channels)


def fitting_views(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """A scene's Gaussians, trained on views."""
    scene, views = given["scene"], given.get("views")
    size = largest(scene.rig if views is None else views.cameras)
    return MemoryUse(of_scene(scene, size, config.views_per_step, trained=True))


def rendering(config: Any, given: Mapping[str, Any]) -> MemoryUse:
    """A scene's images, one after the other, at the size of a path, of views, of a capture or of its rig."""
    scene = given.get("scene")
    if not isinstance(scene, Scene4D):
        return MemoryUse(2 * BASE)
    places = (given.get("path"), given.get("views"))
    cameras = [place.cameras for place in places if place is not None]
    return MemoryUse(of_scene(scene, max(map(largest, [*cameras, scene.rig]), key=lambda s: s[0] * s[1])))
