"""Tiles of 16×16 pixels as 4×4 blocks of 4×4 pixels: a block is one vector for each channel."""
# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .build import part
from .rows import pick
from .simd import WIDTH, Lanes, address, plus, shuffle
from .sums import load_all, store_all

# pixels along the side of a block, and blocks along that of a tile
SIDE = 4
BLOCKS = SIDE * SIDE


def _quarters(context: Any, builder: ir.IRBuilder, array: types.Array, args: Any, count: int) -> list[Any]:
    """Pointers to quarters of vectors, in the order of pixels and, within them, of channels; args: array, index, pitch."""
    value, index, pitch = args
    kind = ir.VectorType(address(context, builder, array, value, index).type.pointee, SIDE).as_pointer()
    places = []
    for y in range(SIDE):
        row = builder.add(index, builder.mul(pitch, ir.Constant(pitch.type, y)))
        places += [
            address(context, builder, array, value, plus(builder, row, SIDE * k)) for k in range(count)
        ]
    return [builder.bitcast(place, kind) for place in places]


@intrinsic
def _load_block(typingctx: Any, image: Any, index: Any, pitch: Any, channels: Any) -> Any:
    count, size = len(channels), image.dtype.bitwidth // 8
    kind = types.UniTuple(Lanes(image.dtype), count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [builder.load(p, align=size) for p in _quarters(context, builder, image, args[:3], count)]
        for width in (SIDE, 2 * SIDE):
            both = list(range(2 * width))
            parts = [shuffle(builder, *parts[i : i + 2], both) for i in range(0, len(parts), 2)]
        lanes = []
        for k in range(count):
            lanes.append(pick(builder, parts, [divmod(lane * count + k, WIDTH) for lane in range(WIDTH)]))
        return context.make_tuple(builder, kind, lanes)

    return kind(image, types.intp, types.intp, channels), codegen


@intrinsic
def _store_block(typingctx: Any, image: Any, index: Any, pitch: Any, lanes: Any) -> Any:
    count, size = len(lanes), image.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [builder.extract_value(args[3], k) for k in range(count)]
        rows = []
        for j in range(count):
            order = [(i % count, i // count) for i in range(j * WIDTH, (j + 1) * WIDTH)]
            rows.append(pick(builder, parts, order))
        for q, place in enumerate(_quarters(context, builder, image, args[:3], count)):
            row, at = rows[q // SIDE], q % SIDE * SIDE
            builder.store(shuffle(builder, row, row, list(range(at, at + SIDE))), place, align=size)
        return context.get_dummy_value()

    return types.void(image, types.intp, types.intp, lanes), codegen


@part
def load_tile(image, b, y0, x0, target, channels):
    """Pixels of the tile at (y0, x0) of image b as [block, channel, lane]; zeros beyond the image.

    image [B, H, W, C] contiguous; fast where C is the length of the tuple `channels`.
    """
    _, height, width, count = image.shape
    for block in range(BLOCKS):
        top, left = y0 + block // SIDE * SIDE, x0 + block % SIDE * SIDE
        at = block * count * WIDTH
        if count == len(channels) and top + SIDE <= height and left + SIDE <= width:
            index = ((b * height + top) * width + left) * count
            store_all(target, at, _load_block(image, index, width * count, channels))
            continue
        for lane in range(WIDTH):
            y, x = top + lane // SIDE, left + lane % SIDE
            for k in range(count):
                target[at + k * WIDTH + lane] = image[b, y, x, k] if y < height and x < width else 0.0


@part
def store_tile(image, b, y0, x0, source, channels):
    """The inverse of `load_tile`."""
    _, height, width, count = image.shape
    for block in range(BLOCKS):
        top, left = y0 + block // SIDE * SIDE, x0 + block % SIDE * SIDE
        at = block * count * WIDTH
        if count == len(channels) and top + SIDE <= height and left + SIDE <= width:
            index = ((b * height + top) * width + left) * count
            _store_block(image, index, width * count, load_all(source, at, channels))
            continue
        for lane in range(WIDTH):
            y, x = top + lane // SIDE, left + lane % SIDE
            if y < height and x < width:
                for k in range(count):
                    image[b, y, x, k] = source[at + k * WIDTH + lane]
