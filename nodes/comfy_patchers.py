"""Noise schedule and fingerprint of ComfyUI's patchers, and cross-frame attention in their options."""

from __future__ import annotations

import hashlib
from typing import Any

import comfy.ldm.modules.attention as attention  # pyright: ignore[reportMissingImports]
import comfy.model_patcher as model_patcher  # pyright: ignore[reportMissingImports]
import comfy.model_sampling as model_sampling  # pyright: ignore[reportMissingImports]
from torch import Tensor

from ..engine.diffusion import Attention, DiscreteSchedule
from ..engine.diffusion.cross_frame_attention import gather
from ..engine.diffusion.key_views import Injection, Recording
from ..engine.errors import InputError

WANTED = (
    "connect an InstructPix2Pix, SD 1.x or SD 2.x checkpoint. To edit with Flux Kontext, Qwen-Image-Edit or another image "
    "editor, open the template edit_with_image_editor"
)
# values of each weight that the fingerprint includes
SAMPLED = 16


def noise_schedule(sampling: Any, kind: str) -> DiscreteSchedule:
    """The model's noise schedule, read from the sigmas that ComfyUI keeps (sigma² = (1 − ᾱ) / ᾱ).

    Raises InputError for a flow or distilled model, whose steps are not DDIM's.
    """
    prediction = None
    if isinstance(sampling, model_sampling.ModelSamplingDiscrete) and len(sampling.sigmas) == 1000:
        base = next((c for c in type(sampling).__mro__ if c in _PREDICTIONS), None)
        # a class in between (LCM, EDM, image to image) would scale inputs or outputs differently
        if base is not None and all(
            getattr(type(sampling), name) is getattr(base, name)
            for name in ("calculate_input", "calculate_denoised")
        ):
            prediction = _PREDICTIONS[base]
    if prediction is None:
        raise InputError(
            "NOD-011",
            f"The connected MODEL ({kind}) uses a sampling method that editing cannot use (flow, LCM or distilled model); "
            f"{WANTED}.",
        )
    alphas = 1 / (1 + sampling.sigmas.double().cpu() ** 2)
    # if the last timestep is pure noise, steps must begin there
    spacing = "trailing" if float(alphas[-1]) < 1e-6 else "leading"
    return DiscreteSchedule(
        alphas.clone(), prediction=prediction, spacing=spacing, offset=1, final_alpha=float(alphas[0])
    )


_PREDICTIONS: dict[Any, str] = {
    model_sampling.V_PREDICTION: "v_prediction",
    model_sampling.X0: "sample",
    model_sampling.EPS: "epsilon",
}


def share(options: dict[str, Any], unet: Any, sharing: Attention) -> dict[str, Any]:
    """The options with every self-attention of the UNet sharing, recording or injecting as `sharing` says."""
    if isinstance(sharing, Injection):
        return _with_injection(options, unet, sharing)
    if isinstance(sharing, Recording):
        return _with_recording(options, unet, sharing)

    def mixed(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        shape = q.shape
        # full3d: one long sequence per branch, without copies
        if sharing.mode == "full3d":
            q, k, v = (x.reshape(-1, sharing.frames * x.shape[1], x.shape[2]) for x in (q, k, v))
        else:
            k, v = gather(k, sharing), gather(v, sharing)
        return _attend(q, k, v, extra).reshape(shape)

    return _with_self_attention(options, unet, mixed)


def _attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    return attention.optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra.get("attn_precision")
    )


def _with_recording(options: dict[str, Any], unet: Any, recording: Recording) -> dict[str, Any]:
    """A key pass: extended attention, whose input and output are recorded."""
    normed: dict[Any, Tensor] = {}

    def mixed(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return _attend(*recording.extended(_layer(extra), q, k, v), extra).reshape(q.shape)

    def read(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, ...]:
        normed[_layer(extra)] = n
        return n, context, value

    def written(n: Tensor, extra: dict[str, Any]) -> Tensor:
        layer = _layer(extra)
        recording.record(layer, normed.pop(layer), n)
        return n

    options = _with_self_attention(options, unet, mixed)
    return _with_patches(options, {"attn1_patch": read, "attn1_output_patch": written})


def _with_injection(options: dict[str, Any], unet: Any, injection: Injection) -> dict[str, Any]:
    """Attention is not computed; its output is taken from recorded key views."""
    normed: dict[Any, Tensor] = {}

    def nothing(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return q

    def read(n: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, ...]:
        normed[_layer(extra)] = n
        return n, context, value

    def written(n: Tensor, extra: dict[str, Any]) -> Tensor:
        layer = _layer(extra)
        return injection.output(layer, normed.pop(layer))

    options = _with_self_attention(options, unet, nothing)
    return _with_patches(options, {"attn1_patch": read, "attn1_output_patch": written})


def _layer(extra: dict[str, Any]) -> tuple[Any, ...]:
    return (*extra["block"], extra["block_index"])


def _with_patches(options: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """The options with further patches, after those that the model has."""
    transformer = dict(options["transformer_options"])
    patches = dict(transformer.get("patches", {}))
    for name, patch in added.items():
        patches[name] = [*patches.get(name, []), patch]
    return {**options, "transformer_options": {**transformer, "patches": patches}}


def _with_self_attention(options: dict[str, Any], unet: Any, mixed: Any) -> dict[str, Any]:
    """The options with `mixed` in place of every self-attention of the UNet."""
    levels = (("input", unet.input_blocks), ("middle", [unet.middle_block]), ("output", unet.output_blocks))
    for name, blocks in levels:
        for number, block in enumerate(blocks):
            for part in block.modules():
                if isinstance(part, attention.SpatialTransformer):
                    for index in range(len(part.transformer_blocks)):
                        options = model_patcher.set_model_options_patch_replace(
                            options, mixed, "attn1", name, number, index
                        )
    return options


def fingerprint(*patchers: Any) -> str:
    """Changes with the weights and their LoRAs; includes a few values of each tensor."""
    digest = hashlib.sha256()
    for patcher in patchers:
        # a loaded model's weights include LoRAs; `backup` keeps the original ones
        for name, tensor in patcher.model.state_dict().items():
            kept = patcher.backup.get(name)
            _feed(digest, name, tensor if kept is None else kept.weight)
        for name, patches in sorted(patcher.patches.items()):
            for patch in patches:
                _feed(digest, str(name), patch)
    return digest.hexdigest()[:32]


def _feed(digest: Any, name: str, value: Any) -> None:
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1)
        few = flat[:: max(len(flat) // SAMPLED, 1)][: SAMPLED + 1].float().cpu()
        digest.update(f"{name}{tuple(value.shape)}".encode() + few.numpy().tobytes())
    elif isinstance(value, (tuple, list)):
        for item in value:
            _feed(digest, name, item)
    # ComfyUI's own class for a LoRA
    elif hasattr(value, "weights"):
        _feed(digest, f"{name} {type(value).__name__}", value.weights)
    elif value is None or isinstance(value, (str, int, float)):
        digest.update(f"{name}={value}".encode())
    else:
        digest.update(f"{name} {type(value).__name__}".encode())
