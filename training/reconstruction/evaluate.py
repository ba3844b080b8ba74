"""Figures of a model on scenes that it was not trained on, and a sheet of images.

python -m training.reconstruction.evaluate RUN/ldrm.safetensors --scenes 12 --sheet sheet.png
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.losses.means import Means
from engine.losses.metrics import decibels
from engine.losses.photometric import ssim
from engine.models.reconstruction import Ldrm, LdrmConfig, Motion, load_ldrm

from .data import HELD_OUT_SEED, Sample, SampleShape, sampled
from .losses import pearson
from .scenes import make_scene
from .train import draw, run
from .views import beside, camera_path

# degrees off the path, smallest and largest
OFF_PATH = (15.0, 25.0)
VIEWS = 8


def held_out(index: int, config: LdrmConfig, shape: SampleShape = SampleShape()) -> Sample:
    """An unseen sample whose views are all 15 to 25 degrees off the path, evenly over frames and on both sides."""
    seed = HELD_OUT_SEED + index
    generator = torch.Generator().manual_seed(seed)
    scene = make_scene(seed, shape.scene)
    path = camera_path(scene, generator, shape.size)
    at = torch.linspace(0, shape.scene.frames - 1, VIEWS).round().long()
    low, high = OFF_PATH
    degrees = torch.linspace(low, high, VIEWS) * torch.tensor([1.0, -1.0]).repeat(VIEWS // 2)
    rise = torch.tensor([2.0, 0.0, -2.0, 1.0]).repeat(VIEWS // 4)
    return sampled(scene, path, beside(path, scene, at, degrees, rise), at, config)


def masked_psnr(a: Tensor, b: Tensor, mask: Tensor) -> float:
    """PSNR of images [V, H, W, 3] over weighted pixels [V, H, W], of all views together."""
    squared = (a.clamp(0, 1) - b).square().mean(-1)
    return decibels(float((squared * mask).sum() / mask.sum().clamp(min=1e-6)))


def nearest_frames(sample: Sample) -> Tensor:
    """The input frame whose camera is nearest to each view off the path: its images [M, S, S, 3]."""
    count = len(sample.path)
    apart = torch.cdist(sample.cameras.centers[count:], sample.path.centers)
    return sample.images[apart.argmin(1)].float() / 255


def drawn_views(model: Ldrm, maps: Any, motion: Motion | None, sample: Sample) -> tuple[Tensor, Tensor]:
    """Images and depths of all views of a sample, each at its own frame."""
    found = [
        draw(maps, motion, int(t), sample.cameras[v], model.config.min_opacity)
        for v, t in enumerate(sample.frames)
    ]
    return torch.cat([rgb for rgb, _ in found]), torch.cat([depth for _, depth in found])


@torch.no_grad()
def evaluate(model: Ldrm, samples: list[Sample]) -> dict[str, float]:
    """Means over scenes.

    Returns:
        psnr_path; psnr_novel, psnr_moving (inside what moves), ssim_novel and depth_pearson (where the scene
        covers the pixel) of views off the path;
        psnr_static and psnr_moving_static: the same views with the deformation left out (lifetimes too); nearest_psnr and
        nearest_moving: of the nearest input frame; track_error and track_error_still: mean distance of points that move
        from where they are at all frames but their own.
    """
    means = Means()
    for sample in samples:
        count = len(sample.path)
        found = run(model, [sample])
        motion = model.motion(found, torch.arange(count).float()).settled(model.config.min_motion)
        images, depths = drawn_views(model, found.gaussians, motion, sample)
        true = sample.images.float() / 255
        moving = sample.moving.float()
        everywhere = torch.ones_like(moving)
        means.add("psnr_path", masked_psnr(images[:count], true[:count], everywhere[:count]))
        novel, wanted, mask = images[count:], true[count:], moving[count:]
        means.add("psnr_novel", masked_psnr(novel, wanted, everywhere[count:]))
        means.add("psnr_moving", masked_psnr(novel, wanted, mask))
        flat = (x.permute(0, 3, 1, 2) for x in (novel.clamp(0, 1), wanted))
        means.add("ssim_novel", float(ssim(*flat).mean()))
        seen = sample.depths[count:].float() * (depths[count:] > 0)
        means.add("depth_pearson", float(pearson(depths[count:], seen).mean()))
        static, _ = drawn_views(model, found.gaussians, None, sample)
        means.add("psnr_static", masked_psnr(static[count:], wanted, everywhere[count:]))
        means.add("psnr_moving_static", masked_psnr(static[count:], wanted, mask))
        nearest = nearest_frames(sample)
        means.add("nearest_psnr", masked_psnr(nearest, wanted, everywhere[count:]))
        means.add("nearest_moving", masked_psnr(nearest, wanted, mask))
        error, still = track_errors(motion.shifts[0], sample, found.gaussians.frames)
        means.add("track_error", error)
        means.add("track_error_still", still)
    return means.rounded()


def track_errors(shifts: Tensor, sample: Sample, own: Tensor) -> tuple[float, float]:
    """Mean distance from the truth of points that move, and of standing still.

    Args:
        shifts: Predicted displacements at all frames [A, T, C, C, 3].
        sample: The truth.
        own: The frames that the points are of [A].
    """
    truth = sample.shifts.float()
    counted = (sample.moves & sample.known)[:, None].expand(truth.shape[:-1]).clone()
    counted[torch.arange(len(own)), own] = False
    return (
        float((shifts - truth).norm(dim=-1)[counted].mean()),
        float(truth.norm(dim=-1)[counted].mean()),
    )


@torch.no_grad()
def sheet(model: Ldrm, samples: list[Sample]) -> Tensor:
    """Rows of images [H, W, 3]: for each sample, two views on the path and two off it.

    Each view is true, drawn, drawn without motion, and its depth.
    """
    rows: list[Tensor] = []
    for sample in samples:
        count = len(sample.path)
        found = run(model, [sample])
        motion = model.motion(found, torch.arange(count).float()).settled(model.config.min_motion)
        images, depths = drawn_views(model, found.gaussians, motion, sample)
        static, _ = drawn_views(model, found.gaussians, None, sample)
        cells: list[Tensor] = []
        for view in (0, 4, count + 1, len(sample.frames) - 2):
            depth = (depths[view] / 5)[..., None].expand(-1, -1, 3)
            cells += [sample.images[view].float() / 255, images[view], static[view], depth]
        rows.append(torch.cat(cells, dim=1))
    return torch.cat(rows).clamp(0, 1)


def save_sheet(model: Ldrm, samples: list[Sample], path: Path, zoom: int = 2) -> None:
    """Write `sheet` as an image."""
    from PIL import Image

    pixels = (sheet(model, samples) * 255).round().byte().numpy()
    image = Image.fromarray(pixels)
    image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a model file")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--static", action="store_true", help="scenes in which nothing moves")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_ldrm(options.model)
    shape = SampleShape()
    if options.static:
        shape = replace(shape, scene=replace(shape.scene, movers=0))
    samples = [held_out(i, model.config, shape) for i in range(options.scenes)]
    if options.sheet:
        save_sheet(model, samples[:6], options.sheet)
    print(json.dumps(evaluate(model, samples)))


if __name__ == "__main__":
    main()
