"""Trainings of our networks on two processes, started by `accelerate launch`: the numbers of one process, whatever happens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine import launched
from training.camera_video.data import make_clip
from training.common.processes import Processes
from training.common.share import Share
from training.shards import files_of, write_shard

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
    """What two processes made: three trainings with made samples, and one with shards, of which one sample is broken."""
    folder = tmp_path_factory.mktemp("launched")
    (folder / "shards").mkdir()
    for name, seeds in (("a", (0, 1, 2)), ("b", (3,))):
        samples = [
            (f"{s:03d}", files_of(make_clip(s, launched.SCENE, 32).fields(), "camera-video", s))
            for s in seeds
        ]
        if name == "a":
            samples[1][1]["safetensors"] = samples[1][1]["safetensors"][:-1000]
        write_shard(folder / "shards" / f"{name}.tar", samples)
    done = launch(folder, "of_video", "of_reconstruction", "of_variation", "uninterrupted")
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "printed.txt").write_text(done.stdout)
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
    start = job(out, batch, steps=1).state_dict()
    assert max(float((whole[key] - start[key]).abs().max()) for key in whole) > 1e-4


def test_a_process_that_dies_costs_the_steps_since_the_checkpoint_and_nothing_else(out):
    failed = launch(out, "apart", "killed")
    assert failed.returncode != 0 and not (out / "killed.0.pt").exists()
    saved = torch.load(out / "checkpoint.pt", weights_only=True)
    assert (saved["step"], saved["processes"]) == (2, 2)
    other = out / "one process"
    other.mkdir()
    (other / "checkpoint.pt").write_bytes((out / "checkpoint.pt").read_bytes())
    done = launch(out, "resumed")
    assert done.returncode == 0, done.stderr[-2000:]
    resumed, whole = weights(out, "resumed"), weights(out, "uninterrupted")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    # only the main process reports: the same losses and skipped samples, but for the time
    again, once = (of_steps(text) for text in (done.stdout, (out / "printed.txt").read_text()))
    assert [line["step"] for line in again] == [3, 4, 5, 6]
    assert again == once[-4:] and once[-1]["skipped"] >= 2
    assert "settings" not in done.stdout


def test_processes_that_see_different_checkpoints_are_told_so(out):
    """Made by the launch above: on machines that share no storage, only one finds the checkpoint."""
    for process in (0, 1):
        message = (out / f"apart{process}.txt").read_text()
        assert message.startswith("The step of the checkpoint differs between the processes: 1, -1.")
        assert message.endswith("[GS4D-NET-001]")


def of_steps(text):
    """Lines of progress without their times."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"step"')]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_another_number_of_processes_goes_on_and_says_so(out, capsys):
    folder = out / "one process"
    (folder / "shards").symlink_to(out / "shards")
    model = launched.JOBS["resumed"](folder, 4)
    printed = capsys.readouterr().out
    assert "processes is 2, not 1" in printed and "the order of the samples differs from here on" in printed
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
    assert [line["step"] for line in of_steps(printed)][-4:] == [3, 4, 5, 6]


def test_made_samples_are_the_same_in_parts_and_at_once(tmp_path):
    """A training that goes on with other parts of the same batch stays the same."""
    job, path = launched.JOBS["of_video"], tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        interrupted(job, path)
    model = job(None, 4, path).state_dict()
    for name, value in job(None, 4).state_dict().items():
        torch.testing.assert_close(model[name], value, atol=2e-6, rtol=1e-5)


def interrupted(job, path):
    """Stop after the first of three steps in two parts."""
    steps, calls = launched.camera_video.loss_steps, []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return steps(*arguments)

    launched.camera_video.loss_steps = stopping
    try:
        job(None, 2, path, accumulate=2)
    finally:
        launched.camera_video.loss_steps = steps


def test_the_shares_of_a_batch_are_its_rows_in_order():
    drawn = torch.arange(12).view(6, 2)
    rows = [Share(i, 3).of(drawn) for i in range(3)]
    assert torch.equal(torch.cat(rows), drawn) and torch.equal(Share().of(drawn), drawn)
    assert [[i for i in range(6) if Share(s, 3).owns(i, 2)] for s in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_without_a_launcher_there_is_one_process():
    processes = Processes()
    assert (processes.count, processes.index, processes.is_main) == (1, 0, True)
