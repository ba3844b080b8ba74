"""Canonical Gaussians of an object from one image, with TRELLIS (Xiang et al., CVPR 2025).

With GVFDiffusion's canonical decoder (Zhang et al., ICCV 2025) they have 8 Gaussians per voxel, for which its variation
field was trained. What differs from the released code: the mask is an input, one network is on the device at a time, and
floaters are left out.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..deform.moments import scene_of_moments
from ..errors import InputError
from ..fields import as_record, number, validate
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..generation.trellis import PIXELS, Sampling, TrellisModels, generate
from ..geometry.placement import canonical
from ..masks.foreground import alphas_of, foreground_square, square_crops
from ..messages import Finished, Preview, Started, Stream, progress_of
from ..render import choose, render_gaussians
from ..scene import Gaussians, Scene4D
from ..scene.rigs import orbit_cameras
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

SIDES = {"front": 0.0, "right": 90.0, "back": 180.0, "left": 270.0}
PREVIEW_PIXELS = 256


class Made(NamedTuple):
    """The object as a scene of one frame, z up in a box of side 1."""

    scene: Scene4D
    note: str


@dataclass(frozen=True)
class Config:
    seed: int = number(0, 0, 2**31 - 1, "Random seed.")
    structure_steps: int = number(
        12,
        1,
        200,
        "Sampling steps of the structure flow, which decides where there is something. More steps take longer and follow "
        "the image a little better; typical 12 to 25.",
    )
    structure_guidance: float = number(
        7.5,
        0.0,
        30.0,
        "Guidance of the structure flow. Higher follows the image more closely; 0 turns guidance off; typical 5 to 7.5.",
        0.5,
    )
    latent_steps: int = number(
        12,
        1,
        200,
        "Sampling steps of the latent flow, which decides appearance. More steps take longer; typical 12 to 25.",
    )
    latent_guidance: float = number(
        3.0,
        0.0,
        30.0,
        "Guidance of the latent flow. Higher follows the image more closely and can oversaturate; 0 turns guidance off; "
        "typical 3 to 5.",
        0.5,
    )
    max_voxels: int = number(
        32_768,
        256,
        262_144,
        "Occupied cells that are kept, the most certain first; each becomes 8 or 32 Gaussians. Lower needs less memory and "
        "can leave holes; typical objects have 5,000 to 25,000.",
        1024,
    )
    frame: int = number(0, 0, 100_000, "Which image of the batch to use.")

    def __post_init__(self) -> None:
        validate(self)

    @property
    def sampling(self) -> Sampling:
        return Sampling(
            self.structure_steps,
            self.structure_guidance,
            self.latent_steps,
            self.latent_guidance,
            self.max_voxels,
            self.seed,
        )


def run(
    models: TrellisModels, images: Tensor, masks: Tensor | None = None, config: Config = Config()
) -> Stream:
    """Generate canonical Gaussians of the object in an image.

    Args:
        models: TRELLIS and its image encoder.
        images: [F, H, W, 3], or with alpha [F, H, W, 4], in 0..1; one of them is used.
        masks: 1 on the object, [F, H, W] or [1, H, W]; None: the alpha of the image.
        config: Steps, guidance, the largest number of cells, and the seed.

    Yields:
        Started, Progress per sampling step, Previews of the crop and of the object, and Finished with the scene and a note.

    Raises:
        InputError: No foreground, models that do not fit, or out of memory.

    Example:
        made = result(canonical_from_image.run(models, image[None], mask[None]))
    """
    if config.frame >= len(images):
        raise InputError(
            "STP-037", f"Image {config.frame} does not exist; there are {len(images)}, numbered from 0."
        )
    one = images[config.frame : config.frame + 1].detach().cpu().float()
    mask = masks if masks is None or len(masks) == 1 else masks[config.frame : config.frame + 1]
    alphas = alphas_of(one, None if mask is None else mask.detach().cpu())
    crop = square_crops(one, alphas, foreground_square(alphas[0]), PIXELS, background=(0.0, 0.0, 0.0))
    sampling = config.sampling
    yield Started(sampling.units, f"{models.name} on {models.device}")
    yield Preview(crop.images[0], 0)
    # closed at once where the run is canceled, which frees the network on the device
    with closing(generate(models, crop.images[0], sampling)) as work:
        made = yield from progress_of(work)
    # the networks place an object where it belongs
    placed = canonical(made.gaussians.to_gaussians(), resizes=False)
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    scene = scene_of_moments([placed.gaussians], 24.0, up, blends=False).with_history(
        "canonical_from_image",
        config=as_record(config),
        weights=models.fingerprint(),
        models=models.name,
        gaussians=len(placed.gaussians),
        voxels=made.voxels,
    )
    note = f"{len(scene.canonical):,} Gaussians in {made.voxels:,} voxels"
    if made.voxels < made.occupied:
        note += f"; {made.occupied:,} were occupied, raise 'max voxels' to keep all"
    lines = [note, placed.note]
    yield Preview(_sides(crop.images[0], scene.canonical), sampling.units)
    yield Finished(Made(scene, "\n".join(filter(None, lines))))


def _sides(image: Tensor, gaussians: Gaussians) -> Tensor:
    """The cropped image, and the object from four sides."""
    cameras = orbit_cameras(list(SIDES.values()), 0.0, PREVIEW_PIXELS, list(SIDES))
    drawn = render_gaussians(gaussians, cameras, choose("auto"), torch.ones(3)).rgb.detach().clamp(0, 1)
    stacks = [[image], *([one] for one in drawn)]
    return as_tensor(sheet(stacks, ["image", *SIDES], columns=len(stacks)))


STEP = Step(
    name="canonical_from_image",
    node="CanonicalFromImage",
    label="Canonical Gaussians from Image",
    category="4dgs/generate",
    description="Generates the Gaussians of an object from one image (TRELLIS), to animate it with a video or to use it as a "
    "scene.",
    search=("trellis", "image to 3d", "gvfdiffusion", "image to splat"),
    config=Config,
    run=run,
    inputs=(
        Input("models", Kind.TRELLIS, "TRELLIS and its image encoder, from Load TRELLIS Models."),
        Input(
            "images",
            Kind.FRAMES,
            "The image of the object; the frame number chooses one of a batch.",
            id="image",
        ),
        Input(
            "masks",
            Kind.MASKS,
            "1 on the object, such as that of Segment by Text. Without it, the image needs alpha.",
            id="mask",
            optional=True,
        ),
    ),
    outputs=(
        Output(
            "scene",
            Kind.SCENE,
            "The object as a scene of one frame: z up, in a box from -0.5 to 0.5.",
            of=lambda made: made.scene,
        ),
    ),
    verb="canonical",
    has_device=False,
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("max_voxels",),
)
