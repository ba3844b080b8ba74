"""Opens a real ComfyUI with the pack on 127.0.0.1. Usage: python tests/comfy/launch.py [--port 8188] [--base FOLDER]

The tree is COMFYUI_PATH, or the one that setup_comfy.py unpacks. Captures go into FOLDER/input, scenes come out in
FOLDER/output; FOLDER is build/comfy in the checkout.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import server
import setup_comfy


def has_cuda(python: Path) -> bool:
    question = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([str(python), "-c", question], check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Open a real ComfyUI with the pack.")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--base", type=Path, default=server.REPOSITORY / "build" / "comfy")
    arguments, more = parser.parse_known_args()
    comfy = setup_comfy.build()
    base = server.prepare_base(arguments.base.resolve())
    if not has_cuda(comfy.python):
        more = ["--cpu", *more]
    print(f"ComfyUI with GS4D Studio: http://127.0.0.1:{arguments.port} (stop with Ctrl-C)", flush=True)
    try:
        return subprocess.run(
            server.command(comfy.tree, comfy.python, base, arguments.port, *more), check=False
        ).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
