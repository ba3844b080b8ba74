"""What artists type to find a node, beside its name and what its declaration lists. Does not import ComfyUI."""

from __future__ import annotations

from collections.abc import Iterable

# of every node: who types one of these sees the whole pack
ALL = ("4dgs", "4d gaussian splatting", "gs4d", "dynamic gaussian splat")

OWN: dict[str, tuple[str, ...]] = {
    "GS4D_LoadMultiViewVideo": (
        "load capture",
        "dataset",
        "upload videos",
        "multiview",
        "camera array",
        "rig",
        "volumetric video",
        "open video",
    ),
    "GS4D_CaptureFromVideos": (
        "multiview",
        "generated multi-view video",
        "videos to 4d",
        "video to 4d",
        "images to capture",
        "camera array",
    ),
    "GS4D_Load4DScene": ("open scene", "load splat", "load gaussian", "safetensors"),
    "GS4D_Save4DScene": ("save splat", "save gaussian", "store", "download", "safetensors"),
    "GS4D_Preview4DScene": ("play", "show", "view 3d", "orbit", "preview splat", "interactive"),
    "GS4D_Import4DScene": (
        "load ply",
        "upload splat",
        "load splat",
        "4dgs file",
        "supersplat",
        "polycam",
        "luma",
    ),
    "GS4D_Export4DScene": (
        "save ply",
        "ply sequence",
        "download",
        "supersplat",
        "unreal",
        "blender",
        "unity",
    ),
    "GS4D_SplatToScene": ("splat sequence", "3d to 4d", "triposplat", "convert splat"),
    "GS4D_SceneToSplat": ("freeze time", "still", "4d to 3d", "one frame", "convert splat", "frozen"),
    "GS4D_Train4DScene": (
        "training",
        "optimize",
        "make 4d",
        "video to 4d",
        "videos to splat",
        "novel view",
        "volumetric video",
        "dynamic scene",
    ),
    "GS4D_TrainingSettings": (
        "train",
        "learning rate",
        "advanced training",
        "densification",
        "hyperparameters",
    ),
    "GS4D_PreflightCheck": ("check", "validate", "inspect", "diagnose", "calibration", "quality"),
    "GS4D_AddDepth": ("depth", "depth map"),
    "GS4D_AlignDepth": ("depth", "depth map"),
    "GS4D_CaptureImages": ("photos", "video frames", "capture to images"),
    "GS4D_SceneViews": ("render views", "images of scene", "snapshot", "screenshot", "views for masks"),
    "GS4D_Render4DScene": (
        "video",
        "image",
        "novel view",
        "freeze time",
        "rasterize",
        "depth",
        "movie",
        "film",
    ),
    "GS4D_CameraPath": (
        "freeze time",
        "matrix shot",
        "turntable",
        "zoom",
        "time remap",
        "keyframes",
        "frozen",
    ),
    "GS4D_LiftVideo": ("single video", "one camera", "phone video", "depth video", "video to splat"),
    "GS4D_PrepareVideo": ("cut out", "background removal", "matte", "alpha"),
    "GS4D_LoadVideoClip": ("open video", "upload video"),
    "GS4D_EditViews": ("style", "restyle", "change color", "relight", "stylize", "edit scene", "instruct"),
    "GS4D_FitEdits": ("apply edit", "recolor", "style"),
    "GS4D_RefineScore": ("improve edit", "score distillation sampling", "dreamfusion"),
    "GS4D_LiftMask": ("mask", "selection", "paint mask", "mask to 3d", "region"),
    "GS4D_SegmentByText": ("mask", "find object", "select by text"),
    "GS4D_HeadRegionMask": ("eyes", "mouth", "lips", "hair", "nose", "face mask", "selection"),
    "GS4D_PoseHead": ("mouth open", "eye", "blink", "face pose"),
    "GS4D_LoadSegmentation": ("mask", "sam2"),
    "GS4D_LoadHead": ("face model", "head avatar"),
    "GS4D_HeadFromLandmarks": ("mouth", "eye", "facial motion", "mocap"),
    "GS4D_DriveHead": ("animate face", "lip sync", "mocap", "facial motion"),
    "GS4D_EditHeadAvatar": ("face edit", "avatar", "eye", "mouth"),
    "GS4D_AnimateSplatWithMesh": ("dance", "animate", "move", "character", "skinning", "mocap"),
    "GS4D_EvaluateScene": ("quality", "compare", "lpips", "score"),
    "GS4D_LoadVariation": ("gvfdiffusion", "animate"),
}


def aliases(node_id: str, declared: Iterable[str] = ()) -> list[str]:
    """The search aliases of a node: what it declares, its words here, and those of the pack; each once."""
    return list(dict.fromkeys([*declared, *OWN.get(node_id, ()), *ALL]))
