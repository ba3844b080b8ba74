"""`make demo` in miniature: what it leaves behind."""

from engine import demo
from engine import messages as m
from engine.io.scene_file import load_scene


def test_the_demo_leaves_a_page_that_plays_before_and_after(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FIT_SECONDS", 2.0)
    report = demo.run(tmp_path / "demo", lambda stream, _: m.result(stream), seconds=4.0)
    page = tmp_path / "demo" / "before_after.html"
    assert report["page"] == str(page) and page.read_bytes().lstrip().lower().startswith(b"<!doctype html")
    edited = load_scene(tmp_path / "demo" / "edited.safetensors")
    assert edited.history[-1]["prompt"] == demo.PROMPT == "turn it into a gold statue"
    assert {"orbit.mp4", "edited.mp4", "pictures.png", "moment.ply"} < set(report["files"])
