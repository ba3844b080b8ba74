"""GS4D Studio's engine: train, edit, render and store moving 3D Gaussian scenes. It knows nothing of ComfyUI."""

import re
from pathlib import Path


def _version() -> str:
    """The version in pyproject.toml, its only place; "unknown" for an engine that was copied out of the pack."""
    try:
        text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r'^version = "([^"]+)"$', text, re.MULTILINE)
    return found[1] if found else "unknown"


__version__ = _version()
