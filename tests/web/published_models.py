"""Where the files of published models are, by their names: ComfyUI offers to download those that a workflow misses."""

from __future__ import annotations

from typing import Any

HUB = "https://huggingface.co"
WAN = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
# file name → folder of ComfyUI's models, address
PUBLISHED = {
    "instruct-pix2pix-00-22000.safetensors": (
        "checkpoints",
        f"{HUB}/timbrooks/instruct-pix2pix/resolve/main",
    ),
    "v1-5-pruned-emaonly-fp16.safetensors": (
        "checkpoints",
        f"{HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main",
    ),
    "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors": ("diffusion_models", f"{WAN}/diffusion_models"),
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors": ("text_encoders", f"{WAN}/text_encoders"),
    "wan_2.1_vae.safetensors": ("vae", f"{WAN}/vae"),
    "clip_vision_h.safetensors": ("clip_vision", f"{WAN}/clip_vision"),
    "lotus-depth-d-v1-1.safetensors": ("diffusion_models", f"{HUB}/Comfy-Org/lotus/resolve/main"),
    "vae-ft-mse-840000-ema-pruned.safetensors": (
        "vae",
        f"{HUB}/stabilityai/sd-vae-ft-mse-original/resolve/main",
    ),
}


def with_models(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with `properties.models` on every node that loads a published file."""
    for node in workflow["nodes"]:
        found = [
            {"name": name, "url": f"{PUBLISHED[name][1]}/{name}", "directory": PUBLISHED[name][0]}
            for name in node.get("widgets_values") or []
            if isinstance(name, str) and name in PUBLISHED
        ]
        if found:
            node.setdefault("properties", {})["models"] = found
    return workflow
