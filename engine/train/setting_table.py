"""The table of an edited head: one row for each setting (see edit_settings.py), one column for each measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..deform.head_scenes import has_head
from ..losses.means import Number, as_json
from ..render import Rasterizer
from ..scene import Scene4D
from .edit_measures import MeasureSettings, Networks
from .edit_settings import Setting, SettingInputs, measurable_parts, settings_of
from .setting_measures import SettingMeasures

COLUMNS = (
    "clip_s_sim",
    "clip_s_dir",
    "clip_c_adjacent",
    "clip_c_direction",
    "psnr_eyes",
    "ssim_eyes",
    "psnr_mouth",
    "ssim_mouth",
    "change_inside",
    "change_outside",
    "flow_warp_error",
    "flow_warp_error_original",
)


@dataclass(frozen=True)
class SettingRow:
    """The measures of one setting."""

    name: str
    images: int
    numbers: tuple[Number, ...]

    def __getitem__(self, name: str) -> float:
        """The value of that name; KeyError where it was not measured."""
        return {n.name: n.value for n in self.numbers}[name]


@dataclass(frozen=True)
class SettingTable:
    """One row for each setting, and a column for each measure that any of them has."""

    rows: tuple[SettingRow, ...] = ()

    def __getitem__(self, name: str) -> SettingRow:
        """The row of that name; KeyError where it was not measured."""
        return {row.name: row for row in self.rows}[name]

    def __len__(self) -> int:
        return len(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: by setting and measure."""
        return {row.name: {"images": row.images, **as_json(row.numbers)} for row in self.rows}

    def text(self) -> str:
        """Columns of fixed width; a dash where a row lacks a measure."""
        measured = {n.name for row in self.rows for n in row.numbers}
        columns = [name for name in COLUMNS if name in measured]
        lines = [["setting", *columns, "images"]]
        for row in self.rows:
            values = {n.name: f"{n.value:.4f}" for n in row.numbers}
            lines.append([row.name, *(values.get(name, "–") for name in columns), str(row.images)])
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        return "\n".join(
            "  ".join(
                [line[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        )


class SettingsWork:
    """Measures one setting after the other, if the inputs ask for a table.

    Args:
        scene: The edited scene.
        original: The scene before the edit; None leaves everything out.
        inputs: What the settings are made from.
        every: Compares every n-th frame.
        wanted: Captions, and whether steadiness is measured.
        prompt: Of the edit: CLIP-S is the similarity with the target caption, else with this.
        device: Device to render on.
        rasterizer: Renders both scenes.
        networks: CLIP or none.

    Raises:
        InputError: `head`, `driver` or `region` does not belong to the scene.
    """

    def __init__(
        self,
        scene: Scene4D,
        original: Scene4D | None,
        inputs: SettingInputs,
        every: int,
        wanted: MeasureSettings,
        prompt: str,
        device: torch.device | str,
        rasterizer: Rasterizer,
        networks: Networks,
    ) -> None:
        self.inputs, self.wanted, self.device = inputs, wanted, device
        self.rasterizer, self.networks = rasterizer, networks
        self.text = wanted.target_caption or prompt
        self.settings: list[Setting] = []
        self.missing: list[str] = []
        self.table = SettingTable()
        self.parts: tuple[str, ...] = ()
        if not inputs:
            return
        if original is None:
            self.missing.append("The settings were skipped; they need the scene before the edit.")
            return
        if inputs.region is not None:
            for each in (scene, original):
                inputs.region.check(len(each.canonical))
        self.settings, missing = settings_of(scene, original, inputs, every)
        self.parts, without = measurable_parts(scene, inputs)
        self.missing += [*missing, *without, *self._left_out(scene)]

    def __len__(self) -> int:
        """The number of images."""
        return sum(map(len, self.settings))

    def _left_out(self, scene: Scene4D) -> list[str]:
        """What no setting measures."""
        found: list[str] = []
        if self.inputs.region is None:
            found.append(
                "Change inside and outside the edit was skipped; connect the selection that the edit was limited to."
            )
        if not self.wanted.wants_temporal:
            found.append("Flow-warped error was skipped; turn on 'measure temporal consistency'.")
        if has_head(scene):
            found.append(
                "Identity similarity is not measured; no face recognition network can be loaded here."
            )
        return found

    def rows(self) -> Iterator[tuple[Tensor, str]]:
        """Measure image by image: the comparison row of each, and a title where it is one to show."""
        for setting in self.settings:
            moved = replace(
                setting, scene=setting.scene.to(self.device), original=setting.original.to(self.device)
            )
            model = None if self.inputs.head is None else self.inputs.head.model
            measures = SettingMeasures(
                moved,
                self.parts,
                model,
                self.inputs.region,
                self.text,
                self.wanted,
                self.rasterizer,
                self.networks,
            )
            middle = (setting.views[len(setting.views) // 2], len(setting.seconds) // 2)
            for view in setting.views:
                for index, seconds in enumerate(setting.seconds):
                    name = f"{setting.scene.rig.names[view]} · {seconds:.2f} s · {setting.name}"
                    yield measures.image(view, index), name if (view, index) == middle else ""
                measures.finish_view()
            row = SettingRow(setting.name, len(setting), measures.means.numbers())
            self.table = SettingTable((*self.table.rows, row))
            self.missing += measures.missing()
        if self.text and self.networks.clip is not None and self.settings:
            self.missing.append(
                f"clip_s_sim is the similarity with '{self.text}' ({self.networks.clip_name})."
            )
