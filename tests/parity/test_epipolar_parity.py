"""Epipolar constraints and injection of key views against numbers of DGE."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.diffusion.epipolar import Epipolar, Source, forbidden, fundamental, inject, match, unpacked
from engine.scene import Cameras

FIXTURES = Path(os.environ.get("GS4D_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))
FOLDERS = sorted(p.parent for p in FIXTURES.glob("dge_epipolar*/*/config.json"))
MASKS = [p for p in FOLDERS if "resolutions" in json.loads((p / "config.json").read_text())]
INJECTIONS = [p for p in FOLDERS if p not in MASKS]
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}; set GS4D_FIXTURES"
)


def name(path: Path) -> str:
    return str(path.relative_to(FIXTURES))


def read(folder: Path):
    return json.loads((folder / "config.json").read_text()), load_file(folder / "data.safetensors")


def bits(packed: torch.Tensor, tokens: int) -> torch.Tensor:
    flat = np.unpackbits(packed.numpy())[: tokens * tokens]
    return torch.from_numpy(flat.reshape(tokens, tokens)).bool()


def distances(F: torch.Tensor, height: int, width: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    tokens = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3).double()
    lines = tokens @ F
    return (lines @ tokens.T).abs() / lines[:, :2].norm(dim=-1, keepdim=True)


@needs_fixtures
def test_there_are_fixtures():
    assert MASKS
    assert INJECTIONS


@pytest.mark.parametrize("folder", MASKS, ids=name)
def test_constraints_match_the_reference(folder: Path):
    config, data = read(folder)
    poses = data["w2c"]
    for resolution in config["resolutions"]:
        tag, height, width = resolution["tag"], resolution["H"], resolution["W"]
        K = data[f"{tag}.K"]
        for i, (key, view) in enumerate(data["pairs_key_view"].tolist()):
            F = fundamental(K, poses[view], K, poses[key])
            theirs = data[f"{tag}.fundamental"][i].double()
            sign = 1 if float((F * theirs).sum()) > 0 else -1
            assert torch.allclose(sign * F, theirs, rtol=0, atol=1e-4)
            ours = unpacked(forbidden(F, height, width, first=0.0), height * width)
            want = bits(data[f"{tag}.mask_packed"][i], height * width)
            # a row without an allowed token is unconstrained
            want = want & ~want.all(dim=1, keepdim=True)
            sure = (distances(F, height, width) - 1).abs() >= 1e-3
            assert torch.equal(ours[sure], want[sure])


@pytest.mark.parametrize("folder", INJECTIONS, ids=name)
def test_injection_matches_the_reference(folder: Path):
    config, data = read(folder)
    height, width, keys = config["H"], config["W"], config["key_views"]
    views, poses, K = config["num_views"], data["w2c"], data["K"]
    cameras = Cameras(poses, K.expand(views, 3, 3), ((width, height),) * views, tuple(map(str, range(views))))
    epipolar = Epipolar(cameras)
    sources: list[list[Source]] = []
    for view in range(views):
        order, weights = epipolar.nearest(view, keys, 1 if view < config["chunk_size"] else 2)
        assert order == data["nearest_key_order"][view, : len(order)].tolist()
        taken: list[Source] = []
        for key, weight in zip(order, weights, strict=True):
            # a chunk of one key blends nothing: the reference notes a weight of 1 or of none there
            if len(order) > 1:
                own = keys[key] == view or keys[order[0]] == view
                assert abs(float(data["weight"][view, key]) - weight) < (1e-3 if own else 1e-6)
            F = fundamental(K, poses[view], K, poses[keys[key]])
            packed = forbidden(F, height, width, first=0.0)
            taken.append(Source(key, weight, None if keys[key] == view else packed))
        sources.append(taken)
    branch = config["matching_branch"]
    hidden, key_hidden = data["normed_hidden"][branch], data["key_normed_hidden"][branch]
    got = inject(hidden, key_hidden, data["key_attention_output"], sources, reference=True)
    flagged = data["index_is_masked"].bool().any(dim=1)
    for view, taken in enumerate(sources):
        sure = ~flagged[view]
        assert float(sure.float().mean()) > 0.9
        want = data["injected_output"][:, view, sure]
        torch.testing.assert_close(got[:, view, sure], want, rtol=0, atol=1e-5)
        for source in taken:
            index = match(hidden[view], key_hidden[source.key], source.forbidden, reference=True)
            assert torch.equal(index[sure], data["index"][view, source.key][sure].long())
