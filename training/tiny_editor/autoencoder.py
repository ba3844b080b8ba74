"""The autoencoder: four latent channels at 1/8, initialized as an exact linear codec, then trained.

python -m training.tiny_editor.autoencoder train --bank BANK --out RUN --minutes 35
python -m training.tiny_editor.autoencoder whiten --bank BANK --out RUN
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from training.common.loop import AfterStep
from training.common.loop import train as common_train
from training.common.options import loop_config, script
from training.common.share import Losses, Share

from . import dataset, photographs, testset
from .time_options import add_time_options, parsed

GROUPS, CHANNELS = 4, (16, 32, 64, 128)
SHARES = {"procedural": 0.5, "bodies": 0.32, "heads": 0.12, "splats": 0.06}


def build() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=CHANNELS, layers_per_block=1,
        norm_num_groups=GROUPS, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=1.0, sample_size=256, mid_block_add_attention=False,
    )  # fmt: skip


@torch.no_grad()
def _carry(conv: nn.Conv2d, kernel: Tensor, rest: float = 0.3) -> None:
    """Channels 0-2 pass through a convolution with `kernel`; all other weights are scaled down."""
    conv.weight.mul_(rest)
    conv.weight[:3] = 0
    y = (conv.weight.shape[-1] - kernel.shape[-1]) // 2
    for k in range(3):
        conv.weight[k, k, y : y + kernel.shape[0], y : y + kernel.shape[1]] = kernel
    if conv.bias is not None:
        conv.bias.zero_()


@torch.no_grad()
def _head(
    shortcut: nn.Conv2d, norm: nn.GroupNorm, last: nn.Conv2d, eps: float = 0.25, signals: int = 3
) -> None:
    """Let signals pass a GroupNorm and a SiLU: each gets a group whose statistics are fixed by constants.

    A group of g channels holds (eps x, 0, +1, -1, ...): first - second = eps x / std with std of the constants.
    """
    g = shortcut.weight.shape[0] // norm.num_groups
    std = float(np.sqrt((g - 2) / g))
    lift = torch.tensor(4.0)
    slope = float(torch.sigmoid(lift) * (1 + lift * (1 - torch.sigmoid(lift))))
    gain = std / (eps * slope)
    last.weight.mul_(0.3)
    for k in range(signals):
        c = k * g
        shortcut.weight[c : c + g] = 0
        shortcut.bias[c : c + g] = 0
        shortcut.weight[c, k] = eps
        shortcut.bias[c + 2 : c + g] = torch.tensor([1.0, -1.0]).repeat((g - 2) // 2)
        norm.bias[c : c + 2] = lift
        last.weight[k] = 0
        last.weight[:, c : c + g] = 0
    for k in range(signals):
        last.weight[k, k * g, 1, 1], last.weight[k, k * g + 1, 1, 1] = gain, -gain
    last.bias.zero_()


@torch.no_grad()
def linear_start(vae: AutoencoderKL) -> None:
    """Downsampling by 2x2 means, smooth upsampling; every residual branch starts at zero."""
    one = torch.ones(1, 1)
    mean = torch.full((2, 2), 0.25)
    tent = torch.tensor([1.0, 2.0, 1.0])
    tent = tent[:, None] * tent[None] / 16
    for part in (vae.encoder, vae.decoder):
        for module in part.modules():
            if type(module).__name__ == "ResnetBlock2D":
                module.conv2.weight.zero_()
                module.conv2.bias.zero_()
                if module.conv_shortcut is not None:
                    _carry(module.conv_shortcut, one)
            elif type(module).__name__ == "Downsample2D":
                module.conv.weight.mul_(0.3)
                module.conv.weight[:3] = 0
                for k in range(3):
                    module.conv.weight[k, k, :2, :2] = mean
                module.conv.bias.zero_()
            elif type(module).__name__ == "Upsample2D":
                _carry(module.conv, tent)
        _carry(part.conv_in, one)
    e, d = vae.encoder, vae.decoder
    _head(e.down_blocks[-1].resnets[0].conv_shortcut, e.conv_norm_out, e.conv_out)
    _head(d.up_blocks[-1].resnets[0].conv_shortcut, d.conv_norm_out, d.conv_out)
    e.conv_out.weight[4:] = 0
    e.conv_out.bias[4:] = -7.0
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.weight.shape[0])[..., None, None])
        conv.bias.zero_()


def exact_heads(module: nn.Module) -> None:
    """Run the last norm and convolution in fp32 under autocast: the head relies on small differences."""
    for m in module.modules():
        if isinstance(getattr(m, "conv_norm_out", None), nn.GroupNorm):
            norm, last = m.conv_norm_out, m.conv_out

            def run_norm(x: Tensor, norm: nn.GroupNorm = norm) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    return F.group_norm(x.float(), norm.num_groups, norm.weight, norm.bias, norm.eps)

            def run_last(x: Tensor, last: nn.Conv2d = last) -> Tensor:
                with torch.autocast("cpu", enabled=False):
                    return F.conv2d(x.float(), last.weight, last.bias, padding=1)

            norm.forward, last.forward = run_norm, run_last


def groups_of(module: nn.Module, careful: str = "") -> list[dict]:
    """Parameter groups: heads use a ten times lower rate, since offset channels turn each step into a shift.

    careful: parts of the names of further parameters, with a three times lower rate.
    """
    shares: dict[float, list[nn.Parameter]] = {1.0: [], 0.3: [], 0.1: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            head = "conv_norm_out" in name or "conv_out" in name
            shares[0.1 if head else 0.3 if careful and careful in name else 1.0].append(parameter)
    return [{"params": p, "share": s} for s, p in shares.items() if p]


def moments(vae: AutoencoderKL, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the code of x (B, 3, H, W), -1..1."""
    mean, log_variance = vae.quant_conv(vae.encoder(x)).chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: AutoencoderKL, z: Tensor) -> Tensor:
    return vae.decoder(vae.post_quant_conv(z))


def loss_of(y: Tensor, x: Tensor) -> Tensor:
    edge = (y.diff(dim=-1) - x.diff(dim=-1)).abs().mean() + (y.diff(dim=-2) - x.diff(dim=-2)).abs().mean()
    return 0.5 * (y - x).abs().mean() + 2 * F.mse_loss(y, x) + 0.25 * edge


def averaged(path: Path) -> dict[str, Tensor]:
    """The averaged weights in a checkpoint, also in one of earlier versions."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    return saved["ema"] if "ema" in saved else saved["average"]


def save(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def batch(
    bank: dataset.Bank,
    rng: np.random.Generator,
    words: random.Random,
    count: int,
    crop: int,
    whole: tuple[int, int],
) -> Tensor:
    """Images or crops, -1..1 (B, 3, crop, crop) or (B, 3, *whole) when crop is 0."""
    out = []
    for i in range(count):
        if i % 2 == 0:  # two edits and crops of each composition: composing costs more than editing
            c = dataset.compose(bank, rng, whole, photographs.EXTRA, bare=0.22)
        x = c.picture("none" if rng.random() < 0.4 else dataset.draw_edit(c, words))
        if crop:
            if c.alpha.max() > 0.1 and rng.random() < 0.75:  # about a point of the subject
                ys, xs = np.nonzero(c.alpha > 0.1)
                k = rng.integers(len(ys))
                s = whole[0] / c.alpha.shape[0]
                y, x0 = int(ys[k] * s) - crop // 2, int(xs[k] * s) - crop // 2
            else:
                y, x0 = rng.integers(0, whole[0]), rng.integers(0, whole[1])
            y, x0 = int(np.clip(y, 0, whole[0] - crop)), int(np.clip(x0, 0, whole[1] - crop))
            x = x[y : y + crop, x0 : x0 + crop]
        out.append(torch.from_numpy(np.ascontiguousarray(x)))
    return (torch.stack(out).permute(0, 3, 1, 2) * 2 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def figures(vae: AutoencoderKL) -> dict[str, float]:
    """PSNR of decode(encode(x)) on held-out images."""
    out = {}
    for name, pictures in testset.pictures().items():
        values = []
        for x in pictures:
            t = torch.from_numpy(x).permute(2, 0, 1)[None] * 2 - 1
            t = t.contiguous(memory_format=torch.channels_last)
            y = decode(vae, moments(vae, t)[0]).clamp(-1, 1)
            values.append(-10 * np.log10(float(((y - t) / 2).square().mean())))
        out[name] = round(float(np.mean(values)), 2)
    return out


def watcher(
    stop: Path, every: float, figures: Callable[[int, dict[str, Tensor]], object], early: tuple[int, ...]
) -> AfterStep:
    """Print figures from time to time, after a few early steps and at the end; a file `stop` stops the training."""
    last = time.time()

    def after(step: int, progress: float, average: dict[str, Tensor]) -> bool:
        nonlocal last
        stops = stop.exists()
        if time.time() - last > every or progress >= 1 or stops or step in early:
            print(f"{progress:.1%}  step {step}  {figures(step, average)}", flush=True)
            last = time.time()
        return stops

    return after


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vae = build()
    linear_start(vae)
    vae = vae.to(memory_format=torch.channels_last)
    exact_heads(vae)
    bank = dataset.Bank(args.bank, SHARES)
    probe = build().to(memory_format=torch.channels_last)

    def losses(generator: torch.Generator, progress: float, share: Share) -> Losses:
        own = share.generator(generator)
        seed = share.seed(generator)
        rng, words = np.random.default_rng(seed), random.Random(seed)
        turn = int(torch.randint(1 << 30, (1,), generator=generator))
        late = progress > 0.75
        x = (
            batch(bank, rng, words, 1, 0, (256, 192))
            if late and turn % 2
            else (
                batch(bank, rng, words, 4, 96, (256, 192))
                if turn % 4
                else batch(bank, rng, words, 2, 128, (256, 256))
            )
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            mean, log_variance = moments(vae, x)
            scale = mean.detach().float().std(dim=(0, 2, 3), keepdim=True)
            z = mean + torch.randn(mean.shape, generator=own).to(mean) * (0.02 * scale)
            y = decode(vae, z)
        m, v = mean.float(), log_variance.float()
        kl = 1e-4 * 0.5 * (m.square() + v.exp() - 1 - v).mean()
        return {"image": loss_of(y.float(), x), "kl": kl}

    def shown(_: int, average: dict[str, Tensor]) -> dict[str, float]:
        probe.load_state_dict(average)
        return figures(probe)

    after = watcher(args.out / "stop_autoencoder", args.every, shown, (20, 60, 100))
    loop = loop_config(
        args,
        lr=args.rate,
        warmup=150,
        weight_decay=1e-4,
        average=args.ema,
        seed=args.seed,
        minutes=args.minutes,
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path, groups = args.out / "autoencoder.pt", groups_of(vae)
    common_train(vae, losses, loop, path, args.report_every, groups=groups, after=after)


@torch.no_grad()
def whiten(args: argparse.Namespace) -> None:
    """Fold each latent channel's mean and deviation into the quant convolutions: scaling factor 1."""
    torch.set_num_threads(args.threads)
    vae = build()
    vae.load_state_dict(averaged(args.out / "autoencoder.pt"))
    before = figures(vae)
    bank = dataset.Bank(args.bank, SHARES)
    rng, words = np.random.default_rng(77), random.Random(77)
    codes = [
        moments(vae, batch(bank, rng, words, 4, 0, (256, 192)))[0].transpose(0, 1).flatten(1)
        for _ in range(40)
    ]
    z = torch.cat(codes, 1)
    mu, sd = z.mean(1), z.std(1)
    q, p = vae.quant_conv, vae.post_quant_conv
    q.weight[:4] /= sd[:, None, None, None]
    q.bias[:4] = (q.bias[:4] - mu) / sd
    q.bias[4:] -= 2 * sd.log()
    p.bias += (p.weight[:, :, 0, 0] * mu).sum(1)
    p.weight *= sd[None, :, None, None]
    print("mean", mu.tolist(), "deviation", sd.tolist())
    print("before", before, "after", figures(vae))
    save(args.out / "whitened.pt", {"ema": vae.state_dict()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("command", choices=["train", "whiten"])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    add_time_options(parser, 35)
    parser.add_argument("--every", type=float, default=120, help="seconds between figures")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.995)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    args = parsed(parser)
    whiten(args) if args.command == "whiten" else train(args)


if __name__ == "__main__":
    script(main)
