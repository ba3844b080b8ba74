"""Scenes in segments in a real Chromium: they play while they load, jump, and survive a connection that does not."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
import slow_server
import torch

from engine.playback.page import write_page
from engine.playback.player_file import decode_player_file
from engine.playback.segments import SegmentedFile
from engine.scene import Gaussians
from tests.scenes import moving_scene
from tests.web import clips
from tests.web.clips import Everything
from tests.web.pictures import drawn, engine_picture, over

pytestmark = [pytest.mark.browser]
SIZE = (240, 200)
SECONDS = 16.0
VIEW = "document.querySelector('.gs4d').gs4d"
HELD = f"[...{VIEW}.clips[0].segments.held.keys()].sort((a, b) => a - b)"


class Staying(Everything):
    """Everything changes, but nothing leaves the cameras' views."""

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        moved = super().deform(gaussians, seconds)
        return moved.with_(means=moved.means - 0.4 * seconds * torch.tensor([1.0, 0.2, 0.0]))


@pytest.fixture(scope="module")
def data() -> bytes:
    scene = moving_scene(100, seed=1, views=2)
    times = torch.linspace(0, SECONDS, 129, dtype=torch.float64)
    return clips.baked(scene.with_(times=times, deformation=Staying()), "long", segment_seconds=2.0)


@pytest.fixture(scope="module")
def file(data: bytes) -> SegmentedFile:
    found = decode_player_file(data, "long")
    assert isinstance(found, SegmentedFile) and len(found.places) == 8
    return found


@pytest.fixture
def tab(chromium: str) -> Iterator[Any]:
    with browser.browsing(chromium, *SIZE) as opened:
        yield opened.page


def starts(data: bytes) -> list[int]:
    """First byte of each segment in the file."""
    length = int.from_bytes(data[8:12], "little")
    return [12 + length + each["offset"] for each in json.loads(data[12 : 12 + length])["segments"]]


def opened(tab: Any, address: str) -> None:
    tab.goto(address)
    tab.wait_for_function(f"() => document.querySelector('.gs4d') && {VIEW}.clips.length", timeout=60_000)
    fit(tab)


def fit(tab: Any) -> None:
    """Give the viewport of the player the shape of the cameras, whatever its buttons take."""
    for _ in range(3):
        panel = f"{VIEW}.panel"
        extra = tab.evaluate(f"() => {panel}.root.clientHeight - {panel}.port.clientHeight")
        tab.set_viewport_size({"width": SIZE[0], "height": SIZE[1] + extra})
        tab.wait_for_timeout(50)


def until(tab: Any, condition: str) -> None:
    tab.wait_for_function(f"() => {condition}", timeout=60_000)


def looks_like(tab: Any, file: SegmentedFile, seconds: float, said: float | None = None) -> bool:
    """Whether the player's canvas shows at a time what the engine draws of it, or of the time `said`."""
    tab.evaluate(f"() => {VIEW}.lookThrough('cam00')")
    here = drawn(tab, seconds=seconds)
    size = (here.shape[1], here.shape[0])
    there = engine_picture(
        file.at(seconds if said is None else said), file.cameras.resized((size,) * len(file.cameras.names)), 0
    )
    return bool(np.abs(over(here, 0) - over(there, 0)).mean() < 0.005)


def test_the_first_frame_is_there_before_the_second_segment(
    tab: Any, data: bytes, file: SegmentedFile
) -> None:
    scene, second = slow_server.Scene(data), threading.Event()
    scene.gate = lambda start: start != starts(data)[1] or second.wait(60)
    with slow_server.serving(scene) as address:
        opened(tab, address)
        until(tab, f"{HELD}.length === 1")
        assert looks_like(tab, file, 0.0) and not looks_like(tab, file, 0.0, said=0.5)
        assert looks_like(tab, file, 0.0) and looks_like(tab, file, 1.7)
        assert tab.evaluate(HELD) == [0]
        # and it plays, up to the border
        tab.evaluate(f"() => {{ {VIEW}.player.seek(0); {VIEW}.player.setSpeed(4); {VIEW}.player.play(); }}")
        until(tab, f"{VIEW}.stage.waiting")
        assert tab.evaluate(f"{VIEW}.player.time") == pytest.approx(file.places[0].end, abs=1.1)
        tab.get_by_text("Loading …").wait_for()
        stands = tab.evaluate(f"{VIEW}.player.time")
        tab.wait_for_timeout(400)
        assert tab.evaluate(f"[{VIEW}.player.time, {VIEW}.player.playing]") == [stands, True]
        second.set()
        until(tab, f"{VIEW}.player.time > {stands} && !{VIEW}.stage.waiting")
        assert tab.evaluate(f"{VIEW}.panel.say.hidden")


def test_a_seek_loads_what_it_needs_and_nothing_between(tab: Any, data: bytes, file: SegmentedFile) -> None:
    scene, places = slow_server.Scene(data), starts(data)
    with slow_server.serving(scene) as address:
        opened(tab, address)
        until(tab, f"{HELD}.length === 2")
        assert looks_like(tab, file, 11.0)
        until(tab, f"{HELD}.includes(6)")
        assert scene.asked == [0, *(places[i] for i in (0, 1, 5, 6))] or scene.asked == [
            0, scene.asked[1], *(places[i] for i in (0, 1, 5, 6)),
        ]  # fmt: skip
        assert looks_like(tab, file, 3.1)


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_few_segments_stay_however_much_is_played(
    tab: Any, data: bytes, file: SegmentedFile, takes_ranges: bool
) -> None:
    scene = slow_server.Scene(data, takes_ranges)
    with slow_server.serving(scene) as address:
        opened(tab, address)
        for seconds in (1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 2.0, 15.5):
            assert looks_like(tab, file, seconds)
            assert tab.evaluate(f"{VIEW}.clips[0].segments.held.size") <= 4
            # on the GPU: those, and the one that is drawn
            assert tab.evaluate(f"{VIEW}.stage.sides[0].motion.uploaded.size") <= 5
    if not takes_ranges:
        # one stream, and another one for each way back
        assert len(scene.asked) <= 4


@pytest.mark.parametrize("fate", ["503", "cut", "drop"])
def test_a_connection_that_fails_is_named_and_tried_again(
    tab: Any, data: bytes, file: SegmentedFile, fate: str
) -> None:
    scene, third, down = slow_server.Scene(data), starts(data)[3], threading.Event()
    scene.fate = lambda start: fate if start >= third and down.is_set() else ""
    with slow_server.serving(scene) as address:
        opened(tab, address)
        down.set()
        tab.evaluate(f"() => {{ {VIEW}.player.seek(7); {VIEW}.player.play(); }}")
        tab.get_by_text("The connection was interrupted; trying again …").wait_for()
        # what is there plays on
        tab.evaluate(f"() => {VIEW}.player.seek(1)")
        until(tab, f"{VIEW}.panel.say.hidden")
        tab.evaluate(f"() => {VIEW}.player.seek(7)")
        tab.get_by_text("The connection was interrupted; trying again …").wait_for()
        down.clear()
        until(tab, f"{VIEW}.player.time > 7.2 && {VIEW}.panel.say.hidden")
        assert looks_like(tab, file, 7.3)


def test_a_segment_that_is_damaged_cut_or_foreign_is_named_and_the_others_play(
    tab: Any, data: bytes, file: SegmentedFile, tmp_path: Path
) -> None:
    places = starts(data)
    bad = bytearray(data)
    # the second is damaged, the fourth is from elsewhere, and the last is cut off
    bad[places[1] + 900] ^= 1
    # 80 bytes reach the number of the segment
    bad[places[3] : places[3] + 80] = data[places[4] : places[4] + 80]
    bad = bad[: places[7] + 40]
    length = int.from_bytes(data[8:12], "little")
    with slow_server.serving(slow_server.Scene(bytes(bad))) as address:
        tab.goto(address)
        tab.get_by_text("it is cut short").wait_for()
    header = json.loads(data[12 : 12 + length])
    scene = slow_server.Scene(data)
    with slow_server.serving(scene) as address:
        opened(tab, address)
        until(tab, f"{HELD}.length === 2")
        scene.data = bytes(bad)
        tab.evaluate(f"() => {VIEW}.clips[0].segments.held.delete(1)")
        for seconds, words in (
            (3.0, "segment 2 is damaged"), (7.0, "segment 4"), (15.0, "segment 8 has 40 of"),
        ):  # fmt: skip
            tab.evaluate(f"() => {VIEW}.player.seek({seconds})")
            tab.get_by_text(words).wait_for()
            assert looks_like(tab, file, 1.0) and looks_like(tab, file, 9.5)
        # once the file is whole again, a seek tries again
        scene.data = data
        assert looks_like(tab, file, 3.0)
    assert len(header["segments"]) == 8


def test_a_page_of_its_own_plays_segments_from_inside(
    tab: Any, data: bytes, file: SegmentedFile, tmp_path: Path
) -> None:
    tab.goto(write_page([data], tmp_path / "page.html", "long").as_uri())
    until(tab, f"document.querySelector('.gs4d') && {VIEW}.clips.length")
    fit(tab)
    for seconds in (0.5, 12.0, 5.0):
        assert looks_like(tab, file, seconds)


def test_checksums_are_those_of_zlib(tab: Any, data: bytes) -> None:
    with slow_server.serving(slow_server.Scene(data)) as address:
        tab.goto(address)
        found = tab.evaluate(
            "async () => (await import('/web/segments.mjs')).crc32(new TextEncoder().encode('player file'))"
        )
    assert found == zlib.crc32(b"player file")
