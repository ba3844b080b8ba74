"""What nodes show on the canvas when they are done: curves, pairs, overlays and error maps, in ComfyUI's temp folder."""

import io
import sys
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
from PIL import Image
from server import Run, Server

pytestmark = pytest.mark.comfy
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
MODEL = "diffusers/random for pictures"


@pytest.fixture(scope="module")
def info(running: Server) -> dict[str, Any]:
    from tiny_diffusion import tiny_folder

    tiny_folder(running.base / "models" / MODEL)
    return running.get("/object_info")


def graph_of(info: dict[str, Any]) -> dict[str, Any]:
    """Training, edit, fit and refinement; a mask lifted; measured. No node that only shows pictures is wired."""
    graph = graphs.edit(info, graphs.from_file(info, MODEL))
    for name in ("edited", "originals", "path", "render", "shown"):
        del graph[name]
    node = graphs.node
    graph["views"] = node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=96)
    graph["lift"] = node(
        info, "GS4D_LiftMask", scene=["train", 0], mask=["views", 2], views=["views", 0], threshold=0.1
    )
    graph["local"] = node(
        info, "GS4D_FitEdits", scene=["train", 0], views=["edit", 0], selection=["lift", 0], **graphs.TINY_FIT
    )
    graph["kept"] = node(info, "GS4D_Save4DScene", scene=["local", 0], filename_prefix="gs4d/local pictures")
    graph["psnr"] = node(
        info, "GS4D_EvaluateScene", scene=["train", 0], video=["load", 0], every=15, pictures=2
    )
    graph["train"]["inputs"]["seed"] = 31  # a graph of its own: what was run before is not shown anew
    return graph


def pictures(running: Server, run: Run) -> dict[str, Image.Image]:
    """The picture that each node shows, as the page fetches it."""
    found: dict[str, Image.Image] = {}
    for data in run.of("executed"):
        for image in (data["output"] or {}).get("images", [])[:1]:
            assert (image["type"], image["subfolder"]) == ("temp", "")
            answer = running.get_bytes(f"/view?filename={image['filename']}&type=temp&subfolder=")
            found[data["node"]] = Image.open(io.BytesIO(answer)).convert("RGB")
    return found


def share(picture: Image.Image, color: tuple[int, int, int], within: int) -> float:
    apart = np.abs(np.asarray(picture).astype(int) - np.array(color)).max(-1)
    return float((apart < within).mean())


def test_every_working_node_shows_a_picture_of_what_it_did(running: Server, info: dict[str, Any]) -> None:
    graph = graph_of(info)
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = pictures(running, run)
    assert {"train", "edit", "fit", "refine", "lift", "measure", "psnr"} <= shown.keys()
    from engine.figures.drawing import THEMES

    blue, green, _, *_ = THEMES["dark"].curves
    for name in ("train", "fit"):  # loss and PSNR under a picture
        assert shown[name].width == 420 and shown[name].height > 112 + 100
        assert share(shown[name], blue, 60) > 0.001 and share(shown[name], green, 60) > 0.001
    assert share(shown["refine"], blue, 60) > 0.001
    red = np.asarray(shown["lift"]).astype(int)
    assert ((red[..., 0] - red[..., 1] > 80) & (red[..., 1] < 130)).mean() > 0.02
    for name in ("measure", "psnr"):
        assert share(shown[name], (0, 0, 0), 3) > 0.05, "an error map is mostly black"
    files = list((running.base / "temp").glob("gs4d_*"))
    assert files and all(f.stat().st_size < 500_000 for f in files)


def test_running_again_writes_no_second_copy(running: Server, info: dict[str, Any]) -> None:
    def files() -> set[str]:
        return {f.name for f in (running.base / "temp").glob("gs4d_*")}

    graph = graph_of(info)
    kept = {name: graph[name] for name in ("load", "train", "psnr")}
    kept["psnr"]["inputs"]["every"] = 14
    assert running.run(kept).outcome == "execution_success"
    before = files()
    kept["psnr"]["inputs"]["device"] = "cpu"  # another graph to ComfyUI's cache, the same pictures
    run = running.run(kept)
    assert run.outcome == "execution_success" and "psnr" in pictures(running, run)
    assert files() == before
