"""The papers' sizes: a step without memory, and samples with a video model's latents."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from engine.models.reconstruction import LatentFormat
from tests.engine.test_reconstruction_training import CONFIG, SHAPE
from training.common.full_size import GIB, cost
from training.reconstruction import data
from training.reconstruction import paper as reconstruction_paper
from training.reconstruction import train as reconstruction
from training.variation_field import dit, paper, vae

# the published networks' parameters, and what Diff4Splat leaves open as the model's own configuration says
SIZES = {
    "reconstruction": (reconstruction.main, 220.8),
    "vae": (vae.main, 125.2),
    "dit": (dit.main, 105.5),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_papers_size_takes_a_step_on_the_meta_device(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train", "--config", "paper", "--meta", "--batch", "1"])
    main, millions = SIZES[name]
    main()
    step, memory, operations = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert step["parameters"] / 1e6 == pytest.approx(millions, abs=0.05)
    sizes = memory["GiB without activations"]
    one = 4 * step["parameters"] / GIB
    # AdamW keeps two averages of the gradient
    for part, times in {"weights": 1, "gradients": 1, "AdamW": 2, "averaged weights": 1, "all": 5}.items():
        assert sizes[part] == pytest.approx(times * one, abs=0.02), part
    # at least six for each parameter of the torso and each token
    assert operations["teraFLOPs of a step"] > 6 * step["parameters"] * 512 / 1e12
    assert not list(tmp_path.iterdir())


def test_operations_are_those_of_products_and_grow_with_the_batch():
    counted = cost(lambda: nn.Linear(8, 4), lambda network: network(torch.empty(16, 8)).sum())
    # forward, and the gradient of the weights
    assert counted.operations == 2 * (2 * 16 * 8 * 4)
    assert (counted.parameters, counted.weights, counted.optimizer) == (36, 144, 288)
    small = replace(paper.DIT, model_channels=32, num_blocks=1, num_heads=2)
    one, two = (paper.dit_step(batch, small, 3, 8, 10, 12) for batch in (1, 2))
    # all but the timestep's embedding and modulation depends on the tokens
    assert 1.9 * one.operations < two.operations <= 2 * one.operations
    with pytest.raises(RuntimeError, match="does not train bias"):
        cost(lambda: nn.Linear(8, 4), lambda network: network.weight.sum())


def test_a_step_with_latents_of_a_video_model():
    config = replace(
        CONFIG, latent=LatentFormat(6, 4, 8), patch=2, deconv_channels=(12, 10, 8, 8), image_input=False, correspondences="none"
    )  # fmt: skip
    sample = data.make_sample(3, SHAPE, config)
    sample = replace(sample, latents=torch.randn(6, 2, 4, 4).half())
    kind = data.sample_kind(config)
    read = kind.build({name: value.clone() for name, value in sample.fields().items()})
    assert torch.equal(read.latents, sample.latents)
    model, training = reconstruction.new_model(config), reconstruction.Training()
    stage = reconstruction.STAGES["one"][0]
    terms = reconstruction.step_losses(model, [read], stage, training, torch.Generator().manual_seed(0))
    sum(terms.values()).backward()
    assert float(model.embed.latent.weight.grad.abs().max()) > 0
    with pytest.raises(ValueError, match="latents must have 2 × 4 × 4 cells"):
        kind.build({**sample.fields(), "latents": sample.latents[:, :, :2]})


def test_the_papers_size_asks_for_samples_that_it_can_read(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["train", "--config", "paper", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        reconstruction.main()
    assert "--config paper needs --data" in capsys.readouterr().err
    assert reconstruction_paper.CONFIG.width == 1024 and not (tmp_path / "run").exists()
