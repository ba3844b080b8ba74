"""What is fuzzed: a small valid input of each kind, how it is read, and a use of what was read."""

from __future__ import annotations

import copy
import json
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.capture.convert.capture_folder import read_capture_folder, read_sightings
from engine.capture.convert.pose2sim import read_pose2sim
from engine.capture.convert.qualisys import read_qualisys
from engine.capture.point_cloud import write_points
from engine.capture.readers import load_video, scene_bounds
from engine.capture.single_video import load_clip
from engine.color import ColorTable
from engine.deform import BoundMesh, FrozenAppearance, Graded, HexPlane, HexPlaneConfig, Masked, PerFrame
from engine.fields import indices
from engine.files.part_file import PartHeader, part_writer, read_frames, read_header
from engine.files.torch_weights import as_safetensors
from engine.io.cube_file import read_cube
from engine.io.gltf import open_document, read_animated_mesh
from engine.io.heads import read_head_model, read_timed_motion
from engine.io.image_files import load_depth_images, load_images
from engine.io.imports.fourdgaussians_folder import import_fourdgaussians
from engine.io.imports.gaussian_avatars import import_gaussian_avatar
from engine.io.mask_folder import load_masks
from engine.io.ply import write_ply
from engine.io.scene_file import is_scene_file, load_scene, save_scene
from engine.io.selection_file import load_selection, save_selection
from engine.io.splats import read_splat
from engine.io.spz import write_spz
from engine.io.usd import write_usd
from engine.io.view_folder import load_views, save_views
from engine.latent.files import load_field, save_field
from engine.messages import result, returned
from engine.playback.player_file import read_player_file, write_player_file
from engine.scene import Scene4D, Selection, ViewSet
from engine.steps import STEPS, export_scene, import_scene
from engine.train.state import load_state, save_state
from tests.engine import test_avatar_reader, test_capture, test_gaussian_avatars, test_readers
from tests.engine.test_capture_calibration import pose2sim, qualisys
from tests.engine.test_cube_file import write_cube
from tests.engine.test_head_files import named, write_flame_pickle, write_npz
from tests.engine.test_head_motion_files import write_capture, write_motion
from tests.engine.test_import_export import state
from tests.engine.test_latent_files import field
from tests.gltf_files import triangle
from tests.reports.test_splat_formats import write_compressed
from tests.reports.test_technicolor import light_field
from tests.scenes import moving_scene
from tests.tiny_head import tiny_head, tiny_model
from tests.video_files import write_hdr, write_interlaced, write_with_alpha
from tests.web.clips import baked


@dataclass(frozen=True)
class Parser:
    """One kind of input."""

    name: str
    # writes a valid input into a folder
    build: Callable[[Path], object]
    # reads the folder and uses what it holds
    read: Callable[[Path, Random], object]
    mutates_files: bool = True


def _parser(name: str, build: Callable[[Path], object], read: Callable[[Path], object]) -> Parser:
    return Parser(name, build, lambda folder, choose: read(folder))


# -- scenes -----------------------------------------------------------------------------------------------------------

SCENE = moving_scene(30, views=3, moments=4)
FIELD = HexPlaneConfig(2, (4, 5, 6, 3), (1, 2), 1, 8, ("position", "rotation"), time_range=(0.0, 1.5))


def _hexplane() -> HexPlane:
    box = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    return HexPlane.create(FIELD, box, torch.Generator().manual_seed(0), zero_init=False)


def _per_frame() -> PerFrame:
    return PerFrame.of([SCENE.at(float(t)) for t in SCENE.times], SCENE.times)


def _bound() -> Scene4D:
    head = tiny_head()
    gaussians, binding = test_gaussian_avatars.gaussians_on(head.vertices()[0], head.model.faces)
    mesh = BoundMesh(head.model.faces, head.vertices()[0], head.vertices(), head.motion.times, binding)
    return SCENE.with_(canonical=gaussians, deformation=mesh, times=head.motion.times)


SCENES: dict[str, Callable[[], Scene4D]] = {
    "hexplane": lambda: SCENE.with_(deformation=_hexplane()).with_history("fit_scene", rate=1 / 3),
    "per_frame": lambda: SCENE.with_(deformation=_per_frame()),
    "masked": lambda: SCENE.with_(deformation=Masked(_hexplane(), torch.arange(30) % 3 > 0)),
    "frozen": lambda: SCENE.with_(deformation=FrozenAppearance(_hexplane())),
    "bound": _bound,
    "graded": lambda: SCENE.with_(
        deformation=Graded(_hexplane(), ColorTable.identity(4), SCENE.canonical.sh, torch.ones(30))
    ),
}


def _use_scene(scene: Scene4D) -> None:
    """What training does: the Gaussians at every time, and a gradient to the canonical ones."""
    means = scene.canonical.means.clone().requires_grad_(True)
    canonical = scene.canonical.with_(means=means)
    for second in scene.times.tolist()[:3]:
        moved = scene.deformation.deform(canonical, second)
        moved.means.sum().backward()
    _ = scene.rig.centers, scene.rig.camera_to_world


def _read_scene(folder: Path) -> None:
    path = folder / "scene.safetensors"
    is_scene_file(path)
    _use_scene(load_scene(path))


def _fourdgaussians(folder: Path) -> None:
    made = folder / "point_cloud" / "iteration_20000"
    made.mkdir(parents=True)
    write_ply(moving_scene(30, sh_degree=3).canonical, made / "point_cloud.ply")
    torch.save(state(), made / "deformation.pth")
    (folder / "cfg_args").write_text(
        "Namespace(sh_degree=3, white_background=True, no_dx=False, no_ds=False, no_dr=False, no_do=True, no_dshs=True)"
    )


def _frames(suffix: str) -> Callable[[Path], object]:
    def build(folder: Path) -> None:
        gaussians = moving_scene(30).canonical
        if suffix == ".spz":
            write_spz(gaussians, folder / "a.spz")
        elif suffix == ".ply":
            write_ply(gaussians, folder / "a.ply")
        elif suffix == ".compressed.ply":
            write_compressed(gaussians, folder / "a.compressed.ply", True)
        else:
            rows = [struct.pack("<6f8B", *m, 0.1, 0.1, 0.1, *range(8)) for m in gaussians.means.tolist()]
            (folder / "a.splat").write_bytes(b"".join(rows))

    return build


# -- images, views, masks ---------------------------------------------------------------------------------------------


def _views() -> ViewSet:
    images = torch.rand(3, 12, 16, 3, generator=torch.Generator().manual_seed(0))
    cameras = SCENE.rig.resized(((16, 12),) * 3)
    return ViewSet(images, images / 2, cameras, (0, 1, 2), (0, 0, 1), (0.0, 0.0, 0.5), torch.rand(3, 12, 16))


def _images(folder: Path) -> None:
    gray = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16)
    for i, image in enumerate([gray * 300, gray.astype(np.uint8)]):
        Image.fromarray(image).save(folder / f"{i}.png")
    Image.fromarray(np.full((12, 16, 4), 99, np.uint8)).save(folder / "2.png")
    Image.fromarray(gray.astype(np.uint8)).convert("P").save(folder / "3.png")
    Image.fromarray(gray.astype(np.float32)).save(folder / "4.tiff")
    Image.fromarray(np.full((12, 16, 3), 99, np.uint8)).save(folder / "5.jpg")


def _read_images(folder: Path) -> None:
    for read in (load_images, lambda p: load_depth_images(p, 0.001), lambda p: load_masks(p, None, True)):
        read(folder)


# -- captures ---------------------------------------------------------------------------------------------------------


def _read_capture(folder: Path) -> None:
    video = load_video(folder)
    scene_bounds(video)
    for view, moment in list(video.samples())[:8]:
        video.source.read(view, moment)


def _native(folder: Path) -> None:
    """cameras.json with a video, images, masks, a lens, points, depth and tracks."""
    test_capture.encode(folder / "videos/a.mp4", [np.full((24, 32, 3), 40 * i, np.uint8) for i in range(3)])
    cameras: list[dict[str, Any]] = []
    for i in range(3):
        for frame in range(3):
            test_readers.save(folder / f"images{i}/{frame}.png", 20 * frame)
            test_readers.save(folder / f"masks{i}/{frame}.png", 255)
        cameras.append(
            {"name": f"cam{i:02d}", "frames": f"images{i}", "mask": f"masks{i}", "width": 32, "height": 24,
             "w2c": test_readers.pose(0.7 * i).tolist(), "K": [[40, 0, 16], [0, 40, 12], [0, 0, 1]]}
        )  # fmt: skip
    del cameras[0]["frames"], cameras[0]["mask"]
    cameras[0]["video"] = "videos/a.mp4"
    cameras[1]["distortion"] = {"model": "opencv", "params": [0.1, 0.01, 0.0, 0.0]}
    points = 2 * torch.rand(40, 3) - 1
    write_points(folder / "points.ply", points, torch.rand(40, 3))
    np.savez(
        folder / "tracks.npz", pixels=np.full((2, 3, 2), 5.0, np.float32), visible=np.ones((2, 3), np.uint8),
        views=np.zeros((2, 3), np.int64),
    )  # fmt: skip
    about = {
        "format": "multiview-video", "version": 1, "fps": 30, "near": 1.0, "far": 9.0, "background": [1.0, 1.0, 1.0],
        "points": "points.ply", "tracks": "tracks.npz", "hold_out": ["cam02"], "cameras": cameras,
    }  # fmt: skip
    (folder / "cameras.json").write_text(json.dumps(about))


def _dnerf(folder: Path) -> None:
    frames = [test_readers.entry(f"./train/r_{i:03d}", 0.3 * i, i / 4) for i in range(5)]
    for i in range(5):
        test_readers.save(folder / f"train/r_{i:03d}.png", 10 * i)
    for split in ("train", "test"):
        about = {"camera_angle_x": 0.8, "frames": frames[:4] if split == "train" else frames[4:]}
        (folder / f"transforms_{split}.json").write_text(json.dumps(about))


def _dynerf(folder: Path) -> None:
    rows: list[list[float]] = []
    for i in range(3):
        pose = test_readers.pose(i)
        right, down, forward = pose[:3, :3]
        center = -pose[:3, :3].T @ pose[:3, 3]
        block = np.stack([down, right, -forward, center, [24, 32, 40.0]], axis=1)
        rows.append([*block.flatten(), 1.0, 9.0])
        for frame in range(3):
            test_readers.save(folder / f"cam{i:02d}/images/{frame:04d}.png", 40 * frame)
    np.save(folder / "poses_bounds.npy", np.array(rows))


def _hypernerf(folder: Path) -> None:
    ids = [f"{i:06d}" for i in range(4)]
    (folder / "camera").mkdir()
    for i, name in enumerate(ids):
        pose = test_readers.pose(0.3 * i)
        camera = {
            "orientation": pose[:3, :3].tolist(), "position": (-pose[:3, :3].T @ pose[:3, 3]).tolist(), "focal_length": 40.0,
            "principal_point": [16.0, 12.0], "skew": 0.0, "pixel_aspect_ratio": 1.0, "radial_distortion": [0.01, 0.0, 0.0],
            "tangential_distortion": [0.0, 0.0], "image_size": [32, 24],
        }  # fmt: skip
        (folder / f"camera/{name}.json").write_text(json.dumps(camera))
        test_readers.save(folder / f"rgb/1x/{name}.png", 20 * i)
    about = {
        "dataset": {"count": 4, "num_exemplars": 3, "ids": ids, "train_ids": ids[:3], "val_ids": ids[3:]},
        "metadata": {n: {"warp_id": i, "appearance_id": i, "camera_id": 0} for i, n in enumerate(ids)},
        "scene": {"scale": 0.5, "center": [0.0, 0.0, 0.0], "near": 0.5, "far": 4.0},
    }
    for name, content in about.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    np.save(folder / "points.npy", np.random.default_rng(0).normal(size=(20, 3)))


def _nerfstudio(folder: Path) -> None:
    test_readers.moving(folder, 4, k1=-0.1, camera_model="OPENCV", ply_file_path="sparse_pc.ply")
    write_points(folder / "sparse_pc.ply", torch.rand(20, 3), torch.rand(20, 3))


def _colmap(binary: bool) -> Callable[[Path], object]:
    return lambda folder: test_readers.colmap(
        folder, "OPENCV", [60, 61, 32, 24, -0.1, 0.02, 0.001, 0.002], binary
    )


def _studio(folder: Path) -> None:
    width, height = test_capture.SIZE
    for view in range(4):
        test_capture.encode(folder / f"videos/c{view}.mp4", [np.full((height, width, 3), 9, np.uint8)] * 2)
    (folder / "Calib.toml").write_text(test_capture.calibration())
    marks = [
        {"name": f"p{i}", "accuracy": 1, "seen": {f"c{v}": [9 + i, 9 + v] for v in range(3)}}
        for i in range(4)
    ]
    (folder / "marks.json").write_text(json.dumps({"points": marks}))


def _read_studio(folder: Path) -> None:
    shots, _ = read_capture_folder(folder)
    read_sightings(folder / "marks.json", shots)


# -- heads, meshes, weights -------------------------------------------------------------------------------------------


def _read_motion(folder: Path) -> None:
    motion, _ = read_timed_motion(folder)
    motion.frames(slice(0, 1))


def _write_part(folder: Path) -> None:
    header = PartHeader(2, 5, 9, 32, 24, 24.0, "scene", (1.0, 1.0, 1.0), "ab", "numba on cpu")
    with part_writer(header, folder / "a.mkv") as add:
        for i in range(3):
            add(np.full((24, 32, 3), 40 * i, np.uint8))


def _gltf(folder: Path) -> None:
    made = triangle()
    made.animate(0, "translation", [0, 1], [[0, 0, 0], [4, 0, 0]])
    made.animate(0, "rotation", [0, 0.5, 1], [[0, 0, 0, 1], [0, 0, 0.6, 0.8], [0, 0, 0, 1]])
    (folder / "a.glb").write_bytes(made.glb())
    (folder / "b.gltf").write_bytes(made.gltf("b.bin"))
    (folder / "b.bin").write_bytes(made.bytes)


def _read_gltf(folder: Path) -> None:
    for name in ("a.glb", "b.gltf"):
        returned(read_animated_mesh(open_document(folder / name), fps=4))


def _curve(folder: Path) -> None:
    write_cube(folder / "a.cube", ColorTable.identity(9, True), "# a remark\nLUT_1D_INPUT_RANGE 0 1")


def _state(folder: Path) -> None:
    save_state(folder / "a.safetensors", {"a.b": torch.rand(3), "c": torch.tensor(1)}, {"step": 3}, "key")


# -- settings ---------------------------------------------------------------------------------------------------------


def _configs() -> list[type[Any]]:
    found: list[type[Any]] = []
    for name in STEPS:
        module = import_module(f"engine.steps.{name}")
        step = getattr(module, "STEP", None)
        found += [] if step is None or step.config is None else [step.config]
        found += [] if step is None else list(step.more.values())
        found += [module.Config] if step is None and hasattr(module, "Config") else []
    return found


CONFIGS = _configs()


def _read_config(folder: Path, choose: Random) -> None:
    from tests.fuzz.mutations import odd_value

    kind = choose.choice(CONFIGS)
    plain = kind()
    values = {f.name: copy.deepcopy(getattr(plain, f.name)) for f in fields(plain) if f.init}
    for name in choose.sample(sorted(values), min(len(values), choose.choice([1, 1, 2]))):
        values[name] = odd_value(choose)
    made = kind(**values)
    # JSON was what the values came from, and is what histories are written in
    json.dumps({f.name: getattr(made, f.name) for f in fields(made)})


def _read_indices(folder: Path, choose: Random) -> None:
    words = [
        "0",
        "2",
        "5-8",
        "9-1",
        "all",
        "ALL",
        "-",
        "--1",
        "²",
        "٣",
        "1e3",
        "9" * 20,
        "0-999999999",
        ",",
        "\n",
        "x" * 500,
    ]
    indices(choose.choice([" ", ","]).join(choose.choices(words, k=choose.randrange(4))), 10, "view")


warnings.filterwarnings("ignore", category=UserWarning)


def _sequence(target: Path) -> None:
    """Three frames at uneven times."""
    times = torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)
    config = export_scene.Config(kind="ply sequence")
    result(export_scene.run(SCENE.with_(times=times), config, target))


def _read_sequence(source: Path) -> None:
    _use_scene(result(import_scene.run(source)))


PARSERS: list[Parser] = [
    *(
        _parser(
            f"scene {name}",
            lambda folder, make=make: save_scene(make(), folder / "scene.safetensors"),
            _read_scene,
        )
        for name, make in SCENES.items()
    ),
    *(
        _parser(
            suffix,
            _frames(suffix),
            lambda folder, suffix=suffix: read_splat(folder / f"a{suffix}").activated(),
        )
        for suffix in (".ply", ".compressed.ply", ".spz", ".splat")
    ),
    *(
        _parser(
            suffix,
            lambda folder, suffix=suffix: write_usd(
                SCENE, [0.0, 0.1, 0.3], folder / f"a{suffix}", SCENE.rig[[0, 1, 0]]
            ),
            lambda folder, suffix=suffix: _use_scene(result(import_scene.run(folder / f"a{suffix}"))),
        )
        # not .usdc: usd-core fills as much memory as a damaged array's length asks for before it refuses the file
        for suffix in (".usda", ".usdz")
    ),
    _parser("views", lambda f: save_views(_views(), f), load_views),
    _parser(
        "selection",
        lambda f: save_selection(Selection(torch.arange(9) > 3), f / "s.safetensors"),
        lambda f: load_selection(f / "s.safetensors"),
    ),
    _parser(
        "latents",
        lambda f: save_field(field(), f / "l.safetensors"),
        lambda f: _use_scene(load_field(f / "l.safetensors").scene),
    ),
    _parser("images", _images, _read_images),
    _parser("capture folder", _native, _read_capture),
    _parser("capture nerfstudio", _nerfstudio, _read_capture),
    _parser("capture dnerf", _dnerf, _read_capture),
    _parser("capture dynerf", _dynerf, _read_capture),
    _parser("capture hypernerf", _hypernerf, _read_capture),
    _parser("capture colmap bin", _colmap(True), _read_capture),
    _parser("capture colmap txt", _colmap(False), _read_capture),
    _parser("capture technicolor", light_field, _read_capture),
    _parser("capture avatar", test_avatar_reader.avatar, _read_capture),
    _parser("studio", _studio, _read_studio),
    _parser(
        "qualisys",
        lambda f: (f / "a.qca.txt").write_text(qualisys()),
        lambda f: read_qualisys(f / "a.qca.txt"),
    ),
    _parser(
        "pose2sim",
        lambda f: (f / "Calib.toml").write_text(pose2sim()),
        lambda f: read_pose2sim(f / "Calib.toml"),
    ),
    _parser(
        "video",
        lambda f: test_capture.encode(
            f / "a.mp4", [np.full((24, 32, 3), 40 * i, np.uint8) for i in range(3)]
        ),
        lambda f: load_clip(f / "a.mp4"),
    ),
    _parser(
        "video webm",
        lambda f: write_with_alpha(f / "a.webm", "libvpx", frames=4),
        lambda f: load_clip(f / "a.webm"),
    ),
    _parser(
        "video hdr",
        lambda f: write_hdr(f / "a.mkv", [(230, 230, 230), (200, 40, 40)], "HLG"),
        lambda f: load_clip(f / "a.mkv"),
    ),
    _parser(
        "video interlaced",
        lambda f: write_interlaced(f / "a.mp4", bottom_first=True, frames=4),
        lambda f: load_clip(f / "a.mp4"),
    ),
    _parser("video part", _write_part, lambda f: (read_header(f / "a.mkv"), list(read_frames(f / "a.mkv")))),
    _parser("head npz", write_npz, lambda f: read_head_model(f / "head.npz")),
    _parser(
        "head pickle",
        lambda f: write_flame_pickle(named(f) / "flame.pkl", tiny_model()),
        lambda f: read_head_model(f / "flame.pkl", f),
    ),
    _parser("motion", lambda f: write_motion(f / "flame_param.npz", tiny_head()), _read_motion),
    _parser("motion capture", lambda f: write_capture(f, tiny_head()), _read_motion),
    _parser(
        "cube",
        lambda f: write_cube(f / "a.cube", ColorTable.identity(4), 'TITLE "a"\nDOMAIN_MIN 0 0 0'),
        lambda f: read_cube(f / "a.cube").apply(torch.rand(4, 3)),
    ),
    _parser("cube curve", _curve, lambda f: read_cube(f / "a.cube").apply(torch.rand(4, 3))),
    _parser("gltf", _gltf, _read_gltf),
    _parser("4dgaussians", _fourdgaussians, lambda f: _use_scene(import_fourdgaussians(f, "import_scene"))),
    _parser(
        "gaussian avatar",
        lambda f: test_gaussian_avatars.write_avatar(f, tiny_head()),
        lambda f: _use_scene(import_gaussian_avatar(f, tiny_model(), "import_scene", 10)),
    ),
    _parser("weights pth", lambda f: torch.save(state(), f / "a.pth"), lambda f: as_safetensors(f / "a.pth")),
    _parser("checkpoint", _state, lambda f: load_state(f / "a.safetensors", "key")),
    _parser(
        "player file",
        lambda f: write_player_file(baked(SCENE), f / "a.gs4dclip"),
        lambda f: read_player_file(f / "a.gs4dclip"),
    ),
    _parser(
        "player file in segments",
        lambda f: write_player_file(baked(SCENE, segment_seconds=0.5), f / "a.gs4dclip"),
        lambda f: [read_player_file(f / "a.gs4dclip").at(seconds) for seconds in (0.1, 0.8, 1.4)],
    ),
    _parser("sequence folder", lambda f: _sequence(f / "walk"), lambda f: _read_sequence(f / "walk")),
    _parser("sequence zip", lambda f: _sequence(f / "walk.zip"), lambda f: _read_sequence(f / "walk.zip")),
    Parser("settings", lambda folder: None, _read_config, False),
    Parser("indices", lambda folder: None, _read_indices, False),
]
