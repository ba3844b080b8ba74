"""Vectors inside kernels: elementary functions, and rows of tables as lanes."""

# pyright: basic, reportCallIssue=false

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba is not installed")

from engine.kernels.build import part
from engine.kernels.functions import exp, exp2, log2
from engine.kernels.rows import gather_rows, scatter_rows
from engine.kernels.simd import WIDTH, load, store

FIVE = (0,) * 5


@part
def _evaluate(numbers, powers, logarithms):
    for i in range(0, len(numbers), WIDTH):
        store(powers, i, exp2(load(numbers, i)))
        store(logarithms, i, log2(exp2(load(numbers, i))))


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 2e-7), (np.float64, 2e-15)])
def test_exp2_and_log2_are_as_exact_as_their_type(dtype, error):
    numbers = np.linspace(-99.0, 99.0, 64 * WIDTH, dtype=dtype)
    # near one, where the logarithm is small itself
    numbers[: 16 * WIDTH] = np.linspace(-1e-3, 1e-3, 16 * WIDTH)
    powers, logarithms = np.empty_like(numbers), np.empty_like(numbers)
    _evaluate(numbers, powers, logarithms)
    exact = np.exp2(numbers.astype(np.longdouble))
    assert np.abs(powers / exact - 1).max() < error
    expected = np.log2(powers.astype(np.longdouble))
    # of a number near one, only the rounding of the number itself is left
    assert (np.abs(logarithms - expected) <= error * np.maximum(np.abs(expected), 1e-3)).all()


@part
def _exponentials(numbers, found):
    for i in range(0, len(numbers), WIDTH):
        store(found, i, exp(load(numbers, i)))


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 1e-7), (np.float64, 1e-15)])
def test_exp_is_as_exact_as_its_argument_and_ends_at_zero_and_infinity(dtype, error):
    numbers = np.linspace(-69.0, 69.0, 64 * WIDTH, dtype=dtype)
    found = np.empty_like(numbers)
    _exponentials(numbers, found)
    exact = np.exp(numbers.astype(np.longdouble))
    assert (np.abs(found / exact - 1) <= error * (2 + np.abs(numbers))).all()
    extremes = np.resize(np.array([-np.inf, -500, 500, np.inf, np.nan], dtype), WIDTH)
    found = np.empty_like(extremes)
    _exponentials(extremes, found)
    np.testing.assert_array_equal(found[:5], np.array([0, 0, np.inf, np.inf, np.nan], dtype))


@part
def _turn(rows, first, last, scratch, target):
    gather_rows(scratch, WIDTH, rows, first, last, FIVE)
    scatter_rows(target, first, last, FIVE, scratch, WIDTH)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize(("first", "last"), [(0, 16), (7, 23), (16, 31), (30, 31), (31, 31)])
def test_rows_become_lanes_and_rows_again(kind, first, last):
    rows = np.random.default_rng(0).uniform(-50, 50, (31, 5)).astype(np.float32)
    scratch, target = np.zeros(6 * WIDTH), np.full((31, 5), 99, kind)
    _turn(rows, first, last, scratch, target)
    count = last - first
    assert (scratch[WIDTH:].reshape(5, WIDTH)[:, :count] == rows[first:last].T).all()
    assert (scratch[:WIDTH] == 0).all()
    # integers are rounded toward zero; rows before and after are left alone
    assert (target[first:last] == rows[first:last].astype(kind)).all()
    assert (target[:first] == 99).all() and (target[last:] == 99).all()
