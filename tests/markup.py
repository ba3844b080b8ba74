"""Names that would run as script if a page took them for markup, and a capture that bears one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from engine.files.mp4 import write_mp4

RAN = "() => window.ran ?? null"
IMAGE = "<img src=x onerror=window.ran=1>"  # may be a file's name: there is no slash in it
SCRIPT = "\"'--></script></title><script>window.ran=2</script>" + IMAGE
LINK = "[[a|https://example.org]] www.example.org __LNK7__ &lt;b&gt;"
WALKER = Path(__file__).resolve().parents[1] / "assets" / "clips" / "walker"


def capture(folder: Path, name: str = IMAGE) -> Path:
    """Three cameras of the demo, the first of them called `name` and with fewer frames, which a note tells."""
    shutil.copytree(WALKER, folder)
    about = json.loads((folder / "cameras.json").read_text(encoding="utf-8"))
    about["cameras"] = about["cameras"][:3]
    for entry in ("hold_out", "frame_count"):
        about.pop(entry, None)
    for camera in about["cameras"]:
        camera.pop("mask", None)
    first = about["cameras"][0]
    first["name"] = name
    write_mp4(torch.rand(4, first["height"], first["width"], 3), 12, folder / first["video"])
    (folder / "cameras.json").write_text(json.dumps(about), encoding="utf-8")
    return folder
