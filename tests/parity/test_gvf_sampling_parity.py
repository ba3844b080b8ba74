"""The cosine schedule and DPM-Solver++ against numbers of GVFDiffusion's own sampler."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.diffusion import CosineSchedule, DiscreteSchedule
from engine.diffusion.dpm_solver import adaptive, multistep, singlestep, time_uniform
from engine.diffusion.noise_schedule import cosine_betas

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
SCHEDULES = sorted(FIXTURES.glob("gvf_dit*/**/schedule.safetensors"))
SAMPLERS = sorted(p.parent for p in FIXTURES.glob("gvf_dpm_solver*/**/config.json"))
TRAJECTORIES = sorted(p.parent for p in FIXTURES.glob("gvf_dit*/**/data.safetensors"))


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures():
    assert SCHEDULES
    assert SAMPLERS


def close(got, want, tolerance):
    torch.testing.assert_close(torch.as_tensor(got, dtype=want.dtype), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("path", SCHEDULES, ids=name)
def test_discrete_cosine_schedule(path: Path):
    data = load_file(path)
    betas = torch.tensor(cosine_betas(len(data["betas"])), dtype=torch.float64)
    close(betas, data["betas"], 1e-12)
    schedule = DiscreteSchedule(torch.cumprod(1 - betas, dim=0), prediction="v_prediction")
    for i, t in enumerate(data["discrete.index"].tolist()):
        signal, sigma = schedule.rates(t)
        close(signal, data["discrete.alpha"][i], 1e-12)
        close(sigma, data["discrete.sigma"][i], 1e-12)
        noisy = schedule.add_noise(data["q_sample.x0"][i], data["q_sample.noise"][i], t)
        close(noisy, data["q_sample.x_t"][i], 1e-6)


@pytest.mark.parametrize("path", SCHEDULES, ids=name)
def test_continuous_cosine_schedule(path: Path):
    data, schedule = load_file(path), CosineSchedule()
    assert schedule.knots == int(data["total_N"])
    for i, t in enumerate(data["continuous.t"].tolist()):
        signal, sigma = schedule.rates(t)
        close(signal, data["continuous.alpha"][i], 1e-6)
        close(sigma, data["continuous.sigma"][i], 1e-5)
        close(schedule.half_log_snr(t), data["continuous.lambda"][i], 1e-3)
        close(schedule.network_time(t), data["continuous.network_t"][i], 1e-3)
    for value, t in zip(data["inverse.lambda"].tolist(), data["inverse.t"], strict=True):
        close(schedule.time_at(value), t, 1e-6)


@pytest.mark.parametrize("folder", SAMPLERS, ids=name)
def test_samplers_on_an_analytic_network(folder: Path):
    config, data = json.loads((folder / "config.json").read_text()), load_file(folder / "data.safetensors")
    stub, schedule = config["stub"], CosineSchedule()
    means = [
        data[n].flatten(1).mean(dim=1)[:, None, None, None] for n in ("in.static_latent", "in.cond_images")
    ]
    for case, options in config["cases"].items():
        calls: list[float] = []

        def predict(x, t, g=options["g"], calls=calls):
            calls.append(t)
            plain = stub["a"] * torch.sin(stub["b"] * x + stub["c"] * t) + stub["d"] * x
            static, both = (plain + stub["e"] * m for m in (means[0], means[0] + means[1]))
            return both if g is None else plain + g[0] * (static - plain) + g[1] * (both - static)

        method = {"multistep": multistep, "singlestep": singlestep, "adaptive": adaptive}[options["method"]]
        # the reference counts network calls
        steps = {"multistep": options["steps"], "singlestep": options["steps"] // 2}.get(options["method"])
        samples = list(method(predict, data["in.noise"], schedule, *(() if steps is None else (steps,))))
        loose = options["method"] == "adaptive"
        close(calls, data[f"out.{case}.network_t"], 0.5 if loose else 1e-3)
        tolerance = 2e-3 if loose else 1e-4 if options["g"] is None else 2e-4
        close(samples[-1].latents, data[f"out.{case}.final"], tolerance)
        states = data.get(f"out.{case}.states")
        if states is not None:
            ours = [sample.latents for sample in samples]
            close(torch.stack(ours), states[-len(ours) :], tolerance)


@pytest.mark.parametrize("folder", TRAJECTORIES, ids=name)
def test_a_trajectory_with_the_reference_network_s_outputs(folder: Path):
    """Given what the network said at each step, every state is the reference's."""
    data = load_file(folder / "data.safetensors")
    for key in [k for k in data if k.endswith(".network_v")]:
        case = key.removesuffix(".network_v")
        outputs, times = iter(data[key]), data[f"{case}.times"]
        steps = len(times) - 1
        close(time_uniform(CosineSchedule(), steps), times, 1e-6)
        noise = data["in.sample_noise"][0]
        samples = multistep(lambda x, t, outputs=outputs: next(outputs), noise, CosineSchedule(), steps)
        close(torch.stack([s.latents for s in samples]), data[f"{case}.states"][1:], 2e-4)
