"""Weight files that the safetensors library refuses end in one sentence of the header reader."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.diffusion.loading import load
from engine.errors import InputError
from engine.files.safetensors_header import read_header


def is_refused_by_library(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return False
    except SafetensorError:
        return True


def written(path: Path, table: dict[str, tuple[list[int], int, int]], body: int) -> Path:
    header = {k: {"dtype": "F32", "shape": s, "data_offsets": [a, b]} for k, (s, a, b) in table.items()}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(body))
    return path


def test_reported_weights_end_in_a_sentence(reported: Callable[..., list[Path]]) -> None:
    for file in reported("13_weights", "*.safetensors"):
        with pytest.raises(InputError) as refused:
            load(file)
        assert file.name in str(refused.value)
        assert "\n" not in str(refused.value)


def test_bytes_after_the_last_tensor_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert read_header(path).shapes == {"a": (3,)}
    path.write_bytes(path.read_bytes() + b"\r\n")
    with pytest.raises(InputError, match=r"model\.safetensors has 2 bytes after its last tensor"):
        read_header(path)
    assert read_header(path, must_be_whole=False).shapes == {"a": (3,)}


@pytest.mark.parametrize(
    ("table", "body"),
    [
        ({"a": ([2], 0, 8), "b": ([1], 12, 16)}, 16),
        ({"a": ([2], 0, 8), "b": ([2], 4, 12)}, 12),
        ({"a": ([2], 4, 12)}, 12),
        ({"a": ([3], 0, 8)}, 8),
    ],
    ids=["gap", "overlap", "starts late", "shape"],
)
def test_tables_that_the_library_refuses_are_damaged(
    table: dict[str, tuple[list[int], int, int]], body: int, tmp_path: Path
) -> None:
    path = written(tmp_path / "model.safetensors", table, body)
    assert is_refused_by_library(path)
    with pytest.raises(InputError, match=r"the entry of '[ab]' is damaged"):
        read_header(path)
