"""The colors that Chromium shows of a video of a color chart."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.color_charts import fields, middles
from tests.web import browser

# puts the video's second frame into the page and returns the colors that it has on a canvas
DRAW = """async ([data, places]) => {
  const video = document.createElement('video');
  const event = name => new Promise((done, failed) => {
    video.addEventListener(name, done, {once: true});
    video.addEventListener('error', () => failed(new Error(video.error.message)), {once: true});
  });
  const loaded = event('loadeddata');
  video.muted = true;
  video.src = 'data:video/mp4;base64,' + data;
  await loaded;
  const sought = event('seeked');
  video.currentTime = 0.06;
  await sought;
  document.body.style.margin = 0;
  document.body.replaceChildren(video);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  return places.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3));
}"""
CAN_PLAY = """() => document.createElement('video').canPlayType('video/mp4; codecs="avc1.64001F"')"""


def shown_colors(
    executable: str, video: Path, size: tuple[int, int]
) -> dict[str, NDArray[np.float64]] | None:
    """[12, 3] on a "canvas" and on the "screen", in 0..255; None where this Chromium plays no H.264."""
    data = base64.b64encode(video.read_bytes()).decode()
    with browser.browsing(executable, *size) as opened:
        if not opened.js(CAN_PLAY):
            return None
        canvas = np.array(opened.js(DRAW, [data, middles(*size)]), float)
        # until the compositor has shown it
        opened.page.wait_for_timeout(300)
        screen = np.asarray(Image.open(BytesIO(opened.page.screenshot())).convert("RGB"))
    return {"canvas": canvas, "screen": fields(screen)}
