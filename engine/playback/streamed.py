"""Player files that are copied part by part into pages and folders: long ones never are in memory as a whole."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..files.paths import open_regular
from .bake_parts import Baked
from .player_file import decode_player_file, read_player_file

# a player file: its bytes, where it is, or what was baked
Source = bytes | Path | Baked
# bytes that are copied at once; base64 takes three at a time
COPIED = 3 << 18


def title_of(source: Source, name: str) -> str:
    """The title of a player file, which `name` identifies in errors. Raises InputError if it is damaged or missing."""
    if isinstance(source, Baked):
        # as the file has it: a file name may contain characters that UTF-8 cannot encode
        return source.player_file.title.encode(errors="replace").decode()
    if isinstance(source, Path):
        return read_player_file(source).title
    return decode_player_file(source, name).title


def parts_of(source: Source) -> Iterator[bytes]:
    """The bytes of a player file, part by part. Raises OSError."""
    if isinstance(source, Baked):
        yield from source.parts()
    elif isinstance(source, Path):
        with open_regular(source) as file:
            while part := file.read(COPIED):
                yield part
    else:
        yield source


def as_base64(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The base64 text of bytes that come in parts of any size."""
    rest = b""
    for part in parts:
        # a part may be a whole file
        for start in range(0, len(part), COPIED):
            some = rest + part[start : start + COPIED]
            whole = len(some) - len(some) % 3
            yield base64.b64encode(some[:whole])
            rest = some[whole:]
    yield base64.b64encode(rest)
