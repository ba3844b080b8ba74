"""A training loop that stops and resumes: same steps, same numbers, however often it was interrupted.

On several processes (`accelerate launch`), each computes its part of every batch, and the gradients are averaged: the numbers
are those of one process with the whole batch, but for rounding.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from . import checkpoints
from .events import Events
from .processes import Processes
from .share import Losses, LossSteps, Share, Totals, finished

# loss terms of a part of a step's batch for randomness, progress in 0..1 and the part
StepLosses = Callable[[torch.Generator, float, Share], Losses | LossSteps]
# parameters with a share of the learning rate
Groups = list[dict[str, Any]]
# step, progress in 0..1 and averaged weights after a step; True stops, as if interrupted
AfterStep = Callable[[int, float, dict[str, Tensor]], bool]
# what may differ when a training is resumed without changing a number
_FREE = ("save_every", "seconds", "report_every", "log")


@dataclass(frozen=True)
class LoopConfig:
    """How to train; the learning rate falls with a cosine to a fiftieth.

    Args:
        steps: Optimizer steps in all.
        lr: Learning rate of AdamW.
        warmup: Steps in which it rises.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        average: Decay of the weights' moving average, smaller in the first steps.
        save_every: Steps between checkpoints.
        seed: All randomness.
        seconds: Stop (as if interrupted) after this CPU time; 0: no limit.
        accumulate: Parts of a process's batch whose gradients are summed up before a step.
        log: Folder of TensorBoard files; None: none.
        minutes: Train for this time on the clock instead of `steps`, over runs; the learning rate follows it. Such a training is
            resumed, but not to the bit. 0: `steps`.
    """

    steps: int
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float = 0.999
    save_every: int = 200
    seed: int = 0
    seconds: float = 0.0
    accumulate: int = 1
    log: Path | None = None
    minutes: float = 0.0


class Place(Protocol):
    """Data that is read in an order of its own, and knows where it is."""

    def place(self) -> Tensor:
        """Where this process is: a few whole numbers; the last counts samples that were skipped."""
        ...

    def go_to(self, places: Tensor) -> None:
        """Go on where the processes of a checkpoint were [P, ...]; P may differ from their number now."""
        ...

    def __len__(self) -> int:
        """How many samples there are."""
        ...


def train(
    network: nn.Module,
    losses: StepLosses,
    config: LoopConfig,
    checkpoint: Path | None = None,
    report_every: int = 50,
    data: Place | None = None,
    described: Mapping[str, Any] | None = None,
    groups: Groups | None = None,
    after: AfterStep | None = None,
) -> dict[str, Tensor]:
    """Train `network` in place and return its averaged weights.

    Args:
        network: All parameters that require gradients are trained.
        losses: Loss terms of a part of a step's batch.
        config: How to train.
        checkpoint: Where to save, and to resume from if it exists; None: in memory only.
        report_every: Steps between lines of progress.
        data: What `losses` reads samples from, if that has a place.
        described: What else the training is made with, as plain JSON; `network` is the architecture's configuration.
        groups: `params` of the network and the `share` of the learning rate that each group has; None: all, with all of it.
        after: Called by the main process.

    Raises:
        InputError: The checkpoint is damaged or of another network, or the processes do not see the same one.
    """
    made = _Training(network, losses, config, checkpoint, report_every, data, described or {}, groups)
    return made.run(after)


class _Training:
    """The state of one training; arguments as `train`."""

    def __init__(
        self,
        network: nn.Module,
        losses: StepLosses,
        config: LoopConfig,
        checkpoint: Path | None,
        report_every: int,
        data: Place | None,
        described: Mapping[str, Any],
        groups: Groups | None,
    ) -> None:
        self.network, self.losses, self.config = network, losses, config
        self.checkpoint, self.report_every, self.data = checkpoint, report_every, data
        self.processes = Processes()
        settings = {k: v for k, v in asdict(config).items() if k not in _FREE}
        samples = None if data is None else len(data)
        self.described = plain({**described, "samples": samples, "loop": settings})
        self.generator = torch.Generator().manual_seed(config.seed)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            groups or self.parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.average = {name: value.clone() for name, value in network.state_dict().items()}
        self.step, self.before, self.clock = 0, 0.0, 0.0
        # of the losses since the last report, over so many steps
        self.sums, self.summed = dict[str, Tensor](), 0
        self._resume()
        self.start, self.began = time.process_time(), time.monotonic() - self.clock

    def run(self, after: AfterStep | None) -> dict[str, Tensor]:
        config, network = self.config, self.network
        events = Events(config.log if self.processes.is_main else None, self.step)
        network.train()
        saved = -1
        while (progress := self._progress()) < 1:
            if config.seconds and self.processes.any(time.process_time() - self.start > config.seconds):
                break
            lr = (
                config.lr
                * min(1, (self.step + 1) / max(config.warmup, 1))
                * (0.02 + 0.98 * _cosine(progress))
            )
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("share", 1.0)
            self._gradients(progress)
            norm = nn.utils.clip_grad_norm_(self.parameters, config.clip)
            self.optimizer.step()
            self.step, self.summed = self.step + 1, self.summed + 1
            decay = min(config.average, (1 + self.step) / (10 + self.step))
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
            if self.step % self.report_every == 0:
                self._report(events, {"learning rate": lr, "gradient norm": float(norm)})
            if self.step % config.save_every == 0:
                self._save()
                saved = self.step
            if after is not None:
                stops = self.processes.is_main and after(self.step, self._progress(), self.average)
                if self.processes.any(stops):
                    break
        if saved != self.step:
            self._save()
        events.close()
        network.eval()
        return self.average

    def _progress(self) -> float:
        """How much of the training is done, the same in all processes."""
        if not self.config.minutes:
            return self.step / max(self.config.steps, 1)
        passed = time.monotonic() - self.began
        self.clock = float(self.processes.mean(torch.tensor(passed, dtype=torch.float64)))
        return min(1.0, self.clock / (60 * self.config.minutes))

    def _gradients(self, progress: float) -> None:
        """Gradients of the whole batch, from all its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        own, index = self.config.accumulate, self.processes.index
        parts = [Share(index * own + i, self.processes.count * own) for i in range(own)]
        waiting: list[tuple[LossSteps, Totals]] = []
        begin = self.generator.get_state()
        for part in parts:
            # all parts draw what the whole batch needs, and take their rows of it
            self.generator.set_state(begin)
            found = self.losses(self.generator, progress, part)
            if isinstance(found, dict):
                self._backward(found)
            else:
                waiting.append((found, next(found)))
        if waiting:
            totals = self._totals([totals for _, totals in waiting])
            for steps, _ in waiting:
                self._backward(finished(steps, totals))
        self.processes.average_gradients(self.parameters)

    def _totals(self, parts: list[Totals]) -> Totals:
        """Those of an average part of the whole batch."""
        if len(parts) == self.processes.count == 1:
            return parts[0]
        means = {name: sum(p[name].float() for p in parts) / len(parts) for name in sorted(parts[0])}
        return {name: self.processes.mean(torch.as_tensor(value)) for name, value in means.items()}

    def _backward(self, terms: Losses) -> None:
        total = torch.stack(list(terms.values())).sum()
        share = self.config.accumulate
        (total if share == 1 else total / share).backward()
        for name, term in terms.items():
            # on the network's device, without waiting for it
            value = term.detach().double() / share
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value

    def _report(self, events: Events, more: dict[str, float]) -> None:
        """Print the means of the losses over the last steps and all processes, and how many samples were skipped."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name].cpu() for name in names])
        means = self.processes.mean(sums / self.summed).tolist()
        skipped = 0 if self.data is None else int(self.processes.gathered(self.data.place())[:, -1].sum())
        order = list(self.sums)
        self.sums.clear()
        self.summed = 0
        if not self.processes.is_main:
            return
        by_name = dict(zip(names, means, strict=True))
        line = {"step": self.step, "seconds": round(self._seconds(), 1)}
        line |= {name: round(by_name[name], 5) for name in order}
        print(json.dumps(line | ({"skipped": skipped} if skipped else {})), flush=True)
        numbers = {f"loss/{name}": by_name[name] for name in order} | more
        events.write(self.step, numbers | ({"skipped samples": skipped} if self.data is not None else {}))

    def _seconds(self) -> float:
        return self.before + time.process_time() - self.start

    def _save(self) -> None:
        places = None if self.data is None else self.processes.gathered(self.data.place())
        # a report in the middle of its steps goes on with the sums of all processes
        sums = {name: self.processes.mean(self.sums[name].cpu()) for name in sorted(self.sums)}
        if self.checkpoint is None or not self.processes.is_main:
            return
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average,
            "step": self.step,
            "clock": self.clock,
            "seconds": self._seconds(),
            "sums": sums,
            "summed": self.summed,
            "processes": self.processes.count,
            "described": self.described,
        }
        checkpoints.save(self.checkpoint, state if places is None else {**state, "places": places})

    def _resume(self) -> None:
        path = self.checkpoint
        saved: dict[str, Any] | None = None
        if path is not None and path.is_file():
            saved = checkpoints.load(path, self.network, self.described)
        if self.processes.count > 1:
            self.processes.check_same(-1 if saved is None else saved["step"], "The step of the checkpoint")
        if saved is None:
            return
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.generator.set_state(saved["generator"])
        self.average = {n: value.to(self.average[n].device) for n, value in saved["average"].items()}
        self.step, self.before = saved["step"], saved["seconds"]
        self.clock, self.summed = saved.get("clock", 0.0), saved.get("summed", 0)
        self.sums = saved["sums"] if self.summed else {}
        notes = checkpoints.differences(saved.get("described", {}), self.described)
        then, now = saved.get("processes", 1), self.processes.count
        if then != now:
            notes.append(f"processes is {then}, not {now}")
        if self.data is not None and "places" in saved:
            self.data.go_to(saved["places"])
            if then != now:
                notes.append("the order of the samples differs from here on")
        if self.processes.is_main:
            other = {"step": self.step, "resumed with other settings": notes}
            print(json.dumps(other if notes else {"resumed at step": self.step}), flush=True)


def faster(*modules: nn.Module) -> None:
    """Let modules compute in bfloat16 where that is faster; weights and results stay 32-bit floats."""
    for module in modules:
        module.forward = partial(_in_bfloat16, module.forward)


def _in_bfloat16(forward: Callable[..., Tensor], *values: Tensor) -> Tensor:
    with torch.autocast(values[0].device.type, dtype=torch.bfloat16):
        return forward(*values).float()


def plain(value: Any) -> Any:
    """A description as JSON gives it back."""
    return json.loads(json.dumps(value, default=str))


def _cosine(progress: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * progress)
