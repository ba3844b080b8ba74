"""Convert MediaPipe's Selfie Segmentation from TensorFlow Lite to the weights of engine/models/person_matting.py.

    python training/matting/convert.py PACKAGE_FOLDER
    python training/matting/convert.py PACKAGE_FOLDER --check

PACKAGE_FOLDER is the unpacked npm package `@mediapipe/selfie_segmentation` (npm pack, tar -xf). `--check` compares the network
with LiteRT on drawn images. See the README for what has to be installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from engine.models.person_matting import (  # noqa: E402
    BUNDLED,
    PIXELS,
    WEIGHTS,
    PersonMatting,
    load_person_matting,
)

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CUSTOM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--check", action="store_true", help="compare with LiteRT instead of writing")
    arguments = parser.parse_args()
    path = arguments.package / "selfie_segmentation.tflite"
    if arguments.check:
        check(path, arguments.out)
    else:
        convert(path, arguments.package, arguments.out)


def convert(path: Path, package: Path, out: Path) -> None:
    """Write weights and config.json."""
    from safetensors.torch import save_file

    network = PersonMatting()
    modules = [
        (name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    found = convolutions(path)
    state: dict[str, torch.Tensor] = {}
    for (name, module), (kernel, bias) in zip(modules, found, strict=True):
        # [out, h, w, in], depthwise [1, h, w, channels]; torch wants [out, in, h, w] and transposed [in, out, h, w]
        is_depthwise = isinstance(module, nn.Conv2d) and module.groups > 1
        swap = is_depthwise or isinstance(module, nn.ConvTranspose2d)
        weight = kernel.transpose(3, 0, 1, 2) if swap else kernel.transpose(0, 3, 1, 2)
        if weight.shape != tuple(module.weight.shape):
            raise SystemExit(f"{name}: {weight.shape} instead of {tuple(module.weight.shape)}")
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
        state[f"{name}.bias"] = torch.from_numpy(bias)
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / WEIGHTS, {"format": "pt", "license": "Apache-2.0"})
    about = json.loads((package / "package.json").read_text())
    config = {
        "architecture": "PersonMatting",
        "pixels": PIXELS,
        "parameters": sum(t.numel() for t in state.values()),
        "source": {
            "package": about["name"],
            "version": about["version"],
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "license": about["license"],
        },
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    size = (out / WEIGHTS).stat().st_size
    print(f"{len(state)} tensors, {config['parameters']:,} parameters, {size:,} bytes")


def convolutions(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of every convolution in the order of the graph, in float16 as the file stores them."""
    import tflite

    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    names = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}

    def code_of(operator) -> str:
        code = model.OperatorCodes(operator.OpcodeIndex())
        return names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    # float32 tensors that are made from float16 constants
    stored = {int(o.Outputs(0)): int(o.Inputs(0)) for o in operators if code_of(o) == "DEQUANTIZE"}

    def constant(index: int) -> np.ndarray:
        tensor = graph.Tensors(stored[index])
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(data.tobytes(), np.float16).reshape(tensor.ShapeAsNumpy())

    return [
        (constant(int(o.Inputs(1))), constant(int(o.Inputs(2))).copy())
        for o in operators
        if code_of(o) in CONVOLUTIONS
    ]


def drawn(kind: str) -> np.ndarray:
    """Images [256, 256, 3] in 0..1 made in code: a figure of ellipses, a ramp, noise."""
    y, x = np.meshgrid(np.arange(PIXELS) / PIXELS, np.arange(PIXELS) / PIXELS, indexing="ij")
    image = np.stack([0.2 + 0.5 * y, 0.5 + 0.2 * x, 0.8 - 0.3 * y], -1)
    if kind == "noise":
        return np.random.default_rng(0).random((PIXELS, PIXELS, 3)).astype(np.float32)
    if kind == "figure":
        for cx, cy, rx, ry, color in FIGURE:
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
            image[inside] = color
    return image.astype(np.float32)


# shoulders, neck, hair, face, eyes, mouth: center, radii, color
FIGURE = (
    (0.5, 1.0, 0.36, 0.36, (0.15, 0.2, 0.4)),
    (0.5, 0.66, 0.08, 0.12, (0.75, 0.55, 0.45)),
    (0.5, 0.38, 0.19, 0.24, (0.2, 0.12, 0.08)),
    (0.5, 0.43, 0.15, 0.19, (0.85, 0.65, 0.55)),
    (0.44, 0.4, 0.025, 0.012, (0.1, 0.1, 0.1)),
    (0.56, 0.4, 0.025, 0.012, (0.1, 0.1, 0.1)),
    (0.5, 0.53, 0.05, 0.015, (0.6, 0.2, 0.2)),
)


def check(path: Path, folder: Path) -> None:
    """Print how far the network is from LiteRT, which runs the published file itself."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    place_in, place_out = (
        interpreter.get_input_details()[0]["index"],
        interpreter.get_output_details()[0]["index"],
    )
    network = load_person_matting(folder)
    for kind in ("figure", "ramp", "noise"):
        image = drawn(kind)
        interpreter.set_tensor(place_in, image[None])
        interpreter.invoke()
        wanted = interpreter.get_tensor(place_out)[0, ..., 0]
        with torch.no_grad():
            got = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
        print(
            f"{kind}: largest difference {np.abs(got - wanted).max():.2e}, mean of LiteRT {wanted.mean():.6f}"
        )
        grid = wanted.reshape(8, 32, 8, 32).mean((1, 3))
        print("means of an 8 × 8 grid:", json.dumps([round(float(v), 5) for v in grid.flatten()]))


if __name__ == "__main__":
    main()
