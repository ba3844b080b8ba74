"""Written videos say what their colors are and mean it, at every size; and what other programs' videos say is believed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.capture.convert.native_folder import encoder
from engine.capture.video_file import VideoFile, probe
from engine.capture.video_pixels import to_pixels
from engine.files.mp4 import mp4_writer
from tests.color_charts import COLORS, WEIGHTS, chart, fields, to_planes, to_rgb

# below and above the 720 lines from which players take untagged video as BT.709
SIZES = [(128, 96), (960, 720)]
BT709, LIMITED = 1, 1


def rendered(path: Path, size: tuple[int, int]) -> None:
    with mp4_writer(24, path) as add:
        for _ in range(2):
            add(chart(*size))


def converted(path: Path, size: tuple[int, int]) -> None:
    with encoder(path, size, 24, 18) as video:
        for _ in range(2):
            video.add(chart(*size))


writers = pytest.mark.parametrize("write", [rendered, converted])
sizes = pytest.mark.parametrize("size", SIZES)


def tags(context: Any) -> tuple[int, int, int, int]:
    """Primaries, transfer function, matrix and range."""
    return (
        int(context.color_primaries),
        int(context.color_trc),
        int(context.colorspace),
        int(context.color_range),
    )


@writers
@sizes
def test_written_videos_are_tagged_in_the_stream_and_in_the_container(
    write: Callable[[Path, tuple[int, int]], None], size: tuple[int, int], tmp_path: Path
) -> None:
    write(tmp_path / "a.mp4", size)
    data = (tmp_path / "a.mp4").read_bytes()
    # ISO/IEC 14496-12 §12.1.5: primaries, transfer, matrix, and the bit of full range
    assert data.count(b"colrnclx" + bytes([0, 1, 0, 1, 0, 1, 0])) == 1
    # no container, so that only the sequence parameter set can tell
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "a.h264"), "w") as bare:
        stream = bare.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                bare.mux(packet)
    with av.open(str(tmp_path / "a.h264")) as container:
        frame = next(container.decode(video=0))
        assert tags(container.streams.video[0].codec_context) == (BT709, BT709, BT709, LIMITED)
        assert (int(frame.colorspace), int(frame.color_range)) == (BT709, LIMITED)


@writers
@sizes
def test_written_videos_have_the_colors_of_their_images(
    write: Callable[[Path, tuple[int, int]], None], size: tuple[int, int], tmp_path: Path
) -> None:
    """By the formula, by PyAV and by our own reader, within two levels: rounding to 8 bits and the encoder's loss."""
    path = tmp_path / "a.mp4"
    write(path, size)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    facts = probe(path, path.name)
    own = to_pixels(VideoFile(path, path.name, facts).read(1), facts)
    for shown in (to_rgb(frame, BT709), frame.to_ndarray(format="rgb24"), own):
        assert np.abs(fields(shown) - COLORS).max() <= 2


def test_tags_of_any_name_are_kept(tmp_path: Path) -> None:
    told = {"prompt": '{"1": {"class_type": "Käse 🧀"}}', "workflow": "{}"}
    with mp4_writer(24, tmp_path / "a.mp4", metadata=told) as add:
        add(chart(*SIZES[0]))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert {name: container.metadata[name] for name in told} == told


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
@sizes
def test_tags_of_other_programs_are_believed_at_any_size(
    size: tuple[int, int], matrix: int, is_full: bool, suffix: str, tmp_path: Path
) -> None:
    """MPEG transport streams have the encoder's tags only, the others have those of the container too."""
    path = tmp_path / f"a.{suffix}"
    planes = to_planes(chart(*size), matrix, is_full)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if is_full else 1
        for i in range(2):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.pts, frame.colorspace, frame.color_range = i, matrix, 2 if is_full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    facts = probe(path, path.name)
    decoded = VideoFile(path, path.name, facts).read(1)
    for asked in (size, (size[0] // 2, size[1] // 2)):
        assert np.abs(fields(to_pixels(decoded, facts, asked)) - COLORS).max() <= 2
