"""Alpha of WebM videos: a second VP8 or VP9 stream beside each frame, which only libvpx's decoders read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# FFmpeg's decoders that read alpha, by the codec or the decoder that was chosen for the file
DECODERS = {"vp8": "libvpx", "libvpx": "libvpx", "vp9": "libvpx-vp9", "libvpx-vp9": "libvpx-vp9"}
# bytes of Matroska's BlockAddID before the frame
BLOCK_ID = 8


def claims_alpha(stream: Any) -> bool:
    """Whether a stream says that its frames have alpha in Matroska's AlphaMode element."""
    tags = {str(key).lower(): str(value) for key, value in stream.metadata.items()}
    return stream.codec_context.name in DECODERS and tags.get("alpha_mode") == "1"


def alpha_decoder(stream: Any) -> str:
    """The decoder for a stream's frames with alpha; empty where this build of FFmpeg has none."""
    from av.codec import Codec

    name = DECODERS[stream.codec_context.name]
    try:
        Codec(name, "r")
    except ValueError:
        return ""
    return name


def starts_alpha(packet: Any, decoder: str) -> bool:
    """Whether a packet's alpha is a key frame, which it need not be where the colors are.

    False where that cannot be known (PyAV before 15).

    Source: RFC 6386 §9.1 (VP8), VP9 bitstream specification §6.2.
    """
    for data in packet.iter_sidedata() if hasattr(packet, "iter_sidedata") else ():
        if data.data_type == "matroska_block_additional":
            first = bytes(data)[BLOCK_ID : BLOCK_ID + 1]
            if not first:
                return False
            # VP8: bit 0; VP9: bits 3 and 2 are show_existing_frame and frame_type
            return not first[0] & (0b1 if decoder == "libvpx" else 0b1100)
    return False


def decode(container: Any, stream: Any, decoder: str, since: int) -> Iterator[Any]:
    """Frames with alpha from the packet at the time `since` on; a key frame of colors and alpha must lie there."""
    from av import CodecContext

    # libvpx keeps the alpha of frames before a jump, so each jump takes a new decoder
    context: Any = CodecContext.create(decoder, "r")
    context.thread_type = "NONE"
    own = stream.codec_context
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(context, name, getattr(own, name))
    for packet in container.demux(stream):
        if packet.pts is None or packet.pts >= since:
            yield from context.decode(packet)
