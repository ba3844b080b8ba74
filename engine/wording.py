"""Text from strangers in sentences for people: one printable line, and never longer than a person reads."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

# characters of an error's text, its code included
LONGEST_SENTENCE = 400
# characters of a prompt in a message
LONGEST_QUOTE = 60
# characters that a long value keeps on each side of the gap
KEPT = 40

_LONG_WORD = re.compile(rf"\S{{{2 * KEPT + 20},}}")


def printable(text: str | os.PathLike[str]) -> str:
    """`text` with whatever no terminal can print (bytes of a foreign encoding, control characters) escaped."""
    if isinstance(text, str) and text.isprintable():
        return text
    safe = os.fspath(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in safe)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: names of files and texts in JSON may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object, most: int = 2 * KEPT) -> str:
    """A value of any type as it may stand in a sentence: one printable line of at most `most` characters."""
    try:
        text = printable(repr(value))
    except (ValueError, RecursionError):
        # the interpreter refuses to print whole numbers of thousands of digits
        return f"a {type(value).__name__} too large to print"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable_lines(text: str) -> str:
    """`text` in its lines, each made printable."""
    return "\n".join(map(printable, text.split("\n")))


def brief(text: str, most: int = LONGEST_QUOTE) -> str:
    """A text that a user typed, as it may be quoted: one printable line of at most `most` characters."""
    # cut before anything else: a text may have megabytes
    text = printable(" ".join(text[: 50 * most].split()))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first `most` of some names as text, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return printable(", ".join(names[:most])) + more


def sentence(text: str, most: int = LONGEST_SENTENCE) -> str:
    """`text` as one printable line of at most `most` characters.

    Values are what makes a message long: words without spaces are shortened first, each in its middle, and if that is not
    enough, the middle of the whole, since messages begin with the place and end with the remedy.
    """
    # cut before anything else: a value may have megabytes, and the middle of it is read by nobody
    if len(text) > 100 * most:
        text = f"{text[: 50 * most]}…{text[-50 * most :]}"
    text = printable(text.replace("\n", " "))
    if len(text) > most:
        text = _LONG_WORD.sub(lambda word: f"{word[0][:KEPT]}…{word[0][-KEPT:]}", text)
    if len(text) > most:
        start = most * 5 // 8
        text = f"{text[:start]}…{text[-(most - start - 1) :]}"
    return text
