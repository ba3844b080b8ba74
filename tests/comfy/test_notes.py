"""What nodes tell is text, whatever stood in the file that it tells of."""

import urllib.parse
from typing import Any

import graphs
import pytest
from server import Server

from tests import markup

pytestmark = pytest.mark.comfy


def test_markup_from_a_file_or_a_widget_is_text(running: Server) -> None:
    markup.capture(running.base / "input" / "marked")
    info = running.get("/object_info")
    graph: dict[str, Any] = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", clip="input/marked"),
        "check": graphs.node(info, "GS4D_PreflightCheck", video=["load", 0], moments=1),
        "train": graphs.node(info, "GS4D_Train4DScene", video=["load", 0], **{**graphs.QUICK_TRAINING, "iterations": 2}),
        "export": graphs.node(
            info, "GS4D_Export4DScene", scene=["train", 0], kind="ply", filename_prefix=f"gs4d/{markup.IMAGE}"
        ),
    }  # fmt: skip
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
    # notes go to a widget that shows text; progress goes to one that may show HTML
    assert f"{markup.IMAGE} has 4 frames" in run.notes["load"][1]
    assert run.notes["export"] == [f"output/gs4d/{markup.IMAGE}_00001_.ply"]
    # the written file is named in the history, to be listed and downloaded, by what /view takes
    (file,) = next(data["output"]["files"] for data in run.of("executed") if data["node"] == "export")
    assert file == {"filename": f"{markup.IMAGE}_00001_.ply", "subfolder": "gs4d", "type": "output"}
    assert running.get_bytes(f"/view?{urllib.parse.urlencode(file)}").startswith(b"ply")
    # the loader shows what it read
    (image,) = next(data["output"]["images"] for data in run.of("executed") if data["node"] == "load")
    assert running.get_bytes(f"/view?{urllib.parse.urlencode(image)}")[:2] == b"\xff\xd8"
    (progress,) = (text for text in run.texts if text.startswith("writing"))
    assert progress.replace("\u2060", "") == f"writing {markup.IMAGE}_00001_.ply"
    assert not [text for text in run.texts if "<img" in text]


def test_a_folder_whose_name_is_markup_is_not_listed(running: Server) -> None:
    """Frontends before 1.49 put a list's entries into the page as HTML."""
    markup.capture(running.base / "input" / markup.IMAGE)
    info = running.get("/object_info")
    options = info["GS4D_LoadMultiViewVideo"]["input"]["required"]["clip"][1]["options"]
    assert not [name for name in options if "<" in name]
    graph = {
        "load": graphs.node(info, "GS4D_LoadMultiViewVideo", folder=f"input/{markup.IMAGE}"),
        "check": graphs.node(info, "GS4D_PreflightCheck", video=["load", 0], moments=1),
    }
    run = running.run(graph)
    assert run.outcome == "execution_success", run.error
