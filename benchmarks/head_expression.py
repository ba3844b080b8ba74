"""The expression that an image of an avatar shows, found by fitting the head model to it.

The unedited avatar is posed so that its edges around eyes and mouth lie where the image's do. Compared are the direction and
a saturated strength of edges (the structure tensor of Di Zenzo 1986, over all channels), with a robust error (Geman and
McClure 1987), from coarse to fine. An edit that recolors the head or a part of it then hardly counts, while one that paints
over eyelids or lips does. The head's own turn, position and gaze are given; expression and jaw start from neutral.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.deform.head_scenes import bound_mesh_of, motion_of
from engine.heads import HeadModel, HeadMotion
from engine.masks.edges import dilated
from engine.masks.head_regions import draw_part
from engine.render import Rasterizer, render_gaussians
from engine.scene import Cameras, Scene4D

# image pyramid, coarse to fine: how often the image is shrunk, and steps
PYRAMID = ((4, 30), (2, 30), (1, 30))
EXPRESSION_RATE, JAW_RATE = 0.05, 0.01
# pulls expressions that the image does not show to neutral
RIDGE = 2e-3
# squared gradient at which an edge counts half
WEAK = 1e-4
# squared difference of edges at which the robust error levels off, and its weight against the ridge
OUTLIER, WEIGHT = 0.1, 0.3
GROWN = 9  # pixels around eyes and mouth
# vertices whose distance is measured
LIDS_AND_LIPS = ("left_eye_region", "right_eye_region", "lips")
EYEBALLS = ("left_eyeball", "right_eyeball")


class ExpressionFit:
    """Finds expressions with one avatar; see the module.

    Args:
        scene: The unedited avatar.
        model: Its head model.
    """

    def __init__(self, scene: Scene4D, model: HeadModel, rasterizer: Rasterizer) -> None:
        self.scene, self.model, self.rasterizer = scene, model, rasterizer
        self.mesh, self.motion = bound_mesh_of(scene, model), motion_of(scene, model)
        self.measured = self._vertices_to_measure()

    def _vertices_to_measure(self) -> Tensor:
        regions = self.model.regions
        inside = torch.zeros(len(self.model.template), dtype=torch.bool)
        for name in LIDS_AND_LIPS:
            inside[regions[name]] = True
        for name in EYEBALLS:
            inside[regions[name]] = False
        return inside

    def at(self, frame: int) -> HeadMotion:
        """The parameters of one frame."""
        return self.motion.frames(slice(frame, frame + 1))

    def distance(self, one: HeadMotion, other: HeadMotion) -> float:
        """Mean distance between eyelids and lips of two expressions, in distances between the eyes."""
        a, b = self.model.pose(one)[0], self.model.pose(other)[0]
        eyes = [b[self.model.regions[name]].mean(0) for name in EYEBALLS]
        apart = (a - b)[self.measured].norm(dim=-1).mean() / (eyes[0] - eyes[1]).norm()
        return float(apart)

    def error(self, images: Tensor, cameras: Cameras, frame: int) -> float:
        """How far the expression that images of one frame show is from the true one, in distances between the eyes.

        Args:
            images: [V, H, W, 3] in 0..1, of V cameras.
        """
        return self.distance(self.found(images, cameras, frame), self.at(frame))

    def found(self, images: Tensor, cameras: Cameras, frame: int) -> HeadMotion:
        """The parameters whose image agrees best with `images`."""
        true = self.at(frame)
        seconds = [float(self.scene.times[frame])] * len(images)
        parts = [draw_part(self.scene, self.model, p, cameras, seconds) for p in ("eye area", "mouth")]
        area = dilated(torch.stack(parts).amax(0), GROWN)
        values = {n: torch.zeros_like(getattr(true, n), requires_grad=True) for n in ("expr", "jaw_pose")}
        optimizer = torch.optim.Adam(
            [{"params": [values["expr"]]}, {"params": [values["jaw_pose"]]}], betas=(0.9, 0.99)
        )
        for factor, steps in PYRAMID:
            wanted, inside = edges(images, factor), F.avg_pool2d(area[:, None], factor)[:, 0]
            for step in range(steps):
                for group, rate in zip(optimizer.param_groups, (EXPRESSION_RATE, JAW_RATE), strict=True):
                    group["lr"] = rate * (1 - 0.8 * step / steps)
                drawn = edges(self._drawn(replace(true, **values), cameras), factor)
                apart = (drawn - wanted).square().sum(-1)
                robust = (apart / (apart + OUTLIER) * inside).sum() / inside.sum()
                optimizer.zero_grad()
                (WEIGHT * robust + RIDGE * values["expr"].square().sum()).backward()
                optimizer.step()
        return replace(true, **{name: value.detach() for name, value in values.items()})

    def _drawn(self, motion: HeadMotion, cameras: Cameras) -> Tensor:
        posed = self.mesh.carry(self.scene.canonical, self.model.pose(motion)[0])
        return render_gaussians(posed, cameras, self.rasterizer, self.scene.background).rgb


def edges(images: Tensor, factor: int) -> Tensor:
    """Direction and saturated strength [V, H', W', 3] of the edges in images [V, H, W, 3], shrunk by `factor`."""
    planes = F.avg_pool2d(images.permute(0, 3, 1, 2), factor)
    x = F.pad((planes[..., 2:] - planes[..., :-2]) / 2, (1, 1, 0, 0))
    y = F.pad((planes[..., 2:, :] - planes[..., :-2, :]) / 2, (0, 0, 1, 1))
    tensor = torch.stack([x.square().sum(1), y.square().sum(1), (x * y).sum(1)], dim=1)
    xx, yy, xy = F.avg_pool2d(tensor, 3, 1, 1).unbind(1)
    return torch.stack([xx - yy, 2 * xy, xx + yy], dim=-1) / (xx + yy + WEAK)[..., None]
