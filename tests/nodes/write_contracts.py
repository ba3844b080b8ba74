"""Writes what follows from the nodes' schemas, after a change that was meant: python tests/nodes/write_contracts.py

* tests/nodes/schemas.json: the contract that test_contracts.py holds the nodes to;
* locales/en/nodeDefs.json: what the canvas shows, and the other languages from it (tools/locales);
* the lists of inputs and outputs between the marks in web/docs/<node id>.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = REPOSITORY / "tests" / "nodes" / "schemas.json"
LOCALE = REPOSITORY / "locales" / "en" / "nodeDefs.json"
DOCS = REPOSITORY / "web" / "docs"
LISTS_OF_FILES = {
    ("GS4D_LoadMultiViewVideo", "clip"),
    ("GS4D_Load4DScene", "scene_file"),
    ("GS4D_LoadGuidance", "model"),
    ("GS4D_AnimateSplatWithMesh", "mesh"),
    ("GS4D_EncodeMeshAnimation", "mesh"),
    ("GS4D_LoadSegmentation", "segmenter"),
    ("GS4D_LoadSegmentation", "detector"),
    ("GS4D_LoadTrellis", "trellis"),
    ("GS4D_LoadTrellis", "image_encoder"),
    ("GS4D_LoadTrellis", "decoder"),
    ("GS4D_LoadVariation", "model"),
    ("GS4D_LoadVariation", "image_encoder"),
    ("GS4D_LoadImageTo4D", "model"),
    ("GS4D_LoadImageTo4D", "video_model"),
    ("GS4D_LoadVideoClip", "clip"),
    ("GS4D_GradeScene", "lut"),
}
OPEN, CLOSE = "<!-- from the schema -->", "<!-- end -->"
HOST_TYPES = {
    "INT": "whole number",
    "FLOAT": "number",
    "STRING": "text",
    "BOOLEAN": "yes or no",
    "COMBO": "choice",
}

sys.path[:0] = [str(REPOSITORY / "tests" / "comfy"), str(REPOSITORY / "tools" / "locales")]


def ask(question: str) -> Any:
    """The answer of host_process.py, run by ComfyUI's interpreter. Raises RuntimeError where there is no ComfyUI."""
    import setup_comfy

    comfy = setup_comfy.locate()
    if comfy is None:
        raise RuntimeError("there is no ComfyUI here: python tests/comfy/setup_comfy.py builds it")
    with tempfile.TemporaryDirectory() as base:
        command = [comfy.python, Path(__file__).with_name("host_process.py"), comfy.tree, base, question]
        # as a user's interpreter does: bytecode is kept from one start to the next
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, timeout=120, cwd=base, env=kept
        )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def contract(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a node's schema that workflows and scripts depend on, without what differs between machines."""
    result: dict[str, Any] = {}
    for node, schema in info.items():
        inputs: dict[str, Any] = {}
        for section in ("required", "optional"):
            for name, (kind, *rest) in schema["input"].get(section, {}).items():
                options = dict(rest[0]) if rest else {}
                for passing in ("tooltip", "display_name", "multiselect", "advanced", "widgetType"):
                    options.pop(passing, None)
                if name == "device" and options.get("options"):
                    # a machine with several GPUs lists each
                    options["options"] = [each for each in options["options"] if ":" not in each]
                if (node, name) in LISTS_OF_FILES:
                    options = {"options": "files"}
                inputs[name] = {"type": kind, "section": section, **options}
        result[node] = {
            "display_name": schema["display_name"],
            "category": schema["category"],
            "output_node": schema["output_node"],
            "inputs": inputs,
            "outputs": [
                {"type": kind, "name": name}
                for kind, name in zip(schema["output"], schema["output_name"], strict=True)
            ],
        }
    return result


def locale(info: dict[str, Any]) -> dict[str, Any]:
    """nodeDefs.json: labels and tooltips by node and input."""
    result: dict[str, Any] = {}
    for node, schema in info.items():
        inputs: dict[str, Any] = {}
        for section in ("required", "optional"):
            for name, (_, *rest) in schema["input"].get(section, {}).items():
                options = rest[0] if rest else {}
                inputs[name] = {
                    "name": options.get("display_name") or name.replace("_", " "),
                    "tooltip": options.get("tooltip", ""),
                }
        outputs = {
            str(i): {"name": name, **({"tooltip": tip} if tip else {})}
            for i, (name, tip) in enumerate(
                zip(schema["output_name"], schema["output_tooltips"], strict=True)
            )
        }
        result[node] = {
            "display_name": schema["display_name"],
            "description": schema["description"],
            "inputs": inputs,
            "outputs": outputs,
        }
    return result


def listing(node: str, schema: dict[str, Any]) -> str:
    """The inputs and outputs of a node as two lists: the help opens in a narrow column, where tables run off."""
    lines = ["**Inputs**", ""]
    for section in ("required", "optional"):
        for name, (kind, *rest) in schema["input"].get(section, {}).items():
            options = rest[0] if rest else {}
            default = "" if (node, name) in LISTS_OF_FILES else options.get("default", "")
            default = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
            label = options.get("display_name") or name.replace("_", " ")
            what = [HOST_TYPES.get(kind, kind), *(["optional"] if section == "optional" else [])]
            what += [f"`{default}`"] if str(default) else []
            lines.append(f"* **{label}** ({', '.join(what)}): {options.get('tooltip', '')}")
    if schema["output"]:
        lines += ["", "**Outputs**", ""]
        for kind, name, tip in zip(
            schema["output"], schema["output_name"], schema["output_tooltips"], strict=True
        ):
            lines.append(f"* **{name}** ({kind})" + (f": {tip}" if tip else ""))
    return "\n".join(lines)


def with_listing(text: str, node: str, schema: dict[str, Any]) -> str:
    """A help page with its lists renewed; the page must have both marks."""
    before, mark, rest = text.partition(OPEN)
    _, end, after = rest.partition(CLOSE)
    assert mark and end, f"{node}.md lacks the marks {OPEN} … {CLOSE}"
    return f"{before}{OPEN}\n{listing(node, schema)}\n{CLOSE}{after}"


def as_text(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    info = ask("schemas")
    SCHEMAS.write_text(as_text(contract(info)), encoding="utf-8")
    LOCALE.write_text(as_text(locale(info)), encoding="utf-8")
    import write_locales

    write_locales.main()  # lists what has to be translated
    for node, schema in info.items():
        page = DOCS / f"{node}.md"
        page.write_text(with_listing(page.read_text(encoding="utf-8"), node, schema), encoding="utf-8")


if __name__ == "__main__":
    main()
