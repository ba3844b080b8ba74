"""Latents of pictures and of their edits, shard by shard, for training the editor.

python -m training.tiny_editor.latents --bank BANK --out RUN --sizes 128x96 128x128 --shards 40
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch

from . import autoencoder, dataset, edits, photographs

NAMES = tuple(edits.FUNCTIONS)
KINDS = ("procedural", "bodies", "heads", "splats", "photograph")


def load_autoencoder(run: Path) -> autoencoder.AutoencoderKL:
    """The whitened autoencoder."""
    vae = autoencoder.build()
    vae.load_state_dict(torch.load(run / "whitened.pt", weights_only=True)["ema"])
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.no_grad()
def shard(
    vae: autoencoder.AutoencoderKL,
    bank: dataset.Bank,
    seed: list[int],
    size: tuple[int, int],
    sources: int,
    each: int,
) -> dict[str, torch.Tensor]:
    """source (S, 4, h, w) and edited (S, each, 4, h, w) fp16 means, edit (S, each) and kind (S,)."""
    rng, words = np.random.default_rng(seed), random.Random(str(seed))
    found: dict[str, list] = {"source": [], "edited": [], "edit": [], "kind": []}
    for _ in range(sources):
        c = dataset.compose(bank, rng, size, photographs.EXTRA, bare=0.07)
        names: list[str] = []
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
    args = parser.parse_args()
    torch.set_num_threads(1)
    vae = load_autoencoder(args.out)
    autoencoder.exact_heads(vae)
    bank = dataset.Bank(args.bank, autoencoder.SHARES)
    start = time.time()
    for k in range(args.shards):
        name = args.sizes[k % len(args.sizes)]
        path = args.out / "latents" / f"{name}_{args.seed:02d}_{k:03d}.pt"
        if path.exists():
            continue
        h, w = (int(s) for s in name.split("x"))
        autoencoder.save(path, shard(vae, bank, [args.seed, k], (h, w), args.sources, args.each))
        print(f"{path.name}  {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
