"""The pack's own sockets. Their ids are for ever: shared workflows name them."""

from __future__ import annotations

from .compat import socket

MultiViewVideoSocket = socket("GS4D_VIDEO")  # engine.scene.MultiViewVideo
SceneSocket = socket("GS4D_SCENE")  # engine.scene.Scene4D
CameraPathSocket = socket("GS4D_CAMERA_PATH")  # engine.render.CameraPath
TrainingSettingsSocket = socket("GS4D_TRAINING_SETTINGS")  # dict: FitConfig field → value
GuidanceSocket = socket(
    "GS4D_GUIDANCE"
)  # nodes.guidance.Guidance: a diffusion model, ready or to be made ready
ViewsSocket = socket("GS4D_VIEWS")  # engine.scene.ViewSet: pictures with where and when each was taken
SelectionSocket = socket("GS4D_SELECTION")  # engine.scene.Selection: how much each Gaussian takes part
LatentFieldSocket = socket("GS4D_LATENT_FIELD")  # engine.latent.LatentField

# the host's, named by their strings because 0.3.75 has no class for some of them
SplatSocket = socket("SPLAT")
Load3DCameraSocket = socket("LOAD3D_CAMERA")
