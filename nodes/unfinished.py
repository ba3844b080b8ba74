"""Unfinished work of nodes: which file keeps it, what is removed to make room, and which nodes run again to go on."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import folder_paths  # pyright: ignore[reportMissingImports]

from ..engine.files.folders import changed

log = logging.getLogger("gs4d")
# of one step: older files than that, and the oldest of those that together are larger, are removed
OLDEST_DAYS = 30
MOST_BYTES = 4 << 30
DAY = 24 * 3600

# constants of the runs that time stopped, by the type of the node: ComfyUI does not tell fingerprints which node they are of
_stopped: dict[str, list[frozenset[tuple[str, str]]]] = {}


def checkpoint(step: str, label: str, graph: list[Any], *parts: object) -> tuple[Path, list[str]]:
    """The file of the unfinished run that `parts` describe, and a sentence for each file that was removed to make room.

    Never removed are the file itself and the newest one of every node of every graph.

    Args:
        step: Name of the step, of which sizes and ages are compared.
        label: The step's name in sentences.
        graph: Plain JSON that identifies the graph and the node in it.
        parts: What the run is made from.
    """
    folder = Path(folder_paths.get_output_directory()) / "gs4d" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    key = _hash([step, *parts], 24)
    path = folder / f"{step}-{_hash(graph, 8)}-{key}.safetensors"
    # of another node, or of a version that named files by the key alone
    for same in folder.glob(f"*{key}.safetensors"):
        if not path.exists():
            with suppress(OSError):
                same.replace(path)
    return path, _make_room(folder, step, label, path)


def _make_room(folder: Path, step: str, label: str, own: Path) -> list[str]:
    """Remove the oldest files of a step, see `checkpoint`."""
    removed: list[str] = []
    seen: set[str] = set()
    total, now = 0, time.time()
    for path in sorted(folder.glob(f"{step}-*.safetensors"), key=changed, reverse=True):
        node = path.name.split("-")[1]
        size, age = _size(path), now - changed(path) / 1e9
        total += size
        is_kept = path == own or node not in seen
        seen.add(node)
        if is_kept or (total <= MOST_BYTES and age <= OLDEST_DAYS * DAY):
            continue
        with suppress(OSError):
            path.unlink()
            total -= size
            date = time.strftime("%Y-%m-%d", time.localtime(now - age))
            removed.append(
                f"removed unfinished work of {label} of {date} ({max(1, size >> 20)} MB) from output/gs4d/training, which keeps "
                f"{OLDEST_DAYS} days and {MOST_BYTES >> 30} GB"
            )
    for sentence in removed:
        log.warning("%s", sentence)
    return removed


def graph_of(hidden: Any) -> list[Any]:
    """What identifies a node and its graph: the id that the canvas gives a workflow, where there is one."""
    workflow = (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow") or {}
    return [workflow.get("id"), hidden.unique_id]


def remember_stop(node: str, values: dict[str, Any]) -> None:
    """Let a node of this type with these values run again when its graph is queued: time stopped it."""
    _stopped.setdefault(node, []).append(_constants(values))


def stops(node: str, values: dict[str, Any]) -> int:
    """How often time stopped a run with these values, of which those of connected inputs may be None.

    As the fingerprint of a node, it makes ComfyUI run the node again after such a stop, and not after it is done.
    """
    return sum(_constants(values) <= known for known in _stopped.get(node, ()))


def _constants(values: dict[str, Any]) -> frozenset[tuple[str, str]]:
    plain = (str, int, float, bool)
    # nodes that take lists get a list of each value
    single = {n: v[0] if isinstance(v, list | tuple) and len(v) == 1 else v for n, v in values.items()}
    return frozenset((name, repr(value)) for name, value in single.items() if isinstance(value, plain))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _hash(parts: list[Any], length: int) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:length]
