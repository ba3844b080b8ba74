"""Splat files of SuperSplat, splat-transform and other viewers open with what they hold; what cannot be read is said."""

import gzip
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.io.splats import SUFFIXES, read_splat
from engine.io.spz import decode_spz, encode_spz, far_out, read_spz
from engine.io.spz_streams import ENTRY
from engine.io.spz_streams import HEADER as V4_HEADER
from engine.messages import result
from engine.render import choose, render_gaussians
from engine.scene import Gaussians, harmonics
from engine.steps import export_scene, import_scene
from tests.scenes import moving_scene, ring

zstandard = pytest.importorskip("zstandard", reason=".spz version 4 needs zstandard")


@pytest.fixture(scope="module")
def gaussians() -> Gaussians:
    return moving_scene(300, views=3).canonical


def drawn(g: Gaussians) -> torch.Tensor:
    return render_gaussians(g, ring(3, size=(64, 48)), choose("auto"), torch.ones(3)).rgb


# -- files of other programs ------------------------------------------------------------------------------------------


def test_reported_files_open(reported: Callable[..., list[Path]]) -> None:
    for file in (p for p in reported("05_supersplat_files") if p.suffix in SUFFIXES):
        scene = result(import_scene.run(file))
        assert len(scene.canonical) > 0
        assert all(bool(torch.isfinite(t).all()) for t in scene.canonical.tensors().values()), file.name


def test_one_splat_in_two_formats_is_one_splat(reported: Callable[..., list[Path]]) -> None:
    (packed,), (other,) = (reported("05_supersplat_files", name) for name in ("a.compressed.ply", "v3.spz"))
    a, b = read_splat(packed), read_splat(other)
    assert len(a) == len(b) and a.sh.shape == b.sh.shape
    apart = torch.cdist(a.means, b.means)
    same = apart.argmin(1)
    assert float(apart.amin(1).mean()) < 1e-3
    assert float((a.log_scales - b.log_scales[same]).abs().mean()) < 1 / 16
    assert float((a.quats * b.quats[same]).sum(-1).abs().mean()) > 0.9999
    assert float((a.sh - b.sh[same]).abs().mean()) < 0.03
    assert float((a.logit_opacities.sigmoid() - b.logit_opacities[same].sigmoid()).abs().mean()) < 0.01


# -- compressed .ply --------------------------------------------------------------------------------------------------


def write_compressed(g: Gaussians, path: Path, has_colors: bool) -> Path:
    """As splat-transform does, with chunks of 256 in the order of the Gaussians."""
    a = g.activated()
    rgb = (g.sh[:, 0] * harmonics.C0 + 0.5).numpy().astype(np.float64)
    columns = {"": g.means.numpy(), "scale_": g.log_scales.numpy(), "color": rgb}
    chunks = [slice(start, start + 256) for start in range(0, len(g), 256)]
    ranges = {k: [(v[c].min(0), v[c].max(0)) for c in chunks] for k, v in columns.items()}

    def parts(kind: str) -> np.ndarray:
        own = [ranges[kind][i // 256] for i in range(len(g))]
        low, high = (np.stack([each[i] for each in own]) for i in (0, 1))
        return (columns[kind] - low) / np.maximum(high - low, 1e-12)

    def packed(values: np.ndarray) -> np.ndarray:
        x, y, z = (
            np.rint(values[:, i] * most).astype(np.uint32) for i, most in enumerate((2047, 1023, 2047))
        )
        return x << 21 | y << 11 | z

    q = a.quats.numpy()
    largest = np.abs(q).argmax(1)
    q = q * np.sign(q[np.arange(len(q)), largest])[:, None]
    rotation = largest.astype(np.uint32)
    for axis in range(4):
        code = np.rint((q[:, axis] / 2**0.5 + 0.5) * 1023).astype(np.uint32)
        rotation = np.where(largest == axis, rotation, rotation << np.uint32(10) | code)
    colors = parts("color") if has_colors else rgb.clip(0, 1)
    rgba = np.rint(np.concatenate([colors, a.opacities.numpy()[:, None]], 1) * 255).astype(np.uint32)
    color = rgba[:, 0] << 24 | rgba[:, 1] << 16 | rgba[:, 2] << 8 | rgba[:, 3]
    names = [f"{bound}_{k}{axis}" for k in ("", "scale_") for bound in ("min", "max") for axis in "xyz"]
    names += [f"{bound}_{c}" for bound in ("min", "max") for c in "rgb"] if has_colors else []
    kinds = ["", "scale_", *(["color"] if has_colors else [])]
    table = np.stack(
        [np.concatenate([np.concatenate(ranges[k][i]) for k in kinds]) for i in range(len(chunks))]
    )
    rest = 3 * (g.sh.shape[1] - 1)
    sh = g.sh[:, 1:].transpose(1, 2).reshape(len(g), rest).numpy()
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {len(chunks)}"]
    lines += [f"property float {n}" for n in names] + [f"element vertex {len(g)}"]
    lines += [f"property uint packed_{n}" for n in ("position", "rotation", "scale", "color")]
    lines += [f"element sh {len(g)}", *(f"property uchar f_rest_{i}" for i in range(rest))] if rest else []
    words = np.stack([packed(parts("")), rotation, packed(parts("scale_")), color], axis=1)
    data = table.astype("<f4").tobytes() + words.astype("<u4").tobytes()
    data += np.clip(np.floor((sh / 8 + 0.5) * 256), 0, 255).astype(np.uint8).tobytes()
    path.write_bytes("\n".join([*lines, "end_header", ""]).encode() + data)
    return path


@pytest.mark.parametrize("has_colors", [True, False])
def test_a_compressed_ply_is_what_was_packed(gaussians: Gaussians, tmp_path: Path, has_colors: bool) -> None:
    dc = gaussians.sh.clone()
    dc[:, 0] = dc[:, 0].clamp(-1.7, 1.7)
    packed = replace(gaussians, sh=dc)
    read = read_splat(write_compressed(packed, tmp_path / "a.ply", has_colors))
    size = float((gaussians.means.amax(0) - gaussians.means.amin(0)).max())
    assert float((read.means - packed.means).abs().max()) < size / 1000
    assert float((read.log_scales - packed.log_scales).abs().max()) < 0.01
    turned = (read.quats * torch.nn.functional.normalize(packed.quats, dim=-1)).sum(-1).abs()
    assert float(turned.min()) > 0.9999
    assert float((read.sh[:, 0] - dc[:, 0]).abs().max()) < 0.01
    assert float((read.sh[:, 1:] - dc[:, 1:]).abs().max()) < 0.04 if dc.shape[1] > 1 else True
    assert float((drawn(read) - drawn(packed)).abs().mean()) < 0.01


def test_a_damaged_compressed_ply_is_one_sentence(gaussians: Gaussians, tmp_path: Path) -> None:
    whole = write_compressed(gaussians, tmp_path / "a.ply", True).read_bytes()
    for name, data, code in [
        ("cut.ply", whole[:-9], "FIL-121"),
        ("few.ply", whole.replace(b"element chunk 2", b"element chunk 1"), "(FIL-121|IO-081)"),
        ("lost.ply", whole.replace(b"packed_scale", b"packed_scala"), "IO-080"),
        ("range.ply", whole.replace(b"min_scale_y", b"min_scale_q"), "IO-082"),
        ("text.ply", whole.replace(b"binary_little_endian", b"ascii"), "FIL-120"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=code):
            read_splat(tmp_path / name)


# -- .splat, .spz of version 4 ----------------------------------------------------------------------------------------


def test_a_splat_file_is_what_was_packed(gaussians: Gaussians, tmp_path: Path) -> None:
    a = gaussians.activated()
    rgb = (gaussians.sh[:, 0] * harmonics.C0 + 0.5).clamp(0, 1)
    rgba = (torch.cat([rgb, a.opacities[:, None]], 1) * 255).round().byte().numpy()
    quats = (a.quats * 128 + 128).round().clamp(0, 255).byte().numpy()
    rows = b"".join(
        struct.pack("<6f", *a.means[i].tolist(), *a.scales[i].tolist())
        + rgba[i].tobytes()
        + quats[i].tobytes()
        for i in range(len(gaussians))
    )
    (tmp_path / "a.splat").write_bytes(rows)
    read = read_splat(tmp_path / "a.splat")
    assert torch.equal(read.means, gaussians.means)
    torch.testing.assert_close(read.activated().scales, a.scales)
    assert float((read.quats * a.quats).sum(-1).abs().min()) > 0.9995
    flat = replace(gaussians, sh=gaussians.sh[:, :1])
    assert float((drawn(read) - drawn(flat)).abs().mean()) < 0.01
    (tmp_path / "b.splat").write_bytes(rows[:-1])
    with pytest.raises(InputError, match="IO-085"):
        read_splat(tmp_path / "b.splat")


@pytest.mark.parametrize("suffix", [".lcc", ".rad"])
def test_formats_that_cannot_be_read_say_what_to_do(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"IO-087"):
        read_splat(tmp_path / f"a{suffix}")


def version_4(data: bytes, g: Gaussians, table_at: int = 32) -> bytes:
    """A file of version 3 in the container of version 4."""
    plain = gzip.decompress(data)
    _, _, count, degree, bits, flags, _ = struct.unpack("<IIIBBBB", plain[:16])
    widths = [9, 1, 3, 3, 4, 3 * (harmonics.bases(degree) - 1)]
    sizes = [count * w for w in widths if w]
    blocks, start = [], 16
    for size in sizes:
        blocks.append(plain[start : start + size])
        start += size
    streams = [zstandard.ZstdCompressor(level=3).compress(block) for block in blocks]
    header = V4_HEADER.pack(0x5053474E, 4, count, degree, bits, flags, len(streams), table_at)
    table = b"".join(ENTRY.pack(len(s), len(b)) for s, b in zip(streams, blocks, strict=True))
    return header + bytes(table_at - 32) + table + b"".join(streams)


@pytest.mark.parametrize("bases", [1, 4, 16])
@pytest.mark.parametrize("table_at", [32, 44])
def test_version_4_holds_what_version_3_holds(gaussians: Gaussians, bases: int, table_at: int) -> None:
    g = replace(gaussians, sh=torch.nn.functional.pad(gaussians.sh[:, :1], (0, 0, 0, bases - 1), value=0.25))
    third = encode_spz(g, "a.spz")
    read, wanted = decode_spz(version_4(third, g, table_at), "a.spz"), decode_spz(third, "a.spz")
    for name, tensor in read.tensors().items():
        assert torch.equal(tensor, wanted.tensors()[name]), name


def test_version_4_that_lies_is_one_sentence(gaussians: Gaussians) -> None:
    whole = version_4(encode_spz(gaussians, "a.spz"), gaussians)
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    count = struct.unpack_from("<I", whole, 8)[0]
    lies = [
        whole[:20],
        whole[:-30],
        whole[:8] + struct.pack("<I", count + 1) + whole[12:],
        whole[:4] + struct.pack("<I", 5) + whole[8:],
        whole[:15] + b"\x02" + whole[16:],
        whole[:16] + struct.pack("<I", 2**31) + whole[20:],
        whole[:32] + ENTRY.pack(len(bomb), count * 9) + whole[48 : 32 + 16 * whole[15]] + bomb,
        whole[:200] + bytes(50) + whole[250:],
    ]
    for data in lies:
        with pytest.raises(InputError, match=r"IO-0(36|37|86)"):
            decode_spz(data, "a.spz")


# -- one Gaussian far away --------------------------------------------------------------------------------------------


def test_reported_outliers_cost_the_others_nothing(
    reported: Callable[..., list[Path]], tmp_path: Path
) -> None:
    for file in reported("17_spz_outlier", "*.ply"):
        scene = result(import_scene.run(file))
        written = result(export_scene.run(scene, export_scene.Config(kind="spz"), tmp_path / "a.spz"))
        far = far_out(scene.canonical.means)
        read, near = read_spz(tmp_path / "a.spz"), scene.canonical.means[~far]
        assert bool(far.any()) == bool(written.notes) and len(read) == len(near)
        limit = 1.01 * 2**-21 * max(float(near.abs().max()), 1.0)
        assert float((read.means - near).abs().max()) <= limit
        if far.any():
            assert f"{int(far.sum())} Gaussian" in written.notes[0] and "left out" in written.notes[0]


def test_backgrounds_and_sequences_keep_every_gaussian_that_counts(
    gaussians: Gaussians, tmp_path: Path
) -> None:
    scene = moving_scene(300, views=3)
    means = scene.canonical.means.clone()
    means[:9] *= 1e4
    assert not far_out(means).any(), "nine of three hundred are a background"
    means = scene.canonical.means.clone()
    means[5] = 1e5
    moved = scene.with_(canonical=replace(scene.canonical, means=means))
    config = export_scene.Config(kind="spz sequence", moments=2)
    written = result(export_scene.run(moved, config, tmp_path / "frames"))
    assert [len(read_spz(path)) for path in written[:-1]] == [299, 299] and "left out" in written.notes[0]
    plain = result(export_scene.run(scene, config, tmp_path / "plain"))
    assert [len(read_spz(path)) for path in plain[:-1]] == [300, 300]
    assert not any("left out" in note for note in plain.notes)
