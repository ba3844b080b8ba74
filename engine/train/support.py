"""Gaussians that too few views show are recycled: they lie where nothing checks them, and an orbit shows them.

With few, wide views, the hull of the masks reaches far behind the subject, and what lies there is hidden in most views, colors
a few pixels of one, and floats in the air between the cameras. It also uses up Gaussians. Density control relocates (fixed
budget) or removes (adaptive) what this marks by an opacity below its own limit.

Related: pruning by the weight of Gaussians in the training images (RadSplat, Niemeyer et al. 2024, section 3.3), which counts
the largest weight of any view instead of the views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..geometry.carving import in_picture
from ..render import Rasterizer
from ..scene import Cameras, Gaussians
from .config import FitConfig
from .parameters import GaussianParameters, Lineage

# views that must share a frame for "auto" to ask for two; with fewer, much of a surface is seen by one alone. Without masks there
# is no hull, and what few views show may be the background (docs/benchmarks.md)
SHARED = 6
# length of the mean of the unit vectors from the subject to the cameras, above which they look from one side: an arc of 140° or
# less, but not a ring that looks down at 44° or less. Cameras around the subject bound the hull themselves
ONE_SIDE = 0.7
# steps between two visits, as of density control
EVERY = 100
FRAMES = 4
# share of a running mean that a frame leaves: what shows at times, such as teeth, stays
DECAY = 0.8
# pixels that a Gaussian must contribute to a view, as the running mean of the sum of its weights at `start_scale`
LEAST = 0.2
# frames after which a Gaussian is judged
PATIENCE = 8
# most views of a visit
MOST_VIEWS = 12
# opacity below that of density control's dead Gaussians
RETIRED = 0.0025
# a fraction whose multiples cover the frames evenly, however many are taken
GOLDEN = 0.6180339887498949


class Support:
    """How much of each Gaussian the views show; part of a training's checkpoint.

    Args:
        config: Its `min_views` is the number of views; 0 chooses by the capture.
        has_masks: Whether the capture has masks.
        centers: [V, 3] of the cameras, from the middle of the subject.
        samples: Views that are trained on, by frame.
        count: Gaussians at the start.
        device: Device of the training.

    Attributes:
        needed: Views that must show a Gaussian; 1 recycles none.
        note: What was chosen, in one line; "" where nothing is recycled.
    """

    def __init__(
        self,
        config: FitConfig,
        has_masks: bool,
        centers: Tensor,
        samples: Mapping[int, Sequence[int]],
        count: int,
        device: torch.device,
    ) -> None:
        sharing = max(samples.values(), key=len)
        is_unbounded = has_masks and len(sharing) >= SHARED and look_from_one_side(centers[list(sharing)])
        chosen = 2 if is_unbounded else 1
        self.needed = 1 if config.density == "none" else config.min_views or chosen
        self.note = ""
        if self.needed > 1:
            why = "" if config.min_views else f" (auto: {len(sharing)} views from one side)"
            self.note = f"Gaussians that fewer than {self.needed} views show are recycled{why}"
        rows = 1 + max(max(views) for views in samples.values()) if self.needed > 1 else 0
        # [V, N] pixels: running means of `contributions` over the frames of visits
        self.shown = torch.zeros(rows, count, device=device)
        # [N] frames of visits since a Gaussian was added or relocated
        self.age = torch.zeros(count, dtype=torch.long, device=device)
        # [N] views of the last frame of a visit that have a Gaussian in their image
        self.within = torch.zeros(count, dtype=torch.long, device=device)

    def is_due(self, iteration: int) -> bool:
        """Whether to visit after this many steps."""
        return self.needed > 1 and iteration % EVERY == 0

    @staticmethod
    def moments(iteration: int, moments: Sequence[int]) -> list[int]:
        """The frames of a visit, out of those that take part: successive visits cover all of them."""
        visit = iteration // EVERY
        return [moments[int(len(moments) * ((visit * FRAMES + i) * GOLDEN % 1))] for i in range(FRAMES)]

    def observe(
        self,
        gaussians: Gaussians,
        rig: Cameras,
        views: Sequence[int],
        rasterizer: Rasterizer,
        rows: slice = slice(None),
    ) -> None:
        """Take a frame into the means: its Gaussians, of which `rows` are supported, and the views that are trained on at it."""
        chosen = views[:: -(-len(views) // MOST_VIEWS)]
        means = gaussians.means[rows].detach()
        for view in chosen:
            self.shown[view].lerp_(contributions(gaussians, rig[[view]], rasterizer)[rows], 1 - DECAY)
        self.age = self.age + 1
        self.within = torch.stack([in_picture(rig, means, view)[2] for view in chosen]).sum(dim=0)

    @torch.no_grad()
    def retire(self, parameters: GaussianParameters) -> None:
        """Mark the Gaussians without support; those held and the last ones of a group stay.

        A Gaussian is supported if enough views show it. It also is if one view does and too few others have it in their images
        to contradict that, as along the edges of a scene.
        """
        count = (self.shown > LEAST).sum(dim=0)
        supported = (count >= self.needed) | ((count > 0) & (self.within <= self.needed))
        keep = supported | (self.age < PATIENCE) | parameters.held
        keep = parameters.without_empty_groups(keep)
        index = (~keep).nonzero().flatten()
        if 0 < len(index) < len(parameters):
            logits = torch.full((len(index),), RETIRED, device=index.device).logit()
            parameters.overwrite("logit_opacities", index, logits)

    def after_density(self, change: Lineage) -> None:
        """Gaussians were added, removed or relocated."""
        if self.needed < 2:
            # nothing is observed, and nothing of it stored
            return
        self.shown = torch.where(change.born, 0.0, self.shown[:, change.parents])
        self.age = torch.where(change.born, 0, self.age[change.parents])

    def rows(self) -> dict[str, int | None]:
        """The axis with one entry for each Gaussian, of what `state` holds."""
        return {"shown": 1, "age": 0}

    def state(self) -> dict[str, Tensor]:
        """The means and ages."""
        return {"shown": self.shown, "age": self.age}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.shown = state["shown"].to(self.shown.device).clone()
        self.age = state["age"].to(self.age.device)


def look_from_one_side(centers: Tensor) -> bool:
    """Whether cameras at `centers` [V, 3], seen from the subject, lie on one side of it."""
    return float(torch.nn.functional.normalize(centers, dim=-1).mean(dim=0).norm()) > ONE_SIDE


def contributions(gaussians: Gaussians, camera: Cameras, rasterizer: Rasterizer) -> Tensor:
    """The sum [N] of each Gaussian's blending weights over the pixels of one camera's image.

    Args:
        gaussians: N Gaussians of one frame.
        camera: One camera.
        rasterizer: From `choose`.

    Source:
        3DGS (Kerbl et al. 2023), eq. 3: the weight of a Gaussian is what a feature of 1 adds to a pixel.
    """
    drawn = gaussians.map(lambda t: t.detach()).activated()
    ones = torch.ones(len(gaussians), 1, device=drawn.means.device, requires_grad=True)
    w2c, K, _ = camera.on(drawn.means)
    width, height = camera.sizes[0]
    with torch.enable_grad():
        image, _, _ = rasterizer.render(
            drawn.means, drawn.quats, drawn.scales, drawn.opacities, ones, w2c, K, width, height
        )
        image.sum().backward()
    assert ones.grad is not None
    return ones.grad[:, 0]
