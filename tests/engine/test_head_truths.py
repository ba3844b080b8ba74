"""Exact edits of parts, patterns and what faces up: what they change and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from training.tiny_editor import regions
from training.tiny_editor.region_sentences import PHRASINGS
from training.tiny_editor.regions import true_edit


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(4).uniform(0.1, 0.9, (6, 7, 3))


@pytest.fixture
def region_ids() -> np.ndarray:
    return np.arange(42).reshape(6, 7) % 13


@pytest.mark.parametrize(("name", "ids"), [("green_skin", (1, 2)), ("red_lips", (5,)), ("blue_hair", (3,))])
def test_an_edit_of_a_part_colors_its_regions_and_nothing_else(
    image: np.ndarray, region_ids: np.ndarray, name: str, ids: tuple[int, ...]
) -> None:
    edited = true_edit(name, image, region_ids, np.ones((6, 7)))
    inside = np.isin(region_ids, ids)
    color = regions.COLORS[name.split("_")[0]]
    np.testing.assert_allclose(edited[inside], color(image)[inside], atol=1e-6)
    np.testing.assert_array_equal(edited[~inside], image[~inside])


def test_the_background_shows_through_an_edited_edge(image: np.ndarray) -> None:
    """Half coverage of a gray subject on white: the subject's half turns red, the white half stays."""
    mixed = np.full((6, 7, 3), 0.5 * 0.4 + 0.5)
    ids = np.full((6, 7), 5)
    edited = true_edit("red_lips", mixed, ids, np.full((6, 7), 0.51))
    assert edited[..., 0].min() > edited[..., 1].max() + 0.1
    assert edited[..., 1].min() >= 0.49


def test_captures_may_count_their_regions_in_another_way(image: np.ndarray) -> None:
    ids = np.full((6, 7), 2)
    edited = true_edit("blue_hair", image, ids, np.ones((6, 7)), {"hair": (2,)})
    np.testing.assert_allclose(edited, regions.COLORS["blue"](image), atol=1e-6)
    np.testing.assert_array_equal(true_edit("blue_hair", image, ids, np.ones((6, 7))), image)


def test_every_sentence_names_the_part_and_the_color() -> None:
    for name, (part, color) in regions.PART_EDITS.items():
        for sentence in PHRASINGS[name]:
            assert part in sentence or "lipstick" in sentence
            assert color in sentence


def test_no_function_of_color_equals_an_edit_of_a_part(image: np.ndarray, region_ids: np.ndarray) -> None:
    """Two pixels of one color in different parts become two colors."""
    plain = np.full((6, 7, 3), 0.5)
    edited = true_edit("blue_hair", plain, region_ids, np.ones((6, 7)))
    assert len(np.unique(edited.reshape(-1, 3), axis=0)) == 2


def test_the_patterns_lie_on_the_front_of_the_face() -> None:
    nose, chin, crown, nape = (
        np.array([0.0, 1.0, 11.0]),
        [0.0, -6.0, 10.0],
        [0.0, 14.0, 0.0],
        [0.0, 1.0, -8.0],
    )
    paint, lines, spots = regions.patterns(np.array([nose, chin, crown, nape]))
    np.testing.assert_array_equal(paint, [1, 1, 0, 0])
    np.testing.assert_array_equal(lines + spots, [0, 0, 0, 0])


def test_snow_lies_on_what_faces_up() -> None:
    np.testing.assert_allclose(regions.facing_up(np.array([-1.0, 0.0, 0.6, 1.0])), [0, 0, 1, 1])
