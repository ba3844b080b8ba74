"""The one error an artist sees: a sentence that says what, where and what to do, with a stable code."""

from __future__ import annotations

from .wording import LONGEST_SENTENCE, sentence


class InputError(ValueError):
    """Input from the user that cannot be used. The canvas and the command line print it without a traceback.

    Raised at the engine's edges (files, configs, sockets).

    Args:
        code: Stable identifier, such as `CAP-012`: a room of the code base and a number. Codes are listed in
            tests/error_codes.json; a code is never reused and never changes its meaning. docs/troubleshooting.md
            explains each.
        message: What was found, in which file or view, and what to do next; at most two sentences. Values from files may
            stand in it as they are: it is made one printable line, and shortened to `LONGEST_SENTENCE` characters.

    Attributes:
        field: Name of the field it is about, set by whoever checks several at once; else empty.

    Example:
        >>> str(InputError("CAP-012", "cam01.mp4 is empty (0 bytes); copy it again."))
        'cam01.mp4 is empty (0 bytes); copy it again. [GS4D-CAP-012]'
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.field = ""
        self.message = sentence(message, LONGEST_SENTENCE - len(self._suffix))
        super().__init__(code, self.message)

    def __str__(self) -> str:
        return self.message + self._suffix

    @property
    def _suffix(self) -> str:
        return f" [GS4D-{self.code}]"

    def at(self, place: str) -> InputError:
        """The same error with the file or view it occurred in put before its message."""
        return InputError(self.code, f"{place}: {self.message}")
