"""The shipped workflows in a real browser: they open from the template browser and run to the end."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from server import PACK_NAME, Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))

# quick numbers for the widgets of the shipped graph; everything else stays as it ships
QUICK = {
    "GS4D_LoadMultiViewVideo": {"scale": 0.5, "frame_step": 3},
    "GS4D_PreflightCheck": {"moments": 1},
    "GS4D_Train4DScene": {"iterations": 30, "budget": 800, "preview_every": 5},
    "GS4D_CameraPath": {"frames": 6, "width": 96, "height": 96},
    "GS4D_EvaluateScene": {"every": 9, "pictures": 2},
    "GS4D_EditViews": {"resolution": 64, "steps": 2, "views": "0 4 8"},
    "GS4D_FitEdits": {"iterations": 12, "preview_every": 4},
    "GS4D_RefineScore": {"iterations": 2, "images_per_step": 2, "resolution": 64, "preview_every": 1},
    "GS4D_TrainLatentField": {"iterations": 6, "resolution": 64, "moments": "0 2", "preview_every": 3},
    "GS4D_DeltaEdit": {"iterations": 3, "moments": "0 2", "preview_every": 1},
    "GS4D_DecodeLatents": {"views": "0 4 8"},
    "GS4D_LatentsToScene": {"iterations": 10, "views": "0 4 8", "moments": "0", "preview_every": 5},
}
# the head capture has eight cameras, and masks must be of the images that are edited
QUICK_HEAD = {
    "GS4D_LoadMultiViewVideo": {"frame_step": 6},
    "GS4D_Train4DScene": {"iterations": 6, "preview_every": 2},
    "GS4D_SceneViews": {"views": "0 4", "moments": "0"},
    "GS4D_EditViews": {"resolution": 64, "steps": 1, "views": "0 4", "moments": "0"},
    "GS4D_FitEdits": {"iterations": 4, "preview_every": 2},
    "GS4D_CameraPath": {"frames": 4, "width": 96, "height": 96},
}
SET_WIDGETS = """(quick) => {
  for (const node of app.graph.nodes)
    for (const [name, value] of Object.entries(quick[node.type] ?? {})) {
      const widget = node.widgets.find(w => w.name === name);
      if (!widget) throw new Error(`${node.type} has no widget ${name}`);
      widget.value = value;
    }
}"""
RUN = """async () => {
  const seen = {progress: {}, previews: 0, executed: [], texts: [], outcome: null, error: null};
  window.seenByTest = seen;
  const on = (name, act) => app.api.addEventListener(name, e => act(e.detail));
  on('progress', d => (seen.progress[d.node] ??= []).push(d.value));
  on('b_preview_with_metadata', () => { seen.previews += 1; });
  on('b_preview', () => { seen.previews += 1; });
  on('executed', d => { seen.executed.push(d.node); seen.texts.push(...(d.output?.gs4d_notes ?? [])); });
  on('progress_text', d => seen.texts.push(d.text));
  on('execution_interrupted', () => { seen.outcome = 'interrupted'; });
  on('execution_success', () => { seen.outcome = 'success'; });
  on('execution_error', d => { seen.outcome = 'error'; seen.error = d.exception_message; });
  await app.queuePrompt(0, 1);
}"""


def open_from_templates(page: Page, name: str = "train_and_render") -> None:
    """As an artist does it: the button at the side, the pack's name, the card."""
    page.page.get_by_text("Templates").first.click()
    page.page.get_by_text(PACK_NAME, exact=True).first.click()
    page.page.get_by_text(name, exact=True).first.click()
    page.page.wait_for_function("() => app.graph.nodes.some(n => n.type.startsWith('GS4D_'))", timeout=30_000)
    page.page.wait_for_timeout(1000)


@pytest.mark.parametrize("name", NAMES)
def test_opens_from_the_template_browser_as_it_was_saved(page: Page, name: str) -> None:
    open_from_templates(page, name)
    opened: dict[str, Any] = json.loads(page.js("() => JSON.stringify(app.graph.serialize())"))
    shipped = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))

    def essence(graph: dict[str, Any]) -> list[Any]:
        """Nodes, their wires, and our own nodes' numbers (ComfyUI's own gain widgets from version to version)."""
        return sorted(
            [
                n["id"],
                n["type"],
                [i.get("link") for i in n.get("inputs", []) if i.get("link") is not None],
                (n.get("widgets_values") or []) if n["type"].startswith("GS4D_") else None,
            ]
            for n in graph["nodes"]
        )

    assert essence(opened) == essence(shipped)
    assert page.js("() => app.graph.nodes.filter(n => n.has_errors).length") == 0
    labels = page.js(
        """() => app.graph.nodes.filter(n => n.type.startsWith('GS4D_'))
             .flatMap(n => (n.widgets ?? []).map(w => w.label ?? w.name))"""
    )
    # for artists: labels of Train 4D Scene, Animate Splat with Mesh, Prepare Video and Generate 4D from Image
    known = {"max seconds (0 = no limit)", "fit mesh to splat", "frame count (0 = all)", "steps (0 = auto)"}
    assert known & set(labels)
    assert not [text for text in labels if "_" in text]
    assert not page.complaints_about_the_pack()


def run_to_the_end(page: Page, seconds: int = 300) -> tuple[dict[str, Any], dict[str, str]]:
    """What a successful run showed, and the graph's node ids by type."""
    page.js(RUN)
    page.page.wait_for_function("() => window.seenByTest.outcome", timeout=1000 * seconds)
    page.page.wait_for_timeout(1500)
    seen = page.js("() => window.seenByTest")
    assert seen["outcome"] == "success", seen["error"]
    return seen, dict(page.js("() => app.graph.nodes.map(n => [n.type, String(n.id)])"))


def test_runs_to_the_end_with_progress_and_pictures(page: Page, running: Server) -> None:
    open_from_templates(page)
    page.js(SET_WIDGETS, QUICK)
    seen, ids = run_to_the_end(page, seconds=180)
    assert seen["progress"][ids["GS4D_Train4DScene"]][-1] == 30
    assert seen["progress"][ids["GS4D_Render4DScene"]][-1] == 6
    assert seen["previews"] >= 3, "no preview pictures came"
    assert {ids["PreviewImage"], ids["SaveVideo"]} <= set(seen["executed"])
    assert list((running.base / "output" / "gs4d").glob("walker_*.safetensors"))
    assert not page.complaints_about_the_pack()
    page.fit()
    # each shows what it did in the node itself, without a node behind it
    for kind in ("GS4D_PreflightCheck", "GS4D_Train4DScene", "GS4D_EvaluateScene"):
        shown = page.js(
            "kind => app.graph.nodes.find(n => n.type === kind).imgs?.map(i => i.naturalWidth)", kind
        )
        assert shown and len(shown) == 1 and shown[0] > 200, kind
    assert colourful(page.page.screenshot(), page, "PreviewImage") > 0.02, (
        "no picture is drawn in Preview Image"
    )


def test_the_edit_runs_to_the_end_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "instruct_4dgs")
    page.js(SET_WIDGETS, QUICK)
    seen, ids = run_to_the_end(page)
    for node, last in (("GS4D_EditViews", 2), ("GS4D_FitEdits", 12), ("GS4D_RefineScore", 2)):
        assert seen["progress"][ids[node]][-1] == last
    assert seen["previews"] >= 5, "no preview pictures came"
    assert {ids["PreviewImage"], ids["SaveVideo"]} <= set(seen["executed"])
    assert list((running.base / "output" / "gs4d").glob("edited_*.safetensors"))
    assert not page.complaints_about_the_pack()
    page.fit()
    assert (
        page.js("() => app.graph.nodes.filter(n => n.type === 'PreviewImage').at(-1).imgs?.length ?? 0") == 3
    )


def test_an_image_editor_edits_a_sheet_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "edit_with_image_editor")
    page.js(SET_WIDGETS, QUICK)
    seen, ids = run_to_the_end(page)
    assert seen["progress"][ids["GS4D_FitEdits"]][-1] == 12
    assert {ids["PreviewImage"], ids["SaveVideo"]} <= set(seen["executed"])
    assert any("9 views on 1 sheet of" in text for text in seen["texts"])
    assert any("over the scene's own background" in text for text in seen["texts"])
    assert list((running.base / "output" / "gs4d").glob("edited by image editor_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_the_edit_in_latent_space_runs_to_the_end_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "ed_nerf")
    page.js(SET_WIDGETS, QUICK)
    seen, ids = run_to_the_end(page)
    ends = {
        "GS4D_TrainLatentField": 6,
        "GS4D_DeltaEdit": 3,
        "GS4D_DecodeLatents": 3,
        # three images decoded, one step of the model's own edit, ten of the fit
        "GS4D_LatentsToScene": 14,
    }
    assert {node: seen["progress"][ids[node]][-1] for node in ends} == ends
    assert seen["previews"] >= 5, "no preview pictures came"
    assert not [text for text in seen["texts"] if "from another autoencoder" in text], (
        "the model knows its own latents"
    )
    assert {ids["PreviewImage"], ids["SaveVideo"]} <= set(seen["executed"])
    assert list((running.base / "output" / "gs4d").glob("edited in latents_*.safetensors"))
    assert not page.complaints_about_the_pack()
    page.fit()
    assert (
        page.js("() => app.graph.nodes.filter(n => n.type === 'PreviewImage').at(-1).imgs?.length ?? 0") == 3
    )


def test_a_head_is_trained_edited_and_driven_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "edit3dgs")
    page.js(SET_WIDGETS, QUICK_HEAD)
    seen, ids = run_to_the_end(page)
    for node, last in (("GS4D_Train4DScene", 6), ("GS4D_EditViews", 1), ("GS4D_FitEdits", 4)):
        assert seen["progress"][ids[node]][-1] == last
    assert {ids["PreviewImage"], ids["SaveVideo"], ids["GS4D_HeadRegionMask"]} <= set(seen["executed"])
    assert list((running.base / "output" / "gs4d").glob("edited head_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_a_splat_dances_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "animate_splat")
    page.js(
        SET_WIDGETS,
        {
            "GS4D_AnimateSplatWithMesh": {"fps": 4},
            "GS4D_Preview4DScene": {"most": 1000},
            "GS4D_CameraPath": {"frames": 3, "width": 64, "height": 64},
        },
    )
    seen, ids = run_to_the_end(page)
    assert seen["progress"][ids["GS4D_AnimateSplatWithMesh"]][-1] == 17
    assert [text for text in seen["texts"] if "up axis y down, turn 0°" in text]
    assert list((running.base / "output" / "gs4d").glob("dancer_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_a_video_moves_a_splat_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "gvf_diffusion")
    page.js(
        SET_WIDGETS,
        {
            "GS4D_PrepareVideo": {"size": 64},
            "GS4D_Preview4DScene": {"most": 1000},
            "GS4D_CameraPath": {"frames": 3, "width": 64, "height": 64},
        },
    )
    seen, ids = run_to_the_end(page)
    assert {ids["PreviewImage"], ids["SaveVideo"], ids["GS4D_Save4DScene"]} <= set(seen["executed"])
    assert [text for text in seen["texts"] if text.startswith("2048 Gaussians, 16 frames")]
    assert seen["previews"] >= 1, "no preview pictures came"
    assert list((running.base / "output" / "gs4d").glob("animated_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_an_image_becomes_a_scene_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "diff4splat")
    page.js(SET_WIDGETS, {"GS4D_Preview4DScene": {"most": 1000}})
    seen, ids = run_to_the_end(page)
    assert {ids["SaveVideo"], ids["GS4D_Save4DScene"], ids["GS4D_GenerateFromImage"]} <= set(seen["executed"])
    assert [text for text in seen["texts"] if "9 frames, 1.00 s, 9 cameras" in text]
    assert list((running.base / "output" / "gs4d").glob("imagined_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_a_video_is_lifted_and_refined_on_what_ships(page: Page, running: Server) -> None:
    open_from_templates(page, "lift_video")
    page.js(
        SET_WIDGETS,
        {
            "GS4D_LiftVideo": {"frame_count": 4, "frame_step": 2},
            "GS4D_Train4DScene": {"iterations": 2, "preview_every": 1},
            "GS4D_Preview4DScene": {"most": 1000},
            "GS4D_CameraPath": {"view": 1, "frames": 3, "width": 64, "height": 48},
        },
    )
    seen, ids = run_to_the_end(page)
    assert seen["progress"][ids["GS4D_Train4DScene"]][-1] == 2
    assert {ids["SaveVideo"], ids["GS4D_Save4DScene"], ids["GS4D_LiftVideo"]} <= set(seen["executed"])
    assert [text for text in seen["texts"] if "cameras: solved" in text]
    assert list((running.base / "output" / "gs4d").glob("lifted_*.safetensors"))
    assert not page.complaints_about_the_pack()


def test_an_edit_cancelled_on_the_canvas_goes_on_where_it_was(page: Page, running: Server) -> None:
    open_from_templates(page, "instruct_4dgs")
    page.js(SET_WIDGETS, {**QUICK, "GS4D_FitEdits": {"iterations": 5000, "preview_every": 0}})
    fit = dict(page.js("() => app.graph.nodes.map(n => [n.type, String(n.id)])"))["GS4D_FitEdits"]
    reached = -1
    for _ in range(2):
        page.js(RUN)
        page.page.wait_for_function(
            "([node, last]) => (window.seenByTest.progress[node] ?? []).at(-1) > last + 5 || window.seenByTest.outcome",
            arg=[fit, reached],
            timeout=300_000,
        )
        page.js("() => app.api.interrupt(null)")
        page.page.wait_for_function("() => window.seenByTest.outcome", timeout=30_000)
        seen = page.js("() => window.seenByTest")
        assert seen["outcome"] == "interrupted", seen["error"]
        resumed = [text for text in seen["texts"] if "resumed at step" in text]
        assert bool(resumed) == (reached > 0)
        if resumed:
            assert int(resumed[0].split("resumed at step ")[1].split(";")[0]) >= reached
        reached = seen["progress"][fit][-1]


def colourful(screenshot: bytes, page: Page, kind: str) -> float:
    """The share of pixels of the last node of a kind, as the canvas shows it, that are not gray."""
    from PIL import Image

    box = page.js(
        """kind => {
          const node = app.graph.nodes.filter(n => n.type === kind).at(-1);
          const {scale, offset} = app.canvas.ds, area = app.canvas.canvas.getBoundingClientRect();
          return [(node.pos[0] + offset[0]) * scale + area.left, (node.pos[1] + offset[1]) * scale + area.top,
                  node.size[0] * scale, node.size[1] * scale];
        }""",
        kind,
    )
    left, top, width, height = (round(v) for v in box)
    picture = Image.open(io.BytesIO(screenshot)).convert("HSV").crop((left, top, left + width, top + height))
    saturation = picture.getchannel("S").tobytes()
    return sum(value > 60 for value in saturation) / max(len(saturation), 1)


def test_the_help_page_of_a_node_is_shown(page: Page, running: Server) -> None:
    text = running.get_bytes(f"/extensions/{PACK_NAME}/docs/GS4D_Train4DScene.md").decode()
    assert "Cancel" in text
    open_from_templates(page)
    page.js(
        """() => {
          app.canvas.selectNode(app.graph.nodes.find(n => n.type === 'GS4D_Train4DScene'));
        }"""
    )
    page.page.wait_for_timeout(500)
    button = page.page.locator("[data-testid='info-button'], button:has(.icon-\\[lucide--info\\])").first
    if button.count() == 0:
        pytest.skip("this frontend has no info button on selected nodes")
    button.click()
    page.page.get_by_text("captured image and the current render side by side").first.wait_for(timeout=15_000)
