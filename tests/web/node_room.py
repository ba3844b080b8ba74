"""Room between the nodes of a workflow: what they grow by in ComfyUI's newer renderer, and when they show what they did."""

from __future__ import annotations

from typing import Any

# least heights of bodies after a run, in units of the canvas, where they exceed what a graph is saved with
GROWN = {
    "GS4D_LoadMultiViewVideo": 760,
    "GS4D_LoadVideoClip": 280,
    "GS4D_LoadHead": 230,
    "GS4D_CameraPath": 500,
    "GS4D_SceneViews": 360,
    "GS4D_VariationDiffusion": 560,
    "WanCameraEmbedding": 320,
}
TITLE, GAP = 30, 40


def spread(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with nodes moved down where the one above them needs room, and groups as high as their nodes."""
    nodes = sorted(workflow["nodes"], key=lambda node: node["pos"][1])
    members = [[n for n in nodes if _is_inside(n, group["bounding"])] for group in workflow["groups"]]
    margins = [
        min((n["pos"][1] for n in inside), default=0) - group["bounding"][1]
        for group, inside in zip(workflow["groups"], members, strict=True)
    ]
    for i, node in enumerate(nodes):
        for above in nodes[:i]:
            if _share_a_column(node, above):
                least = above["pos"][1] + height(above) + TITLE + GAP
                node["pos"][1] = max(node["pos"][1], least)
    rows: dict[tuple[float, float], float] = {}
    for group, inside, margin in zip(workflow["groups"], members, margins, strict=True):
        _, top, _, high = group["bounding"]
        moved = min((n["pos"][1] for n in inside), default=top + margin) - margin
        ends = [n["pos"][1] + height(n) + GAP for n in inside]
        rows[moved, high] = max([rows.get((moved, high), 0.0), moved + high, *ends])
        group["bounding"][1] = moved
    for group in workflow["groups"]:
        # groups that began and ended together still do
        _, top, _, high = group["bounding"]
        group["bounding"][3] = rows[top, high] - top
    return workflow


def height(node: dict[str, Any]) -> float:
    """The body's height after a run."""
    size = node["size"]
    return max(float(size[1] if isinstance(size, list) else size["1"]), GROWN.get(node["type"], 0))


def _share_a_column(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a["pos"][0] < b["pos"][0] + b["size"][0] and b["pos"][0] < a["pos"][0] + a["size"][0]


def _is_inside(node: dict[str, Any], bounding: list[float]) -> bool:
    left, top, width, high = bounding
    return left <= node["pos"][0] < left + width and top <= node["pos"][1] < top + high
