"""What the registry, ComfyUI Manager and pip read about the pack: said once, and within the registry's rules."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import engine

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
# ComfyUI brings these, built for the user's GPU: a pack that lists one may replace it by another build
THE_HOSTS_OWN = {"torch", "torchvision", "torchaudio", "psutil"}
# where the import's name is not the package's
PACKAGE_OF = {"PIL": "pillow", "yaml": "pyyaml", "llvmlite": "numba", "warp": "warp-lang", "pxr": "usd-core"}


def listed(name: str) -> list[str]:
    """The lines of a requirements file that name a package."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_the_engine_reports_the_version_of_pyproject() -> None:
    assert engine.__version__ == PROJECT["project"]["version"]


def test_the_version_is_a_semantic_one_and_static() -> None:
    """ComfyUI Manager reads `version` itself: it does not know a pack whose version is dynamic."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["project"]["version"])
    assert "dynamic" not in PROJECT["project"]


def test_requirements_and_pyproject_list_the_same_dependencies() -> None:
    assert listed("requirements.txt") == PROJECT["project"]["dependencies"]


@pytest.mark.parametrize(
    "lines",
    [listed("requirements.txt"), *PROJECT["project"]["optional-dependencies"].values()],
    ids=["requirements.txt", *PROJECT["project"]["optional-dependencies"]],
)
def test_no_dependency_replaces_what_comfyui_installed(lines: list[str]) -> None:
    for requirement in map(Requirement, lines):
        assert requirement.name.lower() not in THE_HOSTS_OWN
        assert not {spec.operator for spec in requirement.specifier} & {"==", "==="}, requirement
        assert any(spec.operator == ">=" for spec in requirement.specifier), (
            f"{requirement}: from which version?"
        )


def imported_packages() -> dict[str, str]:
    """Top-level names that the engine imports from outside the standard library, each with a file that does."""
    found: dict[str, str] = {}
    for file in sorted((REPOSITORY / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.partition(".")[0], file.relative_to(REPOSITORY).as_posix())
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names}


def test_every_package_that_the_engine_imports_is_listed() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    listed_names = {
        Requirement(line).name.lower() for lines in (listed("requirements.txt"), *extras) for line in lines
    }
    unlisted = {
        name: file
        for name, file in imported_packages().items()
        if PACKAGE_OF.get(name, name) not in listed_names | THE_HOSTS_OWN
    }
    assert not unlisted


def test_the_registry_accepts_the_metadata() -> None:
    """https://docs.comfy.org/registry/specifications"""
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    name = project["name"]
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[-_.](?![-_.])){,98}", name) and "comfyui" not in name
    assert set(project["license"]) == {"file"} and (REPOSITORY / project["license"]["file"]).is_file()
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert comfy["PublisherId"] and comfy["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
