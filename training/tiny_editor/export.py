"""Write the trained parts as a diffusers folder in fp16, with gs4d.json.

python -m training.tiny_editor.export --run RUN --out assets/models/tiny-instruct-pix2pix [--untrained | --facts]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import torch
from transformers import CLIPTextModel

from . import autoencoder, editor, edits, text

RECOMMENDED = {
    "steps": 1, "guidance_scale": 1.0, "image_guidance_scale": 1.0, "resolution": 256,
    "min_timestep": 0.9, "max_timestep": 0.98, "keeps_detail": True,
}  # fmt: skip

TRAINED_SCALE = 0.064
"""Standard deviation in a trained word's vector; 0.02 in an untrained one."""


def _json(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    os.replace(partial, path)


def write_facts(out: Path, is_new: bool = False, weak: Collection[str] | None = None) -> None:
    """gs4d.json: what the model knows (new weights: every edit), and the recommended settings that it already holds.

    Args:
        out: The model's folder.
        is_new: Whether weights were written too: the old lists do not hold then.
        weak: Edits that it barely makes; None: not given, so that old weights keep their list and new ones have none.
    """
    file = out / "gs4d.json"
    kept = json.loads(file.read_text()) if file.exists() else {"recommended": RECOMMENDED}
    names = edits.NAMES if is_new else kept.get("known_edits", edits.NAMES)
    before = () if is_new else kept.get("weak_edits", ())
    _json(file, {**edits.facts(names, before if weak is None else weak), "recommended": kept["recommended"]})


def export(run: Path | None, out: Path, weak: Collection[str] | None = None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text.write_tokenizer(out / "tokenizer")
    tokenizer = text.load_tokenizer(out / "tokenizer")
    vae, unet, encoder = autoencoder.build(), editor.build(), text.build(tokenizer)
    if run is None:
        autoencoder.linear_start(vae)
        editor.linear_start(unet, torch.zeros(1000), torch.full((1000,), -0.7))
    else:
        vae.load_state_dict(autoencoder.averaged(run / "whitened.pt"))
        values = autoencoder.averaged(run / "editor.pt")
        unet.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("unet.")})
        encoder.load_state_dict({k[5:]: v for k, v in values.items() if k.startswith("text.")})
    vae.half().save_pretrained(out / "vae")
    unet.half().save_pretrained(out / "unet")
    encoder.half().save_pretrained(out / "text_encoder")
    editor.scheduler().save_pretrained(out / "scheduler")
    _json(
        out / "model_index.json",
        {
            "_class_name": "StableDiffusionInstructPix2PixPipeline", "_diffusers_version": "0.35.0",
            "feature_extractor": [None, None], "image_encoder": [None, None], "requires_safety_checker": False,
            "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        },
    )  # fmt: skip
    write_facts(out, is_new=True, weak=weak)
    for part in ("vae", "unet", "text_encoder", "scheduler"):
        shutil.rmtree(out / part / ".cache", ignore_errors=True)
    print(sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6, "MB")


def into_run(folder: Path, run: Path) -> None:
    """The bundled model as checkpoints to start from: RUN/whitened.pt and RUN/editor.pt, in fp32."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    encoder = grown(
        CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32), folder, run
    )
    both = torch.nn.ModuleDict({"unet": unet, "text": encoder})
    autoencoder.save(run / "whitened.pt", {"ema": vae.state_dict()})
    autoencoder.save(run / "editor_shipped.pt", {"ema": both.state_dict()})


def grown(encoder: CLIPTextModel, folder: Path, run: Path) -> CLIPTextModel:
    """The encoder with the current list of words: trained tokens keep their vectors, others start at random, as long."""
    text.write_tokenizer(run / "tokenizer")
    tokenizer = text.load_tokenizer(run / "tokenizer")
    before = text.load_tokenizer(folder / "tokenizer").get_vocab()
    larger = text.build(tokenizer)
    values = encoder.state_dict()
    key = next(name for name in values if name.endswith("token_embedding.weight"))
    # An untrained vector is far shorter than a trained one, and its word would hardly count beside others.
    table = TRAINED_SCALE * torch.randn(
        larger.state_dict()[key].shape, generator=torch.Generator().manual_seed(0)
    )
    for token, row in tokenizer.get_vocab().items():
        if token in before and values[key][before[token]].std() > TRAINED_SCALE / 2:
            table[row] = values[key][before[token]]
    larger.load_state_dict({**values, key: table})
    return larger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument(
        "--weak", nargs="*", choices=edits.NAMES, help="edits that it barely makes, as measured"
    )
    parser.add_argument("--facts", action="store_true", help="write gs4d.json alone")
    parser.add_argument(
        "--into-run", type=Path, help="the reverse: read OUT, write checkpoints to start from"
    )
    args = parser.parse_args()
    if args.into_run:
        into_run(args.out, args.into_run)
        return
    if args.facts:
        write_facts(args.out, weak=args.weak)
        return
    export(None if args.untrained else args.run, args.out, args.weak)


if __name__ == "__main__":
    main()
