"""A scene as one self-contained web page: the player and one or two player files in a single .html that opens from disk.

Nothing is downloaded: the page contains the player's modules as text, which a small loader imports, and the player files
as base64, written part by part. The player is the one in `web/`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from ..files.atomic import write_atomically
from .streamed import Source, as_base64, parts_of, title_of

WEB = Path(__file__).resolve().parents[2] / "web"
# player files in a page: before and after
MOST = 2
# gives modules that a page holds as text their addresses
LOADER = "loader.mjs"


def write_page(player_files: Sequence[Source], path: Path | str, title: str, web: Path = WEB) -> Path:
    """Write a web page that plays one scene or compares two. No player file is held in memory as a whole.

    Args:
        player_files: One player file, or two to compare: paths, bytes or what was baked.
        path: The .html file; it is replaced if it exists.
        title: Title of the page.
        web: Folder of the player.

    Returns:
        The path.

    Raises:
        InputError: A player file is damaged or missing, the player's files are missing, or the page cannot be written.

    Example:
        >>> write_page([Path("scene.gs4dclip")], "scene.html", "My scene")
    """
    path = Path(path)
    # a file name may contain characters that UTF-8 cannot encode
    parts = page_parts(player_files, title.encode(errors="replace").decode(), web)
    with write_atomically(path) as partial:
        with open(partial, "wb") as file:
            file.writelines(parts)
    return path


def page_parts(player_files: Sequence[Source], title: str, web: Path = WEB) -> Iterator[bytes]:
    """The page that `write_page` writes, part by part. Raises InputError as `write_page`, before the first part."""
    if not 1 <= len(player_files) <= MOST:
        raise InputError(
            "PLB-004", f"A web page shows one or two player files, not {len(player_files)}; remove some."
        )
    titles = [title_of(source, f"player file {i + 1}") for i, source in enumerate(player_files)]
    names = module_names(web)
    texts = {
        "title": html.escape(title),
        "modules": "\n".join(
            f'<script type="text/plain" data-module="{name}">{_inert(player_text(web / name))}</script>'
            for name in names
        ),
        "loader": player_text(web / "page" / LOADER).strip(),
    }
    # all placeholders at once: the inserted text may contain braces of its own
    pieces = re.split(r"\{\{(title|modules|loader|clips)\}\}", player_text(web / "page" / "template.html"))
    return _filled(pieces, texts, titles, player_files)


def _filled(
    pieces: list[str], texts: dict[str, str], titles: list[str], player_files: Sequence[Source]
) -> Iterator[bytes]:
    """Pieces of the template, of which every second one names what belongs there."""
    for i, piece in enumerate(pieces):
        if i % 2 and piece == "clips":
            yield from _clips(titles, player_files)
        else:
            yield (texts[piece] if i % 2 else piece).encode()


def _clips(titles: list[str], player_files: Sequence[Source]) -> Iterator[bytes]:
    for i, (name, source) in enumerate(zip(titles, player_files, strict=True)):
        start = (
            f'<script type="application/octet-stream;base64" data-clip="{i}" data-name="{html.escape(name)}">'
        )
        yield b"\n" if i else b""
        yield start.encode()
        yield from as_base64(parts_of(source))
        yield b"</script>"


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
