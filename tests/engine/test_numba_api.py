"""The undocumented parts of numba that the CPU kernels use: each is named here, and so is what would replace it."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

numba = pytest.importorskip("numba", reason="numba is not installed")

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "engine" / "kernels"
# documented as numba's low-level extension API
DOCUMENTED = {"intrinsic", "lower_builtin", "models", "register_model", "type_callable"}


class Private(NamedTuple):
    """One undocumented name."""

    owner: str  # module:attribute
    name: str
    file: str  # in engine/kernels
    use: str
    instead: str


PRIVATE = (
    Private(
        "numba:config",
        "CACHE_DIR",
        "build.py",
        "choose the folder of compiled kernels while a kernel is declared",
        "set NUMBA_CACHE_DIR before numba is imported",
    ),
    Private(
        "numba.core.base:BaseContext",
        "make_array",
        "simd.py",
        "read an array's data pointer",
        "use context.make_helper(builder, array, value)",
    ),
    Private(
        "numba.core.base:BaseContext",
        "make_tuple",
        "sums.py",
        "return K vectors at once",
        "use numba.core.cgutils.pack_array",
    ),
    Private(
        "numba.core.base:BaseContext",
        "get_dummy_value",
        "simd.py",
        "return nothing from an intrinsic",
        "return llvmlite.ir.Constant of context.get_dummy_type()",
    ),
)


def problem(used: Private) -> str | None:
    """A sentence for the person who raises numba's upper bound; None where the name is still there."""
    module, _, attribute = used.owner.partition(":")
    try:
        owner = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        owner = None
    if hasattr(owner, used.name):
        return None
    return (
        f"numba {numba.__version__} no longer has {used.owner.replace(':', '.')}.{used.name}, which "
        f"engine/kernels/{used.file} uses to {used.use}: {used.instead}, or lower the upper bound in requirements.txt"
    )


@pytest.mark.parametrize("used", PRIVATE, ids=lambda used: used.name)
def test_numba_still_has_the_undocumented_name(used: Private) -> None:
    found = problem(used)
    assert found is None, found


def test_a_missing_name_is_told_with_its_file_and_its_replacement() -> None:
    text = problem(PRIVATE[1]._replace(name="no_such_method"))
    assert text is not None
    assert "BaseContext.no_such_method" in text and "simd.py" in text and "make_helper" in text


def test_no_other_undocumented_name_of_numba_is_used() -> None:
    listed = {used.name for used in PRIVATE}
    for file in (*KERNELS.glob("*.py"), *(ROOT / "engine" / "render" / "numba").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.name}:{getattr(node, 'lineno', 0)}"
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith("numba")
                and not node.level
            ):
                names = {alias.name for alias in node.names}
                allowed = {"numba": {"types"}, "numba.extending": DOCUMENTED}.get(str(node.module), set())
                assert names <= allowed, f"{where} imports {names - allowed} from {node.module}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "context":
                    assert node.attr in listed, f"{where} uses context.{node.attr}"
                if node.value.id == "numba":
                    assert node.attr in {"njit", "config", "__version__"}, f"{where} uses numba.{node.attr}"


def test_the_undocumented_names_are_really_used() -> None:
    for used in PRIVATE:
        assert re.search(rf"\.{used.name}\b", (KERNELS / used.file).read_text(encoding="utf-8")), used


def test_the_installed_numba_lies_within_the_bounds() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    bounds = [re.fullmatch(r"numba>=(\d+)\.(\d+),<(\d+)\.(\d+)", line) for line in lines]
    low, high = next(((int(b[1]), int(b[2])), (int(b[3]), int(b[4]))) for b in bounds if b)
    now = tuple(int(n) for n in numba.__version__.split(".")[:2])
    assert low <= now < high, f"numba {numba.__version__} is installed; the tested versions end below {high}"
