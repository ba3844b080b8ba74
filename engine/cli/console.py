"""Text on the terminal, in a file or in a pipe: written in any encoding, and quiet where nobody reads it any more."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import IO

from ..errors import InputError
from ..wording import printable_lines

# for encodings of few characters, such as cp1252 and ASCII
PLAIN = {
    "→": "->",
    "×": "x",
    "…": "...",
    "–": "-",
    "−": "-",
    "·": "|",
    "°": " degrees",
    "±": "+-",
    "σ": "sigma",
}
HANDLER = "gs4d-plain"
# code of the error for output that cannot be written
UNREPORTED = "CLI-008"


def prepare_console() -> None:
    """Let stdout and stderr write every text: what their encoding lacks becomes plain characters or an escape."""
    codecs.register_error(HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        # UTF-8 too: it lacks the bytes of names that are not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=HANDLER)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def tell(text: str, stream: IO[str], end: str = "\n") -> None:
    """Print a text without control characters, which may stand in prompts and names. Where the reader has ended (`| head`),
    it is dropped and the work goes on."""
    try:
        print(printable_lines(text), end=end, file=stream, flush=True)
    except BrokenPipeError:
        silence(stream)
    except OSError as error:
        silence(stream)
        raise InputError(
            "CLI-008", f"The report was not written: {error.strerror}. Redirect it to another place."
        ) from error


def silence(stream: IO[str]) -> None:
    """Send what is still to be written, and what a stream holds back, to nowhere."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
