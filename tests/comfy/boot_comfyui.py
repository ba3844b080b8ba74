"""Runs a ComfyUI tree's main.py. Usage: boot_comfyui.py TREE [main.py's arguments].

torchvision's usual wheel registers operators that its CUDA-built library defines; with a CPU build of torch that library
does not load, and importing torchvision fails on the missing schemas. Defining two schemas before the import is enough:
nothing on the CPU path calls them.
"""

import importlib.metadata
import os
import runpy
import sys


def mend_torchvision() -> object:
    """What keeps the definitions alive, where they are needed."""
    builds = [importlib.metadata.version(package) for package in ("torch", "torchvision")]
    if "+cpu" not in builds[0] or "+cpu" in builds[1]:
        return None
    import torch

    schemas = torch.library.Library("torchvision", "FRAGMENT")
    schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    schemas.define("qnms(Tensor dets, Tensor scores, Tensor dets_scale, Tensor dets_zero, float t) -> Tensor")
    return schemas


def main() -> None:
    tree = os.path.abspath(sys.argv[1])
    kept_alive = mend_torchvision()
    sys.path[0] = tree
    sys.argv = [os.path.join(tree, "main.py"), *sys.argv[2:]]
    os.chdir(tree)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        del kept_alive


if __name__ == "__main__":
    main()
