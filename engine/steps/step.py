"""What every step has in common: a frozen Config whose fields explain themselves, and a `run` that streams messages.

A step is a module with `Config` and `run(..., config, ...) -> Stream`; the last message is `Finished(value)`. A first
docstring line says what it does to the picture; the paper it comes from stands there too.
"""

from ..fields import choice, flag, number, validate, words

__all__ = ["choice", "flag", "number", "validate", "words"]
