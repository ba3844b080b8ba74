"""Verbs that edit a scene and measure the edit."""

from __future__ import annotations

from .arguments import AddVerb


def add_verbs(verb: AddVerb) -> None:
    """Each verb with its flags."""
