"""Self-contained pages: everything is inside, nothing is fetched, and no file can break out of its element."""

import base64
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import messages as m
from engine.errors import InputError
from engine.playback import streamed
from engine.playback.element import write_web_player
from engine.playback.page import WEB, page_parts, write_page
from engine.playback.player_file import decode_player_file
from engine.playback.segments import SegmentedFile
from engine.steps import bake_clip, export_scene
from tests.scenes import moving_scene

ROOT = Path(__file__).resolve().parents[2]
TRICKY = 'const a = "</script><b>", b = `<!-- <script>`; // {{clips}}\nexport { a, b };\n'


class Scripts(HTMLParser):
    """The script elements of a page as a browser sees them, and every address that it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.addresses: list[str] = []
        self.open: dict[str, str | None] | None = None

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v]
        if tag == "script":
            self.open = named
            self.found.append((named, ""))

    def handle_endtag(self, tag):
        if tag == "script":
            self.open = None

    def handle_data(self, data):
        if self.open is not None:
            self.found[-1] = (self.found[-1][0], self.found[-1][1] + data)


def parse(text: str) -> Scripts:
    parser = Scripts()
    parser.feed(text)
    return parser


@pytest.fixture
def web(tmp_path) -> Path:
    folder = tmp_path / "web"
    (folder / "page").mkdir(parents=True)
    (folder / "tricky.js").write_text(TRICKY)
    (folder / "page" / "modules.json").write_text(json.dumps({"modules": ["tricky.js"]}))
    (folder / "page" / "loader.mjs").write_text("")
    (folder / "page" / "template.html").write_text("<title>{{title}}</title>{{modules}}{{clips}}")
    return folder


@pytest.fixture(scope="module")
def clip() -> bytes:
    return m.result(bake_clip.run(moving_scene(30, views=2), title="a </script> b")).data


def assemble(player_files, title: str, web: Path = WEB) -> str:
    return b"".join(page_parts(player_files, title, web)).decode()


def test_what_is_inlined_stays_in_its_element(web, clip):
    text = assemble([clip, clip], 'T & "{{modules}}" </title>', web)
    scripts = parse(text).found
    assert [a.get("data-module") or a.get("data-clip") for a, _ in scripts] == ["tricky.js", "0", "1"]
    assert scripts[0][1].replace("<\\/", "</").replace("<\\!", "<!") == TRICKY
    for attributes, data in scripts[1:]:
        assert base64.b64decode(data) == clip
        assert attributes["data-name"] == "a </script> b"
    assert "<title>T &amp; &quot;{{modules}}&quot; &lt;/title&gt;</title>" in text


def test_the_pack_s_own_page_fetches_nothing_and_fills_every_mark(clip, tmp_path):
    path = write_page([clip], tmp_path / "a.html", "A scene")
    text = path.read_text(encoding="utf-8")
    page = parse(text)
    assert not page.addresses
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?://|\{\{\w+\}\}|url\(", outside)
    names = json.loads((WEB / "page" / "modules.json").read_text())["modules"]
    assert [a["data-module"] for a, _ in page.found if "data-module" in a] == names
    (data,) = (d for a, d in page.found if "data-clip" in a)
    assert len(decode_player_file(base64.b64decode(data), "inside").base) == 30
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]


def test_bytes_a_path_and_what_was_baked_make_the_same_page(tmp_path):
    scene = moving_scene(30, views=2)
    scene = scene.with_(times=torch.linspace(0, 8, 41, dtype=torch.float64))
    # in segments, and in one piece; the file system's name of a title that is not text
    for i, seconds in enumerate((2.0, 0.0)):
        config = bake_clip.Config(segment_seconds=seconds)
        baked = m.result(bake_clip.run(scene, config, title="a\udcff <b>"))
        path = baked.save(tmp_path / f"{i}.gs4dclip")
        assert isinstance(baked.player_file, SegmentedFile) == (seconds > 0)
        sources = [baked, path, baked.data]
        pages = [write_page([s, s], tmp_path / f"{k}.html", "A") for k, s in enumerate(sources)]
        assert pages[0].read_bytes() == pages[1].read_bytes() == pages[2].read_bytes()
        page = parse(pages[0].read_text(encoding="utf-8"))
        assert [base64.b64decode(d) for a, d in page.found if "data-clip" in a] == 2 * [baked.data]
        assert [a["data-name"] for a, _ in page.found if "data-clip" in a] == 2 * ["a? <b>"]
        folders = [write_web_player(s, tmp_path / f"{i}{k}", "A") for k, s in enumerate(sources)]
        for same in zip(*folders, strict=True):
            assert len({file.read_bytes() for file in same}) == 1
        assert folders[0][1].read_bytes() == baked.data


@given(data=st.binary(max_size=40), cuts=st.lists(st.integers(0, 40), max_size=8), copied=st.integers(1, 9))
def test_base64_of_parts_is_that_of_the_whole(data, cuts, copied):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streamed, "COPIED", copied)
        said = b"".join(streamed.as_base64(data[a:b] for a, b in pairwise(edges)))
    assert said == base64.b64encode(data)


def test_a_player_file_that_is_missing_or_damaged_leaves_no_page(clip, tmp_path):
    damaged = tmp_path / "damaged.gs4dclip"
    damaged.write_bytes(clip[:500])
    for source, words in (
        (tmp_path / "none.gs4dclip", "none.gs4dclip cannot be read"),
        (damaged, "cut short"),
    ):
        with pytest.raises(InputError, match=words):
            write_page([source], tmp_path / "a.html", "A")
        with pytest.raises(InputError, match=words):
            write_web_player(source, tmp_path / "site", "A")
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.gs4dclip"]


@pytest.mark.skipif(sys.platform != "linux", reason="measures a process as Linux does")
def test_a_large_player_file_is_copied_part_by_part(tmp_path):
    vector = Path(__file__).resolve().parents[1] / "player_format" / "segments_cubic.gs4dclip"
    large = tmp_path / "large.gs4dclip"
    # bytes that no block covers are ignored
    large.write_bytes(vector.read_bytes() + bytes(80 << 20))
    script = COPYING.format(root=str(ROOT), small=str(vector), large=str(large), folder=str(tmp_path))
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    before, after = map(int, out.stdout.split())
    assert after - before < 14_000, f"{before} kB for a small file, {after} kB for one of 80 MB"
    assert (tmp_path / "a.html").stat().st_size > 2 * (106 << 20)
    assert (tmp_path / "site" / "scene.gs4dclip").stat().st_size == large.stat().st_size


def test_exports_never_ask_for_a_whole_file(tmp_path, monkeypatch):
    from engine.cli import main
    from engine.deform import Static
    from engine.io.scene_file import save_scene
    from engine.playback.bake import Baked

    whole: list[Baked] = []
    monkeypatch.setattr(Baked, "data", property(whole.append))
    still = moving_scene(30, views=2).with_(deformation=Static())
    source = str(save_scene(still, tmp_path / "a.safetensors"))
    for verb, out in (("clip", "a.gs4dclip"), ("page", "a.html"), ("web-player", "site")):
        assert main([verb, "--scene", source, "--out", str(tmp_path / out)]) == 0
    assert not whole and (tmp_path / "site" / "scene.gs4dclip").stat().st_size > 0


COPYING = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from engine.playback.element import write_web_player
from engine.playback.page import write_page
from tests.engine.test_segments import peak_kb
for file in map(Path, ({small!r}, {large!r})):
    write_page([file, file], Path({folder!r}) / "a.html", "A")
    write_web_player(file, Path({folder!r}) / "site", "A")
    print(peak_kb())
"""


def test_an_export_compares_two_scenes_in_one_page(tmp_path):
    scenes = [moving_scene(20 + 10 * i, views=2) for i in range(2)]
    config = export_scene.Config(kind="html")
    messages = list(export_scene.run(scenes[0], config, tmp_path / "both.html", scenes[1]))
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    page = parse(messages[-1].value[0].read_text(encoding="utf-8"))
    clips = [decode_player_file(base64.b64decode(d), "inside") for a, d in page.found if "data-clip" in a]
    assert [len(c.base) for c in clips] == [20, 30]
    assert [c.title for c in clips] == ["Before", "After"]
    with pytest.raises(InputError, match="one scene"):
        m.result(export_scene.run(scenes[0], export_scene.Config(kind="ply"), tmp_path / "a.ply", scenes[1]))


@pytest.mark.parametrize("kind", ["clip", "html"])
def test_an_export_tells_what_was_left_out_and_is_named_like_its_file(kind, tmp_path):
    from engine.playback.bake_config import BakeConfig

    scene = moving_scene(40, views=2)
    config = export_scene.Config(kind=kind)
    target = tmp_path / f"walk_00001_{export_scene.suffix(config)}"
    written = m.result(export_scene.run(scene, config, target, bake_config=BakeConfig(most=25)))
    assert written == [target] and "Thinned from 40 to 25" in written.notes[0]
    if kind == "html":
        assert "<title>walk_00001</title>" in target.read_text(encoding="utf-8")
    assert m.result(export_scene.run(scene, config, target)).notes == ()


def test_a_page_s_title_that_is_no_text_is_written_all_the_same(web, clip, tmp_path):
    path = write_page([clip], tmp_path / "a.html", "a\udcff", web)
    assert "<title>a?</title>" in path.read_text(encoding="utf-8")


def test_what_makes_no_page_is_named(web, clip, tmp_path):
    for clips in ([], [clip] * 3):
        with pytest.raises(InputError, match="one or two player files"):
            assemble(clips, "a", web)
    with pytest.raises(InputError, match="cut short"):
        assemble([clip[:500]], "a", web)
    (web / "tricky.js").unlink()
    with pytest.raises(InputError, match="tricky"):
        write_page([clip], tmp_path / "a.html", "a", web)
    assert not list(tmp_path.glob("*.html"))


def test_the_command_line_bakes_clips_and_writes_pages(tmp_path, capsys):
    from engine.cli import main
    from engine.deform import PerFrame
    from engine.io.scene_file import save_scene

    scene = moving_scene(40, views=2)
    scene = scene.with_(deformation=PerFrame.of([scene.at(float(t)) for t in scene.times], scene.times))
    source = str(save_scene(scene, tmp_path / "swing.safetensors"))
    assert (
        main(["clip", "--scene", source, "--out", str(tmp_path / "a.gs4dclip"), "--most", "30", "--json"])
        == 0
    )
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["gaussians"] == 30 and report["max_error"] <= 0.002 and len(report["notes"]) == 1
    assert len(decode_player_file((tmp_path / "a.gs4dclip").read_bytes(), "a").base) == 30
    page = str(tmp_path / "a.html")
    assert main(["page", "--scene", source, "--compare", source, "--out", page, "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["megabytes"] > 0.1 and report["notes"] == []
    assert main(["page", "--scene", source, "--compare", source, "--out", page, "--most", "30"]) == 0
    assert "After: Thinned from 40 to 30" in capsys.readouterr().out
    assert sum("data-clip" in a for a, _ in parse(Path(page).read_text(encoding="utf-8")).found) == 2
    assert main(["page", "--scene", str(tmp_path / "none"), "--out", page]) == 1
    folder = tmp_path / "b.gs4dclip"
    folder.mkdir()
    assert main(["clip", "--scene", source, "--out", str(folder)]) == 1
    assert "folder" in capsys.readouterr().err
    before = Path(source).read_bytes()
    assert main(["clip", "--scene", source, "--out", source]) == 1
    assert "gs4dclip" in capsys.readouterr().err and Path(source).read_bytes() == before
