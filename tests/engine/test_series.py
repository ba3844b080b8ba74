"""Samples over time that lie in a temporary file: the same values, the same player files, and no memory that grows."""

import errno

import pytest
import torch

from benchmarks.clip import figure
from engine import messages as m
from engine.errors import InputError
from engine.playback import samples, series
from engine.playback.bake import bake
from engine.playback.bake_config import BakeConfig
from engine.playback.series import Scratch, Series
from engine.playback.tracks import aligned
from engine.scene import rotations
from engine.steps import bake_clip
from tests.memory import cost_of, needs_linux
from tests.scenes import moving_scene

# in memory, in a file from the first row on
PLACES = (1 << 26, 1)


@pytest.mark.parametrize("in_memory", PLACES)
def test_a_series_gives_back_what_was_appended(in_memory, monkeypatch):
    monkeypatch.setattr(series, "IN_MEMORY", in_memory)
    values = torch.randn(7, 50, 3, generator=torch.Generator().manual_seed(0))
    values[2] = values[0]
    kept = Series(Scratch())
    for row in values:
        kept.append(row.clone())
    index = torch.tensor([40, 3, 3, 0])
    assert kept.shape == (7, 50, 3) and len(kept) == 7
    assert [kept.is_first(i) for i in range(7)] == [True, False, True, False, False, False, False]
    assert torch.equal(torch.stack([kept.row(i) for i in range(7)]), values)
    assert torch.equal(kept.part(slice(10, 30)), values[:, 10:30])
    assert torch.equal(kept.part(slice(None)), values)
    assert torch.equal(kept.part(index), values[:, index])
    some = kept.at([3, 0, 6])
    assert torch.equal(some.part(slice(5, 9)), values[[3, 0, 6], 5:9])


def test_turns_one_time_after_the_other_are_those_of_all_times_at_once():
    g = torch.Generator().manual_seed(0)
    quats = rotations.normalise(torch.randn(30, 40, 4, generator=g))
    base = torch.randn(40, 4, generator=g)
    turns = samples._Turns(base)
    back = rotations.conjugate(rotations.normalise(base))
    whole = aligned(rotations.multiply(quats, back.expand_as(quats)))
    assert torch.equal(torch.stack([turns.to(row) for row in quats]), whole)


@pytest.mark.parametrize("scene", [figure(600, 12), moving_scene(300, moments=9)], ids=["figure", "swing"])
def test_a_bake_from_a_file_equals_one_from_memory(scene, monkeypatch):
    baked = [m.result(bake_clip.run(scene)).data]
    monkeypatch.setattr(series, "IN_MEMORY", 1)
    baked.append(m.result(bake_clip.run(scene)).data)
    assert baked[0] == baked[1]


def test_a_bake_that_is_cancelled_gives_its_file_back(monkeypatch):
    made = []

    class Watched(Scratch):
        def __init__(self) -> None:
            super().__init__()
            made.append(self._file)

    monkeypatch.setattr("engine.playback.bake.Scratch", Watched)
    work = bake(moving_scene(100), BakeConfig(), "title")
    next(work), next(work)
    assert not made[0].closed
    work.close()
    assert made[0].closed


def test_a_full_temporary_folder_is_one_sentence(monkeypatch):
    class Full:
        def seek(self, place: int) -> None: ...
        def close(self) -> None: ...
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(series.tempfile, "SpooledTemporaryFile", lambda **_: Full())
    with pytest.raises(InputError, match=r"No space left on device.*TMPDIR.*PLB-028"):
        m.result(bake_clip.run(moving_scene(100)))


def test_no_gaussian_is_dropped_for_want_of_memory(monkeypatch):
    monkeypatch.setattr("engine.backends.memory", lambda: 1e5)
    monkeypatch.setattr("engine.backends.free_memory", lambda: 1e5)
    baked = m.result(bake_clip.run(moving_scene(300)))
    assert len(baked.indices) == 300 and not baked.player_file.notes


@needs_linux
def test_the_memory_of_baking_hardly_grows_with_the_frames(monkeypatch):
    """The samples of 120 more frames would be 54 MB, and 80 more while they are fitted."""
    monkeypatch.setattr(series, "IN_MEMORY", 1 << 20)
    m.result(bake_clip.run(figure(100, 4)))
    few, many = (cost_of(lambda scene=figure(8000, n): m.result(bake_clip.run(scene))) for n in (40, 160))
    assert few.said == many.said == "value"
    assert many.megabytes - few.megabytes < 90
