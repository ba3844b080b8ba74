"""Prompt editing in a real ComfyUI: both ways to bring a model, canceled and resumed, replaced, masked, refused.

The models have RANDOM weights and the pictures are tiny: what is tested is that everything is wired and kept, not beauty.
"""

import json
import sys
from pathlib import Path
from typing import Any

import graphs
import pytest
import torch
from safetensors.torch import load_file
from server import Run, Server

pytestmark = pytest.mark.comfy
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
RANDOM = "diffusers/random"


@pytest.fixture(scope="session")
def info(running: Server) -> dict[str, Any]:
    """With a folder of random weights in models/diffusers, and one that takes no picture."""
    from tiny_diffusion import tiny_folder

    folder = running.base / "models" / "diffusers"
    tiny_folder(folder / "random")
    tiny_folder(folder / "text only", has_image_conditioning=False)
    return running.get("/object_info")


def sources(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        "file": graphs.from_file(info, RANDOM),
        "wires": graphs.from_wires(info),
        "bundled": graphs.from_file(info, "embedded (small)"),
    }


@pytest.mark.parametrize("source", ["file", "wires"])
def test_a_graph_runs_from_clip_to_edited_scene(running: Server, info: dict[str, Any], source: str) -> None:
    run = running.run(graphs.edit(info, sources(info)[source]))
    assert run.outcome == "execution_success", run.error
    assert run.progress("edit")[-1] == graphs.TINY_EDIT["steps"]
    assert run.progress("fit")[-1] == graphs.TINY_FIT["iterations"]
    assert run.progress("refine")[-1] == graphs.TINY_REFINE["iterations"]
    assert run.previews >= 6
    said = "\n".join(run.said)
    assert "edits images" in said and "3 images, " in said and "captured originals" in said
    assert "psnr_to_edits" in said and "psnr_to_original" in said
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["edited"]["images"]) == len(shown["originals"]["images"]) == 3
    newest = max(
        (running.base / "output" / "gs4d").glob("edited_*.safetensors"), key=lambda p: p.stat().st_mtime_ns
    )
    history = scene_of(newest)["history"]
    assert [entry["step"] for entry in history][-2:] == ["fit_edits", "refine_score"]
    assert all(entry["prompt"] == "make it gold" for entry in history[-2:])
    assert not list((running.base / "output" / "gs4d" / "training").glob("*")), (
        "a checkpoint outlived its work"
    )


@pytest.mark.parametrize(("source", "read"), [("file", 77), ("wires", 300)])
def test_a_hostile_prompt_of_10_000_characters_runs_and_is_noted(
    running: Server, info: dict[str, Any], source: str, read: int
) -> None:
    graph = graphs.edit(info, sources(info)[source])
    prompt = ("</script><img src=x> 把它变成 make it\x1b[31m gold\n" * 300)[:10_000]
    for node in graph.values():
        if "prompt" in node["inputs"]:
            node["inputs"]["prompt"] = prompt
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    for node in ("edit", "refine"):
        (note,) = [line for line in run.notes[node] if line.startswith("The prompt has")]
        assert f"reads the first {read} and ignores the rest" in note
        assert all(len(line) <= 200 and line.isprintable() for line in run.notes[node])


@pytest.mark.parametrize("source", ["file", "wires"])
def test_a_model_without_picture_input_refines_a_scene(
    running: Server, info: dict[str, Any], source: str
) -> None:
    text_only = {
        "file": graphs.from_file(info, "diffusers/text only"),
        "wires": graphs.from_wires(info, has_image_conditioning=False),
    }
    graph = {
        **trained(info),
        **text_only[source],
        "refine": graphs.node(
            info, "GS4D_RefineScore", scene=["train", 0], guidance=["guidance", 0], **graphs.TINY_REFINE
        ),
        "save": graphs.node(
            info, "GS4D_Save4DScene", scene=["refine", 0], filename_prefix=f"gs4d/text only {source}"
        ),
    }
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert any("score distillation and delta edits only" in text for text in run.said)
    assert run.progress("refine")[-1] == graphs.TINY_REFINE["iterations"]


def scene_of(path: Path) -> dict[str, Any]:
    """The JSON part of a scene file."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["scene"])


def stop_at(running: Server, node: str, step: int, stopped: dict[str, float]) -> Any:
    def listen(kind: str, data: dict[str, Any], run: Run) -> None:
        if kind == "progress" and data.get("node") == node and data["value"] >= step and not stopped:
            stopped["at"] = running.worked()
            running.interrupt()

    return listen


@pytest.mark.parametrize(
    ("source", "node", "long"),
    [
        ("file", "edit", {"steps": 150}),
        ("wires", "edit", {"steps": 150}),
        ("file", "fit", {"iterations": 4000, "preview_every": 0}),
        ("file", "refine", {"iterations": 300}),
        ("wires", "refine", {"iterations": 300}),
    ],
)
def test_cancel_acts_within_a_second_and_the_next_run_goes_on(
    running: Server, info: dict[str, Any], source: str, node: str, long: dict[str, Any]
) -> None:
    graph = graphs.edit(info, sources(info)[source])
    graph[node]["inputs"].update(long)
    for name in ("render", "path", "shown", "measure", "edited", "originals"):
        graph.pop(name)
    graph["save"]["inputs"]["filename_prefix"] = f"gs4d/cancelled {source} {node}"
    stopped: dict[str, float] = {}
    first = running.run(graph, on_event=stop_at(running, node, 3, stopped))
    waited = running.worked() - stopped["at"]
    assert first.outcome == "execution_interrupted"
    assert waited < 2.5, f"cancel took {waited:.1f} s"
    reached = max(first.progress(node))
    stopped.clear()
    second = running.run(graph, on_event=stop_at(running, node, reached + 2, stopped))
    assert second.outcome == "execution_interrupted"
    resumed = [text for text in second.texts if "resumed at step" in text]
    assert resumed and int(resumed[0].split("resumed at step ")[1].split(";")[0]) >= reached
    assert not list((running.base / "output" / "gs4d").glob(f"cancelled {source} {node}*"))
    for kept in (running.base / "output" / "gs4d" / "training").glob("*"):
        kept.unlink()


def test_pictures_of_another_node_take_the_place_of_the_edited_ones(
    running: Server, info: dict[str, Any]
) -> None:
    """An inverted copy of the views: the scene must take on the inverted colors."""
    graph = trained(info)
    graph |= {
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "inverted": graphs.node(info, "ImageInvert", image=["views", 1]),
        "fit": graphs.node(
            info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], images=["inverted", 0], iterations=150,
            preview_every=0,
        ),
        "measure": graphs.node(info, "GS4D_EvaluateEdit", scene=["fit", 0], views=["views", 0], every=30, pictures=0),
        "before": graphs.node(info, "GS4D_EvaluateEdit", scene=["train", 0], views=["views", 0], every=30, pictures=0),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    to_views = [psnr_to_edits(text) for text in run.said if "psnr_to_edits" in text]
    assert len(to_views) == 2
    assert max(to_views) - min(to_views) > 3, "the scene did not follow the pictures that were put in"


@pytest.mark.parametrize("other", ["", "missing", "sizes", "numbers"])
def test_a_list_of_pictures_is_fitted_in_one_run(running: Server, info: dict[str, Any], other: str) -> None:
    """Rebatch makes a list, as a graph does that sends views through an editor one at a time."""
    graph = trained(info)
    graph |= {
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "each": graphs.node(info, "RebatchImages", images=["views", 1], batch_size=1),
        "inverted": graphs.node(info, "ImageInvert", image=["each", 0]),
        "fit": graphs.node(
            info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], images=["inverted", 0], iterations=6,
            preview_every=0,
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["fit", 0], filename_prefix=f"gs4d/list{other}"),
    }  # fmt: skip
    if other == "missing":
        graph["inverted"] = graphs.node(info, "ImageFromBatch", image=["views", 1], batch_index=0, length=2)
    if other == "sizes":
        graph["inverted"] = graphs.node(
            info, "ImageScale", image=["views", 1], width=64, height=64, crop="center", upscale_method="area"
        )
    if other == "numbers":
        # the width of each image, as a list
        graph["fit"]["inputs"]["iterations"] = ["count", 0]
        graph["count"] = graphs.node(info, "GetImageSize", image=["each", 0])
    run = running.run(graph)
    if other:
        assert run.outcome == "execution_error"
        said = {
            "missing": "2 images of 49×64 were given for 3 views of 49×64",
            "sizes": "edges they are 7.5 pixels apart. Give images of 64×84 or 49×64",
            "numbers": "iterations is a list of 3",
        }[other]
        assert said in run.error
        return
    assert run.outcome == "execution_success", run.error
    assert run.progress("fit") == sorted(run.progress("fit")) and run.progress("fit")[-1] == 6
    assert len(list((running.base / "output" / "gs4d").glob("list_*.safetensors"))) == 1
    assert any("order of the images assumed: cam00" in line for line in run.notes["fit"])


def test_sheets_of_views_go_through_an_editor_one_by_one(running: Server, info: dict[str, Any]) -> None:
    graph = trained(info)
    graph |= {
        "views": graphs.node(
            info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64, size_for="multiple of 16"
        ),
        "sheet": graphs.node(info, "GS4D_ViewsToSheet", views=["views", 0], rows=1, columns=2, size_for="multiple of 64"),
        "each": graphs.node(info, "RebatchImages", images=["sheet", 1], batch_size=1),
        "twice": graphs.node(info, "ImageScaleBy", image=["each", 0], upscale_method="bilinear", scale_by=2.0),
        "inverted": graphs.node(info, "ImageInvert", image=["twice", 0]),
        "back": graphs.node(info, "GS4D_SheetToViews", views=["sheet", 0], sheets=["inverted", 0]),
        "shown": graphs.node(info, "PreviewImage", images=["back", 1]),
        "fit": graphs.node(info, "GS4D_FitEdits", scene=["train", 0], views=["back", 0], iterations=6, preview_every=0),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["fit", 0], filename_prefix="gs4d/sheets"),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["shown"]["images"]) == 3
    assert any("3 views on 2 sheets of 128×64" in line for line in run.notes["sheet"])
    assert any("1 cell of the last sheet has no view" in line for line in run.notes["sheet"])
    assert any(
        "3 views of 48×64 from 2 sheets of 256×128, scaled to 128×64" in line for line in run.notes["back"]
    )
    assert any("over the scene's own background" in line for line in run.notes["fit"])
    graph["back"]["inputs"]["views"] = ["views", 0]
    refused = running.run(graph)
    assert refused.outcome == "execution_error" and "were not put on a sheet" in refused.error


def psnr_to_edits(text: str) -> float:
    (line,) = (line for line in text.splitlines() if line.strip().startswith("psnr_to_edits"))
    return float(line.split()[1])


def trained(info: dict[str, Any]) -> dict[str, Any]:
    graph = graphs.train_and_render(info)
    return {name: graph[name] for name in ("load", "train")}


@pytest.mark.parametrize("one_mask", [False, True])
def test_a_lifted_mask_limits_the_edit(running: Server, info: dict[str, Any], one_mask: bool) -> None:
    """What no mask chose keeps its bits; a mask of nothing changes nothing at all."""
    name = "one" if one_mask else "each"
    masks: dict[str, Any] = {"mask": ["views", 2], "views": ["views", 0], "threshold": 0.9}
    if one_mask:
        masks = {"mask": ["solid", 0], "view": 4}
    graph = {
        **trained(info),
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "inverted": graphs.node(info, "ImageInvert", image=["views", 1]),
        "solid": graphs.node(info, "SolidMask", value=0.0, width=49, height=64),
        "selection": graphs.node(info, "GS4D_LiftMask", scene=["train", 0], **masks),
        "fit": graphs.node(
            info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], images=["inverted", 0],
            selection=["selection", 0], **graphs.TINY_FIT,
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["fit", 0], filename_prefix=f"gs4d/local {name}"),
        "before": graphs.node(info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix=f"gs4d/whole {name}"),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    (said,) = (text for text in run.said if "Gaussians selected" in text)
    chosen, count = (int(word) for word in (said.split()[0], said.split()[2]))
    assert (chosen == 0) if one_mask else (0 < chosen < count), said
    folder = running.base / "output" / "gs4d"
    ours, theirs = (load_file(folder / f"{kind} {name}_00001_.safetensors") for kind in ("local", "whole"))
    changed = {
        key for key in ours if key.startswith("gaussians.") and not torch.equal(ours[key], theirs[key])
    }
    assert bool(changed) != one_mask, changed
    moved = (ours["gaussians.sh"] != theirs["gaussians.sh"]).flatten(1).any(dim=1).sum()
    assert int(moved) <= chosen


@pytest.mark.parametrize(
    ("source", "node", "change", "said"),
    [
        ("file", "edit", {"prompt": "  "}, "prompt"),
        ("bundled", "edit", {"prompt": "make it a dragon"}, "'dragon'"),
        ("file", "edit", {"views": "99"}, "view"),
        ("file", "edit", {"moments": "last"}, "'last' is not a frame number"),
        ("file", "guidance", {"model": "diffusers/text only"}, "InstructPix2Pix"),
        ("wires", "checkpoint", {"has_image_conditioning": False}, "InstructPix2Pix"),
    ],
)
def test_what_cannot_be_edited_is_one_sentence(
    running: Server, info: dict[str, Any], source: str, node: str, change: dict[str, Any], said: str
) -> None:
    graph = graphs.edit(info, sources(info)[source])
    graph[node]["inputs"].update(change)
    kept = ("load", "train", "checkpoint", "guidance", "edit", "edited")
    run = running.run({name: graph[name] for name in kept if name in graph})
    assert run.outcome == "execution_error"
    assert said in run.error and "Traceback" not in run.error
    assert len(run.error.strip().splitlines()) == 1, run.error


@pytest.mark.parametrize(
    ("precision", "change", "said"),
    [
        ("fp32", {"prompt": "make the cape green"}, "a selection lifted from masks"),
        ("bf16", {"prompt": "make it a dragon", "force": True}, "it runs because 'force' is on"),
    ],
)
def test_the_node_tells_what_becomes_of_the_prompt(
    running: Server, info: dict[str, Any], precision: str, change: dict[str, Any], said: str
) -> None:
    graph = graphs.edit(info, sources(info)["bundled"])
    graph["guidance"]["inputs"]["precision"] = precision  # another each time: the model is loaded, not cached
    graph["edit"]["inputs"].update(change)
    run = running.run({name: graph[name] for name in ("load", "train", "guidance", "edit", "edited")})
    assert run.outcome == "execution_success", run.error
    assert any("golden hour" in text for text in run.said), "what the bundled model knows"
    # while it runs, and with the result
    assert sum(said in text for text in run.said) == 2


@pytest.mark.parametrize(
    "model", ["diffusers/../../input", "checkpoints/../x.safetensors", "diffusers/none", "/etc", "", "x"]
)
def test_only_models_of_the_model_folders_are_opened(
    running: Server, info: dict[str, Any], model: str
) -> None:
    graph = trained(info) | graphs.from_file(info, model)
    graph["edit"] = graphs.node(info, "GS4D_EditViews", scene=["train", 0], guidance=["guidance", 0])
    graph["edited"] = graphs.node(info, "PreviewImage", images=["edit", 1])
    status, body = running.post("/prompt", {"prompt": graph, "client_id": "x"})
    assert status == 400 and "guidance" in body["node_errors"]


def test_models_put_into_their_folders_are_offered(running: Server, info: dict[str, Any]) -> None:
    (running.base / "models" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (running.base / "models" / "checkpoints" / "my model.safetensors").write_bytes(b"x")
    (running.base / "models" / "checkpoints" / "old.ckpt").write_bytes(b"x")
    asked = running.get("/object_info/GS4D_LoadGuidance")["GS4D_LoadGuidance"]["input"]["required"]
    options = asked["model"][1]["options"]
    assert options[0] == "embedded (small)"
    assert {RANDOM, "diffusers/text only", "checkpoints/my model.safetensors"} <= set(options)
    assert not any(name.endswith(".ckpt") for name in options)
    graph = trained(info) | {
        "guidance": graphs.node(info, "GS4D_LoadGuidance", model="checkpoints/my model.safetensors")
    }
    graph["edit"] = graphs.node(
        info, "GS4D_EditViews", scene=["train", 0], guidance=["guidance", 0], **graphs.TINY_EDIT
    )
    graph["edited"] = graphs.node(info, "PreviewImage", images=["edit", 1])
    run = running.run(graph)
    assert run.outcome == "execution_error" and "my model.safetensors" in run.error


def test_the_masks_and_pictures_must_belong_to_the_views(running: Server, info: dict[str, Any]) -> None:
    graph = {
        **trained(info),
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "two": graphs.node(info, "EmptyImage", width=49, height=64, batch_size=2, color=16777215),
        "solid": graphs.node(info, "ImageToMask", image=["two", 0], channel="red"),
        "selection": graphs.node(
            info, "GS4D_LiftMask", scene=["train", 0], mask=["solid", 0], views=["views", 0]
        ),
        "fit": graphs.node(
            info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], selection=["selection", 0]
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["fit", 0]),
    }
    run = running.run(graph)
    assert run.outcome == "execution_error" and "one mask per view" in run.error
    one = graphs.node(info, "EmptyImage", width=64, height=64, batch_size=3)
    graph |= {"wrong": one, "fit": graphs.node(
        info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], images=["wrong", 0]
    )}  # fmt: skip
    graph.pop("selection")
    run = running.run(graph)
    assert run.outcome == "execution_error" and "another aspect ratio" in run.error


def test_a_text_is_segmented_and_its_masks_are_lifted(running: Server) -> None:
    """Models are found in models/gs4d/segmentation; one mask per view, in their order, selects Gaussians."""
    from tiny_segmentation import save_detector, save_segmenter

    folder = running.base / "models" / "gs4d" / "segmentation"
    save_segmenter(folder / "sam2", seed=2)
    save_detector(folder / "deeper" / "dino")
    info = running.get("/object_info")
    graph = {
        **trained(info),
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "models": graphs.node(
            info, "GS4D_LoadSegmentation", segmenter="sam2", detector="deeper/dino", device="cpu"
        ),
        "segment": graphs.node(
            info, "GS4D_SegmentByText", models=["models", 0], views=["views", 0], prompt="left eye. mouth"
        ),
        "selection": graphs.node(
            info, "GS4D_LiftMask", scene=["train", 0], mask=["segment", 0], views=["views", 0], threshold=0.0
        ),
        "preview": graphs.node(info, "PreviewImage", images=["segment", 1]),
        "fit": graphs.node(
            info, "GS4D_FitEdits", scene=["train", 0], views=["views", 0], selection=["selection", 0],
            **graphs.TINY_FIT,
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["fit", 0]),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["preview"]["images"]) == 3
    assert any("of 3 images masked" in line for line in shown["segment"]["gs4d_notes"])
    run = running.run({**graph, "segment": {**graph["segment"], "inputs": {
        **graph["segment"]["inputs"], "box_threshold": 1.0, "prompt": "hat"}}})  # fmt: skip
    assert run.outcome == "execution_error" and "'hat' was not found in any of the 3 images" in run.error
