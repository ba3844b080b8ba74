"""Asked inside ComfyUI's interpreter by test_paths.py: what every node makes of paths that cannot be read."""

from __future__ import annotations

import builtins
import importlib
import inspect
import io
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

# a name with a byte that is not UTF-8, as Python holds it
FOREIGN = "caf\udce9"
# what the system says of files whose name begins so; root may read all others
LOCKED = "locked"


def answer(pack: ModuleType) -> list[list[str]]:
    """Of each node, input and value: what is wrong with the check, the fingerprint and the run; empty if nothing is."""
    import folder_paths

    base = Path.cwd()
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    folder_paths.models_dir = str(base / "models")
    for name in ("input", "output", "models/gs4d/heads", "models/diffusers", "models/checkpoints"):
        (base / name).mkdir(parents=True, exist_ok=True)
    nodes = importlib.import_module(pack.__name__ + ".nodes")
    nodes.extension()
    errors = importlib.import_module(pack.__name__ + ".engine.errors")
    scene_file = importlib.import_module(pack.__name__ + ".engine.io.scene_file")
    importing = importlib.import_module(pack.__name__ + ".engine.steps.import_scene")
    messages = importlib.import_module(pack.__name__ + ".engine.messages")
    splat = next((Path(pack.__file__).parent / "assets" / "puppets").glob("*/*.spz"))
    scene = messages.result(importing.run(splat))
    few = torch.arange(20)
    small = scene.canonical.map(lambda tensor: tensor[few])
    scene = scene.with_(canonical=small, deformation=scene.deformation.take(few))
    scene_file.save_scene(scene, base / "input" / f"{FOREIGN}.safetensors")
    fill(base)
    lock()
    return list(asked(nodes, errors.InputError, base, scene))


def fill(base: Path) -> None:
    """What no node can read, in every folder that nodes read from."""
    for root in ("input", "models/gs4d", "models/gs4d/heads", "models/diffusers", "models/checkpoints"):
        folder = base / root
        for name in ("pipe.safetensors", "pipe.mp4", "pipe.glb", "pipe.npz"):
            os.mkfifo(folder / name)
        for ending in (".safetensors", ".mp4", ".glb", ".npz", ".ply"):
            (folder / f"empty{ending}").touch()
            (folder / f"{LOCKED}{ending}").write_bytes(b"x" * 100)
            (folder / f"folder{ending}").mkdir()
            os.symlink(folder / f"loop{ending}", folder / f"loop{ending}")
        (folder / LOCKED).mkdir()
        (folder / LOCKED / "cameras.json").write_text("{}")
        (folder / "nothing").mkdir()
        (folder / FOREIGN).mkdir()
        (folder / FOREIGN / f"{FOREIGN}.png").write_bytes(b"x")


VALUES = (
    "nothing", "missing", "../..", "a\0b", "a\ud800", "x" * 300, "x/" * 3000, FOREIGN, f"{FOREIGN}.safetensors", "<b>",
    LOCKED,
    *(f"{name}{ending}" for name in ("pipe", "empty", LOCKED, "folder", "loop") for ending in
      (".safetensors", ".mp4", ".glb", ".npz", ".ply")),
)  # fmt: skip


def lock() -> None:
    """Root reads everything, so the system's refusal is made up."""

    def refused(function: Any) -> Any:
        def call(path: Any, *words: Any, **more: Any) -> Any:
            if isinstance(path, str | Path) and any(part.startswith(LOCKED) for part in Path(path).parts):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *words, **more)

        return call

    builtins.open = io.open = refused(builtins.open)
    os.open, os.scandir, os.listdir = refused(os.open), refused(os.scandir), refused(os.listdir)


def asked(nodes: ModuleType, InputError: type[Exception], base: Path, scene: Any) -> Iterator[list[str]]:
    for node in nodes.nodes():
        schema = node.GET_SCHEMA()
        if "validate_inputs" not in node.__dict__:
            continue
        names = [name for name in inspect.signature(node.validate_inputs).parameters if name != "cls"]
        usual = {each.id: usual_value(each) for each in schema.inputs}
        usual |= {
            each.id: scene for each in schema.inputs if each.io_type in ("GS4D_SCENE", "GS4D_CANONICAL")
        }
        for name in names:
            for value in values(schema.node_id):
                given = {**usual, name: value}
                faults = "; ".join(faults_of(node, names, given, InputError))
                yield [schema.node_id, name, ascii(value[:60]), faults]


class Works(BaseException):
    """A node has taken its path and works."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Works

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def usual_value(each: Any) -> Any:
    """What a widget holds at first; None for a socket."""
    options = getattr(each, "options", None) or [None]
    default = getattr(each, "default", None)
    return options[0] if default is None else default


def values(node: str) -> Iterator[str]:
    """Paths as the lists and text fields of a node name them."""
    is_model = node in ("GS4D_LoadGuidance", "GS4D_LoadImageTo4D", "GS4D_LoadVariation", "GS4D_LoadTrellis")
    for value in VALUES:
        for root in ("", "diffusers/", "checkpoints/") if is_model else ("input/", "demo: "):
            yield f"{root}{value}"


def faults_of(
    node: Any, names: list[str], given: dict[str, Any], InputError: type[Exception]
) -> Iterator[str]:
    checks = {name: given[name] if given[name] is not None else "" for name in names}
    try:
        said = node.validate_inputs(**checks)
        if said is not True and (not isinstance(said, str) or len(said) > 400 or not said.isprintable()):
            yield f"the check says {ascii(said)[:200]}"
        labels = [each.display_name or each.id for each in node.GET_SCHEMA().inputs if each.id in names]
        if said is not True and len(names) > 1 and not str(said).startswith(tuple(f"{x}: " for x in labels)):
            yield f"the check names no widget: {ascii(said)[:200]}"
    except Exception as error:
        yield f"the check raises {type(error).__name__}: {ascii(str(error))[:200]}"
        said = "raised"
    if said is True and "fingerprint_inputs" in node.__dict__:
        try:
            if node.fingerprint_inputs(**checks) != node.fingerprint_inputs(**checks):
                yield "the fingerprint changes"
        except Exception as error:
            yield f"the fingerprint raises {type(error).__name__}: {ascii(str(error))[:200]}"
    needed = [each.id for each in node.GET_SCHEMA().inputs if not each.optional and given[each.id] is None]
    if [name for name in needed if name not in names]:
        return
    try:
        with at_most(seconds=20):
            node.PREPARE_CLASS_CLONE(None).execute(**given)
    except Works:
        if any("pipe" in str(given[name]) for name in names):
            yield "the run waits for a pipe"
    except InputError as error:
        if len(str(error)) > 400 or not str(error).isprintable():
            yield f"the run says {ascii(str(error))[:200]}"
    except Exception as error:
        yield f"the run raises {type(error).__name__}: {ascii(str(error))[:200]}"
