"""Write made samples as WebDataset shards, which the trainings read with --data.

OMP_NUM_THREADS=1 python -m training.shards camera-video --out SHARDS --samples 1000
python -m training.camera_video.train --out RUN --data SHARDS

A sample is two files of a .tar file: KEY.safetensors with its tensors and KEY.json with its kind, seed and options. A shard is
written whole or not at all, and one that exists is not made again, so that a killed run goes on; one of other options is refused.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from engine.errors import InputError
from engine.files.atomic import make_folder, write_atomically
from training.camera_video.data import make_clip
from training.camera_video.train import CONFIG as VIDEO
from training.common.checkpoints import differences
from training.common.options import count, script
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


def check_shard(path: Path, keys: list[str], described: dict[str, Any]) -> None:
    """InputError where a shard that exists has other samples than those of `keys`, or made in another way."""
    try:
        with tarfile.open(path) as tar:
            there = list(dict.fromkeys(name.partition(".")[0] for name in tar.getnames()))
            file = tar.extractfile(f"{there[0]}.json") if there else None
            then = json.loads(file.read()) if file is not None else {}
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            "NET-015",
            f"{path.name} cannot be read as a shard ({type(error).__name__}). Remove it to make it again.",
        ) from error
    other = differences(then, described)
    if there != keys:
        other.append(f"samples is {len(there)}, not {len(keys)}")
    if other:
        raise InputError(
            "NET-014",
            f"{path.name} exists and was made with other options: {'; '.join(other)}. Remove it, or choose another --out.",
        )


def files_of(fields: dict[str, Tensor], kind: str, seed: int, **made_with: Any) -> dict[str, bytes]:
    """The files of a sample."""
    tensors = {name: value.detach().clone().contiguous() for name, value in fields.items()}
    described = json.dumps({"kind": kind, "seed": seed, **made_with})
    return {"safetensors": to_safetensors(tensors), "json": described.encode()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=list(makers(0, False, [])))
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--samples", type=count, default=1000, help="default: %(default)s")
    parser.add_argument(
        "--per-shard", type=count, default=100, help="samples of a shard (default: %(default)s)"
    )
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
    if options.first < 0 or options.size < 0:
        parser.error("--first and --size must be at least 0")
    if options.first + options.samples > HELD_OUT_SEED:
        parser.error(f"seeds from {HELD_OUT_SEED} on are held out for evaluation")
    torch.set_num_threads(1)
    make_folder(options.out)
    make = makers(options.size, options.static, options.families)[options.kind]
    made_with = {"size": options.size, "static": options.static, "families": sorted(options.families)}
    end = options.first + options.samples
    shards = {
        options.out / f"{options.kind}-{start:08d}.tar": range(start, min(start + options.per_shard, end))
        for start in range(options.first, end, options.per_shard)
    }
    kept = [path for path in shards if path.is_file()]
    for path in kept:
        described = {"kind": options.kind, "seed": shards[path].start, **made_with}
        check_shard(path, [f"{seed:08d}" for seed in shards[path]], described)
    for path, seeds in shards.items():
        if path not in kept:
            write_shard(
                path,
                [(f"{seed:08d}", files_of(make(seed), options.kind, seed, **made_with)) for seed in seeds],
            )
        line = {"shard": path.name, "samples": len(seeds)}
        print(json.dumps(line | ({"kept": True} if path in kept else {})), flush=True)


if __name__ == "__main__":
    script(main)
