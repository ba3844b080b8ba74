"""What is made of a trained variation field: the bundled folder, the demo, fits, the stages of the canonical decoder."""

import json

import pytest
import torch

from engine.models import variation_field as gvf
from engine.models.trellis import GaussianDecoderShape, GaussianFormat
from training.common.loop import LoopConfig
from training.variation_field import canonical, card, data, demo, dit, evaluate, export, fit, losses, vae

SHAPE = data.ClipShape(frames=4, points=96, gaussians=200, anchors=8)
TINY_VAE = gvf.VariationVaeShape(1, 48, 8, 4, 4, appearance_input=True, anchor_positions=True)
ENCODER = gvf.ImageEncoderShape(channels=8, token_channels=16, projected_channels=16)
DIT = gvf.VariationDitShape(4, 4, 48, 14, 16, num_blocks=1, num_heads=4, projected_channels=16)
TOYS = {"limbed": 1, "bending": 1}


@pytest.fixture
def trained(monkeypatch):
    """Networks of random weights, with statistics."""
    monkeypatch.setattr(dit, "STATISTICS_CLIPS", 2)
    model, network = vae.new_vae(TINY_VAE), dit.new_generator(DIT, ENCODER)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.to_outputs.weight.normal_(std=0.02, generator=generator)
        for parameter in network.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return network.eval(), dit.Latents(vae.folded(model), data.Pool(2, TOYS, SHAPE))


def test_an_exported_folder_generates_what_the_run_does(trained, tmp_path):
    network, latents = trained
    export.export(network, latents, tmp_path, steps=1)
    assert json.loads((tmp_path / "gs4d.json").read_text())["recommended"]["steps"] == 1
    again, other = export.loaded(tmp_path, latents.pool)
    clip = latents[0]
    motions = []
    for net, lat in ((network, latents), (again, other)):
        found = dit.sampled(net, lat.statistics, clip)
        motions.append(lat.vae.decode(found[None], clip.clip.vector[None]))
    # half precision
    torch.testing.assert_close(motions[1], motions[0], atol=2e-3, rtol=2e-2)
    assert float(motions[0][..., :3].abs().max()) > 1e-3
    assert other.vae.position_encoding[0].omega.dtype == torch.float64


def test_the_card_holds_the_measured_figures(trained, tmp_path):
    network, latents = trained
    export.export(network, latents, tmp_path, steps=4)
    found = evaluate.evaluate_generated(network, latents, [latents[0], latents[1]])
    text = card.card({"generated_limbed": found}, tmp_path, "a test")
    assert f"| generated, 4 steps | **{found['psnr_4_steps']:.1f}** |" in text
    assert f"| standing still | {found['psnr_still']:.1f} |" in text and "(a test)" in text
    count = sum(p.numel() for p in (*network.parameters(), *latents.vae.parameters()))
    assert f"{count / 1e6:.1f} million parameters" in text


def test_the_figures_of_a_perfect_and_of_a_still_motion(trained):
    _, latents = trained
    clip = latents.pool[0]
    assert evaluate.rendered_psnr(clip, clip.deltas.float()) > 60
    still = evaluate.rendered_psnr(clip, None)
    assert still == pytest.approx(evaluate.rendered_psnr(clip, torch.zeros_like(clip.deltas).float()))
    assert still < 40 and evaluate.position_error(clip, clip.deltas.float()) == 0
    scores = evaluate.evaluate_generated(*trained, [latents[0], latents[1]], steps=(1, 2))
    assert {"psnr_1_steps", "psnr_2_steps", "psnr_wrong_video", "psnr_vae", "psnr_still"} <= set(scores)


def test_the_demo_is_of_a_seed_that_no_training_draws(tmp_path):
    with pytest.raises(ValueError, match="trained"):
        demo.write("limbed", 3, tmp_path)


def test_a_fit_follows_a_video_better_than_standing_still(monkeypatch):
    """With a decoder that was trained for a moment, so that latents mean motion."""
    monkeypatch.setattr(dit, "STATISTICS_CLIPS", 1)
    pool, model = data.Pool(1, {"limbed": 1}, SHAPE), vae.new_vae(TINY_VAE)
    config = vae.VaeTraining(losses.VaeWeights(mesh=0, truth=3.0), batch=1, frames=4, gaussians=128, images=0)
    vae.train_vae(model, pool, config, LoopConfig(40, lr=5e-3, warmup=5, average=0.8))
    latents = dit.Latents(vae.folded(model), pool)
    clip = latents[0]
    found = fit.fitted(latents, clip, fit.still(latents, clip), steps=40)
    with torch.no_grad():
        deltas = latents.vae.decode(found[None], clip.clip.vector[None])[0]
    # from the video's own camera
    assert evaluate.rendered_psnr(clip.clip, deltas, views=(0,)) > 0.5 + evaluate.rendered_psnr(
        clip.clip, None, views=(0,)
    )


def small_decoder():
    form = GaussianFormat(8, scale_bias=0.02)
    return canonical.CanonicalVae(GaussianDecoderShape(8, 48, 4, 1, 4, window_size=4, gaussians=form))


def test_the_canonical_decoder_learns_alone():
    torch.manual_seed(0)
    network, pool = small_decoder(), data.Pool(1, {"limbed": 1}, SHAPE)

    def cost():
        terms, _ = canonical.canonical_losses(
            network, pool[0], canonical.CanonicalWeights(), torch.Generator().manual_seed(9), views=4
        )
        assert set(terms) == {"canonical_image", "canonical_kl", "volume", "opacity"}
        return float(terms["canonical_image"])

    before = cost()
    canonical.train_alone(network, pool, LoopConfig(25, lr=3e-3, warmup=3, average=0.5))
    assert cost() < 0.9 * before


def test_the_joint_stage_trains_both_networks():
    torch.manual_seed(0)
    joint = canonical.Joint(small_decoder(), vae.new_vae(TINY_VAE))
    with torch.no_grad():
        joint.vae.to_outputs.weight.normal_(std=0.01)
    clip = data.make_clip("limbed", 1, SHAPE)
    terms = canonical.joint_losses(
        joint, clip, canonical.CanonicalWeights(), losses.VaeWeights(), torch.Generator().manual_seed(0)
    )
    assert {"image", "mesh", "kl", "canonical_image"} <= set(terms)
    terms["image"].backward()
    for weight in (joint.canonical.decoder.out_layer.weight, joint.vae.mean_fc.weight):
        assert float(weight.grad.abs().max()) > 0
