"""Sixteen rows of a table as lanes of vectors, and back.

Number k of each row becomes one vector of a scratch array, so that kernels compute sixteen rows at once.
"""
# pyright: basic, reportCallIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .build import part
from .simd import WIDTH, address, load_value, plus, shuffle, store_value, vector_of


@part
def gather(scratch, at, rows, first, last, count):
    """Numbers 0 … `count` of rows `first` to `last`, one vector each, from `at` on."""
    for n in range(first, last):
        for k in range(count):
            scratch[at + k * WIDTH + n - first] = rows[n, k]


@part
def scatter(rows, first, last, count, scratch, at):
    """The inverse of `gather`."""
    for n in range(first, last):
        for k in range(count):
            rows[n, k] = scratch[at + k * WIDTH + n - first]


# ---- contiguous rows, by shuffles of vectors: several times faster ------------------------------------------------


def pick(builder: ir.IRBuilder, vectors: list[Any], order: list[tuple[int, int]]) -> Any:
    """Lane i is lane order[i][1] of vectors[order[i][0]]: one shuffle for each vector after the first."""
    chosen = shuffle(builder, vectors[0], vectors[0], [lane if v == 0 else 0 for v, lane in order])
    for k in range(1, len(vectors)):
        mixed = [WIDTH + lane if v == k else i for i, (v, lane) in enumerate(order)]
        chosen = shuffle(builder, chosen, vectors[k], mixed)
    return chosen


def _converted(builder: ir.IRBuilder, value: Any, dtype: types.Type) -> Any:
    """`value` as vectors of another element type; integers are rounded toward zero."""
    if isinstance(dtype, types.Integer):
        return builder.fptosi(value, ir.VectorType(ir.IntType(dtype.bitwidth), WIDTH))
    kind = vector_of(dtype)
    if value.type == kind:
        return value
    return (builder.fptrunc if dtype == types.float32 else builder.fpext)(value, kind)


def _spare(builder: ir.IRBuilder, kind: Any, first: Any, last: Any) -> tuple[Any, Any]:
    """Whether a group is smaller than WIDTH, and memory for a whole one."""
    with builder.goto_entry_block():
        spare = builder.alloca(kind)
    return builder.icmp_signed("<", builder.sub(last, first), ir.Constant(last.type, WIDTH)), spare


def _copy(builder: ir.IRBuilder, target: Any, source: Any, rows: Any, size: int) -> None:
    """Copies `rows` rows of `size` bytes."""
    byte, length = ir.IntType(8).as_pointer(), builder.mul(rows, ir.Constant(rows.type, size))
    copy = builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, length.type])
    pointers = (builder.bitcast(p, byte) for p in (target, source))
    builder.call(copy, [*pointers, length, ir.Constant(ir.IntType(1), 0)])


@intrinsic
def gather_rows(typingctx: Any, scratch: Any, at: Any, rows: Any, first: Any, last: Any, numbers: Any) -> Any:
    """As `gather`, of contiguous rows with as many numbers as the tuple `numbers` has."""
    count, size = len(numbers), rows.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, at, _, first, last, _ = args
        source = address(context, builder, rows, args[2], builder.mul(first, ir.Constant(first.type, count)))
        small, spare = _spare(builder, ir.ArrayType(vector_of(rows.dtype), count), first, last)
        with builder.if_then(small, likely=False):
            _copy(builder, spare, source, builder.sub(last, first), count * size)
        source = builder.select(small, builder.bitcast(spare, source.type), source)
        parts = []
        for j in range(count):
            place = builder.gep(source, [ir.Constant(first.type, WIDTH * j)])
            place = builder.bitcast(place, vector_of(rows.dtype).as_pointer())
            parts.append(builder.load(place, align=size))
        for k in range(count):
            order = [divmod(lane * count + k, WIDTH) for lane in range(WIDTH)]
            lanes = _converted(builder, pick(builder, parts, order), scratch.dtype)
            store_value(context, builder, scratch, args[0], plus(builder, at, WIDTH * k), lanes)
        return context.get_dummy_value()

    return types.void(scratch, types.intp, rows, types.intp, types.intp, numbers), codegen


@intrinsic
def scatter_rows(
    typingctx: Any, rows: Any, first: Any, last: Any, numbers: Any, scratch: Any, at: Any
) -> Any:
    """The inverse of `gather_rows`; integers are rounded toward zero."""
    count, size = len(numbers), rows.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, first, last, _, _, at = args
        target = address(context, builder, rows, args[0], builder.mul(first, ir.Constant(first.type, count)))
        parts = []
        for k in range(count):
            lanes = load_value(context, builder, scratch, args[4], plus(builder, at, WIDTH * k))
            parts.append(_converted(builder, lanes, rows.dtype))
        small, spare = _spare(builder, ir.ArrayType(parts[0].type, count), first, last)
        chosen = builder.select(small, builder.bitcast(spare, target.type), target)
        for j in range(count):
            order = [(i % count, i // count) for i in range(j * WIDTH, (j + 1) * WIDTH)]
            place = builder.gep(chosen, [ir.Constant(first.type, WIDTH * j)])
            place = builder.bitcast(place, parts[0].type.as_pointer())
            builder.store(pick(builder, parts, order), place, align=size)
        with builder.if_then(small, likely=False):
            _copy(builder, target, spare, builder.sub(last, first), count * size)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp, numbers, scratch, types.intp), codegen
