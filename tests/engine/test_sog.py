"""`.sog` files that are damaged, lie, or lead elsewhere are refused with one sentence."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError
from engine.io.splats import read_splat
from tests.memory import bounded

COUNT = 12


def webp(width: int, height: int, value: tuple[int, int, int, int] = (9, 8, 7, 252)) -> bytes:
    packed = io.BytesIO()
    image = Image.fromarray(np.tile(np.array(value, np.uint8), (height, width, 1)))
    image.save(packed, "WEBP", lossless=True, exact=True)
    return packed.getvalue()


def bundle(
    path: Path, change: Callable[[dict[str, Any]], object] = lambda meta: None, **files: bytes
) -> Path:
    """A .sog of 12 Gaussians that are all the same; `change` is given meta.json, `files` replace or add files."""
    meta: dict[str, Any] = {
        "version": 2,
        "count": COUNT,
        "means": {"mins": [-1, -1, -1], "maxs": [1, 1, 1], "files": ["means_l.webp", "means_u.webp"]},
        "scales": {"codebook": [-5.0] * 256, "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": [0.5] * 256, "files": ["sh0.webp"]},
        "shN": {"count": 64, "bands": 1, "codebook": [0.25] * 256, "files": ["cen.webp", "lab.webp"]},
    }
    change(meta)
    named = {"means_l": webp(4, 4), "means_u": webp(4, 4), "scales": webp(4, 4), "quats": webp(4, 4)}
    named |= {"sh0": webp(4, 4), "cen": webp(192, 1), "lab": webp(4, 4, (5, 0, 0, 255))} | files
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps(meta))
        for name, data in named.items():
            archive.writestr(f"{name}.webp", data)
    return path


def test_a_sog_without_flaws_is_read(tmp_path: Path) -> None:
    read = read_splat(bundle(tmp_path / "a.sog"))
    assert len(read) == COUNT and read.sh_degree == 1
    assert torch.equal(read.log_scales, torch.full((COUNT, 3), -5.0))
    assert torch.equal(read.sh[:, 1:], torch.full((COUNT, 3, 3), 0.25))


def setting(*keys: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(meta: dict[str, Any]) -> None:
        for key in keys[:-1]:
            meta = meta[key]
        meta[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, code",
    [
        (setting("version", value=3), "IO-115"),
        (setting("count", value=17), "IO-113"),
        (setting("count", value=10**9), "IO-116"),
        (setting("count", value=-1), "IO-116"),
        (setting("count", value="12"), "IO-116"),
        (setting("means", "files", value=["../means_l.webp", "means_u.webp"]), "IO-112"),
        (setting("means", "files", value=["/etc/passwd", "means_u.webp"]), "IO-112"),
        (setting("means", "mins", value=[0, 0]), "IO-113"),
        (setting("means", "mins", value=[0, 0, float("nan")]), "IO-113"),
        (setting("means", "maxs", value=[0, 0, 1e5]), "IO-113"),
        (setting("scales", "codebook", value=[0.0] * 255), "IO-113"),
        (setting("sh0", value=None), "IO-113"),
        (setting("shN", "bands", value=7), "IO-113"),
        (setting("shN", "bands", value=2), "IO-113"),
        (setting("shN", "count", value=70_000), "IO-113"),
    ],
)
def test_a_meta_json_that_lies_is_one_sentence(
    change: Callable[[dict[str, Any]], object], code: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=code):
        read_splat(bundle(tmp_path / "a.sog", change))


@pytest.mark.parametrize(
    "files, code",
    [
        ({"quats": webp(4, 4)[:-8]}, "IO-114"),
        ({"quats": b"no image"}, "IO-114"),
        ({"sh0": webp(2, 4)}, "IO-113"),
        ({"sh0": webp(2000, 2000)}, "IO-113"),
        ({"cen": webp(191, 1)}, "IO-113"),
        # a set of harmonics in row 1024 / 64 of a palette with one
        ({"lab": webp(4, 4, (0, 4, 0, 255))}, "IO-113"),
    ],
)
def test_images_that_do_not_fit_are_one_sentence(files: dict[str, bytes], code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=code):
        read_splat(bundle(tmp_path / "a.sog", **files))


@pytest.mark.parametrize(
    "name", ["../outside.webp", "/outside.webp", "a/../../outside.webp", "C:\\outside.webp"]
)
def test_a_path_that_leads_out_of_the_zip_is_refused_and_nothing_is_written(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = bundle(folder / "a.sog")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match=r"FIL-147"):
        read_splat(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.sog"]


def test_a_sog_that_is_cut_short_or_no_zip_is_one_sentence(tmp_path: Path) -> None:
    whole = bundle(tmp_path / "a.sog").read_bytes()
    for data in (whole[:-30], whole[:200], b"", b"PK"):
        (tmp_path / "b.sog").write_bytes(data)
        with pytest.raises(InputError, match=r"FIL-143"):
            read_splat(tmp_path / "b.sog")
    at = whole.index(b"means_u.webp") + 60
    (tmp_path / "c.sog").write_bytes(whole[:at] + b"\xff\xff\xff" + whole[at + 3 :])
    with pytest.raises(InputError, match=r"IO-111"):
        read_splat(tmp_path / "c.sog")
    with pytest.raises(InputError, match=r"IO-110"):
        read_splat(tmp_path / "missing.sog")


def test_few_bytes_that_claim_millions_of_gaussians_cost_nothing(tmp_path: Path) -> None:
    flat = webp(4000, 4000)
    names = ("means_l", "means_u", "scales", "quats", "sh0", "lab")
    path = bundle(tmp_path / "a.sog", setting("count", value=16_000_000), **dict.fromkeys(names, flat))
    assert path.stat().st_size < 1_000_000
    bounded(lambda: read_splat(path), "IO-116", 30)
