"""Optional packages and memory of this machine, with the errors for missing ones. The only place that probes."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import logging
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from .errors import InputError

log = logging.getLogger("gs4d")

HINTS = {
    "numba": "the fast CPU rasterizer needs the package numba: pip install numba",
    "gsplat": "the CUDA rasterizer needs the package gsplat and a CUDA build of torch: pip install gsplat",
    "warp": "the GPU rasterizer needs the package warp-lang (Windows, Linux): pip install warp-lang",
    "av": "reading and writing video needs the package av: pip install av",
    "fourdgs": "writing .4dgs files needs the package fourdgs: pip install fourdgs",
    "pxr": "OpenUSD files need the package usd-core, version 26.3 or newer: pip install usd-core",
    "diffusers": "diffusion models need the package diffusers: pip install diffusers",
    "transformers": "diffusion models need the package transformers: pip install transformers",
    "accelerate": "diffusion models need the package accelerate: pip install accelerate",
    "sentencepiece": "this model's tokenizer needs the package sentencepiece: pip install sentencepiece",
    "tensorboard": "TensorBoard files of a training need the package tensorboard: pip install tensorboard",
    "yaml": "job files need the package pyyaml: pip install pyyaml",
    "ray": "running jobs on a cluster needs the package ray: pip install ray",
    "scipy": "this step needs the package scipy: pip install scipy",
}


_LIBRARIES = tuple(importlib.machinery.EXTENSION_SUFFIXES)
# whether a compiler was allowed → why gsplat does not work
_gsplat: dict[bool, str | None] = {}
_NO_MEMORY = re.compile(r"out of memory|ALLOC_FAILED|\bMemoryError\b", re.IGNORECASE)
_OF_A_GPU = re.compile(r"cuda|cudnn|cublas|hip\b", re.IGNORECASE)
_GIB = 1 << 30
_UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


@lru_cache
def installed(package: str) -> bool:
    """Whether `package` can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def require(package: str) -> None:
    """Raise InputError with the install command if an optional package is missing."""
    if not installed(package):
        raise InputError(
            "ENG-001", f"{package} is not installed: {HINTS.get(package, f'pip install {package}')}."
        )


def require_usd() -> None:
    """Raise InputError with the install command where usd-core is missing or does not know Gaussian splats yet."""
    require("pxr")
    try:
        from pxr import UsdVol

        is_known = hasattr(UsdVol, "ParticleField3DGaussianSplat")
    # another program's pxr, with fewer modules or for another Python
    except ImportError:
        is_known = False
    if not is_known:
        raise InputError(
            "USD-002",
            "The installed usd-core does not know Gaussian splats, which OpenUSD has since 26.3: pip install --upgrade usd-core.",
        )


@lru_cache
def memory() -> float:
    """Bytes of main memory; 64 GB where neither the system nor psutil tells."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    # Windows has no sysconf; psutil is in every ComfyUI
    except (AttributeError, ValueError, OSError):
        if not installed("psutil"):
            return 64e9
        import psutil

        return float(psutil.virtual_memory().total)


def free_memory() -> float:
    """Bytes of main memory that this process may still take: what is available, within the limits of its shell and container."""
    used, limit = _memory_used()
    available = memory()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    # there is no such file on Windows and macOS
    except (OSError, ValueError, StopIteration):
        if installed("psutil"):
            import psutil

            available = float(psutil.virtual_memory().available)
    return max(0.0, min(available, limit - used))


def shortage(need: float) -> str:
    """ "8.9 GB of memory, but 3.2 GB are free" where `need` bytes of main memory are more than are free; else empty."""
    free = free_memory()
    return f"{_amount(need)} of memory, but {_amount(free)} are free" if need > free else ""


def gsplat_obstacle(may_compile: bool = False) -> str | None:
    """Why gsplat's CUDA kernels cannot be used; None if they can. Tested once, then cached.

    PyPI's gsplat comes without compiled kernels and runs nvcc and a C++ compiler for minutes when it is imported. Without
    `may_compile`, it is imported only if its kernels are already built, so no compiler is ever started.
    """
    if not torch.cuda.is_available() or not installed("gsplat"):
        return HINTS["gsplat"]
    if getattr(sys.modules.get("gsplat.cuda._backend"), "_C", None) is not None:
        return None
    if may_compile not in _gsplat:
        _gsplat[may_compile] = _load_gsplat(may_compile)
    # a compiler error says more than "kernels are missing"
    return _gsplat[may_compile] and (_gsplat.get(True) or _gsplat[may_compile])


def gsplat_built(reason: str | None) -> str | None:
    """Remember how another process fared that compiled gsplat's kernels. Returns why they cannot be used; None if they can."""
    _gsplat.clear()
    if reason is not None:
        _gsplat[True] = reason
    return gsplat_obstacle()


def _load_gsplat(may_compile: bool) -> str | None:
    """Import gsplat's kernels, or return why that failed. Catches everything that an import or a compiler may raise."""
    try:
        built = _built_kernels()
        if built is not None:
            _load_kernels(*built)
    except (Exception, SystemExit) as error:
        if not may_compile:
            return f"gsplat's compiled kernels cannot be loaded ({short(error)})"
        built = None
    if built is None and not may_compile:
        return "gsplat has no compiled kernels; Prepare GPU with 'compile gsplat' compiles them once (needs a CUDA toolkit)"
    if built is None:
        log.info("gsplat: compiling its CUDA kernels, which takes some minutes the first time")
    try:
        from gsplat.cuda._backend import _C  # pyright: ignore
    except (Exception, SystemExit) as error:
        sys.modules.pop("gsplat.csrc", None)
        return f"gsplat cannot be imported ({short(error)})"
    return None if _C is not None else "gsplat found no CUDA toolkit (nvcc) to compile its kernels with"


def _built_kernels() -> tuple[str, Path] | None:
    """(module name, file) of kernels that came with gsplat or that torch compiled earlier; None if there are none."""
    spec = importlib.util.find_spec("gsplat")
    folders = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    for folder, suffix in itertools.product(folders, _LIBRARIES):
        if (folder / f"csrc{suffix}").is_file():
            return "gsplat.csrc", folder / f"csrc{suffix}"
    # kernels older than gsplat or torch were compiled for another version
    versions = [
        file for file in (*(f / "version.py" for f in folders), Path(torch.__file__)) if file.is_file()
    ]
    newest = max(file.stat().st_mtime for file in versions)
    for suffix in _LIBRARIES:
        file = _jit_folder() / f"gsplat_cuda{suffix}"
        if file.is_file() and file.stat().st_mtime >= newest:
            return "gsplat_cuda", file
    return None


def _jit_folder() -> Path:
    """Folder of the kernels that torch compiled for gsplat (torch.utils.cpp_extension); it may not exist."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        from torch.utils.cpp_extension import get_default_build_root

        python = f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}"
        root = Path(get_default_build_root()) / f"{python}_cu{(torch.version.cuda or '').replace('.', '')}"
    return Path(root) / "gsplat_cuda"


def _load_kernels(name: str, file: Path) -> None:
    """Load a library as `gsplat.csrc`, which gsplat looks for before it compiles."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is not a library for this Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["gsplat.csrc"] = module


def short(error: BaseException) -> str:
    """An error of any kind in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU's or the main memory ran out."""
    # Warp, and CUDA itself where torch does not allocate, raise plain RuntimeErrors
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or names_full_memory(str(error))


def names_full_memory(text: str) -> bool:
    """Whether a message, such as the last line of another process, says that memory ran out."""
    return _NO_MEMORY.search(text) is not None or _asked(text) is not None


@contextmanager
def explains_memory(
    doing: str,
    device: torch.device | str | None = None,
    advice: str = "Lower the resolution or the batch size.",
) -> Generator[None, None, None]:
    """Inside, running out of memory becomes an InputError that says how much was requested and which setting to lower.

    `device`: the GPU whose memory is reported if it is a GPU's that runs out (None: the current one).
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        text = str(error)
        wanted = _asked(text)
        on_gpu = isinstance(error, torch.OutOfMemoryError) or _OF_A_GPU.search(text) is not None
        needed = _gpu_shortage(wanted, device) if on_gpu else _shortage(wanted)
        raise InputError(
            "ENG-002",
            f"Out of memory while {doing}: {needed}. {advice}",
        ) from error


def _gpu_shortage(wanted: int | None, device: torch.device | str | None) -> str:
    """What would be needed of a GPU's memory, and what it has."""
    if not torch.cuda.is_available():
        return f"{_amount(wanted)} more were requested of the GPU" if wanted else "the GPU's memory is full"
    # a step may render on the CPU while its model is on a GPU
    where = torch.device(device) if device is not None and torch.device(device).type == "cuda" else None
    held, total = (
        torch.cuda.memory_allocated(where),
        torch.cuda.get_device_properties(where).total_memory,
    )
    torch.cuda.empty_cache()
    return f"about {(held + (wanted or 0)) / _GIB:.1f} GB needed, but the GPU has {total / _GIB:.1f} GB"


def _shortage(wanted: int | None) -> str:
    """What was requested, what the process uses already, and what it may use."""
    used, limit = _memory_used()
    may = f"this process may use {_amount(limit)}"
    if wanted is None:
        return f"{may} and uses {_amount(used)} already" if used else may
    return f"{_amount(wanted)} more were requested{f' on top of {_amount(used)}' if used else ''}, and {may}"


def _memory_used() -> tuple[float, float]:
    """Bytes that this process uses (0 if unknown) and may use: a limit of its shell, of its container, or all memory."""
    pages = _numbers("/proc/self/statm")
    size, resident = (n * os.sysconf("SC_PAGE_SIZE") for n in pages[:2]) if len(pages) > 1 else (0.0, 0.0)
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            # of addresses, not of memory in use
            return size, float(limit)
    # Windows has no resource
    except ImportError:
        pass
    return resident, min([memory(), *_numbers("/sys/fs/cgroup/memory.max")])


def _numbers(path: str) -> list[float]:
    """The numbers in a file of the system; empty where there is none, or no numbers."""
    try:
        return [float(word) for word in Path(path).read_text().split()]
    except (OSError, ValueError):
        return []


def _amount(size: float) -> str:
    return f"{size / _GIB:.1f} GB" if size >= _GIB else f"{max(1, round(size / (1 << 20)))} MB"


def _asked(message: str) -> int | None:
    """Requested bytes according to an allocator's error message; None for other messages."""
    found = re.search(r"(?:[Tt]ried|[Uu]nable|[Ff]ailed) to allocate ([\d.]+) (bytes|[KMGT]iB)", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None
