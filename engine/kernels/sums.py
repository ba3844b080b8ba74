"""K sums of sixteen lanes each, kept in registers while a kernel loops: colors of pixels, gradients of a Gaussian.

`channels` arguments are tuples of zeros: their length K is known to the compiler.
"""
# pyright: basic, reportCallIssue=false, reportOptionalCall=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import WIDTH, Lanes, constant, fma_value, load_value, plus, shuffle, splat_value, store_value

# groups of lanes in vectors of half the width
_HALVES = (WIDTH // 4, WIDTH // 8, WIDTH // 16)


def _tuple_of(context: Any, builder: ir.IRBuilder, kind: types.UniTuple, values: list[Any]) -> Any:
    return context.make_tuple(builder, kind, values)


@intrinsic
def zeros(typingctx: Any, array: Any, channels: Any) -> Any:
    """K lanes of zeros in the element type of `array`."""
    kind = types.UniTuple(Lanes(array.dtype), len(channels))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _tuple_of(context, builder, kind, [constant(array.dtype, 0.0)] * len(channels))

    return kind(array, channels), codegen


@intrinsic
def load_all(typingctx: Any, array: Any, index: Any, channels: Any) -> Any:
    """K lanes from consecutive groups of 16 at `index`."""
    kind = types.UniTuple(Lanes(array.dtype), len(channels))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [
            load_value(context, builder, array, args[0], plus(builder, args[1], WIDTH * k))
            for k in range(len(channels))
        ]
        return _tuple_of(context, builder, kind, parts)

    return kind(array, types.intp, channels), codegen


@intrinsic
def store_all(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """The inverse of `load_all`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for k in range(len(lanes)):
            at = plus(builder, args[1], WIDTH * k)
            store_value(context, builder, array, args[0], at, builder.extract_value(args[2], k))
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def add_scaled(typingctx: Any, sums: Any, weight: Any, array: Any, index: Any) -> Any:
    """sums[k] + weight · array[index + k]: one Gaussian's features on sixteen pixels."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [
            fma_value(
                builder,
                args[1],
                splat_value(context, builder, array, args[2], plus(builder, args[3], k)),
                builder.extract_value(args[0], k),
            )
            for k in range(len(sums))
        ]
        return _tuple_of(context, builder, sums, parts)

    return sums(sums, weight, array, types.intp), codegen


@intrinsic
def add_products(typingctx: Any, sums: Any, weight: Any, array: Any, index: Any) -> Any:
    """sums[k] + weight · (lanes k at `index`), lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [
            fma_value(
                builder,
                args[1],
                load_value(context, builder, array, args[2], plus(builder, args[3], WIDTH * k)),
                builder.extract_value(args[0], k),
            )
            for k in range(len(sums))
        ]
        return _tuple_of(context, builder, sums, parts)

    return sums(sums, weight, array, types.intp), codegen


@intrinsic
def dot(typingctx: Any, start: Any, array: Any, index: Any, scalars: Any, first: Any, channels: Any) -> Any:
    """start + Σ_k (lanes k at `index` of `array`) · scalars[first + k]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = args[0]
        for k in range(len(channels)):
            lanes = load_value(context, builder, array, args[1], plus(builder, args[2], WIDTH * k))
            scalar = splat_value(context, builder, scalars, args[3], plus(builder, args[4], k))
            value = fma_value(builder, lanes, scalar, value)
        return value

    return start(start, array, types.intp, scalars, types.intp, channels), codegen


@intrinsic
def add_moments(typingctx: Any, sums: Any, weight: Any, x: Any, y: Any) -> Any:
    """The six moments 1, x, y, x², xy, y² of `weight`, added to `sums`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = [builder.extract_value(args[0], k) for k in range(6)]
        h, x, y = args[1:]
        hx, hy = builder.fmul(h, x), builder.fmul(h, y)
        new = [builder.fadd(old[0], h), builder.fadd(old[1], hx), builder.fadd(old[2], hy)]
        new += [
            fma_value(builder, hx, x, old[3]),
            fma_value(builder, hx, y, old[4]),
            fma_value(builder, hy, y, old[5]),
        ]
        return _tuple_of(context, builder, sums, new)

    return sums(sums, weight, x, y), codegen


def _merge(
    vectors: list[Any], half: int, merge: Callable[[Any, Any, list[int], list[int]], Any]
) -> list[Any]:
    """Vectors of groups of 2·half lanes, two by two folded to groups of half lanes and packed."""
    low = [g + i for g in range(0, WIDTH // 2, 2 * half) for i in range(half)]
    left = [s + i for s in (0, WIDTH // 2) for i in low]
    right = [i + half for i in left]
    pairs = [vectors[i : i + 2] for i in range(0, len(vectors), 2)]
    return [merge(pair[0], pair[-1], left, right) for pair in pairs]


def _sum_lanes(builder: ir.IRBuilder, vectors: list[Any]) -> list[Any]:
    """Vectors of half the width with the sums over the lanes of `vectors`; see `_final_positions`."""

    def merge(a: Any, b: Any, left: list[int], right: list[int]) -> Any:
        return builder.fadd(shuffle(builder, a, b, left), shuffle(builder, a, b, right))

    # halves first: what follows then takes half as many instructions
    low, high = list(range(WIDTH // 2)), list(range(WIDTH // 2, WIDTH))
    vectors = [builder.fadd(shuffle(builder, v, v, low), shuffle(builder, v, v, high)) for v in vectors]
    for half in _HALVES:
        vectors = _merge(vectors, half, merge)
    return vectors


def _final_positions(count: int) -> list[int]:
    """Where `_sum_lanes` leaves the sum of each of `count` vectors: found by running the same merges on names."""

    def merge(a: list[int], b: list[int], left: list[int], right: list[int]) -> list[int]:
        return [(a + b)[i] for i in left]

    names: list[list[int]] = [[k] * (WIDTH // 2) for k in range(count)]
    for half in _HALVES:
        names = _merge(names, half, merge)
    places = [name for vector in names for name in vector]
    return [places.index(k) for k in range(count)]


@intrinsic
def store_sums(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index + k] = the sum over the lanes of lanes[k], for at most 16 of them."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = len(lanes)
        sums = _sum_lanes(builder, [builder.extract_value(args[2], k) for k in range(count)])
        packed = shuffle(builder, sums[0], sums[-1], _final_positions(count))
        store_value(context, builder, array, args[0], args[1], packed)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen
