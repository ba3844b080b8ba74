"""Pictures of numbers: what is drawn where, and that nothing odd in the numbers breaks a drawing."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.figures.charts import Curve, beneath, curves_picture, moving_mean
from engine.figures.drawing import THEMES, as_picture, as_tensor, format_number, shortened, width_of
from engine.figures.training_curves import MOST_POINTS, TrainingCurves
from engine.messages import Finished, Preview, Progress, Started

BLUE = {look: np.array(THEMES[look].curves[0]) for look in THEMES}


def where(picture: object, color: np.ndarray, within: int = 40) -> np.ndarray:
    """(row, column) of pixels near a color."""
    pixels = np.asarray(picture).astype(int)
    return np.argwhere(np.abs(pixels - color).max(-1) < within)


@pytest.mark.parametrize("look", THEMES)
def test_a_falling_curve_falls_and_a_rising_one_rises(look: str) -> None:
    steps = tuple(range(1, 101))
    for sign in (-1, 1):
        curve = Curve("", steps, tuple(float(sign * s) for s in steps))
        found = where(curves_picture([curve], (400, 300), look=look), BLUE[look])
        assert len(found) > 200, "no curve is drawn"
        plotted = found[(found[:, 0] > 30) & (found[:, 0] < 280)]  # the value stands above
        left, right = (
            plotted[plotted[:, 1] == x, 0].mean() for x in (plotted[:, 1].min() + 5, plotted[:, 1].max() - 5)
        )
        assert (left - right) * sign > 150


def test_a_training_under_way_leaves_room_for_what_comes() -> None:
    curve = Curve("", tuple(range(1, 51)), tuple(float(v) for v in range(50)))
    half, whole = (
        where(curves_picture([curve], (400, 300), total=total), BLUE["dark"])[:, 1] for total in (100, None)
    )
    rows_of_value = 340  # right of it only the newest value is written
    assert half[half < rows_of_value].max() < 240 < whole[whole < rows_of_value].max()


def test_curves_stand_beside_or_below_each_other_in_colours_of_their_own() -> None:
    curves = [Curve(name, (1, 2, 3), (1.0, 2.0, 1.5)) for name in ("a", "b")]
    blue, green = (np.array(color) for color in THEMES["dark"].curves[:2])
    beside = curves_picture(curves, (400, 100), columns=2)
    assert where(beside, blue)[:, 1].max() < 200 < where(beside, green)[:, 1].min()
    below = curves_picture(curves, (400, 400))
    assert where(below, blue)[:, 0].max() < 200 < where(below, green)[:, 0].min()


@given(
    st.lists(st.floats(width=32) | st.just(math.nan), max_size=60),
    st.sampled_from([(512, 84), (40, 30), (200, 300)]),
)
@settings(max_examples=60, deadline=None)
def test_any_numbers_make_a_picture(values: list[float], size: tuple[int, int]) -> None:
    curve = Curve("loss", tuple(float(i) for i in range(len(values))), tuple(values))
    assert curves_picture([curve, curve], size, 2, "title").size == size


def test_without_curves_it_says_so_and_an_unknown_look_is_refused() -> None:
    assert len(where(curves_picture([], (300, 100)), np.array(THEMES["dark"].quiet))) > 50
    with pytest.raises(InputError, match=r"'pink'.*dark, light"):
        curves_picture([], look="pink")


@given(st.integers(1, 300), st.floats(-5, 5), st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_the_mean_of_a_straight_line_is_itself(count: int, slope: float, start: float) -> None:
    line = start + slope * np.arange(count)
    np.testing.assert_allclose(moving_mean(line), line, atol=1e-8 * max(1.0, count))


@pytest.mark.parametrize("text", ["0.0312", "21.4", "4000", "12k", "1.5M", "-3", "0", "1e-05"])
def test_numbers_are_told_in_few_letters(text: str) -> None:
    value = float(text.replace("k", "e3").replace("M", "e6"))
    assert format_number(value) == text and len(format_number(value * 1.23456789)) <= 9


def test_a_text_that_is_too_long_is_cut_to_its_room() -> None:
    cut = shortened("a name that nobody has room for", 13, 80)
    assert cut.endswith("…") and width_of(cut, 13) <= 80
    assert shortened("short", 13, 80) == "short"


def test_a_picture_and_a_strip_are_as_wide_as_each_other_and_keep_their_shape() -> None:
    made = beneath(as_picture(torch.ones(60, 120, 3)), as_picture(torch.zeros(20, 240, 3)))
    assert made.size == (240, 140)
    assert np.asarray(made)[:119].min() > 250 and np.asarray(made)[121:].max() < 5


def test_pictures_and_tensors_turn_into_each_other() -> None:
    image = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0))
    assert (as_tensor(as_picture(image)) - image).abs().max() <= 0.5 / 255 + 1e-6


# -- what a step said ---------------------------------------------------------------------------------------------------


def test_a_long_training_is_kept_in_few_points_with_its_mean_and_ends() -> None:
    record, total = TrainingCurves(), 20_011
    record.hear(Started(total))
    for i in range(1, total + 1):
        record.hear(Progress(i, {"loss": float(i), "timestep": 7.0}, 100 + i // 1000))
    loss, count = record.curves()
    assert (loss.name, count.name) == ("loss", "Gaussians")
    assert MOST_POINTS <= len(loss.steps) <= 2 * MOST_POINTS + 1
    assert np.allclose(loss.steps, loss.values), "a point stands where its stretch is"
    assert loss.steps[0] < 40 and loss.steps[-1] > total - 40
    assert all(a < b for a, b in pairwise(loss.steps))
    assert count.values[0] < 101 and count.values[-1] > 119


def test_gaussians_whose_number_stays_are_drawn_where_that_is_wanted() -> None:
    for wanted in (False, True):
        record = TrainingCurves(counts=wanted)
        for i in (1, 2, 3):
            record.hear(Progress(i, {"loss": 1.0}, 5))
        assert ("Gaussians" in [c.name for c in record.curves()]) == wanted
        assert record.finished() is not None


def test_only_what_was_measured_is_drawn() -> None:
    record = TrainingCurves()
    assert record.finished() is None
    record.hear(Started(3))
    image = torch.full((40, 80, 3), 0.5)
    assert record.live(image).size == (80, 40), "no curves yet: the picture alone"
    for i in (1, 2, 3):
        record.hear(Progress(i, {"loss": 1.0 / i, "psnr": math.inf}, 5))
    assert [c.name for c in record.curves()] == ["loss"], "equal counts and infinite values are no curve"
    made = record.finished("done")
    assert made is not None and made.size == (512, 158)
    record.hear(Preview(image, 3))
    record.hear(Finished(None))
    made = record.finished("done")
    assert made is not None and made.size == (420, 210 + 112)
    live = np.asarray(record.live(image))
    assert live.shape == (210 + 80, 420, 3) and np.abs(live[:205].astype(int) - 128).max() < 3


def test_a_training_of_one_step_is_drawn() -> None:
    record = TrainingCurves()
    record.hear(Started(1))
    record.hear(Progress(1, {"loss": 0.5}, 10))
    assert record.finished() is not None
