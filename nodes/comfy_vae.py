"""The network of a connected VAE outside ComfyUI's memory management, so that gradients pass through its encoder.

ComfyUI casts weights layer by layer: from tensors made in inference mode, which autograd refuses, and with dynamic VRAM (the
default on NVIDIA GPUs) into memory that other weights replace later, while a gradient still needs it. LoRAs are added on the
way. A copy of the weights in the VAE's working precision (160 MB for Stable Diffusion's) has neither problem; a node holds
it for one run.
"""

from __future__ import annotations

from typing import Any

import comfy.lora as lora  # pyright: ignore[reportMissingImports]
import comfy.model_management as model_management  # pyright: ignore[reportMissingImports]
import comfy.model_patcher as model_patcher  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from . import host

# attributes that ComfyUI's dynamic VRAM adds to layers: places of their weights in its own memory
MANAGED = ("_v", "_v_block", "_v_signature", "_v_weight", "_v_bias", "_pin", "_pins", "_pin_state")


def make_room(needed: float, device: torch.device) -> None:
    """Make ComfyUI unload models until so many bytes are free besides its reserve; nothing on the CPU."""
    if device.type != "cpu":
        reserve = getattr(model_management, "extra_reserved_memory", lambda: 0)()
        model_management.free_memory(needed + reserve, device)


def size_of(module: torch.nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a module's weights in this precision."""
    return sum(p.numel() for p in module.parameters()) * dtype.itemsize


@torch.no_grad()
def standalone(patcher: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A copy of a ModelPatcher's module with weights of its own, which include the patcher's LoRAs.

    Args:
        patcher: The ModelPatcher; loaded or not, neither it nor its module changes.
        dtype: Precision of the copy's floating-point weights.
        device: Device of the copy.

    Returns:
        A module of the same class. Its weights are ordinary tensors that require no gradients.
    """
    copy = _outline(patcher.model, {})
    for path, module in copy.named_modules():
        for kind in ("_parameters", "_buffers"):
            tensors: dict[str, Tensor | None] = vars(module)[kind]
            for name, tensor in tensors.items():
                if tensor is not None:
                    key = f"{path}.{name}" if path else name
                    kept = _copied(_patched(patcher, key, tensor), dtype, device)
                    is_weight = kind == "_parameters"
                    tensors[name] = torch.nn.Parameter(kept, requires_grad=False) if is_weight else kept
    return copy


def _outline(module: torch.nn.Module, made: dict[int, torch.nn.Module]) -> torch.nn.Module:
    """The tree of modules with the tensors of `module`, without ComfyUI's casts; a module used twice is copied once."""
    if id(module) in made:
        return made[id(module)]
    copy = made[id(module)] = object.__new__(type(module))
    vars(copy).update((name, value) for name, value in vars(module).items() if name not in MANAGED)
    # a layer of ComfyUI without casts and functions computes what torch's does
    if hasattr(module, "comfy_cast_weights"):
        vars(copy).update(comfy_cast_weights=False, weight_function=[], bias_function=[])
    for kind in ("_parameters", "_buffers"):
        vars(copy)[kind] = dict(vars(module)[kind])
    parts: dict[str, torch.nn.Module | None] = vars(module)["_modules"]
    vars(copy)["_modules"] = {n: None if m is None else _outline(m, made) for n, m in parts.items()}
    return copy


def _patched(patcher: Any, key: str, tensor: Tensor) -> Tensor:
    """A tensor of the module with the patcher's LoRAs, whatever ComfyUI has loaded at present."""
    backup = patcher.backup.get(key)
    if backup is not None:
        tensor = backup.weight
    wrappers = getattr(patcher, "weight_wrapper_patches", {}).get(key, [])
    convert = _conversion(patcher.model, key)
    if key not in patcher.patches and not wrappers and convert is None:
        return tensor
    # patches are inference tensors too
    with host.as_host():
        weight = _dequantized(tensor).to(torch.float32, copy=True)
        if convert is not None:
            weight = convert(weight, inplace=True)
        if key in patcher.patches:
            weight = lora.calculate_weight(patcher.patches[key], weight, key)
        for wrap in wrappers:
            weight = wrap(weight)
        return weight


def _conversion(module: torch.nn.Module, key: str) -> Any:
    """What makes usable numbers of a stored weight, such as one that is stored with a scale; None where nothing does."""
    return model_patcher.get_key_weight(module, key)[2]


def _copied(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    whole = _dequantized(tensor.detach())
    return whole.to(device=device, dtype=dtype if whole.is_floating_point() else whole.dtype, copy=True)


def _dequantized(tensor: Tensor) -> Tensor:
    # ComfyUI's own class of tensors, which is a Tensor; torch's `dequantize` exists on all of them
    return tensor.dequantize() if type(tensor).__name__ == "QuantizedTensor" else tensor
