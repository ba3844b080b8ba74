"""Scene files: bit for bit what was saved, and one sentence for whatever is not a scene."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.deform import HexPlane, HexPlaneConfig, Masked, PerFrame, Static
from engine.errors import InputError
from engine.files.atomic import check_writable, write_atomically
from engine.io.scene_file import load_scene, save_scene
from engine.scene import Scene4D
from tests.scenes import moving_scene

ROOT = Path(__file__).resolve().parents[2]
CONFIG = HexPlaneConfig(4, (5, 6, 7, 8), (1, 2), 1, 16, ("position", "rotation"), time_range=(0.0, 1.5))


def field():
    box = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    return HexPlane.create(CONFIG, box, torch.Generator().manual_seed(1), zero_init=False)


def scene_with(kind: str, count: int = 30) -> Scene4D:
    scene = moving_scene(count, views=3, sh_degree=2)
    if kind == "flipbook":
        motion = PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times)
    else:
        motion = {
            "still": Static(),
            "hexplane": field(),
            "partly": Masked(field(), torch.arange(count) % 3 == 0),
        }[kind]
    # thirds have no short decimal form, and the step's names are in another alphabet
    times = torch.tensor([0.1, 1 / 3, 1.5], dtype=torch.float64)
    scene = scene.with_(deformation=motion, times=times, background=torch.tensor([0.1, 1 / 3, 1.0]))
    return scene.with_history("правка", config={"rate": 1 / 3, "on": True, "words": ["a", None]})


def assert_same(a: Scene4D, b: Scene4D) -> None:
    pairs = [
        (a.canonical.tensors(), b.canonical.tensors()),
        (a.deformation.tensors(), b.deformation.tensors()),
    ]
    pairs.append(
        (
            {n: getattr(a, n) for n in ("times", "bounds", "background")},
            {n: getattr(b, n) for n in ("times", "bounds", "background")},
        )
    )
    pairs.append(({"w": a.rig.world_to_camera, "K": a.rig.K}, {"w": b.rig.world_to_camera, "K": b.rig.K}))
    for first, second in pairs:
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            assert tensor.dtype == second[name].dtype
            assert torch.equal(tensor, second[name]), name
    assert (a.rig.sizes, a.rig.names, a.history) == (b.rig.sizes, b.rig.names, b.history)
    assert (a.deformation.kind, a.deformation.config()) == (b.deformation.kind, b.deformation.config())


@pytest.mark.parametrize("kind", ["still", "hexplane", "partly", "flipbook"])
def test_a_scene_saved_and_loaded_is_bit_for_bit_itself(kind, tmp_path):
    scene = scene_with(kind)
    path = save_scene(scene, tmp_path / "scene.safetensors")
    again = load_scene(path)
    assert_same(scene, again)
    for t in (0.1, 0.7, 1.5):
        a, b = scene.at(t).tensors(), again.at(t).tensors()
        assert all(torch.equal(a[name], b[name]) for name in a)
    second = save_scene(again, tmp_path / "again.safetensors")
    assert path.read_bytes() == second.read_bytes(), "and so is the file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "scene.safetensors"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6, unique=True))
@settings(max_examples=25, deadline=None)
def test_every_float64_time_survives(tmp_path_factory, seconds):
    folder = tmp_path_factory.mktemp("times")
    scene = scene_with("still").with_(times=torch.tensor(sorted(seconds), dtype=torch.float64))
    if bool((scene.times.diff() <= 0).any()):  # 0.0 and -0.0
        return
    assert torch.equal(load_scene(save_scene(scene, folder / "s.safetensors")).times, scene.times)


def test_a_loaded_scene_does_not_hang_on_its_file(tmp_path):
    scene = scene_with("hexplane")
    path = save_scene(scene, tmp_path / "scene.safetensors")
    loaded = load_scene(path)
    save_scene(scene.with_(canonical=scene.canonical.map(torch.zeros_like)), path)
    os.truncate(path, 100)
    assert_same(scene, loaded)


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        load_scene(path)
    message = str(caught.value)
    assert message.startswith(path.name) or path.name in message
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.3, 0.7, 0.999])
def test_a_file_cut_short_anywhere_says_so(share, tmp_path):
    path = save_scene(scene_with("hexplane"), tmp_path / "scene.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)
    if share > 0.5:
        refused(path, "cut short")


def test_other_files_are_not_scenes(tmp_path):
    path = tmp_path / "scene.safetensors"
    refused(path, "does not exist")
    for content in (
        b"",
        b"PK\x03\x04 a zip",
        b"\xff" * 64,
        struct.pack("<Q", 4) + b"[[[[",
        struct.pack("<Q", 2) + b"{}",
    ):
        path.write_bytes(content)
        refused(path, "not a 4D scene")
    save_file({"a": torch.zeros(3)}, path)
    refused(path, "not a 4D scene")
    (tmp_path / "folder.safetensors").mkdir()
    refused(tmp_path / "folder.safetensors", "folder")


def rewritten(tmp_path, kind="hexplane", tensors=None, drop=(), about=None, **header):
    """A scene file whose parts were changed by somebody else."""
    path = save_scene(scene_with(kind), tmp_path / "scene.safetensors")
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    metadata = json.loads(raw[8 : 8 + length])["__metadata__"]
    description = json.loads(metadata["scene"])
    if about:
        about(description)
    content = {k: v for k, v in load_file(path).items() if k not in drop} | (tensors or {})
    save_file(content, path, metadata=metadata | {"scene": json.dumps(description)} | header)
    return path


def test_a_newer_version_is_named(tmp_path):
    refused(rewritten(tmp_path, version="2"), "newer version", "Update the pack")
    refused(rewritten(tmp_path, version="soon"), "version")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("gaussians.log_scales", torch.zeros(29, 3)),
        ("gaussians.sh", torch.zeros(30, 5, 3)),
        ("deformation.grids.0.1", torch.zeros(1, 4, 9, 9)),
        ("deformation.surplus", torch.zeros(2)),
        ("times", torch.zeros(2, dtype=torch.float64)),
        ("times", torch.zeros(0, dtype=torch.float64)),
        ("times", torch.tensor([0.0, 1.0])),
        ("bounds", torch.zeros(3, 2, dtype=torch.float64)),
        ("background", torch.zeros(4)),
        ("rig.K", torch.zeros(2, 3, 3)),
    ],
)
def test_wrong_shapes_and_types_are_named(name, tensor, tmp_path):
    refused(rewritten(tmp_path, tensors={name: tensor}), name.split(".")[-1])


@pytest.mark.parametrize(
    "name", ["gaussians.means", "deformation.grids.0.0", "times", "background", "rig.K", "bounds"]
)
def test_missing_and_nan_tensors_are_named(name, tmp_path):
    refused(rewritten(tmp_path, drop=(name,)))
    saved = load_file(save_scene(scene_with("hexplane"), tmp_path / "x.safetensors"))[name]
    refused(rewritten(tmp_path, tensors={name: torch.full_like(saved, float("nan"))}), name, "NaN")


def test_descriptions_that_lie_are_refused(tmp_path):
    def kind(about):
        about["deformation"]["kind"] = "wormhole"

    def size(about):
        about["deformation"]["config"]["resolution"] = [1000, 1000, 1000, 100]

    def huge(about):
        about["deformation"]["config"]["resolution"] = [10**9, 10**9, 10**9, 10**9]

    def views(about):
        about["rig"]["sizes"] = [[8, 8]]

    def pixels(about):
        about["rig"]["sizes"][0] = [0, 8]

    def types(about):
        about["rig"] = [1, 2]

    def nothing(about):
        about.clear()

    refused(rewritten(tmp_path, about=kind), "wormhole", "update")
    for change in (size, huge, views, pixels, types, nothing):
        refused(rewritten(tmp_path, about=change))
    refused(rewritten(tmp_path, scene="{"), "description")


def test_a_claimed_size_is_held_against_the_file(tmp_path):
    path = tmp_path / "scene.safetensors"
    metadata = {"format": "gs4d-scene", "version": "1", "scene": "{}"}
    lie = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"__metadata__": metadata, "gaussians.means": lie}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(path, "cut short")
    path.write_bytes(struct.pack("<Q", 2**62) + header)
    refused(path)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damaged_byte_gives_anything_but_a_scene_or_a_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = save_scene(scene_with("hexplane"), folder / "scene.safetensors")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 5000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert isinstance(load_scene(path), Scene4D)
    except InputError as error:
        assert "\n" not in str(error)


def test_a_scene_with_nan_is_not_written(tmp_path):
    scene = scene_with("still")
    broken = scene.with_(canonical=scene.canonical.with_(means=scene.canonical.means * float("nan")))
    path = save_scene(scene, tmp_path / "scene.safetensors")
    before = path.read_bytes()
    with pytest.raises(InputError, match="means"):
        save_scene(broken, path)
    assert path.read_bytes() == before


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path) as partial:
        partial.write_text("half")
        raise RuntimeError("stopped")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="disk is full"), write_atomically(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(InputError, match="folder"), write_atomically(path / "below"):
        pass
    assert path.read_text() == "old"
    with pytest.raises(InputError, match="too long"), write_atomically(tmp_path / ("x" * 300)):
        pass


def test_what_can_be_written_is_known_before_long_work(tmp_path):
    path = tmp_path / "below" / "file"
    check_writable(path)
    assert list((tmp_path / "below").iterdir()) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old" and list((tmp_path / "below").iterdir()) == [path]
    with pytest.raises(InputError, match="is a folder"):
        check_writable(tmp_path)
    with pytest.raises(InputError, match="cannot be created"):
        check_writable(path / "x" / "y")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to run into")
def test_a_disk_without_room_is_one_sentence_and_keeps_the_old_file(tmp_path):
    path = save_scene(scene_with("still"), tmp_path / "scene.safetensors")
    before = path.read_bytes()
    # in a process of its own, whose files may not grow beyond 4 KB: the write really fails half way
    script = f"""
import errno, resource, signal, sys
from pathlib import Path
sys.path[:0] = {[str(ROOT)]!r}
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.steps import sample_scene
from engine.train.state import save_state
scene = load_scene({str(path)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (
    lambda: save_scene(scene, {str(path)!r}),
    lambda: save_state(Path({str(path)!r}), scene.canonical.tensors(), {{}}, "key"),
    lambda: sample_scene.save(scene, [0.0, 0.5], Path({str(path)!r})),
):
    try:
        write()
    except InputError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("scene.safetensors was not written") for line in lines)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
