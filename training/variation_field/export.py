"""Write a run as a folder for `VariationFolder`, and read one back for evaluation.

python -m training.variation_field.export RUN --out assets/models/tiny-variation-field
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.files.paths import printable
from engine.geometry.placement import BoxSides
from engine.models.variation_field import Sampling, VariationConfig, VariationFolder
from engine.models.variation_field.config import FILE
from training.common.checkpoints import load_average
from training.common.options import script

from . import pictures
from .data import ClipShape, Pool
from .dit import (
    CANONICAL_TOKENS,
    STATISTICS_CLIPS,
    Generator,
    Latents,
    new_generator,
    trained_vae,
)

# turned about z, a training clip's splat fills a larger box than it was scaled to
SIDES = BoxSides(least=0.4, most=1.35, wanted=0.85)


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision; the position code's frequencies stay in float64."""
    return {
        name: (value.half() if value.dtype == torch.float32 else value).contiguous()
        for name, value in state.items()
    }


def export(network: Generator, latents: Latents, out: Path, steps: int) -> None:
    """Write networks, statistics and description.

    Args:
        network: Transformer and image encoder, averaged weights.
        latents: The VAE and the statistics.
        out: The folder.
        steps: Recommended sampling steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = {
        "ema_diffusion": network.dit.state_dict(),
        "ema_deformation": latents.vae.state_dict(),
        "image_encoder": network.encoder.state_dict(),
    }
    for name, state in parts.items():
        save_file(half(state), out / f"{name}.safetensors")
    for name, value in asdict(latents.statistics).items():
        save_file({"tensor": value}, out / f"{name}.safetensors")
    config = VariationConfig(
        network.dit.shape,
        latents.vae.shape,
        network.encoder.shape,
        pictures.INPUT,
        CANONICAL_TOKENS,
        recommended=Sampling("multistep", steps, frames=ClipShape().frames, shared_noise=True),
        canonical_sides=SIDES,
    )
    text = json.dumps(config.to_json(), indent=1)
    (out / FILE).write_text(text + "\n", encoding="utf-8")


def loaded(folder: Path, pool: Pool | None = None) -> tuple[Generator, Latents]:
    """A folder's networks as the evaluation takes them."""
    found = VariationFolder(folder)
    encoder, dit = found.image_encoder(), found.transformer()
    if encoder is None:
        raise ValueError(f"{folder} has no image encoder")
    network = new_generator(dit.shape, encoder.shape)
    network.dit, network.encoder = dit, encoder
    return network.eval(), Latents(found.vae(), pool or Pool(1), found.statistics())


def from_run(run: Path, name: str = "dit") -> tuple[Generator, Latents]:
    """The networks of a training run, averaged weights; the statistics are those that it was trained with."""
    network = new_generator()
    command = f"python -m training.variation_field.dit --out {printable(str(run))} --name {printable(name)}"
    load_average(run / f"{name}.pt", network, command)
    return network.eval(), Latents(trained_vae(run), Pool(STATISTICS_CLIPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="dit")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1, help="recommended sampling steps")
    options = parser.parse_args()
    export(*from_run(options.run, options.name), options.out, options.steps)
    size = sum(f.stat().st_size for f in options.out.glob("*"))
    print(json.dumps({"mb": round(size / 1e6, 2)}))


if __name__ == "__main__":
    script(main)
