"""Keep parts of the originals in an edit: their latents at the matching noise level are put back after each step.

Source: Blended Latent Diffusion (Avrahami et al., SIGGRAPH 2023) applied to InstructPix2Pix, as Edit3DGS keeps eyes and
mouth; resampling after RePaint (Lugmayr et al., CVPR 2022). The noise is the one that the edit started from, so that the
kept latents lie exactly on a path to the original. An early start of the window keeps the shape of its surroundings, too,
and blocks the edit; only the very last steps leave seams.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..scene.framing import MOST_SHIFT, edge_shift

WAYS = ("hard", "soft")
# latent cells below which hardly anything of a mask is kept
FEW_CELLS = 4


@dataclass(frozen=True)
class KeepRequest:
    """How what is masked is kept.

    Args:
        start: Begin of the window, as a fraction of the steps that are run.
        end: Its end; 1 includes the last step, after which what is masked equals the original's latents.
        way: One of WAYS: all of it within the window, or a share that rises from 0 to 1 over it.
        jump: Steps that resampling goes back within the window; 0: no resampling.
        repeats: How often each of these steps is run.
        feather: Pixels over which the original's own pixels are blended in at the end; 0: they are not.

    Raises:
        InputError: A window that is not within 0..1 or ends before it starts, or an unknown way.
    """

    start: float = 0.4
    end: float = 1.0
    way: str = "hard"
    jump: int = 0
    repeats: int = 1
    feather: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise InputError(
                "GUI-013",
                f"The keep window is {self.start:g} to {self.end:g}; start and end must be between 0 and 1, start first.",
            )
        if self.way not in WAYS:
            raise InputError("GUI-014", f"keep is '{self.way}'; choose one of {', '.join(WAYS)}.")

    def share(self, done: int, steps: int) -> float:
        """How much of what is masked is put back when `done` of `steps` steps are done, 0..1."""
        fraction = done / steps
        if not self.start - 1e-9 <= fraction <= self.end + 1e-9:
            return 0.0
        if self.way == "hard" or self.start == self.end:
            return 1.0
        return min(max((fraction - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True)
class Move:
    """One step of all images: from level `level` of the schedule to the next.

    Args:
        level: Index of the timestep.
        noised_from: Level from which noise is added first to get back to `level`; None: the step before led there.
    """

    level: int
    noised_from: int | None = None


def moves(steps: int, keep: KeepRequest | None = None) -> list[Move]:
    """The steps in order; with resampling, blocks of `jump` steps within the window are run `repeats` times."""
    jump, repeats = (keep.jump, keep.repeats) if keep is not None else (0, 1)
    found: list[Move] = []
    level, back, runs = 0, None, dict[int, int]()
    inside = [i for i in range(steps) if keep is not None and keep.share(i + 1, steps) > 0]
    while level < steps:
        found.append(Move(level, back))
        level, back = level + 1, None
        first = inside[0] if inside else 0
        ends_block = jump > 0 and level - 1 in inside and (level - first) % jump == 0
        if ends_block and runs.get(level, 1) < repeats:
            runs[level] = runs.get(level, 1) + 1
            level, back = level - jump, level
    return found


def fitted(
    masks: Tensor,
    count: int,
    height: int,
    width: int,
    source: tuple[int, int] | None = None,
    name: str = "keep",
) -> Tensor:
    """Masks at the size of the images: averaged over areas where they shrink, else bilinear.

    Args:
        masks: [N, h, w] in 0..1; a single one is for all images.
        count: Number of images.
        height: Of the images.
        width: Of the images.
        source: (width, height) before the images were resized for the model, which may stretch them: masks may have
            that shape, too.
        name: Name of the masks in errors.

    Returns:
        [count, height, width] on the CPU.

    Raises:
        InputError: Another number of masks than images, or masks of another shape.
    """
    masks = masks[None] if masks.ndim == 2 else masks
    masks = masks.expand(count, -1, -1) if len(masks) == 1 else masks
    if len(masks) != count:
        raise InputError(
            "GUI-015",
            f"{name} has {len(masks)} masks, but there are {count} images; connect one mask per image, in their "
            "order, or a single one for all.",
        )
    rows, columns = masks.shape[1:]
    shapes = [(width, height), source or (width, height)]
    # a mask may be coarse: half a pixel of the larger ones
    if not any(edge_shift((columns, rows), (w, h)) * min(columns / w, 1) <= MOST_SHIFT for w, h in shapes):
        raise InputError(
            "GUI-016",
            f"The {name} masks are {columns}×{rows}, but the images are {width}×{height}, which is another shape; resize "
            "the masks without cropping.",
        )
    if (rows, columns) == (height, width):
        return masks.float().cpu()
    way = "area" if rows >= height and columns >= width else "bilinear"
    return torch.nn.functional.interpolate(masks[:, None].float().cpu(), (height, width), mode=way)[:, 0]


class Keep:
    """What an edit keeps of its originals.

    Args:
        masks: [F, H, W] in 0..1, 1 where the originals are kept.
        factor: Pixels per latent cell.
        request: How they are kept.
        free: [F, H, W] where the edit may act; None: everywhere.

    Raises:
        InputError: Everything that may change is kept.
    """

    def __init__(self, masks: Tensor, factor: int, request: KeepRequest, free: Tensor | None = None) -> None:
        self.masks, self.request = masks.float().cpu(), request
        if free is not None and bool((free > 0).any()) and not bool(((free > 0) & (masks < 0.5)).any()):
            raise InputError(
                "GUI-017",
                "The keep mask covers all that the selection lets change, so there is nothing left to edit. Disconnect "
                "one of them, or choose another part.",
            )
        size = masks.shape[1] // factor, masks.shape[2] // factor
        covered = torch.nn.functional.adaptive_avg_pool2d(self.masks[:, None], size)
        self.core = (covered >= 0.5).float()
        # the rim, one latent wide, softens the seam
        rim = torch.nn.functional.avg_pool2d(self.core, 3, stride=1, padding=1, count_include_pad=False)
        # [F, 1, h, w]
        self.latents = torch.where(self.core > 0, self.core, rim)

    @property
    def left(self) -> Tensor:
        """[F, H, W] in 0..1: how much of each pixel's latents the last step left as the original's."""
        share = self.latents * self.request.share(1, 1)
        return torch.nn.functional.interpolate(share, self.masks.shape[1:], mode="bilinear")[:, 0]

    def composite(self, images: Tensor, originals: Tensor, frames: list[int]) -> Tensor:
        """Images [f, H, W, 3] with the originals' own pixels inside the mask; unchanged without a feather."""
        # growing and averaging each take half of the ramp
        half = (self.request.feather + 1) // 2
        if not half:
            return images
        masks = ramp = self.masks[frames][:, None]
        # along rows, then along columns: a square window costs its area
        for size, pad in (((1, 2 * half + 1), (0, half)), ((2 * half + 1, 1), (half, 0))):
            ramp = torch.nn.functional.max_pool2d(ramp, size, stride=1, padding=pad)
        for size, pad in (((1, 2 * half + 1), (0, half)), ((2 * half + 1, 1), (half, 0))):
            ramp = torch.nn.functional.avg_pool2d(ramp, size, 1, pad, count_include_pad=False)
        # exactly 1 inside, where an average may miss it by rounding
        share = torch.where(masks >= 0.5, 1.0, ramp).permute(0, 2, 3, 1)
        return share * originals + (1 - share) * images

    def notes(self) -> list[str]:
        """A warning where masks are too small for the model's latents."""
        cells = self.core.flatten(1).sum(dim=1)
        small = int(((cells < FEW_CELLS) & (self.masks.flatten(1).amax(dim=1) >= 0.5)).sum())
        if not small:
            return []
        return [
            f"The keep mask covers fewer than {FEW_CELLS} latent cells in {small} of {len(cells)} images, so little of it "
            "is kept. Set crop of Edit Views to 'keep mask', which edits this part at the model's resolution, raise "
            "resolution, or grow the mask."
        ]
