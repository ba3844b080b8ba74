"""Runs inside ComfyUI's interpreter, without a server: loads the pack as ComfyUI does and answers one question as JSON.

Usage: host_process.py TREE BASE QUESTION, where QUESTION is "schemas", "import" or a file of Python that defines
`answer(pack)`. `pack` is the pack's module; ComfyUI's modules can be imported. The environment variable GS4D_PACK names
another copy of the pack.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import runpy
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
PACK = Path(os.environ.get("GS4D_PACK") or TESTS.parent)
sys.path[:0] = [str(TESTS / "comfy"), str(TESTS / "nodes")]


def load_pack() -> ModuleType:
    """The pack under its file path as module name, which is what ComfyUI does."""
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def node_classes(pack: ModuleType) -> list[Any]:
    extension = asyncio.run(pack.comfy_entrypoint())
    return asyncio.run(extension.get_node_list())


def schemas(pack: ModuleType) -> dict[str, Any]:
    """What /object_info would say of each node, in menu order."""
    classes = node_classes(pack)
    return {c.GET_SCHEMA().node_id: c.GET_NODE_INFO_V1() for c in classes}


def main() -> None:
    tree, base, question = sys.argv[1:4]
    sys.argv[1:] = []
    import boot_comfyui

    kept_alive = boot_comfyui.mend_torchvision()
    sys.path.insert(0, tree)
    import torch

    begun_without = set(sys.modules)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.base_directory = base
    if question == "import":
        import comfy.model_management
        import comfy_api.latest  # noqa: F401 - the host has it loaded before any pack

        before = time.process_time()  # not the clock: other work on the machine is not ours
        pack = load_pack()
        entry = asyncio.run(pack.comfy_entrypoint())
        asyncio.run(entry.get_node_list())
        answer: Any = {
            "seconds": time.process_time() - before,
            "modules": sorted(
                {m.split(".")[0] for m in set(sys.modules) - begun_without if not m.startswith("/")}
            ),
        }
    elif question == "schemas":
        answer = schemas(load_pack())
    else:
        answer = runpy.run_path(question)["answer"](load_pack())
    del torch, kept_alive
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main()
