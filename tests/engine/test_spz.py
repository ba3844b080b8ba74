"""`.spz` and `.4dgs`: how much a trip costs, that axes turn with everything, plain words for damaged files."""

import gzip
import importlib.util
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.io import spz
from engine.io.fourdgs import write_fourdgs
from engine.io.ply import write_ply
from engine.io.spz import read_spz, write_spz
from engine.io.spz_decoding import names_axes, turned
from engine.messages import result
from engine.scene import Gaussians, harmonics, rotations
from engine.steps import import_scene
from tests.memory import cost_of, needs_linux
from tests.scenes import moving_scene


def gaussians(count=200, bases=16, seed=0, spread=2.0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(shape, generator=g) * 2 - 1

    return Gaussians(
        draw(count, 3) * spread, draw(count, 3) * 3 - 4, draw(count, 4) + 0.01, draw(count) * 4, draw(count, bases, 3)
    )  # fmt: skip


def angle(a, b):
    """Radians between the rotations of two sets of Gaussians."""
    a, b = (rotations.normalise(x.quats.double()) for x in (a, b))
    return 2 * torch.asin((torch.minimum((a - b).norm(dim=1), (a + b).norm(dim=1)) / 2).clamp(max=1))


@pytest.mark.parametrize(("version", "turn"), [(2, 0.2), (3, 0.005), (4, 0.005)])
@pytest.mark.parametrize("bases", [1, 4, 9, 16])
def test_a_trip_costs_no_more_than_the_format_rounds(version, turn, bases, tmp_path):
    g = gaussians(bases=bases)
    again = read_spz(write_spz(g, tmp_path / "a.spz", version))
    assert float((again.means - g.means).abs().max()) < 2e-6
    assert float((again.log_scales - g.log_scales).abs().max()) <= 1 / 32 + 1e-5
    assert (
        float((again.logit_opacities.sigmoid() - g.logit_opacities.sigmoid()).abs().max()) <= 0.5 / 255 + 1e-6
    )
    assert float((again.sh[:, :1] - g.sh[:, :1]).abs().max()) <= 0.5 / 255 / 0.15 + 1e-5
    assert again.sh.shape == g.sh.shape
    if bases > 1:  # +1 itself has no byte: the last one is 127/128
        assert float((again.sh[:, 1:] - g.sh[:, 1:]).abs().max()) <= 1 / 128 + 1e-6
    assert float(angle(again, g).max()) < turn


@given(st.floats(1e-3, 8e6), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_positions_keep_their_precision_at_every_scale_of_scene(tmp_path_factory, spread, seed):
    g = gaussians(20, 1, seed, spread)
    again = read_spz(write_spz(g, tmp_path_factory.mktemp("spz") / "a.spz"))
    limit = max(float(g.means.abs().max()) * 2**-22, 2**-21) * 1.01
    assert float((again.means - g.means).abs().max()) <= limit + spread * 1e-7


@pytest.mark.parametrize("version", [2, 3, 4])
def test_gaussians_encoded_in_parts_have_the_bytes_of_all_at_once(version, monkeypatch):
    g = gaussians(1000)
    monkeypatch.setattr(spz, "ROWS", 1000)
    whole = spz.encode_spz(g, "a.spz", version, 5)
    monkeypatch.setattr(spz, "ROWS", 64)
    assert spz.encode_spz(g, "a.spz", version, 5) == whole


@needs_linux
def test_the_memory_of_encoding_is_about_that_of_the_file():
    """Double precision of all at once takes 130 MB."""
    g = gaussians(200_000, bases=4)
    spz.encode_spz(gaussians(100, bases=4), "a.spz")
    cost = cost_of(lambda: spz.encode_spz(g, "a.spz"))
    assert cost.said == "value" and cost.megabytes < 40


def test_a_second_trip_changes_nothing_more(tmp_path):
    once = read_spz(write_spz(gaussians(), tmp_path / "a.spz"))
    twice = read_spz(write_spz(once, tmp_path / "b.spz"))
    for name in ("means", "log_scales", "sh"):
        torch.testing.assert_close(getattr(once, name), getattr(twice, name), rtol=0, atol=1e-6)
    assert float(angle(once, twice).max()) < 1e-3


def test_the_bytes_are_those_of_the_published_layout(tmp_path):
    """One Gaussian by hand: header, 24-bit positions with y and z turned, then a byte each."""
    quat = torch.tensor([[0.5**0.5, 0.5**0.5, 0.0, 0.0]])  # w and x: a quarter turn about x
    g = Gaussians(
        torch.tensor([[1.0, 2.0, -3.0]]), torch.tensor([[-2.0, 0.0, -5.5]]), quat,
        torch.tensor([0.0]), torch.tensor([[[0.0, 1.0, -1.0]]]),
    )  # fmt: skip
    raw = gzip.decompress(write_spz(g, tmp_path / "a.spz", 2).read_bytes())
    magic, version, count, degree, bits, flags, reserved = struct.unpack("<IIIBBBB", raw[:16])
    assert (magic, version, count, degree, flags, reserved) == (0x5053474E, 2, 1, 0, 0, 0)
    whole = [int.from_bytes(raw[16 + 3 * i : 19 + 3 * i], "little", signed=True) / 2**bits for i in range(3)]
    assert whole == [1.0, -2.0, 3.0]
    assert raw[25] in (127, 128)  # opacity a half
    assert raw[26] in (127, 128) and raw[27] == round(127.5 + 38.25) and raw[28] == round(127.5 - 38.25)
    assert list(raw[29:32]) == [128, 160, 72]  # (log scale + 10) · 16
    assert list(raw[32:35]) == [round(127.5 + 127.5 * 0.5**0.5), 128, 128] and len(raw) == 35
    raw = gzip.decompress(
        write_spz(g.with_(quats=torch.tensor([[0.9, 0.1, -0.2, 0.3]])), tmp_path / "b.spz").read_bytes()
    )
    packed = int.from_bytes(raw[32:36], "little")
    assert packed >> 30 == 3, "w is the largest of x, y, z, w"
    length = (0.81 + 0.01 + 0.04 + 0.09) ** 0.5
    for place, (axis, value) in enumerate(((2, -0.3), (1, 0.2), (0, 0.1))):  # y and z turned, z lowest
        field = packed >> (10 * place) & 1023
        assert (field & 511) == round(abs(value) / length * 511 * 2**0.5), axis
        assert (field >> 9) == (value < 0), axis


def test_colours_turn_with_the_axes(tmp_path):
    """Half a turn about x must leave what is seen along every turned direction as it was."""
    g = gaussians(50)
    raw = read_spz(write_spz(g, tmp_path / "a.spz"))
    directions = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=torch.Generator().manual_seed(4)), dim=-1
    )
    assert (
        float((harmonics.evaluate(raw.sh, directions) - harmonics.evaluate(g.sh, directions)).abs().max())
        < 0.06
    )
    # the file itself holds the turned ones
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    stored = torch.frombuffer(bytearray(data[16 + 50 * 20 :]), dtype=torch.uint8).reshape(50, 15, 3).float()
    stored = torch.cat([torch.zeros(50, 1, 3), (stored - 128) / 128], dim=1)
    flat = g.with_(sh=torch.cat([torch.zeros(50, 1, 3), g.sh[:, 1:]], dim=1))
    turned = harmonics.evaluate(stored, directions * torch.tensor([1.0, -1.0, -1.0]))
    assert float((turned - harmonics.evaluate(flat.sh, directions)).abs().max()) < 0.06


def test_fewer_bits_make_a_smaller_file(tmp_path):
    g = gaussians(500)
    sizes = [write_spz(g, tmp_path / f"{b}.spz", sh_bits=b).stat().st_size for b in (8, 5, 3)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_no_gaussians_are_no_trouble(tmp_path):
    for bases in (1, 16):
        assert len(read_spz(write_spz(gaussians(0, bases), tmp_path / "a.spz"))) == 0


def test_what_cannot_be_written_is_refused(tmp_path):
    g = gaussians(3)
    for bad in (g.with_(means=g.means * float("nan")), g.with_(means=g.means + 1e8)):
        with pytest.raises(InputError, match=r"a\.spz was not written"):
            write_spz(bad, tmp_path / "a.spz")
    with pytest.raises(InputError, match="version"):
        write_spz(g, tmp_path / "a.spz", version=5)
    assert not list(tmp_path.iterdir())


def refused(path, content, word="."):
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        read_spz(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_lying_files_are_named(tmp_path):
    path = tmp_path / "a.spz"
    good = write_spz(gaussians(), path).read_bytes()
    raw = gzip.decompress(good)
    refused(path, b"")
    refused(path, b"not gzip at all, but long enough")
    refused(path, good[:30])
    refused(path, good[: len(good) // 2], "again")
    refused(path, gzip.compress(raw[:-1]), "contains")
    refused(path, gzip.compress(b"x" * 100), r"not an \.spz")
    refused(path, raw[:4] + bytes(40), "version 0")

    def header(version=3, count=200, degree=3, bits=12):
        return gzip.compress(
            struct.pack("<IIIBBBB", 0x5053474E, version, count, degree, bits, 0, 0) + raw[16:]
        )

    refused(path, header(version=9), "version 9")
    refused(path, header(count=201), "contains")
    refused(path, header(count=2**32 - 1), "claims")
    refused(path, header(degree=7), "degree 7")
    refused(path, header(bits=40), "40")
    with pytest.raises(InputError, match="cannot be read"):
        read_spz(tmp_path / "nowhere.spz")


def test_a_small_file_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.spz"
    head = struct.pack("<IIIBBBB", 0x5053474E, 3, 2, 0, 12, 0, 0)
    path.write_bytes(gzip.compress(head + bytes(64 << 20)))
    assert len(read_spz(path)) == 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damaged_byte_gives_anything_but_gaussians_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("spz") / "a.spz"
    content = bytearray(gzip.decompress(write_spz(gaussians(5, 4), path).read_bytes()))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(gzip.compress(bytes(content)))
    try:
        assert bool(torch.isfinite(read_spz(path).quats).all())
    except InputError as error:
        assert "\n" not in str(error)


# -- axes -----------------------------------------------------------------------------------------------------------


def with_records(packed: bytes, records: bytes) -> bytes:
    """The file with extension records: behind the blocks of a gzip stream, or between head and table of version 4."""
    if packed[:2] == b"\x1f\x8b":
        raw = bytearray(gzip.decompress(packed))
        raw[14] = 2
        return gzip.compress(bytes(raw) + records)
    head = bytearray(packed[:32])
    head[14] = 2
    head[16:20] = (32 + len(records)).to_bytes(4, "little")
    return bytes(head) + records + packed[32:]


def record(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload


def axes_record(number: int) -> bytes:
    return record(0xADBE0003, number.to_bytes(4, "little"))


UNKNOWN_RECORD = record(0x12340001, b"something")
CUT_RECORD = struct.pack("<II", 0xADBE0003, 400) + b"ab"


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_file_is_read_in_the_axes_that_it_names(version, tmp_path):
    """Right, down, front (6) are those of the pack, so that nothing is turned."""
    path = write_spz(gaussians(), tmp_path / "a.spz", version)
    plain, packed = read_spz(path), path.read_bytes()
    for records, expected, is_named in (
        (UNKNOWN_RECORD + axes_record(6), turned(plain), True),
        (axes_record(4), plain, True),
        (axes_record(0), plain, False),
        (UNKNOWN_RECORD, plain, False),
        (CUT_RECORD + axes_record(6), plain, False),
    ):
        data = with_records(packed, records)
        read = spz.decode_spz(data, "a.spz")
        assert names_axes(data, "a.spz") == is_named
        assert all(torch.equal(t, expected.tensors()[name]) for name, t in read.tensors().items())
    assert not names_axes(packed, "a.spz")
    with pytest.raises(InputError, match=r"a\.spz names a coordinate system \(17\).*IO-124"):
        spz.decode_spz(with_records(packed, axes_record(17)), "a.spz")


@pytest.mark.parametrize("version", [3, 4])
def test_an_import_says_what_was_assumed_about_the_axes(version, tmp_path):
    path = write_spz(gaussians(), tmp_path / "a.spz", version)
    said = "a.spz does not say which way is up: it was read with y up, as Niantic specifies .spz."
    assert said in import_scene.summary(result(import_scene.run(path)))
    folder = tmp_path / "sequence"
    folder.mkdir()
    for i in range(2):
        (folder / f"a{i}.spz").write_bytes(path.read_bytes())
    summary = import_scene.summary(result(import_scene.run(folder)))
    assert summary.count("does not say which way is up") == 1 and "a0.spz" in summary
    path.write_bytes(with_records(path.read_bytes(), axes_record(4)))
    assert "which way is up" not in import_scene.summary(result(import_scene.run(path)))


def test_cameras_of_a_file_with_y_down_are_put_right_by_the_up_axis(tmp_path):
    """What SuperSplat writes: the axes of a .ply, and no word about them."""
    path = write_spz(turned(gaussians()), tmp_path / "a.spz")
    scene = result(import_scene.run(path, import_scene.Config(up="y up")))
    right = result(import_scene.run(write_ply(gaussians(), tmp_path / "a.ply")))
    # seen from the cameras, both stand the same way: their up axes in the scene's own coordinates
    up, wanted = (-s.rig.world_to_camera[:, 1, :3].double().mean(0) for s in (scene, right))
    half_turn = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    assert float(torch.cosine_similarity(up * half_turn, wanted, dim=0)) > 0.99


@pytest.mark.skipif(
    importlib.util.find_spec("fourdgs") is None, reason="the package fourdgs is not installed"
)
class TestFourdgs:
    def test_positions_are_right_at_every_moment_and_between(self, tmp_path):
        import fourdgs
        from fourdgs.validate import validate

        scene = moving_scene(60, views=2)
        path = write_fourdgs(scene, scene.times.tolist(), tmp_path / "a.4dgs")
        assert validate(path.read_bytes()).ok
        read = fourdgs.read(str(path)).gaussians
        for t in (0.0, 0.15, 0.3, 1.05, 1.5):
            index = int(torch.searchsorted(scene.times, t, right=True)) - 1
            after = min(index + 1, len(scene.times) - 1)
            span = float(scene.times[after] - scene.times[index]) or 1.0
            weight = (t - float(scene.times[index])) / span
            want = torch.lerp(
                scene.at(float(scene.times[index])).means, scene.at(float(scene.times[after])).means, weight
            )
            state = read.state_at(t)
            got = torch.from_numpy(state["centers"]).float()
            assert len(got) == 60
            # the order in the file is the format's own
            distance = torch.cdist(want, got)
            assert float(distance.amin(1).max()) < 0.01
            assert float(distance.amin(0).max()) < 0.01

    def test_what_stands_still_is_stored_once(self, tmp_path):
        import fourdgs

        scene = moving_scene(60, views=2)
        moving = int((scene.canonical.means[:, 2] > 0).sum())
        path = write_fourdgs(scene, scene.times.tolist(), tmp_path / "a.4dgs")
        assert fourdgs.read(str(path)).gaussians.count == (60 - moving) + moving * len(scene.times)

    @pytest.mark.parametrize("bases", [1, 16])
    def test_a_scene_where_everything_moves_or_nothing_does(self, bases, tmp_path):
        import fourdgs

        scene = moving_scene(12, views=2)
        g = scene.canonical.with_(sh=torch.rand(12, bases, 3))
        moves = scene.with_(canonical=g.with_(means=g.means + torch.tensor([0.0, 0.0, 5.0])))
        stands = scene.with_(canonical=g.with_(means=g.means - torch.tensor([0.0, 0.0, 5.0])))
        for changed, count in ((moves, 12 * len(scene.times)), (stands, 12)):
            path = write_fourdgs(changed, scene.times.tolist(), tmp_path / "a.4dgs")
            assert fourdgs.read(str(path)).gaussians.count == count

    def test_what_cannot_be_written_is_refused(self, tmp_path):
        scene = moving_scene(10, views=2)
        for seconds in ([], [0.0, 0.0], [1.0, 0.5], [0.0, float("nan")]):
            with pytest.raises(InputError, match="ascend"):
                write_fourdgs(scene, seconds, tmp_path / "a.4dgs")
        empty = scene.with_(canonical=scene.canonical.map(lambda t: t[:0]))
        with pytest.raises(InputError, match="no Gaussians"):
            write_fourdgs(empty, [0.0], tmp_path / "a.4dgs")
        assert not list(tmp_path.iterdir())
