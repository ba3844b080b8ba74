"""Tokenizer for a fixed list of words, built without training data, and a small CLIP text encoder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import edits

WIDTH, LENGTH = 128, 77


def _byte_alphabet() -> list[str]:
    """The printable stand-ins of the 256 bytes, in the order of GPT-2's table [Radford 2019]."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(rest))]


def _split(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    parts = [*word[:-1], word[-1] + "</w>"]
    while len(parts) > 1:
        pairs = [(ranks.get((a, b), 1 << 30), i) for i, (a, b) in enumerate(itertools.pairwise(parts))]
        rank, i = min(pairs)
        if rank == 1 << 30:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt in which every listed word is one token; others are split into letters."""
    ranks: dict[tuple[str, str], int] = {}
    for word in edits.words():
        # Later merges rank below all earlier ones, so existing whole words stay whole.
        while len(parts := _split(word, ranks)) > 1:
            ranks[(parts[0], parts[1])] = len(ranks)
    letters = _byte_alphabet()
    tokens = [*letters, *(c + "</w>" for c in letters)]
    known = set(tokens)
    for a, b in ranks:
        if a + b not in known:
            tokens.append(a + b)
            known.add(a + b)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    merges = "\n".join(f"{a} {b}" for a, b in ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    special = {
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "do_lower_case": True,
                    "add_prefix_space": False, "errors": "replace", **special}, indent=1)
    )  # fmt: skip
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(folder)


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=LENGTH, hidden_act="quick_gelu", projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def tokens(tokenizer: CLIPTokenizer, sentences: list[str]) -> Tensor:
    out = tokenizer(sentences, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return torch.as_tensor(out["input_ids"])
