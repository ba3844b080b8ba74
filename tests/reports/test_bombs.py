"""JSON and glTF that claim much: refused, or read within bounds of memory and time. Each is made here and never stored."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.files.jsonfile import DeeplyNested, parse_json
from engine.io.gltf import parse_document, read_animated_mesh
from engine.messages import returned
from tests.gltf_files import Gltf, triangle
from tests.memory import MEMORY, bounded, needs_linux

pytestmark = needs_linux

# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "\\", '"', "\\\\"])
def test_a_string_without_an_end_takes_no_longer_than_its_length(end: str) -> None:
    text = "[" * 101 + '"' + '\\"' * 500_000 + end
    bounded(lambda: parse_json(text), "DeeplyNested")


@pytest.mark.parametrize("value", ["{}", "[]", '{"a":0}', "0.5", '"ab"'])
def test_json_of_too_many_values_is_not_read(value: str) -> None:
    text = "[" + f"{value}," * (60_000_000 // (len(value) + 1)) + "0]"
    bounded(lambda: parse_json(text), "ManyValues")


@pytest.mark.parametrize("text", ['"[[["', r'"\\"', r'"\"[[["', r'"\\\"[[["', r'"a[\\"'])
def test_brackets_are_counted_outside_of_strings_alone(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = "[" * 99 + f"[{text}, {text}]" + "]" * 99
    for part in range(1, 12):
        monkeypatch.setattr("engine.files.jsonfile.PART", part)
        parse_json(nested)
        with pytest.raises(DeeplyNested):
            parse_json(f"[{text}, {nested}]")


def test_commas_inside_of_a_string_are_not_values() -> None:
    text = json.dumps({"a": ",[{:" * 3_000_000})
    bounded(lambda: parse_json(text), "value")


# -- glTF -------------------------------------------------------------------------------------------------------------


def moving(made: Gltf, end: float = 1.0) -> Gltf:
    """With node 0 moved for `end` seconds."""
    made.animate(0, "translation", [0, end], [[0, 0, 0], [4, 0, 0]])
    return made


def without_data(vertices: int, primitives: int = 1) -> Gltf:
    """Vertices that need no bytes, in primitives that are all the same."""
    made = Gltf()
    position = made.add("accessors", componentType=5126, count=vertices, type="VEC3")
    one = {"attributes": {"POSITION": position}, "indices": made.array(np.zeros(3), "u4")}
    made.add("meshes", primitives=[one] * primitives)
    made.add("nodes", mesh=0)
    return made


def instances(count: int, mesh: Gltf) -> Gltf:
    mesh.data["nodes"] = [{"mesh": 0}] * count
    mesh.data.pop("scenes", None)
    return mesh


def morphed() -> Gltf:
    made = without_data(100_000)
    primitive = made.data["meshes"][0]["primitives"][0]
    primitive["targets"] = [{"POSITION": primitive["attributes"]["POSITION"]}] * 2000
    return made


def jointed() -> Gltf:
    """A skin that names one joint half a million times."""
    made = triangle()
    attributes = made.data["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = made.array([[0, 1, 0, 0]] * 3, "u1")
    attributes["WEIGHTS_0"] = made.array([[1, 0, 0, 0]] * 3)
    made.add("skins", joints=[0] * 500_000)
    made.data["nodes"][0]["skin"] = 0
    return made


def textured(count: int) -> Gltf:
    """A texture of 79 million pixels in `count` images, each used twenty times."""
    Image.new("RGB", (8900, 8900), (3, 4, 5)).save(picture := io.BytesIO(), "PNG")
    made = triangle()
    primitive = made.data["meshes"][0]["primitives"][0]
    primitive["attributes"]["TEXCOORD_0"] = made.array(np.zeros((3, 2)))
    view = made.view(picture.getvalue())
    for i in range(count):
        made.add("images", bufferView=view)
        made.add("textures", source=i)
        made.add("materials", pbrMetallicRoughness={"baseColorTexture": {"index": i}})
    made.data["meshes"][0]["primitives"] = [
        {**primitive, "material": i} for i in range(count) for _ in range(20)
    ]
    return made


def chain(length: int, **node: Any) -> Gltf:
    """Nodes one below the other, of which the last carries the triangle and the first moves."""
    made = triangle()
    made.data["nodes"] = [{"children": [i + 1], **node} for i in range(length)] + [{"mesh": 0}]
    return made


def all_moving(made: Gltf) -> Gltf:
    moving(made)
    nodes = range(len(made.data["nodes"]))
    made.data["animations"][0]["channels"] = [
        {"sampler": 0, "target": {"node": i, "path": "translation"}} for i in nodes
    ]
    return made


def ring(length: int) -> Gltf:
    made = triangle()
    made.data["nodes"] += [{"children": [1 + (i + 1) % length]} for i in range(length)]
    return made


MANY = 200_000
MESHES: dict[str, tuple[Callable[[], Gltf], str]] = {
    "a primitive a thousand times": (lambda: moving(without_data(100_000, 1000)), "GLT-041"),
    "a mesh on ten thousand nodes": (lambda: moving(instances(10_000, without_data(3000))), "GLT-041"),
    "a triangle on many nodes": (lambda: moving(instances(MANY, triangle())), "GLT-041"),
    "as many nodes as are read": (lambda: moving(instances(9000, triangle())), "value"),
    "as many vertices as are read": (lambda: moving(without_data(1_200_000)), "value"),
    "vertices without data": (lambda: moving(without_data(4_900_000)), "GLT-041"),
    "as many numbers as are read": (lambda: moving(without_data(330), 4100), "value"),
    "targets that are one accessor": (lambda: moving(morphed()), "GLT-041"),
    "joints that are one node": (lambda: moving(jointed()), "value"),
    "a large texture": (lambda: moving(textured(1)), "value"),
    "large textures": (lambda: moving(textured(60)), "GLT-041"),
    "millions of frames": (lambda: moving(triangle(), 3e5), "GLT-042"),
    "a chain": (lambda: moving(chain(MANY, translation=[0, 0, 1e-5])), "value"),
    "a chain of matrices": (lambda: moving(chain(MANY, matrix=np.eye(4).ravel().tolist())), "value"),
    "a chain that moves everywhere": (lambda: all_moving(chain(MANY)), "GLT-042"),
    "a ring": (lambda: moving(ring(MANY)), "GLT-028"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MESHES)
def test_meshes_cost_what_their_file_holds(name: str) -> None:
    make, said = MESHES[name]
    data = make().glb()
    # what a file of this size costs in any case: its text, and some 15 bytes of objects for each of its bytes
    bounded(
        lambda: returned(read_animated_mesh(parse_document(data, "a.glb"))),
        said,
        MEMORY + 20 * len(data) / 2**20,
    )


def test_the_end_of_a_long_chain_is_where_its_nodes_put_it() -> None:
    made = moving(chain(3000, translation=[0, 0, 1]))
    mesh = returned(read_animated_mesh(parse_document(made.glb(), "a.glb"), fps=1))
    # the first node's own shift is replaced by the animation
    assert mesh.rest[0].tolist() == [0, 0, 3000]
    assert mesh.frames[:, 0].tolist() == [[0, 0, 2999], [4, 0, 2999]]


def test_several_buffers_of_one_file_are_read_once(tmp_path: Path) -> None:
    made = moving(triangle())
    (tmp_path / "a.bin").write_bytes(made.bytes + bytes(50 << 20))
    text = json.loads(made.gltf("a.bin"))
    text["buffers"] = [{"byteLength": len(made.bytes), "uri": uri} for uri in ["a.bin", "%61.bin"] * 50]
    for i, view in enumerate(text["bufferViews"]):
        view["buffer"] = 30 * i
    data = json.dumps(text).encode()
    bounded(lambda: returned(read_animated_mesh(parse_document(data, "a.gltf", tmp_path))), "value", 300)
