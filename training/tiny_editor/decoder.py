"""Train the decoder alone, the code being fixed: on true latents, on noisy ones and on the editor's own predictions.

    python -m training.tiny_editor.decoder --bank BANK --out RUN --minutes 60

What the editor gets slightly wrong decodes to coloured speckle; a decoder that has seen its mistakes smooths them.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from . import autoencoder, dataset, editor, edits, latents, photographs, text
from .autoencoder import Average, decode, exact_heads, groups_of, loss_of, moments, save


class Predictor:
    """The editor's current averaged weights, read again every ten minutes; None before there are any."""

    def __init__(self, run: Path):
        self.run, self.read = run, 0.0
        self.unet = None

    @torch.no_grad()
    def __call__(self, z: torch.Tensor, sentences: list[str], steps: int) -> torch.Tensor | None:
        path = self.run / "editor.pt"
        if path.exists() and time.time() - self.read > 600:
            values = torch.load(path, weights_only=True)["ema"]
            self.tokenizer = text.load_tokenizer(self.run / "tokenizer")
            self.unet, self.text = editor.build(), text.build(self.tokenizer)
            self.unet.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("unet.")})
            self.text.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("text.")})
            self.unet = self.unet.to(memory_format=torch.channels_last)
            exact_heads(self.unet)
            self.read = time.time()
        if self.unet is None:
            return None
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.text(text.tokens(self.tokenizer, sentences)).last_hidden_state
            return editor.predict(self.unet, hidden, z, steps, seed=random.randrange(1 << 30)).float()


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    path = args.out / "decoder.pt"
    vae = latents.load_autoencoder(args.out).train().requires_grad_(True)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    exact_heads(vae)
    optimizer = torch.optim.AdamW(groups_of(vae), args.rate, (0.9, 0.98), weight_decay=1e-4)
    average, step, spent = Average(vae, 0.998), 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.values, average.step = state["ema"], state["step"]
        step, spent = state["step"], 0.0 if args.again else state["spent"]
    bank, predictor = dataset.Bank(args.bank, autoencoder.SHARES), Predictor(args.out)
    rng, words = np.random.default_rng([args.seed, step]), random.Random(step)
    probe = autoencoder.build().to(memory_format=torch.channels_last)
    total, begin, last, first, running = args.minutes * 60, time.time(), time.time(), spent, []
    stop = args.out / "stop_decoder"
    finish = False
    while not finish:
        size = ((256, 192), (256, 192), (256, 256))[rng.integers(3)]
        c = dataset.compose(bank, rng, size, photographs.EXTRA, bare=0.2)
        names = [dataset.draw_edit(c, words) for _ in range(2)]
        names = names if rng.random() < 0.7 else ["none", names[0]]
        pictures = torch.from_numpy(np.stack([c.picture(), *(c.picture(n) for n in names)])).permute(
            0, 3, 1, 2
        )
        x = (pictures * 2 - 1).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = (
                autoencoder.rate(spent, total, args.rate) * min(1.0, (step + 1) / 100) * group["share"]
            )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            true = moments(vae, x)[0].float().contiguous()
        z, kind = true[1:], rng.random()
        if kind < args.predicted:
            sentences = [edits.sentence(n, words) for n in names]
            guess = predictor(
                true[:1].expand(2, -1, -1, -1).contiguous(), sentences, int(rng.choice([1, 1, 1, 2]))
            )
            z = z if guess is None else guess
        elif kind < args.predicted + 0.1:
            z = z + torch.randn_like(z) * float(rng.uniform(0, 0.15))
        with torch.autocast("cpu", torch.bfloat16):
            y = decode(vae, z.contiguous(memory_format=torch.channels_last))
        loss = loss_of(y.float(), x[1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        step += 1
        running.append(float(loss.detach()))
        spent = first + time.time() - begin
        finish = spent >= total or stop.exists()
        if time.time() - last > args.every or finish:
            probe.load_state_dict(average.values)
            print(
                f"{spent / 60:.1f} min  step {step}  loss {np.mean(running):.4f}  {autoencoder.figures(probe)}",
                flush=True,
            )
            save(path, {"model": vae.state_dict(), "ema": average.values, "optimizer": optimizer.state_dict(),
                        "spent": spent, "step": step})  # fmt: skip
            running, last = [], time.time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--predicted", type=float, default=0.5, help="share of the editor's own predictions")
    parser.add_argument("--again", action="store_true", help="begin a new schedule from the last weights")
    parser.add_argument("--every", type=float, default=240)
    parser.add_argument("--seed", type=int, default=5)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
