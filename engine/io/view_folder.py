"""Views of a scene as a folder of images, so that any image editor can change them between two steps.

    views.json            cameras, views, frame indices, seconds, settings of the edit, places on sheets
    originals/000_cam00_0.png …   images before the edit
    edited/000_cam00_0.png …      edited images: replace these and keep the names (other image formats are accepted)
    coverage/000_cam00_0.png …    the scene's alpha, if the scene does not fill its images

Images are stored with 8 bits per channel. Where a replaced image is transparent, the original is kept.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..files.atomic import write_atomically
from ..files.images import SUFFIXES, check_size, image_size, read_image
from ..files.jsonfile import read_json, write_json
from ..files.masks import WHITE_ON_BLACK, read_mask
from ..files.paths import existing_folder, inside, printable, require_file
from ..scene import Cameras, ViewSet
from ..scene.framing import fitting_sizes, is_whole, listed
from ..scene.view_sheets import SheetLayout
from .image_files import check_batch

FORMAT = "gs4d-views"
VERSION = 1
INDEX = "views.json"
REMEDY = "save the views again and keep the names of their images"


def save_views(views: ViewSet, folder: Path | str) -> Path:
    """Save views as a folder of images.

    Args:
        views: K views.
        folder: The folder; it is created if needed, and images of the same names are replaced.

    Returns:
        The folder.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("IO-044", f"{printable(folder.name)} is a file; choose a folder for the views.")
    entries: list[dict[str, Any]] = []
    for i in range(len(views)):
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", views.cameras.names[i])[:40]
        name = f"{i:03}_{safe}_{views.moments[i]}.png"
        _write_png(folder / "originals" / name, views.originals[i])
        _write_png(folder / "edited" / name, views.images[i])
        if views.alphas is not None:
            _write_png(folder / "coverage" / name, views.alphas[i])
        entries.append(
            {"file": name, "view": views.views[i], "moment": views.moments[i], "seconds": views.seconds[i]}
        )
    about: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "cameras": views.cameras.to_json(),
        "has_coverage": views.alphas is not None,
        "edit": views.edit,
        # absent where the views are on no sheet, as in older files
        **({} if views.sheet is None else {"sheet": views.sheet.to_json()}),
        "pictures": entries,
    }
    write_json(folder / INDEX, about)
    return folder


def load_views(folder: Path | str) -> ViewSet:
    """Load views that `save_views` wrote, with the current images of `edited`.

    Args:
        folder: A folder that `save_views` wrote.

    Returns:
        K views; images are resized to the views' size.

    Raises:
        InputError: The folder is missing or does not contain views, or an image is missing, damaged or of another aspect
            ratio.
    """
    folder = existing_folder(folder)
    about = _read_index(folder)
    cameras, entries, sheet = _read_entries(about)
    size = _check_entries(cameras, entries)
    if sheet is not None and (sheet.count, sheet.view_width, sheet.view_height) != (len(entries), *size):
        raise InputError("IO-091", f"{INDEX}: the places on sheets are not those of its views; {REMEDY}.")
    has_coverage = bool(about.get("has_coverage"))
    check_batch(len(entries), size, 7 if has_coverage else 6, folder.name)
    originals = [_picture(folder, "originals", entry.file, size)[0] for entry in entries]
    edited: list[Tensor] = []
    for entry, original in zip(entries, originals, strict=True):
        image, alpha = _picture(folder, "edited", entry.file, size)
        edited.append(image if alpha is None else alpha * image + (1 - alpha) * original)
    edit = about.get("edit")
    return ViewSet(
        images=torch.stack(edited),
        originals=torch.stack(originals),
        cameras=cameras,
        views=tuple(entry.view for entry in entries),
        moments=tuple(entry.moment for entry in entries),
        seconds=tuple(entry.seconds for entry in entries),
        alphas=_coverage(folder, entries, size) if has_coverage else None,
        edit=edit if isinstance(edit, dict) else None,
        sheet=sheet,
    )


class _Entry(NamedTuple):
    """One view in views.json."""

    file: Any
    view: int
    moment: int
    seconds: float


def _read_index(folder: Path) -> dict[str, Any]:
    """views.json, if it is of a known format and version."""
    index = require_file(folder / INDEX, folder, "choose a folder that edited views were saved in")
    about = read_json(index, INDEX)
    if about.get("format") != FORMAT:
        raise InputError(
            "IO-045",
            f"{INDEX} does not describe views of a scene; choose a folder that edited views were saved in.",
        )
    version = about.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise InputError(
            "IO-046",
            f"{INDEX} has version {printable(str(version))[:20]}, but this pack supports versions up to {VERSION}; update the "
            "pack.",
        )
    return about


def _read_entries(about: dict[str, Any]) -> tuple[Cameras, list[_Entry], SheetLayout | None]:
    """The cameras and views that views.json lists, and where the views stand on sheets."""
    try:
        cameras = Cameras.from_json(about["cameras"])
        entries = [
            _Entry(entry["file"], int(entry["view"]), int(entry["moment"]), float(entry["seconds"]))
            for entry in about["pictures"]
        ]
        sheet = None if about.get("sheet") is None else SheetLayout.from_json(about["sheet"])
    except InputError as error:
        raise error.at(INDEX) from error
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise InputError(
            "IO-047", f"{INDEX} is incomplete ({type(error).__name__}: {str(error)[:80]}); {REMEDY}."
        ) from error
    return cameras, entries, sheet


def _check_entries(cameras: Cameras, entries: list[_Entry]) -> tuple[int, int]:
    """The size (width, height) of all views. Raises InputError if cameras and views do not match."""
    if len(entries) != len(cameras) or not entries:
        raise InputError(
            "IO-048", f"{INDEX} lists {len(entries)} images and {len(cameras)} cameras; {REMEDY}."
        )
    if len(set(cameras.sizes)) != 1:
        raise InputError("IO-049", f"{INDEX}: the views have images of different sizes; {REMEDY}.")
    if not bool(torch.isfinite(cameras.world_to_camera).all() and torch.isfinite(cameras.K).all()):
        raise InputError("IO-050", f"{INDEX}: a camera contains NaN or infinite values; {REMEDY}.")
    return check_size(*cameras.sizes[0], f"{INDEX}: a view")


def _coverage(folder: Path, entries: list[_Entry], size: tuple[int, int]) -> Tensor:
    """The scene's alpha [K, H, W] in each view."""
    return torch.stack(
        [
            _tensor(
                # save_views wrote them, and a view that sees little of the scene is dark
                read_mask(
                    _found(folder, "coverage", entry.file),
                    f"coverage/{printable(entry.file)}",
                    size,
                    WHITE_ON_BLACK,
                )
            )
            for entry in entries
        ]
    )


def _found(folder: Path, part: str, file: object) -> Path:
    """The image of that name in folder/part; other formats than .png are accepted."""
    path = inside(folder, f"{part}/{file}" if isinstance(file, str) else file, INDEX)
    if not path.exists():
        for suffix in SUFFIXES:
            other = path.with_suffix(suffix)
            if other.exists():
                path = other
                break
    return require_file(path, folder, REMEDY)


def _picture(folder: Path, part: str, file: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Colors [H, W, 3] and alpha [H, W, 1] or None, resampled to `size`."""
    path = _found(folder, part, file)
    name = f"{part}/{printable(path.name)}"
    width, height = image_size(path, name)
    if not is_whole((width, height), size):
        raise InputError(
            "IO-051",
            f"{name} is {width}×{height}, but its view is {size[0]}×{size[1]}: the aspect ratios differ. Save it at "
            f"{listed(fitting_sizes((width, height), size))}, without cropping.",
        )
    colors, alpha = read_image(path, name, size)
    return _tensor(colors), None if alpha is None else _tensor(alpha)[..., None]


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32)).div_(255)


def _write_png(path: Path, values: Tensor) -> None:
    """Write an image [H, W, 3] or [H, W] in 0..1."""
    pixels = (values.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    with write_atomically(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", compress_level=4)
