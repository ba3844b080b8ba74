"""Figures of a small video model on scenes that it was not trained on, and a sheet of frames.

python -m training.camera_video.evaluate RUN/video.safetensors --scenes 12 --sheet sheet.png
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.diffusion.camera_video import CameraVideoBackbone, load_camera_video_backbone
from engine.guidance.classifier_free import Guidance
from engine.guidance.video import VideoRequest, sample_video
from engine.models.camera_video import CameraVideo
from engine.models.camera_video.warp import filled_holes, warped
from training.reconstruction.data import HELD_OUT_SEED
from training.reconstruction.evaluate import Means, masked_psnr
from training.reconstruction.losses import pearson
from training.reconstruction.scenes import SceneShape

from .data import Clip, make_clip

# sampling steps that are compared
STEPS = (1, 2, 4, 8)


def held_out(index: int, pixels: int = 64, shape: SceneShape = SceneShape()) -> Clip:
    """An unseen clip: scene and path are those of the reconstruction model's `held_out`."""
    return make_clip(HELD_OUT_SEED + index, shape, pixels)


def as_backbone(model: CameraVideo) -> CameraVideoBackbone:
    """The network as sampling takes it."""
    return CameraVideoBackbone(model, name="camera video", fingerprint="")


def sampled(backbone: CameraVideoBackbone, clip: Clip, steps: int, seed: int = 0) -> Tensor:
    """Frames [T, S, S, 3] from a clip's first frame and path."""
    width, height = clip.cameras.sizes[0]
    request = VideoRequest(Guidance("", 1.0), len(clip.cameras), width, height, steps, seed=seed)
    *_, last = sample_video(backbone, request, clip.video[0], clip.rays)
    return backbone.decode(last.latents)[0].clamp(0, 1)


@torch.no_grad()
def evaluate(model: CameraVideo, clips: list[Clip], steps: Sequence[int] = STEPS) -> dict[str, float]:
    """Means over clips.

    Returns:
        psnr_{n}_steps of all frames but the first, and psnr_static_{n}_steps of what does not move; the same of the first
        frame repeated (still), of the first frame warped by the model's distances (warp) and by the true ones (true_warp);
        depth_error, the mean error of log distances, and depth_pearson.
    """
    backbone, means = as_backbone(model), Means()
    for clip in clips:
        video, rays = clip.video, clip.rays
        truth = clip.distances.float()
        guess = model.guess(video[None, 0], rays[None])
        frames, visible = warped(video[None, 0], truth[None], rays[None])
        versions = {
            "still": video[:1].expand_as(video),
            "warp": guess.frames[0],
            "true_warp": filled_holes(frames[0], visible[0]),
        }
        for n in steps:
            versions[f"{n}_steps"] = sampled(backbone, clip, n)
        static = (clip.moving == 0).float()[1:]
        for name, found in versions.items():
            means.add(f"psnr_{name}", masked_psnr(found[1:], video[1:], torch.ones_like(static)))
            means.add(f"psnr_static_{name}", masked_psnr(found[1:], video[1:], static))
        distances = model.config.distance * guess.log_distances.exp()
        known = truth > 0
        means.add(
            "depth_error", float((distances[0].log() - truth.clamp(min=1e-3).log())[known].abs().mean())
        )
        means.add("depth_pearson", float(pearson(distances, truth[None]).mean()))
    return means.rounded()


@torch.no_grad()
def sheet(model: CameraVideo, clips: list[Clip], steps: int) -> Tensor:
    """Rows of frames [H, W, 3]: of each clip the first frame, its distances, then true, warped and sampled frames."""
    backbone, rows = as_backbone(model), list[Tensor]()
    for clip in clips:
        video = clip.video
        guess = model.guess(video[None, 0], clip.rays[None])
        depth = (model.config.distance * guess.log_distances[0].exp() / 5)[..., None].expand(-1, -1, 3)
        found = sampled(backbone, clip, steps)
        cells = [video[0], depth]
        for t in (len(video) // 2, len(video) - 1):
            cells += [video[t], guess.frames[0, t], found[t]]
        rows.append(torch.cat(cells, dim=1))
    return torch.cat(rows).clamp(0, 1)


def save_sheet(model: CameraVideo, clips: list[Clip], path: Path, steps: int, zoom: int = 2) -> None:
    """Write `sheet` as an image."""
    from PIL import Image

    pixels = (sheet(model, clips, steps) * 255).round().byte().numpy()
    image = Image.fromarray(pixels)
    image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a model file")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument(
        "--steps", type=int, default=0, help="sampling steps of the sheet; 0: the model's own"
    )
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_camera_video_backbone(options.model).model
    clips = [held_out(i, model.config.pixels) for i in range(options.scenes)]
    if options.sheet:
        save_sheet(model, clips[:6], options.sheet, options.steps or model.config.steps)
    print(json.dumps(evaluate(model, clips)))


if __name__ == "__main__":
    main()
