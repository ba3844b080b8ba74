"""What an NVIDIA GPU does with this project, in at most ten minutes: one JSON file, and tables in Markdown for an issue.

    python benchmarks/gpu_report.py [--out DIR] [--json] [--device cuda:1] [--cpu]

Runs the tests marked `gpu`, and measures training steps, rasterizers, SSIM, two minutes of training at standard quality, and the
full-size benchmarks with fewer steps. Each part is a process with a time limit of its own; a part that fails is reported and the
others run. Neither user names nor paths are written. `--cpu` runs tiny versions of all parts, to test this script.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_tables import machine, markdown, without_names
from engine.files.atomic import write_atomically
from engine.losses.photometric import ssim
from engine.render.building import end_process
from engine.render.hardware import gpu_problem, missing
from engine.render.registry import find

ROOT = Path(__file__).resolve().parents[1]
# of all parts together
SECONDS = 600.0
TESTS = ROOT / "tests"


@dataclass(frozen=True)
class Part:
    """One process: its name in the report, arguments of Python, and its limit in seconds."""

    name: str
    arguments: tuple[str, ...]
    limit: float


def parts(device: str, results: Path) -> list[Part]:
    """The parts for a GPU; they take about five minutes on a fast one."""
    names = [name for name in ("gsplat", "warp") if find(name).obstacle() is None]
    return [
        Part("tests", tests_of(marked_files(), results), 130.0),
        Part("training_step", ("-m", "engine", "prepare-gpu", "--json"), 75.0),
        benchmark("rasterizer", 60.0, "--backends", ",".join([*names, "numba"]), "--repeats", "5"),
        benchmark("gpu_report", 20.0, "--ssim", "--device", device, name="ssim"),
        benchmark(
            "fit", 155.0, "--no-static", "--quality", "standard", "--max-seconds", "120", "--device", device
        ),
        benchmark("full_size", 110.0, "--brief", "--device", device),
        benchmark("latent_edit", 50.0, "--full-size", "--brief", "--device", device, name="latent_full_size"),
    ]


def tiny_parts(results: Path) -> list[Part]:
    """The same on a CPU, as small as they can be."""
    tiny = ("--steps", "1", "--seconds", "1", "--gaussians", "300")
    return [
        Part("tests", tests_of([TESTS / "engine" / "test_rasterizer_gpu.py"], results), 120.0),
        Part("training_step", ("-m", "engine", "prepare-gpu", "--json", *tiny), 120.0),
        benchmark("rasterizer", 60.0, "--tiny", "--backends", "numba,torch"),
        benchmark("gpu_report", 60.0, "--ssim", "--device", "cpu", name="ssim"),
        benchmark(
            "fit", 120.0, "--no-static", "--iterations", "5", "--frame-count", "2", "--hold-out-every", "0",
            "--initialization", "random", "--initial-count", "200", "--device", "cpu",
        ),
        benchmark("full_size", 120.0, "--scale", "0.01", "--brief", "--device", "cpu"),
        benchmark(
            "latent_edit", 120.0, "--full-size", "--shrink", "0.01", "--brief", "--device", "cpu",
            name="latent_full_size",
        ),
    ]  # fmt: skip


def benchmark(script: str, limit: float, *arguments: str, name: str = "") -> Part:
    return Part(name or script, (str(ROOT / "benchmarks" / f"{script}.py"), "--json", *arguments), limit)


def marked_files() -> list[Path]:
    """Test files with tests for GPUs: collecting all others takes longer than these tests."""
    return [file for file in sorted(TESTS.rglob("test_*.py")) if "mark.gpu" in file.read_text("utf-8")]


def tests_of(files: list[Path], results: Path) -> tuple[str, ...]:
    return ("-m", "pytest", "-q", "-m", "gpu", f"--junitxml={results}", *map(str, files))


def outcome(part: Part, limit: float, results: Path) -> dict[str, Any]:
    """What a part reported, with its seconds; a failure as {"error": …}."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *part.arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=sys.platform != "win32",
    )
    try:
        out, errors = (text.decode("utf-8", "replace") for text in process.communicate(timeout=limit))
    except subprocess.TimeoutExpired:
        found: dict[str, Any] = {"error": f"stopped after {limit:.0f} s"}
    else:
        found = counts_of_tests(results, errors) if part.name == "tests" else last_json(out, errors)
    finally:
        end_process(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return {**found, "seconds_of_part": round(time.monotonic() - begun, 1)}


def last_json(out: str, errors: str) -> dict[str, Any]:
    """The report of a benchmark; where there is none, the last line that it wrote."""
    lines = out.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        found = None
    if isinstance(found, dict):
        return found
    said = [line for line in [*lines, *errors.strip().splitlines()] if line.strip()]
    return {"error": said[-1].strip()[:300] if said else "nothing was reported"}


def counts_of_tests(results: Path, errors: str) -> dict[str, Any]:
    """Passed, failed and skipped tests of pytest's XML report, with the first line of each failure and reason."""
    try:
        cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return last_json("", errors)
    bad = [(case, case.find(kind)) for case in cases for kind in ("failure", "error")]
    failures = {case.get("name", ""): first_line(found) for case, found in bad if found is not None}
    skips = [first_line(found) for case in cases if (found := case.find("skipped")) is not None]
    return {
        "passed": len(cases) - len(failures) - len(skips),
        "failed": len(failures),
        "skipped": len(skips),
        "failures": failures,
        "reasons_to_skip": sorted(set(skips)),
    }


def first_line(element: ElementTree.Element) -> str:
    return element.get("message", "").strip().partition("\n")[0][:200]


def ssim_difference(device: str) -> dict[str, float]:
    """Error of SSIM and its gradient on a device in float32 against the CPU in float64, and its time, on a DyNeRF-sized image."""
    size = (1014, 1352) if device != "cpu" else (60, 80)
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64)
    b = (a + 0.05 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)

    def measured(where: str, dtype: torch.dtype) -> tuple[float, torch.Tensor]:
        image = a.to(where, dtype).requires_grad_()
        value = ssim(image, b.to(where, dtype)).mean()
        (gradient,) = torch.autograd.grad(value, image)
        return float(value), gradient.double().cpu()

    exact, gradient = measured("cpu", torch.float64)
    measured(device, torch.float32)
    begun = time.perf_counter()
    ours, our_gradient = measured(device, torch.float32)
    took = time.perf_counter() - begun
    return {
        "ssim_error": abs(ours - exact),
        "gradient_error": float((our_gradient - gradient).norm() / gradient.norm()),
        "forward_backward_ms": round(1e3 * took, 2),
    }


def report(device: str, is_tiny: bool) -> dict[str, Any]:
    """All parts, as plain JSON without names of users and places."""
    begun = time.monotonic()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "tests.xml"
        for part in tiny_parts(results) if is_tiny else parts(device, results):
            left = SECONDS - (time.monotonic() - begun)
            limit = part.limit if is_tiny else min(part.limit, left)
            print(f"{part.name}: at most {max(limit, 0):.0f} s", file=sys.stderr, flush=True)
            found[part.name] = (
                outcome(part, limit, results) if limit > 1 else {"error": "not run: the ten minutes are over"}
            )
    return without_names(
        {"machine": machine(device), "seconds": round(time.monotonic() - begun, 1), "parts": found}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder for gpu_report.json and .md")
    parser.add_argument("--json", action="store_true", help="print the report as the last line, too")
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:1 for the second GPU")
    parser.add_argument("--cpu", action="store_true", help="tiny versions of all parts, on the CPU")
    parser.add_argument("--ssim", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    device = "cpu" if a.cpu else a.device
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", device) is None:
        parser.error(f"'{device}' is not a device; use cuda or cuda:1")
    problem = "" if device == "cpu" else gpu_problem() or missing(device)
    if problem:
        sys.exit(f"error: {problem} Without a GPU, --cpu only tests this script.")
    if a.ssim:
        print(json.dumps(ssim_difference(device)))
        return
    made = report(device, a.cpu)
    a.out.mkdir(parents=True, exist_ok=True)
    text = markdown(made)
    for name, content in (("gpu_report.json", json.dumps(made, indent=2)), ("gpu_report.md", text)):
        with write_atomically(a.out / name) as partial:
            partial.write_text(content + "\n", encoding="utf-8")
    print(text)
    if a.json:
        print(json.dumps(made))


if __name__ == "__main__":
    main()
