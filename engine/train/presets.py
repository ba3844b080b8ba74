"""Quality presets: values for many training parameters at once, chosen by name, by device and by capture.

A preset is nothing but numbers: `resolved` puts them into the config, which is then trained, recorded and resumed as if they
had been entered one by one. Values that differ from their defaults are the user's own and stay.

Where the values come from:

* draft: measured on the demo capture on two CPU cores (docs/benchmarks.md).
* standard: for a GPU. Iterations, SH degree and field are those that 4DGaussians publishes for real captures; 100,000
  Gaussians is about what its models of them contain; initial Gaussians is the most points that it starts from. What is
  better than the paper's on the demo (frame order, small images first, averaged end, recycling, learning rates) stays at
  this project's defaults.
* paper: github.com/hustvl/4DGaussians, arguments/{dynerf,hypernerf,dnerf} and the defaults in arguments/__init__.py, commit
  843d5ac (facts only). Its coarse and fine iterations are added up here. What has no counterpart here differs: a step takes
  several views of one frame instead of several frames; densification ends at 60 % of all iterations; opacity is never reset
  (as published for dynerf and hypernerf; dnerf resets it every 3000 iterations); the field's learning rates fall to a tenth
  (dnerf: a hundredth); positions are measured in radii of the subject instead of the cameras' spread.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import torch

from ..errors import InputError
from ..fields import caption_of, id_of, label_of
from ..scene import MultiViewVideo, Scene4D, Static
from ..wording import shown

QUALITIES = ("custom", "auto", "draft", "standard", "paper")

Values = dict[str, Any]

# learning rates of this project, which suit few iterations and many alike
RATES: Values = {
    "position_lr": 4e-4,
    "scale_lr": 1e-2,
    "rotation_lr": 1e-3,
    "opacity_lr": 0.05,
    "color_lr": 2.5e-3,
    "grid_lr": 1e-2,
    "network_lr": 5e-4,
}
DRAFT: Values = {
    "iterations": 1500,
    "budget": 3000,
    "motion": "small",
    "initialization": "auto",
    "sh_degree": 1,
    "density": "fixed budget",
    "initial_count": 3000,
    "coarse_fraction": 0.1,
    "views_per_step": 2,
    "ssim_weight": 0.2,
    "mask_weight": 0.1,
    "start_scale": 0.5,
    "full_size_at": 0.4,
    "still_threshold": 0.0005,
    "averaged": 0.15,
    "min_views": 0,
    "order": "auto",
    **RATES,
}
# the motion is that of PAPER
STANDARD: Values = {
    **DRAFT,
    "iterations": 14_000,
    "budget": 100_000,
    "sh_degree": 3,
    "initial_count": 40_000,
}
_REAL: Values = {
    # 3000 coarse and 14,000 fine
    "iterations": 17_000,
    "coarse_fraction": 3 / 17,
    # no densification beyond
    "budget": 360_000,
    "motion": "dynerf",
    "initialization": "auto",
    "sh_degree": 3,
    "density": "adaptive",
    "initial_count": 40_000,
    "views_per_step": 4,
    "ssim_weight": 0.0,
    "mask_weight": 0.0,
    "start_scale": 1.0,
    "full_size_at": 0.0,
    "still_threshold": 0.0,
    "averaged": 0.0,
    "min_views": 1,
    "order": "all at once",
    "position_lr": 1.6e-4,
    "scale_lr": 5e-3,
    "rotation_lr": 1e-3,
    "opacity_lr": 0.05,
    "color_lr": 2.5e-3,
    "grid_lr": 1.6e-3,
    "network_lr": 1.6e-4,
}
# by the size of the field, which is named after the data set
PAPER: dict[str, Values] = {
    "dynerf": _REAL,
    "hypernerf": {**_REAL, "motion": "hypernerf", "views_per_step": 2},
    "dnerf": {
        **_REAL,
        # 3000 coarse and 20,000 fine
        "iterations": 23_000,
        "coarse_fraction": 3 / 23,
        "motion": "dnerf",
        "initialization": "random",
        "initial_count": 2000,
        "views_per_step": 1,
    },
}
CAPTURES = {
    "dynerf": "DyNeRF, several cameras",
    "hypernerf": "HyperNeRF, one moving camera",
    "dnerf": "D-NeRF, synthetic",
}
# parameters that presets set
PARAMETERS = tuple(DRAFT)
# defaults of earlier versions: graphs that were saved then hold them, and nobody chose them
FORMER_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "iterations": (5000,),
    "budget": (5000,),
    "initial_count": (4000,),
}


def resolved(
    config: Any, device: torch.device | str, video: MultiViewVideo, start: Scene4D | None = None
) -> tuple[Any, Values]:
    """Put the values of the config's preset into the config.

    Args:
        config: A FitConfig.
        device: What is trained on; "auto" depends on it.
        video: The capture, which decides among the data sets of the paper.
        start: The scene to start from, whose motion a preset does not change.

    Returns:
        The config with the preset's values and quality "custom", and what was done, for the history, as plain JSON: empty
        for quality "custom", which leaves the config as it is.

    Raises:
        InputError: `quality_keeps` names something that is not a parameter.
    """
    if config.quality == "custom":
        return config, {}
    kind = torch.device(device).type
    data_set = _data_set(config, video)
    name, values = _preset(config.quality, kind, data_set)
    if start is not None and not isinstance(start.deformation, Static):
        values.pop("motion", None)
    keeps, known = kept(config), {f.name: f for f in fields(config)}
    own = [
        n
        for n in values
        if n in keeps or getattr(config, n) not in (known[n].default, *FORMER_DEFAULTS.get(n, ()))
    ]
    taken = {n: value for n, value in values.items() if n not in own}
    found: Values = {
        "asked": config.quality,
        "preset": name,
        "device": kind,
        "values": {id_of(known[n]): value for n, value in taken.items()},
        "own": {id_of(known[n]): getattr(config, n) for n in own},
    }
    if name == "paper":
        found["data_set"] = data_set
    return replace(config, quality="custom", quality_keeps="", **taken), found


def kept(config: Any) -> set[str]:
    """Fields that `quality_keeps` of a FitConfig names, by name, id or label. Raises InputError."""
    names = {
        _plain(word): f.name
        for f in fields(config)
        if f.name in PARAMETERS
        for word in (f.name, id_of(f), label_of(f), caption_of(f))
    }
    wanted = [each for each in map(_plain, config.quality_keeps.split(",")) if each]
    if unknown := [each for each in wanted if each not in names]:
        raise InputError(
            "TRN-046",
            f"quality keeps: {shown(unknown[0], 40)} is not a parameter that quality sets. Enter names such as 'iterations, max "
            "Gaussians, motion, SH degree', separated by commas.",
        )
    return {names[each] for each in wanted}


def preset_text(found: Values, config: type[Any]) -> str:
    """A few lines about what `resolved` did, with the values that are not the defaults of `config`, which is FitConfig."""
    if not found:
        return ""
    known = {id_of(f): f for f in fields(config)}

    def listed(values: Values) -> str:
        return ", ".join(f"{label_of(known[n])} {_number(value)}" for n, value in values.items())

    changed = {n: value for n, value in found["values"].items() if value != known[n].default}
    name = found["preset"] or "no preset, all parameters as they are"
    if found["preset"] == "paper":
        name += f" ({CAPTURES[found['data_set']]})"
    asked = f"auto on {found['device']}: " if found["asked"] == "auto" else ""
    lines = [f"quality {asked}{name}" + (f": {listed(changed)}" if changed else "")]
    if found["own"] and found["preset"]:
        lines.append(f"your own values: {listed(found['own'])}")
    if found["preset"] in ("standard", "paper") and found["device"] == "cpu":
        lines.append(
            f"quality {found['preset']} is made for a GPU and takes hours on the CPU; draft takes minutes"
        )
    return "\n".join(lines)


def _preset(quality: str, device: str, data_set: str) -> tuple[str, Values]:
    """(name, values) of a preset; an empty name where the config's values stay."""
    if quality == "auto":
        quality = "standard" if device == "cuda" else ""
    if quality == "paper":
        return quality, dict(PAPER[data_set])
    if quality == "standard":
        return quality, {**STANDARD, "motion": PAPER[data_set]["motion"]}
    return quality, dict(DRAFT) if quality == "draft" else {}


def _data_set(config: Any, video: MultiViewVideo) -> str:
    """The data set of the paper that is most like the capture: the motion names it, else the layout, else the cameras."""
    for named in (config.motion, video.layout):
        if named in PAPER:
            return named
    views = list(video.views_to_train())
    several = bool(views) and int(video.available[views].sum(dim=0).max()) > 1
    return "dynerf" if several else "hypernerf"


def _plain(word: str) -> str:
    """A parameter's name without what people write in different ways."""
    return re.sub(r"[^a-z0-9]+", " ", word.lower()).strip()


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
