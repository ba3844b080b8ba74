"""Runs a ComfyUI tree's main.py with a CPU torch. Usage: boot_comfyui.py TREE [main.py's arguments].

torchvision's wheel registers operators that its CUDA-built library would define; with a CPU torch that library does not
load, and importing torchvision fails on the missing schemas. Defining two schemas before the import is enough: nothing
on the CPU path calls them.
"""

import os
import runpy
import sys


def main() -> None:
    tree = os.path.abspath(sys.argv[1])
    import torch

    schemas = None
    if not torch.cuda.is_available():
        try:
            schemas = torch.library.Library("torchvision", "FRAGMENT")
            schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            schemas.define(
                "qnms(Tensor dets, Tensor scores, Tensor dets_scale, Tensor dets_zero, float t) -> Tensor"
            )
        except RuntimeError:
            pass  # a torchvision that works has already defined them
    sys.path[0] = tree
    sys.argv = [os.path.join(tree, "main.py"), *sys.argv[2:]]
    os.chdir(tree)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        del schemas  # kept alive until here: the definitions go with the object


if __name__ == "__main__":
    main()
