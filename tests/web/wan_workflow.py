"""The bundled workflow from an image and a camera movement to an edited scene, by way of Wan's video model."""

from __future__ import annotations

from typing import Any

import graphs

# names of files as their publishers name them
WAN, TEXT = "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors", "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
WAN_VAE, VISION = "wan_2.1_vae.safetensors", "clip_vision_h.safetensors"
LOTUS, LOTUS_VAE = "lotus-depth-d-v1-1.safetensors", "vae-ft-mse-840000-ema-pruned.safetensors"
SIZE, FPS = {"width": 832, "height": 480, "length": 81}, 16.0
SCENE = "a dog walks over a lawn, the camera moves around it"
AVOID = "static, blurry, overexposed, subtitles, cut, flicker"
PROMPT = "turn it into a gold statue"
# the noise level that Lotus was trained at, in its one step
LOTUS_SIGMA = 999.0000000000002


def wan_to_4d(info: dict[str, Any]) -> dict[str, Any]:
    return {**_video(info), **_depth(info), **_scene(info)}


def _video(info: dict[str, Any]) -> dict[str, Any]:
    """From an image to the frames of node 13."""
    node = graphs.node
    found = {
        # ComfyUI's own
        "1": node(info, "LoadImage", image="example.png"),
        "2": node(info, "WanCameraEmbedding", camera_pose="Pan Left", **SIZE),
        "3": node(info, "UNETLoader"),
        "4": node(info, "CLIPLoader", type="wan"),
        "5": node(info, "VAELoader"),
        "6": node(info, "CLIPVisionLoader"),
        "7": node(info, "CLIPVisionEncode", clip_vision=["6", 0], image=["1", 0]),
        "8": {**node(info, "CLIPTextEncode", clip=["4", 0], text=SCENE), "_meta": {"title": "What happens"}},
        "9": {**node(info, "CLIPTextEncode", clip=["4", 0], text=AVOID), "_meta": {"title": "What to avoid"}},
        "10": node(
            info,
            "WanCameraImageToVideo",
            positive=["8", 0],
            negative=["9", 0],
            vae=["5", 0],
            clip_vision_output=["7", 0],
            start_image=["1", 0],
            camera_conditions=["2", 0],
            width=["2", 1],
            height=["2", 2],
            length=["2", 3],
        ),
        "11": node(info, "ModelSamplingSD3", model=["3", 0], shift=8.0),
        "12": node(
            info,
            "KSampler",
            model=["11", 0],
            positive=["10", 0],
            negative=["10", 1],
            latent_image=["10", 2],
            steps=20,
            cfg=6.0,
            sampler_name="uni_pc",
            scheduler="simple",
        ),
        "13": node(info, "VAEDecode", samples=["12", 0], vae=["5", 0]),
        # a quarter of the pixels is a scene that a preview plays
        "14": node(info, "ImageScaleBy", image=["13", 0], upscale_method="area", scale_by=0.5),
    }
    for name, widget, file in (
        ("3", "unet_name", WAN),
        ("4", "clip_name", TEXT),
        ("5", "vae_name", WAN_VAE),
        ("6", "clip_name", VISION),
    ):
        found[name]["inputs"][widget] = file
    return found


def _depth(info: dict[str, Any]) -> dict[str, Any]:
    """From the small frames to the depth images of node 24."""
    node = graphs.node
    found = {
        "15": node(info, "UNETLoader"),
        "16": node(info, "VAELoader"),
        "17": node(info, "VAEEncode", pixels=["14", 0], vae=["16", 0]),
        "18": node(info, "LotusConditioning"),
        "19": node(info, "BasicGuider", model=["15", 0], conditioning=["18", 0]),
        "20": node(info, "BasicScheduler", model=["15", 0], scheduler="normal", steps=1, denoise=1.0),
        "21": node(info, "SetFirstSigma", sigmas=["20", 0], sigma=LOTUS_SIGMA),
        "22": node(
            info,
            "SamplerCustomAdvanced",
            noise=["25", 0],
            guider=["19", 0],
            sampler=["26", 0],
            sigmas=["21", 0],
            latent_image=["17", 0],
        ),
        "23": node(info, "VAEDecode", samples=["22", 0], vae=["16", 0]),
        "24": node(info, "ImageInvert", image=["23", 0]),
        "25": node(info, "DisableNoise"),
        "26": node(info, "KSamplerSelect", sampler_name="euler"),
    }
    found["15"]["inputs"]["unet_name"], found["16"]["inputs"]["vae_name"] = LOTUS, LOTUS_VAE
    return found


def _scene(info: dict[str, Any]) -> dict[str, Any]:
    """From frames and depth to the edited scene."""
    node = graphs.node
    return {
        "30": node(
            info,
            "GS4D_LiftVideo",
            images=["14", 0],
            depth=["24", 0],
            frames_per_second=FPS,
            depth_kind="disparity",
        ),
        "31": {**node(info, "PrimitiveStringMultiline", value=PROMPT), "_meta": {"title": "Prompt"}},
        "32": node(info, "GS4D_LoadGuidance"),
        "33": node(info, "GS4D_EditViews", scene=["30", 0], guidance=["32", 0], prompt=["31", 0]),
        "34": node(info, "PreviewImage", images=["33", 1]),
        "35": node(info, "GS4D_FitEdits", scene=["30", 0], views=["33", 0], iterations=400),
        "36": node(info, "GS4D_Save4DScene", scene=["35", 0], filename_prefix="gs4d/wan"),
        "37": node(info, "GS4D_CameraPath", scene=["35", 0], kind="spiral", view=40, frames=80, fps=FPS),
        "38": node(info, "GS4D_Render4DScene", scene=["35", 0], path=["37", 0], wants_depth=False),
        "39": node(info, "SaveVideo", video=["38", 4], filename_prefix="video/wan"),
        "40": node(info, "GS4D_Preview4DScene", scene=["30", 0], compare=["35", 0]),
    }


PLACES = {
    "1": (0, 0, 330, 330), "2": (0, 430, 330, 270), "3": (0, 800, 330, 90), "4": (0, 990, 330, 120),
    "5": (0, 1210, 330, 70), "6": (0, 1380, 330, 70),
    "8": (380, 0, 340, 160), "9": (380, 260, 340, 160), "7": (380, 520, 340, 90), "10": (380, 710, 340, 280),
    "11": (380, 1090, 340, 70), "12": (380, 1260, 340, 280),
    "13": (770, 0, 300, 60), "14": (770, 160, 300, 90), "15": (770, 350, 300, 90), "16": (770, 540, 300, 70),
    "17": (770, 710, 300, 60), "18": (770, 870, 300, 40), "19": (770, 1010, 300, 60), "20": (770, 1170, 300, 120),
    "21": (770, 1390, 300, 70),
    "25": (1110, 0, 300, 40), "26": (1110, 140, 300, 70), "22": (1110, 310, 300, 130), "23": (1110, 540, 300, 60),
    "24": (1110, 700, 300, 40),
    "30": (1460, 0, 360, 780),
    "31": (1870, 0, 360, 120), "32": (1870, 210, 360, 160), "33": (1870, 460, 360, 860),
    "34": (2270, 0, 420, 480), "35": (2270, 570, 420, 830),
    "36": (2740, 0, 310, 140), "37": (2740, 230, 310, 420), "38": (2740, 740, 310, 530), "39": (3090, 0, 420, 560),
    "40": (3560, 0, 600, 900),
}  # fmt: skip

GROUPS = [
    ("1 · Image, camera, models", (-20, -80, 370, 1650), "#3f789e"),
    ("2 · Wan's video", (360, -80, 380, 1650), "#3c6f7a"),
    ("3 · Its depth (Lotus)", (750, -80, 680, 1650), "#7a3c6f"),
    ("4 · Lift to 4D", (1440, -80, 400, 1650), "#8a6f3c"),
    ("5 · Edit with a prompt, fit the scene", (1850, -80, 860, 1650), "#8a6f3c"),
    ("6 · Render along a camera path", (2720, -80, 810, 1650), "#3c7a4f"),
    ("7 · Compare before and after", (3540, -80, 640, 1650), "#3f789e"),
]

NOTE = """## An image and a camera movement in, an edited moving scene out

Wan makes a video of the image with the chosen camera movement, Lotus its depth, *Lift Video to 4D* a scene of both, and a prompt
edits the scene. The scene can be seen from beside the video's path.

**Models.** Download these from Hugging Face and press **R**:

* `Comfy-Org/Wan_2.1_ComfyUI_repackaged`: `wan2.1_fun_camera_v1.1_1.3B_bf16` → `models/diffusion_models`,
  `umt5_xxl_fp8_e4m3fn_scaled` → `models/text_encoders`, `wan_2.1_vae` → `models/vae`, `clip_vision_h` → `models/clip_vision`
* `Comfy-Org/lotus`: `lotus-depth-d-v1-1` → `models/diffusion_models`
* `stabilityai/sd-vae-ft-mse-original`: `vae-ft-mse-840000-ema-pruned` → `models/vae`

**Better depth:** newer versions of ComfyUI have nodes for Depth Anything 3 and MoGe. Connect their geometry to *depth* in place
of group 3, and set *depth kind* to auto.

**Camera:** slides and arcs let cameras be solved; a pure turn does not. *Camera Path* and *Camera Path to Wan Embedding* make
other movements for *WanCameraImageToVideo*.

**Prompts** that the bundled model does not know need InstructPix2Pix: see the help of *Load Diffusion Guidance*."""

NOTE_PLACE = (-400, 0, 360, 760)
