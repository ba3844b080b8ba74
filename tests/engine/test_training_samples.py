"""Samples of shards and folders: read as other programs read and write them, each once, whatever is broken in between."""

import io
import json
import logging
import os
import shutil
import subprocess
import tarfile
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import InputError
from tests.engine.test_reconstruction_training import CONFIG as LDRM
from tests.engine.test_reconstruction_training import SHAPE
from training import shards as shards_script
from training.camera_video.data import make_clip, sample_kind
from training.common.decoding import SampleKind
from training.common.samples import Samples
from training.reconstruction import data as reconstruction
from training.reconstruction.scenes import SceneShape
from training.reconstruction.staged import StagedSamples
from training.shards import files_of, write_shard
from training.variation_field import data as variation_field

KIND = SampleKind("numbered", {"number": "int", "values": "N 2 float"}, lambda fields: int(fields["number"]))
SCENE = SceneShape(frames=5)


def numbered(number, size=3):
    """The files of a small sample."""
    return {
        "json": json.dumps({"number": number}).encode(),
        "values.npy": npy(np.full((size, 2), number, np.float32)),
    }


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shards(folder, *sizes):
    """Shards of numbered samples, of these lengths; the samples are numbered through."""
    number = 0
    for i, size in enumerate(sizes):
        samples = [(f"{n:04d}", numbered(n)) for n in range(number, number + size)]
        write_shard(folder / f"shard-{i:03d}.tar", samples)
        number += size
    return str(folder)


def process(index, count):
    return SimpleNamespace(index=index, count=count, is_main=index == 0)


def opened(source, count=1, kind=KIND):
    return [Samples(source, kind, processes=process(i, count)) for i in range(count)]


def equal(a, b):
    """Whether two samples have the same fields."""
    return a.fields().keys() == b.fields().keys() and all(
        torch.equal(value, b.fields()[name]) for name, value in a.fields().items()
    )


# -- other programs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made():
    """A sample of each network, and what reads it."""
    clip = variation_field.ClipShape(frames=5, points=96, gaussians=160, anchors=8)
    return {
        "camera-video": (make_clip(1, SCENE, 32), sample_kind(32)),
        "reconstruction": (reconstruction.make_sample(1, SHAPE, LDRM), reconstruction.sample_kind(LDRM)),
        "variation-field": (variation_field.make_clip("limbed", 1, clip).packed(), variation_field.KIND),
    }


@pytest.mark.parametrize("name", ["camera-video", "reconstruction", "variation-field"])
def test_webdataset_reads_our_shards_and_we_read_its(made, name, tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    sample, kind = made[name]
    write_shard(tmp_path / "ours.tar", [("0001", files_of(sample.fields(), name, 1)), ("0002", numbered(2))])
    # their reader gives the bytes, undecoded
    found = list(webdataset.WebDataset(str(tmp_path / "ours.tar"), shardshuffle=False))
    assert [s["__key__"] for s in found] == ["0001", "0002"]
    assert equal(kind.read({"safetensors": found[0]["safetensors"], "json": found[0]["json"]}, {}), sample)
    # their writer, with one file for each tensor
    fields = {f"{n}.npy": value.numpy() for n, value in sample.fields().items()}
    with webdataset.TarWriter(str(tmp_path / "theirs.tar")) as writer:
        writer.write({"__key__": "part/0001", **fields, "json": {"kind": name}, "caption.txt": "not ours"})
    (read,) = opened(str(tmp_path / "theirs.tar"), kind=kind)
    assert len(read) == 1 and equal(read.draw(1)[0], sample)


def test_a_folder_of_loose_files_is_read_with_its_video_as_one_image(made, tmp_path):
    sample, kind = made["camera-video"]
    fields = sample.fields()
    strip = fields.pop("images").flatten(0, 1).numpy()
    Image.fromarray(strip).save(tmp_path / "0001.images.png")
    cameras = {name: fields.pop(name).tolist() for name in ("world_to_camera", "K")}
    (tmp_path / "0001.json").write_text(json.dumps(cameras))
    for name, value in fields.items():
        np.save(tmp_path / f"0001.{name}.npy", value.numpy())
    (read,) = opened(str(tmp_path), kind=kind)
    found = read.draw(1)[0]
    assert torch.equal(found.images, sample.images) and torch.equal(found.distances, sample.distances)
    torch.testing.assert_close(
        found.cameras.world_to_camera, sample.cameras.world_to_camera, atol=1e-6, rtol=0
    )


# -- the order --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_of_different_length_are_read_once_per_epoch_and_no_process_waits(tmp_path, count):
    """Three shards: fewer than some numbers of processes."""
    source, total = shards(tmp_path, 300, 1, 13), 314
    processes = opened(source, count)
    shares = [total * (i + 1) // count - total * i // count for i in range(count)]
    first = [p.draw(n) for p, n in zip(processes, shares, strict=True)]
    assert max(shares) - min(shares) <= 1
    assert sorted(n for part in first for n in part) == list(range(total))
    second = [p.draw(n) for p, n in zip(processes, shares, strict=True)]
    assert sorted(n for part in second for n in part) == list(range(total))
    # mixed, and otherwise in every epoch
    assert first[0] != sorted(first[0]) and first != second


def test_a_place_is_found_again(tmp_path):
    source = shards(tmp_path, 290, 20, 5)
    processes = opened(source, 2)
    for p, steps in zip(processes, (40, 41), strict=True):
        p.draw(4 * steps)
    places = torch.stack([p.place() for p in processes])
    assert places.tolist() == [[1, 3, 0], [1, 6, 0]]
    for p, again in zip(processes, opened(source, 2), strict=True):
        again.go_to(places)
        assert again.draw(400) == p.draw(400)
    # three processes go on about there
    others = opened(source, 3)
    for p in others:
        p.go_to(places)
    assert [p.place()[:2].tolist() for p in others] == [[1, 3]] * 3


# -- what is broken ---------------------------------------------------------------------------------------------------


def header_of(data, name):
    """Where the tar header of a file is."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmember(name).offset


DAMAGES = {
    "a cut image": lambda files: {**files, "values.npy": files["values.npy"][:-3]},
    "a damaged file": lambda files: {**files, "json": b"{" + files["json"]},
    "a missing file": lambda files: {"json": files["json"]},
    "another shape": lambda files: {**files, "values.npy": npy(np.zeros((4, 2), np.float32))},
    "another type": lambda files: {**files, "values.npy": npy(np.zeros((3, 2), np.int64))},
    "not a number": lambda files: {**files, "values.npy": npy(np.full((3, 2), np.nan, np.float32))},
    "Python objects": lambda files: {**files, "values.npy": npy(np.array([[{}, {}]] * 3, dtype=object))},
    "another kind": lambda files: {**files, "json": b'{"number": 5, "kind": "other"}'},
}
REASONS = {
    "a cut image": "values.npy cannot be read (it is cut short)",
    "a damaged file": "json cannot be read",
    "a missing file": "lacks values",
    "another shape": "values is 4×2 float32, not 3×2 float",
    "another type": "values is 3×2 int64, not 3×2 float",
    "not a number": "values has values that are not finite",
    "Python objects": "values.npy cannot be read (it holds Python objects)",
    "another kind": "its kind is 'other', not 'numbered'",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_sample_in_the_middle_is_skipped_counted_and_named(tmp_path, caplog, damage):
    caplog.set_level(logging.WARNING, "gs4d")
    samples = [(f"{n:04d}", numbered(n)) for n in range(9)]
    samples[5] = ("0005", DAMAGES[damage](numbered(5)))
    write_shard(tmp_path / "shard.tar", samples)
    (read,) = opened(str(tmp_path))
    assert Counter(read.draw(8)) == Counter(n for n in range(9) if n != 5)
    # counted where it was met, in this epoch or at the start of the next
    read.draw(8)
    assert int(read.place()[-1]) in (1, 2)
    assert "shard.tar: 0005" in caplog.text and REASONS[damage] in caplog.text


def test_a_damaged_header_costs_its_sample_and_a_cut_shard_its_end(tmp_path):
    path = tmp_path / "shard.tar"
    write_shard(path, [(f"{n:04d}", numbered(n)) for n in range(9)])
    whole = path.read_bytes()
    data = bytearray(whole)
    at = header_of(whole, "0004.json")
    data[at + 100 : at + 160] = b"\xff" * 60
    path.write_bytes(bytes(data))
    (read,) = opened(str(tmp_path))
    assert set(read.draw(40)) == {n for n in range(9) if n != 4} and int(read.place()[-1]) > 0
    path.write_bytes(whole[: header_of(whole, "0006.values.npy") + 520])
    (read,) = opened(str(tmp_path))
    assert set(read.draw(40)) == set(range(6)) and int(read.place()[-1]) > 0


def test_files_with_holes_in_a_shard_are_not_read_as_if_they_had_none(tmp_path, caplog):
    """As GNU tar writes with --sparse: the bytes of what follows would be taken for theirs."""
    if shutil.which("tar") is None:
        pytest.skip("the command tar, which writes files with holes, is not installed")
    caplog.set_level(logging.WARNING, "gs4d")
    folder = tmp_path / "loose"
    folder.mkdir()
    whole = npy(np.concatenate([np.zeros((1 << 16, 2)), np.ones((1 << 10, 2))]).astype(np.float32))
    for n in range(5):
        (folder / f"{n}.json").write_text(json.dumps({"number": n}))
        with open(folder / f"{n}.values.npy", "wb") as file:
            if n == 1:
                file.write(whole[:128])
                file.seek(len(whole) - 8192)
                file.write(whole[-8192:])
            else:
                file.write(whole)
    if os.stat(folder / "1.values.npy").st_blocks * 512 >= len(whole):
        pytest.skip("this disk has no files with holes")
    names = sorted(path.name for path in folder.iterdir())
    subprocess.run(["tar", "--sparse", "-cf", tmp_path / "a.tar", "-C", folder, *names], check=True)
    read = opened(str(tmp_path / "a.tar"))[0]
    assert set(read.draw(8)) == {0, 2, 3, 4} and "a.tar: 1: lacks values" in caplog.text
    assert set(opened(str(folder))[0].draw(5)) == set(range(5))


def tar_header(name, size):
    """Of a file that claims a size, also a negative one."""
    data = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    data[124:136] = (size % (1 << 96)).to_bytes(12, "big")
    data[124] |= 0x80
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def test_sizes_that_a_shard_only_claims_cost_neither_memory_nor_time(tmp_path):
    path = tmp_path / "a.tar"
    write_shard(path, [(f"{n}", numbered(n)) for n in range(3)])
    whole = path.read_bytes().rstrip(b"\0")
    whole += bytes(-len(whole) % 512)
    path.write_bytes(whole + tar_header("9.json", 1 << 60))
    assert set(opened(str(path))[0].draw(8)) == {0, 1, 2}
    # leads back behind the first header, and from there here again
    path.write_bytes(whole + tar_header("9.json", -len(whole)))
    assert set(opened(str(path))[0].draw(6)) == {0, 1, 2}


def test_names_of_samples_are_text(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "gs4d")
    bad = {"json": b'{"number": 1}', "\x1b[2Jvalues.npy": b"", "val\x07ues.png": b"no image"}
    write_shard(tmp_path / "a.tar", [("0", numbered(0)), ("\x1b]0;title\x07", bad)])
    opened(str(tmp_path))[0].draw(3)
    assert "skipped a.tar: \\x1b]0;title\\x07" in caplog.text and caplog.text.replace("\n", "").isprintable()


def test_shards_without_samples_are_left_out_by_name(tmp_path):
    source = shards(tmp_path, 4, 0, 3)
    (tmp_path / "zero.tar").write_bytes(b"")
    (read,) = opened(source)
    assert read.empty == ["shard-001.tar", "zero.tar"] and len(read) == 7
    assert read.shards == {"shard-000.tar": 4, "shard-002.tar": 3}


def test_sources_that_cannot_be_used_are_named(tmp_path):
    def message(source, code, count=1, kind=KIND):
        with pytest.raises(InputError) as found:
            opened(str(source), count, kind)
        assert found.value.code == code, found.value
        return str(found.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "empty has no samples: it has none" in message(empty, "NET-005")
    write_shard(empty / "a.tar", [])
    assert "the shards a.tar have none" in message(empty, "NET-005")
    few = shards(tmp_path, 2)
    assert "has 2 samples for 3 processes" in message(few, "NET-006", count=3)
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    write_shard(lacking / "a.tar", [("0001", {"json": b'{"other": 1}'})])
    assert "a.tar: 0001 lacks number, values" in message(lacking, "NET-007")
    # whole samples of another network
    assert "lacks K, distances, images" in message(few, "NET-007", kind=sample_kind(32))
    for address in (
        "https://example.org/a.tar",
        "pipe:curl example.org/a.tar",
        "s3://bucket/a.tar",
        "file:a.tar",
    ):
        assert "is an address or a command" in message(address, "NET-008")
    assert "shard-001.tar does not exist" in message(tmp_path / "shard-{000..001}.tar", "NET-009")
    assert "shard-{1..0}.tar does not exist" in message(tmp_path / "shard-{1..0}.tar", "NET-009")
    (tmp_path / "a.tar.gz").write_bytes(b"")
    assert "a.tar.gz is not a .tar file" in message(tmp_path / "a.tar.gz", "NET-010")


def test_a_shard_that_exists_is_kept_only_if_the_same_options_made_it(tmp_path, monkeypatch, capsys):
    def made(*more):
        words = [
            "shards",
            "camera-video",
            "--out",
            str(tmp_path),
            "--samples",
            "3",
            "--per-shard",
            "2",
            *more,
        ]
        monkeypatch.setattr("sys.argv", words)
        shards_script.main()
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [line.get("kept", False) for line in lines]

    first, last = (tmp_path / f"camera-video-0000000{n}.tar" for n in (0, 2))
    assert made("--size", "16") == [False, False]
    whole = first.read_bytes()
    last.unlink()
    assert made("--size", "16") == [True, False] and first.read_bytes() == whole
    for more, why in (
        (("--size", "24"), "size is 16, not 24"),
        (("--size", "16", "--static"), "static is False, not True"),
        (("--size", "16", "--samples", "1"), "samples is 2, not 1"),
    ):
        with pytest.raises(InputError, match=f"{first.name} exists and was made with other options: {why}"):
            made(*more)
    first.write_bytes(whole[:700])
    with pytest.raises(InputError, match="cannot be read as a shard"):
        made("--size", "16")


def test_samples_that_all_break_later_are_an_error_not_a_wait(tmp_path):
    (read,) = opened(shards(tmp_path, 4))
    read.draw(2)
    (tmp_path / "shard-000.tar").write_bytes(b"")
    with pytest.raises(InputError, match=r"None of the 4 samples of process 0 can be used.*is cut short"):
        read.draw(10)


def test_samples_of_another_model_are_named_by_their_sizes(made, tmp_path):
    sample, _ = made["reconstruction"]
    write_shard(tmp_path / "a.tar", [("0001", files_of(sample.fields(), "reconstruction", 1))])
    from training.reconstruction.train import CONFIG, replace

    with pytest.raises(InputError, match="the model needs a multiple of 8 pixels, 8 cells and 2 frames"):
        opened(str(tmp_path), kind=reconstruction.sample_kind(replace(CONFIG, space_stride=4)))


def test_stages_have_sources_of_their_own_and_find_their_places(made, tmp_path):
    sample, _ = made["reconstruction"]
    for name in ("static", "moving"):
        (tmp_path / name).mkdir()
        write_shard(
            tmp_path / name / "a.tar",
            [(f"{i}", files_of(sample.fields(), "reconstruction", i)) for i in range(3)],
        )
    sources = [str(tmp_path / name) for name in ("static", "moving")]
    staged = StagedSamples(sources, LDRM)
    staged.of(0).draw(4)
    staged.of(1).draw(2)
    assert staged.place().tolist() == [1, 1, 0, 0, 2, 0, 0]
    again = StagedSamples(sources, LDRM)
    again.go_to(staged.place()[None])
    assert again.place().tolist() == staged.place().tolist()
    with pytest.raises(InputError, match="made with 2 sources of samples, not 1"):
        StagedSamples(sources[:1], LDRM).go_to(staged.place()[None])


def test_the_script_writes_shards_that_the_training_of_their_seeds_reads(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out"

    def run(*more):
        arguments = [
            "variation-field",
            "--families",
            "limbed",
            "--out",
            str(folder),
            "--per-shard",
            "2",
            *more,
        ]
        monkeypatch.setattr("sys.argv", ["shards", *arguments])
        shards_script.main()
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    once = run("--samples", "3", "--first", "4")
    assert list(once) == ["variation-field-00000004.tar", "variation-field-00000006.tar"]
    (folder / "variation-field-00000004.tar").unlink()
    kept = (folder / "variation-field-00000006.tar").stat()
    assert run("--samples", "3", "--first", "4") == once
    assert (folder / "variation-field-00000006.tar").stat().st_mtime_ns == kept.st_mtime_ns
    (read,) = opened(str(folder / "variation-field-00000004.tar"), kind=variation_field.KIND)
    assert equal(read.first(1)[0], variation_field.make_clip("limbed", 4).packed())
    with pytest.raises(SystemExit):
        run("--first", str(variation_field.HELD_OUT_SEED))
    assert "held out for evaluation" in capsys.readouterr().err
