"""Losses of the networks' trainings on the pretend GPU: nothing is mixed with CPU tensors, and they are those of the CPU."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch

from tests.engine import launched
from tests.pretend_gpu.device import PretendGPU
from tests.pretend_gpu.rasterizer import rasterizer_on
from tests.tiny_image_model import VIDEO
from training.camera_video import train as camera_video
from training.camera_video.data import make_clip
from training.common.share import finished
from training.reconstruction import data, scenes
from training.reconstruction import train as reconstruction
from training.variation_field import data as variation_field
from training.variation_field import dit, pictures, vae
from training.variation_field.losses import VaeWeights

CLIP = variation_field.ClipShape(frames=5, points=96, gaussians=160, anchors=8)


@pytest.fixture
def gpu() -> Generator[PretendGPU]:
    with PretendGPU() as made, rasterizer_on(made):
        yield made
    # rasterizers that were chosen while it was there
    pictures._rasterizer.cache_clear()
    reconstruction._rasterizer.cache_clear()


def of_video():
    model = camera_video.new_model(VIDEO)
    clips = [make_clip(seed, launched.SCENE, 32) for seed in (0, 1)]
    training = camera_video.Training(batch=2)
    return model, lambda generator: finished(camera_video.loss_steps(model, clips, training, generator))


def of_reconstruction():
    model = reconstruction.new_model(launched.LDRM)
    shape = data.SampleShape(scenes.SceneShape(frames=5), size=32, views=5)
    samples, stage = [data.make_sample(3, shape, launched.LDRM)], reconstruction.Stage(1.0, 32, True)
    training = reconstruction.Training(queries=2)
    return model, lambda generator: finished(
        reconstruction.loss_steps(model, samples, stage, training, generator)
    )


def of_variation():
    model = vae.new_vae(launched.VAE)
    clips = [variation_field.make_clip("limbed", seed, CLIP).packed() for seed in (0, 1)]
    training = vae.VaeTraining(
        VaeWeights(truth=1.0), batch=2, frames=2, gaussians=32, images=2, image_steps=1
    )
    return model, lambda generator: vae.vae_losses(model, clips, training, generator)


def of_transformer():
    encoder = dit.ImageEncoderShape(channels=8, token_channels=16, projected_channels=16)
    shape = dit.VariationDitShape(4, 4, 48, 14, 16, num_blocks=1, num_heads=4, projected_channels=16)
    network, pool = dit.new_generator(shape, encoder), variation_field.Pool(2, {"limbed": 1}, CLIP)
    latents = dit.Latents(vae.new_vae(launched.VAE), pool, tokens=16)
    clips = [latents[0], latents[1]]
    config = dit.DitTraining(batch=2, frames=3, decoded=0.5, gaussians=16)

    def losses(generator):
        latents.vae.to(next(network.parameters()).device)
        return dit.dit_losses(network, latents, clips, config, generator)

    return network, losses


@pytest.fixture(
    scope="module",
    params=[of_video, of_reconstruction, of_variation, of_transformer],
    ids=lambda f: f.__name__,
)
def training(request):
    """Network, losses, and what they are on the CPU with the gradients' norms."""
    network, losses = request.param()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())),
                alpha=0.01,
            )
    return network, losses, values(network, losses)


def values(network, losses):
    network.zero_grad()
    terms = losses(torch.Generator().manual_seed(0))
    torch.stack(list(terms.values())).sum().backward()
    norms = {n: p.grad.norm().cpu().item() for n, p in network.named_parameters() if p.grad is not None}
    return {name: term.detach().cpu().item() for name, term in terms.items()}, norms


def test_losses_and_gradients_are_those_of_the_cpu(training, gpu):
    network, losses, (terms, norms) = training
    network.to("cuda")
    assert {p.device.type for p in network.parameters()} == {"cuda"}
    found, gradients = values(network, losses)
    assert found == pytest.approx(terms, rel=1e-4, abs=1e-6)
    assert gradients.keys() == norms.keys() and max(norms.values()) > 0
    assert gradients == pytest.approx(norms, rel=1e-2, abs=1e-5)
