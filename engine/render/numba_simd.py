"""Sixteen floats as one value inside numba kernels: loads, arithmetic, masks, exp2 and sums over lanes.

numba vectorises loops only where LLVM can prove that arrays do not overlap, and pip's numba has no vector math library.
Here a `Lanes` value is an LLVM vector, so that a kernel says what it means and every machine gets its own widest
instructions (AVX-512: one register, AVX2: two, NEON and SSE2: four). The element type follows the arrays:
one source makes the float32 and the float64 build.

`channels` arguments are tuples of zeros whose length K is a compile-time constant; sums over K channels live in registers.
"""
# pyright: basic, reportArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16  # lanes: one 4×4 block of pixels


class Lanes(types.Type):
    """WIDTH numbers of one element type (float32, float64, or boolean for a mask)."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


def _vector(dtype: types.Type) -> ir.VectorType:
    element = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}
    return ir.VectorType(element[dtype], WIDTH)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, _vector(fe_type.dtype))


MASK = Lanes(types.boolean)


def _splat(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    vector = ir.VectorType(scalar.type, WIDTH)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _as_lanes(builder: ir.IRBuilder, value: ir.Value, kind: types.Type, dtype: types.Type) -> ir.Value:
    """A Lanes argument as it is; a scalar converted to `dtype` and repeated in every lane."""
    if isinstance(kind, Lanes):
        return value
    element = _vector(dtype).element
    if value.type != element:
        value = (builder.fptrunc if element == ir.FloatType() else builder.fpext)(value, element)
    return _splat(builder, value)


def _constant(dtype: types.Type, number: float) -> ir.Constant:
    vector = _vector(dtype)
    return ir.Constant(vector, [ir.Constant(vector.element, number)] * WIDTH)


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _call(builder: ir.IRBuilder, name: str, args: list[ir.Value]) -> ir.Value:
    """An LLVM intrinsic from equal vectors to such a vector, as llvm.fmuladd.v16f32."""
    vector = args[0].type
    name = f"llvm.{name}.v{vector.count}{'f32' if vector.element == ir.FloatType() else 'f64'}"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * len(args)), name)
    return builder.call(function, args)


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    # fmuladd, not fma: where the machine has no FMA instruction, llvm.fma becomes sixteen calls into libm
    return _call(builder, "fmuladd", [a, b, c])


def _address(
    context: Any, builder: ir.IRBuilder, array: types.Array, value: ir.Value, index: ir.Value
) -> ir.Value:
    data = context.make_array(array)(context, builder, value).data
    return builder.gep(data, [index])


def _load(
    context: Any, builder: ir.IRBuilder, array: types.Array, value: ir.Value, index: ir.Value
) -> ir.Value:
    pointer = _address(context, builder, array, value, index)
    return builder.load(
        builder.bitcast(pointer, _vector(array.dtype).as_pointer()), align=array.dtype.bitwidth // 8
    )


def _load_splat(
    context: Any, builder: ir.IRBuilder, array: types.Array, value: ir.Value, index: ir.Value
) -> ir.Value:
    return _splat(builder, builder.load(_address(context, builder, array, value, index)))


def _plus(builder: ir.IRBuilder, index: ir.Value, offset: int) -> ir.Value:
    return builder.add(index, ir.Constant(index.type, offset))


# ---- operators ---------------------------------------------------------------------------------------------------


def _register(
    operation: Any, emit: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value], is_test: bool
) -> None:
    @infer_global(operation)
    class _Typing(AbstractTemplate):  # pyright: ignore[reportUnusedClass]
        def generic(self, args: tuple[types.Type, ...], kws: dict[str, Any]) -> Any:
            lanes = [a for a in args if isinstance(a, Lanes)]
            if len(args) == 2 and lanes and all(isinstance(a, Lanes | types.Float) for a in args):
                return signature(MASK if is_test else lanes[0], *args)
            return None

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
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
_register(operator.le, lambda builder, a, b: builder.fcmp_ordered("<=", a, b), is_test=True)
_register(operator.and_, lambda builder, a, b: builder.and_(a, b), is_test=True)


# ---- single values -----------------------------------------------------------------------------------------------


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Lanes from array[index : index + 16] (flat element index)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load(context, builder, sig.args[0], *args)

    return Lanes(array.dtype)(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index : index + 16] = lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(
            args[2], builder.bitcast(pointer, args[2].type.as_pointer()), align=array.dtype.bitwidth // 8
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


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
        return _fma(builder, *(_as_lanes(builder, v, t, dtype) for v, t in zip(args, sig.args, strict=True)))

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
def bits(typingctx: Any, mask: Any) -> Any:
    """The mask as an integer, lane 0 in bit 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.bitcast(args[0], ir.IntType(WIDTH)), ir.IntType(64))

    return types.int64(mask), codegen


@intrinsic
def lowest_bit(typingctx: Any, word: Any) -> Any:
    """Index of the lowest set bit of a non-zero int64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


def _exp2_coefficients(degree: int) -> list[float]:
    """2^f on [-0.5, 0.5] by interpolation in Chebyshev nodes, lowest power first."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(np.exp2, degree, domain=[-0.5, 0.5])
    return [float(c) for c in fit.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef]


# degree, bits of the mantissa: relative errors 8e-8 and 2e-16
_EXP2 = {types.float32: (_exp2_coefficients(5), 23, 32), types.float64: (_exp2_coefficients(11), 52, 64)}


@intrinsic
def exp2(typingctx: Any, a: Any) -> Any:
    """2^a for -100 < a < 100: a polynomial in the fraction, the integer part added to the exponent's bits."""
    coefficients, mantissa, width = _EXP2[a.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # adding 1.5·2^mantissa leaves the rounded integer in the low bits: no rounding instruction is needed
        magic = _constant(a.dtype, 1.5 * 2.0**mantissa)
        shifted = builder.fadd(args[0], magic)
        fraction = builder.fsub(args[0], builder.fsub(shifted, magic))
        value = _constant(a.dtype, coefficients[-1])
        for c in reversed(coefficients[:-1]):
            value = _fma(builder, value, fraction, _constant(a.dtype, c))
        integers = ir.VectorType(ir.IntType(width), WIDTH)
        exponent = builder.shl(
            builder.bitcast(shifted, integers),
            ir.Constant(integers, [ir.Constant(ir.IntType(width), mantissa)] * WIDTH),
        )
        return builder.bitcast(builder.add(builder.bitcast(value, integers), exponent), _vector(a.dtype))

    return a(a), codegen


# ---- K sums in registers -----------------------------------------------------------------------------------------


def _tuple_of(context: Any, builder: ir.IRBuilder, kind: types.UniTuple, values: list[ir.Value]) -> ir.Value:
    return context.make_tuple(builder, kind, values)


@intrinsic
def zeros(typingctx: Any, array: Any, channels: Any) -> Any:
    """K lanes of zeros in the element type of `array`."""
    kind = types.UniTuple(Lanes(array.dtype), len(channels))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _tuple_of(context, builder, kind, [_constant(array.dtype, 0.0)] * len(channels))

    return kind(array, channels), codegen


@intrinsic
def load_all(typingctx: Any, array: Any, index: Any, channels: Any) -> Any:
    """K lanes from consecutive groups of 16 at `index`."""
    kind = types.UniTuple(Lanes(array.dtype), len(channels))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [
            _load(context, builder, array, args[0], _plus(builder, args[1], WIDTH * k))
            for k in range(len(channels))
        ]
        return _tuple_of(context, builder, kind, parts)

    return kind(array, types.intp, channels), codegen


@intrinsic
def store_all(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """The inverse of `load_all`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for k in range(len(lanes)):
            value = builder.extract_value(args[2], k)
            pointer = _address(context, builder, array, args[0], _plus(builder, args[1], WIDTH * k))
            builder.store(
                value, builder.bitcast(pointer, value.type.as_pointer()), align=array.dtype.bitwidth // 8
            )
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def add_scaled(typingctx: Any, sums: Any, weight: Any, array: Any, index: Any) -> Any:
    """sums[k] + weight · array[index + k]: one Gaussian's features on sixteen pixels."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [
            _fma(
                builder,
                args[1],
                _load_splat(context, builder, array, args[2], _plus(builder, args[3], k)),
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
            _fma(
                builder,
                args[1],
                _load(context, builder, array, args[2], _plus(builder, args[3], WIDTH * k)),
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
            lanes = _load(context, builder, array, args[1], _plus(builder, args[2], WIDTH * k))
            scalar = _load_splat(context, builder, scalars, args[3], _plus(builder, args[4], k))
            value = _fma(builder, lanes, scalar, value)
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
        new += [_fma(builder, hx, x, old[3]), _fma(builder, hx, y, old[4]), _fma(builder, hy, y, old[5])]
        return _tuple_of(context, builder, sums, new)

    return sums(sums, weight, x, y), codegen


def _sum_lanes(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """A vector whose element k is the sum over the lanes of vectors[k] (at most 16): each merge halves two at once."""
    half, kind = WIDTH // 2, vectors[0].type
    while half:
        # each vector holds groups of 2·half lanes; a merge folds both to groups of half lanes and packs them
        merged = []
        for i in range(0, len(vectors), 2):
            a = vectors[i]
            b = vectors[i + 1] if i + 1 < len(vectors) else ir.Constant(kind, ir.Undefined)
            group = 2 * half
            low = [g + j for g in range(0, WIDTH, group) for j in range(half)]
            left = [s + j for s in (0, WIDTH) for j in low]
            right = [j + half for j in left]
            merged.append(builder.fadd(_shuffle(builder, a, b, left), _shuffle(builder, a, b, right)))
        vectors, half = merged, half // 2
    return vectors[0]


def _final_positions(count: int) -> list[int]:
    """Where `_sum_lanes` leaves the sum of each of `count` vectors: found by running the same merges on names."""
    vectors: list[list[int]] = [[k] * WIDTH for k in range(count)]
    half = WIDTH // 2
    while half:
        merged = []
        for i in range(0, len(vectors), 2):
            both = vectors[i] + (vectors[i + 1] if i + 1 < len(vectors) else [-1] * WIDTH)
            low = [g + j for g in range(0, WIDTH, 2 * half) for j in range(half)]
            merged.append([both[s + j] for s in (0, WIDTH) for j in low])
        vectors, half = merged, half // 2
    return [vectors[0].index(k) for k in range(count)]


@intrinsic
def store_sums(typingctx: Any, array: Any, index: Any, lanes: Any) -> Any:
    """array[index + k] = the sum over the lanes of lanes[k]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = len(lanes)
        sums = _sum_lanes(builder, [builder.extract_value(args[2], k) for k in range(count)])
        packed = _shuffle(builder, sums, sums, _final_positions(count))
        pointer = _address(context, builder, array, args[0], args[1])
        builder.store(
            packed, builder.bitcast(pointer, packed.type.as_pointer()), align=array.dtype.bitwidth // 8
        )
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen
