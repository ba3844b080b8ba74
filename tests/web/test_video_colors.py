"""A real Chromium shows the colors of the images that a video was made of."""

from pathlib import Path

import numpy as np
import pytest

from engine.files.mp4 import mp4_writer
from tests.color_charts import COLORS, chart
from tests.web.shown_colors import shown_colors

pytestmark = [pytest.mark.browser]


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_chromium_shows_the_colors_of_the_images(
    chromium: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """Untagged, small videos are off on the screen (Chromium takes their primaries for NTSC's), and large ones everywhere."""
    with mp4_writer(24, tmp_path / "a.mp4") as add:
        for _ in range(3):
            add(chart(*size))
    shown = shown_colors(chromium, tmp_path / "a.mp4", size)
    if shown is None:
        pytest.skip("NOT RUN: this Chromium plays no H.264")
    for colors in shown.values():
        assert np.abs(colors - COLORS).max() <= 2
