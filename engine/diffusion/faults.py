"""Run-time check of a diffusion model: values that overflow."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..finite import require_finite


def check_finite(values: Tensor, what: str, name: str, dtype: torch.dtype) -> Tensor:
    """Return `values` unchanged if all are finite.

    Args:
        values: Output of the model, any shape.
        what: Name of the output in the error, with its article.
        name: Name of the model.
        dtype: Precision of its weights.

    Raises:
        InputError: A half-precision model overflowed, or its weights are damaged.
    """
    require_finite(values, lambda: _overflow(what, name, dtype))
    return values


def _overflow(what: str, name: str, dtype: torch.dtype) -> InputError:
    if dtype == torch.float32:
        return InputError(
            "DIF-003",
            f"{name} returned {what} with NaN or infinite values in full precision. Its weights or the input images "
            "are damaged; load the model again or check the images.",
        )
    other = "bf16 or fp32" if dtype == torch.float16 else "fp32"
    kind = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
    return InputError(
        "DIF-004", f"{name} returned {what} with NaN in {kind}; load it with precision {other}."
    )
