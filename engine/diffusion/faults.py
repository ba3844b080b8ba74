"""What a diffusion model does wrong at run time, said in sentences: numbers that overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError


def check_finite(values: Tensor, what: str, name: str, dtype: torch.dtype) -> Tensor:
    """`values` themselves, or InputError where a half-precision model overflowed or its weights are broken."""
    if bool(values.isfinite().all()):
        return values
    if dtype == torch.float32:
        raise InputError(
            "DIF-003",
            f"{name} gave {what} with NaN or infinite numbers in full precision: its weights are broken, or the "
            "pictures that it was given hold NaN; load the model again or look at the pictures.",
        )
    other = "bf16 or fp32" if dtype == torch.float16 else "fp32"
    kind = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
    raise InputError("DIF-004", f"{name} gave {what} with NaN in {kind}: load it with precision {other}.")
