"""Player files as docs/player_format.md describes them: a decoder that shares no code with the engine says the same."""

import ast
import json
import re
import struct
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from engine import messages as m
from engine.errors import InputError
from engine.io.spz import decode_spz, encode_spz
from engine.io.spz_decoding import turned
from engine.playback.page import WEB
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import decode_player_file, read_player_file
from engine.playback.tracks import CHANNELS, INTERPOLATIONS
from engine.scene import Gaussians, harmonics, rotations
from engine.steps import bake_clip
from tests.engine.test_clip import LIES, changed_header
from tests.web import clips

REPOSITORY = Path(__file__).resolve().parents[2]
VECTORS = REPOSITORY / "tests" / "player_format"
PAGE = (REPOSITORY / "docs" / "player_format.md").read_text(encoding="utf-8")
sys.path[:0] = [str(REPOSITORY / "tools"), str(VECTORS)]
import player_decoder  # noqa: E402
import write_vectors  # noqa: E402

NAMES = ["cubic", "hold", "linear", "still"]
SEGMENTED = ["segments_cubic", "segments_hold", "segments_one"]


def in_engine_axes(
    clip: player_decoder.Clip | player_decoder.SegmentedClip, splats: player_decoder.Splats
) -> Gaussians:
    """What the stand-alone decoder says, as the engine's Gaussians."""
    quats = torch.tensor(splats.rotations)[:, [3, 0, 1, 2]]
    dc = harmonics.rgb_to_dc(torch.tensor(splats.colors))[:, None]
    high = torch.tensor(clip.harmonics).reshape(len(dc), -1, 3)
    return turned(
        Gaussians(
            means=torch.tensor(splats.centers),
            log_scales=torch.tensor(splats.scales).log(),
            quats=quats,
            logit_opacities=torch.tensor(splats.opacities).clamp(1e-6, 1 - 1e-6).logit(),
            sh=torch.cat([dc, high], dim=1),
        )
    )


def assert_same(ours: Gaussians, theirs: Gaussians) -> None:
    torch.testing.assert_close(ours.means, theirs.means, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(ours.log_scales, theirs.log_scales, rtol=0, atol=1e-4)
    cosine = (rotations.normalise(ours.quats) * rotations.normalise(theirs.quats)).sum(-1).abs()
    assert float(cosine.min()) > 1 - 1e-5
    torch.testing.assert_close(ours.sh, theirs.sh, rtol=0, atol=1e-4)
    # the engine keeps the first frame's opacities half a step from 0 and 1, so that they have logits
    assert (
        float((ours.logit_opacities.sigmoid() - theirs.logit_opacities.sigmoid()).abs().max()) < 1.01 / 1020
    )


# -- the vectors ------------------------------------------------------------------------------------------------------


def motion_said(clip: player_decoder.Clip | player_decoder.SegmentedClip) -> dict[str, object]:
    if isinstance(clip, player_decoder.Clip):
        return {
            "interpolation": clip.interpolation if clip.tracks else None,
            "tracks": sorted(clip.tracks),
        }
    parts = [
        {"start": place.start, "end": place.end, "interpolation": clip.segment(i).interpolation}
        for i, place in enumerate(clip.places)
    ]
    return {"segments": parts, "tracks": sorted(clip.segment(0).tracks)}


@pytest.mark.parametrize("name", [*NAMES, *SEGMENTED])
def test_the_stand_alone_decoder_says_what_the_vectors_say(name: str) -> None:
    wanted = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    clip = player_decoder.decode((VECTORS / f"{name}.gs4dclip").read_bytes())
    assert [len(clip.base.centers), clip.moving] == [wanted["gaussians"], wanted["moving"]]
    assert motion_said(clip).items() <= wanted.items() and len(motion_said(clip)) == 2
    torch.testing.assert_close(torch.tensor(clip.harmonics), torch.tensor(wanted["harmonics"]))
    assert len(wanted["frames"]) == 8
    for frame in [{"seconds": None, **wanted["base"]}, *wanted["frames"]]:
        said = clip.base if frame["seconds"] is None else clip.at(frame["seconds"])
        for part in ("centers", "scales", "opacities", "colors"):
            torch.testing.assert_close(
                torch.tensor(getattr(said, part)), torch.tensor(frame[part]), rtol=1e-5, atol=2e-6, msg=part
            )
        turns = (torch.tensor(said.rotations) * torch.tensor(frame["rotations"])).sum(-1).abs()
        assert float(turns.min()) > 1 - 1e-6


@pytest.mark.parametrize("name", [*NAMES, *SEGMENTED])
def test_the_engine_still_says_what_the_vectors_say(name: str) -> None:
    path = VECTORS / f"{name}.gs4dclip"
    wanted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    seconds = [frame["seconds"] for frame in wanted["frames"]]
    again = write_vectors.expected(read_player_file(path), seconds)
    flat, flat_again = (numbers(each) for each in (wanted, again))
    assert len(flat) == len(flat_again) > 300
    torch.testing.assert_close(torch.tensor(flat), torch.tensor(flat_again), rtol=1e-5, atol=2e-6)


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for each in value for n in numbers(each)]
    return [float(value)] if isinstance(value, int | float) else []


def test_the_vectors_have_every_kind_of_track_and_what_is_hard_to_get_right() -> None:
    clips_ = {n: player_decoder.decode((VECTORS / f"{n}.gs4dclip").read_bytes()) for n in NAMES}
    assert {t for c in clips_.values() for t in c.tracks} == set(CHANNELS)
    assert {c.interpolation for c in clips_.values()} == set(INTERPOLATIONS)
    assert {len(c.harmonics[0]) for c in clips_.values()} == {0, 3, 8, 15}
    bits = {t.bits for c in clips_.values() for t in c.tracks.values()}
    assert any(b < 8 for b in bits) and 8 in bits and any(b > 8 for b in bits)
    # a rotation through 180°: its stored vector part jumps, the rotation does not
    cubic = clips_["cubic"]
    jumps = [
        sum(
            abs(cubic.tracks["rotation"].value(c, (k + 1) * 4) - cubic.tracks["rotation"].value(c, k * 4))
            for c in range(3)
        )
        for k in range(4)
    ]
    assert max(jumps) > 1
    steps = [cubic.track_at("rotation", i / 100)[0] for i in range(101)]
    assert min(abs(sum(a * b for a, b in zip(*pair, strict=True))) for pair in pairwise(steps)) > 0.999
    # births and deaths
    shown = [clips_["hold"].at(s).opacities[:4] for s in (0.0, 0.3, 0.8)]
    assert shown == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]


def test_the_vectors_are_what_the_writer_makes() -> None:
    for name, data in write_vectors.vectors().items():
        made, kept = decode_player_file(data, name), read_player_file(VECTORS / f"{name}.gs4dclip")
        for seconds in (0.0, 0.4):
            assert_same(made.at(seconds), kept.at(seconds))


# -- scenes of the encoder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["swing", "everything", "flicker", "still"])
@pytest.mark.parametrize("max_error", [0.001, 0.02])
def test_both_decoders_agree_and_keep_the_stated_error(name: str, max_error: float) -> None:
    scene = clips.scenes()[name]
    config = bake_clip.Config(max_error=max_error, sh_degree=2)
    baked = m.result(bake_clip.run(scene, config, title=name))
    content: PlayerFile = decode_player_file(baked.data, name)
    clip = player_decoder.decode(baked.data)
    first, last = float(scene.times[0]), float(scene.times[-1])
    for seconds in (first - 1, first, first + 0.31 * (last - first), last, last + 1):
        assert_same(in_engine_axes(clip, clip.at(seconds)), content.at(seconds))
    stated = clip.header["error"]["max"] * clip.header["radius"]
    assert clip.header["error"]["max"] <= max_error
    for seconds in scene.times.tolist():
        ours = in_engine_axes(clip, clip.at(seconds)).means.double()
        distance = (ours - scene.at(seconds).means[baked.indices].double()).norm(dim=-1)
        assert float(distance.max()) <= stated * (1 + 1e-6) + 1e-7


def test_an_spz_of_version_2_is_read_alike() -> None:
    g = write_vectors.base(2)
    data = encode_spz(g, "two", version=2)
    splats, high = player_decoder._spz(data, len(g))
    clip = player_decoder.Clip({}, splats, high, 0, [0.0], "hold", {})
    assert_same(in_engine_axes(clip, splats), decode_spz(data, "two"))


# -- hostile files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> bytes:
    return (VECTORS / "cubic.gs4dclip").read_bytes()


def refused(data: bytes) -> str:
    with pytest.raises(player_decoder.FormatError) as caught:
        player_decoder.decode(data)
    return str(caught.value)


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused(good: bytes, lie: str) -> None:
    refused(changed_header(good, LIES[lie]))


def test_a_file_cut_short_anywhere_is_refused(good: bytes) -> None:
    for length in range(len(good)):
        refused(good[:length])


def test_a_newer_version_is_refused_by_its_number(good: bytes) -> None:
    for version in (0, 3, 2**31):
        assert f"version {version};" in refused(good[:4] + struct.pack("<I", version) + good[8:])


def test_unknown_header_entries_are_ignored(good: bytes) -> None:
    def add(header: dict) -> None:
        header["later"] = {"anything": [1, 2]}
        # the names of entries that only segments have, with other values
        header["motion"]["tracks"][0].update(later=1, order=2, spatial=True)
        header["motion"]["tracks"][1].update(order="x")

    data = changed_header(good, add)
    assert player_decoder.decode(data).at(0.6) == player_decoder.decode(good).at(0.6)
    assert torch.equal(
        decode_player_file(data, "a").at(0.6).means, decode_player_file(good, "a").at(0.6).means
    )


def with_block(data: bytes, track: int, block: bytes) -> bytes:
    """The file with a track's block replaced by another one at its end."""

    def move(header: dict) -> None:
        start = 12 + int.from_bytes(data[8:12], "little")
        header["motion"]["tracks"][track].update(offset=len(data) - start, length=len(block))

    return changed_header(data, move) + block


def test_blocks_of_another_size_and_bombs_are_refused(good: bytes) -> None:
    clip = player_decoder.decode(good)
    opacity = list(clip.tracks).index("opacity")
    assert clip.moving == 4 and len(clip.knots) == 5
    assert (
        player_decoder.decode(with_block(good, opacity, zlib.compress(bytes(20)))).at(0).opacities[0] < 1e-9
    )
    for size in (0, 19, 21, 40_000_000):
        refused(with_block(good, opacity, zlib.compress(bytes(size))))
    whole = zlib.compress(bytes(20))
    for block in (b"not zlib", whole[:-1], whole[:-4], whole + b"\0"):
        refused(with_block(good, opacity, block))
        with pytest.raises(InputError, match="PLB-025"):
            decode_player_file(with_block(good, opacity, block), "a")
    color = list(clip.tracks).index("color")
    assert clip.tracks["color"].bits == 7
    assert "more than 7 bits" in refused(with_block(good, color, zlib.compress(b"\x80" * 60)))
    with pytest.raises(InputError):
        decode_player_file(with_block(good, color, zlib.compress(b"\x80" * 60)), "a")


def test_numbers_that_are_very_large_are_decoded(good: bytes) -> None:
    def vast(header: dict) -> None:
        for track in header["motion"]["tracks"]:
            track["high"] = [1e308] * track["channels"]

    data = changed_header(good, vast)
    # double precision does not hold the scales, single precision not even their logarithms
    assert max(player_decoder.decode(data).at(0.6).scales[0]) == float("inf")
    assert not bool(decode_player_file(data, "a").at(0.6).log_scales[0].isfinite().any())


def test_a_header_that_is_deep_or_not_finite_is_refused(good: bytes) -> None:
    for text in (
        b"[" * 200_000,
        b'{"format":"gs4d-clip","radius":NaN}',
        b'{"format":"gs4d-clip"}',
        b"\xff",
        b"[]",
    ):
        refused(b"GS4C" + struct.pack("<II", 1, len(text)) + text)


# -- the page and the decoder's own claims ----------------------------------------------------------------------------


def test_the_decoder_needs_the_standard_library_alone() -> None:
    source = (REPOSITORY / "tools" / "player_decoder.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0]
        for node in imports
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert names <= sys.stdlib_module_names
    run = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(REPOSITORY / "tools" / "player_decoder.py"),
            str(VECTORS / "hold.gs4dclip"),
            "--seconds",
            "0.3",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["opacities"][:4] == [0, 1, 1, 0]


def test_the_page_describes_every_entry_of_a_header(good: bytes) -> None:
    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {k for v in value.values() for k in keys(v)}
        return {k for v in value for k in keys(v)} if isinstance(value, list) else set()

    described = set(re.findall(r"`([\w.]+)`", PAGE))
    segmented = [(VECTORS / f"{name}.gs4dclip").read_bytes() for name in SEGMENTED]
    for data in (good, *segmented):
        assert keys(player_decoder.decode(data).header) <= described
    for data in segmented:
        place = player_decoder.decode(data).places[0]
        start = 12 + int.from_bytes(data[8:12], "little") + place.offset
        length = int.from_bytes(data[start + 8 : start + 12], "little")
        assert keys(json.loads(data[start + 12 : start + 12 + length])) <= described
    assert set(CHANNELS) | set(INTERPOLATIONS) <= described
    for name in (*NAMES, *SEGMENTED):
        assert f"{name}.gs4dclip" in PAGE


def test_the_page_and_both_decoders_have_the_same_limits() -> None:
    script = (WEB / "clip.js").read_text(encoding="utf-8")
    per_byte = int(re.search(r"PER_BYTE = (\d+)", script)[1])
    assert per_byte == player_decoder.PER_BYTE and "2 ** 26" in script and player_decoder.SMALL == 1 << 26
    for limit in ("2²⁶", "1100", "2³¹"):
        assert limit in PAGE
