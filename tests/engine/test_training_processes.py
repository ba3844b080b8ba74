"""Trainings of our networks on two processes, started by `accelerate launch`: the numbers of one process, whatever happens."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine import launched
from training.common.processes import Processes
from training.common.share import Share

REPOSITORY = Path(__file__).resolve().parents[2]


def launch(out, *names):
    """Run jobs of launched.py on two processes; their weights as process 0 and 1 have them."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
        str(REPOSITORY / "tests/engine/launched.py"), str(out), *names,
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    return done


def weights(out, name, process=0):
    return torch.load(out / f"{name}.{process}.pt", weights_only=True)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What two processes made: three trainings at once, and one that was killed and went on."""
    folder = tmp_path_factory.mktemp("launched")
    done = launch(folder, "of_video", "of_reconstruction", "of_variation", "uninterrupted")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", ["of_video", "of_reconstruction", "of_variation"])
def test_two_processes_equal_one_with_the_whole_batch(out, name):
    job, batch = launched.JOBS[name], 2 if name == "of_reconstruction" else 4
    both = [weights(out, name, process) for process in (0, 1)]
    whole = job(out, batch).state_dict()
    parts = job(out, batch // 2, accumulate=2).state_dict()
    for key, value in whole.items():
        assert torch.equal(both[0][key], both[1][key]), key
        torch.testing.assert_close(both[0][key], value, atol=2e-6, rtol=1e-5)
        # two parts of one process are the same sums in the same order
        torch.testing.assert_close(parts[key], value, atol=2e-6, rtol=1e-5)
    # and training changes more than that
    start = launched.JOBS[name](out, batch, steps=1).state_dict()
    assert max(float((whole[key] - start[key]).abs().max()) for key in whole) > 1e-4


def test_a_process_that_dies_costs_the_steps_since_the_checkpoint_and_nothing_else(out):
    failed = launch(out, "killed")
    assert failed.returncode != 0 and not (out / "killed.0.pt").exists()
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 2
    other = out / "one process"
    other.mkdir()
    (other / "checkpoint.pt").write_bytes((out / "checkpoint.pt").read_bytes())
    done = launch(out, "resumed")
    assert done.returncode == 0, done.stderr[-2000:]
    resumed, whole = weights(out, "resumed"), weights(out, "uninterrupted")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    # only the main process reports
    steps = [line for line in done.stdout.splitlines() if '"step"' in line]
    assert len(steps) == 2 and "settings" not in done.stdout


def test_another_number_of_processes_goes_on_and_says_so(out, capsys):
    folder = out / "one process"
    model = launched.JOBS["resumed"](folder, 4)
    assert "processes is 2, not 1" in capsys.readouterr().out
    # made samples are drawn for the whole batch, which has four as before
    for name, value in weights(out, "uninterrupted").items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=2e-6, rtol=1e-5)


def test_the_shares_of_a_batch_are_its_rows_in_order():
    drawn = torch.arange(12).view(6, 2)
    rows = [Share(i, 3).of(drawn) for i in range(3)]
    assert torch.equal(torch.cat(rows), drawn) and torch.equal(Share().of(drawn), drawn)
    assert [[i for i in range(6) if Share(s, 3).owns(i, 2)] for s in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_without_a_launcher_there_is_one_process():
    processes = Processes()
    assert (processes.count, processes.index, processes.is_main) == (1, 0, True)
