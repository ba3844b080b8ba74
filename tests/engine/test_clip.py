"""Clips: the stated error holds for whatever moves a scene, every track comes back, damaged files are named."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import messages as m
from engine.deform import PerFrame
from engine.errors import InputError
from engine.io.spz import decode_spz, read_spz
from engine.playback.player_content import PlayerFile
from engine.playback.player_file import decode_player_file, read_player_file
from engine.playback.tracks import pack, quantize, unpack, weights
from engine.scene import Gaussians, Scene4D, harmonics, rotations
from engine.scene.cameras import look_at
from engine.steps import bake_clip
from tests.scenes import moving_scene, ring


def baked(scene: Scene4D, **config) -> bake_clip.Baked:
    return m.result(bake_clip.run(scene, bake_clip.Config(**config)))


def moments_of(scene: Scene4D) -> list[Gaussians]:
    return [scene.at(t) for t in scene.times.tolist()]


def flipbook(scene: Scene4D, moments: list[Gaussians], blends: bool = True) -> Scene4D:
    return scene.with_(canonical=moments[0], deformation=PerFrame.of(moments, scene.times, blends))


def largest_error(scene: Scene4D, made: bake_clip.Baked, player_file: PlayerFile) -> float:
    """Of the radius, over all captured moments, asked of the decoder in double precision."""
    distances = [
        (player_file.at(t).means.double() - scene.at(t).means[made.indices].double()).norm(dim=-1).max()
        for t in scene.times.tolist()
    ]
    return float(torch.stack(distances).max()) / player_file.radius


# -- the stated error -----------------------------------------------------------------------------------------------


class Wandering:
    """Smooth or jumpy random paths, from the Deformation protocol alone."""

    kind = "wandering"

    def __init__(self, count: int, seed: int, harmonics_: int, jitter: float, part: float) -> None:
        g = torch.Generator().manual_seed(seed)
        self.waves = (
            torch.randn(harmonics_, 2, count, 3, generator=g)
            / torch.arange(1, harmonics_ + 1)[:, None, None, None]
        )
        self.moves = (torch.rand(count, generator=g) < part)[:, None]
        self.jitter, self.seed = jitter, seed

    def deform(self, gaussians: Gaussians, seconds: float) -> Gaussians:
        k = torch.arange(1, len(self.waves) + 1)[:, None, None]
        shift = (self.waves[:, 0] * (k * seconds).sin() + self.waves[:, 1] * (1 - (k * seconds).cos())).sum(0)
        g = torch.Generator().manual_seed(self.seed + round(seconds * 1e6))
        shift = shift + self.jitter * torch.randn(shift.shape, generator=g)
        return gaussians.with_(means=gaussians.means + torch.where(self.moves, 0.3 * shift, 0.0))

    def config(self):
        return {}

    def tensors(self):
        return {}

    def to(self, device):
        return self


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 120),
    moments=st.integers(1, 20),
    waves=st.integers(1, 8),
    jitter=st.sampled_from([0.0, 0.0, 0.01, 1.0]),
    part=st.sampled_from([0.0, 0.3, 1.0]),
    max_error=st.sampled_from([1e-4, 0.002, 0.05]),
    uneven=st.booleans(),
    size=st.sampled_from([1e-2, 1.0, 1e3]),
)
@settings(max_examples=60, deadline=None)
def test_no_centre_is_further_off_than_stated(
    seed, count, moments, waves, jitter, part, max_error, uneven, size
):
    scene = moving_scene(count, seed, moments, views=2)
    times = torch.linspace(0.3, 2.0, moments, dtype=torch.float64)
    if uneven and moments > 2:
        times[1:-1] += (
            0.3
            * (times[1] - times[0])
            * torch.rand(moments - 2, generator=torch.Generator().manual_seed(seed))
        )
    still = scene.canonical
    scene = scene.with_(
        canonical=still.with_(means=still.means * size),
        deformation=Scaled(Wandering(count, seed, waves, jitter, part), size),
        times=times,
        bounds=scene.bounds * size,
    )
    made = baked(scene, max_error=max_error)
    player_file = decode_player_file(made.data, "a.gs4dclip")
    assert largest_error(scene, made, player_file) <= player_file.max_error
    assert player_file.mean_error <= player_file.max_error
    if jitter == 0.0 and not uneven:
        assert player_file.max_error <= max_error * 1.001 and not player_file.notes
    elif player_file.max_error > max_error:
        assert any("more than" in note for note in player_file.notes)
    assert player_file.moving <= len(player_file.base) == count
    assert sorted(made.indices.tolist()) == list(range(count))


class Scaled:
    kind = "scaled"

    def __init__(self, inner, size: float) -> None:
        self.inner, self.size = inner, size

    def deform(self, gaussians, seconds):
        small = self.inner.deform(gaussians.with_(means=gaussians.means / self.size), seconds)
        return gaussians.with_(means=small.means * self.size)

    def config(self):
        return {}

    def tensors(self):
        return {}

    def to(self, device):
        return self


def test_smooth_motion_takes_few_knots_and_jitter_one_a_moment():
    smooth = moving_scene(60, moments=40, views=2).with_(times=torch.linspace(0, 2, 40, dtype=torch.float64))
    player_file = baked(smooth).player_file
    assert player_file.motion.interpolation == "cubic" and len(player_file.motion.knots) <= 14
    assert len(baked(smooth, max_error=0.02).player_file.motion.knots) < len(player_file.motion.knots)
    rough = smooth.with_(deformation=Wandering(60, 0, 2, 0.5, 1.0))
    assert len(baked(rough).player_file.motion.knots) == 40


def test_fifty_thousand_gaussians_stay_within_four_megabytes():
    from benchmarks.clip import figure

    scene = figure(12_500, 48)  # a quarter of them, at most a quarter of the bytes
    made = baked(scene)
    assert made.player_file.moving >= 5000
    assert len(made.data) <= 1e6
    assert largest_error(scene, made, made.player_file) < 0.002


# -- what comes back ------------------------------------------------------------------------------------------------


def test_a_still_scene_is_a_splat_without_motion(tmp_path):
    made = moving_scene(50, views=3)
    scene = Scene4D.still(made.canonical, made.times, made.rig, made.bounds, made.background)
    player_file = read_player_file(baked(scene).save(tmp_path / "a.gs4dclip"))
    assert player_file.motion is None and player_file.moving == 0 and player_file.max_error < 1e-3
    assert torch.equal(player_file.at(0.7).means, player_file.at(0.0).means)
    one = scene.with_(times=scene.times[:1])
    assert baked(one).player_file.motion is None and baked(one).player_file.fps > 0
    one = made.with_(times=made.times[:1])
    assert decode_player_file(baked(one).data, "a").motion is None


def test_every_track_comes_back_near_what_it_was():
    scene = moving_scene(80, moments=12, views=2)
    moments = []
    for i, g in enumerate(moments_of(scene)):
        w = i / 11
        turn = torch.tensor([np.cos(w), np.sin(w) * 0.6, 0.0, np.sin(w) * 0.8], dtype=torch.float32)
        sh = g.sh.clone()
        sh[:, 0] += 0.8 * w
        moments.append(
            g.with_(
                quats=rotations.multiply(turn.expand(80, 4), rotations.normalise(g.quats)),
                log_scales=g.log_scales + 0.7 * w,
                logit_opacities=g.logit_opacities - 3 * w,
                sh=sh,
            )
        )
    scene = flipbook(scene, moments)
    made = baked(scene)
    player_file = decode_player_file(made.data, "a")
    assert set(player_file.motion.tracks) == {"position", "rotation", "scale", "opacity", "color"}
    for t in scene.times.tolist():
        got, wanted = player_file.at(t), scene.at(t).map(lambda x: x[made.indices])
        assert float((got.log_scales - wanted.log_scales).abs().max()) < 0.05
        assert float((got.logit_opacities.sigmoid() - wanted.logit_opacities.sigmoid()).abs().max()) < 0.03
        assert float((got.sh[:, 0] - wanted.sh[:, 0]).abs().max()) * harmonics.C0 < 0.03
        cosine = (rotations.normalise(got.quats) * rotations.normalise(wanted.quats)).sum(-1).abs()
        assert float(2 * cosine.clamp(max=1).acos().max()) < 0.06
    # without motion of one kind there is no track of it
    only = flipbook(scene, [moments[0].with_(logit_opacities=x.logit_opacities) for x in moments])
    assert set(baked(only).player_file.motion.tracks) == {"opacity"}


def test_births_and_deaths_are_held_and_never_smeared():
    scene = moving_scene(60, moments=5, views=2)
    g = torch.Generator().manual_seed(1)
    moments = []
    for x in moments_of(scene):
        alive = torch.rand(60, generator=g) < 0.5
        moments.append(
            x.with_(
                means=torch.randn(60, 3, generator=g) * 0.5,
                logit_opacities=torch.where(alive, 2.0, -20.0),
            )
        )
    scene = flipbook(scene, moments, blends=False)
    made = baked(scene)
    player_file = decode_player_file(made.data, "a")
    assert player_file.motion.interpolation == "hold" and player_file.max_error <= 0.002
    times = scene.times.tolist()
    for i, t in enumerate(times):
        truth = moments[i].map(lambda x: x[made.indices])
        for at in (t, t + 0.9 * (times[1] - times[0]) if i + 1 < len(times) else t + 1):
            now = player_file.at(at)
            assert (
                float((now.means - truth.means).norm(dim=-1).max()) / player_file.radius
                <= player_file.max_error
            )
            assert float((now.logit_opacities.sigmoid() - truth.logit_opacities.sigmoid()).abs().max()) < 0.01


def test_a_flip_book_that_blends_is_not_held():
    scene = moving_scene(60, moments=9, views=2)
    made = baked(flipbook(scene, moments_of(scene)))
    assert made.player_file.motion.interpolation != "hold"


def test_gaussians_that_nobody_ever_sees_are_left_out():
    scene = moving_scene(40, views=2)
    opacity = scene.canonical.logit_opacities.clone()
    opacity[10:25] = -12
    made = baked(scene.with_(canonical=scene.canonical.with_(logit_opacities=opacity)))
    assert len(made.player_file.base) == 25 and not set(range(10, 25)) & set(made.indices.tolist())


def test_too_many_gaussians_are_thinned_by_what_is_seen_of_them():
    scene = moving_scene(300, views=2)
    scales = scene.canonical.log_scales.clone()
    scales[::3] += 1.5  # large ones
    made = baked(scene.with_(canonical=scene.canonical.with_(log_scales=scales)), most=100)
    player_file = decode_player_file(made.data, "a")
    assert len(player_file.base) == 100
    assert player_file.notes == ("Thinned from 300 to 100 Gaussians; the least visible ones were dropped.",)
    assert sum(i % 3 == 0 for i in made.indices.tolist()) > 90
    assert not baked(scene, most=300).player_file.notes


def test_the_frame_is_kept_cameras_times_and_all(tmp_path):
    scene = moving_scene(30, views=4)
    made = baked(scene)
    player_file = read_player_file(made.save(tmp_path / "a.gs4dclip"))
    torch.testing.assert_close(
        player_file.cameras.world_to_camera, scene.rig.world_to_camera, rtol=0, atol=1e-12
    )
    assert (
        torch.equal(player_file.cameras.K, scene.rig.K.double())
        and player_file.cameras.names == scene.rig.names
    )
    assert torch.equal(player_file.times, scene.times) and player_file.fps == pytest.approx(5 / 1.5)
    torch.testing.assert_close(player_file.center, scene.bounds.mean(0))
    assert torch.equal(player_file.background, scene.background)
    assert float(player_file.up[2]) == pytest.approx(1, abs=0.05)
    header = json.loads(made.data[12 : 12 + int.from_bytes(made.data[8:12], "little")])
    # in the file: y up, cameras look along −z
    c2w = torch.tensor(header["cameras"][0]["camera_to_world"]).reshape(4, 4)
    towards = torch.nn.functional.normalize(torch.tensor(header["center"]) - c2w[:3, 3], dim=0)
    assert float(-c2w[:3, 2] @ towards) > 0.9


def test_the_splat_inside_is_a_file_of_its_own(tmp_path):
    scene = moving_scene(40, views=2, sh_degree=2)
    made = baked(scene)
    (tmp_path / "a.spz").write_bytes(spz_of(made.data))
    splat = read_spz(tmp_path / "a.spz")
    assert torch.equal(splat.means, made.player_file.base.means) and splat.sh_degree == 1
    assert (
        float((splat.means - scene.at(0.0).means[made.indices]).norm(dim=-1).max()) / made.player_file.radius
        < 0.001
    )
    assert baked(scene, sh_degree=0).player_file.base.sh_degree == 0
    assert baked(scene, sh_degree=3).player_file.base.sh_degree == 2


def spz_of(data: bytes) -> bytes:
    length = int.from_bytes(data[8:12], "little")
    place = json.loads(data[12 : 12 + length])["spz"]
    start = 12 + length + place["offset"]
    return data[start : start + place["length"]]


def test_reading_again_gives_the_very_same_numbers(tmp_path):
    scene = moving_scene(50, moments=9, views=2)
    made = baked(scene)
    path = made.save(tmp_path / "sub" / "a.gs4dclip")
    first, second = read_player_file(path), read_player_file(path)
    assert [p.name for p in path.parent.iterdir()] == ["a.gs4dclip"]
    assert made.data == baked(scene).data
    for t in (0.0, 0.31, 1.5, 9.0):
        for a, b, c in zip(
            *(x.at(t).tensors().values() for x in (first, second, made.player_file)), strict=True
        ):
            assert torch.equal(a, b) and torch.equal(a, c)
    assert torch.equal(first.means_at(0.31), first.at(0.31).means)


def test_the_scene_is_left_alone_and_its_device_kept():
    scene = moving_scene(50, views=2)
    before = {k: v.clone() for k, v in scene.canonical.tensors().items()}
    baked(scene)
    assert all(torch.equal(v, before[k]) for k, v in scene.canonical.tensors().items())


def test_the_messages_count_up_and_a_closed_stream_stops():
    scene = moving_scene(50, views=2)
    messages = list(bake_clip.run(scene))
    done = [x.done for x in messages if isinstance(x, m.Progress)]
    assert done == sorted(done) and done[-1] == messages[0].total
    stream = bake_clip.run(scene)
    next(stream), next(stream)
    stream.close()


def test_the_small_video_is_one(tmp_path):
    import av

    scene = moving_scene(50, moments=8, views=2)
    for made, frames in ((baked(scene), 8), (baked(scene.with_(times=scene.times[:1])), 60)):
        path = m.result(bake_clip.movie(made.player_file, tmp_path / f"{frames}.mp4"))
        with av.open(str(path)) as container:
            pictures = [f.to_ndarray(format="rgb24").astype(int) for f in container.decode(video=0)]
        assert len(pictures) == frames and pictures[0].shape[:2] == (40, 48)
        assert np.abs(pictures[0] - pictures[frames // 2]).mean() > 1


# -- the parts ------------------------------------------------------------------------------------------------------


@given(
    bits=st.integers(1, 16), knots=st.integers(1, 6), moving=st.integers(1, 9), channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 99), constant=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_tracks_unpack_to_the_numbers_that_were_packed(bits, knots, moving, channels, seed, constant):
    values = torch.randn(knots, moving, channels, generator=torch.Generator().manual_seed(seed))
    values = values * 0 + 3 if constant else values
    track = quantize("position", values, bits)
    again = unpack(pack(track), "position", bits, track.low, track.high, (knots, moving, channels))
    assert np.array_equal(again.whole, track.whole)
    step = (track.high - track.low) / (2**bits - 1)
    assert bool(((again.values() - values).abs() <= step / 2 * 1.001 + 1e-6).all())


def test_the_packed_bytes_are_those_of_the_published_layout():
    values = torch.tensor([[[0.0], [1023.0]], [[300.0], [1.0]]])
    packed = zlib.decompress(pack(quantize("opacity", values, 10)))
    changes = [0, 1023, 300, (1 - 1023) & 0xFFFF]
    assert list(packed) == [c & 255 for c in changes] + [c >> 8 for c in changes]


@given(st.integers(2, 9), st.floats(-1, 2), st.sampled_from(["cubic", "linear", "hold"]))
@settings(max_examples=60, deadline=None)
def test_weights_sum_to_one_and_meet_the_knots(count, second, kind):
    knots = torch.linspace(0, 1, count, dtype=torch.float64)
    row = weights(torch.tensor([second]), knots, kind)
    assert float(row.sum()) == pytest.approx(1)
    torch.testing.assert_close(weights(knots, knots, kind), torch.eye(count, dtype=torch.float64))
    if kind != "hold" and 0 <= second <= 1:  # straight lines stay straight
        assert float(row[0] @ knots) == pytest.approx(second, abs=1e-6)


# -- bad input ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good() -> bytes:
    scene = moving_scene(30, views=2)
    return baked(scene).data


def test_a_file_cut_short_anywhere_is_named(good, tmp_path):
    path = tmp_path / "cut.gs4dclip"
    for length in [*range(0, 40, 3), *range(40, len(good) - 1, max(1, len(good) // 60)), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(InputError, match=r"cut\.gs4dclip"):
            read_player_file(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_player_file(tmp_path / "missing.gs4dclip")


def changed_header(data: bytes, change) -> bytes:
    length = int.from_bytes(data[8:12], "little")
    header = json.loads(data[12 : 12 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(12 + len(text)) % 16)
    return data[:8] + len(text).to_bytes(4, "little") + text + data[12 + length :]


LIES = {
    "another format": lambda h: h.update(format="gltf"),
    "more Gaussians": lambda h: h.update(gaussians=10**9),
    "more moving ones": lambda h: h.update(moving=h["gaussians"] + 1),
    "negative moving": lambda h: h.update(moving=-1),
    "moving without motion": lambda h: h.update(motion=None),
    "times that go back": lambda h: h.update(times=[1.0, 0.0]),
    "no times": lambda h: h.update(times=[]),
    "no radius": lambda h: h.update(radius=0),
    "radius in words": lambda h: h.update(radius="large"),
    "endless radius": lambda h: h.update(radius=float("inf")),
    "no header field": lambda h: h.pop("spz"),
    "splat elsewhere": lambda h: h["spz"].update(offset=10**12),
    "splat before": lambda h: h["spz"].update(offset=-4),
    "no bits": lambda h: h["motion"]["tracks"][0].update(bits=0),
    "too many bits": lambda h: h["motion"]["tracks"][0].update(bits=17),
    "fewer bits": lambda h: h["motion"]["tracks"][0].update(bits=7),
    "another track": lambda h: h["motion"]["tracks"][0].update(name="glow"),
    "a track twice": lambda h: h["motion"]["tracks"].append(h["motion"]["tracks"][0]),
    "more channels": lambda h: h["motion"]["tracks"][0].update(channels=300),
    "low without high": lambda h: h["motion"]["tracks"][0].update(high=[1]),
    "more knots": lambda h: h["motion"].update(knots=[float(i) for i in range(100_000)]),
    "uneven knots": lambda h: h["motion"]["knots"].__setitem__(1, 0.01),
    "unknown interpolation": lambda h: h["motion"].update(interpolation="magic"),
    "motion as a list": lambda h: h.update(motion=[1]),
    "a camera without a place": lambda h: h["cameras"][0].update(camera_to_world=[1]),
    "notes as a number": lambda h: h.update(notes=3),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_named(good, lie):
    with pytest.raises(InputError, match=r"^lie\.gs4dclip.+\. \[GS4D-PLB-\d{3}\]$"):
        decode_player_file(changed_header(good, LIES[lie]), "lie.gs4dclip")


def test_foreign_newer_and_damaged_files_are_named(good, tmp_path):
    with pytest.raises(InputError, match="not a player file"):
        decode_player_file(b"PK\3\4" + bytes(100), "a.gs4dclip")
    with pytest.raises(InputError, match="version 3"):
        decode_player_file(good[:4] + (3).to_bytes(4, "little") + good[8:], "a.gs4dclip")
    with pytest.raises(InputError, match="header"):
        decode_player_file(good[:12] + b"x" + good[13:], "a.gs4dclip")
    spoilt = bytearray(good)
    spoilt[-40:-20] = bytes(20)
    with pytest.raises(InputError, match=r"damaged|holds"):
        decode_player_file(bytes(spoilt), "a.gs4dclip")


def test_a_track_is_not_unpacked_beyond_its_claim(good):
    bomb = zlib.compress(bytes(50_000_000))
    with pytest.raises(InputError, match="bytes"):
        unpack(bomb, "opacity", 8, torch.zeros(1), torch.ones(1), (2, 3, 1))


def test_scenes_that_cannot_be_played_are_refused_in_words():
    scene = moving_scene(20, views=2)
    with pytest.raises(InputError, match="no Gaussians"):
        baked(scene.with_(canonical=scene.canonical.map(lambda t: t[:0])))
    broken = moments_of(scene)
    broken[3] = broken[3].with_(means=broken[3].means * float("nan"))
    with pytest.raises(InputError, match=r"0\.(75|9).* s"):
        baked(flipbook(scene, broken))
    with pytest.raises(InputError, match=r"cameras"):
        rig = replace(ring(2), K=ring(2).K * float("nan"))
        baked(scene.with_(rig=rig))
    with pytest.raises(InputError, match="max_error"):
        bake_clip.Config(max_error=2.0)


def test_degenerate_bounds_and_one_camera_still_bake():
    scene = moving_scene(20, views=1)
    rig = replace(
        ring(1),
        world_to_camera=look_at(torch.tensor([0, 0, 5.0]), torch.zeros(3), torch.tensor([0, 1.0, 0]))[None],
    )
    player_file = decode_player_file(baked(scene.with_(rig=rig, bounds=torch.zeros(2, 3).double())).data, "a")
    assert player_file.radius > 0 and len(player_file.cameras) == 1
    assert decode_spz(spz_of(baked(scene).data), "a").means.shape[0] == 20


def test_a_turn_goes_on_through_half_a_turn_and_round():
    scene = moving_scene(40, moments=24, views=2)
    moments = []
    for i, g in enumerate(moments_of(scene)):
        half = 0.75 * np.pi * i / 23 * 2  # 540° in all
        turn = torch.tensor([np.cos(half), 0.0, np.sin(half) * 0.6, np.sin(half) * 0.8], dtype=torch.float32)
        moments.append(
            moments[0].with_(
                quats=rotations.multiply(turn.expand(40, 4), rotations.normalise(moments[0].quats))
            )
            if moments
            else g
        )
    scene = flipbook(scene, moments)
    made = baked(scene)
    player_file = decode_player_file(made.data, "a")
    assert set(player_file.motion.tracks) == {"rotation"} and len(player_file.motion.knots) < 24
    for t in torch.linspace(0, 1.5, 200).tolist():
        got, wanted = player_file.at(t).quats, scene.at(t).quats[made.indices]
        cosine = (rotations.normalise(got) * rotations.normalise(wanted)).sum(-1).abs()
        assert float(2 * cosine.clamp(max=1).acos().max()) < 0.15, t
