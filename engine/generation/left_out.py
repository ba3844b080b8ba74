"""Sentences about what an evaluation left out, and what each number needs."""

from __future__ import annotations

from ..losses.video_distances import ENOUGH_CLIPS
from .measures import ClipSet

COMPARED = "Nothing was compared image by image; connect a true scene, reference images or a capture."
LPIPS = "LPIPS was skipped; it needs torchvision's VGG16 or AlexNet weights."
CLIP = "CLIP similarity, CLIP score and background consistency were skipped; they need the folder of a CLIP model."
PROMPT = "CLIP score was skipped; it needs the prompt, a text that says what the video should show."
DINO = "Subject consistency was skipped; it needs the folder of a DINO model, such as dino-vitb16."
FVD = "FVD and KVD were skipped; they need a TorchScript I3D. The stand-in's values are not FVD."
SECONDS = "Seconds of the generation were left out; enter how long it took."

# frames that tracking needs
FEWEST = 3


def about_clips(ours: ClipSet, reference: ClipSet) -> list[str]:
    """Whether there are too few clips to compare sets of them."""
    few = min(ours.count, reference.count)
    if few < 2:
        return [
            f"Sets of clips were not compared: there are {ours.count} generated and {reference.count} reference clips of "
            f"{ours.settings.length} frames; add videos, or lower the frames per clip or between clips."
        ]
    if few < ENOUGH_CLIPS:
        return [f"{few} clips bias the distances of sets upward; papers use {ENOUGH_CLIPS}."]
    return []


def about_tracking(frames: int, matches: bool, path: str) -> list[str]:
    """What tracking could not measure.

    Args:
        frames: Frames of the video.
        matches: Matches were counted.
        path: Why there is no relative pose error; empty where there is one.
    """
    if frames < FEWEST:
        return [
            f"Matches and relative pose error were skipped; the scene has {frames} frames, and {FEWEST} are needed."
        ]
    words = [] if matches else ["Matches were skipped; the rendered video has no texture to track."]
    return [*words, *([f"Relative pose error was skipped; {path}"] if path else [])]
