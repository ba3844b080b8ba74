"""The best look-up table of colors: exact for functions of color, and no help where equal colors become different ones."""

from __future__ import annotations

import numpy as np

from training.tiny_editor import edits, lookup


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(((a - b) ** 2).mean() + 1e-12))


def test_a_table_reaches_an_edit_that_is_a_function_of_color() -> None:
    x = np.random.default_rng(1).uniform(0, 1, (40, 50, 3))
    for name in ("night", "golden_hour", "red", "marble"):
        truth = np.clip(edits.FUNCTIONS[name](x), 0, 1)
        assert _psnr(lookup.best(x, truth), truth) > 38, name


def test_a_table_fitted_to_some_colors_serves_their_neighbors() -> None:
    x = np.random.default_rng(2).uniform(0.2, 0.7, (60000, 3))
    table = lookup.fit(x, 0.5 * x)
    new = np.random.default_rng(3).uniform(0.25, 0.65, (300, 3))
    assert _psnr(lookup.apply(table, new), 0.5 * new) > 35


def test_no_table_recolors_one_half_of_an_image_of_one_color() -> None:
    x = np.full((20, 20, 3), 0.5)
    truth = x.copy()
    truth[:, :10] = (0.1, 0.2, 0.9)
    made = lookup.best(x, truth)
    np.testing.assert_allclose(made, np.broadcast_to(truth.mean(axis=(0, 1)), made.shape), atol=0.02)


def test_no_change_is_kept_exactly() -> None:
    x = np.random.default_rng(4).uniform(0, 1, (10, 12, 3))
    np.testing.assert_allclose(lookup.best(x, x), x, atol=1e-12)
