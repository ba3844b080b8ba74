"""A node's help page opens on the canvas, with its picture and its lists."""

import json
from pathlib import Path

import pytest
from browser import Page
from server import PACK_NAME, Server

pytestmark = [pytest.mark.browser, pytest.mark.comfy]
REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "web" / "docs"
NODES = sorted(path.stem for path in DOCS.glob("*.md"))


def test_the_server_hands_out_every_page_and_picture(running: Server) -> None:
    for file in (*DOCS.glob("*.md"), *(DOCS / "pictures").iterdir()):
        name = file.relative_to(DOCS).as_posix()
        assert running.get_bytes(f"/extensions/{PACK_NAME}/docs/{name}") == file.read_bytes()


@pytest.mark.parametrize("node", ["GS4D_Train4DScene", "GS4D_Preview4DScene"])
def test_help_opens_with_picture_and_list(page: Page, node: str) -> None:
    label = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text())[node]["display_name"]
    page.js(
        """type => { app.graph.clear(); const node = LiteGraph.createNode(type); app.graph.add(node);
          node.pos = [300, 200]; app.canvas.selectNode(node); app.canvas.setDirty(true, true); }""",
        node,
    )
    page.page.locator("[data-testid='info-button']").first.click(timeout=20_000)
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('img')].some(i => i.src.includes('/docs/pictures/') && i.naturalWidth > 300)",
        timeout=20_000,
    )
    text = page.js("() => document.body.innerText")
    assert label in text and "When to use it" in text and "Where it comes from" in text
    items = page.js("() => document.querySelectorAll('li').length")
    assert items > 4
    run_off = page.js(
        "() => [...document.querySelectorAll('li strong')].filter(e => e.closest('li').scrollWidth > 480).length"
    )
    assert run_off == 0, "the help's column is narrow"
    assert not page.complaints_about_the_pack()
