"""ComfyUI's FILE_3D, on disk and in memory, as the document that the engine reads."""

import io
from pathlib import Path

import pytest

import engine.io.gltf
from engine.errors import InputError
from engine.io.gltf import read_animated_mesh
from engine.messages import returned
from tests.gltf_files import Gltf, triangle
from tests.pack_modules import pack_module

assert engine.io.gltf
model_document = pack_module("model_files").model_document


class File3D:
    """The interface of ComfyUI's class, which the tested ComfyUI does not have yet."""

    def __init__(self, source: str | io.BytesIO, format: str) -> None:
        self.source, self.format = source, format

    def get_source(self) -> str | io.BytesIO:
        return self.source

    def get_bytes(self) -> bytes:
        assert isinstance(self.source, io.BytesIO)
        return self.source.getvalue()


def moving() -> Gltf:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    return made


def test_models_on_disk_and_in_memory_are_the_same(tmp_path: Path) -> None:
    data = moving().glb()
    (tmp_path / "toy.glb").write_bytes(data)
    on_disk = model_document(File3D(str(tmp_path / "toy.glb"), "glb"))
    in_memory = model_document(File3D(io.BytesIO(data), "glb"))
    frames = [returned(read_animated_mesh(each)).frames for each in (on_disk, in_memory)]
    assert frames[0].equal(frames[1]) and float(frames[0][-1, 0, 0]) == 1


def test_other_formats_and_values_are_refused() -> None:
    with pytest.raises(InputError, match="fbx file") as caught:
        model_document(File3D(io.BytesIO(b"Kaydara"), "fbx"))
    assert caught.value.code == "NOD-050"
    with pytest.raises(InputError, match="dict, not a 3D file") as caught:
        model_document({})
    assert caught.value.code == "NOD-051"
