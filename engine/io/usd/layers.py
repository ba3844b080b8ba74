"""Opening a USD stage from files inside one folder only.

A layer may name others as sublayers, references, payloads and clips. All of them are looked at before the stage is composed,
and none outside of the folder of the file (or outside of a .usdz) is opened.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.archive import check_archive
from ...files.paths import inside, printable
from .library import Library, unreadable

PACKAGE = ".usdz"
# layers of one stage that are read
MOST_LAYERS = 10_000


def open_stage(usd: Library, path: Path) -> Any:
    """The composed stage of a file.

    Raises:
        InputError: The file is empty, damaged or not USD, or names a file outside of its folder.
    """
    if path.stat().st_size == 0:
        raise InputError("USD-007", f"{path.name} is empty; copy or export it again.")
    if path.suffix.lower() == PACKAGE:
        check_archive(path)
        # usd-core does not compare checksums, and damaged numbers in a layer can end the process
        with unreadable(path.name), zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("a checksum in it differs")
    # usd-core keeps layers that somebody in this process still has open, as they were
    known = usd.Sdf.Layer.Find(str(path))
    with unreadable(path.name):
        if known is not None and not known.dirty:
            known.Reload()
    _check_layers(usd, path)
    with unreadable(path.name):
        stage = usd.Usd.Stage.Open(str(path), usd.Usd.Stage.LoadAll)
    folder = path.parent.resolve()
    for layer in stage.GetUsedLayers():
        place = layer.realPath
        # usd-core also looks into search paths, which lie elsewhere
        if place and not Path(_package_of(usd, place)).resolve().is_relative_to(folder):
            raise _outside(path.name, place)
    return stage


def _check_layers(usd: Library, path: Path) -> None:
    """Raise InputError unless all layers that a file names lie in its folder or package. Missing ones are passed over."""
    folder = path.parent
    seen, waiting = {str(path)}, [str(path)]
    while waiting:
        identifier = waiting.pop()
        name = posixpath.basename(identifier.rstrip("]"))
        with unreadable(path.name if identifier == str(path) else name):
            layer = usd.Sdf.Layer.FindOrOpen(identifier)
            named = [] if layer is None else _named(usd, layer)
        for asset in filter(None, named):
            found = _place(usd, folder, path, identifier, asset)
            if found is not None and found not in seen and len(seen) < MOST_LAYERS:
                seen.add(found)
                waiting.append(found)


def _place(usd: Library, folder: Path, root: Path, layer: str, asset: str) -> str | None:
    """Where a layer finds an asset; None where nothing is there. Raises InputError for places outside of the folder."""
    is_expression = usd.Sdf.VariableExpression.IsExpression(asset)
    asset = usd.Sdf.Layer.SplitIdentifier(asset)[0]
    if is_expression or usd.Ar.IsPackageRelativePath(asset):
        raise _outside(root.name, asset)
    if usd.Ar.IsPackageRelativePath(layer):
        package, inner = usd.Ar.SplitPackageRelativePathInner(layer)
    elif layer.lower().endswith(PACKAGE):
        # its first file is the root layer
        package, inner = layer, ""
    else:
        relative = Path(layer).parent.relative_to(folder).as_posix()
        place = inside(folder, _joined(relative, asset), root.name)
        return str(place) if place.is_file() else None
    inner = _joined(posixpath.dirname(inner), asset)
    if inner.startswith(("/", "..")) or ":" in inner:
        raise _outside(root.name, asset)
    found = usd.Ar.JoinPackageRelativePath([package, inner])
    return found if usd.Ar.GetResolver().Resolve(found) else None


def _joined(folder: str, asset: str) -> str:
    """A path of an asset relative to what `folder` is relative to; absolute ones and addresses stay as they are."""
    if asset.startswith(("/", "\\")) or ":" in asset.split("/")[0]:
        return asset
    return posixpath.normpath(posixpath.join(folder, asset.replace("\\", "/")))


def _named(usd: Library, layer: Any) -> list[str]:
    """The files that a layer names: sublayers, references, payloads and value clips, those of variants included.

    usd-core's own function for this ends the process for some damaged layers.
    """
    found: list[str] = [str(path) for path in layer.subLayerPaths]

    def visit(path: Any) -> None:
        if not (path.IsPrimPath() or path.IsPrimVariantSelectionPath()):
            return
        spec = layer.GetPrimAtPath(path)
        if not spec:
            return
        for key in ("references", "payload"):
            if spec.HasInfo(key):
                found.extend(str(arc.assetPath) for arc in _items(spec.GetInfo(key)))
        if spec.HasInfo("clips"):
            found.extend(_assets(usd, spec.GetInfo("clips")))

    layer.Traverse(usd.Sdf.Path.absoluteRootPath, visit)
    return found


def _items(arcs: Any) -> Iterator[Any]:
    """All references or payloads in a list of edits, or the one payload of old files."""
    if not hasattr(arcs, "explicitItems"):
        yield arcs
        return
    for name in ("explicitItems", "prependedItems", "appendedItems", "addedItems"):
        yield from getattr(arcs, name)


def _assets(usd: Library, value: Any) -> Iterator[str]:
    """The paths in the metadata of value clips."""
    if isinstance(value, dict):
        for key, entry in value.items():
            # a name with # for digits; its folder is what matters
            if key == "templateAssetPath":
                yield str(entry)
            else:
                yield from _assets(usd, entry)
    elif isinstance(value, usd.Sdf.AssetPath):
        yield value.path
    elif isinstance(value, usd.Sdf.AssetPathArray):
        yield from (entry.path for entry in value)


def _package_of(usd: Library, place: str) -> str:
    """The file on the disk that a path is in."""
    return usd.Ar.SplitPackageRelativePathOuter(place)[0] if usd.Ar.IsPackageRelativePath(place) else place


def _outside(name: str, asset: str) -> InputError:
    return InputError(
        "USD-008",
        f"{name} refers to '{printable(asset)}', and only files in its own folder are read. Put them there, or export one file "
        "that contains everything.",
    )
