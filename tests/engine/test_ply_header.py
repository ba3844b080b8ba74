"""Points from PLY files: both spellings of every type, all three formats, and a sentence for every lie."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.capture.point_cloud import optional_points, points_array, read_points, write_points
from engine.errors import InputError
from engine.files.ply_header import read_header, read_vertices

POINTS = "property float x\nproperty float y\nproperty float z\n"


def ply(path, properties=POINTS, body=b"", count="2", form="ascii", after=""):
    path.write_bytes(
        f"ply\nformat {form} 1.0\nelement vertex {count}\n{properties}{after}end_header\n".encode() + body
    )
    return path


def test_written_points_are_read_as_they_were(tmp_path):
    g = torch.Generator().manual_seed(0)
    points, colors = torch.randn(7, 3, generator=g).double(), torch.randint(0, 256, (7, 3), generator=g) / 255
    xyz, rgb = read_points(write_points(tmp_path / "a.ply", points, colors), "a.ply")
    np.testing.assert_array_equal(xyz, points.numpy())
    np.testing.assert_allclose(rgb, colors.numpy(), atol=1e-7)
    assert read_points(write_points(tmp_path / "b.ply", points, None), "b.ply")[1] is None


@pytest.mark.parametrize("names", [("red", "green", "blue"), ("r", "g", "b")])
@pytest.mark.parametrize(
    "types",
    ["char uchar short ushort int uint float double", "int8 uint8 int16 uint16 int32 uint32 float32 float64"],
)
def test_both_spellings_of_each_type_are_read(tmp_path, types, names):
    codes = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
    fields = [*zip(types.split(), codes, ["a", "b1", "c", "d", "x", "y", "z", "e"], strict=True)]
    fields += [("uchar", "u1", name) for name in names]
    for form, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        table = np.zeros(2, dtype=[(name, order + code) for _, code, name in fields])
        table["x"], table["y"], table["z"], table[names[0]] = [1, -2], [3, 4], [0.5, 0.25], [255, 0]
        properties = "".join(f"property {kind} {name}\n" for kind, _, name in fields)
        path = ply(tmp_path / "a.ply", properties, table.tobytes() + b"faces", form=form)
        xyz, rgb = read_points(path, "a.ply")
        np.testing.assert_array_equal(xyz, [[1, 3, 0.5], [-2, 4, 0.25]])
        np.testing.assert_array_equal(rgb, [[1, 0, 0], [0, 0, 0]])


def test_a_header_tells_of_every_element(tmp_path):
    after = "comment faces\nelement face 3\nproperty list uchar int vertex_indices\nproperty float area\n"
    header = read_header(ply(tmp_path / "a.ply", after=after, body=b"1 2 3\n4 5 6\n"), "a.ply")
    assert [(e.name, e.count) for e in header.elements] == [("vertex", 2), ("face", 3)]
    indices, area = header.elements[1].properties
    assert (indices.name, indices.length_type, indices.type) == ("vertex_indices", "uchar", "int")
    assert (area.name, area.length_type, area.type) == ("area", "", "float")
    assert (tmp_path / "a.ply").read_bytes()[header.size :] == b"1 2 3\n4 5 6\n"


def test_windows_line_ends_and_longer_rows_are_read(tmp_path):
    path = ply(tmp_path / "a.ply", body=b"1 2 3 9\r\n4 5 6 9")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"\r\r", b"\r"))
    np.testing.assert_array_equal(read_points(path, "a.ply")[0], [[1, 2, 3], [4, 5, 6]])


BINARY = {"form": "binary_little_endian"}
REFUSED = {
    "not points": ({"properties": "property float x\nproperty float y\n"}, "not a PLY file of points"),
    "too many": ({"count": "20000001"}, "claims 20,000,001 points; at most"),
    "NaN": ({"body": b"1 2 3\n4 nan 6\n"}, "points with NaN"),
    "cut short": ({"body": b"1 2 3\n4 5"}, "claims 2 vertices but contains fewer; it is cut short"),
    "claims the moon": ({"count": "19999999", "body": b"1 2 3\n"}, "contains fewer; it is cut short"),
    "binary cut short": (BINARY | {"body": bytes(23)}, "claims 2 vertices but contains 1; it is cut short"),
    "words": ({"body": b"1 2 3\n4 five 6\n"}, "is not a list of numbers"),
    "a short row": ({"body": b"1 2\n4 55 66\n"}, "is not a list of numbers"),
    "a list": (
        {"properties": POINTS + "property list uchar int n\n"},
        "'property list uchar int n' cannot be",
    ),
    "an unknown type": ({"properties": POINTS + "property half w\n"}, "'property half w' cannot be read"),
    "twice": ({"properties": POINTS + "property int x\n"}, "'property int x' cannot be read"),
    "a property without a name": ({"properties": POINTS + "property int\n"}, "'property int' cannot be read"),
    "a count that is none": ({"count": "-2"}, "the element line 'element vertex -2' cannot be read"),
    "a huge count": ({"count": "9" * 5000}, "the element line .* cannot be read"),
    "an odd element": ({"after": "element face\n"}, "the element line 'element face' cannot be read"),
    "no format": ({"form": "text"}, "the format 'text' is not supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_points_is_refused_in_a_sentence(tmp_path, case):
    content, words = REFUSED[case]
    path = ply(tmp_path / "a.ply", **content)
    with pytest.raises(InputError, match=words) as caught:
        read_points(path, "points/a.ply")
    assert str(caught.value).startswith("points/a.ply")
    # training can do without: the same sentence becomes a warning
    warnings: list[str] = []
    assert optional_points(tmp_path, ("b.ply", "a.ply"), warnings) == (None, None)
    assert "continues without" in warnings[0]


HEADERS = {
    "nothing": (b"", "is not a .ply file"),
    "another file": (b"solid cube\n", "is not a .ply file"),
    "no end": (b"ply\nformat ascii 1.0\nelement vertex 1\n", "its header is cut short"),
    "endless": (b"ply\n" + b"comment x\n" * 20_000 + b"end_header\n", "its header is cut short"),
    "one endless line": (b"ply\n" + bytes(1 << 20), "its header is cut short"),
    "faces first": (
        b"ply\nformat ascii 1.0\nelement face 1\nend_header\n",
        "'face' comes before the vertices",
    ),
    "no elements": (b"ply\nformat ascii 1.0\nproperty int x\nend_header\n", "lists no vertices"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_what_is_not_a_header_is_refused_in_a_sentence(tmp_path, case):
    content, words = HEADERS[case]
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_header(tmp_path / "a.ply", "a.ply")


def test_vertices_without_properties_are_refused(tmp_path):
    with pytest.raises(InputError, match="lists no vertices"):
        read_vertices(ply(tmp_path / "a.ply", properties=""), "a.ply")


def test_a_folder_is_not_a_file_of_points(tmp_path):
    with pytest.raises(InputError, match=r"a\.ply does not exist"):
        read_points(tmp_path, "a.ply")


def colored(path: Path, kind: str, *rows: tuple[float, float, float]) -> Path:
    """A text .ply of points in a row with colors of a type of the format."""
    header = [
        "ply",
        "format ascii 1.0",
        f"element vertex {len(rows)}",
        *(f"property float {c}" for c in "xyz"),
    ]
    header += [f"property {kind} {c}" for c in ("red", "green", "blue")]
    lines = [f"{i} 0 0 {r} {g} {b}" for i, (r, g, b) in enumerate(rows)]
    path.write_text("\n".join([*header, "end_header", *lines, ""]))
    return path


@pytest.mark.parametrize(
    ("kind", "stored", "scale"),
    [
        ("uchar", (0, 51, 255), 255),
        ("int", (0, 51, 255), 255),
        ("float", (0, 0.2, 1), 1),
        ("float", (0, 51, 255), 255),
        ("double", (-1e-9, 0.2, 1.0000001), 1),
        ("ushort", (0, 13107, 65535), 65535),
    ],
)
def test_point_colors_are_scaled_by_what_they_are(
    tmp_path: Path, kind: str, stored: tuple[float, float, float], scale: float
) -> None:
    colors = read_points(colored(tmp_path / "a.ply", kind, stored), "a.ply")[1]
    np.testing.assert_allclose(colors, [[0, 0.2, 1]], atol=1e-6)
    np.testing.assert_allclose(np.array(stored) / scale, [0, 0.2, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        ("int", (0, 51, 256)),
        ("char", (0, 51, -1)),
        ("float", (0, 51.5, 255)),
        ("float", (0, 51, 300)),
        ("float", (0, -0.5, 1)),
        ("float", (0, math.nan, 1)),
    ],
)
def test_point_colors_of_unknown_scale_are_not_guessed(
    tmp_path: Path, kind: str, stored: tuple[float, float, float]
) -> None:
    colored(tmp_path / "a.ply", kind, stored)
    with pytest.raises(InputError, match=r"a\.ply has point colors from"):
        read_points(tmp_path / "a.ply", "a.ply")
    warnings: list[str] = []
    assert optional_points(tmp_path, ("a.ply",), warnings) == (None, None)
    assert "neither 0 to 1 nor 0 to 255" in warnings[0] and "without initial points" in warnings[0]


def test_points_are_not_followed_out_of_the_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    folder.mkdir()
    write_points(tmp_path / "secret.ply", torch.ones(3, 3), None)
    np.save(tmp_path / "secret.npy", np.ones((3, 3)))
    for name in ("points.ply", "points.npy"):
        (folder / name).symlink_to(tmp_path / f"secret{Path(name).suffix}")
    warnings: list[str] = []
    assert optional_points(folder, ("points.ply",), warnings) == (None, None)
    assert points_array(folder, "points.npy", warnings) is None
    assert len(warnings) == 2 and all("link to a place outside" in text for text in warnings)
