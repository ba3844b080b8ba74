"""Background and moving parts as one scene with motion stored per frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ...deform import PerFrame, Static
from ...geometry.boxes import gaussian_bounds
from ...scene import Gaussians, Scene4D
from ...scene.cameras import Cameras
from .moving_parts import MovingParts
from .unproject import Patches, as_gaussians

# logit opacity of what is not there at a frame, and the largest stored change
HIDDEN = -8.0


def lifted_scene(
    background: Patches, parts: MovingParts | None, cameras: Cameras, seconds: Tensor
) -> Scene4D:
    """The scene of a clip.

    Args:
        background: Patches that stay.
        parts: Patches that move; None: nothing does.
        cameras: T cameras of the frames: the scene's rig.
        seconds: Times [T], float64.
    """
    still = as_gaussians(background)
    bounds = gaussian_bounds(still.means)
    black = torch.zeros(3)
    if parts is None:
        return Scene4D(still, Static(), seconds, cameras, bounds, black)
    movers = as_gaussians(parts.patches)
    canonical = movers.with_(
        means=parts.places[0].float(),
        logit_opacities=torch.where(parts.present[0], movers.logit_opacities, HIDDEN),
    )
    joined = Gaussians.concatenate([still, canonical])
    frames, rest = len(seconds), len(still)
    shifts = torch.zeros(frames, len(joined), 3, dtype=torch.float16)
    shifts[:, rest:] = (parts.places - parts.places[:1]).half()
    changes = {"means": shifts}
    if not bool(parts.present.all()):
        opacity = torch.where(parts.present, movers.logit_opacities, HIDDEN)
        fades = torch.zeros(frames, len(joined), dtype=torch.float16)
        fades[:, rest:] = (opacity - opacity[:1]).half()
        changes["logit_opacities"] = fades
    return Scene4D(joined, PerFrame(seconds, changes), seconds, cameras, bounds, black)
