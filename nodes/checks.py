"""Widgets that ComfyUI checks before a graph runs, and files whose changes make a node run again."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..engine.errors import InputError
from ..engine.files.folders import fingerprint
from ..engine.files.paths import explains_files

# fingerprint of a file whose path comes from another node: unknown when ComfyUI asks
WIRED = "wired"


@contextmanager
def about(widget: str) -> Generator[None]:
    """Says which of several checked widgets the errors raised inside are about."""
    try:
        with explains_files():
            yield
    except InputError as error:
        error.field = error.field or widget
        raise


def labeled(node: Any, error: InputError) -> str:
    """The error with the label of its widget put before it.

    ComfyUI reports it once for each widget in the signature of `validate_inputs`, and marks all of them: it makes these
    reports from one returned value, in a loop over the signature. web/refusals.js keeps the one that this label names.
    """
    for each in node.define_schema().inputs:
        if error.field and each.id == error.field:
            return str(error.at(each.display_name or each.id))
    return str(error)


def checked(find: Callable[..., Any], *names: str, watches: bool = False) -> Callable[[type[Any]], type[Any]]:
    """A decorator for nodes: `find` is called with the values of the widgets `names`; its InputError rejects them.

    `find` raises inside `about` where it looks at several widgets.

    With `watches`, the node runs again when what `find` returns has changed: a file, a folder, or a tuple of them and None.
    ComfyUI asks before anything has run and passes None for a connected input, which is checked when its value arrives.
    """

    def validate_inputs(cls: Any, **values: str | None) -> bool | str:
        given = [values.get(name) for name in names]
        try:
            if None not in given:
                with explains_files():
                    find(*given)
        except InputError as error:
            return labeled(cls, error)
        return True

    def fingerprint_inputs(cls: Any, **values: str | None) -> str:
        given = [values.get(name) for name in names]
        if None in given:
            return WIRED
        # an exception would have the node run again in every run
        with explains_files():
            found = find(*given)
        return "-".join(
            fingerprint(path) for path in (found if isinstance(found, tuple) else (found,)) if path
        )

    # ComfyUI turns its own range checks off for every input in this signature, so it lists only these inputs
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("cls", *names)]
    validate_inputs.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]

    def add_checks(node: type[Any]) -> type[Any]:
        node.validate_inputs = classmethod(validate_inputs)
        if watches:
            node.fingerprint_inputs = classmethod(fingerprint_inputs)
        return node

    return add_checks
