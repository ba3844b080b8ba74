"""A stand-in of ComfyUI's dynamic VRAM (ModelPatcherDynamic, on by default with NVIDIA GPUs since 0.24) on the CPU.

The ComfyUI that tests can install has none. This one does what the real one does to a module, as far as others can see it:
weights stay in their stored precision and are cast layer by layer, in inference mode, into one arena whose memory is reused;
the size of a layer's slot follows from an attribute of its Parameters; LoRAs are added on the way; what was cast is kept
at the layer for as long as its slot is valid.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.ops
import torch


class Arena:
    """Device memory with a few slots of one layer each, the oldest of which is given to the next layer."""

    def __init__(self, slots: int, size: int) -> None:
        self.memory = torch.zeros(slots, size, dtype=torch.uint8)
        self.next = 0
        self.clear()

    def clear(self) -> None:
        self.owners: list[Any] = [None] * len(self.memory)

    def find(self, layer: Any) -> int | None:
        return self.owners.index(layer) if layer in self.owners else None

    def give(self, layer: Any) -> int:
        slot, self.next = self.next, (self.next + 1) % len(self.owners)
        self.owners[slot] = layer
        return slot


class DynamicPatcher(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher whose module is loaded as ModelPatcherDynamic does it."""

    # precision that weights are cast to, and layers that fit into the device's memory
    working: torch.dtype
    slots: int

    def clone(self, *given: Any, **named: Any) -> Any:
        made = super().clone(*given, **named)
        made.working, made.slots = self.working, self.slots
        return made

    def is_dynamic(self) -> bool:
        return True

    def partially_load(
        self, device_to: Any, extra_memory: float = 0, force_patch_weights: bool = False
    ) -> int:
        assert not force_patch_weights
        layers = [m for m in self.model.modules() if hasattr(m, "comfy_cast_weights")]
        sizes = []
        for name, layer in self.model.named_modules():
            if layer not in layers:
                continue
            size = 0
            for kind in ("weight", "bias"):
                tensor = getattr(layer, kind, None)
                if tensor is None:
                    continue
                tensor._model_dtype = self.working
                size += tensor.numel() * self.working.itemsize
                key = f"{name}.{kind}"
                function = (
                    comfy.model_patcher.LowVramPatch(key, self.patches) if key in self.patches else None
                )
                setattr(layer, f"{kind}_lowvram_function", function)
            layer.comfy_cast_weights = True
            layer._v_size = size
            sizes.append(size)
        if not hasattr(self.model, "arena"):
            self.model.arena = Arena(self.slots, max(sizes))
        for layer in layers:
            layer._v = self.model.arena
        if self.model.current_weight_patches_uuid != self.patches_uuid:
            self.model.arena.clear()
        self.model.current_weight_patches_uuid = self.patches_uuid
        self.model.device = device_to
        self.patch_model(load_weights=False)
        return 0

    def partially_unload(self, device_to: Any, memory_to_free: float = 0, **_: Any) -> int:
        self.model.arena.clear()
        return 0


@contextmanager
def dynamic_casts() -> Generator[None, None, None]:
    """Inside, layers of a DynamicPatcher's module compute with weights from their arena."""
    plain = comfy.ops.cast_bias_weight

    def cast(layer: Any, input: Any = None, *more: Any, offloadable: bool = False, **named: Any) -> Any:
        if not hasattr(layer, "_v"):
            return plain(layer, input, *more, offloadable=offloadable, **named)
        with torch.inference_mode():
            wanted = named.get("dtype") or input.dtype
            weight, bias = (None if each is None else each.to(wanted) for each in _resident(layer))
        return (weight, bias, None) if offloadable else (weight, bias)

    comfy.ops.cast_bias_weight = cast
    try:
        yield
    finally:
        comfy.ops.cast_bias_weight = plain


def _resident(layer: Any) -> tuple[Any, Any]:
    """The layer's weight and bias in its slot, cast anew where another layer took it."""
    arena = layer._v
    if arena.find(layer) is not None:
        return layer._v_weight, layer._v_bias
    memory, offset = arena.memory[arena.give(layer)], 0
    kept: list[Any] = []
    for kind in ("weight", "bias"):
        tensor = getattr(layer, kind, None)
        if tensor is None:
            kept.append(None)
            continue
        dtype = getattr(tensor, "_model_dtype", tensor.dtype)
        size = tensor.numel() * dtype.itemsize
        if offset + size > layer._v_size:
            raise ValueError("Buffer too small")
        place = memory[offset : offset + size].view(dtype).view(tensor.shape)
        function = getattr(layer, f"{kind}_lowvram_function", None)
        place.copy_(tensor if function is None else function(tensor.to(torch.float32, copy=True)))
        kept.append(place)
        offset += size
    layer._v_weight, layer._v_bias = kept
    return layer._v_weight, layer._v_bias


def dynamic(patcher: Any, stored: torch.dtype, working: torch.dtype, slots: int = 3) -> Any:
    """A DynamicPatcher of a patcher's module, with weights stored in one precision and used in another."""
    with torch.inference_mode():
        for parameter in patcher.model.parameters():
            parameter.data = parameter.data.to(stored)
    made = DynamicPatcher(patcher.model, patcher.load_device, patcher.offload_device)
    made.working, made.slots = working, slots
    return made
