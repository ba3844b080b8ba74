"""Write both small models, half precision, as the folder that Generate 4D from Image takes.

python -m training.reconstruction.export RECONSTRUCTION VIDEO --steps 1 --out assets/models/tiny-diff4splat
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from engine.files.paths import printable
from engine.generation.image_models import LDRM, VIDEO
from engine.models.camera_video import CameraVideo, load_camera_video, save_camera_video
from engine.models.reconstruction import Ldrm, load_ldrm, save_ldrm
from training.camera_video.train import new_model as new_video_model
from training.common.checkpoints import load_average
from training.common.options import script

from .train import new_model


def reconstruction_of(run: Path) -> Ldrm:
    """The reconstruction model of a run, finished or not."""
    if (run / LDRM).is_file():
        return load_ldrm(run / LDRM)
    model = new_model()
    command = f"python -m training.reconstruction.train --out {printable(str(run))}"
    load_average(run / "checkpoint.pt", model, command)
    return model.eval()


def video_of(run: Path) -> CameraVideo:
    """The small video model of a run, finished or not."""
    if (run / VIDEO).is_file():
        return load_camera_video(run / VIDEO)
    model = new_video_model()
    command = f"python -m training.camera_video.train --out {printable(str(run))}"
    load_average(run / "checkpoint.pt", model, command)
    return model.eval()


def export(reconstruction: Ldrm, video: CameraVideo, steps: int, out: Path) -> None:
    """Write the folder.

    Args:
        reconstruction: The reconstruction model.
        video: The video model.
        steps: Its sampling steps where a user asks for none.
        out: The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    save_ldrm(reconstruction, out / LDRM, dtype=torch.float16)
    video.config = replace(video.config, steps=steps)
    save_camera_video(video, out / VIDEO, torch.float16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reconstruction", type=Path, help="run of training.reconstruction.train")
    parser.add_argument("video", type=Path, help="run of training.camera_video.train")
    parser.add_argument(
        "--steps", type=int, default=1, help="sampling steps, the best of camera_video.evaluate"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    export(reconstruction_of(options.reconstruction), video_of(options.video), options.steps, options.out)
    size = sum(file.stat().st_size for file in options.out.glob("*.safetensors"))
    print(json.dumps({"mb": round(size / 1e6, 2)}))


if __name__ == "__main__":
    script(main)
