"""Generate 4D from Image: a scene and a video of one image and a path, and what cannot be filmed. Random weights."""

import json
import logging
from dataclasses import replace

import pytest
import torch

from engine.cli import main
from engine.diffusion.camera_condition import WidenedProjection
from engine.errors import InputError
from engine.generation import image_models
from engine.generation.image_models import ImageTo4DModels, bundled_image_model
from engine.generation.reconstruction import reconstruct
from engine.io.scene_file import load_scene
from engine.messages import Finished, Preview, Progress, Saved, Started, result
from engine.models.reconstruction import LatentFormat, LdrmConfig, pixels_to_latents
from engine.steps import camera_path, evaluate_generation, generate_from_image
from engine.steps.generate_from_image import Config
from tests.tiny_cogvideox import tiny_video_folder, tiny_video_model
from tests.tiny_image_model import FORMAT, LDRM, save_image_model

# of the tiny CogVideoX: 4 channels, 4 frames and 8 pixels
COG_LDRM = LdrmConfig(
    LatentFormat(4, 4, 8), width=24, blocks=1, heads=2, deconv_channels=(8, 8, 8, 8), head_channels=8, time_stride=4,
    space_stride=4, opacity_bias=2.0,
)  # fmt: skip


def a_path(kind="arc left", frames=5, size=(32, 32), **more):
    config = camera_path.Config(kind=kind, frames=frames, width=size[0], height=size[1], fps=10.0, **more)
    return camera_path.make(None, config)


def picture(height=32, width=32, seed=0):
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return ImageTo4DModels(save_image_model(tmp_path_factory.mktemp("models") / "tiny"))


def test_an_image_and_a_path_become_a_scene_and_its_video(models):
    image, path = picture(), a_path()
    before = image.clone()
    messages = list(generate_from_image.run(models, image, path, Config(preview_every=1)))
    assert isinstance(messages[0], Started) and messages[0].total == 4
    assert [m.done for m in messages if isinstance(m, Progress)] == [1, 2, 3]
    assert len([m for m in messages if isinstance(m, Preview)]) == 2
    assert isinstance(messages[-1], Finished)
    made = messages[-1].value
    assert torch.equal(image, before)
    assert made.frames.shape == (5, 32, 32, 3) and made.fps == 10.0
    torch.testing.assert_close(made.frames[0], image[0], atol=1e-5, rtol=0)
    scene = made.scene
    torch.testing.assert_close(scene.times, torch.arange(5, dtype=torch.float64) / 10)
    torch.testing.assert_close(scene.rig.world_to_camera, path.cameras.world_to_camera)
    assert 0 < len(scene.canonical) <= 2 * 16 * 16
    entry = scene.history[-1]
    assert entry["step"] == "generate_from_image" and entry["weights"] == models.fingerprint()
    # the subject of a path without a scene is at 1, where the model has it at 2
    assert entry["unit"] == pytest.approx(0.5) and made.note.startswith(scene.summary())


def test_a_seed_is_a_scene(models):
    first, same, other = (
        result(generate_from_image.run(models, picture(), a_path(), Config(seed=seed))).scene
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.canonical.means, same.canonical.means)
    assert not torch.equal(first.canonical.means, other.canonical.means)


def test_a_model_that_reads_flow_films_reconstructs_and_is_measured_along_its_path(tmp_path):
    folder = save_image_model(tmp_path / "tiny", ldrm=replace(LDRM, correspondences="flow"))
    path, config = a_path(), Config(frame_stride=4)
    made = result(generate_from_image.run(ImageTo4DModels(folder), picture(), path, config))
    assert len(made.scene.canonical) and made.scene.deformation.kind == "flipbook"
    found = result(evaluate_generation.run(made.scene, images=made.frames))
    names = {n.name: n.pictures for n in found.numbers}
    assert names["psnr"] == 5 and "speed" in names
    # it is told why an error of the path is left out, where random weights show nothing to track
    assert "rpe_rotation" in names or any("Relative pose error" in line for line in found.missing)


def test_two_paths_with_one_first_camera_give_one_static_scene(tmp_path):
    """A reconstruction whose heads read nothing of their input makes the same surface in every frame, and no motion."""
    own = ImageTo4DModels(save_image_model(tmp_path / "tiny"))
    with torch.no_grad():
        for head in (own.ldrm.head_gs.out, own.ldrm.head_def.out):
            head.weight.zero_()
        own.ldrm.head_def.out.bias.copy_(torch.zeros(12).index_fill(0, torch.tensor([3]), 1.0))
    scenes = [
        result(generate_from_image.run(own, picture(), a_path(kind), Config(frame_stride=8))).scene
        for kind in ("arc left", "truck right")
    ]
    first, second = (scene.canonical for scene in scenes)
    torch.testing.assert_close(first.means, second.means, atol=1e-5, rtol=0)
    for scene in scenes:
        last = scene.at(float(scene.times[-1]))
        torch.testing.assert_close(last.means, scene.canonical.means)
    # and the first camera is where the scene is put
    assert float((first.means[:, 2] > 0).float().mean()) == 1


def test_a_scene_moves_with_the_world_of_its_path(models):
    path = a_path()
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turn[:3, 3] = torch.tensor([1.0, 2, 3])
    cameras = replace(path.cameras, world_to_camera=path.cameras.world_to_camera @ torch.linalg.inv(turn))
    moved = replace(path, cameras=cameras, focus=turn[:3, :3] @ path.focus + turn[:3, 3])
    here, there = (result(generate_from_image.run(models, picture(), p)).scene for p in (path, moved))
    wanted = here.canonical.means.double() @ turn[:3, :3].T + turn[:3, 3]
    torch.testing.assert_close(there.canonical.means.double(), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "found"), [((40, 30), (32, 24)), ((61, 97), (24, 32))])
def test_odd_sizes_are_brought_to_those_of_the_model_and_said(models, size, found):
    made = result(generate_from_image.run(models, picture(37, 53), a_path(size=size), Config(steps=1)))
    assert made.frames.shape[1:3] == (found[1], found[0])
    assert f"video of {found[0]}×{found[1]} pixels; the path has {size[0]}×{size[1]}" in made.note
    assert "of the image was cropped" in made.note
    assert made.scene.rig.sizes[0] == found


def test_a_path_of_no_length_is_said(models):
    made = result(generate_from_image.run(models, picture(), a_path("still"), Config(steps=1)))
    assert "the camera does not move" in made.note
    assert (
        "does not move"
        not in result(generate_from_image.run(models, picture(), a_path(), Config(steps=1))).note
    )


def test_what_cannot_be_filmed_is_refused_before_anything_is_sampled(models):
    def refused(code, image=None, path=None, **config):
        with pytest.raises(InputError, match=f"GS4D-{code}") as error:
            next(
                generate_from_image.run(
                    models, picture() if image is None else image, path or a_path(), Config(**config)
                )
            )
        return str(error.value)

    assert "9 or 13 frames" in refused("DIF-071", path=a_path(frames=11))
    through = a_path("dolly in", amount=4.0)
    assert "through its subject" in refused("GEN-066", path=through)
    broken = a_path()
    broken.cameras.world_to_camera[2, 0, 3] = torch.nan
    refused("GEN-065", path=broken)
    refused("STP-100", image=picture().fill_(torch.inf))


def test_a_prompt_needs_a_text_encoder(models):
    with pytest.raises(InputError, match="GS4D-DIF-100"):
        result(generate_from_image.run(models, picture(), a_path(), Config(prompt="a walking dog")))


def test_incomplete_folders_and_other_latents_are_refused(tmp_path):
    def refused(code, *given):
        with pytest.raises(InputError, match=f"GS4D-{code}") as error:
            ImageTo4DModels(*given)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    refused("GEN-061", tmp_path / "empty")
    refused("GEN-062", save_image_model(tmp_path / "no video", None))
    cog = tiny_video_folder(tmp_path / "cog", text=False)
    said = refused("GEN-063", save_image_model(tmp_path / "pixels"), cog)
    assert "4 channels of 4×8×8" in said and "768 channels of 4×8×8" in said
    refused("GEN-064", save_image_model(tmp_path / "no camera", None, COG_LDRM), cog)
    small = replace(LDRM, latent=replace(FORMAT, channels=16))
    refused("GEN-063", save_image_model(tmp_path / "other", ldrm=small))


def test_cogvideox_makes_the_video_where_a_model_has_its_camera_weights(tmp_path, caplog):
    cog = tiny_video_folder(tmp_path / "cog", text=False)
    backbone = tiny_video_model()
    widened: WidenedProjection = backbone.add_camera()
    with torch.no_grad():
        widened.added.weight.normal_(generator=torch.Generator().manual_seed(0))
    branch = widened.added.state_dict()
    folder = save_image_model(tmp_path / "ldrm", None, COG_LDRM, camera_branch=branch)
    with caplog.at_level(logging.WARNING):
        models = ImageTo4DModels(folder, cog)
    assert "text is left out" in caplog.text and models.multiple == 16
    path = a_path(frames=9)
    config = Config(steps=2, resolution=32)
    made = result(generate_from_image.run(models, picture(), path, config))
    assert made.frames.shape == (9, 32, 32, 3) and len(made.scene.times) == 9
    other = result(generate_from_image.run(models, picture(), a_path("dolly in", frames=9), config))
    assert not torch.allclose(made.frames, other.frames)
    with pytest.raises(InputError, match="9 or 17 frames"):
        result(generate_from_image.run(models, picture(), a_path(frames=13), config))
    with pytest.raises(InputError, match="GS4D-DIF-075"):
        result(generate_from_image.run(models, picture(), path, replace(config, prompt="a dog")))


def test_a_canceled_run_leaves_models_that_work(models):
    stream = generate_from_image.run(models, picture(), a_path(), Config(steps=4))
    while not isinstance(next(stream), Progress):
        pass
    stream.close()
    whole = result(generate_from_image.run(models, picture(), a_path(), Config(steps=4)))
    again = result(generate_from_image.run(models, picture(), a_path(), Config(steps=4)))
    assert torch.equal(whole.frames, again.frames)


def test_the_pass_is_that_of_the_reconstruction_model(models):
    """The scene of the node is `reconstruct` of the video that it returns."""
    path = a_path()
    made = result(generate_from_image.run(models, picture(), path))
    latents = pixels_to_latents(made.frames[None], FORMAT)[0]
    unit = made.scene.history[-1]["unit"]
    settings = generate_from_image.Pass(unit)
    same = reconstruct(models.ldrm, latents, path.cameras, made.scene.times, settings, made.frames)
    torch.testing.assert_close(same.canonical.means, made.scene.canonical.means, atol=1e-4, rtol=1e-4)


def test_the_verb_writes_the_scene_and_the_video(tmp_path, capsys):
    from PIL import Image

    folder = save_image_model(tmp_path / "tiny")
    Image.new("RGB", (40, 32), (200, 40, 40)).save(tmp_path / "image.png")
    out, video = tmp_path / "scene.safetensors", tmp_path / "video.mp4"
    code = main(
        ["generate", "--generator", str(folder), "--image", str(tmp_path / "image.png"), "--kind", "arc left", "--frames",
         "5", "--width", "32", "--height", "32", "-o", str(out), "--video-out", str(video), "--device", "cpu", "--json"]
    )  # fmt: skip
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0 and report["gaussians"] == len(load_scene(out).canonical)
    assert video.stat().st_size > 500


def test_the_bundled_model_is_named_where_it_is_missing(monkeypatch, tmp_path):
    assert ImageTo4DModels(bundled_image_model()).video.frames == 9
    monkeypatch.setattr(image_models, "BUNDLED", tmp_path / "removed")
    with pytest.raises(InputError, match="GEN-060"):
        bundled_image_model()


@pytest.mark.parametrize("done", [1, 2, 4])
def test_a_canceled_generation_resumes_with_the_same_bits(models, tmp_path, done):
    config, checkpoint = Config(steps=4, preview_every=0), tmp_path / "scene.generation.safetensors"
    whole = result(generate_from_image.run(models, picture(), a_path(), config))
    stream = generate_from_image.run(models, picture(), a_path(), config, checkpoint)
    assert next(m for m in stream if isinstance(m, Progress) and m.done == done)
    stream.close()
    assert checkpoint.is_file()
    other = next(generate_from_image.run(models, picture(seed=1), a_path(), config, checkpoint))
    assert "resumed" not in other.note, "the checkpoint belongs to its inputs"
    messages = list(generate_from_image.run(models, picture(), a_path(), config, checkpoint))
    assert messages[0].note.endswith(f"resumed after {done}")
    assert [m.done for m in messages if isinstance(m, Progress)] == list(range(done + 1, 6))
    made = messages[-1].value
    assert torch.equal(made.frames, whole.frames)
    for name, found in made.scene.canonical.tensors().items():
        assert torch.equal(found, whole.scene.canonical.tensors()[name]), name
    assert not checkpoint.exists()


def test_checkpoints_are_written_at_intervals(models, tmp_path):
    ticks = iter(range(0, 10_000, 40))
    run = generate_from_image.run(
        models, picture(), a_path(), Config(steps=4), tmp_path / "a.safetensors", lambda: next(ticks)
    )
    assert [m.done for m in run if isinstance(m, Saved)]
