"""What the shared data sets do not show: moving cameras, distorted COLMAP models, and descriptions made to harm."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.capture.readers import LoadOptions, detect_layout, load_video, scene_bounds
from engine.capture.readers.colmap_values import MODELS
from engine.capture.undistort import Distortion
from engine.errors import InputError
from engine.files.images import check_size, image_size, read_image
from engine.files.jsonfile import read_json
from engine.files.paths import inside
from engine.scene.cameras import look_at

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def pose(angle: float, radius: float = 4.0) -> np.ndarray:
    """world_to_camera [4, 4] on a circle round the origin."""
    position = torch.tensor([radius * np.cos(angle), radius * np.sin(angle), 1.0])
    return look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])).numpy()


def save(path: Path, level: int = 100, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


def transforms(folder: Path, frames: list[dict[str, Any]], **common: Any) -> Path:
    (folder / "transforms.json").write_text(
        json.dumps({"fl_x": 40.0, "w": 32, "h": 24, **common, "frames": frames})
    )
    return folder


def entry(name: str, angle: float, time: float | None = None, **more: Any) -> dict[str, Any]:
    matrix = (np.linalg.inv(pose(angle)) @ FLIP).tolist()
    return {"file_path": name, "transform_matrix": matrix, **({} if time is None else {"time": time}), **more}


def moving(folder: Path, count: int = 8, **common: Any) -> Path:
    for i in range(count):
        save(folder / f"images/{i:03d}.png", 10 * i)
    return transforms(
        folder, [entry(f"images/{i:03d}.png", 0.2 * i, i / count) for i in range(count)], **common
    )


def test_a_moving_camera_gives_a_view_a_picture(tmp_path: Path) -> None:
    video = load_video(moving(tmp_path))
    assert (video.views, video.moments) == (8, 8) and int(video.available.sum()) == 8
    assert torch.allclose(video.cameras.world_to_camera[3], torch.tensor(pose(0.6)), atol=1e-9)
    assert int(video.source.read(3, 3).image[0, 0, 0]) == 30
    assert not video.warnings


def test_a_camera_that_stays_is_one_view_without_any_label(tmp_path: Path) -> None:
    frames = []
    for camera in ("left", "right"):
        for i in range(4):
            save(tmp_path / f"images/{camera}/{i}.png", 20 * i)
            frames.append(entry(f"images/{camera}/{i}.png", float(camera == "left"), i / 3))
    video = load_video(transforms(tmp_path, frames[::-1]))
    assert video.cameras.names == ("left", "right") and bool(video.available.all())
    assert [int(video.source.read(1, m).image[0, 0, 0]) for m in range(4)] == [0, 20, 40, 60]


def test_times_in_seconds_are_kept(tmp_path: Path) -> None:
    for i in range(8):
        save(tmp_path / f"{i}.png")
    video = load_video(transforms(tmp_path, [entry(f"{i}.png", i, 0.5 * i) for i in range(8)]))
    assert torch.allclose(video.times, 0.5 * torch.arange(8, dtype=torch.float64))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for name, (width, height) in {"half": (16, 12), "other": (24, 24)}.items():
        Image.fromarray(np.uint8(255) * (np.arange(width * height) % 3 > 0).reshape(height, width)).save(
            tmp_path / f"{name}.png"
        )
    load_video(transforms(tmp_path, [entry("a.png", 0.0, 0.0, mask_path="half.png")]))
    with pytest.raises(InputError, match=r"other\.png has 24"):
        load_video(transforms(tmp_path, [entry("a.png", 0.0, 0.0, mask_path="other.png")]))


def test_dynerf_frames_in_folders_stand_for_videos(tmp_path: Path) -> None:
    rows = []
    for i in range(3):
        right, down, forward = pose(i)[:3, :3]
        center = -pose(i)[:3, :3].T @ pose(i)[:3, 3]
        block = np.stack([down, right, -forward, center, [48, 64, 80.0]], axis=1)
        rows.append([*block.flatten(), 1.0, 9.0])
        for frame in range(4):
            save(tmp_path / f"cam{i:02d}/images/{frame:04d}.png", 40 * frame)
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    video = load_video(tmp_path)
    assert (video.views, video.moments, video.test_views) == (3, 4, (0,))
    assert np.allclose(video.cameras.world_to_camera[2].numpy(), pose(2), atol=1e-12)
    assert np.allclose(
        video.cameras.K[0].numpy(), [[40, 0, 16], [0, 40, 12], [0, 0, 1]]
    )  # 80 for 64, pictures are 32
    assert "scaled by 0.5" in video.warnings[0]
    assert int(video.source.read(1, 3).image[0, 0, 0]) == 120


def test_nerfstudio_lenses_are_straightened(tmp_path: Path) -> None:
    video = load_video(moving(tmp_path, k1=-0.2, k2=0.03, p1=0.001))
    assert float(video.cameras.K[0, 0, 0]) != 40.0
    assert tuple(video.source.read(2, 2).image.shape) == (24, 32, 3)
    fisheye = load_video(moving(tmp_path, camera_model="OPENCV_FISHEYE", k1=0.01))
    assert float(fisheye.cameras.K[0, 0, 0]) != float(video.cameras.K[0, 0, 0])


def test_field_of_view_gives_the_focal_length(tmp_path: Path) -> None:
    folder = moving(tmp_path)
    data = json.loads((folder / "transforms.json").read_text())
    del data["fl_x"], data["w"], data["h"]
    (folder / "transforms.json").write_text(json.dumps(data | {"camera_angle_x": 0.8}))
    assert np.isclose(float(load_video(folder).cameras.K[0, 0, 0]), 16 / np.tan(0.4))


# COLMAP ---------------------------------------------------------------------------------------------------------


def quaternion(matrix: np.ndarray) -> list[float]:
    from engine.scene.rotations import matrices_to_quats

    return matrices_to_quats(torch.tensor(matrix[:3, :3])).tolist()


def colmap(folder: Path, model: str, params: list[float], binary: bool, count: int = 3) -> Path:
    """A rig whose cameras have all the same lens, with a folder of two frames each."""
    target = folder / "sparse/0"
    target.mkdir(parents=True)
    ids = {name: key for key, (name, _) in MODELS.items()}
    images = [
        (i + 1, [*quaternion(pose(0.7 * i)), *pose(0.7 * i)[:3, 3]], f"cam{i:02d}/f_000.png")
        for i in range(count)
    ]
    for _, _, name in images:
        save(folder / "images" / name, 50, (64, 48))
        save(folder / "images" / name.replace("000", "001"), 60, (64, 48))
    if binary:
        camera = struct.pack(f"<QIiQQ{len(params)}d", 1, 1, ids[model], 64, 48, *params)
        (target / "cameras.bin").write_bytes(camera)
        body = b"".join(
            struct.pack("<I7dI", i, *values, 1)
            + name.encode()
            + b"\0"
            + struct.pack("<Q2dq", 1, 3.0, 4.0, -1)
            for i, values, name in images
        )
        (target / "images.bin").write_bytes(struct.pack("<Q", count) + body)
    else:
        (target / "cameras.txt").write_text(f"# x\n1 {model} 64 48 {' '.join(map(str, params))}\n")
        lines = [f"{i} {' '.join(map(str, values))} 1 {name}\n\n" for i, values, name in images]
        (target / "images.txt").write_text("# x\n" + "".join(lines))
    return folder


CAMERAS = {
    "SIMPLE_PINHOLE": [60, 32, 24], "PINHOLE": [60, 61, 32, 24], "SIMPLE_RADIAL": [60, 32, 24, -0.1],
    "RADIAL": [60, 32, 24, -0.1, 0.02], "OPENCV": [60, 61, 32, 24, -0.1, 0.02, 0.001, 0.002],
    "OPENCV_FISHEYE": [60, 61, 32, 24, 0.02, 0.001, 0, 0],
    "FULL_OPENCV": [60, 61, 32, 24, -0.1, 0.02, 0.001, 0.002, 0.01, 0.1, 0.01, 0.001],
    "FOV": [60, 61, 32, 24, 0.7], "SIMPLE_RADIAL_FISHEYE": [60, 32, 24, 0.02],
    "RADIAL_FISHEYE": [60, 32, 24, 0.02, 0.001],
    "THIN_PRISM_FISHEYE": [60, 61, 32, 24, 0.02, 0.001, 0.001, 0.001, 0, 0, 0.001, 0.001],
    "SIMPLE_DIVISION": [60, 32, 24, -0.1], "DIVISION": [60, 61, 32, 24, 0.1], "SIMPLE_FISHEYE": [60, 32, 24],
    "FISHEYE": [60, 61, 32, 24], "EUCM": [60, 61, 32, 24, 0.6, 1.1],
    "RAD_TAN_THIN_PRISM_FISHEYE": [60, 61, 32, 24, 0.02, 0.001, 0, 0, 0, 0, 0.001, 0.001, 0.001, 0, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("model", list(CAMERAS))
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "text"])
def test_every_colmap_camera_model_becomes_a_pinhole(tmp_path: Path, model: str, binary: bool) -> None:
    video = load_video(colmap(tmp_path, model, [float(p) for p in CAMERAS[model]], binary))
    assert video.cameras.names == ("cam00", "cam01", "cam02") and video.moments == 2
    for i in range(3):
        assert np.allclose(video.cameras.world_to_camera[i].numpy(), pose(0.7 * i), atol=1e-9)
    assert int(video.source.read(2, 1).image[24, 32, 0]) == 60
    straight = "PINHOLE" in model
    assert (float(video.cameras.K[0, 0, 0]) == 60.0) == straight
    assert 20 < float(video.cameras.K[0, 0, 0]) < 120


def test_colmap_parameters_go_to_the_right_places(tmp_path: Path) -> None:
    """The straightened camera sees a point where the distorted one, by COLMAP's published formula, saw it."""
    params = [60.0, 61.0, 33.0, 23.0, -0.15, 0.03, 0.002, -0.001]
    video = load_video(colmap(tmp_path, "OPENCV", params, True))
    point = torch.tensor([[0.3, -0.2, 0.4]], dtype=torch.float64)
    new = video.cameras.project(point, 1)[0].numpy()
    p = pose(0.7)[:3, :3] @ point[0].numpy() + pose(0.7)[:3, 3]
    x, y = p[0] / p[2], p[1] / p[2]
    r2 = x * x + y * y
    radial = -0.15 * r2 + 0.03 * r2 * r2
    u = x + x * radial + 2 * 0.002 * x * y - 0.001 * (r2 + 2 * x * x)
    v = y + y * radial + 2 * -0.001 * x * y + 0.002 * (r2 + 2 * y * y)
    seen = np.array([60 * u + 33, 61 * v + 23])
    lens = Distortion("opencv", tuple(params[4:]))
    ideal = lens.undistort((seen - [33, 23]) / [60, 61])
    K = video.cameras.K[1].numpy()
    assert np.allclose(new[0], ideal * [K[0, 0], K[1, 1]] + K[:2, 2], atol=1e-6)


def test_a_colmap_model_of_a_moving_camera(tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    (folder / "sparse").mkdir(parents=True)
    (folder / "sparse/cameras.txt").write_text("1 PINHOLE 32 24 40 40 16 12\n")
    lines = []
    for i in range(6):
        save(folder / f"images/frame_{i:04d}.png", 30 * i)
        values = [*quaternion(pose(0.3 * i)), *pose(0.3 * i)[:3, 3]]
        lines.append(f"{i + 1} {' '.join(map(str, values))} 1 frame_{i:04d}.png\n\n")
    (folder / "sparse/images.txt").write_text("".join(lines[::-1]))
    video = load_video(folder, LoadOptions(frames_per_second=10))
    assert (video.views, video.moments) == (6, 6) and int(video.available.sum()) == 6
    assert int(video.source.read(4, 4).image[0, 0, 0]) == 120 and np.isclose(float(video.times[-1]), 0.5)


# Descriptions made to harm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "C:\\x", "\\\\server\\x", "..\\x", "http://h/x", "file:///etc/passwd", "",
     "a\0b", "x" * 2000, "concat:a|b"],
    ids=lambda n: repr(n[:18]),
)  # fmt: skip
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        inside(tmp_path, name, "test.json")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    save(tmp_path / "secret/a.png")
    folder = tmp_path / "capture"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "images")
    with pytest.raises(InputError, match="link"):
        load_video(transforms(folder, [entry("images/a.png", 0.0, 0.0)]))
    os.symlink(folder, tmp_path / "alias")
    save(folder / "own/a.png")
    load_video(
        transforms(tmp_path / "alias", [entry("own/a.png", 0.0, 0.0)])
    )  # the folder itself may be a link


@pytest.mark.parametrize(
    "text",
    ['{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}", "[]", "null", "", "\x00", '{"frames": {}}', '{"frames": []}',
     '{"frames": [1]}', '{"frames": [{"file_path": 3}]}', '{"frames": [{"file_path": "a.png"}]}',
     '{"w": 1e400, "h": 2, "frames": [{"file_path": "a.png", "transform_matrix": [[1,0,0,0]]}]}',
     '{"frames": [{"file_path": "a.png", "transform_matrix": "' + "x" * 1000 + '"}]}',
     '{"w": 32, "h": 24, "fl_x": true, "frames": [{"file_path": "a.png", '
     '"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}]}'],
    ids=range(14),
)  # fmt: skip
def test_nonsense_in_a_description_is_one_sentence(tmp_path: Path, text: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "transforms.json").write_text(text)
    with pytest.raises(InputError) as caught:
        load_video(tmp_path)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_duplicate_keys_name_their_owner(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"cameras": [{"name": "left", "K": 1, "K": 2}]}')
    with pytest.raises(InputError, match=r"\"K\".*left"):
        read_json(tmp_path / "c.json", "c.json")


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 5), (20_000, 20_000), (16_001, 1)])
def test_impossible_sizes_are_refused(width: int, height: int) -> None:
    with pytest.raises(InputError, match=str(width)):
        check_size(width, height, "a.png")


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_a_header_that_lies_is_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    import tracemalloc
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    picture = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(picture)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.png"):
            image_size(tmp_path / "a.png", "a.png")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_files_that_are_something_else(tmp_path: Path, name: str) -> None:
    from engine.capture.video_file import probe

    for content in (b"hello", os.urandom(4096), b"#EXTM3U\nhttp://127.0.0.1:9/x.ts\n", b"\x89PNG\r\n\x1a\n"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            (probe if name.endswith("mp4") else image_size)(tmp_path / name, name)


def test_an_unknown_folder_lists_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        detect_layout(tmp_path)
    for wanted in ("holiday.txt", "cameras.json", "transforms.json", "poses_bounds.npy", "cameras.bin"):
        assert wanted in str(caught.value)
    for missing in (tmp_path / "nowhere", tmp_path / "holiday.txt"):
        with pytest.raises(InputError, match="folder"):
            load_video(missing)


@pytest.mark.parametrize(
    "what",
    ["near", "fps", "K", "w2c", "background", "hold_out", "hold_out_frames", "distortion", "name"],
)
def test_wrong_types_in_cameras_json_name_the_key(tmp_path: Path, what: str) -> None:
    save(tmp_path / "images/0.png")
    camera: dict[str, Any] = {
        "name": "cam00", "frames": "images", "width": 32, "height": 24, "w2c": pose(0).tolist(),
        "K": [[40, 0, 16], [0, 40, 12], [0, 0, 1]],
    }  # fmt: skip
    data: dict[str, Any] = {"format": "multiview-video", "version": 1, "fps": 30, "cameras": [camera]}
    (tmp_path / "cameras.json").write_text(json.dumps(data | {"near": 1, "far": 9}))
    load_video(tmp_path)
    holder = camera if what in camera or what == "distortion" else data
    for wrong in ("many", {"a": 1}, [[1, 2], [3]], [None], True, 10**400):
        if what == "name" and wrong == "many":
            continue
        holder_copy = dict(holder) | {what: wrong}
        whole = data | {"far": 9} | (holder_copy if holder is data else {"cameras": [holder_copy]})
        import sys

        sys.set_int_max_str_digits(0)
        text = json.dumps(whole)
        sys.set_int_max_str_digits(4300)
        (tmp_path / "cameras.json").write_text(text)
        with pytest.raises(InputError) as caught:
            load_video(tmp_path)
        assert what in str(caught.value) or "camera 0" in str(caught.value) or "skew" in str(caught.value)


# Pictures and bounds ----------------------------------------------------------------------------------------------


def test_alpha_is_straight_and_shrinks_without_fringes(tmp_path: Path) -> None:
    rgba = np.zeros((16, 16, 4), dtype=np.uint8)
    rgba[:, :7] = (200, 100, 50, 255)  # what lies under alpha 0 is black and must not bleed in
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image, alpha = read_image(tmp_path / "a.png", "a.png", (16, 16))
    assert alpha is not None and (image == rgba[..., :3]).all() and (alpha == rgba[..., 3]).all()
    image, alpha = read_image(tmp_path / "a.png", "a.png", (8, 8))
    assert alpha is not None and (np.abs(image[:, :4].astype(int) - [200, 100, 50]) <= 2).all()
    assert (np.abs(alpha[:, 3].astype(int) - 128) <= 1).all()


def test_sixteen_bit_and_palette_pictures(tmp_path: Path) -> None:
    Image.fromarray(np.full((24, 32), 200 * 256, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGB", (32, 24), (10, 200, 30)).quantize(4).save(tmp_path / "palette.png")
    assert int(read_image(tmp_path / "deep.png", "deep", (32, 24))[0][0, 0, 0]) == 200
    assert read_image(tmp_path / "palette.png", "palette", (32, 24))[0][0, 0].tolist() == [10, 200, 30]


def test_bounds_without_points_hold_what_the_cameras_look_at(tmp_path: Path) -> None:
    low, high = scene_bounds(load_video(moving(tmp_path, 12)))
    assert bool((low < -0.3).all()) and bool((high > 0.3).all())
    assert float((high - low).max()) < 12
    one = tmp_path / "one"
    one.mkdir()
    save(one / "a.png")
    low, high = scene_bounds(load_video(transforms(one, [entry("a.png", 0.0, 0.0)])))
    assert bool(torch.isfinite(torch.stack([low, high])).all()) and bool((high > low).all())
