"""Animated glTF files against motions computed by hand: nodes, interpolation, skins, morph targets, accessors."""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.geometry.animated_mesh import AnimatedMesh
from engine.io.gltf import action_names, open_document, parse_document, read_animated_mesh
from engine.messages import returned
from tests.conftest import shared
from tests.gltf_files import TRIANGLE, Gltf, triangle

HALF = math.sqrt(0.5)


def read(made: Gltf | bytes, **options: Any) -> AnimatedMesh:
    data = made if isinstance(made, bytes) else made.glb()
    return returned(read_animated_mesh(parse_document(data, "toy.glb"), **options))


def refused(made: Gltf | bytes, code: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(made, **options)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_linear_step_and_cubic_translations_follow_the_specification() -> None:
    made = triangle()
    # cubic: value 0 leaves with slope 3, value 2 arrives with slope -1
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [4, 0, 0]], name="linear")
    made.animate(0, "translation", [0, 0.5], [[1, 0, 0], [7, 0, 0]], "STEP", name="step")
    x = [0, 0, 3, -1, 2, 0]
    made.animate(0, "translation", [0, 1], [[v, 0, 0] for v in x], "CUBICSPLINE", name="cubic")
    linear = read(made, action="linear", fps=4)
    assert linear.seconds.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert linear.frames[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    step = read(made, action="STEP", fps=4)
    assert step.frames[:, 0, 0].tolist() == [1, 1, 7]
    t = np.linspace(0, 1, 5)
    hermite = (t**3 - 2 * t**2 + t) * 3 + (3 * t**2 - 2 * t**3) * 2 + (t**3 - t**2) * -1
    cubic = read(made, action="2", fps=4)
    assert np.allclose(cubic.frames[:, 0, 0].numpy(), hermite, atol=1e-6)


def test_rotations_turn_at_constant_speed_on_the_shorter_way() -> None:
    made = triangle()
    # the end is 90 degrees about z, written with the opposite sign
    made.animate(0, "rotation", [0, 1], [[0, 0, 0, 1], [0, 0, -HALF, -HALF]])
    mesh = read(made, fps=3)
    for k in range(4):
        angle = math.radians(30 * k)
        assert np.allclose(mesh.frames[k, 1].numpy(), [math.cos(angle), math.sin(angle), 0], atol=1e-6)


def test_a_cubic_rotation_is_normalized() -> None:
    made = triangle()
    zero, end = [0, 0, 0, 0], [0, 0, HALF, HALF]
    made.animate(0, "rotation", [0, 1], [zero, [0, 0, 0, 1], zero, zero, end, zero], "CUBICSPLINE")
    middle = read(made, fps=2).frames[1, 1].numpy()
    assert np.allclose(middle, [math.cos(math.pi / 4), math.sin(math.pi / 4), 0], atol=1e-6)


def test_parents_carry_children_and_matrices_count() -> None:
    made = triangle(translation=[1, 0, 0], scale=[2, 2, 2])
    # a quarter turn about z and a shift, column by column
    matrix = [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]
    parent = made.add("nodes", matrix=matrix, children=[0])
    made.data["scenes"][0]["nodes"] = [parent]
    made.animate(0, "translation", [0, 1], [[1, 0, 0], [3, 0, 0]])
    mesh = read(made, fps=1)
    # (1, 0, 0) -> scaled 2 -> shifted to (3, 0, 0) -> turned to (0, 3, 0) -> shifted to (0, 3, 5)
    assert np.allclose(mesh.rest[1].numpy(), [0, 3, 5], atol=1e-6)
    assert np.allclose(mesh.frames[:, 1].numpy(), [[0, 3, 5], [0, 5, 5]], atol=1e-6)


def skinned(weights: Any, dtype: str = "f4") -> Gltf:
    """The triangle on two bones: bone 1 sits at (1, 0, 0) and turns a quarter about z."""
    made = triangle(translation=[100, 100, 100])
    made.add("nodes", children=[2])
    made.add("nodes", translation=[1, 0, 0])
    made.data["scenes"][0]["nodes"] = [0, 1]
    inverse = np.stack([np.eye(4), np.eye(4)])
    inverse[1, 0, 3] = -1
    attributes = made.data["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = made.array([[0, 1, 0, 0]] * 3, "u1")
    attributes["WEIGHTS_0"] = made.array(weights, dtype, normalized=dtype != "f4")
    made.add(
        "skins", joints=[1, 2], inverseBindMatrices=made.array(inverse.transpose(0, 2, 1).reshape(2, 16))
    )
    made.data["nodes"][0]["skin"] = 0
    made.animate(2, "rotation", [0, 1], [[0, 0, 0, 1], [0, 0, HALF, HALF]])
    return made


def test_a_skin_blends_its_bones_and_ignores_its_own_node() -> None:
    mesh = read(skinned([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]]), fps=1)
    assert np.allclose(mesh.rest.numpy(), TRIANGLE, atol=1e-6)
    # vertex 2 at (0, 1, 0): bone 0 leaves it; bone 1 turns (-1, 1, 0) about (1, 0, 0) to (-1, -1, 0) + (1, 0, 0)
    turned = np.array([0.0, -1, 0])
    expected = [TRIANGLE[0], TRIANGLE[1], (TRIANGLE[2] + turned) / 2]
    assert np.allclose(mesh.frames[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype, one", [("u1", 255), ("u2", 65535)])
def test_normalized_integer_weights_equal_floats(dtype: str, one: int) -> None:
    weights = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]])
    floats, integers = read(skinned(weights), fps=4), read(skinned(weights * one, dtype), fps=4)
    assert torch.allclose(floats.frames, integers.frames, atol=1e-6)


def test_normalized_signed_positions_and_strides() -> None:
    made = Gltf()
    position = made.array([[-128, 0, 0], [127, 0, 0], [0, 127, 64]], "i1", normalized=True, stride=8)
    made.add("meshes", primitives=[{"attributes": {"POSITION": position}}])
    made.add("nodes", mesh=0)
    made.data["extensionsRequired"] = ["KHR_mesh_quantization"]
    made.animate(0, "scale", [0, 1], [[1, 1, 1], [2, 2, 2]])
    mesh = read(made, fps=1)
    expected = np.array([[-1, 0, 0], [1, 0, 0], [0, 1, 64 / 127]])
    assert np.allclose(mesh.rest.numpy(), expected, atol=1e-6)
    assert np.allclose(mesh.frames[1].numpy(), 2 * expected, atol=1e-6)


def morphing() -> Gltf:
    """Two morph targets, the second sparse without bytes of its own: it lifts vertex 2 by 3."""
    made = triangle()
    primitive = made.data["meshes"][0]["primitives"][0]
    shift = made.array([[0, 0, 1]] * 3)
    rows, values = made.view(np.array([2], "<u2").tobytes()), made.view(np.array([0, 3, 0], "<f4").tobytes())
    sparse = {
        "count": 1,
        "indices": {"bufferView": rows, "componentType": 5123},
        "values": {"bufferView": values},
    }
    lift = made.add("accessors", componentType=5126, count=3, type="VEC3", sparse=sparse)
    primitive["targets"] = [{"POSITION": shift}, {"POSITION": lift}]
    made.data["meshes"][0]["weights"] = [0.5, 0.0]
    return made


def test_morph_targets_add_up_and_sparse_values_are_read() -> None:
    made = morphing()
    made.animate(0, "weights", [0, 1], [[1, 0], [0, 2]])
    mesh, raised = read(made, fps=2), np.array([0, 0, 0.5])
    assert np.allclose(mesh.rest.numpy(), TRIANGLE + raised)
    lift = np.array([[0, 0, 0], [0, 0, 0], [0, 3, 0]])
    assert np.allclose(mesh.frames[1].numpy(), TRIANGLE + raised + lift, atol=1e-6)
    assert np.allclose(mesh.frames[2].numpy(), TRIANGLE + 2 * lift, atol=1e-6)


def test_cubic_morph_weights_have_three_values_per_target() -> None:
    made = morphing()
    # per keyframe: incoming tangents, weights, outgoing tangents of both targets
    values = [[0, 0], [1, 0], [0, 0], [0, 0], [0, 2], [0, 0]]
    made.animate(0, "weights", [0, 1], values, "CUBICSPLINE")
    mesh = read(made, fps=2)
    assert np.allclose(mesh.frames[1, 2].numpy(), [0, 1 + 3, 0.5], atol=1e-6)


def test_strips_fans_and_hidden_nodes() -> None:
    made = Gltf()
    square = made.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    made.add("meshes", name="strip", primitives=[{"attributes": {"POSITION": square}, "mode": 5}])
    made.add("meshes", name="fan", primitives=[{"attributes": {"POSITION": square}, "mode": 6}])
    made.add("nodes", mesh=0)
    made.add("nodes", mesh=1)
    for node in (0, 1):
        made.animate(node, "translation", [0, 1], [[0, 0, 0], [0, 0, 1]])
    both = read(made, fps=1)
    assert both.faces.tolist() == [[0, 1, 2], [2, 1, 3], [4, 5, 6], [4, 6, 7]]
    assert read(made, fps=1, hidden=("fan",)).faces.tolist() == [[0, 1, 2], [2, 1, 3]]


def test_colors_are_factor_times_vertex_colors_in_display_space() -> None:
    made = triangle()
    primitive = made.data["meshes"][0]["primitives"][0]
    primitive["attributes"]["COLOR_0"] = made.array([[255, 255, 255, 255]] * 2 + [[0, 0, 0, 255]], "u1", True)
    primitive["material"] = made.add(
        "materials", pbrMetallicRoughness={"baseColorFactor": [1, 0.2140411, 0, 1]}
    )
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    assert np.allclose(read(made).colors.numpy(), [[1, 0.5, 0], [1, 0.5, 0], [0, 0, 0]], atol=1e-5)


def test_a_texture_is_sampled(tmp_path: Path) -> None:
    import io

    from PIL import Image

    picture = Image.new("RGB", (2, 1))
    picture.putdata([(255, 0, 0), (0, 0, 255)])
    picture.save(buffer := io.BytesIO(), "PNG")
    (tmp_path / "skin of it.png").write_bytes(buffer.getvalue())
    made = triangle()
    primitive = made.data["meshes"][0]["primitives"][0]
    # the last coordinate lies outside, where a texture repeats
    primitive["attributes"]["TEXCOORD_0"] = made.array([[0.1, 0.5], [0.9, 0.5], [1.2, 0.5]])
    made.add("images", uri="skin%20of%20it.png")
    made.add("textures", source=0)
    primitive["material"] = made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    (tmp_path / "toy.gltf").write_bytes(made.gltf())
    mesh = returned(read_animated_mesh(open_document(tmp_path / "toy.gltf")))
    assert mesh.colors.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_buffers_in_data_uris_and_in_files_of_the_folder(tmp_path: Path) -> None:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    inline = read(made.gltf())
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mesh.bin").write_bytes(made.bytes)
    (tmp_path / "toy.gltf").write_bytes(made.gltf("parts/mesh.bin"))
    apart = returned(read_animated_mesh(open_document(tmp_path / "toy.gltf")))
    assert torch.equal(inline.frames, apart.frames) and torch.equal(inline.frames, read(made).frames)


@pytest.mark.parametrize(
    "uri, code",
    [("../mesh.bin", "FIL-031"), ("/mesh.bin", "FIL-030"), ("%2e%2e/mesh.bin", "FIL-031"), ("gone.bin", "FIL-034"),
     ("https://example.org/mesh.bin", "FIL-029")],
)  # fmt: skip
def test_buffers_outside_the_folder_are_refused(tmp_path: Path, uri: str, code: str) -> None:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    (tmp_path / "mesh.bin").write_bytes(made.bytes)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "toy.gltf").write_bytes(made.gltf(uri))
    with pytest.raises(InputError) as caught:
        returned(read_animated_mesh(open_document(folder / "toy.gltf")))
    assert caught.value.code == code


def test_a_connected_model_has_no_files_beside_it() -> None:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    refused(made.gltf("mesh.bin"), "GLT-006")


def test_what_cannot_be_read_is_named() -> None:
    made = triangle()
    refused(made, "GLT-034")
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]], name="walk")
    assert "walk" in refused(made, "GLT-036", action="run")
    made.data["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    assert "Draco" in refused(made, "GLT-014")
    made.data["extensionsRequired"] = ["KHR_materials_unlit", "ACME_magic"]
    assert "ACME_magic" in refused(made, "GLT-015")
    made.data["extensionsRequired"] = ["KHR_materials_unlit"]
    assert len(read(made).frames) == 25
    still = triangle()
    still.animate(0, "translation", [0, 1], [[0, 0, 0], [0, 0, 0]])
    refused(still, "GLT-038")
    bones_alone = Gltf()
    bones_alone.add("nodes", name="bone")
    bones_alone.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    refused(bones_alone, "GLT-033")


def test_a_small_file_cannot_claim_memory() -> None:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    position = made.data["accessors"][0]
    position["count"] = 170_000_000
    assert len(made.glb()) < 2000
    refused(made, "GLT-022")
    del position["bufferView"]
    refused(made, "GLT-020")
    made = triangle()
    made.animate(0, "translation", [0, 1e12], [[0, 0, 0], [1, 0, 0]])
    refused(made, "GLT-035")


def test_a_truncated_file_is_refused_wherever_it_ends() -> None:
    made = skinned([[1, 0, 0, 0]] * 3)
    data = made.glb()
    for end in range(0, len(data) - 1, 37):
        with pytest.raises(InputError):
            read(data[:end])
    # also where the header has been adapted to what is there
    for end in range(20, len(data) - 4, 41):
        with pytest.raises(InputError):
            read(struct.pack("<4sII", b"glTF", 2, end) + data[12:end])


def test_meshes_shown_one_after_another_are_changing_topology() -> None:
    made = Gltf()
    position = made.array(TRIANGLE)
    made.add("meshes", primitives=[{"attributes": {"POSITION": position}}])
    for k in range(3):
        node = made.add("nodes", mesh=0)
        scales = [[float(t == k)] * 3 for t in range(3)]
        made.animate(node, "scale", [0, 1, 2], scales, "STEP")
    assert "topology" in refused(made, "GLT-039", fps=1)
    made = morphing()
    made.data["accessors"][1]["count"] = 2
    made.animate(0, "weights", [0, 1], [[1, 0], [0, 2]])
    refused(made, "GLT-019")


@pytest.mark.parametrize("seed", range(300))
def test_a_mutated_document_is_read_or_refused(seed: int) -> None:
    """Whatever a damaged document says, the answer is a mesh or a sentence."""
    random = np.random.default_rng(seed)
    made = skinned([[1, 0, 0, 0]] * 3) if seed % 2 else morphing()
    if not seed % 2:
        made.animate(0, "weights", [0, 1], [[1, 0], [0, 2]])
    places: list[tuple[Any, Any]] = []

    def collect(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                collect(value[key])

    collect(made.data)
    holder, key = places[random.integers(len(places))]
    values = [None, -1, 10**9, 1.5, "x", [], {}, [[]], [{}], True, float("nan"), {"a": 1}, "SCALAR", 0]
    holder[key] = values[random.integers(len(values))]
    try:
        mesh = read(made, fps=2)
    except InputError:
        return
    assert torch.isfinite(mesh.frames).all() and mesh.faces.max() < mesh.frames.shape[1]


def test_a_robot_of_another_program_performs_its_actions() -> None:
    path = shared("GS4D_MESHES", "data/meshes") / "RobotExpressive.glb"
    if not path.is_file():
        pytest.skip("RobotExpressive.glb, a rigged robot with 14 actions, is not here (set GS4D_MESHES)")
    document = open_document(path)
    assert len(action_names(document)) == 14
    dance, standing = (returned(read_animated_mesh(document, a)) for a in ("Robot_Dance", "robot_standing"))
    assert dance.frames.shape == (80, 7218, 3) and dance.faces.shape == (3238, 3)
    # feet on the floor, head at 4.5 m; the arms of the rest pose are spread
    assert torch.allclose(dance.rest[:, 1].amin(), torch.tensor(-0.02), atol=0.01)
    assert 4.4 < float(dance.frames[0, :, 1].max()) < 4.6
    assert float(dance.rest[:, 0].max()) > 3 > float(dance.frames[0, :, 0].max()) + 1
    # rigid parts keep their size while they dance
    edge = dance.faces[:, :2]
    lengths = (dance.frames[:, edge[:, 0]] - dance.frames[:, edge[:, 1]]).norm(dim=-1)
    assert float((lengths / lengths[0].clamp(min=1e-6) - 1).abs().median()) < 1e-3
    assert len(standing.frames) < len(dance.frames)
