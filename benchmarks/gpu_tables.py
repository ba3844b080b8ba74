"""The report of benchmarks/gpu_report.py as Markdown, the machine that it is about, and nothing of the person who made it."""

from __future__ import annotations

import getpass
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks.environment import environment
from engine.render.hardware import cpu_name

# absolute paths of Unix and Windows, of which the last name is kept
PATHS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/]+[^\s\\/'\":,;()\[\]]+)+[\\/]+([^\s\\/'\":,;()\[\]]+)")


def machine(device: str) -> dict[str, Any]:
    """GPU, driver, CUDA, operating system and versions."""
    env = environment(device, 0)
    is_gpu = device.startswith("cuda")
    return {
        "gpu": torch.cuda.get_device_name(device) if is_gpu else "none",
        "gpu_memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
        if is_gpu
        else 0,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cpu": cpu_name(),
        "os": platform.platform(),
        "python": env["python"],
        **{name.replace("-", "_"): version for name, version in env["versions"].items()},
    }


def driver() -> str | None:
    """Version of the NVIDIA driver; None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def without_names(value: Any) -> Any:
    """JSON with paths cut to their last name, and without the names of the user and the computer."""
    if isinstance(value, dict):
        return {key: without_names(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_names(each) for each in value]
    if not isinstance(value, str):
        return value
    text = PATHS.sub(r"…/\1", value)
    for name in names():
        text = re.sub(rf"\b{re.escape(name)}\b", "…", text)
    return text


def names() -> set[str]:
    """Names of the user and the computer, those left out that are words of a report."""
    try:
        user = getpass.getuser()
    # Windows without USERNAME, containers without an entry for the user
    except (OSError, KeyError, ImportError):
        user = ""
    return {name for name in (user, Path.home().name, platform.node()) if len(name) > 2} - {
        "root",
        "localhost",
    }


def markdown(report: dict[str, Any]) -> str:
    """Tables: the machine in one line, each part in a row, rasterizers and training steps in tables of their own."""
    about, found = report["machine"], report["parts"]
    versions = ", ".join(
        f"{name} {about[name]}" for name in ("torch", "numba", "gsplat", "warp_lang") if about.get(name)
    )
    lines = [
        f"### {about['gpu']}, {about['gpu_memory_gb']} GB",
        "",
        f"Driver {about['driver'] or 'none'}, CUDA {about['cuda'] or 'none'}, {about['os']}, Python {about['python']}, "
        f"{versions}; {about['cpu']}. `make gpu-report`, {report['seconds']:.0f} s.",
        "",
        "| part | result | seconds |",
        "| --- | --- | --- |",
    ]
    for name, part in found.items():
        lines.append(
            f"| {name.replace('_', ' ')} | {cell(result_of(name, part))} | {part.get('seconds_of_part', '')} |"
        )
    lines += [
        f"| failed: {cell(name)} | {cell(why)} | |"
        for name, why in found["tests"].get("failures", {}).items()
    ]
    lines += steps_table(found["training_step"].get("rows", []))
    lines += rasterizer_table(found["rasterizer"].get("rows", []))
    return "\n".join(lines)


def cell(text: str) -> str:
    """A text within one cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def result_of(name: str, part: dict[str, Any]) -> str:
    """One part in a few words."""
    if "error" in part:
        return f"failed: {part['error']}"
    if name == "tests":
        return f"{part['passed']} passed, {part['failed']} failed, {part['skipped']} skipped"
    if name == "training_step":
        return str(part["conclusion"])
    if name == "rasterizer":
        return "see below"
    if name == "ssim":
        error, gradient = part["ssim_error"], part["gradient_error"]
        return f"off by {error:.1e}, gradient by {gradient:.1e} (relative); {part['forward_backward_ms']} ms"
    if name == "fit":
        return f"{part['iterations']} steps, {part['gaussians']} Gaussians, held-out views {part['psnr_views']:.2f} dB"
    peaks = {
        key: each["peak_mb"] for key, each in part.items() if isinstance(each, dict) and "peak_mb" in each
    }
    spent = {key: part[key]["seconds"] for key in peaks}
    return ", ".join(f"{key.replace('_', ' ')} {spent[key]} s, {peaks[key] / 1e3:.1f} GB" for key in peaks)


def steps_table(rows: list[dict[str, Any]]) -> list[str]:
    """Milliseconds of a training step of the demo."""
    if not rows:
        return []
    lines = ["", "| device | rasterizer | ms per training step of the demo |", "| --- | --- | --- |"]
    for row in rows:
        speed = row["reason"] if row["milliseconds"] is None else f"{row['milliseconds']:g}"
        lines.append(f"| {row['device']} | {row['rasterizer']} | {cell(speed)} |")
    return lines


def rasterizer_table(rows: list[dict[str, Any]]) -> list[str]:
    """Milliseconds forward / forward + backward: one line for each scene, one column for each rasterizer."""
    if not rows:
        return []
    names = list(dict.fromkeys(row["backend"] for row in rows))
    scenes: dict[tuple[int, int, int], dict[str, str]] = {}
    for row in rows:
        times = f"{row['forward_ms']:g} / {row['forward_backward_ms']:g}"
        scenes.setdefault((row["gaussians"], row["size"], row["channels"]), {})[row["backend"]] = times
    lines = [
        "",
        f"| Gaussians | image | channels | {' | '.join(names)} |",
        f"| {' | '.join(['---'] * (3 + len(names)))} |",
    ]
    for (count, size, channels), times in scenes.items():
        cells = " | ".join(times.get(name, "") for name in names)
        lines.append(f"| {count} | {size}² | {channels} | {cells} |")
    return lines
