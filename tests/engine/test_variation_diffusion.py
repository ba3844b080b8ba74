"""Animating a splat with a video, with random weights: seeds, windows, resuming, placement, and inputs that do not fit."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from engine import messages as m
from engine.cli import main
from engine.deform import PerFrame
from engine.diffusion.cosine_schedule import CosineSchedule
from engine.errors import InputError
from engine.generation.model_space import ModelSpace
from engine.generation.variation import VariationModels, VariationRun
from engine.generation.variation_sampling import sampling_window
from engine.geometry.placement import moved, upright
from engine.io.scene_file import load_scene, save_scene
from engine.models import variation_field as gvf
from engine.models.variation_field import Sampling as Recommended
from engine.render import choose, render_gaussians
from engine.scene import Scene4D
from engine.steps import fit_scene, splat_to_scene
from engine.steps import variation_diffusion as step
from engine.steps.variation_diffusion import Config
from tests.scenes import capture_of
from tests.tiny_trellis import save_encoder
from tests.tiny_variation import CONFIG, ball, published, save_variation

QUICK = Config(preview_every=0)
SPLAT = splat_to_scene.Config(up="z up")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_variation(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def models(folder):
    return VariationModels(folder)


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return splat_to_scene.make([ball()], SPLAT)


def video(frames: int = 6, size: int = 48) -> torch.Tensor:
    """A colored square that moves over white, with alpha."""
    images = torch.rand(frames, size, size, 4, generator=torch.Generator().manual_seed(1))
    images[..., 3] = 0
    for i in range(frames):
        images[i, 8 + i % 7 : 36 + i % 7, 12:36, 3] = 1
    return images


def animate(models, splat, images=None, config=QUICK, **more):
    return m.result(
        step.run(models, splat, video() if images is None else images, config=config, **more)
    ).scene


def same(a: Scene4D, b: Scene4D) -> bool:
    one, other = a.deformation.tensors(), b.deformation.tensors()
    return one.keys() == other.keys() and all(torch.equal(t, other[name]) for name, t in one.items())


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_every_gaussian_changes_in_every_frame(models, scene):
    messages = list(step.run(models, scene, video(), config=replace(QUICK, preview_every=1)))
    started, made = messages[0], messages[-1].value
    assert started.total == 6 + 3 + 6
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == sorted(done) and done[-1] == started.total
    previews = [x.image for x in messages if isinstance(x, m.Preview)]
    assert len(previews) == 3 + 1 and all(float(x.std()) > 0.01 for x in previews)
    assert not torch.equal(previews[0], previews[-1])
    assert made.frames.shape == (6, 32, 32, 3)
    animated = made.scene
    assert isinstance(animated.deformation, PerFrame) and len(animated.times) == 6
    assert float(animated.times[-1]) == pytest.approx(5 / 24)
    for change in animated.deformation.changes.values():
        assert float(change.abs().flatten(2 if change.ndim > 2 else 1).amax(-1).min()) > 0
    assert all(torch.equal(t, scene.canonical.tensors()[n]) for n, t in animated.canonical.tensors().items())
    entry = animated.last_entry("variation_diffusion")
    assert entry["weights"] == models.fingerprint() and entry["sampling"]["steps"] == 3
    assert [e["step"] for e in animated.history] == ["splat_to_scene", "variation_diffusion"]


def test_a_decoder_that_changes_nothing_leaves_the_splat_exactly_as_it_is(tmp_path, scene):
    models = VariationModels(save_variation(tmp_path / "still", still=True))
    far = scene.with_(canonical=moved(scene.canonical, 7.0, torch.tensor([3.0, -2.0, 9.0])))
    for splat, up in ((scene, "z up"), (far, "y down")):
        animated = animate(models, splat, config=replace(QUICK, up=up))
        for t in animated.times.tolist():
            now, before = animated.at(t).tensors(), splat.canonical.tensors()
            assert all(torch.equal(now[name], tensor) for name, tensor in before.items())


def test_same_seed_same_scene_and_another_seed_another(models, scene):
    a = animate(models, scene)
    assert same(a, animate(models, scene))
    assert not same(a, animate(models, scene, config=replace(QUICK, seed=1)))


def test_inputs_stay_as_they_were(models, scene):
    images, before = video(), {n: t.clone() for n, t in scene.canonical.tensors().items()}
    copy = images.clone()
    animate(models, scene, images)
    assert torch.equal(images, copy)
    assert all(torch.equal(t, scene.canonical.tensors()[n]) for n, t in before.items())


@pytest.mark.parametrize("up", ["z up", "y down", "y up"])
def test_a_splat_elsewhere_moves_as_one_in_the_box_would(models, scene, up):
    """Turned, scaled and moved away, with other quaternion lengths: the same motion, there."""
    shift, scale = torch.tensor([3.0, -2.0, 9.0]), 4.0
    back = {"z up": "z up", "y down": "y up", "y up": "y down"}[up]
    low, high = scene.canonical.means.amin(0), scene.canonical.means.amax(0)
    factor = 1 / float((high - low).max())
    first = moved(scene.canonical, factor, -factor * (low + high) / 2)
    signs = torch.where(torch.arange(len(first)) % 2 == 0, -1.0, 1.0)[:, None]
    there = moved(upright(first, back), scale, shift)
    there = there.with_(quats=there.quats * signs)
    a = animate(models, scene.with_(canonical=first))
    b = animate(models, scene.with_(canonical=there), config=replace(QUICK, up=up))
    for t in a.times.tolist():
        want, got = moved(upright(a.at(t), back), scale, shift).activated(), b.at(t).activated()
        torch.testing.assert_close(got.means, want.means, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(got.scales, want.scales, atol=2e-3, rtol=5e-3)
        agree = (got.quats * want.quats).sum(-1).abs()
        assert float(agree.min()) > 1 - 1e-3
        torch.testing.assert_close(got.opacities, want.opacities, atol=2e-3, rtol=1e-3)


def test_a_splat_of_another_node_is_taken_and_its_view_dependence_is_kept(models):
    plain = ball()
    shiny = plain.with_(sh=torch.cat([plain.sh, torch.full((len(plain), 3, 3), 0.1)], dim=1))
    animated = animate(models, [shiny])
    assert animated.deformation.changes["sh"].shape == (6, len(plain), 4, 3)
    assert torch.equal(animated.at(0.1).sh[:, 1:], shiny.sh[:, 1:])
    other = animate(models, [plain]).deformation.changes["means"]
    assert torch.equal(animated.deformation.changes["means"], other)


def test_it_is_trained_on_saved_and_read_back(models, scene, tmp_path):
    animated = animate(models, scene)
    save_scene(animated, tmp_path / "scene.safetensors")
    again = load_scene(tmp_path / "scene.safetensors")
    assert same(animated, again)
    config = fit_scene.Config(iterations=2, budget=300, sh_degree=0, motion="per_frame", preview_every=0)
    small = again.with_(rig=again.rig.scaled(0.1))
    trained = m.result(fit_scene.run(capture_of(small, test_views=()), config, start=small))
    assert trained.deformation.kind == "flipbook"


# -- windows ----------------------------------------------------------------------------------------------------------


def test_windows_are_chosen_by_what_the_model_was_trained_with():
    assert sampling_window(24, 24, 0, 0) == (24, 11)
    assert sampling_window(32, 24, 0, 0) == (32, 15), "as the paper samples 32 frames with a model of 24"
    assert sampling_window(33, 24, 0, 0) == (24, 11)
    assert sampling_window(5, 24, 16, 3) == (5, 3)


def test_a_window_that_covers_the_video_is_the_plain_run(models, scene):
    assert same(animate(models, scene), animate(models, scene, config=replace(QUICK, window=50, overlap=7)))


def test_a_long_video_is_sampled_in_windows_that_all_see_the_first_frame(models, scene):
    messages = list(step.run(models, scene, video(20), config=QUICK))
    assert "windows of 6 frames" in messages[0].note
    animated = messages[-1].value.scene
    assert len(animated.times) == 20 and animated.last_entry("variation_diffusion")["windows"] > 3
    space = ModelSpace.of(scene.canonical)
    run = VariationRun(models, space, torch.rand(20, 32, 32, 3), QUICK.sampling(models.config, 20))
    assert all(int(window.frames[0]) == 0 for window in run.windows)


def test_frames_have_no_order_but_that_of_their_images(models, scene):
    """Frames of a window in another order, with their noise: the same velocities and deltas in that order."""
    run = VariationRun(
        models, ModelSpace.of(scene.canonical), torch.rand(7, 32, 32, 3), QUICK.sampling(models.config, 7)
    )
    stages = run._conditions()
    with pytest.raises(StopIteration) as end:
        while True:
            next(stages)
    conditions = end.value.value
    x, order = torch.randn(1, 7, 16, 8), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    network = models.folder.transformer()
    straight = run._predictor(network, conditions, torch.arange(7))(x, 400.0)
    mixed = run._predictor(network, conditions, order)(x[:, order], 400.0)
    torch.testing.assert_close(mixed, straight[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        run.deltas(x[:, order], torch.arange(7)), run.deltas(x, torch.arange(7))[order], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("is_shared", [False, True])
def test_equal_frames_move_alike_only_where_they_start_from_the_same_noise(tmp_path, scene, is_shared):
    config = replace(CONFIG, recommended=replace(CONFIG.recommended, shared_noise=is_shared, steps=1))
    models = VariationModels(save_variation(tmp_path / "tiny", config))
    still = video()[:1].expand(6, -1, -1, -1)
    means = animate(models, scene, still).deformation.tensors()["means"]
    others = means[2:] - means[1:-1]
    assert bool(others.abs().max() < 1e-4 * means.abs().max()) == is_shared
    # more steps need the noise that the model was trained with
    assert not QUICK.sampling(
        replace(config, recommended=replace(config.recommended, steps=4)), 6
    ).shared_noise


# -- sampling ---------------------------------------------------------------------------------------------------------


def test_settings_reach_the_sampler(models, scene):
    plain = animate(models, scene)
    assert same(
        plain, animate(models, scene, config=replace(QUICK, sampler="multistep", steps=3, image_scale=1.0))
    )
    for changed in (
        {"steps": 4},
        {"sampler": "adaptive"},
        {"sampler": "singlestep"},
        {"image_scale": 2.0},
        {"canonical_scale": 2.0},
        {"anchors": "standardized"},
    ):
        assert not same(plain, animate(models, scene, config=replace(QUICK, **changed))), changed
    chunked = animate(models, scene, config=replace(QUICK, chunk=64, saves_memory=True))
    for name, change in plain.deformation.changes.items():
        torch.testing.assert_close(chunked.deformation.changes[name], change, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", ["multistep", "adaptive", "singlestep"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_resumed_runs_end_with_the_same_bits(models, scene, tmp_path, sampler, steps):
    config, checkpoint = replace(QUICK, sampler=sampler, steps=4), tmp_path / "run.generation.safetensors"
    whole = animate(models, scene, config=config)
    stream, sampled = step.run(models, scene, video(), config=config, checkpoint=checkpoint), 0
    for message in stream:
        sampled += isinstance(message, m.Progress) and message.done > 6
        if sampled == steps:
            break
    stream.close()
    other = next(step.run(models, scene, video(), config=replace(config, seed=5), checkpoint=checkpoint))
    assert "resumed" not in other.note, "the checkpoint belongs to its settings"
    messages = list(step.run(models, scene, video(), config=config, checkpoint=checkpoint))
    assert "resumed" in messages[0].note
    assert same(whole, messages[-1].value.scene)
    assert not checkpoint.exists()


def test_checkpoints_are_written_at_intervals(models, scene, tmp_path):
    ticks = iter(range(0, 10_000, 40))
    checkpoint = tmp_path / "run.safetensors"
    stream = step.run(models, scene, video(), config=QUICK, checkpoint=checkpoint, clock=lambda: next(ticks))
    assert any(isinstance(x, m.Saved) for x in stream)


# -- the published layout ---------------------------------------------------------------------------------------------


def test_the_published_layout_takes_tokens_of_dinov2(tmp_path, scene):
    encoder = save_encoder(tmp_path / "dinov2")
    channels = json.loads((encoder / "config.json").read_text())["hidden_size"]
    folder = save_variation(tmp_path / "gvf", published(channels))
    models = VariationModels(folder, encoder)
    assert models.name == "gvf + dinov2"
    made = m.result(step.run(models, scene, video(), config=QUICK))
    assert made.frames.shape == (6, 512, 512, 3)
    assert float(made.frames[:, :60].min()) == 1.0, "white around the crop"
    with pytest.raises(InputError, match="GEN-013"):
        VariationModels(folder)
    other = save_variation(tmp_path / "other", published(channels + 2))
    with pytest.raises(InputError, match=f"{channels + 2} channels.*{channels}.*GEN-014"):
        VariationModels(other, encoder)


def test_the_default_sampler_of_the_published_model_is_adaptive():
    assert gvf.VariationConfig().recommended == Recommended("adaptive", 100, 1.0, 1.0, 24)
    assert CosineSchedule().knots == 996


# -- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images, masks, code",
    [
        (video(1), None, r"1 frame.*GEN-010"),
        (torch.rand(5000, 2, 2, 3), None, r"5,000 frames.*GEN-010"),
        (torch.full((3, 8, 8, 3), torch.nan), None, "GEN-011"),
        (torch.rand(3, 40, 40, 3), None, r"no alpha.*MSK-023"),
        (video(4), torch.ones(3, 48, 48), r"3 masks for 4 images.*MSK-024"),
        (video(4), torch.zeros(4, 48, 48), r"no foreground.*MSK-026"),
        (video(4), torch.ones(4, 48, 48), "MSK-027"),
    ],
)
def test_videos_that_cannot_be_used_are_named(models, scene, images, masks, code):
    with pytest.raises(InputError, match=code):
        next(step.run(models, scene, images, masks, QUICK))


def test_splats_that_cannot_be_used_are_named(models, scene):
    first = scene.canonical
    nan = first.means.clone()
    nan[3] = torch.nan
    many = first.map(lambda t: t[:1].expand(5_000_000, *t.shape[1:]))
    for canonical, code in (
        (first.map(lambda t: t[:0]), "GEO-001"),
        (first.with_(means=nan), "GEO-003"),
        (many, r"5,000,000.*GEO-002"),
        (first.map(lambda t: t[:9]), "needs 16 anchors.*MOD-021"),
        (first.with_(logit_opacities=torch.full((len(first),), -9.0)), "GEN-012"),
    ):
        with pytest.raises(InputError, match=code):
            next(step.run(models, scene.with_(canonical=canonical), video(), config=QUICK))


def test_more_changes_than_memory_holds_are_refused_before_the_run(models, scene):
    many = scene.canonical.map(lambda t: t.repeat(1500, *[1] * (t.ndim - 1)))
    with pytest.raises(InputError, match=r"300,000 Gaussians in 700 frames.*at most 666.*GEN-015"):
        next(step.run(models, scene.with_(canonical=many), video(7).repeat(100, 1, 1, 1), config=QUICK))


def test_a_plain_background_needs_no_mask(models, scene):
    images = torch.ones(6, 48, 48, 3)
    images[:, 10:38, 12:36] = torch.tensor([0.8, 0.1, 0.1])
    made = m.result(step.run(models, scene, images, config=QUICK))
    assert float(made.frames[0, 16, 16, 1]) < 0.2 and float(made.frames[0, 0].min()) == 1.0


def test_the_subject_is_brought_over_the_splat(models, scene):
    """Small and in a corner of a wide video, it ends where the splat's silhouette is, within a pixel of 32."""
    images = torch.ones(4, 200, 300, 3)
    images[:, 20:90, 200:265] = 0.0
    made = m.result(step.run(models, scene, images, config=QUICK))
    assert "cropped" in made.note
    inside = (made.frames[0] < 0.5).all(-1)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    drawn = render_gaussians(scene.canonical, CONFIG.camera.cameras(), choose("auto")).alpha[0] > 0.5
    tall, wide = drawn.any(1).nonzero().flatten(), drawn.any(0).nonzero().flatten()
    assert abs(float(rows.float().mean() - tall.float().mean())) <= 1
    assert abs(float(columns.float().mean() - wide.float().mean())) <= 1
    assert abs(max(len(rows), len(columns)) - max(len(tall), len(wide))) <= 1


def test_frames_without_the_subject_are_listed(models, scene):
    images = video()
    images[2, ..., 3] = 0
    note = m.result(step.run(models, scene, images, config=QUICK)).note
    used = QUICK.sampling(models.config, len(images))
    assert f"{used.sampler}, {used.steps} steps, image guidance scale {used.image_scale:g}, splat" in note
    assert "anchor positions\n" in note and "one window of" in note
    assert "not visible in 1 frames (2)" in note


@pytest.mark.parametrize(
    "network, stage, setting",
    [
        (gvf.ImageEncoder, "encoding the video", "fewer frames"),
        (gvf.VariationDit, "sampling the variation field", "Lower 'window' below the 6"),
        (gvf.VariationVae, "decoding the variation field", "Lower 'decode chunk' below 8,192"),
    ],
)
def test_out_of_memory_names_the_stage_and_the_setting(models, scene, monkeypatch, network, stage, setting):
    def fails(*_args):
        # more than any machine has
        return torch.empty(1 << 55)

    monkeypatch.setattr(network, "decode" if network is gvf.VariationVae else "forward", fails)
    with pytest.raises(InputError, match=rf"(?s){stage}.*{setting}.*ENG-002"):
        animate(models, scene)


def test_weights_that_return_nan_are_named(tmp_path, scene):
    folder = save_variation(tmp_path / "broken")
    state = load_file(folder / "ema_diffusion.safetensors")
    state["input_layer.bias"][0] = torch.nan
    save_file(state, folder / "ema_diffusion.safetensors")
    with pytest.raises(InputError, match=r"transformer.*NaN.*GEN-016"):
        animate(VariationModels(folder), scene)


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_verb_animates_a_scene_file_with_a_folder_of_images(folder, scene, tmp_path, capsys):
    save_scene(scene, tmp_path / "splat.safetensors")
    frames = tmp_path / "frames"
    frames.mkdir()
    for i, image in enumerate((video() * 255).byte().numpy()):
        Image.fromarray(image).save(frames / f"{i}.png")
    out = tmp_path / "animated.safetensors"
    arguments = [
        "animate",
        "--variation",
        folder,
        "--splat",
        tmp_path / "splat.safetensors",
        "--images",
        frames,
    ]
    assert main([str(a) for a in [*arguments, "--out", out, "--device", "cpu", "--json"]]) == 0, (
        capsys.readouterr()
    )
    assert len(load_scene(out).times) == 6
