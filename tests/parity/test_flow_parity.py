"""Euler sampling of rectified flows against numbers of TRELLIS' own samplers."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.diffusion.flow import StraightSchedule, euler, guided
from engine.models.trellis import StructureFlow, StructureFlowShape

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
ANALYTIC = sorted(p.parent for p in FIXTURES.glob("trellis_flow_euler*/**/config.json"))
NETWORKS = sorted(p.parent for p in FIXTURES.glob("trellis_ss_flow*/**/config.json"))


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


def schedule_of(settings: dict[str, Any], sigma_min: float) -> StraightSchedule:
    return StraightSchedule(settings["rescale_t"], sigma_min)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES")
def test_there_are_fixtures():
    assert ANALYTIC
    assert NETWORKS


@pytest.mark.parametrize("folder", ANALYTIC, ids=name)
def test_samplers_on_an_analytic_network(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    data = load_file(folder / "data.safetensors")
    k = config["model"]
    for case, settings in config["cases"].items():
        calls: list[float] = []

        def velocity(x: Tensor, t: float, cond: Tensor, calls: list[float] = calls) -> Tensor:
            calls.append(t)
            return k["a"] * torch.sin(k["b"] * x + k["c"] * t) + k["d"] * cond.mean(dim=(1, 2)).view(
                -1, 1, 1, 1, 1
            )

        schedule = schedule_of(settings, config["sigma_min"])
        # a run without guidance has no strength, one with guidance at all times no interval
        predict = guided(
            lambda x, t: velocity(x, t, data["in.cond"]),
            lambda x, t: velocity(x, t, data["in.neg_cond"]),
            schedule,
            settings.get("cfg_strength", 0.0),
            tuple(settings.get("cfg_interval", (0.0, 1.0))),
        )
        samples = list(euler(predict, data["in.noise"], schedule, settings["steps"]))
        for key, got in (
            ("x_t", torch.stack([s.latents for s in samples])),
            ("x_0", torch.stack([s.clean for s in samples])),
            ("final", samples[-1].latents),
        ):
            torch.testing.assert_close(got, data[f"out.{case}.{key}"], rtol=0, atol=2e-5)
        times = data[f"out.{case}.network_t_per_call"]
        assert len(calls) == len(times), case
        torch.testing.assert_close(torch.tensor(calls), times, rtol=0, atol=1e-3)


@pytest.mark.parametrize("folder", NETWORKS, ids=name)
@torch.no_grad()
def test_a_guided_run_of_the_structure_flow(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    data = load_file(folder / "data.safetensors")
    known = {field.name for field in fields(StructureFlowShape)}
    model = StructureFlow(StructureFlowShape(**{k: v for k, v in config["args"].items() if k in known}))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    settings, cond = config["sampler"], data["in.cond"][:1]
    schedule = schedule_of(settings, settings["sigma_min"])
    predict = guided(
        lambda x, t: model(x, torch.tensor([t]), cond),
        lambda x, t: model(x, torch.tensor([t]), torch.zeros_like(cond)),
        schedule,
        settings["cfg_strength"],
        tuple(settings["cfg_interval"]),
    )
    samples = list(euler(predict, data["in.sample_noise"], schedule, settings["steps"]))
    for key, got in (
        ("x_t", torch.cat([s.latents for s in samples])),
        ("x_0", torch.cat([s.clean for s in samples])),
        ("final", samples[-1].latents),
    ):
        torch.testing.assert_close(got, data[f"out.sampler.{key}"], rtol=0, atol=1e-4)
