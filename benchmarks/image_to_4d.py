"""How well one image, or a video of it, becomes a moving scene, on made scenes that no training saw.

    python benchmarks/image_to_4d.py --json [--model FOLDER] [--scenes N] [--quick]

`full` is the reconstruction model's scene of the true video, `from_image` that of the video which the small video model makes
of its first frame and path. `lift` is Lift Video to 4D with true depth and cameras, `lift_refined` the same refined by Train
4D Scene, `lift_optimise` refined until it reaches the PSNR of `full` on the path. Each has psnr_first (the first camera of
the path, at its frame), psnr_path (all cameras of the path), psnr_novel and ssim_novel (15 to 25 degrees off it), psnr_moving
(inside what moves there), depth_pearson, track_error and track_error_still (distance of moving points from where they are,
and of standing still), camera_error (of cameras solved from the rendered path, in parts of its length), and seconds.

`without_deformation` is `full` standing still. `without_motion_loss`, `without_correspondence` and `one_stage` are other
trainings of the same length (training.reconstruction.train with --no-motion-loss, --correspondences none, --stages one), read
from `without_motion_loss.safetensors` … in --model. `nearest_frame` shows the nearest frame of the true video. `full_size` is
one pass of the full size with random weights on CUDA, 49 frames of 720×480, and a rendered frame.

What cannot be measured is null, with its reason in `reasons`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.made_scenes import mean_rows, measured
from engine.deform import Static
from engine.diffusion.camera_video import CameraVideoBackbone, load_camera_video_backbone
from engine.generation.image_models import BUNDLED, LDRM, VIDEO
from engine.generation.reconstruction import Pass, reconstruct
from engine.guidance.classifier_free import Guidance
from engine.guidance.video import VideoRequest, sample_video
from engine.messages import result
from engine.models.reconstruction import Ldrm, LdrmConfig, load_ldrm, pixels_to_latents
from engine.render import choose, render_gaussians
from engine.render.camera_paths import CameraPath
from engine.scene import Cameras, Scene4D
from engine.steps import camera_path, fit_scene, lift_video
from training.reconstruction.data import Sample, own_frames
from training.reconstruction.evaluate import held_out, masked_psnr, nearest_frames

ROWS = (
    "full",
    "from_image",
    "without_motion_loss",
    "without_deformation",
    "without_correspondence",
    "one_stage",
    "lift",
    "lift_refined",
    "lift_optimise",
)
# trainings with one switch changed, by their file names in the model's folder
TRAININGS = ("without_motion_loss", "without_correspondence", "one_stage")
# iterations of the refinement, and of the search for equal PSNR
REFINED, STRIDE, MOST = 200, 100, 2000
# width and height of the full size
FULL_SIZE = (720, 480, 49)

Rows = dict[str, list[dict[str, float | None]]]


def scene_of_video(model: Ldrm, video: Tensor, latents: Tensor, path: Cameras) -> Scene4D:
    """One pass; frames are a second apart."""
    return reconstruct(model, latents, path, seconds_of(path), Pass(), video)


def seconds_of(path: Cameras) -> Tensor:
    return torch.arange(len(path), dtype=torch.float64)


def generated(backbone: CameraVideoBackbone, sample: Sample) -> tuple[Tensor, Tensor]:
    """Latents [C, n, h, w] and frames [T, H, W, 3] from the first frame and the path."""
    width, height = sample.path.sizes[0]
    advised = backbone.defaults
    request = VideoRequest(
        Guidance("", advised.guidance_scale), len(sample.path), width, height, advised.steps
    )
    *_, last = sample_video(backbone, request, sample.video[0], sample.rays)
    return last.latents[0], backbone.decode(last.latents)[0].clamp(0, 1)


def timed(work: Callable[[], Scene4D]) -> tuple[Scene4D, float]:
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


def model_rows(folder: Path, samples: list[Sample], reasons: dict[str, str]) -> Rows:
    """Rows of the reconstruction model, with and without the video model."""
    rows: Rows = {}
    model = load_ldrm(folder / LDRM)
    own = own_frames(model.config, len(samples[0].path))
    for sample in samples:
        video = sample.video
        latents = pixels_to_latents(video[None], model.config.latent)[0]
        scene, seconds = timed(lambda v=video, z=latents, s=sample: scene_of_video(model, v, z, s.path))
        rows.setdefault("full", []).append(measured(scene, sample, own, seconds))
        still = scene.with_(deformation=Static())
        rows.setdefault("without_deformation", []).append(measured(still, sample, own, seconds))
    for name in TRAININGS:
        if not (folder / f"{name}.safetensors").is_file():
            reasons[name] = f"{folder.name} has no {name}.safetensors"
            continue
        other = load_ldrm(folder / f"{name}.safetensors")
        for sample in samples:
            latents = pixels_to_latents(sample.video[None], other.config.latent)[0]
            scene, seconds = timed(lambda z=latents, s=sample, m=other: scene_of_video(m, s.video, z, s.path))
            rows.setdefault(name, []).append(measured(scene, sample, own, seconds))
    if not (folder / VIDEO).is_file():
        reasons["from_image"] = f"{folder.name} has no {VIDEO}"
        return rows
    backbone = load_camera_video_backbone(folder / VIDEO)
    for sample in samples:
        start = time.perf_counter()
        latents, video = generated(backbone, sample)
        scene = scene_of_video(model, video, latents, sample.path)
        seconds = time.perf_counter() - start
        rows.setdefault("from_image", []).append(measured(scene, sample, own, seconds))
    return rows


def lift_rows(samples: list[Sample], goals: list[float], most: int) -> Rows:
    """Lift Video to 4D with true depth and cameras, and trained on from there.

    Args:
        samples: The scenes.
        goals: PSNR on the path at which each optimization ends; none: it is left out.
        most: Iterations at most.
    """
    rows: Rows = {}
    for i, sample in enumerate(samples):
        count, own = len(sample.path), [0, len(sample.path) // 2, len(sample.path) - 1]
        path = CameraPath(sample.path, seconds_of(sample.path), 1.0)
        depth, masks = sample.depths[:count].float(), (sample.moving[:count] > 0.5).float()
        start = time.perf_counter()
        config = lift_video.Config(frames_per_second=1.0)
        lifted = result(lift_video.run(sample.video, depth, path, masks, config))
        spent = time.perf_counter() - start
        rows.setdefault("lift", []).append(measured(lifted.scene, sample, own, spent))
        goal, is_reached = (goals[i] if goals else None), False
        for done, scene, seconds in trained_on(lifted, most):
            row = measured(scene, sample, own, spent + seconds)
            if done >= min(REFINED, most) and len(rows.get("lift_refined", [])) <= i:
                rows.setdefault("lift_refined", []).append(row)
            if goal is not None and not is_reached and ((row["psnr_path"] or 0) >= goal or done >= most):
                rows.setdefault("lift_optimise", []).append(row)
                is_reached = True
            if done >= min(REFINED, most) and (is_reached or goal is None):
                break
    return rows


def trained_on(lifted: lift_video.Lifted, most: int) -> Iterator[tuple[int, Scene4D, float]]:
    """Iterations so far, the scene and the seconds of training it."""
    scene, done, spent = lifted.scene, 0, 0.0
    while done < most:
        count = min(STRIDE, most - done)
        config = fit_scene.Config(
            iterations=count, motion="per_frame", density="none", sh_degree=0, start_scale=1.0, depth_weight=0.1,
            track_weight=0.5, preview_every=0,
        )  # fmt: skip
        scene, seconds = timed(lambda c=config, s=scene: result(fit_scene.run(lifted.video, c, start=s)))
        done, spent = done + count, spent + seconds
        yield done, scene, spent


def full_size(device: str) -> dict[str, float] | None:
    """`one_pass` of the full size; None without CUDA."""
    if not device.startswith("cuda"):
        return None
    return one_pass(LdrmConfig(time_stride=4, space_stride=2), FULL_SIZE, device)


def one_pass(config: LdrmConfig, size: tuple[int, int, int], device: str) -> dict[str, float]:
    """Seconds and peak memory of a pass with random weights, and milliseconds of a rendered frame.

    Args:
        config: The reconstruction model.
        size: Width, height and frames.
        device: Where it runs.
    """
    width, height, frames = size
    has_gpu = device.startswith("cuda")
    wait = torch.cuda.synchronize if has_gpu else lambda: None
    model = Ldrm(config).to(device).eval()
    moves = camera_path.Config(kind="arc left", frames=frames, width=width, height=height)
    cameras, latent = camera_path.make(None, moves).cameras, config.latent
    cells = (latent.latents(frames), height // latent.space_factor, width // latent.space_factor)
    latents = torch.randn(latent.channels, *cells)
    video = torch.rand(frames, height, width, 3) if config.image_input else None
    settings = Pass(1.0 / config.distance)
    if has_gpu:
        torch.cuda.reset_peak_memory_stats()
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        scene, seconds = timed(
            lambda: reconstruct(model, latents, cameras, seconds_of(cameras), settings, video)
        )
    peak = torch.cuda.max_memory_allocated() >> 20 if has_gpu else 0
    first, rasterizer = scene.to(device).at(float(scene.times[1])), choose("auto", device)
    with torch.no_grad():
        render_gaussians(first, cameras[1], rasterizer)
        wait()
        start = time.perf_counter()
        for _ in range(10):
            render_gaussians(first, cameras[1], rasterizer)
        wait()
    ms = 100 * (time.perf_counter() - start)
    return {"seconds": round(seconds, 2), "peak_mb": peak, "ms_a_frame": round(ms, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--model", type=Path, default=BUNDLED, help=f"folder with {LDRM} and {VIDEO}")
    parser.add_argument("--scenes", type=int, default=8, help="unseen scenes")
    parser.add_argument("--quick", action="store_true", help="one scene, few iterations, to see that it runs")
    parser.add_argument("--only", choices=["model", "lift"], help="one part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(report(options), indent=None if options.json else 1))


def report(options: argparse.Namespace) -> dict[str, Any]:
    """All rows; those that could not be measured are null."""
    count, most = (1, 4) if options.quick else (options.scenes, MOST)
    reasons: dict[str, str] = {}
    weights = options.model / LDRM
    has_model = weights.is_file()
    # without a model, cells of the truth are those of a model with strides of 4 frames and 2 pixels
    config = load_ldrm(weights).config if has_model else LdrmConfig(time_stride=4, space_stride=2)
    samples = [held_out(i, config) for i in range(count)]
    rows: Rows = {}
    if not has_model:
        reason = f"{options.model.name} is not there; choose a folder with --model"
        reasons |= dict.fromkeys(("full", "from_image", "without_deformation", *TRAININGS), reason)
    elif options.only != "lift":
        rows |= model_rows(options.model, samples, reasons)
    if options.only != "model":
        goals = [float(row["psnr_path"] or 0) for row in rows.get("full", [])]
        rows |= lift_rows(samples, goals, most)
        if not goals:
            reasons["lift_optimise"] = "there is no PSNR of a model to reach"
    found: dict[str, Any] = {name: mean_rows(rows[name]) if rows.get(name) else None for name in ROWS}
    nearest: list[float] = []
    for sample in samples:
        novel = sample.images[len(sample.path) :].float() / 255
        nearest.append(masked_psnr(nearest_frames(sample), novel, torch.ones(novel.shape[:3])))
    found["nearest_frame"] = {"psnr_novel": round(sum(nearest) / len(nearest), 4)}
    found["full_size"] = full_size("cuda" if torch.cuda.is_available() else "cpu")
    if found["full_size"] is None:
        reasons["full_size"] = "no GPU"
    skipped = {name: "left out by --only" for name in ROWS if found[name] is None and name not in reasons}
    return {
        **found,
        "scenes": count,
        "reasons": {**reasons, **skipped},
        "env": environment("cpu", 0),
    }


if __name__ == "__main__":
    main()
