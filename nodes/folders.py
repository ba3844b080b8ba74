"""Folders of captures, scenes and models. Every path from a widget is resolved and must stay inside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import folder_paths  # pyright: ignore[reportMissingImports]

from ..engine.errors import InputError
from ..engine.files.archive import check_archive, unpack
from ..engine.files.folders import changed, is_within, subfolders, walk
from ..engine.files.paths import check_names

PACK = Path(__file__).resolve().parents[1]
DEMOS = PACK / "assets" / "clips"
# folders with an animated mesh and a splat of the same subject
PUPPETS = PACK / "assets" / "puppets"
# folders with a trained scene
SCENES = PACK / "assets" / "scenes"
BUNDLED = (PUPPETS, DEMOS, SCENES)
# models/gs4d, and the folders that extra_model_paths.yaml adds under that name
MODELS = "gs4d"
# files of one run that the history names
MOST_NAMED = 100


def register() -> None:
    """Register models/gs4d with ComfyUI, so that extra_model_paths.yaml can add folders on other disks."""
    folder_paths.add_model_folder_path(MODELS, os.path.join(folder_paths.models_dir, MODELS))
    paths, extensions = folder_paths.folder_names_and_paths[MODELS]
    folder_paths.folder_names_and_paths[MODELS] = (paths, set(extensions) | {".safetensors"})


def roots() -> dict[str, list[Path]]:
    """The readable folders, by their prefix in lists."""
    return {
        "input": [Path(folder_paths.get_input_directory())],
        "output": [Path(folder_paths.get_output_directory())],
        MODELS: [Path(p) for p in folder_paths.get_folder_paths(MODELS)],
    }


def readable(text: str) -> Path:
    """The absolute path of `text`: "input/…", "output/…", "gs4d/…", or an absolute path inside one of these.

    Raises InputError for any other path, and if it does not exist.
    """
    check_names(text)
    asked, known = text.strip().strip('"'), roots()
    candidates = [Path(os.path.expanduser(asked))] if os.path.isabs(os.path.expanduser(asked)) else []
    if not candidates:
        word, _, rest = asked.replace("\\", "/").partition("/")
        candidates = [root / rest for root in known.get(word, [])]
        candidates += [root / asked for group in known.values() for root in group]
    allowed = [c for c in candidates if any(is_within(c, root) for group in known.values() for root in group)]
    if not allowed:
        raise InputError(
            "NOD-013",
            f"'{asked}' is outside the readable folders (input, output, models/{MODELS}). Move it there, or add its folder as "
            f"'{MODELS}' in extra_model_paths.yaml.",
        )
    for path in allowed:
        if path.exists():
            return path
    raise InputError(
        "NOD-014",
        f"'{asked}' does not exist in input, output or models/{MODELS}; check the spelling or refresh.",
    )


def source(text: str) -> Path:
    """As `readable`, but an empty text is also an error; "demo: …" names a bundled splat."""
    if not text.strip():
        raise InputError(
            "NOD-015", "source is empty; enter the path of a scene in input, output or models/gs4d."
        )
    return bundled_file(text.strip()) if text.strip().startswith("demo: ") else readable(text)


def listable(names: Iterable[str]) -> list[str]:
    """Names that can be listed: frontends before 1.49 show list entries as HTML. Other paths can still be typed."""
    return [name for name in names if "<" not in name]


# -- captures -------------------------------------------------------------------------------------------------------


def captures() -> list[str]:
    """Entries of Load Multi-View Video: the bundled captures, then every folder that is recognized as a capture."""
    from ..engine.capture.readers import detect_layout

    def is_capture(folder: Path) -> bool:
        try:
            detect_layout(folder)
        except (InputError, OSError, ValueError):
            return False
        return True

    names = [f"demo: {folder.name}" for folder in sorted(DEMOS.glob("*/")) if is_capture(folder)]
    for word in ("input", MODELS):
        for root in roots()[word]:
            names += [
                f"{word}/{folder.relative_to(root).as_posix()}"
                for folder in subfolders(root, depth=2)
                if is_capture(folder)
            ]
    for root in roots()["input"]:
        zips = sorted(path for path in walk(root) if path.suffix.lower() == ".zip")
        names += [f"input/{path.relative_to(root).as_posix()}" for path in zips]
    return listable(names)


def capture(choice: str, folder: str) -> Path:
    """The folder of a capture: `folder` if set, else the list's choice. A zip is unpacked into ComfyUI's temp folder, once."""
    path = capture_source(choice, folder)
    return _unpacked(path) if path.is_file() else path


def capture_source(choice: str, folder: str) -> Path:
    """The folder or the zip of a capture, without unpacking it: what ComfyUI asks for while it answers a request."""
    if folder.strip():
        path = readable(folder)
    elif choice.startswith("demo: "):
        check_names(choice)
        path = DEMOS / choice.removeprefix("demo: ")
        if not is_within(path, DEMOS) or not path.is_dir():
            raise InputError(
                "NOD-016",
                f"'{choice}' does not ship with this version of the pack; choose another capture.",
            )
    else:
        path = readable(choice)
    if path.suffix.lower() == ".zip" and path.is_file():
        check_archive(path)
        return path
    if not path.is_dir():
        raise InputError("NOD-017", f"'{path.name}' is a file; choose the folder that contains the capture.")
    return path


def _unpacked(path: Path) -> Path:
    """The capture in a zip; another zip of the same name is another folder."""
    about = path.stat()
    key = hashlib.sha256(f"{path}/{about.st_size}/{about.st_mtime_ns}".encode()).hexdigest()[:16]
    return unpack(path, Path(folder_paths.get_temp_directory()) / "gs4d" / "zips" / key / path.stem)


# -- scenes ---------------------------------------------------------------------------------------------------------


def scenes() -> list[str]:
    """Scene files in output, input and models/gs4d, newest first, then the bundled ones."""
    from ..engine.io.scene_file import is_scene_file

    found: list[tuple[int, str]] = []
    for word, group in roots().items():
        for root in group:
            for path in walk(root):
                if path.name.endswith(".safetensors") and is_scene_file(path):
                    found.append((changed(path), f"{word}/{path.relative_to(root).as_posix()}"))
    demos = [name.removesuffix(".safetensors") for name in bundled("*.safetensors")]
    return listable([*(name for _, name in sorted(found, reverse=True)), *demos])


def scene_file(choice: str) -> Path:
    """The path of a chosen scene file; raises InputError if it is missing or outside the readable folders."""
    if not choice.strip():
        raise InputError(
            "NOD-018", "No scene file is selected; save one with Save 4D Scene, then refresh the list."
        )
    if choice.startswith("demo: "):
        return bundled_file(f"{choice.strip()}.safetensors")
    path = readable(choice)
    if not path.is_file():
        raise InputError("NOD-019", f"'{choice}' is not a file; choose a .safetensors scene.")
    return path


# -- bundled files ---------------------------------------------------------------------------------------------------


def bundled(pattern: str) -> list[str]:
    """ "demo: NAME" of the bundled files whose name fits a pattern such as *.glb."""
    return sorted(f"demo: {path.name}" for root in BUNDLED for path in root.glob(f"*/{pattern}"))


def bundled_file(choice: str) -> Path:
    """The bundled file that "demo: NAME" names. Raises InputError."""
    name = choice.removeprefix("demo: ").strip()
    for root in BUNDLED:
        for path in root.glob("*/*"):
            if path.name == name:
                return path
    raise InputError(
        "NOD-054", f"'{choice}' does not ship with this version of the pack; choose another file."
    )


def files(suffixes: Iterable[str]) -> list[str]:
    """Files with one of these endings in input, output and models/gs4d, newest first."""
    endings = tuple(suffixes)
    found = [
        (changed(path), f"{word}/{path.relative_to(root).as_posix()}")
        for word, group in roots().items()
        for root in group
        for path in walk(root)
        if path.suffix.lower() in endings
    ]
    return listable(name for _, name in sorted(found, reverse=True))


# -- writing --------------------------------------------------------------------------------------------------------


def output_target(prefix: str, suffix: str) -> Path:
    """A new path in the output folder: `prefix`_00001_`suffix`, or `prefix`_00001 for a folder (no suffix).

    Raises InputError for a prefix that leads outside.
    """
    output = Path(folder_paths.get_output_directory())
    check_prefix(prefix)
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, str(output))
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / (f"{name}_{counter:05}_{suffix}" if suffix else f"{name}_{counter:05}")


def check_prefix(prefix: str) -> None:
    """Raise InputError if a file name prefix is empty or leads out of the output folder."""
    output = Path(folder_paths.get_output_directory())
    check_names(prefix)
    if not prefix.strip() or prefix.replace("\\", "/").endswith("/"):
        raise InputError("NOD-021", "filename_prefix is empty; enter a name such as gs4d/scene.")
    asked = prefix.replace("\\", "/")
    if os.path.isabs(asked) or not is_within(output / asked, output):
        raise InputError(
            "NOD-022",
            f"filename_prefix '{prefix}' leads out of ComfyUI's output folder; enter a name such as gs4d/scene.",
        )


def relative(path: Path) -> str:
    """The path of a written file, relative to the output folder."""
    return path.relative_to(Path(folder_paths.get_output_directory())).as_posix()


# -- what the canvas shows ------------------------------------------------------------------------------------------


def temporary(name: str) -> Path:
    """A file in ComfyUI's temp folder, which ComfyUI empties when it starts."""
    folder = Path(folder_paths.get_temp_directory()) / "gs4d"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def prepared_frames() -> Path:
    """Where training keeps decoded frames of large captures."""
    return Path(folder_paths.get_temp_directory()) / "gs4d" / "frames"


def as_view(path: Path) -> dict[str, str]:
    """The parameters of /view with which the canvas requests a file of `temporary`."""
    return {"filename": path.name, "subfolder": "gs4d", "type": "temp"}


def as_download(paths: Iterable[Path]) -> dict[str, list[dict[str, str]]]:
    """The `ui` that names written files, for ComfyUI's list of assets, its history and downloads; the first MOST_NAMED."""
    named: list[dict[str, str]] = []
    for path in paths:
        folder, _, name = relative(path).rpartition("/")
        named.append({"filename": name, "subfolder": folder, "type": "output"})
        if len(named) == MOST_NAMED:
            break
    return {"files": named}
