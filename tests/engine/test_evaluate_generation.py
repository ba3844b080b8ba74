"""Evaluate Generation: closed forms of the distances, networks that are named, and motion that is smooth or joined."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine import messages as m
from engine.cli import main
from engine.deform import PerFrame
from engine.errors import InputError
from engine.generation.measures import joints_of, motion_numbers
from engine.io.scene_file import save_scene
from engine.losses.motion_quality import jerk, seam_ratio
from engine.losses.video_distances import (
    PooledPixels,
    clips_of,
    frechet_distance,
    frechet_of_gaussians,
    kernel_distance,
    load_video_network,
    squared_mmd,
)
from engine.render.camera_paths import CameraPath
from engine.scene import Scene4D
from engine.steps import evaluate_generation as step
from engine.steps import lift_video
from engine.steps.evaluate_generation import Config
from tests.engine.test_perceptual import clip_folder, random_lpips_files
from tests.filmed_room import Room, film_clip, walk
from tests.scenes import RenderedFrames, capture_of, moving_scene
from tests.tiny_dino import save_dino

WALKER = Path(__file__).resolve().parents[2] / "assets" / "clips" / "walker"

__all__ = ["clip_folder"]

CLIPS = Config(clip_length=4, clip_stride=1, pictures=2)


# -- distances --------------------------------------------------------------------------------------------------------


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_of_gaussians_that_commute_is_the_distance_of_means_and_deviations():
    """Diagonal covariances: |μ₁ − μ₂|² + Σ (σ₁ − σ₂)²."""
    mean_a, mean_b, a, b = random(6), random(6, seed=1), random(6, seed=2).exp(), random(6, seed=3).exp()
    found = frechet_of_gaussians(mean_a, torch.diag(a**2), mean_b, torch.diag(b**2))
    assert found == pytest.approx(float((mean_a - mean_b).square().sum() + (a - b).square().sum()), rel=1e-9)


def test_frechet_does_not_depend_on_the_frame_and_is_symmetric():
    factor, turn = random(5, 5), torch.linalg.qr(random(5, 5, seed=4)).Q
    a, b = factor @ factor.T + torch.eye(5), 2 * torch.eye(5, dtype=torch.float64)
    mean_a, mean_b = random(5, seed=1), random(5, seed=2)
    straight = frechet_of_gaussians(mean_a, a, mean_b, b)
    assert frechet_of_gaussians(mean_b, b, mean_a, a) == pytest.approx(straight, rel=1e-9)
    turned = frechet_of_gaussians(turn @ mean_a, turn @ a @ turn.T, turn @ mean_b, turn @ b @ turn.T)
    assert turned == pytest.approx(straight, rel=1e-9)
    # one is a multiple of the identity, so that both commute
    values = torch.linalg.eigvalsh(a).sqrt()
    want = (mean_a - mean_b).square().sum() + (values - math.sqrt(2)).square().sum()
    assert straight == pytest.approx(float(want), rel=1e-9)


def test_frechet_of_samples_comes_near_the_closed_form_and_is_zero_of_the_same_set():
    a, b = random(20_000, 4), 2 * random(20_000, 4, seed=1) + 1
    assert frechet_distance(a, b) == pytest.approx(4 * 1 + 4 * 1, rel=0.05)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    few = random(3, 10)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6), "fewer clips than features"


def test_mmd_is_unbiased_and_zero_on_average_for_one_distribution():
    values = [squared_mmd(random(40, 3, seed=i), random(40, 3, seed=1000 + i)) for i in range(200)]
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / math.sqrt(200)
    assert abs(float(mean)) < 4 * float(error)
    assert squared_mmd(random(40, 3), random(40, 3, seed=1) + 1) > 1
    a, b = random(7, 3), random(5, 3, seed=1)

    def kernel(x, y):
        return float(x @ y / 3 + 1) ** 3

    within = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    others = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    across = [kernel(x, y) for x in a for y in b]
    want = sum(within) / len(within) + sum(others) / len(others) - 2 * sum(across) / len(across)
    assert squared_mmd(a, b) == pytest.approx(want, rel=1e-9)


def test_kernel_distance_averages_subsets_of_the_smaller_size():
    generator = torch.Generator().manual_seed(0)
    mean, deviation = kernel_distance(random(30, 4), random(80, 4, seed=1) + 2, generator)
    assert mean > 1 and deviation > 0
    assert kernel_distance(random(30, 4), random(30, 4, seed=1), generator)[1] == 0


def test_clips_and_the_stand_in():
    video = torch.rand(10, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert len(list(clips_of(video, 4, 3))) == 3 and not list(clips_of(video[:3], 4, 1))
    features = PooledPixels()
    clips = torch.stack(list(clips_of(video, 4, 3)))
    assert torch.allclose(features(clips)[1:2], features(clips[1:2]))
    still = features(video[:1].expand(4, -1, -1, -1)[None])
    assert still.shape == features(clips[:1]).shape and bool((still[:, 192:] == 0).all())


def test_jerk_is_zero_for_constant_acceleration_and_seen_at_a_jump():
    t = torch.arange(30, dtype=torch.float64)[:, None, None]
    smooth = torch.cat([t, t**2, 3 - t], dim=-1)
    assert float(jerk(smooth).max()) < 1e-9
    shaken = smooth + 0.1 * torch.sin(t)
    jumped = shaken.clone()
    jumped[15:] += 1
    assert 0.5 < seam_ratio(jerk(shaken), [15]) < 1.5 < 5 < seam_ratio(jerk(jumped), [15])
    assert math.isnan(seam_ratio(jerk(shaken), []))


# -- the step ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def truth() -> Scene4D:
    scene = moving_scene(count=60, views=3, moments=6)
    moments = [scene.at(t) for t in scene.times.tolist()]
    return scene.with_(canonical=moments[0], deformation=PerFrame.of(moments, scene.times))


@pytest.fixture(scope="module")
def guess(truth) -> Scene4D:
    return truth.with_(canonical=truth.canonical.with_(means=truth.canonical.means + 0.03))


def measured(*args, config=CLIPS, **kwargs):
    return m.result(step.run(*args, config=config, **kwargs))


def frames_of(scene, view=0):
    reader = RenderedFrames(scene)
    return torch.stack([reader.read(view, i).image.float() / 255 for i in range(len(scene.times))])


def test_the_truth_scores_best_against_a_scene_a_video_and_a_capture(truth, guess):
    for given in ({"truth": truth}, {"images": frames_of(truth)}, {"capture": capture_of(truth)}):
        right, wrong = measured(truth, **given), measured(guess, **given)
        for name in ("psnr", "ssim"):
            assert right[name] > wrong[name], (name, given.keys())
        assert right["psnr"] > 45
        stand_in = "frechet (stand-in: pooled pixels)"
        assert right[stand_in] < wrong[stand_in]
        assert "images" in given or right.clips["generated"] == right.clips["reference"] == 9
    exact = measured(truth, truth=truth)
    assert exact["psnr"] == 120 and exact["ssim"] == pytest.approx(1) and exact["position_error"] == 0
    assert exact[stand_in] == pytest.approx(0, abs=1e-6)
    assert len(exact.pictures) == 2 and exact.titles[0].startswith(truth.rig.names[0])


def test_a_stand_in_is_never_called_fvd(truth, guess):
    found = measured(guess, truth=truth)
    assert not any(n.name.startswith(("fvd", "kvd")) for n in found.numbers)
    assert any("The stand-in's values are not FVD" in line for line in found.missing)
    assert any("9 clips bias" in line for line in found.missing)
    assert "stand-in" in found.text() and "clips of 4 frames" in found.text()


class Kinetics(torch.nn.Module):
    """With the forward of StyleGAN-V's I3D."""

    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ):
        assert not rescale and not resize and return_features
        assert x.shape[1] == 3 and x.shape[3] == 224
        return x.mean(dim=(3, 4)).flatten(1)


class Plain(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        return x.std(dim=[2, 3, 4])


class Wrong(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        return x.mean()


@pytest.mark.parametrize("network", [Kinetics, Plain])
def test_a_torchscript_network_is_named_in_its_numbers(truth, guess, tmp_path, network):
    path = tmp_path / "my_i3d.pt"
    torch.jit.script(network()).save(str(path))
    config = replace(CLIPS, pictures=0)
    found = measured(guess, truth=truth, video_network=path, config=config)
    assert found["fvd (my_i3d.pt)"] > 0 and found["kvd (my_i3d.pt)"] == found["kvd (my_i3d.pt)"]
    number = next(n for n in found.numbers if n.name.startswith("fvd"))
    assert number.pictures == 9 and "9 generated and 9 reference clips of 4 frames, stride 1" in number.model
    assert measured(truth, truth=truth, video_network=path, config=config)["fvd (my_i3d.pt)"] < 1e-6


def test_networks_that_do_not_fit_are_named(truth, tmp_path):
    wrong, broken = tmp_path / "wrong.pt", tmp_path / "broken.pt"
    torch.jit.script(Wrong()).save(str(wrong))
    broken.write_bytes(b"PK not a network")
    for path, code in ((wrong, "LOS-021"), (broken, "LOS-023"), (tmp_path / "absent.pt", "LOS-022")):
        with pytest.raises(InputError, match=code):
            measured(truth, truth=truth, video_network=path)
    torch.jit.script(torch.nn.Conv3d(5, 2, 3)).save(str(wrong))
    with pytest.raises(InputError, match="LOS-020"):
        load_video_network(wrong)(torch.rand(1, 4, 8, 8, 3))


def test_lpips_and_clip_are_measured_where_their_files_are_given(
    truth, guess, clip_folder, tmp_path, monkeypatch
):
    weights, linear = random_lpips_files(tmp_path, "alex")
    monkeypatch.setattr("engine.losses.perceptual._linear_of_package", lambda kind: linear)
    images = torch.nn.functional.interpolate(frames_of(truth).permute(0, 3, 1, 2), scale_factor=2).permute(
        0, 2, 3, 1
    )
    large = truth.with_(rig=truth.rig.scaled(2.0))
    config = replace(CLIPS, prompt="a toy that spins")
    found = measured(large, images=images, clip=clip_folder, lpips_weights=weights, config=config)
    assert found["lpips_alex (standard)"] >= 0 and 0.5 < found["clip_image_similarity"] <= 1.001
    assert not any("LPIPS" in line or "CLIP" in line for line in found.missing)
    assert -100 <= found["clip_score"] <= 100 and 0 <= found["background_consistency"] <= 1.001


def test_each_absent_network_leaves_its_numbers_out_with_a_sentence(truth, clip_folder, tmp_path):
    found = measured(truth, truth=truth)
    wanted = {
        "CLIP score": "folder of a CLIP model",
        "Subject consistency": "folder of a DINO model",
        "FVD and KVD": "TorchScript I3D",
        "Relative pose error": "camera path",
        "Seconds": "enter how long",
    }
    for start, needs in wanted.items():
        assert [line for line in found.missing if start in line and needs in line], start
    names = {n.name for n in found.numbers}
    assert not names & {
        "clip_score",
        "subject_consistency",
        "background_consistency",
        "rpe_rotation",
        "seconds",
    }
    assert {"matches", "match_share"} <= names
    config = replace(CLIPS, prompt=" ", seconds=30.0)
    dino = save_dino(tmp_path / "tiny-dino")
    found = measured(truth, clip=clip_folder, dino=dino, config=config)
    assert found["seconds"] == 30 and 0 <= found["subject_consistency"] <= 1.001
    assert any(line.startswith("CLIP score was skipped; it needs the prompt") for line in found.missing)
    assert not any(line.startswith(("Subject", "Seconds", "CLIP similarity")) for line in found.missing)


def test_a_scene_along_a_path_is_measured_along_it():
    clip = film_clip(Room(), walk(7, (112, 84)))
    path = CameraPath(clip.cameras, torch.arange(7).double(), 24.0)
    made = m.result(lift_video.run(clip.images, clip.depth, path, clip.moving.float())).scene
    messages = list(step.run(made, images=clip.images, config=CLIPS))
    found, done = messages[-1].value, [i.done for i in messages if isinstance(i, m.Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    assert found["psnr"] > 20 and next(n.pictures for n in found.numbers if n.name == "psnr") == 7
    assert found["rpe_translation / path length"] < 0.03 and found["rpe_rotation"] < 1
    assert not any("Relative pose" in line for line in found.missing)
    # the video that the scene was made of is sharper than its renders
    of_images = found["rpe_translation / path length (reference images)"]
    assert of_images < found["rpe_translation / path length"] and of_images < 0.01
    # a video that goes the other way did not follow the path
    backward = measured(made, images=clip.images.flip(0))
    assert backward["rpe_rotation (reference images)"] > 2
    # the same scene, asked to follow the path at twice its speed from the second frame on
    other = CameraPath(clip.cameras[[0, 2, 4, 6, 6, 6, 6]], path.seconds, 24.0)
    assert measured(made, path=other)["match_share"] != found["match_share"]
    with pytest.raises(InputError, match=r"6 frames and the scene 7.*GEN-053"):
        measured(made, path=CameraPath(clip.cameras[:6], path.seconds[:6], 24.0))


def test_folders_of_scenes_videos_and_images_join_the_sets(truth, guess, tmp_path):
    ours, references = tmp_path / "ours", tmp_path / "references"
    for folder, scene in ((ours, guess), (references, truth)):
        (folder / "clip").mkdir(parents=True)
        save_scene(scene, folder / "animal.safetensors")
        for i, image in enumerate(frames_of(scene)):
            Image.fromarray((image * 255).byte().numpy()).save(folder / "clip" / f"{i}.png")
    (references / "more").mkdir()
    for i, image in enumerate(frames_of(truth, 1)):
        Image.fromarray((image * 255).byte().numpy()).save(references / "more" / f"{i}.png")
    (references / "note.txt").write_text("no video")
    found = measured(guess, generated=ours, references=references)
    # three views and one video each, of which three clips; one more video among the references
    assert found.clips["generated"] == 12 and found.clips["reference"] == 15
    assert next(n.pictures for n in found.numbers if n.name == "psnr") == 4 * 6
    alone = measured(guess, references=references)
    assert alone.clips["generated"] == 9 and alone.clips["reference"] == 15
    assert any("Nothing was compared image by image" in line for line in alone.missing)
    few = measured(guess, generated=ours, references=references, config=replace(CLIPS, clips=5))
    assert few.clips["generated"] == few.clips["reference"] == 5
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="GEN-020"):
        measured(guess, references=empty)


def test_views_around_the_object(truth, guess):
    found = measured(guess, truth=truth, config=replace(CLIPS, azimuths="-75, 15 105 195", resolution=64))
    assert next(n.pictures for n in found.numbers if n.name == "psnr") == 4 * 6
    assert found.pictures.shape[1:3] == (64, 256)
    for words in ("east", "1e9", "nan"):
        with pytest.raises(InputError, match="STP-050"):
            Config(azimuths=words)


def test_what_does_not_match_is_refused(truth, guess):
    with pytest.raises(InputError, match=r"6 frames.*5.*GEN-022"):
        measured(guess, images=frames_of(truth)[:5])
    with pytest.raises(InputError, match="STP-051"):
        measured(guess, images=frames_of(truth), config=replace(CLIPS, view=9))


def test_short_videos_have_no_clips_and_say_so(truth, guess):
    found = measured(guess, truth=truth, config=Config())
    assert any("0 generated and 0 reference clips of 16 frames" in line for line in found.missing)
    assert not any("stand-in" in n.name for n in found.numbers) and found["psnr"] > 0


def test_motion_that_was_joined_from_windows_shows_where_they_meet():
    scene = moving_scene(count=30, views=1, moments=4)
    t = torch.arange(48, dtype=torch.float64) / 24
    wave = (
        torch.stack([torch.sin(5 * t), torch.cos(4 * t), 0 * t], dim=-1).float()[:, None].expand(-1, 30, -1)
    )
    sampling = {"window": 24, "overlap": 11}
    entry = {"sampling": sampling, "frames": 48}
    smooth = scene.with_(deformation=PerFrame(t, {"means": wave.contiguous()}), times=t)
    smooth = smooth.with_history("variation_diffusion", **entry)
    name = "jerk_at_joints / elsewhere"
    values = {n.name: n.value for n in motion_numbers(smooth)}
    assert 0.5 < values[name] < 1.2 and values["speed"] > 0 and values["jerk"] > 0
    joint = joints_of(smooth)[0]
    jumped = wave.clone()
    jumped[joint:] += 0.3
    torn = smooth.with_(deformation=PerFrame(t, {"means": jumped}))
    assert {n.name: n.value for n in motion_numbers(torn)}[name] > 2
    assert name not in {n.name for n in motion_numbers(scene)}


def test_the_verb_reads_a_capture(truth, tmp_path, capsys):
    save_scene(truth, tmp_path / "scene.safetensors")
    given = ["--scene", str(tmp_path / "scene.safetensors"), "--capture", str(WALKER), "--device", "cpu"]
    assert main(["evaluate-generation", *given]) == 1
    assert "walker" in capsys.readouterr().err, "it was read, and is of another scene"


def test_the_verb_reports_as_json(truth, guess, tmp_path, capsys):
    for name, scene in (("a", guess), ("b", truth)):
        save_scene(scene, tmp_path / f"{name}.safetensors")
    arguments = [
        "evaluate-generation",
        "--scene",
        tmp_path / "a.safetensors",
        "--truth",
        tmp_path / "b.safetensors",
    ]
    more = ["--clip-length", "4", "--device", "cpu", "--json", "--sheet", tmp_path / "sheet.png"]
    assert main([str(a) for a in [*arguments, *more]]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["numbers"]["psnr"]["pictures"] == 18 and report["clips"]["length"] == 4
    assert (tmp_path / "sheet.png").is_file()
