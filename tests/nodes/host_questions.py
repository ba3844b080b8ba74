"""Asked inside ComfyUI's interpreter by test_host.py: what the pack's host side does with ComfyUI's own functions."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PROGRESS = ["<img src=x> & &lt;", "[[a|https://b]] www.c __LNK0__", "12 of 30 · loss 0.1 [8:20 left] a_b/c:d"]


def answer(pack: ModuleType) -> dict[str, Any]:
    # what main.py does with --base-directory
    import folder_paths

    base = Path.cwd()
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.models_dir = str(base / "models")
    for name in ("input", "output", "models/gs4d"):
        (base / name).mkdir(parents=True, exist_ok=True)
    nodes = importlib.import_module(pack.__name__ + ".nodes")
    nodes.extension()
    part = {
        name: importlib.import_module(f"{pack.__name__}.nodes.{name}")
        for name in ("host", "folders", "unfinished", "model_folders", "compat", "mesh_files", "video_clip")
    }
    errors = importlib.import_module(pack.__name__ + ".engine.errors")
    messages = importlib.import_module(pack.__name__ + ".engine.messages")
    files = importlib.import_module(pack.__name__ + ".engine.files.folders")
    return {
        "gradients": gradients(part["host"]),
        "cancel": cancel(part["host"], messages),
        "previews": previews(part["host"], messages),
        "paths": paths(part["folders"], errors.InputError, base),
        "checkpoints": checkpoints(part["unfinished"]),
        "stops": stops(part["unfinished"]),
        "lists": lists(
            part["folders"],
            part["model_folders"],
            [part["mesh_files"], part["video_clip"]],
            files,
            base,
            errors.InputError,
        ),
        "splats": splats(part["compat"]),
        "labels": labels(messages),
        "progress": [part["host"].inert(text) for text in PROGRESS],
        "output": outputs(part["host"]),
        "wired": wired(nodes),
        "depth_beside": depth_beside(nodes, base),
        "numbers": numbers(pack, errors.InputError),
        "error": shown_error(part["host"], errors.InputError),
    }


def gradients(host: ModuleType) -> dict[str, Any]:
    """A tensor that another node made in inference mode, trained on as our nodes do it."""
    with torch.inference_mode():
        foreign = torch.ones(3)
        with host.node_context():
            leaf = host.detach(foreign).requires_grad_()
            (leaf * 2).sum().backward()
            return {"gradient": leaf.grad.tolist(), "foreign": foreign.tolist()}


def cancel(host: ModuleType, messages: ModuleType) -> dict[str, Any]:
    """ComfyUI's interrupt arrives while a stream runs: the stream must see its end, and the exception must go on."""
    import comfy.model_management as management

    seen: list[str] = []

    def stream() -> Any:
        try:
            yield messages.Started(10, "")
            for i in range(10):
                if i == 3:
                    management.interrupt_current_processing()
                yield messages.Progress(i + 1)
                seen.append(f"step {i + 1}")
        finally:
            seen.append("closed")

    try:
        host.follow(stream(), None)
    except management.InterruptProcessingException:
        seen.append("interrupted")
    return {"seen": seen}


def previews(host: ModuleType, messages: ModuleType) -> dict[str, Any]:
    """What is streamed of one and of three previews (1, 2 and 3 pixels wide), with the figure (9 wide) that follows."""
    import comfy.utils
    from PIL import Image

    found: dict[str, Any] = {}
    for holds_back in (False, True):
        for count in (0, 1, 3):
            streamed: list[int] = []

            def hook(value: int, total: int, preview: Any, node_id: str, seen: list[int] = streamed) -> None:
                if preview is not None:
                    seen.append(preview[1].width)

            def stream(count: int = count) -> Any:
                yield messages.Started(count + 1, "")
                for i in range(count):
                    yield messages.Preview(torch.zeros(1, i + 1, 3), i + 1)
                yield messages.Finished(None)

            comfy.utils.set_progress_bar_global_hook(hook)
            live = host.LivePreviews("1", holds_back)
            try:
                host.follow(stream(), "1", live)
                if live.streamed:
                    live.show(Image.new("RGB", (9, 1)))
            finally:
                comfy.utils.set_progress_bar_global_hook(None)
            found[f"{count}{' held back' if holds_back else ''}"] = streamed
    return found


def paths(folders: ModuleType, InputError: type[Exception], base: Path) -> dict[str, Any]:
    """Which paths a widget may give. A link that leads outside is outside."""
    outside = base.parent / f"{base.name}-outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.safetensors").write_bytes(b"x")
    (base / "input" / "good").mkdir()
    os.symlink(outside, base / "input" / "link")
    result: dict[str, Any] = {}
    for text in (
        "input/good", "good", str(base / "input" / "good"), "input/link", "input/link/secret.safetensors",
        str(outside), "../", "/", "input/../..", "gs4d/../../..", "~", "", "input/missing", "C:\\Windows", "a\0b",
    ):  # fmt: skip
        try:
            result[text] = str(folders.readable(text).relative_to(base))
        except InputError as error:
            result[text] = f"refused: {error}"
    for prefix in ("gs4d/a", "a", "../a", "/a", "", "link/a", "x/../../a", "a/"):
        (base / "output" / "link").exists() or os.symlink(outside, base / "output" / "link")
        try:
            folders.check_prefix(prefix)
            result[f"prefix {prefix}"] = "accepted"
        except InputError:
            result[f"prefix {prefix}"] = "refused"
    return result


def lists(
    folders: ModuleType,
    model_folders: ModuleType,
    more: list[ModuleType],
    files: ModuleType,
    base: Path,
    InputError: type[Exception],
) -> dict[str, Any]:
    """What the lists offer, and how long they take, where the folders hold what no list may open."""

    def file(name: str, header: bytes) -> None:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(len(header).to_bytes(8, "little") + header)

    scene = b'{"__metadata__":{"format":"gs4d-scene","version":"1"}}'
    file("output/shots/good.safetensors", scene)
    file(
        "output/shots/half.safetensors", scene[:-1] + b',"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}'
    )
    file("output/odd/deep.safetensors", scene[:-1] + b',"a":' + b"[" * 100_000)
    # 10 KB that are JSON to the end
    file("output/odd/nested.safetensors", scene[:-1] + b',"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
    file("output/odd/digits.safetensors", scene[:-1] + b',"a":' + b"9" * 100_000 + b"}")
    file("output/odd/list.safetensors", b"[" * 50 + b"]" * 50)
    file("output/odd/text.safetensors", scene[:-1] + b',"a":"\xff"}')
    file("output/odd/other.safetensors", b'{"__metadata__":{"format":["gs4d-scene"]}}')
    file("output/" + "d/" * 40 + "too_deep.safetensors", scene)
    (base / "output/odd/empty.safetensors").touch()
    (base / "output/odd/huge.safetensors").write_bytes(b"\xff" * 64)
    (base / "output/odd/folder.safetensors").mkdir()
    (base / "input/capture").mkdir()
    (base / "input/capture/cameras.json").write_text("{}")
    for room in ("output/odd", "models/gs4d", "input", "input/capture"):
        os.mkfifo(base / room / "pipe.safetensors")
        os.symlink(base / "nowhere", base / room / "dangling.safetensors")
        os.symlink(base / room / "loop.safetensors", base / room / "loop.safetensors")
        os.symlink("/proc/self/mem", base / room / "unreadable.safetensors")
    for number, name in enumerate(
        ("cameras.json", "transforms.json", "transforms_train.json", "dataset.json", "poses_bounds.npy", "cam00.mp4",
         "cameras_parameters.txt", "cameras.bin", "rigs.bin")
    ):  # fmt: skip
        for kind in ("pipe", "deep", "long"):
            place = base / "input" / f"{kind}{number}" / name
            place.parent.mkdir()
            if kind == "pipe":
                os.mkfifo(place)
            elif kind == "deep":
                place.write_bytes(b"[" * 100_000)
            else:
                os.symlink("x" * 300, place)
    for name in ("pipe.glb", "pipe.mp4", "pipe.npz"):
        os.mkfifo(base / "input" / name)
    # a name that is not UTF-8
    os.mkfifo(os.fsencode(base / "input/capture") + b"/pipe\xff.json")
    start = time.monotonic()
    offered = {
        "scenes": folders.scenes(),
        "captures": folders.captures(),
        "models": model_folders.diffusion_models(),
    }
    for module in (model_folders, *more):
        for name, function in vars(module).items():
            if name.endswith(("models", "encoders", "decoders", "meshes", "videos")) and callable(function):
                offered[name] = function()
    known = files.fingerprint(base / "input/capture") == files.fingerprint(base / "input/capture")
    looped = files.is_within(base / "input/loop.safetensors", base / "input")
    demos: list[str] = []
    for name in ("demo: walker", "demo: nobody", "demo: ../walker/walker", "demo: walker.safetensors"):
        try:
            demos.append(folders.scene_file(name).name)
        except InputError as error:
            demos.append(str(error))
    answers = {"seconds": time.monotonic() - start, "fingerprint": known, "looped": looped, "demos": demos}
    return {**offered, **answers}


def checkpoints(unfinished: ModuleType) -> dict[str, Any]:
    """Old and large files go, the newest of each node stays, other steps' files are left alone, and each removal is told."""

    def made(step: str, node: int, run: int, days: float, size: int = 1) -> Path:
        path, _ = unfinished.checkpoint(step, "Train", ["graph", node], run)
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - days * 86400,) * 2)
        return path

    long = made("train", 1, 100, days=400)
    others = [made("edit", 1, i, days=20) for i in range(3)]
    short = [made("train", 2, i, days=i / 100) for i in range(10)]
    old = made("train", 2, 77, days=31)
    path, told = unfinished.checkpoint("train", "Train", ["graph", 2], "new")
    ages = {"long": long.exists(), "short": sum(p.exists() for p in short), "old": old.exists(), "told": told}
    ages["others"] = sum(p.exists() for p in others)
    same, _ = unfinished.checkpoint("train", "Train", ["graph", 2], 5)
    elsewhere, _ = unfinished.checkpoint("train", "Train", ["another graph", 7], 5)
    ages["found"] = same == short[5] and elsewhere.exists() and not short[5].exists()
    legacy = path.parent / f"{elsewhere.stem.split('-')[-1]}.safetensors"
    elsewhere.replace(legacy)
    again, _ = unfinished.checkpoint("train", "Train", ["another graph", 7], 5)
    ages["legacy"] = again == elsewhere and again.exists() and not legacy.exists()
    unfinished.MOST_BYTES = 1000
    big = [made("fit", 1, i, days=5 - i, size=400) for i in range(5)]
    kept = made("fit", 2, 0, days=20, size=5000)
    _, told = unfinished.checkpoint("fit", "Fit", ["graph", 1], 4)
    return {**ages, "big": [p.exists() for p in big], "kept": kept.exists(), "told_big": len(told)}


def stops(unfinished: ModuleType) -> list[int]:
    """How a node's fingerprint changes when time stops it."""
    values = {"iterations": 500, "max_seconds": 3.0, "video": object(), "device": "cpu"}
    asked = {"iterations": 500, "max_seconds": 3.0, "video": None}
    found = [unfinished.stops("Train", asked)]
    unfinished.remember_stop("Train", values)
    found += [unfinished.stops("Train", asked), unfinished.stops("Train", {**asked, "iterations": 501})]
    found += [unfinished.stops("Edit", asked), unfinished.stops("Train", {**asked, "max_seconds": None})]
    unfinished.remember_stop("Train", values)
    return [*found, unfinished.stops("Train", asked)]


def splats(compat: ModuleType) -> dict[str, Any]:
    """A padded SPLAT batch gives each moment's own Gaussians."""
    with torch.inference_mode():
        batch = compat.splat(
            torch.rand(2, 5, 3),
            torch.rand(2, 5, 3),
            torch.rand(2, 5, 4),
            torch.rand(2, 5, 1),
            torch.rand(2, 5, 4, 3),
        )
        batch.counts = torch.tensor([5, 2])
    with torch.inference_mode(False):
        parts = compat.splat_parts(batch)
    return {
        "shapes": [[list(t.shape) for t in part] for part in parts],
        "inference": any(t.is_inference() for part in parts for t in part),
        "type": type(batch).__name__,
    }


def wired(nodes: ModuleType) -> dict[str, Any]:
    """What a node says of a text input that is wired (ComfyUI gives None), and of the same one left empty."""
    asked = {
        "GS4D_Load4DScene": "scene_file", "GS4D_Save4DScene": "filename_prefix", "GS4D_Import4DScene": "source",
        "GS4D_Export4DScene": "filename_prefix", "GS4D_SceneToSplat": "times",
    }  # fmt: skip
    result: dict[str, Any] = {}
    for node in nodes.nodes():
        name = asked.get(node.GET_SCHEMA().node_id)
        if name:
            result[node.GET_SCHEMA().node_id] = [
                node.validate_inputs(**{name: None}),
                node.validate_inputs(**{name: ""}),
            ]
            if "fingerprint_inputs" in node.__dict__:
                result[node.GET_SCHEMA().node_id].append(node.fingerprint_inputs(**{name: None}))
    return result


def depth_beside(nodes: ModuleType, base: Path) -> list[str]:
    """What Load Video Clip compares to notice changes: of a video alone, with a depth folder, and with one more image in it."""
    [node] = [n for n in nodes.nodes() if n.GET_SCHEMA().node_id == "GS4D_LoadVideoClip"]
    (base / "input/filmed.mp4").write_bytes(b"video")
    found = [node.fingerprint_inputs(clip="input/filmed.mp4")]
    (base / "input/filmed_depth").mkdir()
    for name in ("0.png", "1.png"):
        (base / "input/filmed_depth" / name).write_bytes(b"depth")
        found.append(node.fingerprint_inputs(clip="input/filmed.mp4"))
    return [*found, node.fingerprint_inputs(clip="input/filmed.mp4")]


def outputs(host: ModuleType) -> list[Any]:
    """What nodes return, with and without notes and pictures."""
    picture = {"images": [{"filename": "a.png"}]}
    made = [
        host.output(1, 2),
        host.output(1, notes="a\nb"),
        host.output(1, notes="a", ui=picture),
        host.output(1, ui=picture),
    ]
    return [[list(each.result), each.ui] for each in made]


def numbers(pack: ModuleType, InputError: type[Exception]) -> list[Any]:
    """What becomes of wired values of other types than the field's."""
    fields = importlib.import_module(pack.__name__ + ".nodes.fields")
    config = importlib.import_module(pack.__name__ + ".engine.steps.render_scene").Config
    camera = importlib.import_module(pack.__name__ + ".engine.steps.camera_path").Config
    made: list[Any] = []
    for kind, name, value in (
        (camera, "frames", 12.0), (camera, "fps", 24), (camera, "frames", 12.5), (camera, "frames", float("nan")),
        (camera, "fps", 10**400), (camera, "fps", None), (config, "wants_depth", "no"),
    ):  # fmt: skip
        try:
            found = getattr(fields.config_from(kind, {name: value}), name)
            made.append([type(found).__name__, found])
        except InputError as error:
            made.append(error.code)
    return made


def shown_error(host: ModuleType, InputError: type[Exception]) -> list[Any]:
    """The name of an error that a node raises, and whether it still is the engine's."""
    from execution import full_type_name

    try:
        with host.node_context():
            raise InputError("CAP-012", "cam01.mp4 is empty.")
    except InputError as error:
        return [full_type_name(type(error)), str(error)]


def labels(messages: ModuleType) -> str:
    return messages.status(messages.Progress(30, {"loss": 0.0123456}, 800), 90, 10, 20.0)
