"""Ctrl-C and SIGTERM: a true sentence, the right exit code, and a checkpoint that the same command continues from."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine import messages as m
from engine.cli import follow
from engine.cli.stopping import Stopped, Unfinished, signals, stoppable
from tests.faults.commands import ENDINGS, RESUMED, ROOT, Inputs, is_one_sentence, start

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Training:
    """Steps that send a signal to this process, once each, and what became of them."""

    def __init__(self, at: set[int]) -> None:
        self.at, self.steps, self.saved = at, 0, -1

    def stream(self) -> m.Stream:
        whole = True
        if 0 in self.at:
            signal.raise_signal(signal.SIGTERM)
        yield m.Started(5)
        try:
            for step in range(1, 6):
                whole = False
                if step in self.at:
                    signal.raise_signal(signal.SIGTERM)
                self.steps, whole = step, True
                yield m.Progress(step)
        finally:
            self.saved = self.steps if whole else -2
        yield m.Finished("scene")


def stopped(training: Training, **more: Any) -> bool:
    with stoppable():
        try:
            follow(training.stream(), True, **more)
        except Stopped as stop:
            assert stop.number == signal.SIGTERM
            return True
    return False


def test_a_step_is_finished_and_kept_before_a_command_stops() -> None:
    training = Training({3})
    assert stopped(training, resumes=True) and (training.steps, training.saved) == (3, 3)


def test_without_a_checkpoint_or_before_the_first_step_nothing_is_waited_for() -> None:
    for at, resumes in ((3, False), (0, True), (1, True)):
        training = Training({at})
        assert stopped(training, resumes=resumes) and training.steps == max(at - 1, 0)


def test_what_is_made_is_written_though_a_signal_comes() -> None:
    written: list[object] = []

    def put_away(value: object) -> None:
        signal.raise_signal(signal.SIGINT)
        written.append(value)

    assert not stopped(Training(set()), resumes=True, put_away=put_away) and written == ["scene"]


def test_a_second_signal_does_not_wait() -> None:
    with stoppable(), pytest.raises(Stopped), signals.waiting():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it waited")


def test_a_signal_inside_a_destructor_stops_too() -> None:
    begun = time.monotonic()
    with stoppable(), pytest.raises(Stopped):
        thing = type("Thing", (), {"__del__": lambda _: signal.raise_signal(signal.SIGINT)})()
        del thing
        time.sleep(5)
    assert time.monotonic() - begun < 4


def test_handlers_of_the_caller_come_back() -> None:
    before = [signal.getsignal(number) for number in CODES]
    with stoppable():
        pass
    assert [signal.getsignal(number) for number in CODES] == before
    # in a thread nothing is touched, and nothing fails
    thread = threading.Thread(target=lambda: stoppable().__enter__())
    thread.start()
    thread.join()


def test_the_sentence_names_a_checkpoint_only_where_this_command_wrote_it(tmp_path: Path) -> None:
    path, unfinished = tmp_path / "a.training.safetensors", Unfinished()
    unfinished.watch(path)
    assert "no unfinished work" in unfinished.sentence()
    path.write_text("state")
    assert "a.training.safetensors keeps the unfinished work" in unfinished.sentence()
    later = Unfinished()
    later.watch(path)
    assert "as it was" in later.sentence()


def lines_until(process: subprocess.Popen[str], word: str) -> Generator[str, None, None]:
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        if word in line:
            return


@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
def test_a_training_stopped_in_a_process_keeps_its_work(
    inputs: Inputs, tmp_path: Path, number: signal.Signals
) -> None:
    command = inputs.command("fit-edits", tmp_path / "a.safetensors", 100_000)
    process = start(command)
    list(lines_until(process, "  1/100000"))
    time.sleep(0.2)
    process.send_signal(number)
    begun = time.monotonic()
    said = process.communicate(timeout=60)[1]
    # a second on an idle machine
    assert time.monotonic() - begun < 10
    assert process.returncode == CODES[number] and is_one_sentence(said)
    assert "a.fitting.safetensors keeps the unfinished work" in said.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.fitting.safetensors"]
    process = start(command)
    assert any("resumed at step" in line for line in lines_until(process, "resumed"))
    process.kill()
    process.communicate()


def test_while_libraries_are_loaded_a_signal_is_one_sentence() -> None:
    script = "import os, signal, threading, runpy, sys\n"
    script += "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
    script += "sys.argv = ['engine', '--help']\nrunpy.run_module('engine', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 130 and done.stderr.strip().splitlines() == ["stopped; no work had begun"]


@pytest.mark.parametrize("verb", list(ENDINGS))
def test_a_command_stopped_at_a_random_moment(inputs: Inputs, tmp_path: Path, verb: str, draw: int) -> None:
    random = Random(f"{verb} {draw}")
    number = random.choice(list(CODES))
    process = start(inputs.command(verb, tmp_path / f"a{ENDINGS[verb]}", 2000))
    # the interpreter itself is not ready to be told before
    time.sleep(random.uniform(0.2, 8))
    ended = process.poll() is not None
    process.send_signal(number)
    begun = time.monotonic()
    said = process.communicate(timeout=60)[1]
    took = time.monotonic() - begun
    assert ended or took < 3, f"{took:.1f} s"
    assert is_one_sentence(said) and process.returncode in (0, CODES[number]), said
    kept = [path.name for path in tmp_path.iterdir()]
    assert not [name for name in kept if name.endswith(".partial")]
    if process.returncode:
        last = said.strip().splitlines()[-1]
        assert last.startswith("stopped")
        assert (" keeps the unfinished work" in last) == bool(kept and verb in RESUMED), (last, kept)
