"""The editor: UNet and text encoder, initialized as an exact linear map of its latents, then trained.

python -m training.tiny_editor.editor --out RUN --minutes 80
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from engine.figures import contact_sheets
from training.common.loop import train as common_train
from training.common.options import loop_config, script
from training.common.processes import Processes
from training.common.share import Losses, Share

from . import autoencoder, edits, latents, regions, testset, text
from .autoencoder import _head, exact_heads, groups_of, watcher
from .time_options import add_time_options, parsed

PART_WEIGHT, PART_SHARE, LARGEST_WEIGHT = 1.5, 0.12, 10.0
"""Additional weight of the squared error where an edit of a part changes the latents: at least the first; for small
parts, so much that it is worth `PART_SHARE` of the image, up to the last."""


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=32, in_channels=8, out_channels=4, layers_per_block=1, block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=text.WIDTH, attention_head_dim=4, norm_num_groups=16,
        resnet_time_scale_shift="scale_shift", addition_embed_type="text", addition_embed_type_num_heads=4,
    )  # fmt: skip


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
        set_alpha_to_one=True,
    )  # fmt: skip


@torch.no_grad()
def linear_start(unet: UNet2DConditionModel, a: Tensor, b: Tensor) -> float:
    """Initialize the output to a(t) z_t + b(t) z_image; a and b hold a value for each of 1000 timesteps.

    conv_in hands both latents to the last residual block as its skip. There the residual branch carries each of
    the eight channels in a GroupNorm group of its own, fixed by constants (see `autoencoder._head`), and the time
    embedding's scale multiplies it by a(t) or b(t); the rows for this are solved by least squares. Without this
    gate, z_t, which is pure noise at the last timestep, leaks into the prediction as colored speckle.
    Returns the worst error of a and b.
    """
    eps, lift = 0.25, torch.tensor(4.0)
    slope = float(torch.sigmoid(lift) * (1 + lift * (1 - torch.sigmoid(lift))))
    # Two groups of eight: four signals, a reference at 0, and constants that fix the statistics of a later norm.
    unet.conv_in.weight[:16] = 0
    unet.conv_in.bias[:16] = 0
    for k in range(8):
        unet.conv_in.weight[k % 4 + 8 * (k // 4), k, 1, 1] = eps
    unet.conv_in.bias[[6, 14]], unet.conv_in.bias[[7, 15]] = torch.ones(2), -torch.ones(2)
    inner = float(np.sqrt((2 + 4 * eps**2) / 8))
    last = unet.up_blocks[-1].resnets[-1]
    _head(last.conv_shortcut, unet.conv_norm_out, unet.conv_out, eps, signals=4)
    width = unet.conv_in.weight.shape[0]
    g = width // unet.conv_norm_out.num_groups
    for k in range(4):
        last.conv_shortcut.weight[k * g] = 0
    skip = last.conv_shortcut.weight.shape[1] - width
    for i in (0, 8):
        last.norm1.bias[skip + i : skip + i + 5] = lift
    last.conv2.weight.zero_()
    last.conv2.bias.zero_()
    for attention in unet.up_blocks[-1].attentions:
        attention.proj_out.weight.zero_()
        attention.proj_out.bias.zero_()
    # The time embedding must outweigh the untrained text embedding.
    unet.time_embedding.linear_2.weight *= 4
    unet.add_embedding.norm2.weight *= 0.3
    t = torch.arange(1000).repeat(3)
    text_part = unet.add_embedding(torch.randn(3000, 8, text.WIDTH))
    emb = F.silu(unet.time_embedding(unet.time_proj(t)) + text_part)
    features = torch.cat([emb, torch.ones(len(emb), 1)], 1)
    gates = torch.stack([a, -b], 1).repeat(3, 1) - 1
    ridge = 0.03 * torch.eye(features.shape[1])
    solved = torch.linalg.solve(features.T @ features + ridge, features.T @ gates)
    worst = float((features @ solved - gates).abs().max())
    std = float(np.sqrt((g - 2) / g))
    for k in range(8):
        c = k * g
        last.conv1.weight[c : c + g] = 0
        last.conv1.bias[c : c + g] = 0
        last.conv1.weight[c, skip + k % 4 + 8 * (k // 4), 1, 1] = inner / slope
        last.conv1.weight[c, skip + 4 + 8 * (k // 4), 1, 1] = -inner / slope
        last.conv1.bias[c + 2 : c + g] = torch.tensor([1.0, -1.0]).repeat((g - 2) // 2)
        projection = last.time_emb_proj
        for row in (*range(c, c + g), *range(width + c, width + c + g)):
            projection.weight[row] = 0
            projection.bias[row] = 0
        gate = solved[:, k // 4]
        for row in (c, c + 1):
            projection.weight[row], projection.bias[row] = gate[:-1], gate[-1]
            projection.bias[width + row] = lift
        gain = std / slope * (1 if k < 4 else -1)
        last.conv2.weight[(k % 4) * g, c, 1, 1] = gain
        last.conv2.weight[(k % 4) * g, c + 1, 1, 1] = -gain
    cross_terms(unet)
    return worst


@torch.no_grad()
def cross_terms(unet: UNet2DConditionModel, groups: tuple[int, int, int] = (8, 9, 10)) -> None:
    """Let time and text mix the three color latents of the image: six gates, initially closed.

    `groups` of the last residual block's second norm become one group for each latent z_k: (eps z_k, -eps z_k, +1, -1).
    The constants fix the statistics, the mean is 0, and each of the first two channels has a scale of its own: two
    gates, for the two outputs j != k. The other two channels, with their scale fixed at 0, are the reference that
    removes the offset of the SiLU. The groups' previous contents are lost.
    """
    eps, lift = 0.25, torch.tensor(4.0)
    slope = float(torch.sigmoid(lift) * (1 + lift * (1 - torch.sigmoid(lift))))
    last = unet.up_blocks[-1].resnets[-1]
    width = last.conv1.weight.shape[0]
    g, skip = width // last.norm2.num_groups, last.conv1.weight.shape[1] - width
    inner, gain = float(np.sqrt((2 + 4 * eps**2) / 8)), float(np.sqrt((2 + 2 * eps**2) / 4)) / slope
    projection = last.time_emb_proj
    for k, group in enumerate(groups):
        c = group * g
        last.conv1.weight[c : c + g] = 0
        last.conv1.weight[c : c + 2, skip + 8 + k, 1, 1] = torch.tensor([1.0, -1.0]) * inner / slope
        last.conv1.weight[c : c + 2, skip + 12, 1, 1] = torch.tensor([-1.0, 1.0]) * inner / slope
        last.conv1.bias[c : c + g] = torch.tensor([0.0, 0.0, 1.0, -1.0])
        last.norm2.weight[c : c + g], last.norm2.bias[c : c + g] = 1, 0
        projection.weight[c : c + g], projection.weight[width + c : width + c + g] = 0, 0
        projection.bias[c : c + g], projection.bias[width + c : width + c + g] = -1, lift
        last.conv2.weight[:, c : c + g] = 0
        for i, j in enumerate(j for j in range(3) if j != k):
            last.conv2.weight[j * g, c + i, 1, 1] = gain * (-1) ** i
            last.conv2.weight[j * g, c + 2 + i, 1, 1] = -gain * (-1) ** i


@torch.no_grad()
def best_linear(z0: Tensor, z1: Tensor) -> tuple[Tensor, Tensor]:
    """a(t), b(t), (1000,) each: least squares of v on z_t and z_image at every timestep."""
    alpha_bar = scheduler().alphas_cumprod
    noise = torch.randn_like(z1)
    out = []
    for alpha, sigma in zip(alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist(), strict=True):
        x = torch.stack([(alpha * z1 + sigma * noise).flatten(), z0.flatten()], 1)
        v = (alpha * noise - sigma * z1).flatten()[:, None]
        out.append(torch.linalg.solve(x.T @ x, x.T @ v).flatten())
    both = torch.stack(out)
    return both[:, 0], both[:, 1]


def few_tokens_plainly(unet: UNet2DConditionModel) -> None:
    """Plain matrix products in the attention of the lower levels: a third faster there on a CPU than the fused kernel."""
    plain = {k: AttnProcessor() for k in unet.attn_processors if not k.startswith("up_blocks.2.")}
    unet.set_attn_processor({k: plain.get(k, v) for k, v in unet.attn_processors.items()})


class Pairs:
    """All latent shards of a run; batches of one size."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.shards: dict[str, list[dict[str, Tensor]]] = {}
        self.names: set[str] = set()
        self.looked = 0.0

    def look(self) -> None:
        if time.time() - self.looked < 30:
            return
        self.looked = time.time()
        for path in sorted(self.folder.glob("*.pt")):
            if path.name not in self.names:
                self.names.add(path.name)
                self.shards.setdefault(path.name.split("_")[0], []).append(
                    torch.load(path, weights_only=True)
                )

    def batch(
        self, sizes: dict[str, float], count: int, rng: random.Random, parts: float = 0.0
    ) -> tuple[Tensor, Tensor, list[str], list[str], Tensor]:
        """source, target (B, 4, h, w), sentences, captions, weights of the squared error (B, 1, h, w)."""
        self.look()
        have = [s for s in sizes if s in self.shards]
        size = rng.choices(have, [sizes[s] for s in have])[0]
        source, target, sentences, captions, weights = [], [], [], [], []
        for _ in range(count):
            s = rng.choice(self.shards[size])
            i = rng.randrange(len(s["source"]))
            j = rng.randrange(s["edit"].shape[1])
            shown = [k for k, e in enumerate(s["edit"][i].tolist()) if latents.NAMES[e] in regions.NAMES]
            if shown and rng.random() < parts:
                j = rng.choice(shown)
            name = latents.NAMES[int(s["edit"][i, j])]
            z0, z1 = s["source"][i].float(), s["edited"][i, j].float()
            if rng.random() < 0.12:
                name, z1 = "none", z0
            if rng.random() < 0.5:
                z0, z1 = z0.flip(-1), z1.flip(-1)
            # Most of the image stays as it is: without a weight, a few latents of lips hardly count.
            changed = (z1 - z0).abs().amax(0, keepdim=True) > 0.3
            share = PART_SHARE / max(float(changed.float().mean()), 1e-6)
            gain = min(max(share, PART_WEIGHT), LARGEST_WEIGHT)
            weights.append(1 + gain * changed.float() * (name in regions.NAMES))
            source.append(z0)
            target.append(z1)
            sentences.append(edits.sentence(name, rng))
            kind = latents.KINDS[int(s["kind"][i])]
            captions.append(edits.CAPTION_EDITS[name].format(rng.choice(edits.CAPTIONS[kind])))
        return torch.stack(source), torch.stack(target), sentences, captions, torch.stack(weights)


def timesteps(count: int, last: float = 0.52, generator: torch.Generator | None = None) -> Tensor:
    """A share `last` at the last step (where the prediction is the image), half of the rest in 600-998, the rest anywhere."""
    t = torch.randint(0, 1000, (count,), generator=generator)
    u = torch.rand(count, generator=generator)
    t = torch.where(u < last + (1 - last) * 0.52, torch.randint(600, 999, (count,), generator=generator), t)
    return torch.where(u < last, torch.full_like(t, 999), t)


@torch.no_grad()
def weighting(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """(4, 4) so that e' G e approximates the pixel error that a latent error e decodes to; mean diagonal 1.

    Half of the sampled errors are smooth over four latents, half are white noise.
    """
    h, w = z.shape[-2:]
    base = autoencoder.decode(vae, z)
    smooth = F.interpolate(torch.randn(len(z), 1, h // 4, w // 4), size=(h, w), mode="bilinear")
    g = torch.zeros(4, 4)
    for bump in (smooth / smooth.std(), torch.randn(len(z), 1, h, w)):
        moved = []
        for k in range(4):
            d = torch.zeros_like(z)
            d[:, k : k + 1] = 0.2 * bump
            moved.append((autoencoder.decode(vae, z + d) - base).flatten())
        j = torch.stack(moved)
        g += j @ j.T
    return g / g.diagonal().mean()


@torch.no_grad()
def predict(
    unet: UNet2DConditionModel, hidden: Tensor, z_image: Tensor, steps: int = 1, seed: int = 0
) -> Tensor:
    """Edited latents for conditions (B, 77, 128) and image latents, without guidance."""
    s = scheduler()
    s.set_timesteps(steps)
    z = torch.randn(z_image.shape, generator=torch.Generator().manual_seed(seed))
    for t in s.timesteps:
        v = unet(torch.cat([z, z_image], 1), t, encoder_hidden_states=hidden).sample
        z = s.step(v, t, z).prev_sample
    return z


@torch.no_grad()
def figures(
    unet: UNet2DConditionModel, encoder: nn.Module, tokenizer: text.CLIPTokenizer, vae: AutoencoderKL, views: int = 2,
    steps: int = 1, sheet: Path | None = None,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """PSNR of edits (training prompt) on held-out subjects: {subject: {edit: dB}}; also that of the unedited image."""
    names = ["none", *edits.TEN]
    ids = text.tokens(tokenizer, [edits.PHRASINGS[n][0] for n in names])
    hidden = encoder(ids).last_hidden_state
    out: dict[str, dict[str, float]] = {}
    stacks: list[list[torch.Tensor]] = [[] for _ in names]
    for subject, compositions in testset.compositions().items():
        sums: dict[str, list[float]] = {}
        for c in compositions[:views]:
            allowed = [i for i, n in enumerate(names) if n in c.edits()]
            x = torch.from_numpy(c.picture()).permute(2, 0, 1)[None] * 2 - 1
            z = autoencoder.moments(vae, x.contiguous(memory_format=torch.channels_last))[0].float()
            done = predict(unet, hidden[allowed], z.expand(len(allowed), -1, -1, -1), steps)
            y = (
                autoencoder.decode(vae, done.contiguous(memory_format=torch.channels_last)).float() / 2 + 0.5
            ).clamp(0, 1)
            truth = [torch.from_numpy(c.picture(names[i])).permute(2, 0, 1) for i in allowed]
            for i, p, t in zip(allowed, y, truth, strict=True):
                sums.setdefault(names[i], []).append(-10 * float((p - t).square().mean().log10()))
            if sheet and len(allowed) == len(names):
                small = lambda v: F.interpolate(v[None], scale_factor=0.5, mode="area")[0]  # noqa: E731
                for stack, *pair in zip(stacks, truth, y, strict=True):
                    stack += [small(picture).permute(1, 2, 0) for picture in pair]
        out[subject] = {k: round(float(np.mean(v)), 1) for k, v in sums.items()}
    if sheet and stacks[0]:
        contact_sheets.sheet(stacks, names, len(names), width=1600).save(sheet, quality=88)
    return out


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer_folder = args.out / "tokenizer"
    processes = Processes()
    if processes.is_main:
        text.write_tokenizer(tokenizer_folder)
    # the others wait until it is there
    processes.any(False)
    tokenizer = text.load_tokenizer(tokenizer_folder)
    unet, encoder = build(), text.build(tokenizer)
    pairs = Pairs(args.out / "latents")
    while not pairs.shards:
        pairs.looked = 0
        pairs.look()
        time.sleep(1)
    alpha_bar = scheduler().alphas_cumprod
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    rng = random.Random(args.seed)
    small = {"128x96": 0.6, "128x128": 0.4}
    large = {"256x192": 0.7, "256x256": 0.15, "192x192": 0.15}
    z0, z1, *_ = pairs.batch(small | large, 200, rng)
    worst = linear_start(unet, *best_linear(z0[:60], z1[:60]))
    vae = latents.load_autoencoder(args.out)
    gram = args.pixel * weighting(vae, z1[:12]) + (1 - args.pixel) * torch.eye(4)
    # Hues have a higher weight than in the squared error, because washed-out color is the most visible error.
    gram[:3, :3] += args.hue * torch.eye(3)
    root = torch.linalg.cholesky(gram).T.contiguous()
    if processes.is_main:
        print("linear start, worst gate", worst, "weights", gram.tolist(), flush=True)

    if args.init:
        values = autoencoder.averaged(args.init)
        # Parts that the other run lacks keep their initialization, which adds nothing at first.
        unet.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("unet.")}, strict=False)
        encoder.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("text.")})
        if args.cross:
            cross_terms(unet, tuple(args.cross))
    unet = unet.to(memory_format=torch.channels_last)
    few_tokens_plainly(unet)
    exact_heads(unet)
    both = nn.ModuleDict({"unet": unet, "text": encoder})
    groups = groups_of(both, "up_blocks.2.resnets.1.conv")
    words = next(p for n, p in both.named_parameters() if n.endswith("token_embedding.weight"))
    for group in groups:
        group["params"] = [p for p in group["params"] if p is not words]
    groups.append({"params": [words], "share": args.words})
    probe = nn.ModuleDict(
        {"unet": build().to(memory_format=torch.channels_last), "text": text.build(tokenizer)}
    )

    def losses(common: torch.Generator, progress: float, share: Share) -> Losses:
        pairs.look()
        # Prompts and colors are learned three times faster on small images; the last quarter uses only large ones.
        chance = 0.1 if progress < args.small else 1 - args.mix if progress < 0.75 else 1.0
        chosen = float(torch.rand(1, generator=common)) < chance
        big = chosen and any(k in pairs.shards for k in large)
        rng, generator = random.Random(share.seed(common)), share.generator(common)
        z0, z1, sentences, captions, weights = pairs.batch(
            large if big else small, args.batch if big else 3 * args.batch, rng, args.parts
        )
        # 4 % without a prompt, 4 % without prompt and image, then those without an image and with a caption of the result.
        drop = torch.rand(len(z0), generator=generator)
        for i, d in enumerate(drop.tolist()):
            if d < 0.08:
                sentences[i] = ""
            elif d < 0.08 + args.captions:
                sentences[i] = captions[i]
        blind = (drop >= 0.04) & (drop < 0.08 + args.captions)
        z0 = z0 * ~blind.view(-1, 1, 1, 1)
        without = torch.randint(20, 1000, (len(z0),), generator=generator)
        t = torch.where(blind, without, timesteps(len(z0), args.last, generator))
        # Without an image, most of the error is unavoidable; it must not dominate the loss.
        heavy = (1 - 0.5 * blind.float()).view(-1, 1, 1, 1) * weights
        a_, s_ = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        noise = torch.randn(z1.shape, generator=generator)
        x = torch.cat([a_ * z1 + s_ * noise, z0], 1).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            hidden = encoder(text.tokens(tokenizer, sentences)).last_hidden_state
            out = unet(x, t, encoder_hidden_states=hidden).sample
        error = torch.einsum("ij,bjhw->bihw", root, out.float() - (a_ * noise - s_ * z1))
        return {"velocity": (heavy * error.square()).mean()}

    def shown(step: int, average: dict[str, Tensor]) -> dict[str, dict[str, float]]:
        probe.load_state_dict(average)
        sheet = args.out / f"sheet_{step:06d}.jpg"
        return figures(probe["unet"], probe["text"], tokenizer, vae, 1, 1, sheet)

    after = watcher(args.out / "stop_editor", args.every, shown, (50, 300))
    loop = loop_config(
        args,
        lr=args.rate,
        warmup=200,
        weight_decay=1e-3,
        average=args.ema,
        seed=args.seed,
        minutes=args.minutes,
    )
    path = args.out / "editor.pt"
    common_train(both, losses, loop, path, args.report_every, groups=groups, after=after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="start from the weights of another run's editor.pt")
    parser.add_argument(
        "--cross", type=int, nargs=3, help="with --init: groups of the last block to use for the cross terms"
    )
    add_time_options(parser, 80)
    parser.add_argument("--small", type=float, default=0.4, help="fraction of the time on small images")
    parser.add_argument(
        "--mix", type=float, default=0.5, help="fraction of small images after that, until 75 %%"
    )
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument(
        "--pixel", type=float, default=0.9, help="fraction of the loss weighted by the decoded error"
    )
    parser.add_argument("--hue", type=float, default=0.5)
    parser.add_argument(
        "--words", type=float, default=1.0, help="learning rate of the words' vectors, relative to --rate"
    )
    parser.add_argument(
        "--parts", type=float, default=0.0, help="additional share of edits of parts where there are some"
    )
    parser.add_argument("--last", type=float, default=0.52, help="share of the samples at the last timestep")
    parser.add_argument(
        "--captions", type=float, default=0.15, help="share of the samples with a caption, without an image"
    )
    parser.add_argument("--every", type=float, default=300, help="seconds between figures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    train(parsed(parser))


if __name__ == "__main__":
    script(main)
