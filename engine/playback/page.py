"""A scene as one self-contained web page: the player and one or two player files in a single .html that opens from disk.

Nothing is fetched: the player's modules stand in the page as text, which a small loader of the page turns into modules,
and the player files as base64. The player is the one in `web/`.
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
MOST = 2  # player files in a page: before and after


def write_page(player_files: Sequence[bytes], path: Path | str, title: str, web: Path = WEB) -> Path:
    """Write the page of `assemble`, whole or not at all. Raises InputError."""
    path = Path(path)
    # a file's name may hold what UTF-8 has no bytes for
    text = assemble(player_files, title.encode(errors="replace").decode(), web)
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    return path


def assemble(player_files: Sequence[bytes], title: str, web: Path = WEB) -> str:
    """The page that plays `player_files`, the bytes of one file or of two to compare.

    `web`: the folder of the player. Raises InputError where a player file is damaged or the player's files are not there.
    """
    if not 1 <= len(player_files) <= MOST:
        raise InputError(
            "PLB-004", f"A web page shows one or two player files, not {len(player_files)}; remove some."
        )
    titles = [decode_player_file(data, f"player file {i + 1}").title for i, data in enumerate(player_files)]
    names = json.loads(_text(web / "page" / "modules.json"))["modules"]
    parts = {
        "title": html.escape(title),
        "modules": "\n".join(
            f'<script type="text/plain" data-module="{name}">{_inert(_text(web / name))}</script>'
            for name in names
        ),
        "clips": "\n".join(
            f'<script type="application/octet-stream;base64" data-clip="{i}" data-name="{html.escape(name)}">'
            f"{base64.b64encode(data).decode()}</script>"
            for i, (name, data) in enumerate(zip(titles, player_files, strict=True))
        ),
    }
    template = _text(web / "page" / "template.html")
    # all marks at once: what is filled in may hold braces of its own
    return re.sub(r"\{\{(title|modules|clips)\}\}", lambda mark: parts[mark[1]], template)


def check_player(web: Path = WEB) -> None:
    """InputError, before anything is baked, where the player's files are not there."""
    _text(web / "page" / "modules.json")
    _text(web / "page" / "template.html")


def _inert(source: str) -> str:
    """JavaScript that cannot end the <script> element it stands in; in strings it means the same."""
    return re.sub(r"<(?=/script)", r"<\\", source, flags=re.IGNORECASE).replace("<!--", r"<\!--")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            "PLB-005",
            f"The player's file {path.name} is missing from {path.parent}; a web page needs the complete pack. Install it again.",
        ) from error
