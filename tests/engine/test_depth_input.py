"""Depth on the command line: images of one channel keep their precision, others are photographs."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.cli.kinds import READERS
from engine.errors import InputError
from engine.steps.step import Kind


def read(path: Path) -> torch.Tensor:
    made: Any = READERS[Kind.DEPTH].read(str(path), Namespace(), {})
    return made


def test_images_of_one_channel_are_millimeters_at_full_precision(tmp_path: Path) -> None:
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) + 3000
    Image.fromarray(values).save(tmp_path / "0.png")
    Image.fromarray(values.repeat(2, 0).repeat(2, 1) + 500).save(tmp_path / "1.png")
    made = read(tmp_path)
    assert made.shape == (2, 6, 8)
    meters = torch.from_numpy(values.astype(np.float32)) / 1000
    assert torch.allclose(made, torch.stack([meters, meters + 0.5]), atol=1e-6)
    assert torch.equal(read(tmp_path / "0.png")[0], made[0])


def test_images_of_several_channels_are_photographs(tmp_path: Path) -> None:
    pixels = np.full((6, 8, 3), 51, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "1.png")
    made = read(tmp_path)
    assert made.shape == (2, 6, 8, 3) and torch.allclose(made, torch.tensor(0.2))


def test_images_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="IO-062"):
        read(tmp_path)
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((6, 16), np.uint16)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match="IO-064"):
        read(tmp_path)
