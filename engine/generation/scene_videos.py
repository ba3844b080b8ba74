"""Videos of a generated scene: those that its references are compared with, and the one that is measured alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..render import Rasterizer
from ..render.camera_paths import CameraPath
from ..scene import Cameras, MultiViewVideo, Scene4D
from ..scene.rigs import orbit_cameras
from .measures import fitted_to
from .output_measures import OutputVideo
from .video_pairs import VideoPair, each_view
from .video_sources import CapturedVideo, FrameVideo, RenderedPath, RenderedScene, is_path


@dataclass(frozen=True, eq=False)
class References:
    """What a scene should look like.

    Args:
        truth: A scene, at the same frames.
        images: Frames [T, H, W, 3 or 4] of one of its cameras.
        capture: Images of its cameras, at the same frames.
    """

    truth: Scene4D | None
    images: Tensor | None
    capture: MultiViewVideo | None


@dataclass(frozen=True, eq=False)
class SceneVideos:
    """A scene and how it is rendered.

    Args:
        scene: The scene.
        azimuths: Views around it in degrees; empty: its own cameras, or along them where they are a path.
        resolution: Size of the images at the azimuths.
        view: Camera of the reference images.
        rasterizer: From `choose`.
    """

    scene: Scene4D
    azimuths: list[float]
    resolution: int
    view: int
    rasterizer: Rasterizer

    def source(self) -> RenderedScene | RenderedPath:
        """Its videos."""
        scene = self.scene
        if self.azimuths:
            cameras = orbit_cameras(self.azimuths, 0.0, self.resolution)
            return RenderedScene("the scene", scene, cameras, scene.times, self.rasterizer)
        return self._own()

    def _own(self) -> RenderedScene | RenderedPath:
        rig, times = self.scene.rig, self.scene.times
        kind = RenderedPath if is_path(rig, times) else RenderedScene
        return kind("the scene", self.scene, rig, times, self.rasterizer)

    def count(self, references: References) -> int:
        """Number of `pairs`."""
        truth = 0 if references.truth is None else len(self.source().views)
        capture = 0 if references.capture is None else references.capture.views
        return truth + (references.images is not None) + capture

    def pairs(self, references: References, device: torch.device | str) -> Iterator[VideoPair]:
        """The scene beside each of its references.

        Raises:
            InputError: Videos of different lengths, or a camera that does not exist.
        """
        scene = self.scene
        if (truth := references.truth) is not None:
            own = self.source()
            other = type(own)("the true scene", truth.to(device), own.cameras, truth.times, self.rasterizer)
            yield from each_view(own, other)
        if references.images is not None:
            own = self._own()
            view = 0 if isinstance(own, RenderedPath) else self.view
            if view >= len(own.views):
                raise InputError(
                    "STP-051",
                    f"View {view} does not exist; the scene has {len(own.views)}, numbered from 0.",
                )
            ours, video = own.video(view), FrameVideo("the reference video", references.images)
            other = fitted_to(ours, video.video(0), ("The scene", "the reference video"))
            yield VideoPair(ours, other, own.views[view])
        if (capture := references.capture) is not None:
            own = RenderedScene("the scene", scene, capture.cameras, scene.times, self.rasterizer)
            yield from each_view(own, CapturedVideo(capture, scene.background))

    def output(self, path: CameraPath | None) -> OutputVideo:
        """The video that is measured alone: along the path, or from the camera of the reference images.

        Args:
            path: The path that was asked for, a camera per frame; None: the scene's own cameras, if they are one.

        Raises:
            InputError: The path has another number of frames.
        """
        scene = self.scene
        cameras: Cameras = scene.rig if path is None else path.cameras
        if path is not None and len(path) != len(scene.times):
            raise InputError(
                "GEN-053",
                f"The camera path has {len(path)} frames and the scene {len(scene.times)}; connect the path that the scene "
                "was generated along.",
            )
        if path is not None or is_path(cameras, scene.times):
            film = RenderedPath("the scene", scene, cameras, scene.times, self.rasterizer)
            frames, depth = film.filmed()
            return OutputVideo(frames, cameras, depth)
        source = RenderedScene("the scene", scene, cameras, scene.times, self.rasterizer)
        return OutputVideo(source.video(self.view if self.view < len(cameras) else 0))

    def reference_along_path(self, references: References, output: OutputVideo) -> OutputVideo | None:
        """The reference images with the path and depth of `output`; None where there are none, or no path."""
        if references.images is None or output.cameras is None:
            return None
        images = FrameVideo("the reference video", references.images).video(0)
        return replace(output, frames=fitted_to(output.frames, images, ("The scene", "the reference video")))
