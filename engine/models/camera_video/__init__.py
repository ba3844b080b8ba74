"""A small video model of our own: one image and a camera path to the latents of a video, without a trained autoencoder.

It stands in for the camera-conditioned video diffusion of Diff4Splat (arXiv 2511.00503), whose weights were never published.
"""

from .config import CameraVideoConfig
from .files import load_camera_video, save_camera_video
from .network import CameraVideo, Guess

__all__ = ["CameraVideo", "CameraVideoConfig", "Guess", "load_camera_video", "save_camera_video"]
