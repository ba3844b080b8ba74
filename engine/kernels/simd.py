"""Sixteen floats as one value inside numba kernels: loads, arithmetic, masks and rounding.

numba vectorizes loops only where LLVM can prove that arrays do not overlap, and pip's numba lacks a vector math library.
Here a `Lanes` value is an LLVM vector, so vectorization is explicit and each machine uses its widest instructions
(AVX-512: one register, AVX2: two, NEON and SSE2: four). The element type follows the arrays: one source gives the float32
and the float64 kernels.

Functions whose names end in _value emit instructions while a kernel is compiled; the others are called by kernels.
"""
# pyright: basic, reportCallIssue=false, reportOptionalCall=false, reportAttributeAccessIssue=false

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

# lanes: one 4×4 block of pixels
WIDTH = 16
# of an integer that holds a set
BITS = 64


class Lanes(types.Type):
    """WIDTH numbers of one element type (float32, float64, or boolean for a mask)."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


def vector_of(dtype: types.Type) -> ir.VectorType:
    element = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}
    return ir.VectorType(element[dtype], WIDTH)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, vector_of(fe_type.dtype))


MASK = Lanes(types.boolean)


def _splat(builder: ir.IRBuilder, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, WIDTH)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _as_lanes(builder: ir.IRBuilder, value: Any, kind: types.Type, dtype: types.Type) -> Any:
    """A Lanes argument as it is; a scalar converted to `dtype` and repeated in every lane."""
    if isinstance(kind, Lanes):
        return value
    element = vector_of(dtype).element
    if value.type != element:
        value = (builder.fptrunc if element == ir.FloatType() else builder.fpext)(value, element)
    return _splat(builder, value)


def constant(dtype: types.Type, number: float) -> ir.Constant:
    vector = vector_of(dtype)
    return ir.Constant(vector, [ir.Constant(vector.element, number)] * WIDTH)


def shuffle(builder: ir.IRBuilder, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _call(builder: ir.IRBuilder, name: str, args: list[Any]) -> Any:
    """An LLVM intrinsic from equal vectors to such a vector, as llvm.fmuladd.v16f32."""
    vector = args[0].type
    name = f"llvm.{name}.v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * len(args)), name)
    return builder.call(function, args)


def fma_value(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    # fmuladd, not fma: where the machine has no FMA instruction, llvm.fma becomes sixteen calls into libm
    return _call(builder, "fmuladd", [a, b, c])


# Undocumented: methods of the target context that numba hands to every intrinsic (BaseContext in numba.core.base).
# `make_array` reads an array's data pointer, `make_tuple` builds the K lanes of sums.py, `get_dummy_value` is what a
# function without a result returns. The documented API has no other way to reach an array's memory; to be replaced by
# `context.make_helper(builder, array, value)` and by `numba.core.cgutils`. See tests/engine/test_numba_api.py.


def address(context: Any, builder: ir.IRBuilder, array: types.Array, value: Any, index: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [index])


def load_value(context: Any, builder: ir.IRBuilder, array: types.Array, value: Any, index: Any) -> Any:
    pointer = address(context, builder, array, value, index)
    return builder.load(
        builder.bitcast(pointer, vector_of(array.dtype).as_pointer()), align=array.dtype.bitwidth // 8
    )


def store_value(
    context: Any, builder: ir.IRBuilder, array: types.Array, value: Any, index: Any, lanes: Any
) -> None:
    pointer = address(context, builder, array, value, index)
    builder.store(lanes, builder.bitcast(pointer, lanes.type.as_pointer()), align=array.dtype.bitwidth // 8)


def splat_value(context: Any, builder: ir.IRBuilder, array: types.Array, value: Any, index: Any) -> Any:
    return _splat(builder, builder.load(address(context, builder, array, value, index)))


def plus(builder: ir.IRBuilder, index: Any, offset: int) -> Any:
    return builder.add(index, ir.Constant(index.type, offset))


# ---- operators ---------------------------------------------------------------------------------------------------


def _register(operation: Any, emit: Callable[[ir.IRBuilder, Any, Any], Any], is_test: bool) -> None:
    @type_callable(operation)
    def typing(context: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        def result(a: types.Type, b: types.Type) -> types.Type | None:
            lanes = [t for t in (a, b) if isinstance(t, Lanes)]
            if lanes and all(isinstance(t, Lanes | types.Float) for t in (a, b)):
                return MASK if is_test else lanes[0]
            return None

        return result

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        dtype = next(a.dtype for a in sig.args if isinstance(a, Lanes))
        a, b = (_as_lanes(builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True))
        return emit(builder, a, b)

    for pair in ((Lanes, Lanes), (Lanes, types.Float), (types.Float, Lanes)):
        lower_builtin(operation, *pair)(lower)


_register(operator.add, lambda builder, a, b: builder.fadd(a, b), is_test=False)
_register(operator.sub, lambda builder, a, b: builder.fsub(a, b), is_test=False)
_register(operator.mul, lambda builder, a, b: builder.fmul(a, b), is_test=False)
_register(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), is_test=False)
_register(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), is_test=True)
_register(operator.ge, lambda builder, a, b: builder.fcmp_ordered(">=", a, b), is_test=True)
_register(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), is_test=True)
_register(operator.le, lambda builder, a, b: builder.fcmp_ordered("<=", a, b), is_test=True)
_register(operator.and_, lambda builder, a, b: builder.and_(a, b), is_test=True)


@type_callable(operator.neg)
def _negated(context: Any) -> Any:
    return lambda a: a if isinstance(a, Lanes) else None


@lower_builtin(operator.neg, Lanes)
def _negate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


# ---- single values -----------------------------------------------------------------------------------------------


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Lanes from array[index : index + 16] (flat element index)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_value(context, builder, sig.args[0], *args)

    return Lanes(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index : index + 16] = lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_value(context, builder, array, *args)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Begin to load the line of array[index] (flat element index) into the cache: where the CPU cannot foresee it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.bitcast(address(context, builder, sig.args[0], *args), byte)
        # to read, to be kept, data
        builder.call(function, [place, *(ir.Constant(number, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def splat(typingctx: Any, array: Any, number: Any) -> Any:
    """`number` in every lane, in the element type of `array`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _as_lanes(builder, args[1], sig.args[1], sig.args[0].dtype)

    return Lanes(array.dtype)(array, number), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c; scalars are repeated in every lane."""
    dtype = next(t.dtype for t in (a, b, c) if isinstance(t, Lanes))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fma_value(
            builder, *(_as_lanes(builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True))
        )

    return Lanes(dtype)(a, b, c), codegen


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """a where mask, else b; scalars are repeated in every lane."""
    dtype = next(t.dtype for t in (a, b) if isinstance(t, Lanes))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        chosen = [_as_lanes(builder, v, t, dtype) for v, t in zip(args[1:], sig.args[1:], strict=True)]
        return builder.select(args[0], *chosen)

    return Lanes(dtype)(mask, a, b), codegen


@intrinsic
def magnitude(typingctx: Any, a: Any) -> Any:
    """|a|."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "fabs", args)

    return a(a), codegen


@intrinsic
def root(typingctx: Any, a: Any) -> Any:
    """The square root."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "sqrt", args)

    return a(a), codegen


@intrinsic
def round_down(typingctx: Any, a: Any) -> Any:
    """The largest integers not above a, as floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "floor", args)

    return a(a), codegen


@intrinsic
def round_up(typingctx: Any, a: Any) -> Any:
    """The smallest integers not below a, as floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, "ceil", args)

    return a(a), codegen


@intrinsic
def widen(typingctx: Any, a: Any) -> Any:
    """The same numbers as float64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = vector_of(types.float64)
        return args[0] if args[0].type == kind else builder.fpext(args[0], kind)

    return Lanes(types.float64)(a), codegen


@intrinsic
def bits(typingctx: Any, mask: Any) -> Any:
    """The mask as an integer, lane 0 in bit 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], ir.IntType(WIDTH)), ir.IntType(64))

    return types.int64(mask), codegen


@intrinsic
def bit_column(typingctx: Any, words: Any, index: Any, bit: Any) -> Any:
    """Bit `bit` of the 64 integers from words[index] on, that of the first in bit 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.VectorType(ir.IntType(words.dtype.bitwidth), BITS)
        pointer = builder.bitcast(address(context, builder, sig.args[0], *args[:2]), kind.as_pointer())
        column = builder.load(pointer, align=words.dtype.bitwidth // 8)
        one = builder.shl(ir.Constant(kind.element, 1), builder.trunc(args[2], kind.element))
        single = builder.insert_element(ir.Constant(kind, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
        chosen = builder.and_(column, shuffle(builder, single, single, [0] * BITS))
        found = builder.icmp_unsigned("!=", chosen, ir.Constant(kind, [ir.Constant(kind.element, 0)] * BITS))
        return builder.bitcast(found, ir.IntType(BITS))

    return types.int64(words, types.intp, types.intp), codegen


@intrinsic
def lowest_bit(typingctx: Any, word: Any) -> Any:
    """Index of the lowest set bit of a non-zero int64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen
