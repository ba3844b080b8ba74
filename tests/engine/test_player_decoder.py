"""Player files in segments and the stand-alone decoder: it reads what it needs, and refuses what the engine refuses."""

import io
import json
import random
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from engine.errors import InputError
from engine.playback.player_file import decode_player_file
from tests.engine.test_player_format import (
    REPOSITORY,
    SEGMENTED,
    VECTORS,
    assert_same,
    in_engine_axes,
    player_decoder,
)
from tests.engine.test_segments import INDEX_LIES, baked, joined, long_scene, parts, read_all, with_segment


@pytest.fixture(scope="module")
def good() -> bytes:
    return (VECTORS / "segments_cubic.gs4dclip").read_bytes()


def read_every_segment(data: bytes) -> None:
    clip = player_decoder.decode(data)
    for place in clip.places:
        clip.at((place.start + place.end) / 2)


def refused(data: bytes) -> str:
    """What the decoder says; the engine refuses the same file."""
    with pytest.raises(InputError):
        read_all(data)
    with pytest.raises(player_decoder.FormatError) as caught:
        read_every_segment(data)
    return str(caught.value)


def segment_header(data: bytes, index: int) -> dict:
    header, body = parts(data)
    start = header["segments"][index]["offset"]
    length = int.from_bytes(body[start + 8 : start + 12], "little")
    return json.loads(body[start + 12 : start + 12 + length])


def with_segment_header(data: bytes, index: int, change) -> bytes:
    """The file with the header of one segment changed."""

    def changed(segment: bytes) -> bytes:
        length = int.from_bytes(segment[8:12], "little")
        about = json.loads(segment[12 : 12 + length])
        change(about)
        text = json.dumps(about).encode()
        return segment[:8] + struct.pack("<I", len(text)) + text + segment[12 + length :]

    return with_segment(data, index, changed)


# -- what is read -----------------------------------------------------------------------------------------------------


class Counted(io.BytesIO):
    """A file that says which bytes were read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[tuple[int, int]] = []

    def read(self, size: int | None = -1) -> bytes:
        start, data = self.tell(), super().read(size)
        self.asked.append((start, self.tell()))
        return data


@pytest.mark.parametrize("name", SEGMENTED)
def test_a_time_reads_one_segment_of_a_file(name):
    data = (VECTORS / f"{name}.gs4dclip").read_bytes()
    file, start = Counted(data), 12 + int.from_bytes(data[8:12], "little")
    clip = player_decoder.read(file)
    blocks = [(start + p.offset, start + p.offset + p.length) for p in clip.places]
    assert not any(a < end and begin < b for begin, end in file.asked for a, b in blocks)
    for i, place in enumerate(clip.places):
        file.asked.clear()
        splats = clip.at(place.start)
        assert file.asked == [blocks[i]]
        assert splats == clip.segment(i).at(place.start)


def test_the_vectors_have_what_is_hard_to_get_right(good):
    used, bits = set(), set()
    for name in SEGMENTED:
        data = (VECTORS / f"{name}.gs4dclip").read_bytes()
        for i in range(len(parts(data)[0]["segments"])):
            tracks = segment_header(data, i)["motion"]["tracks"]
            used |= {(t["name"], t["order"], t["spatial"], t["bits"] > 8) for t in tracks}
            bits |= {t["bits"] for t in tracks}
    for wide in (False, True):
        assert {u[1:3] for u in used if u[3] is wide} == {(a, b) for a in (1, 2) for b in (True, False)}
    assert {u[0] for u in used} == set(player_decoder.CHANNELS) and {7, 8, 9, 16} <= bits
    clip = player_decoder.decode(good)
    kinds = [clip.segment(i).interpolation for i in range(3)]
    assert kinds == ["cubic", "cubic", "linear"] and len({len(clip.segment(i).knots) for i in range(3)}) == 3
    # a difference that wraps around
    positions = clip.segment(0).tracks["position"].planes[0]
    assert positions[0] == 0 and positions[4] == 65535
    held = player_decoder.decode((VECTORS / "segments_hold.gs4dclip").read_bytes())
    assert held.segment(0).knots[-1] < held.places[0].end
    shown = [held.at(t).opacities[:4] for t in (0.0, 1.2, 1.25, 1.75)]
    assert shown == [[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1]]
    # blocks may lie in any order
    assert held.places[1].offset < held.places[0].offset < held.header["spz"]["offset"]


def test_neighbors_meet_at_their_border(good):
    clip = player_decoder.decode(good)
    for before, after in pairwise(range(3)):
        border = clip.places[before].end
        for name in player_decoder.CHANNELS:
            one, other = (clip.segment(i).track_at(name, border) for i in (before, after))
            sign = [
                -1.0 if sum(a * b for a, b in zip(*p, strict=True)) < 0 < len(p[0]) - 3 else 1.0
                for p in zip(one, other, strict=True)
            ]
            torch.testing.assert_close(
                torch.tensor(one), torch.tensor(other) * torch.tensor(sign)[:, None], rtol=0, atol=1e-6
            )


def test_the_decoders_agree_on_a_scene_of_the_encoder():
    data = baked(long_scene()).data
    content, clip = decode_player_file(data, "a"), player_decoder.decode(data)
    assert len(clip.places) == 4
    for seconds in (-1.0, 0.5, 1.3, 2.75, 2.75 - 1e-7, 4.9, 9.5, 11.0):
        assert_same(in_engine_axes(clip, clip.at(seconds)), content.at(seconds))


def test_unknown_entries_are_ignored(good):
    header, body = parts(good)
    header["later"] = header["segments"][0]["later"] = {"anything": 1}
    # the motion of a file in one piece has no meaning here
    data = joined({**header, "motion": 3}, body)
    data = with_segment_header(data, 1, lambda h: h["motion"]["tracks"][0].update(later=[1]))
    for seconds in (0.3, 1.7, 2.6):
        assert player_decoder.decode(data).at(seconds) == player_decoder.decode(good).at(seconds)
        same = decode_player_file(data, "a").at(seconds), decode_player_file(good, "a").at(seconds)
        assert torch.equal(same[0].means, same[1].means)


def test_the_command_describes_all_segments_and_names_a_damaged_one(good, tmp_path):
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", str(REPOSITORY / "tools" / "player_decoder.py"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    made = run(str(VECTORS / "segments_cubic.gs4dclip"))
    assert made.returncode == 0 and made.stdout.count("cubic; tracks: position") == 2, made.stderr
    path = tmp_path / "a.gs4dclip"
    path.write_bytes(with_segment(good, 2, lambda data: data[:-1]))
    assert run(str(path), "--seconds", "0.4").returncode == 0
    made = run(str(path), "--seconds", "2.6")
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith("a.gs4dclip: segment 3: cut short: a block ")


# -- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", INDEX_LIES)
def test_an_index_that_lies_is_refused(good, lie):
    header, body = parts(good)
    INDEX_LIES[lie][0](header["segments"])
    said = refused(joined(header, body))
    assert "segment" in said or "index" in said or "header" in said


def test_a_file_cut_short_anywhere_is_refused_and_the_segments_before_play(good):
    ends = [p.offset + p.length for p in player_decoder.decode(good).places]
    assert ends == sorted(ends)
    for length in range(len(good)):
        with pytest.raises(player_decoder.FormatError):
            player_decoder.decode(good[:length])


def test_any_changed_byte_is_refused_or_says_the_same(good):
    """Checksums cover the first frame and the segments; the header says what it says."""
    clip, start = player_decoder.decode(good), 12 + int.from_bytes(good[8:12], "little")
    covered = [(clip.header["spz"]["offset"], clip.header["spz"]["length"])]
    covered += [(place.offset, place.length) for place in clip.places]
    draw = random.Random(5)
    for begin, length in covered:
        for at in draw.sample(range(length), 40):
            spoilt = bytearray(good)
            spoilt[start + begin + at] ^= 1 << draw.randrange(8)
            with pytest.raises(player_decoder.FormatError):
                read_every_segment(bytes(spoilt))
    for at in range(start):
        spoilt = bytearray(good)
        spoilt[at] ^= 1 << draw.randrange(8)
        try:
            read_every_segment(bytes(spoilt))
        except player_decoder.FormatError:
            pass


def block_of(data: bytes, index: int) -> bytes:
    header, body = parts(data)
    place = header["segments"][index]
    return body[place["offset"] : place["offset"] + place["length"]]


def lengthen(entry: dict, by: int) -> None:
    entry["length"] += by


SEGMENT_LIES = {
    "of another scene": (
        lambda d: with_segment_header(d, 1, lambda h: h.update(scene="another")),
        "segment 2: it belongs to another scene",
    ),
    "another one": (lambda d: with_segment(d, 1, lambda s: block_of(d, 2)), "segment 2: it is another segment"),
    "a number in words": (
        lambda d: with_segment_header(d, 1, lambda h: h.update(segment="1")),
        "segment 2: segment is not a whole number",
    ),
    "cut": (lambda d: with_segment(d, 1, lambda s: s[:-9]), "segment 2: cut short: a block lies"),
    "cut in its header": (lambda d: with_segment(d, 1, lambda s: s[:50]), "segment 2: cut short inside the header"),
    "not one": (lambda d: with_segment(d, 1, lambda s: b"RIFF" + s[4:]), "segment 2: not a segment"),
    "newer": (lambda d: with_segment(d, 1, lambda s: s[:4] + b"\3" + s[5:]), "segment 2: version 3"),
    "a header that claims too much": (
        lambda d: with_segment(d, 1, lambda s: s[:8] + b"\xff\xff\xff\xff" + s[12:]),
        "segment 2: cut short inside the header",
    ),
    "not JSON": (lambda d: with_segment(d, 1, lambda s: s[:12] + b"!" + s[13:]), "segment 2: the header is not JSON"),
    "without motion": (lambda d: with_segment_header(d, 1, lambda h: h.pop("motion")), "segment 2: the header lacks"),
    "a block behind its end": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"][0].update(length=10**6)),
        "segment 2: cut short",
    ),
    "a block of the next one": (
        lambda d: with_segment_header(d, 0, lambda h: h["motion"]["tracks"][-1].update(offset=len(block_of(d, 0)))),
        "segment 1: cut short",
    ),
    "a stream without its end": (
        lambda d: with_segment_header(d, 1, lambda h: lengthen(h["motion"]["tracks"][0], -1)),
        "segment 2: the track is cut short or longer",
    ),
    "a stream and another byte": (
        lambda d: with_segment_header(d, 1, lambda h: lengthen(h["motion"]["tracks"][0], 1)),
        "segment 2: the track is cut short or longer",
    ),
    "more knots": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"].update(knots=[1 + i / 10**5 for i in range(150_001)])),
        "segment 2: the track holds|segment 2: a track claims too much",
    ),
    "knots of other times": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"].update(knots=[1.25, 1.75, 2.25, 2.75])),
        "segment 2: its knots go from 1.25 to 2.75 s",
    ),
    "knots that end early": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"].update(knots=[1.0, 1.25, 1.5, 1.75])),
        "segment 2: its knots go from 1 to 1.75 s",
    ),
    "a track less": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"].pop()),
        "segment 2: its tracks are not those of the header",
    ),
    "a track twice": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"].append(h["motion"]["tracks"][0])),
        "segment 2: track 'position' is not supported",
    ),
    "no prediction": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"][0].pop("order")),
        "segment 2: the header lacks",
    ),
    "an unknown prediction": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"][0].update(order=3)),
        "segment 2: a track is predicted in an unknown way",
    ),
    "a prediction in words": (
        lambda d: with_segment_header(d, 1, lambda h: h["motion"]["tracks"][0].update(spatial="yes")),
        "segment 2: a track is predicted in an unknown way",
    ),
    "another prediction": (
        lambda d: with_segment_header(d, 0, lambda h: h["motion"]["tracks"][4].update(spatial=True)),
        "segment 1: a track contains numbers of more than 7 bits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", SEGMENT_LIES)
def test_a_segment_that_is_not_what_it_should_be_is_refused(good, lie):
    change, words = SEGMENT_LIES[lie]
    said = refused(change(good))
    assert any(said.startswith(each) for each in words.split("|")), said
    # the others play
    clip = player_decoder.decode(change(good))
    wrong = int(words.split(":")[0].removeprefix("segment ")) - 1
    for other in {0, 1, 2} - {wrong}:
        assert clip.segment(other).at(1.0) == player_decoder.decode(good).segment(other).at(1.0)


def test_a_header_of_segments_that_lies_is_refused(good):
    def changed(change) -> bytes:
        header, body = parts(good)
        change(header)
        return joined(header, body)

    assert "CRC-32" in refused(changed(lambda h: h["spz"].update(crc32=1)))
    assert "lacks" in refused(changed(lambda h: h["spz"].pop("crc32")))
    assert "not a whole number" in refused(changed(lambda h: h["spz"].update(offset=-16)))
    assert "beyond the end" in refused(changed(lambda h: h["spz"].update(length=10**9)))
    assert "lacks" in refused(changed(lambda h: h.pop("tracks")))
    assert "tracks are not those" in refused(changed(lambda h: h["tracks"].append("position")))
    assert "nothing moves" in refused(changed(lambda h: h.update(moving=0)))
    assert "another scene" in refused(changed(lambda h: h.update(scene="another")))
    assert "moving Gaussians of 6" in refused(changed(lambda h: h.update(moving=7)))
    # one more than the tracks have
    assert "holds" in refused(changed(lambda h: h.update(moving=5)))


def test_a_bomb_in_a_segment_is_not_unpacked(good):
    def bomb(data: bytes) -> bytes:
        length = int.from_bytes(data[8:12], "little")
        about = json.loads(data[12 : 12 + length])
        packed = zlib.compress(bytes(40_000_000))
        about["motion"]["tracks"][0].update(offset=len(data) - 12 - length, length=len(packed))
        text = json.dumps(about).encode()
        return data[:8] + struct.pack("<I", len(text)) + text + data[12 + length :] + packed

    assert "holds" in refused(with_segment(good, 0, bomb))


def test_a_file_that_shrinks_while_it_is_read_is_refused(good, tmp_path: Path):
    path = tmp_path / "a.gs4dclip"
    path.write_bytes(good)
    with open(path, "r+b", buffering=0) as file:
        clip = player_decoder.read(file)
        file.truncate(len(good) - 200)
        with pytest.raises(player_decoder.FormatError, match="segment 3: cut short while"):
            clip.at(2.9)
