"""The player's files: who imports whom, what a page holds, what is loaded at start, whose code is vendored."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath

WEB = Path(__file__).resolve().parents[2] / "web"
STATIC = re.compile(r"""^(?:import|export)\b[^;]*?from\s*["']([^"']+)["']""", re.MULTILINE)
LAZY = re.compile(r"""import\(\s*["']([^"']+)["']\s*\)""")


def sources() -> dict[str, str]:
    """Our own modules by their path below web/."""
    found = [*WEB.glob("*.js"), *WEB.glob("*.mjs"), *(WEB / "page").glob("*.mjs")]
    return {path.relative_to(WEB).as_posix(): path.read_text(encoding="utf-8") for path in found}


def imported(name: str, text: str, pattern: re.Pattern[str]) -> set[str]:
    """Paths below web/, or what leads out of it as it stands."""
    result = set()
    for path in pattern.findall(text):
        parts: list[str] = []
        for part in (PurePosixPath(name).parent / path).parts:
            if part == ".." and parts and parts[-1] != "..":
                parts.pop()
            elif part != ".":
                parts.append(part)
        result.add("/".join(parts))
    return result


def test_a_page_holds_what_it_imports_in_an_order_that_works() -> None:
    about, texts = json.loads((WEB / "page" / "modules.json").read_text(encoding="utf-8")), sources()
    names: list[str] = about["modules"]
    assert names[-1] == about["start"] and len(set(names)) == len(names)
    # the file of the web component holds the same modules, and starts with another one
    assert about["element"] not in names
    for i, name in [*enumerate(names), (len(names) - 1, about["element"])]:
        if name.startswith("vendor/"):
            continue
        wanted = imported(name, texts[name], STATIC) | imported(name, texts[name], LAZY)
        assert wanted <= set(names[:i]), f"{name} needs {sorted(wanted - set(names[:i]))} before it"
    template = (WEB / "page" / "template.html").read_text(encoding="utf-8")
    for mark in ("title", "clips", "modules", "loader"):
        assert template.count("{{" + mark + "}}") == 1
    assert f'address.get("{about["start"]}")' in template


def test_each_library_is_known_to_one_file() -> None:
    texts = sources()
    host = {n for n, t in texts.items() if any(p.startswith("..") for p in imported(n, t, STATIC))}
    assert host == {"host.js"}
    assert {n for n, t in texts.items() if "vendor/" in t} == {"splats.mjs"}
    assert {n for n, t in texts.items() if "host.js" in imported(n, t, STATIC)} == {
        "preview.js",
        "notes.js",
        "pictures.js",
        "colors.js",
        "upload.js",
        "refusals.js",
        "faces.js",
        "seeds.js",
    }
    pure = ("clip.js", "player.js", "camera.js", "advice.mjs")
    for name in pure:
        assert imported(name, texts[name], STATIC) <= {"advice.mjs"}
        assert not re.search(r"\b(document|window|navigator)\b", texts[name].split("*/")[-1]), name


def test_what_the_canvas_loads_at_start_is_small() -> None:
    """ComfyUI imports every .js of the folder, and they what they name: the splat renderer comes with the first clip."""
    texts = sources()
    loaded = {name for name in texts if name.endswith(".js")}
    while more := {n for name in loaded for n in imported(name, texts[name], STATIC) if n in texts} - loaded:
        loaded |= more
    assert loaded >= {"view.js", "host.js"} and "splats.mjs" not in loaded
    assert sum((WEB / name).stat().st_size for name in loaded) < 120_000
    for name, text in texts.items():
        assert not any(path.startswith("vendor/") for path in imported(name, text, STATIC)), name


def test_vendored_code_names_its_authors_and_reaches_nowhere() -> None:
    text = (WEB / "vendor" / "spark.mjs").read_text(encoding="utf-8")
    licences = (WEB / "vendor" / "LICENSES.txt").read_text(encoding="utf-8")
    versions = re.findall(r"(three|Spark|fflate \(inside Spark\)) (\d+\.\d+\.\d+) \(MIT\)", text[:400])
    assert len(versions) == 3
    for name, version in versions:
        assert f"{name} {version}" in licences
    assert licences.count("Permission is hereby granted, free of charge") == 3
    wanted = json.loads((WEB.parent / "tools" / "vendor" / "package.json").read_text())["devDependencies"]
    assert (
        dict(versions)["three"] == wanted["three"] and dict(versions)["Spark"] == wanted["@sparkjsdev/spark"]
    )
    assert not re.search(r"\beval\(|new Function\(|importScripts\(", text)
    addresses = set(re.findall(r"https?://[\w./-]+", text))
    assert addresses <= {"http://www.w3.org/1999/xhtml"}
    own = "".join(sources().values())
    assert not re.search(r"https?://|\beval\(|new Function\(", own)


def test_markup_is_made_of_constants_in_one_place() -> None:
    sink = re.compile(
        r"\b(innerHTML|outerHTML|insertAdjacentHTML|srcdoc|DOMParser|createContextualFragment)\b|document\.write"
    )
    found = {name: sink.findall(text) for name, text in sources().items() if sink.search(text)}
    assert found == {"icons.js": ["innerHTML"]}
