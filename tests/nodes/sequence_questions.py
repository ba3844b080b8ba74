"""Asked inside ComfyUI's interpreter by test_sequence_nodes.py: a scene through Export 4D Scene and back."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from host_process import node_classes
from splat_questions import away, lines, run, tower


def answer(pack: ModuleType) -> dict[str, Any]:
    import folder_paths

    base = Path.cwd()
    for name in ("input", "output"):
        (base / name).mkdir(exist_ok=True)
    folder_paths.set_input_directory(str(base / "input"))
    folder_paths.set_output_directory(str(base / "output"))
    nodes = {c.GET_SCHEMA().node_id: c for c in node_classes(pack)}
    exporting, importing = nodes["GS4D_Export4DScene"], nodes["GS4D_Import4DScene"]
    scene = tower(pack)
    made: dict[str, Any] = {}
    for container in ("folder", "zip"):
        prefix = f"walks/{container}"
        out = run(exporting, scene=scene, filename_prefix=prefix, kind="ply sequence", container=container)
        first = Path(out.result[0]).relative_to(base).as_posix()
        source = first if container == "zip" else str(Path(first).parent)
        valid = importing.validate_inputs(source=source)
        watched = importing.fingerprint_inputs(source=source)
        again = run(importing, source=source)
        made[container] = {
            "source": source,
            "said": lines(out),
            "valid": valid,
            "is_watched": watched == importing.fingerprint_inputs(source=source),
            "away": away(again.result[0], scene),
            "times": again.result[0].times.tolist(),
            "imported": lines(again),
            "trains": not again.result[0].canonical.means.is_inference(),
        }
    bad = base / "input" / "bad.zip"
    bad.write_bytes(b"PK\3\4" + bytes(40))
    try:
        run(importing, source="input/bad.zip")
        made["bad"] = ""
    except ValueError as error:
        made["bad"] = str(error)
    return made
