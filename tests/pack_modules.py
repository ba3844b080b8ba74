"""Modules of nodes/ that need no ComfyUI, loaded without the package's `__init__`, which does."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import engine.files.jsonfile
import engine.render  # noqa: F401 - with the rooms below it
from tests.conftest import ROOT

PACK = "pack_without_comfyui"


def pack_module(name: str) -> ModuleType:
    """nodes/`name`.py on the engine that the tests import, so that both know the same classes.

    What it imports of the engine must be imported already.
    """
    full = f"{PACK}.nodes.{name}"
    if full not in sys.modules:
        for known in [n for n in sys.modules if n.partition(".")[0] == "engine"]:
            sys.modules[f"{PACK}.{known}"] = sys.modules[known]
        spec = importlib.util.spec_from_file_location(full, ROOT / "nodes" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]
