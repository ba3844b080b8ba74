"""The player as a web component in one JavaScript file, and the folder of a web site that shows a scene with it.

The file contains the player's modules as text, like an exported page (`page`), and the licenses of all of them.
docs/web_player.md describes the element.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

from ..files.atomic import write_atomically
from .page import LOADER, WEB, module_names, player_text
from .streamed import Source, parts_of, title_of

SCRIPT, SCENE, INDEX = "gs4d-player.js", "scene.gs4dclip", "index.html"
TAG = "gs4d-player"
NOTICE = "<gs4d-player> plays .gs4dclip files; part of GS4D Studio."
# whole lines of comments, and indentation, in our own modules
BLOCK = re.compile(r"^[ \t]*/\*\*(?:(?!\*/).)*\*/[ \t]*\n", re.MULTILINE | re.DOTALL)
LINE, INDENT = re.compile(r"^[ \t]*//.*\n", re.MULTILINE), re.compile(r"^[ \t]+", re.MULTILINE)


def assemble_element(web: Path = WEB) -> str:
    """The script that defines `<gs4d-player>`; the same bytes for the same player.

    Args:
        web: Folder of the player; its parent has the pack's license.

    Returns:
        JavaScript for `<script type="module">`.

    Raises:
        InputError: The player's files are missing.
    """
    start = json.loads(player_text(web / "page" / "modules.json"))["element"]
    names = [*module_names(web)[:-1], start]
    modules = ",\n".join(f"[{json.dumps(name)},{_quoted(_module(web, name))}]" for name in names)
    loader = _compact(player_text(web / "page" / LOADER)).strip()
    # where a page's security policy forbids blobs, no element can say so
    failed = (
        f"document.querySelectorAll({json.dumps(TAG)}).forEach((e)=>"
        "{e.textContent=`The player could not be started (${error?.message??error}).`})"
    )
    return (
        f"/*!\n{_licenses(web)}\n*/\n"
        f"if(!customElements.get({json.dumps(TAG)})){{\n{loader}\nconst address=addresses([{modules}]);\n"
        f"import(address.get({json.dumps(start)})).catch((error)=>{{{failed}}});\n}}\n"
    )


def write_web_player(player_file: Source, folder: Path, title: str, web: Path = WEB) -> list[Path]:
    """Write a folder for a web server: the script, the scene, and a page that shows it.

    Args:
        player_file: A player file: a path, bytes or what was baked. It is copied part by part.
        folder: The folder to write; files of these names in it are replaced.
        title: Title of the page.
        web: Folder of the player.

    Returns:
        The three files.

    Raises:
        InputError: The player file is damaged or missing, the player's files are missing, or the folder cannot be written.

    Example:
        >>> write_web_player(Path("scene.gs4dclip"), Path("site"), "My scene")
    """
    # raises before anything is written
    title_of(player_file, "the player file")
    # a file name may contain characters that UTF-8 cannot encode
    safe = html.escape(title.encode(errors="replace").decode())
    page = player_text(web / "page" / "example.html").replace("{{title}}", safe)
    contents = {
        SCRIPT: [assemble_element(web).encode()],
        SCENE: parts_of(player_file),
        INDEX: [page.encode()],
    }
    for name, parts in contents.items():
        with write_atomically(folder / name) as partial:
            with open(partial, "wb") as file:
                file.writelines(parts)
    return [folder / name for name in contents]


def _module(web: Path, name: str) -> str:
    text = player_text(web / name)
    # vendored code stays as its authors' tools made it
    return text if name.startswith("vendor/") else _compact(text)


def _compact(source: str) -> str:
    return INDENT.sub("", LINE.sub("", BLOCK.sub("", source)))


def _quoted(source: str) -> str:
    """A template literal, in which quotation marks and line ends stay as they are."""
    return "`" + source.replace("\\", "\\\\").replace("`", "\\`").replace("${", "\\${") + "`"


def _licenses(web: Path) -> str:
    """The licenses of the pack and of what it includes, for a comment."""
    own = player_text(web.parent / "LICENSE").strip()
    theirs = player_text(web / "vendor" / "LICENSES.txt").strip()
    return f"{NOTICE}\n\n{own}\n\n{theirs}".replace("*/", "* /")
