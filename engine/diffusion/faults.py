"""What goes wrong while a model runs, said in sentences: numbers that overflow and memory that ends."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import InputError

_GIB = 1 << 30
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def check_finite(values: Tensor, what: str, name: str, dtype: torch.dtype) -> Tensor:
    """`values` themselves, or InputError where a half-precision model overflowed or its weights are broken."""
    if bool(values.isfinite().all()):
        return values
    if dtype == torch.float32:
        raise InputError(
            f"{name} gave {what} with NaN or infinite numbers in full precision: its weights are broken, or the "
            "pictures that it was given hold NaN; load the model again or look at the pictures."
        )
    other = "bf16 or fp32" if dtype == torch.float16 else "fp32"
    kind = {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
    raise InputError(f"{name} gave {what} with NaN in {kind}: load it with precision {other}.")


@contextmanager
def explains_memory(doing: str, device: torch.device) -> Generator[None, None, None]:
    """Inside, running out of memory becomes an InputError that says how much was wanted and which number to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        wanted = _asked(str(error))
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and wanted is None:
            raise
        if device.type == "cuda":
            held = torch.cuda.memory_allocated(device)
            total = torch.cuda.get_device_properties(device).total_memory
            needed = f"about {(held + (wanted or 0)) / _GIB:.1f} GB were needed and the card has {total / _GIB:.1f} GB"
            torch.cuda.empty_cache()
        else:
            needed = f"{(wanted or 0) / _GIB:.1f} GB more were needed than there are"
        raise InputError(
            f"Memory ran out while {doing}: {needed}. Lower the resolution, or how many frames are done at once."
        ) from error


def _asked(message: str) -> int | None:
    """Bytes that an allocator's message says it was asked for; None where it is no such message."""
    found = re.search(r"(?:[Tt]ried|[Uu]nable) to allocate ([\d.]+) (bytes|[KMGT]iB)", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None
