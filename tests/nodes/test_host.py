"""What the pack does with ComfyUI's own machinery, in ComfyUI's own interpreter."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import write_contracts as contracts

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="session")
def answers() -> dict[str, Any]:
    try:
        return contracts.ask(str(Path(__file__).with_name("host_questions.py")))
    except RuntimeError as error:
        if "no ComfyUI here" in str(error):
            pytest.skip(str(error))
        raise


def test_tensors_of_other_nodes_can_be_trained_on_and_stay_as_they_are(answers: dict[str, Any]) -> None:
    assert answers["gradients"] == {"gradient": [2.0, 2.0, 2.0], "foreign": [1.0, 1.0, 1.0]}


def test_cancel_closes_the_stream_and_goes_on_to_comfyui(answers: dict[str, Any]) -> None:
    assert answers["cancel"]["seen"] == ["step 1", "step 2", "step 3", "closed", "interrupted"]


def test_a_figure_is_the_last_preview_where_there_were_any(answers: dict[str, Any]) -> None:
    assert answers["previews"] == {
        "0": [],
        "1": [1, 9],
        "3": [1, 2, 3, 9],
        "0 held back": [],
        "1 held back": [],
        "3 held back": [1, 2, 9],
    }


def test_only_paths_inside_the_known_folders_are_read(answers: dict[str, Any]) -> None:
    paths = answers["paths"]
    good = [name for name, said in paths.items() if name.endswith("good") and said == "input/good"]
    assert len(good) == 3
    assert "does not exist" in paths["input/missing"]
    refused = [
        name for name in paths
        if not name.startswith("prefix") and not name.endswith("good") and name not in ("input/missing", "")
    ]  # fmt: skip
    assert len(refused) == 10
    for name in refused:
        assert paths[name].startswith("refused"), name


def test_only_prefixes_inside_the_output_folder_are_written(answers: dict[str, Any]) -> None:
    said = {
        name.removeprefix("prefix "): how
        for name, how in answers["paths"].items()
        if name.startswith("prefix")
    }
    assert {name for name, how in said.items() if how == "accepted"} == {"gs4d/a", "a"}
    assert len(said) == 8


def test_lists_open_nothing_but_whole_headers_of_regular_files(answers: dict[str, Any]) -> None:
    """A named pipe waits for ever, and what a list raises takes down the node list of the whole server."""
    lists = answers["lists"]
    *own, shipped = lists["scenes"]
    assert sorted(own) == ["output/shots/good.safetensors", "output/shots/half.safetensors"]
    assert shipped == "demo: walker", "the user's own scenes come first"
    opened, *refused = lists["demos"]
    assert opened == "walker.safetensors" and all("does not ship" in said for said in refused), refused
    own = [name for name in lists["captures"] if not name.startswith("demo: ")]
    assert "input/capture" in own and all(
        name.startswith(("input/capture", "input/pipe", "input/deep")) for name in own
    )
    # a bundled video of one camera is no capture
    assert "demo: walker" in lists["captures"] and "demo: toy" not in lists["captures"]
    assert lists["models"][0] == "embedded (small)" and len(lists) > 12
    assert lists["fingerprint"] and lists["seconds"] < 5


def test_unfinished_work_is_kept_by_age_and_size_of_its_step(answers: dict[str, Any]) -> None:
    found = answers["checkpoints"]
    assert found["short"] == 10, "short runs do not count"
    assert found["long"] is True, "the newest of a node stays, however old it is"
    assert found["old"] is False and found["others"] == 3, "other steps are left alone"
    (told,) = found["told"]
    assert told.startswith("removed unfinished work of Train of 20") and "output/gs4d/training" in told
    assert found["big"] == [False, False, False, True, True] and found["kept"] is True


def test_unfinished_work_is_found_from_another_node_and_by_its_old_name(answers: dict[str, Any]) -> None:
    assert answers["checkpoints"]["found"] is True and answers["checkpoints"]["legacy"] is True


def test_what_time_stopped_runs_again_and_what_is_done_does_not(answers: dict[str, Any]) -> None:
    assert answers["stops"] == [0, 1, 0, 0, 1, 2]


def test_a_padded_batch_of_splats_is_cut_to_its_counts(answers: dict[str, Any]) -> None:
    first, second = answers["splats"]["shapes"]
    assert first == [[5, 3], [5, 3], [5, 4], [5], [5, 4, 3]]
    assert second == [[2, 3], [2, 3], [2, 4], [2], [2, 4, 3]]
    assert not answers["splats"]["inference"]


def test_the_status_line_says_what_matters(answers: dict[str, Any]) -> None:
    assert answers["labels"] == "30 of 90 · 800 Gaussians · loss 0.01235 · 1:00 left"


def test_progress_cannot_be_read_as_markup_and_looks_the_same(answers: dict[str, Any]) -> None:
    html, links, usual = answers["progress"]
    assert html == "<\u2060img src=x> &\u2060 &\u2060lt;"
    assert links == "[\u2060[a|https:\u2060//b]] www\u2060.c __\u2060LNK0__"
    assert usual == "12 of 30 · loss 0.1 [8:20 left] a_b/c:d"


def test_notes_go_beside_what_else_a_node_shows(answers: dict[str, Any]) -> None:
    picture = {"images": [{"filename": "a.png"}]}
    assert answers["output"] == [
        [[1, 2], None],
        [[1], {"gs4d_notes": ["a", "b"]}],
        [[1], {**picture, "gs4d_notes": ["a"]}],
        [[1], picture],
    ]
    nodes = Path(__file__).resolve().parents[2] / "nodes"
    direct = [path.name for path in nodes.glob("*.py") if "NodeOutput(" in path.read_text(encoding="utf-8")]
    assert direct == ["host.py"], "return host.output(...), which takes the notes"


def test_a_video_is_read_again_when_its_depth_changes(answers: dict[str, Any]) -> None:
    alone, first, second, unchanged = answers["depth_beside"]
    assert len({alone, first, second}) == 3 and second == unchanged


def test_wired_numbers_fit_their_fields_or_are_named(answers: dict[str, Any]) -> None:
    assert answers["numbers"] == [["int", 12], ["float", 24.0], *["ENG-009"] * 2, "ENG-005", *["ENG-009"] * 2]


def test_a_wired_text_is_not_taken_for_an_empty_one(answers: dict[str, Any]) -> None:
    assert len(answers["wired"]) == 5
    for node, (when_wired, when_empty, *fingerprints) in answers["wired"].items():
        assert when_wired is True, node
        assert isinstance(when_empty, str), node  # one sentence
        assert all(isinstance(f, str) for f in fingerprints), "else the scene is loaded anew in every run"


def test_an_error_is_named_without_the_packs_path(answers: dict[str, Any]) -> None:
    assert answers["error"] == ["gs4d.InputError", "cam01.mp4 is empty. [GS4D-CAP-012]"]
