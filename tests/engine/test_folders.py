"""Folders that people fill: what is below, without links that lead out, and whether anything changed."""

import os
from pathlib import Path

from engine.files.folders import fingerprint, is_within, marked_folders, subfolders, walk


def test_links_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (outside, root / "a" / "b" / "c", root / ".hidden"):
        folder.mkdir(parents=True)
    (root / "a" / "frame.png").touch()
    (root / ".hidden" / "frame.png").touch()
    os.symlink(outside, root / "link")
    os.symlink(root / "loop", root / "loop")
    assert subfolders(root, depth=2) == [root / "a", root / "a" / "b"]
    assert [file for file in walk(root) if not file.is_symlink()] == [root / "a" / "frame.png"]
    assert is_within(root / "a", root) and not is_within(root / "link", root)
    assert not is_within(root / ".." / "outside", root)


def test_marked_folders_are_found_through_links_and_not_entered(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    (other / "unet" / "unet").mkdir(parents=True)
    (root / "maker" / "model").mkdir(parents=True)
    (root / "maker" / "model" / "model_index.json").touch()
    (root / "one" / "two" / "three" / "unet").mkdir(parents=True)
    (root / "file").mkdir()
    (root / "file" / "unet").touch()
    os.symlink(other, root / "linked")
    marks = {"model_index.json", "unet/"}
    assert sorted(marked_folders(root, marks, depth=2)) == ["linked", "maker/model"]
    assert "one/two/three" in set(marked_folders(root, marks, depth=3))


def test_a_fingerprint_changes_with_any_file_below(tmp_path: Path) -> None:
    file = tmp_path / "a" / "cameras.json"
    file.parent.mkdir()
    file.write_text("{}")
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    file.write_text("{ }")
    assert fingerprint(tmp_path) != before
