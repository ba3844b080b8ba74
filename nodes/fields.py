"""Node inputs from a step's frozen Config: default, range and tooltip are the field's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, fields
from types import MappingProxyType
from typing import Any

from .compat import io, make

LARGEST = 2**53 - 1  # the canvas counts in doubles
# names that read badly with their underscores merely removed
LABELS = {
    "sh_degree": "view-dependent colour",
    "fps": "frames per second",
    "budget": "gaussians (budget)",
    "initial_count": "gaussians at the start",
    "max_seconds": "stop after seconds",
    "initialisation": "start from",
    "density": "density control",
    "ssim_weight": "structure weight",
    "keeps_test_views_out": "keep test views out",
    "wants_depth": "render depth",
    "wants_flow": "render flow",
    "order": "order of moments",
    "negative": "negative prompt",
    "guidance_scale": "prompt strength",
    "image_guidance_scale": "original strength",
    "strength": "edit strength",
    "originals": "what is edited",
    "frames_at_once": "pictures at once",
    "densifies": "add Gaussians",
    "mutes_appearance": "mute the motion's colours",
    "trains_deformation": "also train the motion",
    "fills_unseen": "fill what is not seen",
    "wants_temporal": "measure steadiness",
    "anneals": "lower the noise on the way",
    "condition": "what the model looks at",
    "saves_memory": "save memory",
    "min_timestep": "least noise",
    "max_timestep": "most noise",
    "source_prompt": "prompt before",
    "final_guidance_scale": "prompt strength at the end",
    "looks_at": "what the model looks at",
    "frees": "what may change",
    "refiner": "refinement layer",
    "is_refined": "use the refinement layer",
    "trains_refiner": "also train the refinement layer",
    "warm_up": "refinement starts after",
    "depends_on_direction": "view-dependent latents",
    "field_weight": "weight of plain latents",
    "refiner_weight": "weight of refined latents",
    "samples": "samples a latent",
    "scale_floor": "least size",
    "inside_weight": "keep inside the mask",
    "outside_weight": "keep outside the mask",
    "dilation": "grow the mask",
    "force": "force unknown prompt",
}
LONG_TEXTS = {"prompt", "source_prompt"}


def label(name: str) -> str:
    """How a field is called on the canvas."""
    return LABELS.get(name, name.replace("_", " "))


def inputs(
    config: type[Any],
    names: Iterable[str],
    advanced: Iterable[str] = (),
    later: Iterable[str] = (),
    labels: Mapping[str, str] = MappingProxyType({}),
) -> list[Any]:
    """One widget for each of `names`, in that order; `advanced` ones fold away where ComfyUI can fold them.

    Those in `later` came after a release: they are optional, so that graphs saved before still run with their defaults.
    `labels` are for fields that mean something else here than elsewhere.
    """
    by_name = {f.name: f for f in fields(config)}
    folded, appended = set(advanced), set(later)
    return [
        widget(by_name[name], name in folded, name in appended, labels.get(name) or label(name))
        for name in names
    ]


def widget(field: Field[Any], advanced: bool = False, optional: bool = False, called: str = "") -> Any:
    """The input for one Config field."""
    meta, default = field.metadata, field.default
    common: dict[str, Any] = {
        "default": default,
        "display_name": called or label(field.name),
        "tooltip": meta.get("text", ""),
        "advanced": advanced or None,
        "optional": optional or None,
    }
    if "options" in meta:
        return make(io.Combo.Input, field.name, options=list(meta["options"]), **common)
    if isinstance(default, bool):
        return make(io.Boolean.Input, field.name, **common)
    if isinstance(default, int):
        low, high = int(meta["low"]), min(int(meta["high"]), LARGEST)
        if (
            field.name == "seed"
        ):  # else the canvas draws a new one after each run, and nothing could be resumed
            common["control_after_generate"] = False
        return make(io.Int.Input, field.name, min=low, max=high, step=int(meta.get("step") or 1), **common)
    if isinstance(default, float):
        low, high = float(meta["low"]), float(meta["high"])
        step = meta.get("step") or _step(default, high)
        return make(io.Float.Input, field.name, min=low, max=high, step=step, round=_round(step), **common)
    return make(io.String.Input, field.name, multiline=field.name in LONG_TEXTS, **common)


def _step(default: float, high: float) -> float:
    """A step of the arrows that suits the default: a tenth of its leading digit, one for large ranges."""
    if default == 0:
        return 1.0 if high >= 1000 else 0.01
    return min(10.0 ** (math.floor(math.log10(abs(default))) - 1), 1.0)


def _round(step: float) -> float:
    """What typed values are rounded to: finer than the arrows, so that 23.976 stays 23.976."""
    return min(float(f"{step / 10:.1g}"), 0.001)


def identity(config: Any) -> dict[str, Any]:
    """What a checkpoint's name needs of a Config: all but `force`, which came later and changes no result."""
    return {name: value for name, value in asdict(config).items() if name != "force"}


def config_from(config: type[Any], values: dict[str, Any]) -> Any:
    """The Config with `values` for the fields it has; raises InputError for one out of range."""
    kinds = {f.name: type(f.default) for f in fields(config)}
    # a whole number typed into a FLOAT widget arrives as int
    return config(**{name: kinds[name](value) for name, value in values.items() if name in kinds})
