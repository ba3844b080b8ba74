"""Makes engine/diffusion/configs/clip/merges.txt from OpenAI's published list (MIT).

    python training/clip_vocabulary.py bpe_simple_vocab_16e6.txt.gz

The list is inside the wheels clip-anytorch and open-clip-torch, sha256 924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a.
CLIP uses its first 48,894 merges; the result is byte for byte the merges.txt of SD 1.x and 2.x.
"""  # noqa: E501

import gzip
import hashlib
import sys
from pathlib import Path

PUBLISHED = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
TARGET = Path(__file__).resolve().parents[1] / "engine" / "diffusion" / "configs" / "clip" / "merges.txt"

if __name__ == "__main__":
    raw = Path(sys.argv[1]).read_bytes()
    if hashlib.sha256(raw).hexdigest() != PUBLISHED:
        sys.exit(f"{sys.argv[1]} is not the published list: its sha256 differs.")
    lines = gzip.decompress(raw).decode("utf-8").split("\n")
    tokens = 49152 - 256 - 2  # the vocabulary without the bytes and the two special tokens
    TARGET.write_text("#version: 0.2\n" + "\n".join(lines[1 : tokens + 1]) + "\n", encoding="utf-8")
