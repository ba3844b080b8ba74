"""Write made samples as WebDataset shards, which the trainings read with --data.

OMP_NUM_THREADS=1 python -m training.shards camera-video --out SHARDS --samples 1000
python -m training.camera_video.train --out RUN --data SHARDS

A sample is two files of a .tar file: KEY.safetensors with its tensors and KEY.json with its kind and seed. A shard is written
whole or not at all, and one that exists is not made again, so that a killed run goes on.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from engine.files.atomic import make_folder, write_atomically
from training.camera_video.data import make_clip
from training.camera_video.train import CONFIG as VIDEO
from training.common.options import script
from training.reconstruction.data import HELD_OUT_SEED, SampleShape, make_sample
from training.reconstruction.scenes import SceneShape
from training.reconstruction.train import CONFIG as LDRM
from training.variation_field import data as variation_field

# fields of the sample of a seed
Maker = Callable[[int], dict[str, Tensor]]


def makers(size: int, is_static: bool, families: list[str]) -> dict[str, Maker]:
    """How each kind of sample is made."""
    scene = SceneShape(movers=0) if is_static else SceneShape()
    shares = {family: variation_field.FAMILIES[family] for family in families}

    def variation(seed: int) -> dict[str, Tensor]:
        family = variation_field.family_of(seed, shares)
        return variation_field.make_clip(family, seed).packed().fields()

    return {
        "camera-video": lambda seed: make_clip(seed, scene, size or VIDEO.pixels).fields(),
        "reconstruction": lambda seed: make_sample(
            seed, replace(SampleShape(scene), size=size or SampleShape.size), LDRM
        ).fields(),
        "variation-field": variation,
    }


def write_shard(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> None:
    """Write samples, each a key and the contents of its files by ending; the same samples give the same bytes."""
    with write_atomically(path) as partial, tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for ending, data in files.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def files_of(fields: dict[str, Tensor], kind: str, seed: int) -> dict[str, bytes]:
    """The files of a sample."""
    tensors = {name: value.detach().clone().contiguous() for name, value in fields.items()}
    described = json.dumps({"kind": kind, "seed": seed})
    return {"safetensors": to_safetensors(tensors), "json": described.encode()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=list(makers(0, False, [])))
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--per-shard", type=int, default=100, help="samples of a shard")
    parser.add_argument(
        "--first", type=int, default=0, help="the first seed; each machine that writes has seeds of its own"
    )
    parser.add_argument(
        "--size", type=int, default=0, help="width and height of images; 0: the small model's"
    )
    parser.add_argument(
        "--static", action="store_true", help="nothing moves (the reconstruction model's first stages)"
    )
    parser.add_argument(
        "--families", nargs="+", choices=list(variation_field.FAMILIES), default=list(variation_field.FAMILIES),
        help="of moving subjects (variation-field)",
    )  # fmt: skip
    options = parser.parse_args()
    if options.samples < 1 or options.per_shard < 1 or options.first < 0:
        parser.error("--samples and --per-shard must be at least 1, --first at least 0")
    if options.first + options.samples > HELD_OUT_SEED:
        parser.error(f"seeds from {HELD_OUT_SEED} on are held out for evaluation")
    torch.set_num_threads(1)
    make_folder(options.out)
    make = makers(options.size, options.static, options.families)[options.kind]
    for start in range(options.first, options.first + options.samples, options.per_shard):
        path = options.out / f"{options.kind}-{start:08d}.tar"
        seeds = range(start, min(start + options.per_shard, options.first + options.samples))
        if not path.is_file():
            write_shard(path, [(f"{seed:08d}", files_of(make(seed), options.kind, seed)) for seed in seeds])
        print(json.dumps({"shard": path.name, "samples": len(seeds)}), flush=True)


if __name__ == "__main__":
    script(main)
