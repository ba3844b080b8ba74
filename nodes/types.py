"""The pack's own sockets. Their ids never change, because shared workflows contain them."""

from __future__ import annotations

from .compat import socket

MultiViewVideoSocket = socket("GS4D_VIDEO")  # engine.scene.MultiViewVideo
SceneSocket = socket("GS4D_SCENE")  # engine.scene.Scene4D
CameraPathSocket = socket("GS4D_CAMERA_PATH")  # engine.render.CameraPath
TrainingSettingsSocket = socket("GS4D_TRAINING_SETTINGS")  # dict: FitConfig field → value
# nodes.guidance.Guidance: a diffusion model
GuidanceSocket = socket("GS4D_GUIDANCE")
ViewsSocket = socket("GS4D_VIEWS")  # engine.scene.ViewSet: images with their cameras and times
SelectionSocket = socket("GS4D_SELECTION")  # engine.scene.Selection: weight of each Gaussian
HeadSocket = socket("GS4D_HEAD")  # engine.heads.Head: a head model with its motion
# StagedModels of Grounding DINO and SAM 2
SegmentationSocket = socket("GS4D_SEGMENTATION")
# StagedModels of the networks of a variation field
VariationSocket = socket("GS4D_VARIATION")
# StagedModels of a video model and a reconstruction model
ImageTo4DSocket = socket("GS4D_IMAGE_TO_4D")
TrellisSocket = socket("GS4D_TRELLIS")  # StagedModels of TRELLIS and its image encoder
LatentFieldSocket = socket("GS4D_LATENT_FIELD")  # engine.latent.LatentField

# ComfyUI's own, by name, because 0.3.75 has no class for some of them
SplatSocket = socket("SPLAT")
# ComfyUI accepts either of the types that a comma separates
SceneOrSplatSocket = socket("GS4D_SCENE,SPLAT")
ImagesOrVideoSocket = socket("IMAGE,VIDEO")
# of the Depth Anything 3 and MoGe nodes: dictionaries
DepthSocket = socket("IMAGE,DA3_GEOMETRY,MOGE_GEOMETRY")
ModelFileSocket = socket("FILE_3D,FILE_3D_GLB,FILE_3D_GLTF")
Load3DCameraSocket = socket("LOAD3D_CAMERA")
WanCameraSocket = socket("WAN_CAMERA_EMBEDDING")
FaceLandmarksSocket = socket("FACE_LANDMARKS")
