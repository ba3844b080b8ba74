"""Damaged and hostile files: each is read right or refused in one sentence, and nothing else happens."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.capture.point_cloud import optional_points, read_points
from engine.capture.readers import load_video, scene_bounds
from engine.errors import InputError
from engine.files.jsonfile import parse_json
from engine.files.paths import inside
from engine.files.torch_weights import as_safetensors
from engine.files.weights import check_folder
from engine.io.imports.fourdgaussians_folder import import_fourdgaussians, is_fourdgaussians
from engine.io.scene_file import SCENE, is_scene_file, load_scene, save_scene
from engine.io.splats import read_splat
from engine.io.view_folder import load_views
from engine.wording import LONGEST_SENTENCE
from tests.fuzz.parsers import SCENES

ROOT = Path(__file__).resolve().parents[2]
# bytes; a small file may need this much more than the program itself
MEMORY = 1 << 30


def read(path: Path) -> Any:
    """Whatever `path` is, read as the pack would and used as training would."""
    if path.is_dir() and (path / "views.json").exists():
        return load_views(path)
    if path.is_dir() and is_fourdgaussians(path):
        return moved(import_fourdgaussians(path, "import_scene"))
    if path.is_dir():
        video = load_video(path)
        scene_bounds(video)
        return [video.source.read(view, moment) for view, moment in list(video.samples())[:4]]
    if path.suffix == ".safetensors":
        is_scene_file(path)
        return moved(load_scene(path))
    return read_splat(path)


def moved(scene: Any) -> Any:
    means = scene.canonical.means.clone().requires_grad_(True)
    for second in scene.times.tolist()[:3]:
        scene.deformation.deform(scene.canonical.with_(means=means), second).means.sum().backward()
    return scene


def outcome(path: Path) -> str:
    """ "value", or the sentence."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return "value"


def main() -> None:
    """In a process of its own: a crash must not end the tests."""
    import resource

    path = Path(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = outcome(path)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY, f"{grown >> 20} MB"
    assert said == "value" or (said.isprintable() and len(said) <= LONGEST_SENTENCE), said
    print(said)


def reported(folder: Path) -> list[Path]:
    return [
        path
        for part in ("20_crash", "21_damaged")
        for path in sorted((folder / part).glob("*"))
        if path.suffix != ".py" and not path.name.startswith(".")
    ]


def test_reported_files_end_in_a_value_or_a_sentence(reports_folder: Path) -> None:
    found = reported(reports_folder)
    if not found:
        pytest.skip(f"no 20_crash or 21_damaged in {reports_folder}")
    for path in found:
        command = [sys.executable, "-m", "tests.reports.test_damaged", str(path)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, f"{path.name}: {ended.returncode} {ended.stderr[-2000:]}"
        print(path.name, ended.stdout.strip())


def cloud(color: str) -> str:
    properties = "".join(f"property float {axis}\n" for axis in "xyz")
    properties += "".join(f"property uchar {channel}\n" for channel in ("red", "green", "blue"))
    return f"ply\nformat ascii 1.0\nelement vertex 1\n{properties}end_header\n0 0 0 10 {color} 30\n"


@pytest.mark.parametrize("color", ["-1", "256", "nan", "1e300"])
def test_a_color_that_its_type_does_not_hold_is_named(color: str, tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text(cloud("255"))
    colors = read_points(tmp_path / "a.ply", "a.ply")[1]
    assert colors is not None and colors[0].tolist() == [10 / 255, 1, 30 / 255]
    (tmp_path / "a.ply").write_text(cloud(color))
    with pytest.raises(InputError, match="vertex 0 has green"):
        read_points(tmp_path / "a.ply", "a.ply")


def test_points_are_not_followed_out_of_the_capture(tmp_path: Path) -> None:
    (tmp_path / "capture").mkdir()
    (tmp_path / "a.ply").write_text(cloud("255"))
    (tmp_path / "capture" / "a.ply").symlink_to(tmp_path / "a.ply")
    warnings: list[str] = []
    assert optional_points(tmp_path / "capture", ("a.ply",), warnings) == (None, None)
    assert "is a link to a place outside" in warnings[0]


@pytest.mark.parametrize("digits", [19, 25, 308, 309, 5000, 200_000])
def test_whole_numbers_of_any_length_are_read(digits: int) -> None:
    value = parse_json("[" + "9" * digits + ", -" + "9" * digits + ", 9007199254740993]")
    assert value[2] == 2**53 + 1 and float(value[0]) == -float(value[1])
    # 64 bits without a sign hold seeds; what they do not hold is a float, as 1e999 is
    assert type(value[0]) is (int if digits <= 19 else float)
    assert float(value[0]) > 9e17


@pytest.mark.parametrize("value", ["x" * 100_000, "word " * 9000, "a\nb\x1b[31mc\u202e", "\udcff", "é" * 900])
def test_no_value_makes_a_sentence_long_or_unprintable(value: str) -> None:
    error = InputError("FIL-999", f"{value} is not a name; choose another.").at("cameras.json")
    text = str(error)
    assert len(text) <= LONGEST_SENTENCE and text.isprintable()
    assert text.startswith("cameras.json: ") and text.endswith(
        "is not a name; choose another. [GS4D-FIL-999]"
    )
    assert InputError(*error.args).message == error.message


def bomb(folder: Path) -> Path:
    """2 MB that unpack to 2 GB."""
    path = folder / "a.pth"
    torch.save({"a": torch.zeros(4)}, path)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data/1", "w", force_zip64=True) as file,
    ):
        for _ in range(128):
            file.write(bytes(1 << 24))
    return path


def test_weights_are_held_against_what_the_file_stores(tmp_path: Path) -> None:
    one = torch.zeros(1 << 16)
    strange: dict[str, Callable[[], Any]] = {
        "strides of zero": lambda: {"a": one[:1].expand(1 << 14, 1 << 14)},
        "one storage many times": lambda: {f"a{i}": one.view(256, 256) for i in range(5000)},
        "on no device": lambda: {"a": torch.zeros(9, device="meta")},
        "sparse": lambda: {"a": torch.eye(9).to_sparse()},
    }
    for name, make in strange.items():
        torch.save(make(), tmp_path / "a.pth")
        with pytest.raises(InputError, match="claims more numbers than it holds"):
            as_safetensors(tmp_path / "a.pth")
        assert not list(tmp_path.glob("*.safetensors")), name
    with pytest.raises(InputError, match="would unpack to more bytes"):
        as_safetensors(bomb(tmp_path))
    torch.save({"a": one, "b": one}, tmp_path / "a.pth")
    assert as_safetensors(tmp_path / "a.pth").is_file()


@pytest.mark.parametrize("part", ["model-00001.bin", "../other.safetensors", "/tmp/x.safetensors"])
def test_an_index_that_names_no_weights_of_its_folder_is_refused(part: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors"}}))
    check_folder(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "model-00001.safetensors", "b": part}}))
    with pytest.raises(InputError, match=r"model\.safetensors\.index\.json"):
        check_folder(tmp_path)


@pytest.mark.parametrize("name", ["x" * 256, "images/" + "é" * 128 + ".png", "x" * 1001, "a\0b"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="FIL-028"):
        inside(tmp_path, name, "views.json")
    assert inside(tmp_path, "images/" + "x" * 251 + ".png", "views.json").name.startswith("xxx")


@pytest.mark.parametrize("name", ["hexplane", "per_frame", "masked", "frozen", "bound"])
@pytest.mark.parametrize("part", ["gaussians.", "deformation."])
def test_scenes_of_both_precisions_open_in_one(name: str, part: str, tmp_path: Path) -> None:
    """Files of other programs may hold float64 Gaussians and a float32 motion, or the other way round."""
    path = tmp_path / "a.safetensors"
    save_scene(SCENES[name](), path)
    single = moved(load_scene(path))
    tensors, about = SCENE.read(path)
    doubled = {
        n: t.double() if n.startswith(part) and t.is_floating_point() else t for n, t in tensors.items()
    }
    assert any(t.dtype == torch.float64 for n, t in doubled.items() if n.startswith(part))
    SCENE.write(path, doubled, about)
    scene = moved(load_scene(path))
    for second in scene.times.tolist():
        pairs = zip(scene.at(second).tensors().values(), single.at(second).tensors().values(), strict=True)
        assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in pairs)


def test_numbers_beyond_single_precision_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_scene(SCENES["bound"](), path)
    tensors, about = SCENE.read(path)
    tensors["gaussians.means"] = tensors["gaussians.means"].double() * 1e300
    SCENE.write(path, tensors, about)
    with pytest.raises(InputError, match=r"a\.safetensors: 'gaussians\.means' has numbers beyond"):
        load_scene(path)


if __name__ == "__main__":
    main()
