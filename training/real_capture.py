"""Convert pose2sim's Demo_SinglePerson, a real four-camera capture, to the native layout, and measure its calibration.

Nothing is downloaded here. Get the capture (BSD-3-Clause, perfanalytics) and run:

    pip download --no-deps pose2sim==0.10.49 -d captures/pose2sim && (cd captures/pose2sim && python -m zipfile -e *.whl .)
    python -m training.real_capture --source captures/pose2sim/Pose2Sim/Demo_SinglePerson --out captures/beam --json

The marked points below were read off the videos by eye (bolts, posts) or as centroids of small white squares
(patches); the swimming cap is tracked by its color. They measure what no file of the capture contains: the error of
its calibration against its images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from engine.capture.convert.capture_folder import Shot, read_capture_folder, read_sightings
from engine.capture.convert.real_capture import CaptureConfig, convert_capture, ideal_cameras
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_grey, to_pixels
from engine.errors import InputError
from engine.figures.contact_sheets import sheet
from engine.figures.drawing import as_tensor
from engine.geometry.carving import carve
from engine.geometry.pose_adjustment import (
    Sighting,
    adjust_poses,
    reprojection_errors,
    rms,
    triangulate,
)
from engine.scene.cameras import Cameras

# Pixels of the videos, corner origin: (accuracy, {name: {camera: (u, v)}})
MARKS: dict[str, tuple[float, dict[str, dict[str, tuple[float, float]]]]] = {
    "patch": (
        0.5,
        {
            "A": {
                "cam01": (109.2, 1060.5),
                "cam02": (439.3, 1041.1),
                "cam03": (874.3, 1234.6),
                "cam04": (837.2, 1411.2),
            },
            "B": {"cam01": (317.9, 1335.3), "cam02": (326.0, 1207.8), "cam04": (890.0, 1070.3)},
            "C": {
                "cam01": (518.7, 1064.4),
                "cam02": (789.1, 1084.5),
                "cam03": (485.7, 1432.2),
                "cam04": (385.7, 1396.8),
            },
            "D": {
                "cam01": (767.1, 1291.0),
                "cam02": (758.2, 1269.6),
                "cam03": (165.1, 1241.0),
                "cam04": (519.9, 1117.5),
            },
        },
    ),
    "bolt": (
        2.0,
        {
            "A": {
                "cam01": (65.7, 1057.7),
                "cam02": (414.6, 1035.8),
                "cam03": (912.3, 1226.2),
                "cam04": (885.8, 1428.4),
            },
            "B": {"cam01": (278.8, 1358.4), "cam02": (282.3, 1210.2), "cam04": (930.8, 1055.8)},
            "C": {
                "cam01": (511.1, 1033.1),
                "cam02": (822.3, 1063.0),
                "cam03": (519.3, 1499.1),
                "cam04": (325.0, 1461.1),
            },
            "D": {
                "cam01": (786.3, 1274.2),
                "cam02": (801.2, 1264.6),
                "cam03": (141.3, 1265.1),
                "cam04": (487.5, 1133.5),
            },
        },
    ),
    "post": (
        2.0,
        {
            "0": {
                "cam01": (668.0, 1514.4),
                "cam02": (273.5, 1315.4),
                "cam03": (261.4, 971.0),
                "cam04": (831.0, 858.8),
            },
            "1": {
                "cam01": (946.8, 1420.6),
                "cam02": (630.3, 1340.0),
                "cam03": (61.8, 1060.2),
                "cam04": (611.1, 924.2),
            },
        },
    ),
}
CAP_ACCURACY = 4.0  # the cap is a dome: each camera sees a different part of it
# People painted over in calibration/extrinsics/*.png (x0, y0, x1, y1 in pixels): these areas are ignored.
PEOPLE = {
    "cam01": [(0, 236, 139, 791), (139, 416, 394, 994)],
    "cam02": [(727, 458, 883, 910)],
    "cam03": [(924, 772, 1088, 1920)],
    "cam04": [(0, 999, 444, 1920)],
}


def track_cap(shot: Shot, moments: range) -> dict[int, tuple[float, float]]:
    """Center of the largest cyan blob in each of `moments` (video pixels): the swimming cap."""
    reader = VideoFile(shot.path, shot.name, shot.facts)
    found: dict[int, tuple[float, float]] = {}
    for moment in moments:
        r, g, b = np.moveaxis(to_pixels(reader.read(moment), shot.facts).astype(np.float32), -1, 0)
        high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
        spread = np.maximum(high - low, 1e-3)
        hue = (
            np.where(high == b, 4 + (r - g) / spread, 2 + (b - r) / spread) * 60
        )  # degrees, for g or b largest
        cyan = (r < np.maximum(g, b)) & (hue > 166) & (hue < 204) & (spread > 0.35 * high) & (high > 80)
        labels, count = ndimage.label(ndimage.binary_opening(cyan, iterations=3))
        if count:
            y, x = ndimage.center_of_mass(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))
            found[moment] = (float(x) + 0.5, float(y) + 0.5)
    reader.close()
    return found


def points_file(shots: list[Shot], every: int, path: Path) -> dict[str, list[Any]]:
    """All marks and the tracked cap as the JSON for `CaptureConfig.points`; also returned by kind."""
    kinds: dict[str, list[Any]] = {
        kind: [{"name": kind + name, "accuracy": accuracy, "seen": seen} for name, seen in marks.items()]
        for kind, (accuracy, marks) in MARKS.items()
    }
    tracks = {s.camera.name: track_cap(s, range(0, s.facts.frames, every)) for s in shots}
    kinds["cap"] = [
        {"name": f"cap{m}", "accuracy": CAP_ACCURACY, "seen": {c: t[m] for c, t in tracks.items() if m in t}}
        for m in sorted(set.intersection(*(set(t) for t in tracks.values())))
    ]
    path.write_text(
        json.dumps({"points": [p for points in kinds.values() for p in points]}), encoding="utf-8"
    )
    return kinds


def plates(source: Path, folder: Path) -> Path:
    """The images of calibration/extrinsics with the people made transparent."""
    folder.mkdir(parents=True)
    for file in sorted((source / "calibration" / "extrinsics").glob("*.png")):
        picture = np.asarray(Image.open(file).convert("RGBA")).copy()
        for x0, y0, x1, y1 in PEOPLE.get(file.name[:5], []):
            picture[y0:y1, x0:x1, 3] = 0
        Image.fromarray(picture).save(folder / file.name)
    return folder


def calibration_figures(
    shots: list[Shot], sightings: dict[str, list[Sighting]]
) -> tuple[dict[str, Any], Cameras]:
    """Reprojection errors (px root mean square, at the calibrated size): as calibrated, adjusted, and held out."""
    rig = ideal_cameras(shots)
    everything = [s for group in sightings.values() for s in group]
    adjusted = adjust_poses(rig, everything)
    on_patches = adjust_poses(rig, sightings["patch"])
    moved = (adjusted.centers - rig.centers).norm(dim=1)
    between = adjusted.world_to_camera[:, :3, :3] @ rig.world_to_camera[:, :3, :3].transpose(1, 2)
    turned = torch.rad2deg(torch.arccos(((between.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2).clamp(-1, 1)))
    figures: dict[str, Any] = {}
    for kind, group in sightings.items():
        figures[f"{kind}_px_as_calibrated"] = round(rms(reprojection_errors(rig, group)), 2)
        figures[f"{kind}_px_adjusted"] = round(rms(reprojection_errors(adjusted, group)), 2)
        if kind != "patch":
            figures[f"{kind}_px_held_out"] = round(rms(reprojection_errors(on_patches, group)), 2)
    figures["cameras_moved_mm"] = [round(float(m) * 1000, 1) for m in moved]
    figures["cameras_turned_degrees"] = [round(float(t), 2) for t in turned]
    figures["patch_heights_mm"] = [
        round(float(triangulate(adjusted, s)[2]) * 1000, 1) for s in sightings["patch"]
    ]
    return figures, adjusted


def read_native(folder: Path, moment: int) -> tuple[Cameras, list[np.ndarray], list[np.ndarray]]:
    """Cameras, images and masks of one frame of a converted folder."""
    data = json.loads((folder / "cameras.json").read_text(encoding="utf-8"))
    views = data["cameras"]
    cameras = Cameras(
        torch.tensor([v["w2c"] for v in views], dtype=torch.float64),
        torch.tensor([v["K"] for v in views], dtype=torch.float64),
        tuple((v["width"], v["height"]) for v in views),
        tuple(v["name"] for v in views),
    )
    pictures, masks = [], []
    for view in views:
        for key, into in (("video", pictures), ("mask", masks)):
            facts = probe(folder / view[key], view[key])
            reader = VideoFile(folder / view[key], view[key], facts)
            frame = reader.read(moment)
            into.append(to_pixels(frame, facts) if key == "video" else to_grey(frame, facts))
            reader.close()
    return cameras, pictures, masks


def hull_figures(folder: Path, moment: int, pictures_at: Path | None) -> dict[str, Any]:
    """Height, width and uprightness of the visual hull of the masks, and how much of each mask it covers."""
    cameras, pictures, masks = read_native(folder, moment)
    silhouettes = [m > 127 for m in masks]
    # cells of 2 cm, in meters
    box = ((-2.2, 0.6), (-1.2, 1.2), (-0.1, 2.2))
    axes = [torch.arange(low + 0.01, high, 0.02, dtype=torch.float64) for low, high in box]
    masks = ((view, torch.from_numpy(mask)) for view, mask in enumerate(silhouettes))
    carved = carve(cameras, masks, torch.cartesian_prod(*axes))
    cells = carved.cells[carved.seen >= 2].numpy()
    if len(cells) < 50:
        return {"hull_cells": len(cells)}
    spread = cells - cells.mean(axis=0)
    axis = np.linalg.svd(spread, full_matrices=False)[2][0]
    covered: list[float] = []
    overlays: list[np.ndarray] = []
    for v, (picture, mask) in enumerate(zip(pictures, silhouettes, strict=True)):
        pixels = cameras.project(torch.from_numpy(cells), v)[0].numpy().astype(int)
        seen = np.zeros(mask.shape, dtype=bool)
        inside = (pixels >= 0).all(axis=1) & (pixels < np.array(mask.shape[::-1])).all(axis=1)
        seen[pixels[inside, 1], pixels[inside, 0]] = True
        seen = ndimage.binary_closing(ndimage.binary_dilation(seen), iterations=2)
        covered.append(round(float((seen & mask).sum() / max(1, mask.sum())), 3))
        outline = seen ^ ndimage.binary_erosion(seen)
        edge = mask ^ ndimage.binary_erosion(mask)
        drawn = picture.copy()
        drawn[edge], drawn[outline] = (255, 220, 0), (255, 0, 90)
        overlays.append(drawn)
    if pictures_at is not None:
        stacks = [[torch.from_numpy(o) / 255] for o in overlays]
        sheet(stacks, columns=len(stacks), width=2048).save(pictures_at / "real_capture_hull.jpg", quality=88)
    return {
        "hull_cells": len(cells),
        "hull_height_m": round(float(np.ptp(cells[:, 2])), 2),
        "hull_lowest_m": round(float(cells[:, 2].min()), 2),
        "hull_width_m": round(float(np.ptp(cells[:, 1])), 2),
        "hull_depth_m": round(float(np.ptp(cells[:, 0])), 2),
        "hull_long_axis_from_vertical_degrees": round(
            float(np.degrees(np.arccos(min(1.0, abs(axis[2]))))), 1
        ),
        "masks_covered_by_hull": covered,
    }


def draw_marks(
    folder: Path, shots: list[Shot], adjusted: Cameras, sightings: list[Sighting], pictures_at: Path
) -> None:
    """First images with each mark (yellow) and its triangulated point: red as calibrated, green adjusted."""
    rig = ideal_cameras(shots)
    cameras, pictures, _ = read_native(folder, 0)
    drawn: list[Image.Image] = []
    for v, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        image = image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(image)
        factor = 2 * cameras.sizes[v][0] / rig.sizes[v][0]
        for sighting in sightings:
            if v not in sighting.pixels:
                continue
            x, y = np.array(sighting.pixels[v]) * factor
            draw.ellipse([x - 5, y - 5, x + 5, y + 5], outline=(255, 220, 0))
            for poses, colour in ((rig, (255, 40, 40)), (adjusted, (60, 255, 60))):
                point = torch.from_numpy(triangulate(poses, sighting))[None]
                x, y = poses.project(point, v)[0][0].numpy() * factor
                draw.line([x - 4, y, x + 4, y], fill=colour)
                draw.line([x, y - 4, x, y + 4], fill=colour)
        drawn.append(image)
    made = sheet([[as_tensor(image)] for image in drawn], columns=len(drawn), width=2 * 2048)
    made.save(pictures_at / "real_capture_marks.jpg", quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="the unpacked Demo_SinglePerson folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the native layout")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    parser.add_argument("--as-calibrated", action="store_true", help="keep the poses of the calibration file")
    parser.add_argument("--pictures", type=Path, help="folder for images to check the result")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object, last")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        shots, _ = read_capture_folder(args.source)
        marks = Path(scratch) / "points.json"
        kinds = points_file(shots, 10, marks)
        every_sighting = {s.name: s for s in read_sightings(marks, shots)}
        by_kind = {kind: [every_sighting[p["name"]] for p in points] for kind, points in kinds.items()}
        figures, adjusted = calibration_figures(shots, by_kind)
        config = CaptureConfig(
            height=args.height,
            every=args.every,
            points="" if args.as_calibrated else str(marks),
            plates=str(plates(args.source, Path(scratch) / "plates")),
        )
        for step in convert_capture(args.source, args.out, config):
            if step.note:
                print(step.note)
            elif step.done % 50 == 0:
                print(f"{step.done} of {step.total}", flush=True)
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            draw_marks(args.out, shots, adjusted, list(every_sighting.values()), args.pictures)
    figures |= hull_figures(args.out, 0, args.pictures)
    if args.json:
        print(json.dumps(figures))
    else:
        for key, value in figures.items():
            print(f"{key:40} {value}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
