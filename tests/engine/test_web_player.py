"""The player as a web component: one file with all that it needs and all licenses, and a folder for a web server."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.cli import main
from engine.deform import Static
from engine.errors import InputError
from engine.io.scene_file import save_scene
from engine.playback.element import assemble_element, write_web_player
from engine.playback.page import WEB, module_names, page_parts
from engine.playback.player_file import decode_player_file
from tests.markup import SCRIPT
from tests.scenes import moving_scene

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = (REPOSITORY / "tests" / "player_format" / "still.gs4dclip").read_bytes()


@pytest.fixture(scope="module")
def script() -> str:
    return assemble_element()


def test_it_is_the_same_every_time_and_no_larger_than_a_page_s_script(script, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert assemble_element() == script
    page = b"".join(page_parts([CLIP], "a")).decode()
    # all but the scene, and the page around the scripts
    scripts = [
        source
        for attributes, source in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
        if "data-clip" not in attributes
    ]
    assert len(scripts) == len(module_names()) + 1
    assert len(script.encode()) <= sum(len(source.encode()) for source in scripts)


def test_the_modules_inside_are_the_player_s(script, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT RUN: no node here")
    inside = tmp_path / "inside.mjs"
    # what a browser would be given as blobs, by the loader's own code
    inside.write_text(
        "globalThis.customElements = { get: () => null }; const found = {};"
        "globalThis.Blob = class { constructor([text]) { this.text = text; } };"
        "const held = () => Object.keys(found).length;"
        "URL.createObjectURL = ({ text }) => { found[held()] = text; return 'blob:' + held(); };\n"
        + script.replace("import(address.get(", "Promise.resolve(address.get(")
        + "\nconsole.log(JSON.stringify(found));",
        encoding="utf-8",
    )
    run = subprocess.run([node, str(inside)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr[-2000:]
    texts = list(json.loads(run.stdout).values())
    names = [*module_names()[:-1], "page/element.mjs"]
    assert len(texts) == len(names)
    assert texts[0] == (WEB / names[0]).read_text(encoding="utf-8"), "vendored code is not changed"
    for i, (name, text) in enumerate(zip(names, texts, strict=True)):
        assert not re.search(r"""["']\.{1,2}/[\w./-]+["']""", text) or i == 0, (
            f"{name} imports what is not there"
        )
        (tmp_path / "one.mjs").write_text(text, encoding="utf-8")
        check = subprocess.run([node, "--check", str(tmp_path / "one.mjs")], capture_output=True, text=True)
        assert check.returncode == 0, f"{name}: {check.stderr[-500:]}"
        # only whole lines that are comments, and indentation, are left out
        kept = iter(line.strip() for line in (WEB / name).read_text(encoding="utf-8").splitlines())
        addressed = [re.sub(r"blob:\d+", "", line) for line in text.splitlines() if "blob:" not in line]
        assert i == 0 or all(any(line.strip() == other for other in kept) for line in addressed), name


def test_it_has_every_license(script):
    own = (REPOSITORY / "LICENSE").read_text(encoding="utf-8").strip()
    theirs = (WEB / "vendor" / "LICENSES.txt").read_text(encoding="utf-8").strip()
    comment = script[: script.index("*/")]
    assert script.startswith("/*!") and own in comment and theirs in comment
    assert comment.count("Permission is hereby granted, free of charge") == 4


def test_its_messages_are_those_of_any_web_page():
    """In ComfyUI, host.js says what to do instead; a web page has no graph to run again."""
    names = [n for n in module_names() if not n.startswith("vendor/")]
    # words.js has labels of nodes too, which a page never asks for
    names = [*(n for n in names if n != "words.js"), "page/element.mjs"]
    assert "advice.mjs" in names and "host.js" not in names
    for name in names:
        lines = (WEB / name).read_text(encoding="utf-8").splitlines()
        code = "\n".join(re.sub(r"(^|\s)//.*|^\s*/?\*.*", "", line) for line in lines)
        found = re.search(r"ComfyUI|[Rr]un the graph|(the|this) pack|3D nodes", code)
        assert not found, f"{name}: {found}"
    host = (WEB / "host.js").read_text(encoding="utf-8")
    said = set(re.findall(r"^  (\w+): \"", (WEB / "advice.mjs").read_text(encoding="utf-8"), re.MULTILINE))
    inside = host[host.index("Object.assign(advice") :]
    assert said == set(re.findall(r"^  (\w+): \"", inside[: inside.index("});")], re.MULTILINE))


def test_a_missing_file_is_named(tmp_path):
    web = tmp_path / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("docs"))
    with pytest.raises(InputError, match="LICENSE is missing"):
        write_web_player(CLIP, tmp_path / "site", "a", web)
    (web / "camera.js").unlink()
    with pytest.raises(InputError, match=r"camera\.js is missing"):
        write_web_player(CLIP, tmp_path / "site", "a", web)
    assert not (tmp_path / "site").exists()


class Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_folder_has_three_files_and_a_title_that_is_text(tmp_path):
    files = write_web_player(CLIP, tmp_path / "a" / "site", SCRIPT + "\udcff")
    assert [f.name for f in files] == ["gs4d-player.js", "scene.gs4dclip", "index.html"]
    assert sorted(f.name for f in (tmp_path / "a" / "site").iterdir()) == sorted(f.name for f in files)
    assert files[1].read_bytes() == CLIP
    page = Texts()
    page.feed(files[2].read_text(encoding="utf-8"))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("gs4d-player") == 3 and tags.count("script") == 2 and "img" not in tags
    assert page.text.count(SCRIPT + "?") == 2
    named = {about["src"] for _, about in page.tags if "src" in about}
    assert named == {"gs4d-player.js", "scene.gs4dclip"}
    assert len(files[2].read_bytes()) < 4000


def test_the_command_writes_the_folder(tmp_path, capsys):
    still = moving_scene(40, views=2).with_(deformation=Static())
    save_scene(still, tmp_path / "a scene.safetensors")
    words = [
        "web-player",
        "--scene",
        str(tmp_path / "a scene.safetensors"),
        "--out",
        str(tmp_path / "site"),
        "--json",
    ]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["files"] == ["gs4d-player.js", "scene.gs4dclip", "index.html"] and said["gaussians"] == 40
    assert decode_player_file((tmp_path / "site" / "scene.gs4dclip").read_bytes(), "a").title == "a scene"
    # a file is in the way
    (tmp_path / "file").write_text("mine")
    assert main([*words[:4], str(tmp_path / "file")]) != 0
    assert (tmp_path / "file").read_text() == "mine" and "file" in capsys.readouterr().err


def test_the_page_for_web_developers_names_all_attributes_events_and_properties():
    source = (WEB / "page" / "element.mjs").read_text(encoding="utf-8")
    page = (REPOSITORY / "docs" / "web_player.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([\w-]+)(?:\(\))?`", page))
    attributes = re.findall(r'"(\w+)"', re.search(r"observedAttributes = \[(.*?)\]", source)[1])
    assert {*attributes, "autoplay", "controls"} <= described
    events = set(re.findall(r'#send\("(\w+)"', source)) | {"play", "pause"}
    assert events == {"ready", "timeupdate", "play", "pause", "error"} and events <= described
    public = set(re.findall(r"^  (?:get |set )?([a-z]\w*)\(\w*\) \{", source, re.MULTILINE))
    public -= {"constructor", "connectedCallback", "disconnectedCallback", "attributeChangedCallback"}
    assert public == {"play", "pause", "paused", "duration", "currentTime", "src", "cameras", "camera"}
    assert public <= described
