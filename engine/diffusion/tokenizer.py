"""CLIP's tokenizer from the bundled merges, for single-file checkpoints, which do not contain one.

`configs/clip/merges.txt` is OpenAI's list (MIT license in the same folder). The vocabulary follows from it (code of
Radford et al. 2021): 256 bytes, the same 256 as word endings, one token per merge, start and end of text.
"""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

MERGES = Path(__file__).parent / "configs" / "clip" / "merges.txt"


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte, in the order of CLIP's vocabulary: printable bytes first, then the rest."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in own] + [chr(256 + i) for i in range(256 - len(own))]


def vocabulary(merges: Path = MERGES) -> dict[str, int]:
    """Token → number of CLIP's 49,408 tokens."""
    letters = byte_letters()
    pairs = merges.read_text(encoding="utf-8").splitlines()[1:]
    words = [*letters, *(letter + "</w>" for letter in letters), *(pair.replace(" ", "") for pair in pairs)]
    return {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


@lru_cache
def clip_tokenizer(pad: str = "<|endoftext|>") -> Any:
    """transformers' CLIPTokenizer with this vocabulary, 77 tokens. SD 1.x pads with the end of text, SD 2.x with "!"."""
    from transformers import CLIPTokenizer

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary()), encoding="utf-8")
        Path(folder, "merges.txt").write_bytes(MERGES.read_bytes())
        return CLIPTokenizer.from_pretrained(
            folder, model_max_length=77, pad_token=pad, local_files_only=True
        )
