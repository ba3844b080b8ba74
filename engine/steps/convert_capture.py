"""Convert a capture into the pack's own layout: undistorted, smaller, with masks, ready to train on.

The source is a folder with a Qualisys or Pose2Sim calibration and a video per camera, or any data set that can be
loaded here (COLMAP with a lens model, DyNeRF …).
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..capture.convert.capture_folder import has_calibration
from ..capture.convert.native_folder import convert_dataset
from ..capture.convert.real_capture import CaptureConfig as Config
from ..capture.convert.real_capture import convert_capture
from ..capture.readers import LoadOptions, load_video
from ..messages import Finished, Preview, Progress, Saved, Started, Stream

__all__ = ["Config", "run"]


def run(source: Path, target: Path, config: Config | None = None) -> Stream:
    """Convert a capture into the pack's own layout.

    Args:
        source: A folder with a studio calibration and one video per camera, or any data set that can be loaded.
        target: The new folder. Closing the generator early leaves nothing behind.
        config: Size, quality and calibration; a data set without a studio calibration uses only some of it.

    Yields:
        Started, Progress, Preview, Saved, and Finished with the new folder's path.

    Raises:
        InputError: The source cannot be read or converted.
    """
    config = config or Config()
    if has_calibration(source, config.calibration):
        conversion = convert_capture(source, target, config)
    else:
        video = load_video(source, LoadOptions(frame_step=config.every))
        height = max(size[1] for size in video.cameras.sizes)
        if config.height and config.height < height:
            video = load_video(
                source, LoadOptions(frame_step=config.every, scale=max(0.05, config.height / height))
            )
        conversion = convert_dataset(video, target, config.quality)
    done = 0
    try:
        for step in conversion:
            done = step.done
            yield Started(step.total, step.note) if step.done == 0 and step.note else Progress(step.done)
            if step.image is not None:
                yield Preview(torch.from_numpy(step.image).float() / 255, step.done)
    finally:
        conversion.close()
    yield Saved(str(target), done)
    yield Finished(Path(target))
