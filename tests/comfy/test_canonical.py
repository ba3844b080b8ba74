"""An object from an image in a real ComfyUI, aligned with a video as scene and as ComfyUI's own SPLAT. Random weights."""

import sys
from pathlib import Path
from typing import Any

import graphs
import pytest
from server import Server

pytestmark = pytest.mark.comfy
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(scope="session")
def info(running: Server) -> dict[str, Any]:
    from tiny_trellis import save_canonical_decoder, save_encoder, save_trellis

    folder = running.base / "models" / "gs4d"
    save_trellis(folder / "deeper" / "TRELLIS-image-large")
    save_encoder(folder / "dinov2-with-registers")
    save_canonical_decoder(folder / "gvf" / "ema_static_vae_0.9999_200000.safetensors")
    return running.get("/object_info")


def objects(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """An image with a square in the middle as its foreground, and the object that is made of it."""
    return {
        "image": graphs.node(info, "EmptyImage", width=64, height=64, color=0x4080C0),
        "nothing": graphs.node(info, "SolidMask", value=0.0, width=64, height=64),
        "square": graphs.node(info, "SolidMask", value=1.0, width=24, height=24),
        "mask": graphs.node(
            info, "MaskComposite", destination=["nothing", 0], source=["square", 0], x=20, y=20, operation="add"
        ),
        "models": graphs.node(
            info, "GS4D_LoadTrellis", trellis="deeper/TRELLIS-image-large", image_encoder="dinov2-with-registers",
            decoder="gvf/ema_static_vae_0.9999_200000", device="cpu",
        ),
        "object": graphs.node(
            info, "GS4D_CanonicalFromImage", models=["models", 0], image=["image", 0], mask=["mask", 0],
            structure_steps=2, latent_steps=2, max_voxels=256,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("by", ["scene", "splat"])
def test_an_object_is_made_and_aligned(running: Server, info: dict[str, Any], by: str) -> None:
    graph = {
        **objects(info),
        "splat": graphs.node(info, "GS4D_SceneToSplat", scene=["object", 0]),
        "align": graphs.node(
            info, "GS4D_AlignSplat", splat=["object" if by == "scene" else "splat", 0], images=["image", 0],
            mask=["mask", 0], max_elevation=0.0, resolution=32,
        ),
        "save": graphs.node(info, "GS4D_Save4DScene", scene=["align", 0], filename_prefix=f"gs4d/aligned_{by}"),
        "sheet": graphs.node(info, "PreviewImage", images=["align", 1]),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    shown = {data["node"]: data["output"] for data in run.of("executed")}
    # the second run takes the object from ComfyUI's cache
    if by == "scene":
        assert any("2,048 Gaussians in 256 voxels" in line for line in shown["object"]["gs4d_notes"])
        assert len(shown["object"]["images"]) == 1
    assert len(shown["align"]["images"]) == len(shown["sheet"]["images"]) == 1
    assert any("best view: azimuth" in line for line in shown["align"]["gs4d_notes"])


def test_weights_that_do_not_fit_are_one_sentence(running: Server, info: dict[str, Any]) -> None:
    from tiny_trellis import save_encoder

    save_encoder(running.base / "models" / "gs4d" / "dinov2-small", channels=16)
    again = running.get("/object_info")
    graph = objects(again)
    graph["models"]["inputs"]["image_encoder"] = "dinov2-small"
    graph["save"] = graphs.node(again, "GS4D_Save4DScene", scene=["object", 0])
    run = running.run(graph)
    assert run.outcome == "execution_error"
    assert "takes image tokens of 24 channels, but dinov2-small makes 16" in run.error
