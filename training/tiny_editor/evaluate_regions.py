"""Figures of edits of a part, with a pattern or with snow, and of look-up tables of colors beside them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.figures import contact_sheets

from . import dataset, edits, lookup, regions, testset
from .regions import FloatArray


class Editor(Protocol):
    """`evaluate.Editor`."""

    known: frozenset[str]  # names of the edits that the model was trained on

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...

    def edit(self, z_image: Tensor, sentences: list[str]) -> Tensor: ...


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * float((a - b).square().mean().clamp(min=1e-10).log10())


def tensor(x: np.ndarray) -> Tensor:
    """[H, W, 3] to [1, 3, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).permute(2, 0, 1)[None]


def figures(editor: Editor, bank: Path | None) -> dict:
    """{subject: {edit: {unedited, ceiling, edited, table, best_table}}}, PSNR in dB, over images that show the part.

    table: the best look-up table of colors for the training subjects of `bank`, with the true coverage; best_table: the
    best one for the very pair of image and truth, which no editor could know.
    """
    tables = {} if bank is None else learned(bank, (*edits.TEN, *regions.NAMES))
    out: dict[str, dict] = {}
    for subject, compositions in testset.region_compositions().items():
        rows: dict[str, dict[str, list[float]]] = {}
        for c in compositions:
            x = c.picture()
            z = editor.encode(tensor(x))
            names = [n for n in (*regions.NAMES, *edits.TEN) if n in c.edits() and n in editor.known]
            sentences = [edits.PHRASINGS[n][0] for n in names]
            edited = editor.decode(editor.edit(z.expand(len(names), -1, -1, -1), sentences))
            for k, name in enumerate(names):
                y = c.picture(name)
                truth = tensor(y)
                row = rows.setdefault(name, {})
                found = {
                    "unedited": psnr(tensor(x), truth), "ceiling": psnr(editor.decode(editor.encode(truth)), truth),
                    "edited": psnr(edited[k : k + 1], truth), "best_table": psnr(tensor(lookup.best(x, y)), truth),
                }  # fmt: skip
                if name in tables:
                    mapped = lookup.apply(tables[name], c.colour).astype(np.float32)
                    found["table"] = psnr(tensor(dataclasses.replace(c, colour=mapped).picture()), truth)
                for key, value in found.items():
                    row.setdefault(key, []).append(value)
        out[subject] = {
            n: {k: round(float(np.mean(v)), 2) for k, v in row.items()} | {"images": len(row["edited"])}
            for n, row in rows.items()
        }
    return out


def sheet(editor: Editor, path: Path, height: int = 160) -> None:
    """Pairs of rows: ground truth, then result; the columns are the main edits of parts."""
    names = ["none", *regions.MAIN]
    stacks: list[list[torch.Tensor]] = [[] for _ in names]
    for subject, numbers in (
        ("faces", (0, 2)),
        ("avatar", (0, 2)),
        ("talking_head", (0, 1)),
        ("walker", (0,)),
    ):
        for k in numbers if subject in testset.region_compositions() else ():
            c = testset.region_compositions()[subject][k]
            z = editor.encode(tensor(c.picture())).expand(len(names), -1, -1, -1)
            y = editor.decode(editor.edit(z, [edits.PHRASINGS[n][0] for n in names]))
            truth = torch.cat([tensor(c.picture(n)) for n in names])
            for line in (truth, y):
                small = F.interpolate(
                    line, size=(height, round(height * line.shape[-1] / line.shape[-2])), mode="area"
                )
                width = height * 3 // 4
                gap = max(0, width - small.shape[-1])
                small = F.pad(small, (gap // 2, gap - gap // 2), value=1.0)[..., :width]
                for stack, picture in zip(stacks, small, strict=True):
                    stack.append(picture.permute(1, 2, 0))
    contact_sheets.sheet(stacks, names, len(names), tile=height * 3 // 4).save(path, quality=85)


def learned(bank: Path, names: tuple[str, ...], images: int = 240) -> dict[str, FloatArray]:
    """The best table of each edit for the subjects of a bank, background aside: heads and bodies with layers.

    Args:
        bank: Folder of `dataset.Bank`.
        names: The edits.
        images: Cut-outs to fit to.
    """
    rng = np.random.default_rng(5)
    shards = dataset.Bank(bank, {"painted": 0.6, "bodies": 0.4})
    before: list[FloatArray] = []
    layers: list[FloatArray] = []
    for _ in range(images):
        picture = shards.draw(rng)[1].astype(np.float32) / 255
        inside = np.flatnonzero(picture[..., 3].ravel() > 0.99)
        chosen = picture.reshape(-1, picture.shape[-1])[
            rng.choice(inside, min(1500, len(inside)), replace=False)
        ]
        before.append(chosen[:, :3])
        layers.append(chosen[:, 4:])
    colors, shares = np.concatenate(before), np.concatenate(layers)
    out = {}
    for name in names:
        if name in regions.NAMES:
            needed = [k for k, layer in enumerate(regions.LAYERS) if layer in regions.needed(name)]
            # A table for shirts is fitted to subjects that wear one.
            there = np.concatenate([np.full(len(a), a[:, needed].max() > 0.5) for a in layers])
            after = np.clip(regions.apply(name, colors[there], shares[there]), 0, 1)
            out[name] = lookup.fit(colors[there], after)
        else:
            out[name] = lookup.fit(colors, np.clip(edits.FUNCTIONS[name](colors), 0, 1))
    return out
