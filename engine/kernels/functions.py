"""exp2, log2 and exp of lanes: numba from pip lacks a vector math library.

Source: polynomials by interpolation in Chebyshev nodes, exponents by the bits of IEEE 754 numbers.
"""
# pyright: basic, reportCallIssue=false

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .build import part
from .simd import WIDTH, constant, fma_value, select, vector_of

LOG2_E = math.log2(math.e)
# of powers of two that `exp` tells from infinity and from zero
LARGEST = 100.0

# bits of the mantissa, bits of the number, offset of its exponent
_FORMATS = {types.float32: (23, 32, 127), types.float64: (52, 64, 1023)}


def _coefficients(function: Callable[[Any], Any], degree: int, low: float, high: float) -> list[float]:
    """`function` on `low` to `high` by interpolation in Chebyshev nodes, lowest power first."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(function, degree, domain=[low, high])
    return [float(c) for c in fit.convert(kind=np.polynomial.Polynomial, domain=[-1, 1]).coef]


# relative errors below 2e-7 and 2e-15
_EXP2 = {
    dtype: _coefficients(np.exp2, n, -0.5, 0.5) for dtype, n in ((types.float32, 5), (types.float64, 11))
}


def _log2_over_t(s: Any) -> Any:
    """log2((1 + t) / (1 - t)) / t with s = t²."""
    t = np.sqrt(np.maximum(s, 1e-12))
    return 2 / math.log(2) * np.arctanh(t) / t


# t of the numbers from √½ to √2
_FURTHEST = ((math.sqrt(2) - 1) / (math.sqrt(2) + 1)) ** 2
_LOG2 = {
    dtype: _coefficients(_log2_over_t, n, 0.0, _FURTHEST)
    for dtype, n in ((types.float32, 3), (types.float64, 7))
}


def _polynomial(builder: ir.IRBuilder, dtype: types.Type, x: Any, coefficients: list[float]) -> Any:
    value = constant(dtype, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = fma_value(builder, value, x, constant(dtype, c))
    return value


def _integers(dtype: types.Type, number: int) -> ir.Constant:
    kind = ir.IntType(_FORMATS[dtype][1])
    return ir.Constant(ir.VectorType(kind, WIDTH), [ir.Constant(kind, number)] * WIDTH)


@intrinsic
def exp2(typingctx: Any, a: Any) -> Any:
    """2^a for -100 < a < 100: a polynomial in the fraction, the integer part added to the exponent's bits."""
    mantissa = _FORMATS[a.dtype][0]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # adding 1.5·2^mantissa leaves the rounded integer in the low bits: no rounding instruction is needed
        magic = constant(a.dtype, 1.5 * 2.0**mantissa)
        shifted = builder.fadd(args[0], magic)
        fraction = builder.fsub(args[0], builder.fsub(shifted, magic))
        value = _polynomial(builder, a.dtype, fraction, _EXP2[a.dtype])
        shift = _integers(a.dtype, mantissa)
        exponent = builder.shl(builder.bitcast(shifted, shift.type), shift)
        return builder.bitcast(builder.add(builder.bitcast(value, shift.type), exponent), vector_of(a.dtype))

    return a(a), codegen


@intrinsic
def log2(typingctx: Any, a: Any) -> Any:
    """log2 of positive, normal numbers: the exponent, and an odd function of t = (m - 1)/(m + 1) of the mantissa m.

    Source: log2 m = log2((1 + t)/(1 - t)), which is even in t after a division by t.
    """
    mantissa, width, offset = _FORMATS[a.dtype]

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = np.dtype(f"f{width // 8}").type
        root, magic = kind(math.sqrt(0.5)), kind(1.5 * 2.0**mantissa)
        integer = f"i{width // 8}"
        shift, bias = _integers(a.dtype, mantissa), _integers(a.dtype, offset << mantissa)
        number = builder.bitcast(args[0], shift.type)
        # the exponent e for which m = a / 2^e lies between √½ and √2
        above = builder.sub(number, _integers(a.dtype, int(root.view(integer))))
        e = builder.lshr(builder.add(above, bias), shift)
        m = builder.bitcast(builder.sub(number, builder.sub(builder.shl(e, shift), bias)), vector_of(a.dtype))
        # an integer among the low bits of 1.5·2^mantissa becomes a number without a conversion
        exact = builder.add(e, _integers(a.dtype, int(magic.view(integer))))
        exponent = builder.fsub(
            builder.bitcast(exact, vector_of(a.dtype)), constant(a.dtype, float(magic) + offset)
        )
        one = constant(a.dtype, 1.0)
        t = builder.fdiv(builder.fsub(m, one), builder.fadd(m, one))
        slope = _polynomial(builder, a.dtype, builder.fmul(t, t), _LOG2[a.dtype])
        return fma_value(builder, t, slope, exponent)

    return a(a), codegen


@part
def exp(x):
    """e^x, with a relative error of |x| times the type's rounding; infinity from 2^100 on, zero up to 2^-100; NaN stays NaN."""
    power = x * LOG2_E
    bounded = select(power >= LARGEST, LARGEST, select(power <= -LARGEST, -LARGEST, power))
    value = select(power >= LARGEST, math.inf, exp2(bounded))
    return select(power <= -LARGEST, 0.0, value)
