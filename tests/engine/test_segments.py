"""Player files in segments: the stated error holds, neighbors meet, memory does not grow, and what is wrong is named."""

import json
import math
import os
import resource
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import messages as m
from engine.errors import InputError
from engine.playback.bake_parts import searches
from engine.playback.bake_segments import borders
from engine.playback.knot_fit import Samples
from engine.playback.player_file import decode_player_file, read_player_file
from engine.playback.segments import SegmentedFile
from engine.playback.series import Scratch, Series
from engine.playback.tracks import PREDICTIONS, Prediction, pack, quantize, unpack
from engine.scene import Scene4D
from engine.steps import bake_clip
from tests.scenes import moving_scene
from tests.web.clips import Everything, flickering

ROOT = Path(__file__).resolve().parents[2]


def baked(scene: Scene4D, segment_seconds: float = 2.0, **config) -> bake_clip.Baked:
    return m.result(bake_clip.run(scene, bake_clip.Config(segment_seconds=segment_seconds, **config)))


def long_scene(count: int = 60, seconds: float = 9.0, moments: int = 109, seed: int = 0) -> Scene4D:
    """Everything changes, for longer than a segment."""
    scene = moving_scene(count, seed, views=2)
    times = torch.linspace(0.5, 0.5 + seconds, moments, dtype=torch.float64)
    return scene.with_(times=times, deformation=Everything())


def errors(scene: Scene4D, made: bake_clip.Baked, file) -> list[float]:
    """Of the radius, at each captured frame, asked of the decoder in double precision."""
    return [
        float((file.at(t).means.double() - scene.at(t).means[made.indices].double()).norm(dim=-1).max())
        / file.radius
        for t in scene.times.tolist()
    ]


@pytest.fixture(scope="module")
def scene() -> Scene4D:
    return long_scene()


@pytest.fixture(scope="module")
def made(scene) -> bake_clip.Baked:
    return baked(scene)


@pytest.fixture(scope="module")
def good(made) -> bytes:
    return made.data


# -- what is stored -------------------------------------------------------------------------------------------------


def test_segments_keep_the_bound_of_one_piece_and_say_the_same(scene, made, tmp_path):
    whole = baked(scene, 0.0)
    file = read_player_file(made.save(tmp_path / "a.gs4dclip"))
    assert isinstance(file, SegmentedFile) and len(file.places) == 4
    assert not isinstance(whole.player_file, SegmentedFile)
    found = errors(scene, made, file)
    assert max(found) <= file.max_error <= 0.002
    assert torch.equal(made.indices, whole.indices) and torch.equal(
        file.base.means, whole.player_file.base.means
    )
    assert (file.times.tolist(), file.fps, file.radius) == (
        whole.player_file.times.tolist(), whole.player_file.fps, whole.player_file.radius,
    )  # fmt: skip
    for t in (0.5, 1.3, 2.5, 4.9, 7.77, 9.5):
        one, other = whole.player_file.at(t), file.at(t)
        assert float((one.means - other.means).norm(dim=-1).max()) <= 2 * 0.002 * file.radius
        assert float((one.logit_opacities.sigmoid() - other.logit_opacities.sigmoid()).abs().max()) < 0.05
        assert float((one.log_scales - other.log_scales).abs().max()) < 0.12
        assert float((one.sh - other.sh).abs().max()) < 0.2


def test_neighbors_meet_at_their_border(made):
    file = made.player_file
    for i, (before, after) in enumerate(pairwise(range(len(file.places)))):
        border = file.places[i].end
        assert border == file.places[after].start and border in file.times.tolist()
        one, other = file.segment(before), file.segment(after)
        assert set(one.tracks) == {"position", "rotation", "scale", "opacity", "color"}
        for name in one.tracks:
            a, b = one.at(name, border), other.at(name, border)
            if name == "rotation":
                # q and −q are the same rotation
                b = b * (a * b).sum(-1, keepdim=True).sign()
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@given(
    seed=st.integers(0, 100),
    moments=st.integers(2, 60),
    seconds=st.floats(0.5, 20),
    segment=st.floats(0.1, 8),
    uneven=st.booleans(),
    max_error=st.sampled_from([1e-4, 0.002, 0.05]),
)
@settings(max_examples=25, deadline=None)
def test_no_center_is_further_off_than_stated(seed, moments, seconds, segment, uneven, max_error):
    scene = long_scene(20, seconds, moments, seed)
    if uneven and moments > 2:
        g = torch.Generator().manual_seed(seed)
        times = scene.times.clone()
        times[1:-1] += (
            0.4 * (times[1] - times[0]) * (torch.rand(moments - 2, generator=g, dtype=torch.float64) - 0.5)
        )
        scene = scene.with_(times=times)
    made = baked(scene, segment, max_error=max_error)
    file = decode_player_file(made.data, "a")
    assert max(errors(scene, made, file)) <= file.max_error
    if file.max_error > max_error:
        assert uneven and any("more than" in note for note in file.notes)


def test_rims_are_moved_by_no_more_than_the_encoder_aims_for(scene, made):
    file, moving = made.player_file, made.player_file.moving
    turned, scaled = [], []
    for t in scene.times.tolist()[::4]:
        true = scene.at(t).map(lambda x: x[made.indices][:moving])
        found = file.at(t).map(lambda x: x[:moving])
        cosine = (true.activated().quats * found.activated().quats).sum(-1).abs().clamp(max=1)
        turned.append(2 * cosine.acos() * 2 * true.log_scales.amax(-1).exp())
        change = (found.log_scales - true.log_scales).abs() * 2 * true.log_scales.exp()
        scaled.append(change.amax(-1))
    for moved in (torch.cat(turned), torch.cat(scaled)):
        assert 0 < float(moved.quantile(0.99)) <= 2 * 0.002 * file.radius


def test_knots_between_frames_are_for_files_to_which_they_add_little():
    times = torch.linspace(0, 1, 13, dtype=torch.float64)
    between = torch.linspace(0, 1, 25, dtype=torch.float64)
    with closing(Scratch()) as scratch:
        series = Series(scratch)
        for _ in between:
            series.append(torch.zeros(1000, 3))
        one = {"position": torch.ones(1000)}
        samples = Samples(between, torch.isin(between, times), {"position": series}, one, {"position": 0.01})

        def most(pieces: int) -> list[int]:
            return [search.most for search in searches(samples, times, "cubic", pieces)]

        assert most(1) == [25, 13]
        # of the whole file, not of one segment
        assert most(1000) == [13, 13]


def test_births_and_deaths_are_held_in_segments_too():
    still = moving_scene(60, moments=41, views=2)
    scene = flickering(still.with_(times=torch.linspace(0, 8, 41, dtype=torch.float64)))
    made = baked(scene)
    file = made.player_file
    assert {file.segment(i).interpolation for i in range(len(file.places))} == {"hold"}
    for t in scene.times.tolist():
        for at in (t, t + 0.1):
            got, wanted = file.at(at), scene.at(t).map(lambda x: x[made.indices])
            assert float((got.means - wanted.means).norm(dim=-1).max()) <= file.max_error * file.radius
            assert (
                float((got.logit_opacities.sigmoid() - wanted.logit_opacities.sigmoid()).abs().max()) < 0.01
            )


def test_short_and_still_scenes_stay_in_one_piece():
    short = moving_scene(30, views=2)
    assert baked(short, 2.0).data == baked(short, 0.0).data
    scene = long_scene(30)
    still = Scene4D.still(scene.canonical, scene.times, scene.rig, scene.bounds, scene.background)
    assert baked(still, 2.0).data == baked(still, 0.0).data


def test_borders_are_frames_about_as_far_apart_as_asked():
    times = torch.linspace(10, 70, 1801, dtype=torch.float64)
    found = borders(times, 2.0)
    assert found[0] == 0 and found[-1] == 1800 and len(found) == 31
    assert all(1.9 < float(times[b] - times[a]) < 2.1 for a, b in pairwise(found))
    assert borders(times[:80], 2.0) == [] and borders(times, 0.0) == [] and borders(times[:1], 1.0) == []
    for i, border in enumerate(found):
        assert abs(float(times[border]) - (10 + 2 * i)) == pytest.approx(
            float((times - (10 + 2 * i)).abs().min()), abs=1e-9
        )
    # two frames are a segment, however short it is to be
    assert borders(torch.tensor([0.0, 5.0, 10.0]), 0.1) == [0, 1, 2]


def test_the_same_scene_gives_the_same_bytes_and_another_one_another_identifier(scene, made):
    assert baked(scene).data == made.data
    assert baked(scene, max_error=0.003).player_file.scene != made.player_file.scene


def test_a_segment_is_read_when_it_is_needed_and_few_stay(made):
    file, asked = made.player_file, []
    counting = replace(
        file, read_segment=lambda place: (asked.append(place.start), file.read_segment(place))[1]
    )
    counting._kept.clear()
    for t in (9.0, 9.4, 1.0, 9.2, 3.5, 1.0):
        counting.at(t)
    starts = [place.start for place in file.places]
    assert asked == [starts[3], starts[0], starts[1], starts[0]]
    assert len(counting._kept) == 2


def test_the_messages_count_up_to_what_they_said(scene):
    messages = list(bake_clip.run(scene, bake_clip.Config(segment_seconds=2.0)))
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    stream = bake_clip.run(scene, bake_clip.Config(segment_seconds=2.0))
    for _ in range(150):
        next(stream)
    stream.close()


@given(
    bits=st.integers(1, 16), knots=st.integers(1, 6), moving=st.integers(1, 9), channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99), prediction=st.sampled_from([*PREDICTIONS, Prediction(2)]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_prediction_gives_the_numbers_back(bits, knots, moving, channels, seed, prediction):
    values = torch.randn(knots, moving, channels, generator=torch.Generator().manual_seed(seed))
    track = quantize("position", values, bits)
    packed = pack(track, prediction)
    again = unpack(packed, "position", bits, track.low, track.high, (knots, moving, channels), prediction)
    assert np.array_equal(again.whole, track.whole) and again.whole.dtype == track.whole.dtype


def test_the_packed_bytes_of_a_segment_are_those_of_the_published_layout():
    values = torch.tensor([[[0.0], [1023.0]], [[300.0], [1.0]], [[500.0], [1023.0]]])
    packed = zlib.decompress(pack(quantize("opacity", values, 10), Prediction(2, True, True)))
    # knots: 0 1023 | 300 1 | 500 1023; from the line through the two before: 0 1023 | 300 −1022 | −100 2044
    left = [0, 1023, 300, -1322, -100, 2144]
    folded = [2 * v if v >= 0 else -2 * v - 1 for v in left]
    assert list(packed) == [v & 255 for v in folded] + [v >> 8 for v in folded]


def test_noise_is_packed_without_looking_for_repeats_and_repeats_are_found():
    g = torch.Generator().manual_seed(0)
    noise = quantize("position", torch.randn(12, 3000, 3, generator=g), 7)
    pattern = torch.rand(50, 3, generator=g).repeat(60, 1)
    repeated = quantize("position", torch.stack([pattern * k for k in range(12)]), 7)
    plain = zlib.decompress(pack(noise))
    assert len(pack(noise)) < len(zlib.compress(plain, 7))
    runs = zlib.compressobj(7, zlib.DEFLATED, 15, 5, zlib.Z_RLE)
    alone = runs.compress(zlib.decompress(pack(repeated))) + runs.flush()
    assert len(pack(repeated)) < len(alone) / 2


# -- memory ---------------------------------------------------------------------------------------------------------

GROWTH = """
import sys; sys.path.insert(0, {root!r})
import torch
from engine.messages import result
from engine.playback.element import write_web_player
from engine.playback.page import write_page
from engine.steps import bake_clip
from tests.engine.test_segments import long_scene, peak_kb
from pathlib import Path
def run(seconds):
    scene = long_scene(8000, seconds, round(10 * seconds) + 1)
    baked = result(bake_clip.run(scene, bake_clip.Config(segment_seconds=1.0)))
    write_page([baked], Path({folder!r}) / "a.html", "a")
    write_web_player(baked, Path({folder!r}), "a")
run(2.0)
peaks = [peak_kb()]
for seconds in (4.0, 24.0):
    run(seconds)
    peaks.append(peak_kb())
print(*peaks)
"""


def peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.skipif(sys.platform != "linux", reason="measures a process as Linux does")
def test_six_times_the_length_takes_no_more_memory(tmp_path):
    script = GROWTH.format(root=str(ROOT), folder=str(tmp_path))
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        check=True,
    )
    assert (tmp_path / "a.html").stat().st_size > (tmp_path / "scene.gs4dclip").stat().st_size > 1e6
    _, short, long = map(int, out.stdout.split())
    # in one piece, it takes 28 MB more
    assert long - short < 14_000, f"{short} kB for 4 seconds, {long} kB for 24"


# -- bad input ------------------------------------------------------------------------------------------------------


def parts(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[8:12], "little")
    return json.loads(data[12 : 12 + length]), data[12 + length :]


def joined(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-(12 + len(text)) % 16)
    return b"GS4C" + (2).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text + body


def with_segment(good: bytes, index: int, change) -> bytes:
    """The file with the bytes of one segment changed, and an index that fits them."""
    header, body = parts(good)
    place = header["segments"][index]
    data = change(body[place["offset"] : place["offset"] + place["length"]])
    place.update(offset=len(body), length=len(data), crc32=zlib.crc32(data))
    return joined(header, body + data)


def read_all(data: bytes) -> None:
    file = decode_player_file(data, "a.gs4dclip")
    assert isinstance(file, SegmentedFile)
    for place in file.places:
        file.at((place.start + place.end) / 2)


INDEX_LIES = {
    "beyond the file": (lambda s: s[1].update(length=10**9), "do not hold its segment 2"),
    "endless": (lambda s: s[1].update(length=2**70), "do not hold its segment 2"),
    "nothing": (lambda s: s[1].update(length=0), "do not hold its segment 2"),
    "before the data": (lambda s: s[1].update(offset=-16), "do not hold its segment 2"),
    "shorter than it is": (lambda s: s[1].update(length=s[1]["length"] - 3), "segment 2 is damaged"),
    "longer than it is": (lambda s: s[1].update(length=s[1]["length"] + 3), "segment 2 is damaged"),
    "only a header": (lambda s: s[1].update(length=20), "segment 2 is damaged"),
    "somewhere else": (lambda s: s[1].update(offset=s[1]["offset"] + 16), "segment 2 is damaged"),
    "another checksum": (lambda s: s[1].update(crc32=5), "segment 2 is damaged"),
    "one missing": (lambda s: s.pop(1), "segment 2 from 5 to 7.25 seconds after one that ends at 2.75"),
    "the last missing": (lambda s: s.pop(), "its segments end at 7.25 seconds"),
    "two exchanged": (lambda s: s.insert(1, s.pop(2)), "segment 2 from"),
    "contents exchanged": (
        lambda s: (lambda a, b: (s[1].update(a), s[2].update(b)))(
            *[{k: s[i][k] for k in ("offset", "length", "crc32")} for i in (2, 1)]
        ),
        "segment 2 belongs to another scene or place",
    ),
    "no time": (lambda s: s[1].update(end=s[1]["start"]), "segment 2 from"),
    "time that is not a number": (lambda s: s[1].update(end=math.nan), "segment 2 from"),
    "none": (lambda s: s.clear(), "0 segments"),
    "text": (lambda s: s[1].update(offset="x"), "does not match its content"),
    "an entry that is not one": (lambda s: s.__setitem__(1, 3), "does not match its content"),
}  # fmt: skip


@pytest.mark.parametrize("lie", INDEX_LIES)
def test_an_index_that_lies_is_named(good, lie):
    change, words = INDEX_LIES[lie]
    header, body = parts(good)
    change(header["segments"])
    with pytest.raises(InputError, match=rf"^a\.gs4dclip: .*{words}.*\. \[GS4D-PLB-\d{{3}}\]$"):
        read_all(joined(header, body))


def test_a_segment_of_another_scene_is_named(good):
    header, body = parts(baked(long_scene(60, seed=4)).data)
    place = header["segments"][1]
    foreign = body[place["offset"] : place["offset"] + place["length"]]
    with pytest.raises(InputError, match="segment 2 belongs to another scene"):
        read_all(with_segment(good, 1, lambda data: foreign))


def test_a_damaged_segment_is_named_and_the_others_play(good):
    header, body = parts(good)
    place = header["segments"][1]
    spoilt = bytearray(good)
    spoilt[len(good) - len(body) + place["offset"] + place["length"] // 2] ^= 8
    file = decode_player_file(bytes(spoilt), "a.gs4dclip")
    file.at(1.0)
    file.at(9.0)
    with pytest.raises(InputError, match=r"a\.gs4dclip: segment 2 is damaged"):
        file.at((place["start"] + place["end"]) / 2)
    file.at(1.0)
    spoilt = bytearray(good)
    spoilt[len(good) - len(body) + 30] ^= 8
    with pytest.raises(InputError, match="its splat is damaged"):
        decode_player_file(bytes(spoilt), "a.gs4dclip")


def test_knots_that_are_not_those_of_the_index_are_named(good):
    def later(data: bytes) -> bytes:
        length = int.from_bytes(data[8:12], "little")
        about = json.loads(data[12 : 12 + length])
        about["motion"]["knots"] = [k + 0.25 for k in about["motion"]["knots"]]
        text = json.dumps(about).encode()
        text += b" " * (-(12 + len(text)) % 16)
        return data[:8] + len(text).to_bytes(4, "little") + text + data[12 + length :]

    with pytest.raises(InputError, match=r"knots of segment 2 go from 3 to 5\.25"):
        read_all(with_segment(good, 1, later))


def test_a_segment_with_other_tracks_is_named(good):
    header, body = parts(good)
    header["tracks"].remove("color")
    with pytest.raises(InputError, match=r"segment 1 has the tracks .*color.*, and the header names"):
        read_all(joined(header, body))


def test_a_file_cut_short_anywhere_is_named(good, tmp_path):
    path = tmp_path / "cut.gs4dclip"
    for length in [*range(0, 40, 5), *range(40, len(good) - 1, len(good) // 40), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match=r"^cut\.gs4dclip.*cut short|not a player file"):
            read_player_file(path)


def test_a_file_that_goes_away_while_it_is_read_is_named(made, tmp_path):
    path = made.save(tmp_path / "a.gs4dclip")
    file = read_player_file(path)
    file.at(1.0)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.gs4dclip: segment 4 cannot be read: No such file"):
        file.at(9.0)
    baked(long_scene(60, seed=4)).save(path)
    with pytest.raises(InputError, match=r"segment \d"):
        file.at(9.0)
