"""Head models from files: FLAME's own pickles without executing anything, and damaged files."""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from engine.errors import InputError
from engine.heads import HeadModel
from engine.io.heads import read_head_model
from tests.engine.test_heads import flame_sized_model
from tests.tiny_head import tiny_model


def arrays_of(model: HeadModel) -> dict[str, Any]:
    """The arrays of a model file."""
    dirs = torch.cat([model.shape_dirs, model.expression_dirs])
    return {
        "v_template": model.template.double().numpy(),
        "f": model.faces.numpy().astype(np.uint32),
        "shapedirs": dirs.permute(2, 1, 0).double().numpy(),
        "posedirs": model.pose_dirs.permute(2, 1, 0).double().numpy(),
        "J_regressor": model.joint_regressor.double().numpy(),
        "weights": model.weights.double().numpy(),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)]),
    }


def named(folder: Path, shapes: int = 4, expressions: int = 3) -> Path:
    """Coefficient names beside a model that has not FLAME's number of coefficients."""
    names = {
        "shape": [f"s{i}" for i in range(shapes)],
        "expression": [f"expression {i}" for i in range(expressions)],
    }
    (folder / "coefficient_names.json").write_text(json.dumps(names))
    return folder


def write_npz(folder: Path, **changed: Any) -> Path:
    """A tiny head model; a change to None leaves the array out."""
    arrays = {k: v for k, v in (arrays_of(tiny_model()) | changed).items() if v is not None}
    path = named(folder) / "head.npz"
    np.savez(path, **arrays)
    return path


def assert_same(read: HeadModel, model: HeadModel) -> None:
    for name in ("template", "shape_dirs", "expression_dirs", "pose_dirs", "joint_regressor", "weights"):
        torch.testing.assert_close(getattr(read, name), getattr(model, name), atol=1e-7, rtol=0)
    assert torch.equal(read.faces, model.faces)


class Python2(pickle._Pickler):  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUntypedBaseClass, reportAttributeAccessIssue]
    """Writes as Python 2 did: texts and bytes are one kind."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # pyright: ignore

    def save_string(self, value: Any) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        me: Any = self
        me.write(b"T" + struct.pack("<i", len(data)) + data)
        me.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


@contextmanager
def foreign(**classes: type) -> Generator[None]:
    """Modules that are not installed, for writing pickles that name their classes ("chumpy.ch.Ch" as chumpy__ch__Ch)."""
    before: dict[str, ModuleType | None] = {}
    for place, kind in classes.items():
        module, _, name = place.replace("__", ".").rpartition(".")
        kind.__module__, kind.__qualname__, kind.__name__ = module, name, name
        parts = module.split(".")
        for i in range(len(parts)):
            full = ".".join(parts[: i + 1])
            # stands in for the real one where that is installed
            if full == module or full not in sys.modules:
                before.setdefault(full, sys.modules.get(full))
                sys.modules[full] = ModuleType(full)
        setattr(sys.modules[module], name, kind)
    try:
        yield
    finally:
        for full, real in before.items():
            if real is None:
                del sys.modules[full]
            else:
                sys.modules[full] = real


class Ch:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


class Sparse:
    def __init__(self, dense: Any) -> None:
        columns = [np.flatnonzero(column) for column in dense.T]
        self._shape = dense.shape
        self.indices = np.concatenate(columns).astype(np.int32)
        self.indptr = np.cumsum([0, *map(len, columns)]).astype(np.int32)
        self.data = np.concatenate([dense[rows, i] for i, rows in enumerate(columns)])


def write_flame_pickle(path: Path, model: HeadModel) -> Path:
    """As FLAME's own: Python 2, chumpy's shapedirs, a sparse regressor, and more that is not needed."""
    arrays = arrays_of(model)
    shapedirs = Ch(x=arrays["shapedirs"], _dirty=True)
    regressor = Sparse(arrays["J_regressor"])
    content = arrays | {"bs_style": "lbs", "J_regressor": regressor, "shapedirs": shapedirs}
    with foreign(chumpy__ch__Ch=Ch, scipy__sparse__csc__csc_matrix=Sparse), open(path, "wb") as file:
        Python2(file, protocol=2).dump(content)
    return path


def test_a_model_in_npz_with_names_and_regions(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    np.savez(tmp_path / "head_masks.npz", lips=np.array([1, 2], np.int32), nose=np.zeros(0, np.int32))
    model = read_head_model(path)
    assert_same(model, tiny_model())
    assert model.name == "head" and model.expression_names == ("expression 0", "expression 1", "expression 2")
    assert model.regions["lips"].tolist() == [1, 2] and len(model.regions["nose"]) == 0


def test_four_hundred_coefficients_are_flames(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    np.savez(path, **arrays_of(tiny_model(shapes=390, expressions=10)))
    model = read_head_model(path)
    assert (model.shapes, model.expressions, model.expression_names) == (300, 100, ())


def test_posedirs_may_lie_flat(tmp_path: Path) -> None:
    flat = arrays_of(tiny_model())["posedirs"].transpose(2, 0, 1).reshape(36, -1)
    assert_same(read_head_model(write_npz(tmp_path, posedirs=flat)), tiny_model())


def test_flames_pickle_is_read_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_flame_pickle(named(tmp_path) / "generic_model.pkl", tiny_model())
    with open(tmp_path / "FLAME_masks.pkl", "wb") as file:
        Python2(file, protocol=2).dump(OrderedDict(lips=np.array([3, 4])))
    kept = tmp_path / "kept"
    model = read_head_model(path, kept)
    assert_same(model, tiny_model())
    assert model.name == "generic_model" and model.regions["lips"].tolist() == [3, 4]
    assert len(list(kept.glob("*.npz"))) == 2
    monkeypatch.setattr("engine.io.heads.model_file.read_pickle", lambda *_: pytest.fail("unpickled again"))
    again = read_head_model(path, kept)
    assert_same(again, tiny_model())
    assert torch.equal(again.regions["lips"], model.regions["lips"])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_pickles_of_python_3_are_read_too(tmp_path: Path, protocol: int) -> None:
    path = named(tmp_path) / "head.pkl"
    path.write_bytes(pickle.dumps(arrays_of(tiny_model()), protocol))
    assert_same(read_head_model(path), tiny_model())


def test_flames_topology_gets_teeth(tmp_path: Path) -> None:
    path = named(tmp_path, 2, 2) / "flame.npz"
    np.savez(path, **arrays_of(flame_sized_model()))
    model = read_head_model(path)
    assert (len(model.template), len(model.faces)) == (5143, 10144) and len(model.regions["teeth"]) == 120


class Harmful:
    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("harm", "named_class"),
    [
        (Harmful(os.system, "touch harm"), "system"),  # pyright: ignore[reportDeprecated]
        (Harmful(eval, "open('harm', 'w')"), "eval"),
        (Harmful(getattr, "x", "upper"), "getattr"),
        (Harmful(np.load, "x"), "load"),
        (Harmful(np.frombuffer, b"12345678"), "frombuffer"),
    ],
)
def test_any_other_class_is_refused_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Harmful, named_class: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps(arrays_of(tiny_model()) | {"extra": harm}, protocol))
    with pytest.raises(InputError, match=rf"flame.pkl names .*{named_class}.*HED-004"):
        read_head_model(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n(N(dS'__setstate__'\nI1\nstb.",
        b"cnumpy\nndarray\n(dS'args'\nI1\nsb.",
        b"c_codecs\nencode\n(N(dS'_function'\nI1\nstb.",
        b"\x80\x02c_codecs\nencode\n)\x81.",
        b"ccopy_reg\n_reconstructor\n(I1\nc__builtin__\nobject\nNtR.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.",
        b"P1\n.",
        b"\x80\x02\x82\x01.",
        b"(" * 100_000 + b".",
        b"",
    ],
)
def test_a_pickle_can_neither_change_the_reader_nor_exhaust_memory(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "flame.pkl").write_bytes(data)
    with pytest.raises(InputError, match=r"HED-00[56]"):
        read_head_model(tmp_path / "flame.pkl")
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(arrays_of(tiny_model()), 2))
    assert_same(read_head_model(named(tmp_path) / "flame.pkl"), tiny_model())


def test_a_chumpy_expression_without_numbers_is_refused(tmp_path: Path) -> None:
    class Add(Ch): ...

    with foreign(chumpy__ch_ops__add=Add):
        data = pickle.dumps(arrays_of(tiny_model()) | {"shapedirs": Add(a=1, b=2)}, 2)
    (tmp_path / "flame.pkl").write_bytes(data)
    with pytest.raises(InputError, match=r"shapedirs is a chumpy expression.*HED-008"):
        read_head_model(tmp_path / "flame.pkl")


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}, None], dtype=object)
    path = tmp_path / "flame.pkl"
    path.write_bytes(pickle.dumps(arrays_of(tiny_model()) | {"weights": objects}, 2))
    with pytest.raises(InputError, match=r"flame.pkl: weights holds Python objects"):
        read_head_model(path)
    with pytest.raises(InputError, match=r"head.npz: weights .*Python objects"):
        read_head_model(write_npz(tmp_path, weights=objects))


@pytest.mark.parametrize("name", ["head.npz", "flame.pkl"])
def test_a_file_of_600_megabytes_is_not_read(tmp_path: Path, name: str) -> None:
    with open(tmp_path / name, "wb") as file:
        file.truncate(600 * 10**6)
    with pytest.raises(InputError, match=r"more than 500 MB.*HED-007"):
        read_head_model(tmp_path / name)


def test_a_small_file_that_unpacks_to_600_megabytes_is_not_read(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "head.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("v_template.npy", "w", force_zip64=True) as file:
            for _ in range(60):
                file.write(bytes(10**7))
    with pytest.raises(InputError, match="unpacks to more than 500 MB"):
        read_head_model(tmp_path / "head.npz")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"weights": None}, "has no array weights"),
        ({"weights": np.zeros((50, 4))}, r"weights has shape \(50, 4\), expected 50 × 5"),
        ({"v_template": np.full((50, 3), np.nan)}, "v_template holds NaN"),
        ({"f": np.array([[0, 1, 50]])}, "beyond the 50 vertices"),
        ({"f": np.array([[0, 1, -1]])}, "beyond the 50 vertices"),
        ({"kintree_table": np.zeros((2, 24))}, "five joints"),
        ({"shapedirs": np.zeros((50, 3, 9))}, "4 shape and 3 expression coefficients, head.npz has 9"),
        ({"v_template": np.zeros(())}, "0 vertices"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_head_model(write_npz(tmp_path, **changed))


def test_coefficients_of_unknown_meaning_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    (tmp_path / "coefficient_names.json").unlink()
    with pytest.raises(InputError, match="7 coefficients, so which of them are expressions is unknown"):
        read_head_model(path)


def test_masks_of_another_model_are_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path)
    np.savez(tmp_path / "head_masks.npz", lips=np.array([50]))
    with pytest.raises(InputError, match=r"'lips' is not a list of vertices of head.npz, which has 50"):
        read_head_model(path)


@pytest.mark.parametrize("name", ["head.npz", "flame.pkl"])
def test_changed_bytes_never_surprise(tmp_path: Path, name: str) -> None:
    small = {k: v for k, v in arrays_of(tiny_model()).items() if k != "posedirs"}
    path = named(tmp_path) / name
    if name.endswith("npz"):
        np.savez(path, **small)
    else:
        write_flame_pickle(path, tiny_model())
    data, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        for at in generator.integers(len(data), size=3):
            changed[at] = int(generator.integers(256))
        path.write_bytes(
            bytes(
                changed[: int(generator.integers(1, len(data) + 1))] if generator.random() < 0.3 else changed
            )
        )
        try:
            read_head_model(path)
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
