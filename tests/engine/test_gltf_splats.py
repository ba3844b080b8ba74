"""glTF with KHR_gaussian_splatting: the extension's rules, Khronos' validator, splat-transform's files, and bad input."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.io.gltf.splat_writing import write_glb
from engine.io.ply import write_ply
from engine.io.splats import read_splat
from engine.io.spz import encode_spz
from engine.scene import Gaussians, harmonics, rotations
from tests.gltf_files import Gltf, triangle
from tests.judges import splat_transform, validated
from tests.splat_bytes import varied

NAME = "KHR_gaussian_splatting"
SPZ = "KHR_gaussian_splatting_compression_spz_2"


def opened(path: Path) -> tuple[dict[str, Any], bytes]:
    """JSON and binary chunk, by the glTF specification alone."""
    data = path.read_bytes()
    magic, version, length, size, kind = struct.unpack_from("<4sIIII", data)
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), 0x4E4F534A) and size % 4 == 0
    blob_size, blob_kind = struct.unpack_from("<II", data, 20 + size)
    assert blob_kind == 0x004E4942 and blob_size % 4 == 0 and 28 + size + blob_size == length
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def packed(content: dict[str, Any], blob: bytes) -> bytes:
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def stored(content: dict[str, Any], blob: bytes, name: str) -> np.ndarray:
    accessor = content["accessors"][content["meshes"][0]["primitives"][0]["attributes"][name]]
    view = content["bufferViews"][accessor["bufferView"]]
    dtype, columns = {5126: "<f4", 5121: "u1"}[accessor["componentType"]], {"SCALAR": 1, "VEC3": 3, "VEC4": 4}
    assert view["byteOffset"] % 4 == 0
    values = np.frombuffer(blob, dtype, accessor["count"] * columns[accessor["type"]], view["byteOffset"])
    return values.reshape(accessor["count"], -1)


def covariances(g: Gaussians) -> torch.Tensor:
    a = g.map(lambda t: t.double()).activated()
    half = rotations.quats_to_matrices(a.quats) * a.scales[:, None, :]
    return half @ half.transpose(1, 2)


def agree(a: Gaussians, b: Gaussians, means: float = 1e-5, sh: float = 1e-5) -> None:
    assert torch.allclose(a.means, b.means, atol=means)
    assert (
        float(
            ((covariances(a) - covariances(b)).abs().amax((1, 2)) / covariances(b).abs().amax((1, 2))).max()
        )
        < 1e-4
    )
    assert torch.allclose(a.activated().opacities, b.activated().opacities, atol=1e-5)
    assert torch.allclose(a.sh, b.sh, atol=sh)


# -- what is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_glb_keeps_the_rules_of_the_extension(degree: int, tmp_path: Path) -> None:
    g = varied(50, degree)
    content, blob = opened(write_glb(g, tmp_path / "a.glb"))
    (primitive,) = content["meshes"][0]["primitives"]
    assert NAME in content["extensionsUsed"] and "extensionsRequired" not in content
    assert primitive["mode"] == 0
    assert primitive["extensions"][NAME] == {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    wanted = {f"{NAME}:{part}" for part in ("ROTATION", "SCALE", "OPACITY")} | {"POSITION", "COLOR_0"}
    wanted |= {f"{NAME}:SH_DEGREE_{d}_COEF_{i}" for d in range(degree + 1) for i in range(2 * d + 1)}
    assert set(primitive["attributes"]) == wanted
    position = stored(content, blob, "POSITION")
    accessor = content["accessors"][primitive["attributes"]["POSITION"]]
    assert accessor["min"] == position.min(0).tolist() and accessor["max"] == position.max(0).tolist()
    # x left, y up, z front
    assert np.array_equal(position, g.means.numpy() * [-1, -1, 1])
    assert np.allclose(np.linalg.norm(stored(content, blob, f"{NAME}:ROTATION"), axis=1), 1, atol=1e-6)
    assert np.allclose(stored(content, blob, f"{NAME}:SCALE"), g.log_scales.exp())
    assert np.allclose(stored(content, blob, f"{NAME}:OPACITY")[:, 0], g.logit_opacities.sigmoid())
    assert np.array_equal(stored(content, blob, f"{NAME}:SH_DEGREE_0_COEF_0"), g.sh[:, 0])
    # the colors of points are linear
    srgb = (g.sh[:, 0] * harmonics.C0 + 0.5).clamp(0, 1).numpy()
    linear = stored(content, blob, "COLOR_0")[:, :3] / 255
    again = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(again - srgb).max() < 0.03 and np.abs(again - srgb).mean() < 0.005


@pytest.mark.parametrize("compresses", [False, True])
def test_the_validator_finds_no_error_but_names_that_it_does_not_know(
    compresses: bool, tmp_path: Path
) -> None:
    path = write_glb(varied(50, 3), tmp_path / "a.glb", compresses)
    content, blob = opened(path)
    names = [name for name in content["meshes"][0]["primitives"][0]["attributes"] if ":" in name]
    unknown = [m for m in validated(path)["issues"]["messages"] if m["severity"] == 0]
    assert len(names) == 19 and {m["code"] for m in unknown} == {"MESH_PRIMITIVE_INVALID_ATTRIBUTE"}
    assert {m["pointer"].rpartition("/")[2] for m in unknown} == set(names)
    # with names of an application, which it checks like any others
    text = json.dumps(content).replace(f'"{NAME}:', f'"_{NAME.upper()}_')
    (tmp_path / "b.glb").write_bytes(packed(json.loads(text), blob))
    issues = validated(tmp_path / "b.glb")["issues"]
    assert issues["numErrors"] == issues["numWarnings"] == 0, issues


def test_a_glb_and_back_is_the_same(tmp_path: Path) -> None:
    g = varied(300, 3)
    read = read_splat(write_glb(g, tmp_path / "a.glb"))
    assert torch.equal(read.means, g.means) and torch.equal(read.sh, g.sh)
    agree(read, g)


def test_a_compressed_glb_is_an_spz_of_version_2_and_required(tmp_path: Path) -> None:
    g = varied(300, 2)
    content, blob = opened(write_glb(g, tmp_path / "a.glb", compresses=True))
    assert set(content["extensionsRequired"]) == set(content["extensionsUsed"]) == {NAME, SPZ}
    extension = content["meshes"][0]["primitives"][0]["extensions"][NAME]
    view = content["bufferViews"][extension["extensions"][SPZ]["bufferView"]]
    assert blob[: view["byteLength"]] == encode_spz(g, "a.spz", version=2)
    assert all("bufferView" not in a and a["count"] == 300 for a in content["accessors"])
    read = read_splat(tmp_path / "a.glb")
    assert float((read.means - g.means).abs().max()) < 1e-5
    assert float((read.activated().opacities - g.activated().opacities).abs().max()) < 1 / 500
    # before kernels were named, Cesium's tools kept glTF's axes inside the .spz
    del extension["kernel"]
    (tmp_path / "old.glb").write_bytes(packed(content, blob))
    old = read_splat(tmp_path / "old.glb")
    assert torch.equal(old.means, read.means * torch.tensor([-1.0, 1, -1]))


# -- files of others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_glb_of_splat_transform_is_the_same_scene(degree: int, tmp_path: Path) -> None:
    g = varied(300, degree)
    made = splat_transform(write_ply(g, tmp_path / "a.ply"), tmp_path / "theirs.glb")
    agree(read_splat(made), g)
    # it turns harmonics of degree 2 and 3 in float32
    theirs, ours = opened(made), opened(write_glb(g, tmp_path / "ours.glb"))
    for name in ours[0]["meshes"][0]["primitives"][0]["attributes"]:
        # its rotations differ by half turns of a Gaussian's own axes, and its colors of points are not linear
        if name not in ("COLOR_0", f"{NAME}:ROTATION"):
            assert np.allclose(stored(*theirs, name), stored(*ours, name), atol=1e-5), name


def file_of(g: Gaussians, path: Path, **more: Any) -> Path:
    """A .glb whose only node has other properties."""
    content, blob = opened(write_glb(g, path))
    content["nodes"] = [{"mesh": 0, **more}]
    path.write_bytes(packed(content, blob))
    return path


def in_gltf(g: Gaussians) -> Gaussians:
    return g.with_(
        means=g.means * torch.tensor([-1.0, -1, 1]), quats=g.quats * torch.tensor([1.0, -1, -1, 1])
    )


@pytest.mark.parametrize("scale", [[2.0, 2.0, 2.0], [1.0, 3.0, 0.5]])
def test_gaussians_follow_their_node(scale: list[float], tmp_path: Path) -> None:
    g, half = varied(200, 3), math.sqrt(0.5)
    # a quarter turn about y, which takes z to x and x to -z
    node = {"translation": [1, 2, 3], "rotation": [0, half, 0, half], "scale": scale}
    read = read_splat(file_of(g, tmp_path / "a.glb", **node))
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=torch.float64)
    matrix = turn @ torch.diag(torch.tensor(scale, dtype=torch.float64))
    wanted = in_gltf(g).means.double() @ matrix.T + torch.tensor([1.0, 2, 3])
    assert torch.allclose(in_gltf(read).means.double(), wanted, atol=1e-5)
    moved = matrix @ covariances(in_gltf(g)) @ matrix.T
    assert (
        float(((covariances(in_gltf(read)) - moved).abs().amax((1, 2)) / moved.abs().amax((1, 2))).max())
        < 1e-4
    )
    # a color is seen from the turned direction (in this pack's axes, where the turn is about -y)
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.7, 0.5]), dim=0)
    axes = torch.diag(torch.tensor([-1.0, -1, 1]))
    own = axes @ turn.float() @ axes
    before, after = harmonics.colors(g.sh, direction), harmonics.colors(read.sh, own @ direction)
    assert torch.allclose(before, after, atol=1e-5)


def test_quantized_attributes_parents_and_several_primitives(tmp_path: Path) -> None:
    made = Gltf()
    attributes = {
        "POSITION": made.array([[0, 0, 0], [1, 2, 3]]),
        f"{NAME}:ROTATION": made.array([[0, 0, 0, 127], [127, 0, 0, 0]], "i1", normalized=True),
        f"{NAME}:SCALE": made.array([[1, 2, 3], [4, 5, 6]], "u1"),
        f"{NAME}:OPACITY": made.array([[0], [65535]], "u2", normalized=True),
        f"{NAME}:SH_DEGREE_0_COEF_0": made.array([[1, 0, -1], [0.5, 0.25, 0]]),
    }
    extension = {NAME: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}}
    primitive = {"attributes": attributes, "mode": 0, "extensions": extension}
    made.add("meshes", primitives=[primitive, primitive])
    made.add("nodes", children=[1], translation=[10, 0, 0])
    made.add("nodes", mesh=0, scale=[2, 2, 2])
    (tmp_path / "a.glb").write_bytes(made.glb())
    g = read_splat(tmp_path / "a.glb")
    assert torch.allclose(in_gltf(g).means, torch.tensor([[10.0, 0, 0], [12, 4, 6]]).repeat(2, 1))
    assert torch.allclose(g.activated().scales, torch.tensor([[2.0, 4, 6], [8, 10, 12]]).repeat(2, 1))
    assert torch.allclose(g.activated().opacities, torch.tensor([0.0, 1, 0, 1]), atol=1e-5)
    # half a turn about x, seen from this pack's axes
    assert torch.allclose(in_gltf(g).quats[1].abs(), torch.tensor([0.0, 1, 0, 0]), atol=1e-6)


# -- bad input ----------------------------------------------------------------------------------------------------------


def changed(path: Path, change: Any) -> Path:
    content, blob = opened(write_glb(varied(20, 2), path))
    blob = change(content, content["meshes"][0]["primitives"][0]) or blob
    path.write_bytes(packed(content, blob))
    return path


def required(content: dict[str, Any], _: dict[str, Any]) -> None:
    content["extensionsRequired"] = ["KHR_gaussian_splatting", "EXT_unknown_kernel"]


def linear(_: dict[str, Any], primitive: dict[str, Any]) -> None:
    primitive["extensions"][NAME]["colorSpace"] = "lin_rec709_display"


def triangles(_: dict[str, Any], primitive: dict[str, Any]) -> None:
    primitive["mode"] = 4


def without(name: str) -> Any:
    return lambda _, primitive: primitive["attributes"].pop(f"{NAME}:{name}") and None


def drafts_scales(content: dict[str, Any], primitive: dict[str, Any]) -> None:
    # logarithms, which are harmonics here: some are negative
    primitive["attributes"][f"{NAME}:SCALE"] = primitive["attributes"][f"{NAME}:SH_DEGREE_0_COEF_0"]


def count(number: int) -> Any:
    def change(content: dict[str, Any], primitive: dict[str, Any]) -> None:
        content["accessors"][primitive["attributes"][f"{NAME}:OPACITY"]]["count"] = number

    return change


def huge(content: dict[str, Any], _: dict[str, Any]) -> None:
    for accessor in content["accessors"]:
        accessor["count"] = 10**12


def implied(content: dict[str, Any], _: dict[str, Any]) -> None:
    for accessor in content["accessors"]:
        accessor["count"] = 4_000_000
        del accessor["bufferView"]


def structure(content: dict[str, Any], primitive: dict[str, Any]) -> None:
    primitive["extensions"] = [3]


def mirrored(content: dict[str, Any], _: dict[str, Any]) -> None:
    content["nodes"][0]["scale"] = [-1, 1, 1]


def spz_of(data: bytes, claimed: int | None = None) -> Any:
    def change(content: dict[str, Any], primitive: dict[str, Any]) -> bytes:
        content["bufferViews"] = [{"buffer": 0, "byteLength": len(data)}]
        content["buffers"] = [{"byteLength": len(data)}]
        primitive["extensions"][NAME]["extensions"] = {SPZ: {"bufferView": 0}}
        if claimed is not None:
            content["accessors"][0]["count"] = claimed
        return data + b"\0" * (-len(data) % 4)

    return change


@pytest.mark.parametrize(
    "change, code",
    [
        (required, "EXT_unknown_kernel.*GLT-015"),
        (linear, "GLT-046"),
        (triangles, "GLT-046"),
        (without("OPACITY"), "GLT-047"),
        (without("SH_DEGREE_0_COEF_0"), "GLT-047"),
        (without("SH_DEGREE_1_COEF_1"), "GLT-049"),
        (without("SH_DEGREE_2_COEF_4"), "GLT-049"),
        (drafts_scales, "GLT-048"),
        (count(19), "GLT-019"),
        (huge, "GLT-022"),
        (implied, "GLT-041"),
        (structure, "GLT-044"),
        (mirrored, "GLT-051"),
        (spz_of(encode_spz(varied(20, 1), "a.spz", 2), 21), "GLT-050"),
        (spz_of(encode_spz(varied(20, 1), "a.spz", 2)[:60]), "IO-04[12]"),
        (spz_of(b"no spz at all"), "IO-041"),
    ],
)
def test_a_glb_that_lies_is_one_sentence(change: Any, code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=code):
        read_splat(changed(tmp_path / "a.glb", change))


def test_a_glb_cut_short_and_one_without_gaussians(tmp_path: Path) -> None:
    whole = write_glb(varied(20), tmp_path / "a.glb").read_bytes()
    for size in (0, 11, 100, len(whole) - 1):
        (tmp_path / "b.glb").write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"GLT-0(07|09|11)"):
            read_splat(tmp_path / "b.glb")
    (tmp_path / "c.glb").write_bytes(triangle().glb())
    with pytest.raises(InputError, match=r"GLT-045"):
        read_splat(tmp_path / "c.glb")
    with pytest.raises(InputError, match=r"GLT-043"):
        write_glb(varied(1).map(lambda t: t[:0]), tmp_path / "d.glb")
