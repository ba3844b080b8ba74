"""Editing in latent space in a real ComfyUI: both ways to bring a model, canceled and resumed, masked, refused.

The models have RANDOM weights and the pictures are tiny: what is tested is that everything is wired and kept, not beauty.
"""

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
RANDOM, TEXT_ONLY = "diffusers/random", "diffusers/text only"
KEPT = ("output", "gs4d", "training")


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
        "text only": graphs.from_file(info, TEXT_ONLY),
    }


def kept(running: Server) -> list[Path]:
    return list(running.base.joinpath(*KEPT).glob("*"))


@pytest.mark.parametrize("source", ["file", "wires", "text only"])
def test_a_graph_runs_from_clip_to_a_scene_edited_in_latent_space(
    running: Server, info: dict[str, Any], source: str
) -> None:
    graph = graphs.latent_edit(info, sources(info)[source])
    graph["save"]["inputs"]["filename_prefix"] = f"gs4d/delta {source}"
    if source == "wires":  # started from the middle block of the wired VAE
        graph["field"]["inputs"]["refiner"] = "autoencoder"
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    assert run.progress("field")[-1] == graphs.TINY_FIELD["iterations"]
    assert run.progress("edit")[-1] == graphs.TINY_DELTA["iterations"]
    assert run.progress("decode")[-1] == 3
    assert run.progress("scene")[-1] == 6 + graphs.TINY_RETURN["iterations"], "six pictures, then the fit"
    assert run.previews >= 8
    said = "\n".join(run.said)
    assert "4 latent channels" in said and "refinement layer with 32 channels" in said
    assert "from another autoencoder" in said, "random weights know no latents"
    assert "3 images of" in said and "psnr_to_edits" in said
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    assert len(shown["decoded"]["images"]) == len(shown["originals"]["images"]) == 3
    (path,) = (running.base / "output" / "gs4d").glob(f"delta {source}_*.safetensors")
    from test_edit import scene_of

    steps = {entry["step"]: entry for entry in scene_of(path)["history"]}
    assert list(steps)[-3:] == ["train_latents", "delta_edit", "latents_to_scene"]
    assert steps["delta_edit"]["prompt"] == "a gold statue"
    assert steps["delta_edit"]["source_prompt"] == "a person"
    assert steps["delta_edit"]["looks_at"] == ("nothing" if source == "text only" else "rendered")
    assert not kept(running), "a checkpoint outlived its work"


def stop_at(running: Server, node: str, step: int) -> Any:
    stopped: list[int] = []

    def listen(kind: str, data: dict[str, Any], run: Run) -> None:
        if kind == "progress" and data.get("node") == node and data["value"] >= step and not stopped:
            stopped.append(data["value"])
            running.interrupt()

    return listen


@pytest.mark.parametrize(
    ("source", "node", "iterations"),
    [("file", "field", 60), ("wires", "field", 60), ("file", "edit", 24), ("wires", "edit", 24), ("file", "scene", 60)],
)  # fmt: skip
def test_a_cancelled_edit_ends_with_the_bits_of_one_that_was_not(
    running: Server, info: dict[str, Any], source: str, node: str, iterations: int
) -> None:
    graph = graphs.latent_edit(info, sources(info)[source])
    for name in ("decode", "decoded", "originals", "measure"):
        graph.pop(name)
    graph["save"]["inputs"]["filename_prefix"] = f"gs4d/cancelled {source} {node}"
    # other work comes between, else the server answers from its cache
    for count in (iterations, 2):
        graph[node]["inputs"] |= {"iterations": count, "preview_every": 0}
        run = running.run(graph)
        assert run.outcome == "execution_success", run.error
    graph[node]["inputs"]["iterations"] = iterations
    before = 6 if node == "scene" else 0  # pictures are decoded before the fit begins
    first = running.run(graph, on_event=stop_at(running, node, before + 3))
    assert first.outcome == "execution_interrupted"
    reached = max(first.progress(node)) - before
    assert 0 < reached < iterations and kept(running)
    second = running.run(graph)
    assert second.outcome == "execution_success", second.error
    resumed = [text for text in second.texts if "resumed at step" in text]
    assert resumed and int(resumed[0].split("resumed at step ")[1].split(";")[0]) >= reached
    assert not kept(running)
    folder = running.base / "output" / "gs4d"
    whole, other, again = (
        load_file(folder / f"cancelled {source} {node}_{number:05}_.safetensors") for number in (1, 2, 3)
    )
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert not torch.equal(other["gaussians.sh"], whole["gaussians.sh"]), "or nothing was compared"


@pytest.mark.parametrize("nothing", [False, True])
def test_a_lifted_mask_limits_a_delta_edit(running: Server, info: dict[str, Any], nothing: bool) -> None:
    """What no mask chose keeps its bits; a mask of nothing changes nothing at all and says so."""
    graph = graphs.latent_edit(info, sources(info)["file"])
    masks: dict[str, Any] = {"mask": ["views", 2], "views": ["views", 0], "threshold": 0.9}
    if nothing:
        masks = {"mask": ["solid", 0], "view": 4}
    graph |= {
        "views": graphs.node(info, "GS4D_SceneViews", scene=["train", 0], views="0 4 8", resolution=64),
        "solid": graphs.node(info, "SolidMask", value=0.0, width=49, height=64),
        "selection": graphs.node(info, "GS4D_LiftMask", scene=["train", 0], **masks),
        "before": graphs.node(
            info, "GS4D_Save4DScene", scene=["train", 0], filename_prefix=f"gs4d/delta whole {nothing}"
        ),
    }
    for name in ("edit", "scene"):
        graph[name]["inputs"]["selection"] = ["selection", 0]
    graph["edit"]["inputs"]["frees"] = "shape"
    graph["save"]["inputs"]["filename_prefix"] = f"gs4d/delta local {nothing}"
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    (said,) = (text for text in run.said if "Gaussians selected" in text)
    chosen, count = (int(word) for word in (said.split()[0], said.split()[2]))
    assert (chosen == 0) if nothing else (0 < chosen < count), said
    assert any("the mask does not select any Gaussian" in text for text in run.said) == nothing
    folder = running.base / "output" / "gs4d"
    ours, theirs = (
        load_file(folder / f"delta {kind} {nothing}_00001_.safetensors") for kind in ("local", "whole")
    )
    for name in ("gaussians.sh", "gaussians.means"):
        moved = (ours[name] != theirs[name]).flatten(1).any(dim=1).sum()
        assert (0 < int(moved) <= chosen) != nothing, name


@pytest.mark.parametrize(
    ("node", "change", "words"),
    [
        ("edit", {"source_prompt": " "}, ("source prompt is empty", "a person walking")),
        ("edit", {"prompt": ""}, ("prompt is empty",)),
        ("edit", {"views": "99"}, ("view",)),
        ("edit", {"min_timestep": 0.9, "max_timestep": 0.1}, ("min_timestep",)),
        ("edit", {"guidance": ["other", 0]}, ("a different VAE", "train the latent field with")),
        ("decode", {"guidance": ["other", 0]}, ("a different VAE", "train the latent field with")),
        ("scene", {"guidance": ["other", 0]}, ("a different VAE", "train the latent field with")),
        ("field", {"resolution": 100}, ("resolution is 100", "multiple of 8")),
        ("field", {"originals": "captured", "video": None}, ("no video is connected",)),
        ("edit", {"selection": ["selection", 0]}, ("Gaussians", "mask")),
    ],
)
def test_what_cannot_be_edited_in_latent_space_is_one_sentence(
    running: Server, info: dict[str, Any], node: str, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    graph = graphs.latent_edit(info, sources(info)["file"])
    if "guidance" in change:
        wired = graphs.from_wires(info)
        graph |= {"checkpoint": wired["checkpoint"], "other": wired["guidance"]}
    if "selection" in change:
        other = graphs.train_and_render(info, budget=500, seed=2)["train"]
        graph |= {
            "other": other,
            "solid": graphs.node(info, "SolidMask", value=1.0, width=49, height=64),
            "selection": graphs.node(info, "GS4D_LiftMask", scene=["other", 0], mask=["solid", 0]),
        }
    graph[node]["inputs"].update(change)
    graph[node]["inputs"] = {
        name: value for name, value in graph[node]["inputs"].items() if value is not None
    }
    run = running.run(graph)
    assert run.outcome == "execution_error"
    for word in words:
        assert word in run.error, run.error
    assert "Traceback" not in run.error and len(run.error.strip().splitlines()) == 1, run.error


def test_a_model_without_picture_input_cannot_look_at_originals(
    running: Server, info: dict[str, Any]
) -> None:
    graph = graphs.latent_edit(info, sources(info)["text only"])
    graph["edit"]["inputs"]["looks_at"] = "originals"
    run = running.run(graph)
    assert run.outcome == "execution_error" and "does not use a conditioning image" in run.error
