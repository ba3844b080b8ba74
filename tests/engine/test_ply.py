"""`.ply` of one moment: bit for bit there and back, tolerant of other writers, plain words for lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.io.ply import property_names, read_ply, write_ply
from engine.scene import Gaussians


def gaussians(count=20, bases=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, bases, 3))
    return Gaussians(*(torch.randn(shape, generator=g) for shape in shapes))


def same(a, b):
    return all(torch.equal(x, b.tensors()[name]) for name, x in a.tensors().items())


@given(st.integers(0, 30), st.sampled_from([1, 4, 9, 16]), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_there_and_back_is_bit_for_bit(tmp_path_factory, count, bases, seed):
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    g = gaussians(count, bases, seed)
    assert same(read_ply(write_ply(g, path)), g)


def test_the_layout_is_that_of_3dgs(tmp_path):
    g = gaussians(3)
    raw = write_ply(g, tmp_path / "a.ply").read_bytes()
    header, body = raw.split(b"end_header\n")
    names = [line.split()[2] for line in header.decode().splitlines() if line.startswith("property float")]
    rest = [f"f_rest_{i}" for i in range(45)]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"), *rest, "opacity",
        *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]  # fmt: skip
    table = np.frombuffer(body, dtype="<f4").reshape(3, 62)
    assert not table[:, 3:6].any()
    # channel-major: 15 red, 15 green, 15 blue
    np.testing.assert_array_equal(table[:, 9 + 15 : 9 + 30], g.sh[:, 1:, 1].numpy())
    np.testing.assert_array_equal(table[:, 58:], g.quats.numpy())


@pytest.mark.parametrize("form", ["ascii", "binary_big_endian", "binary_little_endian"])
def test_other_writers_orders_types_and_extra_properties_are_read(form, tmp_path):
    g = gaussians(5, 4)
    write_ply(g, tmp_path / "plain.ply")
    names = property_names(4)
    body = (tmp_path / "plain.ply").read_bytes().split(b"end_header\n")[1]
    table = np.frombuffer(body, dtype="<f4").reshape(5, -1)
    order = [*reversed(range(len(names)))]
    lines = [
        "ply",
        f"format {form} 1.0",
        "comment by somebody else",
        "element vertex 5",
        "property uchar kind",
    ]
    lines += [f"property double {names[i]}" for i in order] + [
        "element face 1",
        "property list uchar int v",
        "end_header",
    ]
    head = ("\n".join(lines) + "\n").encode()
    if form == "ascii":
        rows = "".join("7 " + " ".join(repr(float(row[i])) for i in order) + "\n" for row in table)
        data = rows.encode() + b"3 0 1 2\n"
    else:
        end = "<" if form.endswith("little_endian") else ">"
        kinds = [("kind", "u1"), *((names[i], end + "f8") for i in order)]
        rows = np.zeros(5, dtype=kinds)
        for i, name in enumerate(names):
            rows[name] = table[:, i]
        data = rows.tobytes() + b"\x03" + bytes(12)
    (tmp_path / "other.ply").write_bytes(head + data)
    assert same(read_ply(tmp_path / "other.ply"), g)


def refused(path, content, word="."):
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        read_ply(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_ply_of_gaussians_is_named(tmp_path):
    path = tmp_path / "a.ply"
    good = write_ply(gaussians(4), path).read_bytes()
    refused(path, b"")
    refused(path, b"solid cube")
    refused(path, good[:40])
    refused(path, good[:-1], "cut short")
    refused(path, good.replace(b"vertex 4", b"vertex 5"), "cut short")
    refused(path, good.replace(b"vertex 4", b"vertex 999999999999"), "cut short")
    refused(path, good.replace(b"vertex 4", b"vertex " + b"9" * 5000))
    refused(path, good.replace(b"vertex 4", b"vertex -4"))
    refused(path, good.replace(b"little_endian", b"middle_endian"))
    refused(path, good.replace(b"float opacity", b"float obacity"), "opacity")
    refused(path, good.replace(b"float rot_2", b"float rot_7"), "rot_2")
    refused(path, good.replace(b"float f_rest_44", b"float g_rest_44"))
    refused(path, good.replace(b"float f_rest_44", b"float f_rest_99"))
    refused(path, good.replace(b"float nx", b"float x"))
    refused(path, good.replace(b"float nx", b"quad nx"))
    refused(
        path, b"ply\nformat ascii 1.0\nelement vertex " + b"9" * 12 + b"\nproperty float x\nend_header\n1\n"
    )
    nan = gaussians(4)
    refused(
        path, write_ply(nan.with_(means=nan.means * float("nan")), tmp_path / "n.ply").read_bytes(), "NaN"
    )
    with pytest.raises(InputError, match="does not exist"):
        read_ply(tmp_path / "nowhere.ply")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damaged_header_gives_anything_but_gaussians_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    content = bytearray(write_ply(gaussians(4, 4), path).read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert len(read_ply(path)) >= 0
    except InputError as error:
        assert "\n" not in str(error)
