"""Texts that a network reads only the start of, and what is said of them."""

from __future__ import annotations

from typing import Any


def cut_short(tokenizer: Any, text: str, length: int) -> tuple[int, int] | None:
    """(tokens of a text, tokens that are read) where a network reads only its start; None: it reads all of it.

    Args:
        tokenizer: A tokenizer of transformers.
        text: The text.
        length: Tokens that the network reads, with those that mark start and end.
    """
    count = len(tokenizer(text, truncation=False, verbose=False).input_ids)
    return (count, length) if count > length else None


def length_note(reader: str, cut: tuple[int, int] | None, what: str = "prompt") -> str:
    """The line for a text that `reader` does not read to its end; empty for one that it does."""
    if cut is None:
        return ""
    return f"The {what} has {cut[0]:,} tokens; {reader} reads the first {cut[1]} and ignores the rest."
