"""Figures of an exported folder on subjects not used in training, and a contact sheet.

python -m training.tiny_editor.evaluate assets/models/tiny-instruct-pix2pix [--json] [--sheet sheet.jpg] [--sampling]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPTextModel

from engine.figures import contact_sheets

from . import edits, evaluate_regions, regions, testset, text
from .evaluate_regions import psnr, tensor


class Editor:
    """The parts of an exported folder, in fp32."""

    def __init__(self, folder: Path):
        self.vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
        self.text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).eval()
        self.tokenizer = text.load_tokenizer(folder / "tokenizer")
        self.scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
        self.known = frozenset(json.loads((folder / "gs4d.json").read_text())["known_edits"])

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        return self.vae.encode(x * 2 - 1).latent_dist.mode()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        return (self.vae.decode(z).sample / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def hidden(self, sentences: list[str]) -> Tensor:
        return self.text(text.tokens(self.tokenizer, sentences)).last_hidden_state

    @torch.no_grad()
    def edit(
        self, z_image: Tensor, sentences: list[str], steps: int = 1, text_scale: float = 1.0, image_scale: float = 1.0,
        seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """Edited latents for image latents (B, 4, h, w), with the two-fold guidance of InstructPix2Pix, eq. 3."""
        s = self.scheduler
        s.set_timesteps(steps)
        noise = torch.randn(z_image.shape[1:], generator=torch.Generator().manual_seed(seed))
        z = noise.expand(len(z_image), -1, -1, -1).clone()
        hidden, empty = self.hidden(sentences), self.hidden([""]).expand(len(z_image), -1, -1)
        plain = text_scale == 1.0 and image_scale == 1.0
        for t in s.timesteps:
            v = self.unet(torch.cat([z, z_image], 1), t, encoder_hidden_states=hidden).sample
            if not plain:
                image = self.unet(torch.cat([z, z_image], 1), t, encoder_hidden_states=empty).sample
                none = self.unet(torch.cat([z, 0 * z_image], 1), t, encoder_hidden_states=empty).sample
                v = none + image_scale * (image - none) + text_scale * (v - image)
            z = s.step(v, t, z).prev_sample
        return z


def figures(editor: Editor, steps: int, text_scale: float, image_scale: float, views: int = 4) -> dict:
    """{subject: {autoencoder, edits: {name: {unedited, ceiling, edited}}}}, PSNR in dB."""
    names = ["none", *edits.TEN]
    out: dict[str, dict] = {}
    for subject, compositions in testset.compositions().items():
        table: dict[str, dict[str, list[float]]] = {}
        codec = []
        for c in compositions[:views]:
            x = tensor(c.picture())
            z = editor.encode(x)
            codec.append(psnr(editor.decode(z), x))
            allowed = [n for n in names if n in c.edits()]
            trained = [edits.PHRASINGS[n][0] for n in allowed]
            many = z.expand(len(allowed), -1, -1, -1)
            first = editor.decode(editor.edit(many, trained, steps, text_scale, image_scale))
            for k, name in enumerate(allowed):
                truth = tensor(c.picture(name))
                row = table.setdefault(name, {"unedited": [], "ceiling": [], "edited": []})
                row["unedited"].append(psnr(x, truth) if name != "none" else float("nan"))
                row["ceiling"].append(psnr(editor.decode(editor.encode(truth)), truth))
                row["edited"].append(psnr(first[k : k + 1], truth))
        out[subject] = {
            "autoencoder": round(float(np.mean(codec)), 2),
            "edits": {
                n: {k: round(float(np.mean(v)), 2) for k, v in row.items()} for n, row in table.items()
            },
        }
    return out


def sampling(editor: Editor) -> dict[str, float]:
    """Mean PSNR over the ten edits and one view each of walker, robot and vase, by sampling settings."""
    out = {}
    ways = [
        (1, 1, 1),
        (1, 1.5, 1),
        (1, 1, 1.2),
        (2, 1, 1),
        (4, 1, 1),
        (10, 1, 1),
        (20, 1, 1),
        (4, 1.5, 1),
        (4, 1.5, 1.2),
        (10, 1.5, 1.2),
        (10, 3, 1.2),
    ]
    for steps, s_t, s_i in ways:
        values = []
        for subject, compositions in testset.compositions().items():
            if subject not in ("walker", "robot", "lathe"):
                continue
            for c in compositions[:1]:
                z = editor.encode(tensor(c.picture())).expand(10, -1, -1, -1)
                y = editor.decode(editor.edit(z, [edits.PHRASINGS[n][0] for n in edits.TEN], steps, s_t, s_i))
                values += [psnr(y[k : k + 1], tensor(c.picture(n))) for k, n in enumerate(edits.TEN)]
        key = f"{steps} step{'s' if steps > 1 else ''}, text {s_t}, image {s_i}"
        out[key] = round(float(np.mean(values)), 2)
        print(steps, s_t, s_i, out[key], flush=True)
    return out


def phrasings(editor: Editor) -> dict[str, dict[str, float]]:
    """Per edit, mean over two plain subjects: the first five training prompts and the three held-out ones."""
    out = {}
    for name in ("none", *edits.TEN, *(n for n in regions.MAIN if n in editor.known)):
        known, new = edits.PHRASINGS[name][:5], edits.HELD_OUT[name]
        a, b = [], []
        found = testset.compositions() if name in edits.FUNCTIONS else testset.region_compositions()
        for subject, compositions in found.items():
            c = compositions[1]
            if subject in ("photograph", "talking", "head", "vivid") or name not in c.edits():
                continue
            truth = tensor(c.picture(name))
            z = editor.encode(tensor(c.picture())).expand(len(known) + len(new), -1, -1, -1)
            y = editor.decode(editor.edit(z, [*known, *new]))
            values = [psnr(y[k : k + 1], truth) for k in range(len(y))]
            a += values[: len(known)]
            b += values[len(known) :]
        out[name] = {"trained": round(float(np.mean(a)), 2), "held_out": round(float(np.mean(b)), 2)}
    return out


@torch.no_grad()
def captions(editor: Editor, timestep: int = 500) -> dict[str, dict[str, float]]:
    """The editor as a text-to-image model: {edit: {right, source, empty}}, PSNR in dB.

    Noise at `timestep` is added to the latents of the true edited image, and the image is predicted in one step without
    a conditioning image: with its caption, the unedited image's caption (for "none": that of night), and an empty one.
    """
    alpha = float(editor.scheduler.alphas_cumprod[timestep])
    named = {
        "walker": "a person",
        "talking": "a portrait",
        "robot": "a toy",
        "lathe": "an object",
        "vivid": "an object",
    }
    out: dict[str, dict[str, list[float]]] = {}
    for subject, name in named.items():
        for c in testset.compositions().get(subject, [])[:2]:
            for edit, pattern in edits.CAPTION_EDITS.items():
                if edit not in c.edits() or edit not in editor.known:
                    continue
                truth = tensor(c.picture(edit))
                z = editor.encode(truth)
                noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
                noisy = alpha**0.5 * z + (1 - alpha) ** 0.5 * noise
                other = edits.CAPTION_EDITS["night" if edit == "none" else "none"]
                hidden = editor.hidden([pattern.format(name), other.format(name), ""])
                x = torch.cat([noisy, torch.zeros_like(z)], 1).expand(3, -1, -1, -1)
                v = editor.unet(x, timestep, encoder_hidden_states=hidden).sample
                y = editor.decode(alpha**0.5 * noisy - (1 - alpha) ** 0.5 * v)
                row = out.setdefault(edit, {"right": [], "source": [], "empty": []})
                for k, key in enumerate(row):
                    row[key].append(psnr(y[k : k + 1], truth))
    return {n: {k: round(float(np.mean(p)), 2) for k, p in row.items()} for n, row in out.items()}


def sheet(editor: Editor, path: Path, steps: int, height: int = 128) -> None:
    """Pairs of rows: ground truth, then result; first column the image itself and "leave it as it is"."""
    names = ["none", *edits.TEN]
    stacks: list[list[torch.Tensor]] = [[] for _ in names]
    for subject, k in (
        ("walker", 0),
        ("walker", 1),
        ("robot", 1),
        ("talking", 2),
        ("lathe", 1),
        ("vivid", 1),
        ("head", 2),
    ):
        if subject not in testset.compositions():
            continue
        c = testset.compositions()[subject][k]
        z = editor.encode(tensor(c.picture())).expand(len(names), -1, -1, -1)
        y = editor.decode(editor.edit(z, [edits.PHRASINGS[n][0] for n in names], steps))
        truth = torch.cat([tensor(c.picture(n)) for n in names])
        for line in (truth, y):
            small = (
                F.interpolate(line, size=(height, height * 3 // 4), mode="area")
                if line.shape[-1] == 192
                else (F.interpolate(line[..., 32:-32], size=(height, height * 3 // 4), mode="area"))
            )
            for stack, picture in zip(stacks, small, strict=True):
                stack.append(picture.permute(1, 2, 0))
    contact_sheets.sheet(stacks, names, len(names), tile=height * 3 // 4).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--text-scale", type=float, default=1.0)
    parser.add_argument("--image-scale", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--sampling", action="store_true")
    parser.add_argument("--bank", type=Path, help="training subjects, for the look-up tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    editor = Editor(args.folder)
    out: dict[str, object] = {"steps": args.steps}
    out["subjects"] = figures(editor, args.steps, args.text_scale, args.image_scale)
    out["regions"] = evaluate_regions.figures(editor, args.bank)
    out["phrasings"] = phrasings(editor)
    out["captions"] = captions(editor)
    if args.sampling:
        out["sampling"] = sampling(editor)
    if args.sheet:
        sheet(editor, args.sheet, args.steps)
        if editor.known & set(regions.MAIN):
            evaluate_regions.sheet(editor, args.sheet.with_name(f"{args.sheet.stem}_parts.jpg"))
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for subject, values in out["subjects"].items():
        print(f"\n{subject}: autoencoder {values['autoencoder']}")
        for name, row in values["edits"].items():
            gain = row["edited"] - row["unedited"]
            print(
                f"  {name:16s} " + "  ".join(f"{k} {v:6.2f}" for k, v in row.items()) + f"  gain {gain:6.2f}"
            )
    print(json.dumps(out["regions"], indent=1))
    print(json.dumps(out["phrasings"]))
    print(json.dumps(out["captions"]))


if __name__ == "__main__":
    main()
