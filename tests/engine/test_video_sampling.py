"""Sampling one network as v-prediction and as a flow: known data is met, and both go the same way."""

import itertools

import pytest
import torch

from engine.diffusion import DiscreteSchedule, NoiseSchedule
from engine.diffusion.flow import StraightSchedule, euler
from engine.diffusion.frames import latent_frames
from engine.diffusion.sampling import Straightened, as_v_prediction, ddim, straight_alphas
from engine.errors import InputError
from engine.frame_counts import frames_of
from tests.tiny_cogvideox import SCHEDULER

SCHEDULE = DiscreteSchedule.from_config(SCHEDULER)
FLOW = Straightened(discrete=SCHEDULE)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_gaussian(mean, deviation):
    """The perfect v-prediction network for data that is Gaussian."""

    def predict(x, t):
        signal, sigma = SCHEDULE.rates(t)
        clean = mean + signal * deviation**2 / (signal**2 * deviation**2 + sigma**2) * (x - signal * mean)
        noise = (x - signal * clean) / sigma
        return signal * noise - sigma * clean

    return predict


@pytest.mark.parametrize("kind", ["ddim", "flow"])
def test_a_gaussian_is_sampled_with_its_mean_and_deviation(kind):
    predict, noise = of_gaussian(1.5, 0.4), random(4000)
    if kind == "ddim":
        *_, last = ddim(predict, noise, SCHEDULE, 200)
    else:
        *_, last = euler(FLOW.velocity(predict), noise, FLOW, 200)
    assert float(last.latents.mean()) == pytest.approx(1.5, abs=0.02)
    assert float(last.latents.std()) == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("kind", ["ddim", "flow"])
def test_a_single_video_is_met_in_one_step(kind):
    target, noise = random(1, 4, 3, 4, 4), random(1, 4, 3, 4, 4, seed=1)
    predict = of_gaussian(target, 0.0)
    for steps in (1, 7):
        samples = list(
            ddim(predict, noise, SCHEDULE, steps)
            if kind == "ddim"
            else euler(FLOW.velocity(predict), noise, FLOW, steps)
        )
        assert len(samples) == steps
        torch.testing.assert_close(samples[0].clean, target)
        torch.testing.assert_close(samples[-1].latents, target)


def test_a_step_of_ddim_is_an_euler_step_of_the_straightened_network():
    def predict(x, t):
        return (x + t / 300).sin()

    velocity, times, x = FLOW.velocity(predict), FLOW.straight_times, random(2, 4, 3)
    for t, earlier in itertools.pairwise([999, 700, 320, 5]):
        here, there = (sum(SCHEDULE.rates(time)) for time in (t, earlier))
        stepped = SCHEDULE.step(predict(x, t), x, t, earlier)
        straight = FLOW.step(velocity(x / here, t), x / here, times[t], times[earlier])
        torch.testing.assert_close(straight * there, stepped)


def test_flow_times_are_timesteps_and_evenly_spaced():
    assert isinstance(FLOW, NoiseSchedule)
    times = FLOW.times(10)
    assert times[0] == 1 and times[-1] == 0 and len(times) == 11
    assert all(time == FLOW.straight_times[int(FLOW.network_time(time))] for time in times[:-1])
    assert max(abs(time - (1 - i / 10)) for i, time in enumerate(times)) < 2e-3
    shifted = Straightened(discrete=SCHEDULE, shift=3.0).times(10)
    assert sum(time > 0.5 for time in shifted) > sum(time > 0.5 for time in times)
    # no timestep is asked twice, however many steps are wanted
    many = FLOW.times(1000)
    assert len(set(many)) == len(many) and many == sorted(many, reverse=True)


def test_weights_of_a_flow_are_a_v_prediction_network_and_back():
    straight = DiscreteSchedule(straight_alphas(), "v_prediction", "trailing")
    flow = Straightened(discrete=straight)
    assert flow.straight_times[249] == pytest.approx(0.25) and straight.alpha(999) == 0
    asked = []

    def velocity(x, t):
        asked.append(t)
        return (x * 1.3 - t / 500).cos()

    x = random(2, 4, 3)
    back = flow.velocity(as_v_prediction(velocity, straight))
    for timestep in (999, 500, 3):
        torch.testing.assert_close(back(x, timestep), velocity(x, timestep + 1))
        assert asked[-2] == pytest.approx(timestep + 1)
    # the velocity of the straight schedule, so that euler samples both alike
    clean, noise = random(5), random(5, seed=1)
    known = as_v_prediction(lambda _x, _t: noise - clean, straight)
    noisy = straight.add_noise(clean, noise, 300)
    torch.testing.assert_close(straight.predict_x0(known(noisy, 300), noisy, 300), clean)
    *_, last = euler(flow.velocity(known), noise, flow, 4)
    torch.testing.assert_close(last.latents, clean)
    *_, plain = euler(lambda _x, _t: noise - clean, noise, StraightSchedule(sigma_min=0.0), 4)
    torch.testing.assert_close(last.latents, plain.latents)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noising_is_diffusers_own(shift):
    diffusers = pytest.importorskip("diffusers", reason="compares with diffusers' own scheduler")
    config = {**SCHEDULER, "snr_shift_scale": shift}
    theirs = diffusers.CogVideoXDDIMScheduler(**{k: v for k, v in config.items() if k != "_class_name"})
    ours = DiscreteSchedule.from_config(config)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=1e-10, atol=1e-14)
    theirs.set_timesteps(4)
    assert ours.timesteps(4) == theirs.timesteps.tolist()
    noisy, output = random(2, 4, 3), random(2, 4, 3, seed=1)
    for t, earlier in zip(ours.timesteps(4), [*ours.timesteps(4)[1:], -1], strict=True):
        expected = theirs.step(output, t, noisy).prev_sample
        torch.testing.assert_close(ours.step(output, noisy, t, earlier), expected)


@pytest.mark.parametrize(
    ("frames", "factor", "latent"), [(1, 4, 1), (9, 4, 3), (49, 4, 13), (81, 4, 21), (13, 6, 3)]
)
def test_frames_and_latent_frames(frames, factor, latent):
    assert latent_frames(frames, factor, "it") == latent and frames_of(latent, factor) == frames


@pytest.mark.parametrize(
    ("frames", "nearest"), [(50, "49 or 53"), (0, "1 or 5"), (52, "49 or 53"), (4, "1 or 5")]
)
def test_another_length_offers_the_nearest_two(frames, nearest):
    with pytest.raises(InputError, match=f"cannot make {frames} frames.*Choose {nearest} frames"):
        latent_frames(frames, 4, "it")
    with pytest.raises(InputError, match="Choose 9 or 17 frames"):
        latent_frames(13, 4, "CogVideoX", 2)
