"""Gaussians with every kind of value, and files of formats that this pack reads but does not write."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import torch

from engine.scene import Gaussians, harmonics


def varied(count: int = 400, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians without symmetry in any axis, so that a swapped or negated one shows."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    stretch = torch.tensor([2.0, 1.0, 0.5])
    return Gaussians(
        means=normal(count, 3) * stretch + torch.tensor([0.5, -1.0, 3.0]),
        log_scales=normal(count, 3) * 0.5 - torch.tensor([4.0, 3.0, 5.0]),
        quats=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        logit_opacities=normal(count) * 1.5,
        sh=torch.cat(
            [normal(count, 1, 3) * 0.6, normal(count, harmonics.bases(degree) - 1, 3) * 0.15], dim=1
        ),
    )


def ksplat_bytes(g: Gaussians, level: int, sections: Sequence[int] = (), bucket: int = 16) -> bytes:
    """A .ksplat file: sections of the given numbers of Gaussians, each with full buckets and smaller ones behind them."""
    counts = list(sections) or [len(g)]
    low, high, block = -1.5, 1.5, 32.0
    headers, bodies, start = b"", b"", 0
    for count in counts:
        part = g.map(lambda t, start=start, count=count: t[start : start + count])
        start += count
        a = part.activated()
        full = max(0, count // bucket - 1)
        rest = count - full * bucket
        partial = [rest // 3, rest - rest // 3] if rest > 2 else [rest]
        sizes = [bucket] * full + partial
        own = np.repeat(np.arange(len(sizes)), sizes)
        centers = np.stack([a.means[torch.from_numpy(own == i)].mean(0).numpy() for i in range(len(sizes))])
        means: np.ndarray = a.means.numpy()
        if level:
            means = np.rint((means - centers[own]) / (block / 2 / 32767) + 32767).astype("<u2")
        kind = "<f4" if level == 0 else "<f2"
        rgb = (part.sh[:, 0] * harmonics.C0 + 0.5).clamp(0, 1)
        rgba = (torch.cat([rgb, a.opacities[:, None]], 1) * 255).round().byte().numpy()
        high_sh = np.concatenate(
            [
                part.sh[:, harmonics.bases(d - 1) : harmonics.bases(d)]
                .transpose(1, 2)
                .reshape(count, -1)
                .numpy()
                for d in range(1, part.sh_degree + 1)
            ]
            or [np.zeros((count, 0), np.float32)],
            axis=1,
        )
        if level == 2:
            packed = np.rint((high_sh - low) / (high - low) * 255).clip(0, 255).astype("u1")
        else:
            packed = high_sh.astype(kind)
        columns = [means.astype("<f4" if level == 0 else "<u2"), a.scales.numpy().astype(kind)]
        columns += [a.quats.numpy().astype(kind), rgba, packed]
        body = np.concatenate(
            [np.ascontiguousarray(c).view("u1").reshape(count, -1) for c in columns], axis=1
        )
        storage = struct.pack(f"<{len(partial)}I", *partial) + centers.astype("<f4").tobytes()
        bodies += storage + body.tobytes()
        header = struct.pack(
            "<IIIIfHxxIIIIH", count, count, bucket, len(sizes), block, 12, 32767, len(storage), full, len(partial),
            part.sh_degree,
        )  # fmt: skip
        headers += header.ljust(1024, b"\0")
    top = struct.pack(
        "<BBxxIIIIHxx3fff", 0, 1, len(counts), len(counts), len(g), len(g), level, 0, 0, 0, low, high
    )
    return top.ljust(4096, b"\0") + headers + bodies
