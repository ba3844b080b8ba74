"""The values that all rooms share: Gaussians, cameras, multi-view video, the 4D scene.

Conventions: OpenCV axes (x right, y down, z forward); `world_to_camera`; quaternions wxyz; pixel (0, 0)
is the outer corner of the top-left pixel, centers at +0.5; images [..., H, W, C] float in [0, 1], display-referred;
masks [..., H, W]; time in seconds. Letters in shapes: V views, T frames, N Gaussians, K SH bases, B batch, C channels.
"""

from .cameras import Cameras
from .gaussians import ActivatedGaussians, Gaussians
from .rays import plucker_rays, relative_to_first
from .scene4d import Deformation, Scene4D, Static
from .video import Frame, FrameSource, MultiViewVideo, Tracks
from .view_set import Selection, ViewSet

__all__ = [
    "ActivatedGaussians",
    "Cameras",
    "Deformation",
    "Frame",
    "FrameSource",
    "Gaussians",
    "MultiViewVideo",
    "Scene4D",
    "Selection",
    "Static",
    "Tracks",
    "ViewSet",
    "plucker_rays",
    "relative_to_first",
]
