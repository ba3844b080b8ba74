"""Test images of the demo captures and of a head avatar's capture, with the exact layers of `regions.py`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.heads import HeadModel, HeadMotion
from engine.io.heads import read_head_model
from engine.masks.head_regions import part_faces

from . import dataset, regions
from .render import FloatArray, rasterise, vertex_normals

_PARTS = {"skin": "skin", "hair": "hair", "brow": "brows", "lips": "lips"}
SAMPLES = 3


def _motion(path: Path) -> HeadMotion:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: torch.from_numpy(np.asarray(file[name], np.float32)) for name in file.files}
    arrays["shape"], arrays["static_offset"] = arrays["shape"].reshape(-1), arrays["static_offset"].squeeze(0)
    return HeadMotion(times=torch.zeros(1, dtype=torch.float64), **arrays)


def _image(path: Path) -> FloatArray:
    return np.asarray(Image.open(path).convert("RGB"), np.float32) / 255


def head_layers(
    model: HeadModel, vertices: FloatArray, frame: dict[str, Any], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Layers (H, W, len(LAYERS)) of a posed head: its mesh has the surface coordinates of the mean ICT head.

    Args:
        model: A head whose template is a part of ICT-FaceKit's mean head.
        vertices: [V, 3] posed, y up.
        frame: An entry of a capture's transforms.
        size: Height and width in pixels.
    """
    height, width = size
    pose = np.array(frame["transform_matrix"]) @ np.diag([1.0, -1.0, -1.0, 1.0])
    local = (vertices - pose[:3, 3]) @ pose[:3, :3]
    focal, center = np.array([frame["fl_x"], frame["fl_y"]]), np.array([frame["cx"], frame["cy"]])
    xy = (local[:, :2] / local[:, 2:] * focal + center) * SAMPLES
    triangles = model.faces.numpy().astype(np.int64)
    found, bary, _ = rasterise(xy, 1 / local[:, 2], triangles, height * SAMPLES, width * SAMPLES)
    hit = found >= 0
    f, b = found[hit], bary[hit]
    weights = np.concatenate([1 - b.sum(axis=1, keepdims=True), b], axis=1)[..., None]
    rest = (model.template.double().numpy() * 100)[triangles[f]].__mul__(weights).sum(axis=1)
    up = vertex_normals(vertices, triangles)[triangles[f]].__mul__(weights).sum(axis=1)[:, 1]
    parts = {layer: part_faces(model, part).numpy()[f] for layer, part in _PARTS.items()}
    paint, lines, spots = (pattern * parts["skin"] for pattern in regions.patterns(rest))
    shown = {**parts, "paint": paint, "lines": lines, "spots": spots, "up": regions.facing_up(up)}
    out = np.zeros((*found.shape, len(regions.LAYERS)), np.float32)
    for i, layer in enumerate(regions.LAYERS):
        if layer in shown:
            out[hit, i] = shown[layer]
    shape = (height, SAMPLES, width, SAMPLES)
    cover = hit.reshape(shape).mean(axis=(1, 3))
    return (out.reshape(*shape, -1).mean(axis=(1, 3)) / np.maximum(cover, 1e-9)[..., None]).astype(np.float32)


def head_capture(
    folder: Path, model_file: Path, chosen: tuple[tuple[int, int], ...]
) -> list[dataset.Composition]:
    """Compositions of a capture in the layout of GaussianAvatars, on white.

    Args:
        folder: The capture; parts come from its region_ids/ where it has them.
        model_file: head_model.npz, with its masks beside it.
        chosen: Time step and camera of each image.
    """
    model = read_head_model(model_file)
    frames: dict[tuple[int, int], dict[str, Any]] = {}
    for split in ("train", "val", "test"):
        told = json.loads((folder / f"transforms_{split}.json").read_text())
        shared = {key: told[key] for key in ("fl_x", "fl_y", "cx", "cy") if key in told}
        for frame in told["frames"]:
            frames[frame["timestep_index"], frame["camera_index"]] = shared | frame
    out = []
    for key in chosen:
        frame = frames[key]
        image = _image(folder / frame["file_path"])
        alpha = _image(folder / frame["fg_mask_path"])[..., 0]
        vertices = model.pose(_motion(folder / frame["flame_param_path"]))[0].double().numpy()
        layers = head_layers(model, vertices, frame, image.shape[:2])
        ids = folder / "region_ids" / Path(frame["file_path"]).with_suffix(".png").name
        if ids.is_file():
            exact = regions.layers_from_ids(np.asarray(Image.open(ids)))
            for part in regions.PART_IDS:
                layers[..., regions.LAYERS.index(part)] = exact[..., regions.LAYERS.index(part)]
        cover = alpha[..., None]
        color = np.where(cover > 0.5, (image - (1 - cover)) / np.maximum(cover, 0.5), image)
        ground = np.ones_like(image)
        out.append(
            dataset.Composition(
                color.clip(0, 1).astype(np.float32), alpha, ground, False, image.shape[:2], "capture", layers
            )
        )
    return out


def walker(
    compositions: list[dataset.Composition], frame: int = 7, views: int = 4
) -> list[dataset.Composition]:
    """The demo capture's walker with layers, for compositions of `testset.clip` of the same frame and views.

    The capture has no regions, so its figure is posed again as `training/demo_clip/make.py` does.
    """
    from training.demo_clip import figure as figure_module
    from training.demo_clip import make, picture
    from training.demo_clip import wardrobe as wardrobe_module

    from . import body_layers

    folder = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"
    told = json.loads((folder / "cameras.json").read_text())
    figure = figure_module.Figure(make._PHENOTYPE)
    wardrobe = wardrobe_module.Wardrobe(figure, close_up=False)
    base, _ = make.poses("walker", figure, told["frame_count"], 2)
    studio = picture.Studio(wardrobe, 4)
    points = studio.posed(base[frame])
    names = sorted(camera["name"] for camera in told["cameras"])
    names = names[:: max(1, len(names) // views)][:views]
    cameras = {c["name"]: c for c in told["cameras"]}
    out = []
    for name, composition in zip(names, compositions, strict=True):
        c = cameras[name]
        camera = picture.Camera(name, c["width"], c["height"], np.array(c["K"]), np.array(c["w2c"]))
        layers = body_layers.of(wardrobe_module, studio, camera, points, SAMPLES)
        out.append(dataclasses.replace(composition, layers=layers.astype(np.float32)))
    return out
