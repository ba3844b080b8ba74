"""Tensor names and shapes of SD 1.x / 2.x / InstructPix2Pix files as their authors' code writes them.

Written from the published architecture (Rombach et al. 2022: `openaimodel.UNetModel`, `AutoencoderKL`,
`FrozenCLIPEmbedder` / `FrozenOpenCLIPEmbedder`), not from any converter: it is what converters are tested against.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

Shapes = dict[str, tuple[int, ...]]


def _affine(out: Shapes, name: str, *shape: int) -> None:
    out[name + ".weight"], out[name + ".bias"] = shape, shape[:1]


def unet(width: int = 320, context: int = 768, in_channels: int = 4, linear: bool = False) -> Shapes:
    out: Shapes = {}
    prefix = "model.diffusion_model."

    def res(name: str, before: int, after: int) -> None:
        _affine(out, name + ".in_layers.0", before)
        _affine(out, name + ".in_layers.2", after, before, 3, 3)
        _affine(out, name + ".emb_layers.1", after, 4 * width)
        _affine(out, name + ".out_layers.0", after)
        _affine(out, name + ".out_layers.3", after, after, 3, 3)
        if before != after:
            _affine(out, name + ".skip_connection", after, before, 1, 1)

    def transformer(name: str, c: int) -> None:
        square = (c, c) if linear else (c, c, 1, 1)
        _affine(out, name + ".norm", c)
        _affine(out, name + ".proj_in", *square)
        _affine(out, name + ".proj_out", *square)
        block = name + ".transformer_blocks.0."
        for attention, source in (("attn1", c), ("attn2", context)):
            out[f"{block}{attention}.to_q.weight"] = (c, c)
            out[f"{block}{attention}.to_k.weight"] = (c, source)
            out[f"{block}{attention}.to_v.weight"] = (c, source)
            _affine(out, f"{block}{attention}.to_out.0", c, c)
        _affine(out, block + "ff.net.0.proj", 8 * c, c)
        _affine(out, block + "ff.net.2", c, 4 * c)
        for i in (1, 2, 3):
            _affine(out, f"{block}norm{i}", c)

    _affine(out, prefix + "time_embed.0", 4 * width, width)
    _affine(out, prefix + "time_embed.2", 4 * width, 4 * width)
    _affine(out, prefix + "input_blocks.0.0", width, in_channels, 3, 3)
    channels, skips, number = width, [width], 1
    levels = [width, 2 * width, 4 * width, 4 * width]
    for level, c in enumerate(levels):
        for _ in range(2):
            res(f"{prefix}input_blocks.{number}.0", channels, c)
            if level < 3:
                transformer(f"{prefix}input_blocks.{number}.1", c)
            channels, number = c, number + 1
            skips.append(c)
        if level < 3:
            _affine(out, f"{prefix}input_blocks.{number}.0.op", c, c, 3, 3)
            number += 1
            skips.append(c)
    res(prefix + "middle_block.0", channels, channels)
    transformer(prefix + "middle_block.1", channels)
    res(prefix + "middle_block.2", channels, channels)
    number = 0
    for level, c in reversed(list(enumerate(levels))):
        for i in range(3):
            name = f"{prefix}output_blocks.{number}"
            res(name + ".0", channels + skips.pop(), c)
            if level < 3:
                transformer(name + ".1", c)
            if level and i == 2:
                _affine(out, f"{name}.{2 if level < 3 else 1}.conv", c, c, 3, 3)
            channels, number = c, number + 1
    _affine(out, prefix + "out.0", width)
    _affine(out, prefix + "out.2", 4, width, 3, 3)
    return out


def vae(width: int = 128) -> Shapes:
    out: Shapes = {}
    levels = [width, 2 * width, 4 * width, 4 * width]

    def res(name: str, before: int, after: int) -> None:
        _affine(out, name + ".norm1", before)
        _affine(out, name + ".conv1", after, before, 3, 3)
        _affine(out, name + ".norm2", after)
        _affine(out, name + ".conv2", after, after, 3, 3)
        if before != after:
            _affine(out, name + ".nin_shortcut", after, before, 1, 1)

    def middle(name: str, c: int) -> None:
        res(name + ".mid.block_1", c, c)
        _affine(out, name + ".mid.attn_1.norm", c)
        for part in ("q", "k", "v", "proj_out"):
            _affine(out, f"{name}.mid.attn_1.{part}", c, c, 1, 1)
        res(name + ".mid.block_2", c, c)

    encoder, decoder, channels = "first_stage_model.encoder", "first_stage_model.decoder", width
    _affine(out, encoder + ".conv_in", width, 3, 3, 3)
    for level, c in enumerate(levels):
        for i in range(2):
            res(f"{encoder}.down.{level}.block.{i}", channels, c)
            channels = c
        if level < 3:
            _affine(out, f"{encoder}.down.{level}.downsample.conv", c, c, 3, 3)
    middle(encoder, channels)
    _affine(out, encoder + ".norm_out", channels)
    _affine(out, encoder + ".conv_out", 8, channels, 3, 3)
    _affine(out, "first_stage_model.quant_conv", 8, 8, 1, 1)
    _affine(out, "first_stage_model.post_quant_conv", 4, 4, 1, 1)
    _affine(out, decoder + ".conv_in", channels, 4, 3, 3)
    middle(decoder, channels)
    for level, c in reversed(list(enumerate(levels))):
        for i in range(3):
            res(f"{decoder}.up.{level}.block.{i}", channels, c)
            channels = c
        if level:
            _affine(out, f"{decoder}.up.{level}.upsample.conv", c, c, 3, 3)
    _affine(out, decoder + ".norm_out", width)
    _affine(out, decoder + ".conv_out", 3, width, 3, 3)
    return out


def clip_text(width: int = 768, layers: int = 12, vocabulary: int = 49408) -> Shapes:
    """SD 1.x: CLIP ViT-L/14 in transformers' names (without the integer buffer position_ids)."""
    out: Shapes = {}
    prefix = "cond_stage_model.transformer.text_model."
    out[prefix + "embeddings.token_embedding.weight"] = (vocabulary, width)
    out[prefix + "embeddings.position_embedding.weight"] = (77, width)
    for i in range(layers):
        layer = f"{prefix}encoder.layers.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _affine(out, f"{layer}self_attn.{part}", width, width)
        _affine(out, layer + "mlp.fc1", 4 * width, width)
        _affine(out, layer + "mlp.fc2", width, 4 * width)
        _affine(out, layer + "layer_norm1", width)
        _affine(out, layer + "layer_norm2", width)
    _affine(out, prefix + "final_layer_norm", width)
    return out


def open_clip_text(width: int = 1024, layers: int = 24, vocabulary: int = 49408) -> Shapes:
    """SD 2.x: OpenCLIP ViT-H/14; its last block is in the file and not used."""
    out: Shapes = {}
    prefix = "cond_stage_model.model."
    out[prefix + "positional_embedding"] = (77, width)
    out[prefix + "text_projection"] = (width, width)
    out[prefix + "logit_scale"] = ()
    out[prefix + "token_embedding.weight"] = (vocabulary, width)
    for i in range(layers):
        block = f"{prefix}transformer.resblocks.{i}."
        out[block + "attn.in_proj_weight"], out[block + "attn.in_proj_bias"] = (
            (3 * width, width),
            (3 * width,),
        )
        _affine(out, block + "attn.out_proj", width, width)
        _affine(out, block + "ln_1", width)
        _affine(out, block + "ln_2", width)
        _affine(out, block + "mlp.c_fc", 4 * width, width)
        _affine(out, block + "mlp.c_proj", width, 4 * width)
    _affine(out, prefix + "ln_final", width)
    return out


def schedule() -> Shapes:
    """Buffers of the authors' training code that lie in the same file and mean nothing here."""
    return {
        name: (1000,)
        for name in ("betas", "alphas_cumprod", "sqrt_alphas_cumprod", "log_one_minus_alphas_cumprod")
    }


def averages(shapes: Shapes) -> Shapes:
    """The averaged UNet: dots of the name are gone (LitEma)."""
    return {
        "model_ema." + name.removeprefix("model.").replace(".", ""): shape
        for name, shape in shapes.items()
        if name.startswith("model.diffusion_model.")
    }


def hollow_file(
    path: Path,
    shapes: Shapes,
    values: dict[str, torch.Tensor] | None = None,
    metadata: dict[str, str] | None = None,
    cut: int = 0,
) -> Path:
    """A real .safetensors of these names and shapes in fp16: `values` where given, else zeros that take no disk."""
    table: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    at, places = 0, {}
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        table[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        places[name] = at
        at += size
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + at - cut)
        for name, tensor in (values or {}).items():
            file.seek(8 + len(header) + places[name])
            file.write(tensor.half().contiguous().numpy().tobytes())
    return path
