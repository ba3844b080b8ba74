"""JSON and .safetensors headers from strangers: regular files only, bounded, and one sentence for whatever is wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.errors import InputError
from engine.files.images import image_size  # noqa: F401  # used in a process of its own
from engine.files.jsonfile import DEEPEST, DeeplyNested, parse_json, read_json
from engine.files.npyfile import read_numbers  # noqa: F401
from engine.files.safetensors_header import HeaderError, read_header
from engine.files.safetensors_reader import read_tensors
from engine.files.safetensors_writer import DTYPES, write_tensors
from engine.io.scene_file import load_scene
from engine.io.selection_file import load_selection
from engine.io.splat_file import read_splat_file  # noqa: F401
from engine.io.spz import read_spz  # noqa: F401
from engine.playback.player_file import read_player_file  # noqa: F401
from engine.train.state import load_state
from tests.memory import cost_of, needs_linux

ROOT = Path(__file__).resolve().parents[2]
SCENE = '{"__metadata__":{"format":"gs4d-scene","version":"1","scene":"{}"}%s}'


def file_of(path: Path, header: str | bytes, tensors: int = 0) -> Path:
    raw = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(tensors))
    return path


def entry(**changed) -> str:
    parts = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changed}
    return SCENE % f',"a":{json.dumps({k: v for k, v in parts.items() if v is not ...})}'


def test_the_header_of_a_file_that_the_library_wrote(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(0, 7)}, path, metadata={"format": "x"})
    header = read_header(path)
    assert header.metadata == {"format": "x"}
    assert header.shapes == {"a": (2, 3), "b": (0, 7)}
    assert (header.tensors["a"].dtype, header.tensors["a"].end - header.tensors["a"].start) == ("F32", 24)
    save_file({"a": torch.zeros(1)}, path)
    assert read_header(path).metadata == {}


@pytest.mark.parametrize(
    ("header", "flaw"),
    [
        (b"", "no header"),
        ("[]", "not JSON"),
        ('{"a"', "not JSON"),
        (b'{"\xff":1}', "not JSON"),
        ('{"__metadata__":[]}', "not JSON"),
        ('{"__metadata__":{"format":["gs4d-scene"]}}', "not JSON"),
        (SCENE % (',"a":' + "[" * 100_000), "not JSON"),
        (SCENE % (',"a":' + "[" * 50_000 + "]" * 50_000), "not JSON"),
        (SCENE % (',"a":' + '{"a":' * 5000 + "1" + "}" * 5000), "not JSON"),
        (SCENE % (',"a":' + "9" * 100_000), "bad entry"),
        (SCENE % ',"a":[1,2]', "bad entry"),
        (entry(shape=...), "bad entry"),
        (entry(shape="ab"), "bad entry"),
        (entry(shape=[-1, 3]), "bad entry"),
        (entry(shape=[True, 3]), "bad entry"),
        (entry(shape=[2.0, 3]), "bad entry"),
        (entry(shape=[10**30, 3]), "bad entry"),
        (entry(dtype=7), "bad entry"),
        (entry(data_offsets=[0]), "bad entry"),
        (entry(data_offsets=[24, 0]), "bad entry"),
        (entry(data_offsets=[0, float("inf")]), "bad entry"),
        (entry(data_offsets=[0, float("nan")]), "bad entry"),
        (entry(data_offsets=[0, 1 << 40]), "cut short"),
    ],
)
def test_every_flaw_is_named_and_reaches_no_one_as_anything_else(header, flaw, tmp_path):
    path = file_of(tmp_path / "odd.safetensors", header, tensors=24)
    if header == b"":
        path.write_bytes(b"")
    with pytest.raises(HeaderError, match=r"odd\.safetensors") as caught:
        read_header(path)
    assert caught.value.flaw == flaw
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    for read in (load_scene, load_selection):
        with pytest.raises(InputError, match=r"odd\.safetensors"):
            read(path)
    with pytest.raises(InputError, match="delete it to start"):
        load_state(path, "key")


@pytest.mark.parametrize("version", ["²", "١", "", "0", "-1", "1.0", "9" * 5000])
def test_a_version_that_is_no_plain_number_is_refused(version, tmp_path):
    path = file_of(
        tmp_path / "s.safetensors", (SCENE % "").replace('"version":"1"', f'"version":"{version}"')
    )
    with pytest.raises(InputError, match=r"s\.safetensors: its version"):
        load_scene(path)


def test_a_description_that_is_nested_too_deeply_is_damaged(tmp_path):
    deep = "[" * 100_000
    path = file_of(tmp_path / "s.safetensors", (SCENE % "").replace('"scene":"{}"', f'"scene":"{deep}"'))
    with pytest.raises(InputError, match="its description is missing or damaged"):
        load_scene(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_tensors_are_those_that_the_library_reads(tmp_path):
    g = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype}": (torch.randn(3, 5, 2, generator=g) * 100).to(dtype)
        for dtype in (*DTYPES, torch.int8, torch.float8_e4m3fn)
    }
    tensors |= {"scalar": torch.tensor(2.5), "nothing": torch.empty(0, 3), "late": torch.arange(7.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    read, wanted = read_tensors(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert read.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert read[name].dtype == tensor.dtype and read[name].shape == tensor.shape
        flat, own = (t.contiguous().view(-1).view(torch.uint8) for t in (tensor, read[name]))
        assert torch.equal(flat, own), name


@needs_linux
def test_a_file_is_in_memory_once_while_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(100 << 18), "b": torch.zeros(2)}, {})
    cost = cost_of(lambda: read_tensors(path))
    assert cost.said == "value" and 95 < cost.megabytes < 120


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    # in a process of its own: a reader that opens the pipe never comes back
    os.mkfifo(tmp_path / "pipe")
    os.mkdir(tmp_path / "folder")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    code = """
import sys
from pathlib import Path
from engine.errors import InputError
from tests.engine.test_headers import load_scene, load_selection, load_state, read_header, read_json, image_size
from tests.engine.test_headers import read_numbers, read_player_file, read_splat_file, read_spz

by_name = [lambda path, read=read: read(path, path.name) for read in (read_json, image_size, read_numbers)]
for name in ("pipe", "folder", "dangling", "loop", "missing"):
    path = Path(sys.argv[1]) / name
    for read in (read_header, load_scene, load_selection, read_player_file, read_splat_file, read_spz, *by_name):
        try:
            read(path)
            raise SystemExit(f"{name} was read")
        except InputError as error:
            assert name in str(error) and (name != "folder" or "folder" in str(error)), error
    assert load_state(path, "key") is None
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_file_that_cannot_be_read_says_so():
    for read in (read_header, lambda path: read_json(path, path.name)):
        with pytest.raises(InputError, match="mem cannot be read: Input/output error"):
            read(Path("/proc/self/mem"))


def test_depth_is_counted_outside_of_strings():
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(DeeplyNested):
        parse_json("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))
    brackets = "[{" * 500
    assert parse_json(json.dumps({"a": brackets, 'quo"te\\': brackets + '"'})) == {
        "a": brackets,
        'quo"te\\': brackets + '"',
    }
    assert len(parse_json(json.dumps([[1]] * 5000))) == 5000, "many beside each other are not deep"


def test_neither_depth_nor_digits_nor_length_take_long():
    start = time.monotonic()
    for text in (
        "[" * 3_000_000,
        "[" + "9" * 4000 + ",[]" * 500_000,
        '"' + "\\" * 3_000_000,
    ):
        with pytest.raises(ValueError):
            parse_json(text)
    # as 1e999 is
    assert parse_json("9" * 3_000_000) == float("inf")
    # seeds keep all of their 64 bits
    assert parse_json(str(2**64 - 1)) == 2**64 - 1
    assert type(parse_json(str(2**64))) is float
    assert time.monotonic() - start < 5


# whole numbers beyond these become floats
WHOLE = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=200,
)


@settings(max_examples=100, deadline=None)
@given(values, st.booleans())
def test_what_is_json_is_read_as_json_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == json.loads(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='[]{}",:\\0 ae', max_size=60) | st.binary(max_size=40))
def test_anything_else_is_a_value_error(text):
    try:
        parse_json(text)
    except ValueError:
        pass
