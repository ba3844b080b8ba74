"""How steady the render of a moving scene is at one camera: flow-warped error, and variance of static pixels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..losses.means import Means
from ..losses.temporal import StaticRegion, flow_warp_error
from ..render.renderer import Picture
from ..scene import Cameras, Scene4D

# scene, camera, seconds and the time that its flow points to → its image
Draw = Callable[[Scene4D, Cameras, float, float | None], Picture]


class Steadiness:
    """Adds the measures of one scene at one camera to `means`, frame by frame.

    Args:
        scene: The scene whose images are given.
        draw: Renders it again where a flow backward in time is needed.
        means: Where the values go.
        suffix: Of their names.
    """

    def __init__(self, scene: Scene4D, draw: Draw, means: Means, suffix: str = "") -> None:
        self.scene, self.draw, self.means, self.suffix = scene, draw, means, suffix
        self.static = StaticRegion()
        # image, forward flow and time of the previous frame
        self.earlier: tuple[Tensor, Tensor, float] | None = None

    def add(self, drawn: Picture, camera: Cameras, seconds: float) -> None:
        """Compare a frame with the previous one; `drawn` has a flow to the next frame unless it is the last."""
        picture, covered = drawn.rgb[0], drawn.alpha[0] > 0.5
        flow = drawn.flow[0] if drawn.flow is not None else None
        known = flow
        if self.earlier is not None:
            before, forward, then = self.earlier
            back = self.draw(self.scene, camera, seconds, then).flow
            assert back is not None
            error = flow_warp_error(before, picture, forward, back[0], covered)
            self.means.add(f"flow_warp_error{self.suffix}", error)
            known = -back[0] if flow is None else flow
        if known is not None:
            self.static.add(picture, known, covered)
        self.earlier = None if flow is None else (picture, flow, seconds)

    def finish(self) -> None:
        """The measure that needs all frames."""
        if self.static.count:
            self.means.add(f"static_variance{self.suffix}", self.static.variance())
