"""Aligning a splat with a video, on truth: the view that a frame was rendered from is found again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.cli import main
from engine.errors import InputError
from engine.generation.alignment import ObjectView, Target, ViewSearch, align, focal_length, wrap
from engine.geometry.placement import about_z, moved, turned, upright
from engine.io.ply import write_ply
from engine.io.scene_file import load_scene
from engine.messages import Finished, Preview, Progress, Started, result, returned
from engine.render import choose, render_gaussians
from engine.scene import Cameras, Gaussians, Scene4D
from engine.scene.rigs import orbit_cameras, orbit_pose
from engine.steps import align_splat as step
from engine.steps.align_splat import Aligned, Config
from tests.subjects import animal, vase

PIXELS = 256


def frame_of(gaussians: Gaussians, view: ObjectView, pixels: int = PIXELS) -> Tensor:
    """RGBA [1, P, P, 4] of Gaussians as a camera sees them."""
    pose = orbit_pose(view.azimuth, view.elevation)
    return photographed(
        gaussians, Cameras(pose[None], view.intrinsics(pixels)[None], ((pixels, pixels),), ("",))
    )


def photographed(gaussians: Gaussians, camera: Cameras) -> Tensor:
    """RGBA [1, H, W, 4], colors not premultiplied."""
    drawn = render_gaussians(gaussians, camera, choose("auto"))
    color = drawn.rgb / drawn.alpha[..., None].clamp(min=1e-3)
    return torch.cat([color.clamp(0, 1), drawn.alpha[..., None]], dim=-1)


def target_of(gaussians: Gaussians, view: ObjectView) -> Target:
    [frame] = frame_of(gaussians, view)
    alpha = frame[..., 3]
    return Target(frame[..., :3] * alpha[..., None] + 1 - alpha[..., None], alpha)


def found(search: ViewSearch, max_elevation: float = 30.0) -> Any:
    return returned(align(search, max_elevation))


@pytest.mark.parametrize(
    "truth",
    [
        ObjectView(-131.6, 19.5, 1.08, -0.1, 0.02),
        ObjectView(79.7, -15.2, 0.8, 0.16, -0.19),
        ObjectView(173.3, 27.4, 1.17, 0.05, 0.11),
    ],
    ids=lambda view: f"azimuth {view.azimuth}",
)
def test_the_view_of_a_render_is_found_within_a_degree_and_a_percent(truth: ObjectView):
    best = found(ViewSearch(animal(), target_of(animal(), truth), choose("auto"), 96)).candidates[0].view
    assert abs(wrap(best.azimuth - truth.azimuth)) < 1
    assert abs(best.elevation - truth.elevation) < 1
    assert best.scale == pytest.approx(truth.scale, rel=0.01)
    assert best.right == pytest.approx(truth.right, abs=0.01)
    assert best.up == pytest.approx(truth.up, abs=0.01)


def test_of_an_object_that_is_somewhere_else_the_direction_of_sight_is_found():
    # scaled and moved in the world, in front of a camera that looks past it
    middle = torch.tensor([0.12, 0.1, -0.1], dtype=torch.float64)
    camera = orbit_cameras([20.0], 10.0, PIXELS)
    image = photographed(moved(animal(), 0.9, middle), camera)
    made = aligned([animal()], image, resolution=96, max_elevation=30.0)
    x, y, z = (camera.centers[0] - middle).tolist()
    assert abs(wrap(made.view.azimuth - math.degrees(math.atan2(x, -y)))) < 2
    assert abs(made.view.elevation - math.degrees(math.atan2(z, math.hypot(x, y)))) < 2


@pytest.mark.parametrize("azimuth", [-104.4, 33.0])
def test_the_full_sweep_of_the_paper_agrees_with_coarse_to_fine(azimuth: float):
    # every degree at elevation 0, as in the released code
    search = ViewSearch(
        animal(), target_of(animal(), ObjectView(azimuth, 0.0, 0.95, 0.03, 0.0)), choose("auto"), 64
    )
    full = search.sweep([float(a) for a in range(-180, 180)], [0.0])
    best = min(full, key=lambda c: c.score)
    coarse = found(search, max_elevation=0.0).candidates[0]
    assert abs(wrap(best.view.azimuth - coarse.view.azimuth)) <= 1
    assert coarse.view.elevation == 0
    assert coarse.score <= best.score + 5e-4


def aligned(splat: Any, images: Tensor, masks: Tensor | None = None, **settings: Any) -> Aligned:
    wanted: dict[str, Any] = {"resolution": 64, "max_elevation": 0.0, **settings}
    return result(step.run(splat, images, masks, config=Config(**wanted)))


def test_the_first_camera_of_the_scene_sees_it_as_the_video_does():
    truth = ObjectView(64.0, 10.0, 0.7, 0.2, -0.1)
    # off center and not square, with something else in the picture
    image = torch.nn.functional.pad(frame_of(animal(), truth), (0, 0, 60, 100))
    masks = image[..., 3].clone()
    image = image[..., :3] * image[..., 3:] + (1 - image[..., 3:]) * 0.5
    made = aligned([animal()], image, masks, max_elevation=15.0)
    scene = made.scene
    assert scene.rig.names == ("video", "right", "back", "left")
    assert scene.rig.sizes[0] == (PIXELS + 160, PIXELS)
    again = render_gaussians(scene.canonical, scene.rig[0], choose("auto"), torch.full((3,), 0.5))
    inside = (again.alpha[0] > 0.5) & (masks[0] > 0.5)
    either = (again.alpha[0] > 0.5) | (masks[0] > 0.5)
    assert float(inside.sum() / either.sum()) > 0.97
    assert float((again.rgb[0] - image[0]).abs().mean()) < 0.005
    # turned about the vertical alone: sizes, heights and colors are those of the splat
    torch.testing.assert_close(scene.canonical.means[:, 2], animal().means[:, 2])
    entry = scene.last_entry("align_splat") or {}
    assert abs(entry["azimuth"] - 64) < 1 and entry["up"] == "z up"
    # scale and shift are those in the frame, whose middle moved by 20 pixels
    assert entry["scale"] == pytest.approx(0.7, rel=0.01)
    right = 0.2 - 20 * 2 / focal_length(PIXELS)
    assert entry["shift"] == pytest.approx([right, -0.1], abs=0.01)


def test_an_aligned_splat_stays_where_it_is():
    first = aligned([animal()], frame_of(animal(), ObjectView(-70.0))).scene
    second = aligned(first, frame_of(animal(), ObjectView(-70.0)))
    assert abs(second.view.azimuth) < 1.0


@pytest.mark.parametrize("up", ["y up", "y down"])
def test_another_up_axis_is_found_and_said(up: str):
    # what `upright` turns to z up again
    back = {"y up": -90.0, "y down": 90.0}[up]
    radians = math.radians(back)
    matrix = torch.tensor(
        [[1, 0, 0], [0, math.cos(radians), -math.sin(radians)], [0, math.sin(radians), math.cos(radians)]],
        dtype=torch.float64,
    )
    lying = turned(animal(), matrix)
    torch.testing.assert_close(upright(lying, up).means, animal().means, atol=1e-6, rtol=0)
    image = frame_of(animal(), ObjectView(25.0))
    made = aligned([lying], image)
    assert f"up axis: {up}; turned by {-back:.0f}° about x" in made.note
    assert abs(made.view.azimuth - 25) < 1
    wrong = aligned([lying], image, up="z up")
    assert f"fits the frame better with up axis '{up}' than with 'z up'" in wrong.note


def test_a_symmetric_object_is_called_ambiguous_and_a_runner_up_can_be_taken():
    image = frame_of(vase(), ObjectView(50.0))
    made = aligned([vase()], image)
    assert "looks alike from every side" in made.note
    other = aligned([vase()], image, rank=2)
    assert other.view.azimuth != made.view.azimuth
    assert "view 2: azimuth" in other.note
    clear = aligned([animal()], frame_of(animal(), ObjectView(50.0)))
    assert "ambiguous" not in clear.note


def test_an_object_with_two_alike_sides_names_the_other_one():
    # the same again, turned by half a turn
    both = Gaussians.concatenate([animal(), turned(animal(), about_z(180.0))])
    made = aligned([both], frame_of(both, ObjectView(30.0)))
    assert "ambiguous: view 2 (azimuth" in made.note
    azimuths = sorted(
        round(wrap(c))
        for c in (made.view.azimuth, aligned([both], frame_of(both, ObjectView(30.0)), rank=2).view.azimuth)
    )
    assert abs(azimuths[0] + 150) <= 1 and abs(azimuths[1] - 30) <= 1


def test_a_scenes_frame_a_splat_of_another_size_and_floaters():
    big = moved(animal(), 4.0, torch.tensor([1.0, 2.0, 3.0]))
    far = big.map(lambda t: t[:3]).with_(means=torch.tensor([[30.0, 0, 0], [0, 40, 0], [0, 0, 50]]))
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    whole = Gaussians.concatenate([big, far])
    scene = aligned([animal()], frame_of(animal(), ObjectView(0.0))).scene
    scene = Scene4D.still(whole, times, scene.rig, scene.bounds, torch.ones(3))
    made = aligned(scene, frame_of(animal(), ObjectView(-20.0)), moment=1)
    assert "3 floaters removed; scaled by" in made.note
    # its middle is not that of the original, which the camera looked at
    assert abs(made.view.azimuth + 20) < 2.5
    extent = made.scene.canonical.means.amax(0) - made.scene.canonical.means.amin(0)
    assert 0.5 < float(extent.max()) <= 1.01
    assert len(scene.canonical) == len(whole)


def test_progress_preview_and_contact_sheet():
    messages = list(
        step.run(
            [animal()], frame_of(animal(), ObjectView(5.0)), config=Config(resolution=64, max_elevation=0)
        )
    )
    started, finished = messages[0], messages[-1]
    assert isinstance(started, Started) and isinstance(finished, Finished)
    assert [m.done for m in messages if isinstance(m, Progress)] == list(range(1, started.total + 1))
    [preview] = [m for m in messages if isinstance(m, Preview)]
    assert finished.value.sheet.shape == (1, *preview.image.shape)


@pytest.mark.parametrize(
    ("splat", "settings", "sentence"),
    [
        ([animal().map(lambda t: t[:0])], {}, "does not contain Gaussians"),
        ([animal().with_(means=animal().means * torch.nan)], {}, "means of 840 of 840 Gaussians are NaN"),
        ([animal()], {"moment": 1}, "Scene frame 1 does not exist; there are 1"),
        ([animal()], {"frame": 1}, "Video frame 1 does not exist; there are 1"),
    ],
)
def test_what_cannot_be_aligned_is_named(splat: Any, settings: Any, sentence: str):
    with pytest.raises(InputError, match=sentence):
        aligned(splat, frame_of(animal(), ObjectView(0.0)), **settings)


def test_frames_without_a_subject_are_named():
    with pytest.raises(InputError, match="no foreground"):
        aligned([animal()], torch.zeros(1, 64, 64, 4))


def test_the_command_line_aligns_a_ply(tmp_path: Path):
    from PIL import Image

    write_ply(animal(), tmp_path / "animal.ply")
    frame = (frame_of(animal(), ObjectView(45.0))[0] * 255).round().byte().numpy()
    Image.fromarray(frame).save(tmp_path / "frame.png")
    out = tmp_path / "aligned.safetensors"
    words = ["align", "--splat", tmp_path / "animal.ply", "--images", tmp_path / "frame.png", "-o", out]
    assert main([str(w) for w in [*words, "--device", "cpu", "--resolution", 64, "--max-elevation", 0]]) == 0
    entry = load_scene(out).last_entry("align_splat") or {}
    assert abs(entry["azimuth"] - 45) < 1
