"""The loop of the trainings in one process: the bits of a plain loop, checkpoints that fit, and TensorBoard files."""

import json
import math
import os
import signal
import sys

import pytest
import torch
from torch import nn

from engine import backends
from engine.errors import InputError
from training.common.checkpoints import load_average
from training.common.loop import LoopConfig, train
from training.common.share import Share


def new_network(width=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, 1))


def losses_of(network):
    def losses(generator, progress, share):
        x = share.of(torch.randn(8, 4, generator=generator))
        y = network(x)
        return {"error": (y - x.sum(1, keepdim=True)).square().mean(), "size": 0.01 * y.square().mean()}

    return losses


def plain_loop(network, steps, lr, warmup, clip, average, seed=0):
    """What training was before there were several processes, step by step."""
    generator, losses = torch.Generator().manual_seed(seed), losses_of(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    averages = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / warmup) * (0.02 + 0.98 * cosine)
        terms = losses(generator, step / steps, Share())
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        decay = min(average, (2 + step) / (11 + step))
        for name, value in network.state_dict().items():
            averages[name].lerp_(value, 1 - decay)
    return averages


def test_one_process_trains_to_the_bits_of_a_plain_loop():
    network, other = new_network(), new_network()
    config = LoopConfig(20, lr=0.02, warmup=4, clip=0.5, average=0.9)
    averages = train(network, losses_of(network), config)
    wanted = plain_loop(other, 20, 0.02, 4, 0.5, 0.9)
    assert all(torch.equal(averages[name], wanted[name]) for name in wanted)
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(averages["0.weight"], network.state_dict()["0.weight"])


def test_a_checkpoint_of_another_configuration_is_named(tmp_path):
    path, config = tmp_path / "checkpoint.pt", LoopConfig(2)
    train(
        new_network(),
        lambda *_: {"none": torch.zeros((), requires_grad=True)},
        config,
        path,
        described={"network": {"width": 6}},
    )
    network = new_network(8)
    with pytest.raises(
        InputError, match=r"checkpoint\.pt is a checkpoint of another configuration: width is 6, not 8"
    ) as found:
        train(network, losses_of(network), config, path, described={"network": {"width": 8}})
    assert found.value.code == "NET-003"
    # a file without a description is compared by its tensors
    with pytest.raises(InputError, match=r"0\.weight has the shape 6×4, not 8×4"):
        train(network, losses_of(network), config, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read") as found:
        train(network, losses_of(network), config, path)
    assert found.value.code == "NET-002"


def test_the_averages_of_another_run_are_read_or_named(tmp_path):
    path, network = tmp_path / "checkpoint.pt", new_network()
    averages = train(network, losses_of(network), LoopConfig(2), path)
    read = new_network()
    load_average(path, read, "python -m nobody")
    assert all(torch.equal(value, averages[name]) for name, value in read.state_dict().items())
    with pytest.raises(InputError, match=r"0\.weight has the shape 6×4, not 8×4.*NET-003"):
        load_average(path, new_network(8), "python -m nobody")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read.*NET-002"):
        load_average(path, read, "python -m nobody")
    path.unlink()
    with pytest.raises(InputError, match=r"There is no checkpoint\.pt in .*`python -m nobody`.*NET-013"):
        load_average(path, read, "python -m nobody")


def test_other_settings_are_told_when_a_training_goes_on(tmp_path, capsys):
    network, path = new_network(), tmp_path / "checkpoint.pt"
    train(network, losses_of(network), LoopConfig(2), path)
    for _ in range(2):
        train(network, losses_of(network), LoopConfig(4, save_every=1), path)
    notes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert notes == [
        {"step": 2, "resumed with other settings": ["loop.steps is 2, not 4"]},
        {"resumed at step": 4},
    ]


def test_losses_are_means_over_the_steps_since_the_last_line_whatever_its_interval_was(tmp_path, capsys):
    """The checkpoint lies between two lines, and the next line comes after another number of steps."""
    path, steps = tmp_path / "checkpoint.pt", iter(range(1, 100))

    def losses(*_):
        return {"number": torch.tensor(float(next(steps)), requires_grad=True)}

    network = new_network()
    train(network, losses, LoopConfig(7), path, report_every=5)
    train(network, losses, LoopConfig(12), path, report_every=2)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    means = {line["step"]: line["number"] for line in lines if "number" in line}
    assert means == {5: 3.0, 8: 7.0, 10: 9.5, 12: 11.5}


def test_other_data_is_told_when_a_training_goes_on(tmp_path, capsys):
    class Numbered(list):
        def place(self):
            return torch.tensor([0, 0])

        def go_to(self, places):
            assert places.shape == (1, 2)

    network, path = new_network(), tmp_path / "checkpoint.pt"
    for count in (3, 3, 4):
        train(network, losses_of(network), LoopConfig(2), path, data=Numbered(range(count)))
    notes = [
        json.loads(line).get("resumed with other settings") for line in capsys.readouterr().out.splitlines()
    ]
    assert [note for note in notes if note] == [["samples is 3, not 4"]]


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_disk_that_is_full_keeps_the_last_checkpoint_and_is_one_sentence(tmp_path):
    import resource

    path, network = tmp_path / "checkpoint.pt", new_network()
    train(network, losses_of(network), LoopConfig(2), path)
    before = path.read_bytes()
    limits, signals = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=r"checkpoint\.pt was not written: .* quota"):
            train(network, losses_of(network), LoopConfig(4), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, signals)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_tensorboard_reads_back_what_was_logged(tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path, folder = tmp_path / "checkpoint.pt", tmp_path / "log"
    config, network = LoopConfig(8, save_every=4, log=folder), new_network()
    with pytest.raises(KeyboardInterrupt):
        train(network, stopping(losses_of(network), 6), config, path, 1)
    # goes on at step 4: events of steps 5 and 6 are made again
    network = new_network()
    train(network, losses_of(network), config, path, 1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) == {"loss/error", "loss/size", "learning rate", "gradient norm"}
    found = events.Scalars("loss/error")
    assert [e.step for e in found] == list(range(1, 9))
    printed = {line["step"]: line["error"] for line in lines if "error" in line}
    assert [round(e.value, 4) for e in found] == [pytest.approx(printed[e.step], abs=1e-4) for e in found]


def stopping(losses, after):
    """The losses of `after` steps, then an interruption."""
    calls = []

    def stopped(*arguments):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return losses(*arguments)

    return stopped


def test_a_missing_tensorboard_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    backends.installed.cache_clear()
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    network = new_network()
    try:
        with pytest.raises(InputError, match=r"tensorboard is not installed: .* pip install tensorboard"):
            train(network, losses_of(network), LoopConfig(2, log=tmp_path / "log"))
    finally:
        backends.installed.cache_clear()
    assert not (tmp_path / "log").exists()
