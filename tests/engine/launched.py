"""Small trainings for `accelerate launch`: `launched.py OUT NAME…` runs some of JOBS and writes their weights into OUT.

tests/engine/test_training_processes.py launches it, and calls the same functions in one process.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from engine.errors import InputError
from tests.tiny_image_model import VIDEO
from training.camera_video import data as video_data
from training.camera_video import train as camera_video
from training.common.loop import LoopConfig
from training.common.processes import Processes
from training.common.samples import open_samples
from training.reconstruction import data as samples
from training.reconstruction import scenes
from training.reconstruction import train as reconstruction
from training.variation_field import data as clips
from training.variation_field import vae
from training.variation_field.losses import VaeWeights

SCENE = scenes.SceneShape(frames=5)
STEPS = 3
LDRM = replace(
    reconstruction.CONFIG, width=24, blocks=1, heads=2, deconv_channels=(12, 10, 8), head_channels=12, match_channels=8
)  # fmt: skip
VAE = vae.VariationVaeShape(1, 48, 8, 4, 4, appearance_input=True)


def loop(**more):
    # a norm that clips every step
    return LoopConfig(**{"steps": STEPS, "lr": 1e-3, "warmup": 2, "clip": 0.1, "save_every": 1, **more})


def of_video(out, batch, checkpoint=None, **more):
    """A small video model; `batch` samples in each part."""
    model = camera_video.new_model(VIDEO)
    training = camera_video.Training(batch=batch, pool=6)
    return camera_video.train_model(model, training, loop(**more), checkpoint, SCENE, report_every=1)


def of_reconstruction(out, batch, **more):
    """A small reconstruction model: two static steps, two with motion."""
    stages = (reconstruction.Stage(0.5, 16, False), reconstruction.Stage(0.5, 32, True))
    training = reconstruction.Training(stages=stages, batch=batch, queries=2, pool=3)
    model, shape = reconstruction.new_model(LDRM), reconstruction.SampleShape
    reconstruction.SampleShape = lambda size: samples.SampleShape(SCENE, size=size, views=5)
    try:
        return reconstruction.train_model(model, training, loop(**{"steps": 4, **more}))
    finally:
        reconstruction.SampleShape = shape


def of_variation(out, batch, **more):
    """A small VAE, whose images are fewer than its clips."""
    shape = clips.ClipShape(frames=5, points=96, gaussians=160, anchors=8)
    weights = VaeWeights(truth=1.0)
    training = vae.VaeTraining(weights, batch=batch, frames=2, gaussians=32, images=3, image_steps=1)
    pool = clips.Pool(4, {"limbed": 1, "bending": 1}, shape)
    return vae.train_vae(vae.new_vae(VAE), pool, training, loop(**more))


def uninterrupted(out, batch, checkpoint=None):
    """Six steps with the shards of OUT."""
    kind = video_data.sample_kind(VIDEO.pixels)
    model, training = camera_video.new_model(VIDEO), camera_video.Training(batch=batch)
    data = open_samples(str(out / "shards"), kind)
    config = loop(steps=6, save_every=2)
    return camera_video.train_model(model, training, config, checkpoint, report_every=1, data=data)


def resumed(out, batch):
    """Goes on with checkpoint.pt of OUT."""
    return uninterrupted(out, batch, out / "checkpoint.pt")


def killed(out, batch):
    """The same, but the last process dies in its fourth step."""
    steps, calls = camera_video.loss_steps, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 4 and Processes().index:
            os.kill(os.getpid(), signal.SIGKILL)
        return steps(*arguments)

    camera_video.loss_steps = dying
    return resumed(out, batch)


def apart(out, batch):
    """Processes that do not see the same checkpoint; each writes what it is told."""
    model = of_video(out, batch, out / "apart0.pt", steps=1)
    index = Processes().index
    try:
        of_video(out, batch, out / f"apart{index}.pt")
    except InputError as error:
        (out / f"apart{index}.txt").write_text(str(error))
    return model


JOBS = {
    f.__name__: f for f in (of_video, of_reconstruction, of_variation, uninterrupted, resumed, apart, killed)
}


def main():
    torch.set_num_threads(1)
    out, names = Path(sys.argv[1]), sys.argv[2:]
    for name in names:
        model = JOBS[name](out, 2 if name != "of_reconstruction" else 1)
        torch.save(model.state_dict(), out / f"{name}.{Processes().index}.pt")


if __name__ == "__main__":
    main()
