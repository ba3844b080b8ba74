"""Whatever an installed gsplat does when it is imported ends in one remembered reason, and auto starts no compiler.

gsplat is a package written by the test: its `_backend` does what the real one does, in the same order (1.5.3).
"""

import os
import sys
from pathlib import Path

import pytest
import torch

from engine import backends
from engine.errors import InputError
from engine.render import choose, choose_device, gsplat_cuda, remark

# gsplat/cuda/_backend.py: prebuilt kernels, else the compiler
BACKEND = """
from pathlib import Path
count = Path({log!r})
count.write_text(count.read_text() + "imported\\n" if count.exists() else "imported\\n")
try:
    from gsplat import csrc as _C
except ImportError:
    count.write_text(count.read_text() + "compiler\\n")
    {compiler}
"""
KERNELS = "kernels = True\n"
CALLED_PROCESS = "import subprocess; raise subprocess.CalledProcessError(1, ['where', 'cl'])"
UNICODE = "b'\\xff'.decode()"
SYNTAX = "compile('(', 'gsplat', 'exec')"
DONE = "_C = object()"
NO_TOOLKIT = "_C = None"


@pytest.fixture
def gsplat(tmp_path, monkeypatch):
    """Makes the package; returns what it did so far as a function. Torch says that there is a GPU."""
    done = tmp_path / "done.txt"

    def make(compiler: str, init: str = "") -> Path:
        package = tmp_path / "site" / "gsplat"
        (package / "cuda").mkdir(parents=True)
        (package / "__init__.py").write_text(init)
        (package / "cuda" / "__init__.py").write_text("")
        (package / "cuda" / "_backend.py").write_text(BACKEND.format(log=str(done), compiler=compiler))
        return package

    def forget():
        backends.installed.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "gsplat"]:
            del sys.modules[name]

    make.did = lambda: done.read_text().split() if done.exists() else []
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_gsplat", {})
    make.really_wrong_here = gsplat_cuda._wrong_here
    # its kernels draw nothing
    monkeypatch.setattr("engine.render.gsplat_cuda._wrong_here", lambda index: None)
    # a test cannot compile a library: kernels are Python here, loaded in the same way
    monkeypatch.setattr(backends, "_LIBRARIES", (".py",))
    forget()
    yield make
    forget()


@pytest.mark.parametrize("compiler", [CALLED_PROCESS, UNICODE, SYNTAX, DONE, NO_TOOLKIT])
def test_auto_never_starts_a_compiler(gsplat, compiler, caplog):
    gsplat(compiler)
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose_device("auto") == "cpu"
        assert choose("auto", "cuda").name == "torch"
        assert choose("auto", "cpu").name == "numba"
    assert gsplat.did() == [], "not even imported"
    assert caplog.text.count("gsplat has no compiled kernels") == 2, (
        "both lines that would have taken it say why"
    )


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (CALLED_PROCESS, "CalledProcessError: Command '['where', 'cl']' returned non-zero exit status 1"),
        (UNICODE, "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff"),
        (SYNTAX, "SyntaxError"),
        (NO_TOOLKIT, "no CUDA toolkit"),
        ("raise KeyError('CUDA_HOME')", "KeyError: 'CUDA_HOME'"),
        ("raise OSError('libcudart.so.12: cannot open')", "OSError: libcudart.so.12: cannot open"),
        (
            "raise SystemExit('Microsoft Visual C++ is required')",
            "SystemExit: Microsoft Visual C++ is required",
        ),
    ],
)
def test_a_failure_is_tried_once_remembered_and_said(gsplat, compiler, reason, caplog):
    gsplat(compiler)
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            choose("gsplat", "cuda")
        assert reason in str(caught.value) and "choose rasterizer 'auto'" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert gsplat.did() == ["imported", "compiler"]
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose("auto", "cuda").name == "torch"
        assert choose_device("auto") == "cpu"
    assert caplog.text.count(reason) == 2, "auto says what was found out, without trying again"
    assert gsplat.did() == ["imported", "compiler"]


def test_who_asks_for_gsplat_by_name_may_have_it_compiled_and_auto_takes_it_then(gsplat):
    gsplat(DONE)
    assert choose_device("auto") == "cpu"
    assert choose("gsplat", "cuda").name == "gsplat"
    assert gsplat.did() == ["imported", "compiler"]
    assert choose_device("auto") == "cuda"
    assert choose("auto", "cuda").name == "gsplat"


def test_prebuilt_kernels_are_taken_without_a_compiler(gsplat):
    package = gsplat(CALLED_PROCESS)
    (package / "csrc.py").write_text(KERNELS)
    assert choose("auto", "cuda").name == "gsplat"
    assert sys.modules["gsplat.cuda._backend"]._C.kernels
    assert gsplat.did() == ["imported"]


def test_prebuilt_kernels_of_another_torch_start_no_compiler(gsplat, caplog):
    package = gsplat(DONE)
    (package / "csrc.py").write_text("raise ImportError('undefined symbol: _ZN3c10')")
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose("auto", "cuda").name == "torch"
    assert gsplat.did() == [] and "undefined symbol: _ZN3c10" in caplog.text
    assert choose("gsplat", "cuda").name == "gsplat", "compiled anew where it was asked for by name"
    assert gsplat.did() == ["imported", "compiler"]


def test_kernels_that_were_compiled_before_are_taken_without_a_compiler(gsplat, tmp_path):
    gsplat(CALLED_PROCESS)
    cached = tmp_path / "extensions" / "gsplat_cuda" / "gsplat_cuda.py"
    cached.parent.mkdir(parents=True)
    cached.write_text(KERNELS)
    assert choose("auto", "cuda").name == "gsplat"
    assert gsplat.did() == ["imported"]


def test_kernels_older_than_the_installed_gsplat_are_not_loaded(gsplat, tmp_path, caplog):
    package = gsplat(CALLED_PROCESS)
    (package / "version.py").write_text("__version__ = '1.6.0'\n")
    cached = tmp_path / "extensions" / "gsplat_cuda" / "gsplat_cuda.py"
    cached.parent.mkdir(parents=True)
    cached.write_text("raise SystemError('of another version')")
    os.utime(cached, (1, 1))
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose("auto", "cuda").name == "torch"
    assert gsplat.did() == [] and "gsplat has no compiled kernels" in caplog.text


def test_a_package_that_breaks_beside_good_kernels_is_said(gsplat, caplog):
    package = gsplat(DONE, init="import a_module_that_is_nowhere")
    (package / "csrc.py").write_text(KERNELS)
    with caplog.at_level("INFO", logger="gs4d"):
        assert choose("auto", "cuda").name == "torch"
    assert "No module named 'a_module_that_is_nowhere'" in caplog.text


def test_the_folder_of_compiled_kernels_is_torchs_own(monkeypatch, tmp_path):
    from torch.utils import cpp_extension

    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(backends._jit_folder()) == cpp_extension._get_build_directory("gsplat_cuda", verbose=False)


def test_kernels_that_fail_when_they_are_used_are_tried_once_and_a_note_says_why(gsplat, monkeypatch):
    """Kernels for another kind of GPU load, and fail at their first call."""
    package = gsplat(
        DONE, init="def rasterization(**given):\n    raise RuntimeError('no kernel image is available')\n"
    )
    (package / "csrc.py").write_text(KERNELS)
    calls = []

    def difference(device, ours):
        calls.append(device)
        from gsplat import rasterization

        rasterization()

    monkeypatch.setattr("engine.render.gsplat_cuda._wrong_here", gsplat.really_wrong_here)
    monkeypatch.setattr("engine.render.self_check.difference", difference)
    monkeypatch.setattr("engine.render.self_check._found", {})
    for _ in range(2):
        assert choose("auto", "cuda").name == "torch"
        said = remark("auto", "cuda")
        assert said.startswith("torch rasterizer on cuda")
        assert (
            "gsplat would be faster: gsplat failed on this GPU (RuntimeError: no kernel image is available)"
            in said
        )
    assert remark("auto", "cpu", is_free=True).startswith(
        "numba rasterizer on the CPU; gsplat would be faster"
    )
    assert calls == ["cuda:0"]
