"""Figures of a trained model on clips that it was not trained on.

python -m training.variation_field.evaluate RUN --clips 12
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.losses.means import Means
from engine.losses.metrics import decibels
from engine.models.variation_field import VariationVae
from engine.models.variation_field.config import FILE
from training.common.options import script

from . import pictures
from .data import FAMILIES, HELD_OUT_FAMILY, Clip, held_out
from .dit import Generator, Latents, Prepared, sampled, trained_vae
from .export import from_run, loaded
from .losses import POSITIONS
from .vae import encoded

# beside the input view's own angle, all around
VIEWS = (1, 4, 8)
STEPS = (1, 4, 16)


def rendered_psnr(clip: Clip, deltas: Tensor | None, views: Iterable[int] = VIEWS) -> float:
    """PSNR of a clip, from the squared error of all views and frames but the first: some actions stand still for a while.

    Args:
        clip: The truth.
        deltas: [T, G, 14]; None: the canonical splat, standing still.
        views: Of a ring of twelve; view 0 is the input camera.
    """
    cameras = pictures.ring(12)[list(views)]
    errors: list[Tensor] = []
    with torch.no_grad():
        still = pictures.image(clip.at(0), cameras)
        for t in range(1, len(clip.deltas)):
            drawn = (
                still if deltas is None else pictures.image(pictures.changed(clip.raw, deltas[t]), cameras)
            )
            true = pictures.image(clip.at(t), cameras)
            errors.append((drawn.clamp(0, 1) - true.clamp(0, 1)).square().mean())
    return decibels(float(torch.stack(errors).mean()))


def position_error(clip: Clip, deltas: Tensor) -> float:
    """Mean distance of positions from the truth over frames 1 to T-1, in world units."""
    return float((deltas - clip.deltas.float())[1:, :, POSITIONS].norm(dim=-1).mean())


Decode = Callable[[Tensor, Tensor], Tensor]


def evaluate_vae(vae: VariationVae, clips: list[Clip], decode: Decode | None = None) -> dict[str, float]:
    """PSNR through the VAE and standing still, position errors of both.

    Args:
        vae: A VAE.
        clips: Unseen clips.
        decode: Latents [1, T, L, C] and vectors [1, G, 14] to deltas; None: the VAE's own.
    """
    means = Means()
    for clip in clips:
        with torch.no_grad():
            latents, _ = encoded(vae, [clip], torch.arange(len(clip.deltas))[None])
            deltas = (decode or vae.decode)(latents, clip.vector[None])[0]
        means.add("psnr", rendered_psnr(clip, deltas))
        means.add("psnr_still", rendered_psnr(clip, None))
        means.add("position_error", position_error(clip, deltas))
        means.add("position_error_still", position_error(clip, torch.zeros_like(deltas)))
    return means.rounded()


def evaluate_generated(
    network: Generator, latents: Latents, clips: list[Prepared], steps: Iterable[int] = STEPS
) -> dict[str, float]:
    """PSNR of motion generated from a video, by number of steps; with another clip's video; of the VAE; standing still."""
    means, steps = Means(), tuple(steps)

    def add(name: str, clip: Prepared, found: Tensor) -> None:
        with torch.no_grad():
            deltas = latents.vae.decode(found[None], clip.clip.vector[None])[0]
        means.add(f"psnr_{name}", rendered_psnr(clip.clip, deltas))
        means.add(f"position_error_{name}", position_error(clip.clip, deltas))

    for i, clip in enumerate(clips):
        for count in steps:
            add(f"{count}_steps", clip, sampled(network, latents.statistics, clip, count))
        other = clips[(i + 1) % len(clips)]
        foreign = Prepared(clip.clip, clip.latents, other.video, clip.tokens, clip.anchors)
        add("wrong_video", clip, sampled(network, latents.statistics, foreign, steps[0]))
        add("vae", clip, clip.latents)
        means.add("psnr_still", rendered_psnr(clip.clip, None))
        means.add("position_error_still", position_error(clip.clip, torch.zeros_like(clip.clip.deltas)))
    return means.rounded()


def families(with_held_out: bool = True) -> list[str]:
    """All families, the held-out one last."""
    return [*FAMILIES, *([HELD_OUT_FAMILY] if with_held_out else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an exported folder, or a run")
    parser.add_argument("--clips", type=int, default=12, help="of each family")
    parser.add_argument("--name", default="dit", help="checkpoint of a run")
    parser.add_argument("--families", nargs="*", default=families())
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    network, latents = None, None
    if (options.model / FILE).is_file():
        network, latents = loaded(options.model)
        vae = latents.vae
    else:
        vae = trained_vae(options.model)
        if (options.model / f"{options.name}.pt").is_file():
            network, latents = from_run(options.model, options.name)
    clips = {name: held_out(name, options.clips) for name in options.families}
    for name, some in clips.items():
        result[f"vae_{name}"] = evaluate_vae(vae, some)
        print(name, result[f"vae_{name}"], flush=True)
        if network and latents:
            prepared = [latents.prepared(c) for c in some]
            result[f"generated_{name}"] = evaluate_generated(network, latents, prepared)
            print(name, result[f"generated_{name}"], flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    script(main)
