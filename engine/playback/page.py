"""A scene as one self-contained web page: the player and one or two player files in a single .html that opens from disk.

Nothing is downloaded: the page contains the player's modules as text, which a small loader imports, and the player files
as base64. The player is the one in `web/`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files.atomic import write_atomically
from .player_file import decode_player_file

WEB = Path(__file__).resolve().parents[2] / "web"
# player files in a page: before and after
MOST = 2
# gives modules that a page holds as text their addresses
LOADER = "loader.mjs"


def write_page(player_files: Sequence[bytes], path: Path | str, title: str, web: Path = WEB) -> Path:
    """Write a web page that plays one scene or compares two.

    Args:
        player_files: The bytes of one player file, or of two to compare.
        path: The .html file; it is replaced if it exists.
        title: Title of the page.
        web: Folder of the player.

    Returns:
        The path.

    Raises:
        InputError: A player file is damaged, or the player's files are missing.

    Example:
        >>> write_page([Path("scene.gs4dclip").read_bytes()], "scene.html", "My scene")
    """
    path = Path(path)
    # a file name may contain characters that UTF-8 cannot encode
    text = assemble(player_files, title.encode(errors="replace").decode(), web)
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def assemble(player_files: Sequence[bytes], title: str, web: Path = WEB) -> str:
    """The text of the page that `write_page` writes."""
    if not 1 <= len(player_files) <= MOST:
        raise InputError(
            "PLB-004", f"A web page shows one or two player files, not {len(player_files)}; remove some."
        )
    titles = [decode_player_file(data, f"player file {i + 1}").title for i, data in enumerate(player_files)]
    names = module_names(web)
    parts = {
        "title": html.escape(title),
        "modules": "\n".join(
            f'<script type="text/plain" data-module="{name}">{_inert(player_text(web / name))}</script>'
            for name in names
        ),
        "loader": player_text(web / "page" / LOADER).strip(),
        "clips": "\n".join(
            f'<script type="application/octet-stream;base64" data-clip="{i}" data-name="{html.escape(name)}">'
            f"{base64.b64encode(data).decode()}</script>"
            for i, (name, data) in enumerate(zip(titles, player_files, strict=True))
        ),
    }
    template = player_text(web / "page" / "template.html")
    # all placeholders at once: the inserted text may contain braces of its own
    return re.sub(r"\{\{(title|modules|loader|clips)\}\}", lambda mark: parts[mark[1]], template)


def check_player(web: Path = WEB) -> None:
    """Raise InputError if the player's files are missing: a check before the scene is baked."""
    for name in ("modules.json", "template.html", LOADER):
        player_text(web / "page" / name)


def module_names(web: Path = WEB) -> list[str]:
    """The player's modules, paths below `web`, each after those that it imports; the last one starts a page."""
    return json.loads(player_text(web / "page" / "modules.json"))["modules"]


def _inert(source: str) -> str:
    """JavaScript that cannot end its <script> element; its strings keep their meaning."""
    return re.sub(r"<(?=/script)", r"<\\", source, flags=re.IGNORECASE).replace("<!--", r"<\!--")


def player_text(path: Path) -> str:
    """The text of one of the player's files. Raises InputError if it is missing."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            "PLB-005",
            f"The player's file {path.name} is missing from {path.parent}; a web page needs the complete pack. Install it again.",
        ) from error
