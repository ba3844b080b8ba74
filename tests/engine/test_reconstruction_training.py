"""The training of the reconstruction model: its truth is true, its losses and stages do what they promise, and it resumes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from engine.losses.metrics import decibels
from engine.models import reconstruction as ldrm
from engine.models.reconstruction import gaussian_maps, tokens
from engine.scene import Cameras
from training.common.loop import LoopConfig
from training.reconstruction import data, evaluate, losses, matches, readers, scenes, train, views

CONFIG = replace(
    train.CONFIG, width=24, blocks=1, heads=2, deconv_channels=(12, 10, 8), head_channels=12, match_channels=8
)
SHAPE = data.SampleShape(scenes.SceneShape(frames=5), size=32, views=5)
SEED = 3


@pytest.fixture(scope="module")
def sample():
    return data.make_sample(SEED, SHAPE, CONFIG)


def true_maps(sample):
    """Gaussians and motion made of the truth, as a model that knows everything would."""
    rays = sample.rays[None]
    own = torch.tensor(data.own_frames(CONFIG, 5))
    raw = torch.zeros(1, len(own), 16, 16, gaussian_maps.GAUSSIAN_CHANNELS + 1)
    raw[..., 0] = (sample.distances[own].float() / CONFIG.distance).log()
    raw[..., 10] = 4.0
    cells = tokens.fold(sample.video[None][:, own], 1, 2).unflatten(-1, (4, 3)).mean(-2)
    origins, directions = sample.cell_rays()
    angles = 2 * tokens.pixel_angles(rays)[:, own, ::2, ::2]
    maps = gaussian_maps.gaussian_maps(
        raw, origins[None, own], directions[None, own], angles, own, CONFIG, cells
    )
    shifts = sample.shifts[None].float()
    still = torch.zeros_like(shifts)
    turns = shifts.new_tensor(gaussian_maps.IDENTITY).expand(*shifts.shape[:-1], 4)
    return maps, ldrm.Motion(shifts, turns, still), ldrm.Motion(still, turns, still)


# -- scenes -----------------------------------------------------------------------------------------------------------


def test_a_seed_is_a_scene_and_only_movers_move():
    a, b, other = (scenes.make_scene(seed) for seed in (SEED, SEED, SEED + 1))
    assert torch.equal(a.vertices, b.vertices) and a.vertices.shape != other.vertices.shape
    moved = (a.vertices - a.vertices[:1]).norm(dim=-1).amax(0)
    moves = torch.zeros(len(a.rest), dtype=torch.bool)
    moves[a.faces[a.moves[a.part]].flatten()] = True
    assert not bool(moved[~moves].any()) and float(moved[moves].mean()) > 0.05
    static = scenes.make_scene(SEED, scenes.SceneShape(movers=0))
    assert torch.equal(static.vertices[0], static.vertices[-1]) and not bool(static.moves.any())


def test_points_keep_their_color_along_their_tracks(sample):
    own = data.own_frames(CONFIG, 5)
    video = sample.video
    wanted = matches.true_pixels(sample, torch.arange(5), torch.tensor(own))
    seen = sample.visible & sample.known[:, None]
    moving = sample.moves[:, None].expand_as(seen) & seen

    def colors(frame, pixels):
        flat = 2 * pixels.reshape(1, 1, -1, 2).float() - 1
        image = video[frame].permute(2, 0, 1)[None]
        return torch.nn.functional.grid_sample(image, flat, align_corners=False)[0, :, 0].T

    errors, chance = [], []
    for a, t in ((0, 2), (0, 4), (1, 0)):
        mask = moving[a, t]
        assert int(mask.sum()) > 10
        first = colors(own[a], wanted[a, own[a]][mask])
        errors.append((colors(t, wanted[a, t][mask]) - first).abs().mean())
        # standing still in the image
        chance.append((colors(t, wanted[a, own[a]][mask]) - first).abs().mean())
    assert float(sum(errors)) < 0.5 * float(sum(chance))


def test_the_truth_as_gaussians_looks_like_the_scene_and_moves_like_it(sample):
    maps, motion, still = true_maps(sample)
    drawn = {}
    for name, m in (("moved", motion), ("still", still)):
        images = [
            train.draw(maps, m, int(t), sample.cameras[v], 0.005)[0] for v, t in enumerate(sample.frames)
        ]
        drawn[name] = (torch.cat(images).clamp(0, 1) - sample.images / 255).square().mean(-1)
    mask = sample.moving.float()
    inside = {name: decibels(float((e * mask).sum() / mask.sum())) for name, e in drawn.items()}
    assert decibels(float(drawn["moved"][:5].mean())) > 21
    assert inside["moved"] > inside["still"] + 1.5
    depth = train.draw(maps, motion, 2, sample.cameras[2], 0.005)[1]
    assert float(losses.pearson(depth, sample.depths[2:3].float())) > 0.93
    own = maps.frames
    assert evaluate.track_errors(motion.shifts[0], sample, own)[0] < 1e-3
    error, reference = evaluate.track_errors(still.shifts[0], sample, own)
    assert error == reference > 0.03


def test_views_off_the_path_have_the_angles_that_they_should():
    held = evaluate.held_out(0, CONFIG, SHAPE)
    path, others = held.cameras[:5], held.cameras[5:]
    scene = scenes.make_scene(data.HELD_OUT_SEED, SHAPE.scene)
    generator = torch.Generator().manual_seed(data.HELD_OUT_SEED)
    world = views.camera_path(scene, generator, 32).world_to_camera[0]
    center = world[:3, :3] @ scene.center.double() + world[:3, 3]
    for i, t in enumerate(held.frames[5:]):
        a, b = (
            torch.nn.functional.normalize(c - center, dim=0)
            for c in (path.centers[int(t)], others.centers[i])
        )
        assert 13 < float(torch.rad2deg(torch.acos(a @ b))) < 27


# -- losses -----------------------------------------------------------------------------------------------------------


def test_the_depth_loss_is_blind_to_scale_and_shift_and_to_what_is_unknown():
    depth = 1 + torch.rand(2, 8, 8)
    torch.testing.assert_close(losses.pearson(3 * depth + 2, depth), torch.ones(2))
    assert float(losses.pearson(-depth, depth).max()) < -0.99
    torch.testing.assert_close(losses.pearson(depth, torch.zeros(2, 8, 8)), torch.zeros(2))
    unknown = depth.clone()
    unknown[:, :4] = 0
    changed = depth.clone()
    changed[:, :4] = 50
    torch.testing.assert_close(losses.pearson(changed, unknown), torch.ones(2))


def test_the_motion_loss_is_zero_on_true_tracks_and_counts_what_moves():
    truth = torch.randn(2, 3, 4, 4, 3)
    known, moves = torch.ones(2, 3, 4, 4, dtype=torch.bool), torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    moves[:, 0] = True
    paper, heavy = losses.Weights(), losses.Weights(moving=9.0)
    distance, sparsity = losses.motion_loss(truth, truth, known, moves, paper)
    assert float(distance) == pytest.approx(0, abs=1e-5)
    assert float(sparsity) == pytest.approx(2 * float(truth.abs().sum(-1).mean()), rel=1e-4)
    wrong = truth.clone()
    wrong[:, 0, ..., 0] += 0.5
    # λ_m = 2 inside, 2 outside, a third of the points
    assert float(losses.motion_loss(wrong, truth, known, moves, paper)[0]) == pytest.approx(2 / 3, rel=1e-2)
    assert float(losses.motion_loss(wrong, truth, known, moves, heavy)[0]) == pytest.approx(
        2 * 9 / 11, rel=1e-2
    )
    assert float(losses.motion_loss(wrong, truth, ~moves, moves, heavy)[0]) == pytest.approx(0, abs=1e-5)


def test_the_match_loss_is_least_at_the_true_cell():
    pixels = torch.tensor([[(3 + 0.5) / 6, (1 + 0.5) / 4], [(2 + 1.0) / 6, (2 + 0.5) / 4]])
    right = torch.full((2, 24), -20.0)
    right[0, 1 * 6 + 3] = 20
    right[1, [2 * 6 + 2, 2 * 6 + 3]] = 20
    costs = (
        losses.match_loss(right, pixels, torch.ones(2), 4, 6),
        losses.match_loss(right.roll(1, 1), pixels, torch.ones(2), 4, 6),
    )
    assert float(costs[0]) == pytest.approx(0.5 * float(torch.tensor(2.0).log()), rel=1e-3)
    assert float(costs[1]) > 10


def test_images_that_are_equal_cost_nothing_and_moving_parts_weigh_more():
    wanted = torch.rand(2, 16, 16, 3)
    moving = torch.zeros(2, 16, 16)
    moving[:, :4] = 1
    weights = losses.Weights(perceptual=0.0, moving=9.0)
    assert float(losses.photometric(wanted, wanted, moving, losses.Weights())) == pytest.approx(0, abs=1e-6)
    inside, outside = wanted.clone(), wanted.clone()
    inside[:, :4] += 0.1
    outside[:, 8:12] += 0.1
    ratio = losses.photometric(inside, wanted, moving, weights) / losses.photometric(
        outside, wanted, moving, weights
    )
    assert float(ratio) == pytest.approx(9, rel=1e-4)


# -- training ---------------------------------------------------------------------------------------------------------


def trained_names(model):
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


def test_static_stages_freeze_the_deformation_head(sample):
    assert [s.is_dynamic for s in train.STAGES["paper"]] == [False, False, True]
    static, dynamic = train.STAGES["three"][0], train.STAGES["three"][-1]
    for stage, wanted in ((static, False), (dynamic, True)):
        model = train.new_model(CONFIG)
        terms = train.step_losses(model, [sample], stage, train.Training(), torch.Generator().manual_seed(0))
        sum(terms.values()).backward()
        assert ("head_def" in trained_names(model)) is wanted
        assert {"embed", "blocks", "deconv", "head_gs"} <= trained_names(model)
        assert ({"motion", "match"} <= set(terms)) is wanted
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    progress = [train.stage_at(train.STAGES["paper"], p) for p in (0.0, 0.39, 0.41, 0.81, 1.0)]
    assert [train.STAGES["paper"].index(s) for s in progress] == [0, 0, 1, 2, 2]


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SampleShape", lambda size: replace(SHAPE, size=size))
    stages = (train.Stage(0.5, 16, False), train.Stage(0.5, 32, True))
    training = train.Training(stages=stages, batch=1, queries=1, pool=2)

    def states(*steps):
        model = train.new_model(CONFIG)
        for i, seconds in enumerate(steps):
            loop = LoopConfig(2, 1e-3, seconds=seconds)
            train.train_model(model, training, loop, tmp_path / f"{len(steps)}.pt", 1)
            if i < len(steps) - 1:
                model = train.new_model(CONFIG, seed=9)
        return torch.load(tmp_path / f"{len(steps)}.pt", weights_only=True)

    # so little time that only one step is made
    once, twice = states(0.0), states(1e-9, 0.0)
    assert once["step"] == twice["step"] == 2
    for name, value in once["network"].items():
        assert torch.equal(value, twice["network"][name]), name


def test_figures_of_an_untrained_model_say_that_nothing_moves(sample):
    model = train.new_model(CONFIG).eval()
    found = evaluate.evaluate(model, [sample])
    assert found["track_error"] == found["track_error_still"] > 0
    assert found["nearest_psnr"] > 8
    assert evaluate.sheet(model, [sample]).shape == (32, 16 * 32, 3)


# -- collections ------------------------------------------------------------------------------------------------------


def wide(cameras: Cameras) -> tuple[Cameras, tuple[int, int]]:
    """The same cameras with wider images, whose middle square is the original."""
    return cameras.cropped([(-8, 0, 48, 32)] * len(cameras)), (48, 32)


def test_a_realestate10k_list_gives_its_frames_and_cameras(sample, tmp_path):
    cameras, (width, height) = wide(sample.path)
    lines = ["https://example.org/video"]
    for t in range(5):
        K, pose = cameras.K[t], cameras.world_to_camera[t]
        values = [
            K[0, 0] / width,
            K[1, 1] / height,
            K[0, 2] / width,
            K[1, 2] / height,
            0,
            0,
            *pose[:3].flatten(),
        ]
        lines.append(" ".join([str(1000 * t), *(f"{float(v):.12g}" for v in values)]))
        padded = np.pad(sample.images[t].numpy(), ((0, 0), (8, 8), (0, 0)))
        Image.fromarray(padded).save(tmp_path / f"{1000 * t}.png")
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(lines) + "\n")
    clip = readers.read_realestate10k(listing, tmp_path, 5, 32)
    assert torch.equal(clip.images, sample.images[:5])
    torch.testing.assert_close(clip.cameras.K, sample.path.K, atol=1e-6, rtol=0)
    torch.testing.assert_close(clip.cameras.world_to_camera, sample.path.world_to_camera, atol=1e-9, rtol=0)
    made = readers.as_sample(clip, CONFIG)
    assert not bool(made.known.any() or made.distances.any())
    model = train.new_model(CONFIG)
    terms = train.step_losses(model, [made], train.STAGES["one"][0], train.Training(), torch.Generator())
    assert float(terms["distance"]) == 0 and float(terms["photo"]) > 0
    with pytest.raises(ValueError, match="only 4 of 5 frames"):
        readers.read_realestate10k(listing, tmp_path, 5, 32, start=1)


def test_a_pointodyssey_folder_gives_depth_and_tracks(sample, tmp_path):
    cameras, size = wide(sample.path)
    folders = [tmp_path / name for name in ("rgbs", "depths")]
    for folder in folders:
        folder.mkdir()
    for t in range(5):
        rgb = np.pad(sample.images[t].numpy(), ((0, 0), (8, 8), (0, 0)))
        Image.fromarray(rgb).save(folders[0] / f"rgb_{t:05d}.jpg", quality=98)
        depth = np.pad(sample.depths[t].float().numpy(), ((0, 0), (8, 8))) / readers.DEPTH_RANGE * 65535
        # coarse: one step is a 65th of a unit
        Image.fromarray(depth.round().astype(np.uint16)).save(folders[1] / f"depth_{t:05d}.png")
    centers, directions = sample.cell_rays()
    start = (centers[0] + directions[0] * sample.distances[0].float()[..., None]).reshape(-1, 3)
    points = start + sample.shifts[0].float().reshape(5, -1, 3)
    visible = sample.visible[0].reshape(5, -1).numpy()
    np.savez(
        tmp_path / "anno.npz",
        trajs_3d=points.numpy(), visibs=visible, valids=np.ones_like(visible),
        intrinsics=cameras.K.numpy(), extrinsics=cameras.world_to_camera.numpy(),
    )  # fmt: skip
    clip = readers.read_pointodyssey(tmp_path, 5, 32)
    assert clip.points.shape == (256, 5, 3) and size == (48, 32)
    made = readers.as_sample(clip, CONFIG, unit=1.0)
    assert float((made.images.float() - sample.images[:5].float()).abs().mean()) < 6
    torch.testing.assert_close(made.depths.float(), sample.depths[:5].float(), atol=0.02, rtol=0)
    # points of frame 0 come back to their own cells
    known = made.known[0]
    assert float(known.float().mean()) > 0.95
    torch.testing.assert_close(
        made.shifts[0].float()[:, known], sample.shifts[0].float()[:, known], atol=4e-3, rtol=0
    )
    assert float((made.moves[0] == sample.moves[0])[known].float().mean()) > 0.9
    twice = readers.as_sample(clip, CONFIG, unit=2.0)
    torch.testing.assert_close(twice.shifts[0].float(), made.shifts[0].float() / 2, atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="frame 9 was asked for"):
        readers.read_pointodyssey(tmp_path, 2, 32, start=8)
