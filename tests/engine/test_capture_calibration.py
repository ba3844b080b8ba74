"""Calibration files of capture software: what their numbers mean, and what is said when they cannot be used."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.capture.convert.calibration import MOST_CAMERAS, CalibratedCamera, as_cameras
from engine.capture.convert.pose2sim import read_pose2sim
from engine.capture.convert.qualisys import read_qualisys
from engine.errors import InputError
from engine.scene.cameras import look_at

CENTERS = {"cam2": (2.0, -3.0, 1.5), "cam10": (-3.0, -1.0, 1.8)}
LENS = (-0.05, 0.13, 0.001, -0.0005, 0.01)
K = np.array([[800.0, 0.0, 330.25], [0.0, 790.0, 231.75], [0.0, 0.0, 1.0]])  # corner origin


def pose(name: str) -> np.ndarray:
    up = torch.tensor([0.0, 0.0, 1.0])
    return look_at(torch.tensor(CENTERS[name]), torch.tensor([0.0, 0.0, 1.0]), up).numpy()


def qualisys(unit: float = 1000.0) -> str:
    """As Qualisys writes it: millimeters, axes y up and z back, 1/64 pixels from the first center."""
    cameras = []
    for name in ("cam10", "cam2"):
        w2c = pose(name)
        axes = np.diag([1.0, -1.0, -1.0]) @ w2c[:3, :3]
        x, y, z = unit * np.array(CENTERS[name])
        rotation = " ".join(f'r{i + 1}{j + 1}="{axes[i, j]:.17g}"' for i in range(3) for j in range(3))
        cameras.append(
            f'<camera active="1" avg-residual="0.4" model="Miqus Video" serial="{name}" viewrotation="0">'
            '<fov_video bottom="487" left="16" right="655" top="8"/>'
            f'<transform {rotation} x="{x}" y="{y}" z="{z}"/>'
            f'<intrinsic focalLengthU="{64 * K[0, 0]}" focalLengthV="{64 * K[1, 1]}" skew="0" '
            f'centerPointU="{64 * (K[0, 2] - 0.5 + 16)}" centerPointV="{64 * (K[1, 2] - 0.5 + 8)}" '
            f'radialDistortion1="{LENS[0]}" radialDistortion2="{LENS[1]}" radialDistortion3="{LENS[4]}" '
            f'tangentalDistortion1="{LENS[2]}" tangentalDistortion2="{LENS[3]}"/></camera>'
        )
    marker = (
        '<camera model="Oqus 300" serial="77"><fov_video bottom="9" left="0" right="9" top="0"/></camera>'
    )
    text = f'<calibration source="x"><cameras>{"".join(cameras)}{marker}</cameras></calibration>'
    return text


def pose2sim(unit: float = 1.0) -> str:
    tables = []
    for name in ("cam10", "cam2"):
        w2c = pose(name)
        rotation = Rotation.from_matrix(w2c[:3, :3]).as_rotvec().tolist()
        tables.append(
            f'[{name}]\nname = "{name}"\nsize = [ 640.0, 480.0]\nmatrix = [ [ {K[0, 0]}, 0.0, {K[0, 2] - 0.5}], '
            f"[ 0.0, {K[1, 1]}, {K[1, 2] - 0.5}], [ 0.0, 0.0, 1.0]]\ndistortions = [ {', '.join(map(str, LENS))}]\n"
            f"rotation = {rotation}\ntranslation = {(unit * w2c[:3, 3]).tolist()}\nfisheye = false\n"
        )
    return "\n".join(tables) + "\n[metadata]\nadjusted = false\nerror = 0.0\n"


def write(folder: Path, text: str, name: str = "Calib.qca.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def check(cameras: list[CalibratedCamera]) -> None:
    assert [c.name for c in cameras] == ["cam2", "cam10"], "natural order, marker cameras left out"
    for camera in cameras:
        assert camera.size == (640, 480)
        assert np.allclose(camera.K, K, atol=1e-9)
        assert camera.distortion.model == "opencv"
        assert np.allclose(camera.distortion.params, LENS), "k1 k2 p1 p2 k3, as they stand"
        assert np.allclose(camera.world_to_camera, pose(camera.name), atol=1e-6)
    rig = as_cameras(cameras)
    assert np.allclose(rig.centers[0], CENTERS["cam2"], atol=1e-6), "metres"
    pixel, depth = rig.project(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.3]], dtype=torch.float64), 0)
    assert np.allclose(pixel[0], K[:2, 2], atol=1e-4), (
        "the point that is looked at lies at the principal point"
    )
    assert pixel[1, 1] < pixel[0, 1] and (depth > 0).all(), (
        "what is higher in the world is higher in the picture"
    )


def test_qualisys_millimetres_subpixels_and_axes_become_ours(tmp_path: Path) -> None:
    cameras = read_qualisys(write(tmp_path, qualisys()))
    check(cameras)
    assert cameras[0].residual == 0.4
    check(read_qualisys(write(tmp_path, qualisys(unit=1.0)), units="m"))


def test_pose2sim_metres_and_rodrigues_vectors_become_ours(tmp_path: Path) -> None:
    check(read_pose2sim(write(tmp_path, pose2sim(), "Calib.toml")))
    check(read_pose2sim(write(tmp_path, pose2sim(1000.0), "Calib.toml"), units="mm"))


def test_a_fisheye_lens_is_told_apart(tmp_path: Path) -> None:
    text = pose2sim().replace("fisheye = false", "fisheye = true").replace(f", {LENS[4]}]", "]")
    cameras = read_pose2sim(write(tmp_path, text, "Calib.toml"))
    assert {c.distortion.model for c in cameras} == {"fisheye"}


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def without(text: str, start: str, end: str) -> str:
    at = text.index(start)
    return text[:at] + text[text.index(end, at) + len(end) :]


BROKEN_QUALISYS = {
    "cut short": (qualisys()[:-40], "Export the .qca.txt file again"),
    "another xml": ("<project></project>", "root element <project>"),
    "no cameras": ("<calibration><cameras/></calibration>", "does not describe any video camera"),
    "entities": ("<!DOCTYPE x [<!ENTITY a 'b'>]>" + qualisys(), "entities"),
    "no serial": (replaced(qualisys(), 'serial="cam2"', ""), "serial"),
    "two of a name": (replaced(qualisys(), 'serial="cam2"', 'serial="cam10"'), "'cam10' appears twice"),
    "no focal length": (without(qualisys(), "focalLengthU", '" '), "focalLengthU"),
    "not a number": (replaced(qualisys(), 'x="', 'x="left of '), "number x"),
    "nan": (re.sub(r' y="[^"]*"', ' y="nan"', qualisys(), count=1), "NaN or infinite"),
    "mirrored": (replaced(qualisys(), 'r11="', 'r11="-').replace('"--', '"'), "scaled or sheared"),
    "metres": (qualisys(unit=1.0), "units = m"),
    "mirrored as a whole": (
        re.sub(r' (r1[123])="', r' \1="-', qualisys()).replace('"--', '"'),
        "the rotation is mirrored",
    ),
    "micrometres": (replaced(qualisys(), 'focalLengthU="', 'focalLengthU="99999'), "not in millimeters"),
    "whole pixels": (replaced(qualisys(), 'centerPointU="', 'centerPointU="99'), "principal point"),
    "huge": (replaced(qualisys(), 'right="655"', 'right="655000"'), "16000 per side"),
}


@pytest.mark.parametrize("case", BROKEN_QUALISYS)
def test_a_broken_qualisys_file_is_named_in_one_sentence(case: str, tmp_path: Path) -> None:
    text, said = BROKEN_QUALISYS[case]
    with pytest.raises(InputError, match=r"Calib\.qca\.txt") as caught:
        read_qualisys(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN_POSE2SIM = {
    "not toml": ("[cam1\n", "not a TOML calibration"),
    "empty": ("", "does not describe any video camera"),
    "millimetres": (pose2sim(1000.0), "units = mm"),
    "no rotation": (without(pose2sim(), "rotation", "\n"), "rotation"),
    "short matrix": (replaced(pose2sim(), ", [ 0.0, 0.0, 1.0]]", "]"), "matrix"),
    "words": (without(pose2sim(), "size", "\n") + 'size = "big"\n', "size"),
    "negative focal length": (
        replaced(pose2sim(), "800.0", "-800.0"),
        "the focal length in x is -800. It must be greater than 0",
    ),
}


@pytest.mark.parametrize("case", BROKEN_POSE2SIM)
def test_a_broken_pose2sim_file_is_named_in_one_sentence(case: str, tmp_path: Path) -> None:
    text, said = BROKEN_POSE2SIM[case]
    with pytest.raises(InputError, match=r"Calib\.toml") as caught:
        read_pose2sim(write(tmp_path, text, "Calib.toml"))
    assert said in str(caught.value)


def test_a_missing_or_binary_calibration_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_qualisys(tmp_path / "none.qca.txt")
    (tmp_path / "Calib.toml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="not a text file"):
        read_pose2sim(tmp_path / "Calib.toml")


def test_calibrations_and_captures_know_one_set_of_tolerances(tmp_path: Path) -> None:
    """Rounding to three digits is taken out; skewed pixels pass where a lens is taken out anyway."""
    rounded = re.sub(
        r' (r\d\d)="([^"]*)"',
        lambda m: f' {m[1]}="{float(m[2]):.3f}"',
        replaced(qualisys(), 'skew="0"', 'skew="300"'),
    )
    for camera in read_qualisys(write(tmp_path, rounded)):
        rotation = camera.world_to_camera[:3, :3]
        assert np.abs(rotation @ rotation.T - np.eye(3)).max() < 1e-12
        assert np.allclose(rotation, pose(camera.name)[:3, :3], atol=1e-3)
    with pytest.raises(InputError, match="skew"):
        read_qualisys(
            write(
                tmp_path, re.sub(r'(radial|tangental)Distortion(\d)="[^"]*"', r'\1Distortion\2="0"', rounded)
            )
        )


def test_a_calibration_of_thousands_of_cameras_is_refused_at_once(tmp_path: Path) -> None:
    """All pairs of cameras are compared, which takes a minute for as many as the file may hold."""
    first = pose2sim().split("\n\n")[0]
    text = "\n".join(first.replace("cam10", f"cam{i}") for i in range(MOST_CAMERAS + 1))
    (tmp_path / "Calib.toml").write_text(text)
    with pytest.raises(InputError, match=r"1,001 cameras; at most 1,000"):
        read_pose2sim(tmp_path / "Calib.toml")
