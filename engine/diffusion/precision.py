"""Which precision a model computes in: by name, or by what the device can do."""

from __future__ import annotations

import torch

from ..errors import InputError

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# NVIDIA GPUs before Ampere (RTX 20xx, T4, V100) emulate bfloat16, which takes longer than float32
BF16_CAPABILITY = (8, 0)


def check_precision(dtype: str) -> None:
    """InputError unless `dtype` is "auto" or one of PRECISIONS."""
    if dtype != "auto" and dtype not in PRECISIONS:
        raise InputError("DIF-009", f"Precision is '{dtype}'; choose auto, {', '.join(PRECISIONS)}.")


def choose_precision(
    dtype: str, device: torch.device, prefers_bf16: bool = False, overflows: bool = False
) -> torch.dtype:
    """The precision of that name; "auto" depends on the device.

    Args:
        dtype: "auto" or one of PRECISIONS.
        device: Where the model will compute, which may not be where its weights are loaded.
        prefers_bf16: The model was trained in bfloat16.
        overflows: The model may overflow in float16; float32 needs no replacement.

    Returns:
        For "auto": bfloat16 where the model is better off with it and the device computes it; otherwise float16 on CUDA and
        float32 elsewhere.
    """
    if dtype != "auto":
        return PRECISIONS[dtype]
    on_gpu = device.type == "cuda"
    if (prefers_bf16 or (overflows and on_gpu)) and computes_bf16(device):
        return torch.bfloat16
    return torch.float16 if on_gpu else torch.float32


def computes_bf16(device: torch.device) -> bool:
    """Whether the device itself computes in bfloat16, rather than emulating it."""
    if device.type == "cuda":
        if torch.version.hip:
            return torch.cuda.is_bf16_supported()
        return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    return device.type == "cpu" and _cpu_computes_bf16()


def _cpu_computes_bf16() -> bool:
    # private: torch has no public name for it
    found = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(found is not None and found())


def precision_note(dtype: torch.dtype | None, device: torch.device) -> str:
    """The precision of a model on a device, with a warning where the device emulates it; empty where it is unknown."""
    name = next((name for name, value in PRECISIONS.items() if value == dtype), "")
    if not name:
        return ""
    if name == "fp16" and device.type == "cpu":
        return "fp16 on the CPU, which is slow there; choose auto or fp32"
    if name == "bf16" and not computes_bf16(device):
        kind, other = ("GPU", "fp16") if device.type == "cuda" else ("CPU", "fp32")
        return f"bf16, which this {kind} emulates slowly; choose auto or {other}"
    emulated = name == "fp16" and device.type == "cuda" and not computes_bf16(device)
    return f"{name} on {device}" + (" (this GPU would emulate bf16)" if emulated else "")
