"""Contact sheets, overlays and error maps: every picture is there, in its place, and colors mean what they say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.figures.color_maps import ERROR_FULL, error_picture, heat, marked
from engine.figures.contact_sheets import Scale, before_and_after, sheet

COLORS = [
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0),
]


def plain(color: tuple[float, float, float], height: int = 40, width: int = 60) -> torch.Tensor:
    return torch.tensor(color).expand(height, width, 3)


def box(made: object, color: tuple[float, float, float]) -> tuple[int, int, int, int, int]:
    """left, top, right, bottom and count of the pixels that have a color."""
    pixels = np.asarray(made).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - (np.array(color) * 255).astype(int)).max(-1) < 6)
    return columns.min(), rows.min(), columns.max(), rows.max(), len(rows)


@given(st.integers(1, 6), st.integers(0, 6), st.booleans(), st.sampled_from([300, 700, 1024]))
@settings(max_examples=40, deadline=None)
def test_every_picture_is_whole_and_in_reading_order(
    count: int, columns: int, worded: bool, width: int
) -> None:
    words = [f"view {i}" for i in range(count)] if worded else []
    made = sheet([[plain(c)] for c in COLORS[:count]], words, columns, "title" if worded else "", width=width)
    boxes = [box(made, c) for c in COLORS[:count]]
    for left, top, right, bottom, covered in boxes:
        across, down = right - left + 1, bottom - top + 1
        assert covered == across * down, "something is drawn over a picture"
        assert abs(across / down - 1.5) < 0.05
    places = [(top, left) for left, top, *_ in boxes]
    assert places == sorted(places)
    if columns:
        assert len({left for _, left in places}) == min(columns, count)
    assert made.width <= max(width, (columns or count) * 102 + 16)


def test_pairs_stand_one_above_the_other() -> None:
    before = torch.stack([plain(COLORS[0]), plain(COLORS[1])])
    after = torch.stack([plain(COLORS[2]), plain(COLORS[3])])
    made = before_and_after(before, after, ["a", "b"])
    for above, below in ((0, 2), (1, 3)):
        first, second = box(made, COLORS[above]), box(made, COLORS[below])
        assert first[0] == second[0] and first[3] + 1 == second[1]


def test_small_pictures_are_not_blown_up_and_none_is_refused() -> None:
    assert sheet([[plain(COLORS[0], 64, 64)]], width=2000).width <= 2 * 64 + 16
    with pytest.raises(InputError, match="at least one image"):
        sheet([])


def test_the_scale_shows_every_colour_of_the_error_map() -> None:
    made = sheet(
        [[plain((0.5, 0.5, 0.5), 100, 400)]], ["a"], 1, "t", ("x", "y"), Scale("error", "20% or more")
    )
    pixels = np.asarray(made)[:30].astype(int)
    for share in (0.1, 0.35, 0.6, 0.95):
        wanted = (heat(torch.tensor(share)).numpy() * 255).astype(int)
        assert (np.abs(pixels - wanted).max(-1) < 8).any()


def test_an_error_map_is_black_without_error_and_white_from_the_full_one() -> None:
    image = torch.full((4, 4, 3), 0.5)
    assert error_picture(image, image).max() == 0
    assert error_picture(image, image + ERROR_FULL).min() > 1 - 1e-5
    half = error_picture(image, image + ERROR_FULL / 2)
    assert half[0, 0].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-5)


def test_what_is_chosen_is_red_and_the_mask_has_a_yellow_rim() -> None:
    image, weight, mask = torch.full((20, 20, 3), 0.5), torch.zeros(20, 20), torch.zeros(20, 20)
    weight[:10] = 1
    mask[5:15, 5:15] = 1
    made = marked(image, weight, mask)
    assert made[2, 2].tolist() == pytest.approx([0.8, 0.26, 0.26], abs=1e-5)
    assert made[18, 18].tolist() == [0.5, 0.5, 0.5]
    yellow = (made == torch.tensor([1.0, 0.9, 0.1])).all(-1)
    rim = mask.bool().clone()
    rim[6:14, 6:14] = False
    assert torch.equal(yellow, rim)
    assert torch.equal(marked(image, torch.zeros(20, 20)), image)
