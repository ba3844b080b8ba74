"""Latents of images and of their edits, in shards, for training the editor.

python -m training.tiny_editor.latents --bank BANK --out RUN --sizes 128x96 128x128 --shards 40
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from pathlib import Path

import numpy as np
import torch

from . import autoencoder, dataset, edits, photographs

NAMES = edits.NAMES
KINDS = ("procedural", "bodies", "heads", "splats", "photograph", "painted")


def load_autoencoder(run: Path) -> autoencoder.AutoencoderKL:
    """The whitened autoencoder."""
    vae = autoencoder.build()
    vae.load_state_dict(autoencoder.averaged(run / "whitened.pt"))
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def pale(c: dataset.Composition, rng: np.random.Generator) -> dataset.Composition | None:
    """The brightened subject on a background about as bright as its brightest parts; None if there are none.

    The editor separates pale clothes from a pale wall least reliably, and random compositions hardly contain this
    case.
    """
    inside = c.alpha > 0.5
    if c.busy or inside.mean() < 0.03:
        return None
    light = (c.colour @ np.array([0.299, 0.587, 0.114], np.float32))[inside]
    gain = rng.uniform(0.85, 1.0) / max(float(np.quantile(light, 0.93)), 1e-3)
    colour = np.clip(c.colour * min(gain, 2.5), 0, 1).astype(np.float32)
    # Most clothes are saturated: desaturate the brightest parts of some.
    if rng.random() < 0.5:
        grey = (colour @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
        white = np.clip((grey - np.quantile(grey[inside], 0.7)) / 0.15, 0, 1) * rng.uniform(0.5, 1)
        colour = colour + white * (np.clip(grey * 1.15, 0, 1) - colour)
    wall = rng.uniform(0.78, 1.0) + 0.015 * rng.normal(size=3)
    ground = np.broadcast_to(np.clip(wall, 0, 1).astype(np.float32), colour.shape)
    near = (np.abs(colour - ground).max(-1) < 0.15)[inside].mean()
    if near < 0.05:
        return None
    return dataclasses.replace(c, colour=colour.astype(np.float32), background=ground)


@torch.no_grad()
def shard(
    vae: autoencoder.AutoencoderKL,
    bank: dataset.Bank,
    seed: list[int],
    size: tuple[int, int],
    sources: int,
    each: int,
    only_pale: bool = False,
) -> dict[str, torch.Tensor]:
    """source (S, 4, h, w) and edited (S, each, 4, h, w) fp16 means, edit (S, each) and kind (S,)."""
    rng, words = np.random.default_rng(seed), random.Random(str(seed))
    found: dict[str, list] = {"source": [], "edited": [], "edit": [], "kind": []}
    for _ in range(sources):
        c = None
        while c is None:
            c = dataset.compose(bank, rng, size, photographs.EXTRA, bare=0.0 if only_pale else 0.07)
            if only_pale:
                c = pale(c, rng)
        names: list[str] = ["night"] if only_pale and words.random() < 0.5 else []
        while len(names) < min(each, len(c.edits()) - 1):
            name = dataset.draw_edit(c, words)
            if name not in names and name != "none":
                names.append(name)
        names = (names * 2)[:each]
        pictures = torch.from_numpy(np.stack([c.picture(), *(c.picture(n) for n in names)])).permute(
            0, 3, 1, 2
        )
        with torch.autocast("cpu", torch.bfloat16):
            x = (pictures * 2 - 1).contiguous(memory_format=torch.channels_last)
            z = autoencoder.moments(vae, x)[0].float().contiguous()
        found["source"].append(z[0].half())
        found["edited"].append(z[1:].half())
        found["edit"].append(torch.tensor([NAMES.index(n) for n in names]))
        found["kind"].append(torch.tensor(KINDS.index(c.kind)))
    return {k: torch.stack(v) for k, v in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["128x96", "128x128"])
    parser.add_argument("--shards", type=int, default=20, help="of each run of sizes, in turn")
    parser.add_argument("--sources", type=int, default=100)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--pale", action="store_true", help="only pale subjects in front of pale walls; night often"
    )
    parser.add_argument(
        "--parts", action="store_true", help="mostly subjects with edits of parts: painted heads and bodies"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    vae = load_autoencoder(args.out)
    autoencoder.exact_heads(vae)
    shares = autoencoder.SHARES
    if args.pale:
        shares = {"bodies": 0.6, "heads": 0.15, "procedural": 0.25}
    elif args.parts:
        shares = {"bodies": 0.27, "painted": 0.45, "procedural": 0.28}
    bank = dataset.Bank(args.bank, shares)
    start = time.time()
    for k in range(args.shards):
        name = args.sizes[k % len(args.sizes)]
        path = args.out / "latents" / f"{name}_{args.seed:02d}_{k:03d}.pt"
        if path.exists():
            continue
        h, w = (int(s) for s in name.split("x"))
        autoencoder.save(path, shard(vae, bank, [args.seed, k], (h, w), args.sources, args.each, args.pale))
        print(f"{path.name}  {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
