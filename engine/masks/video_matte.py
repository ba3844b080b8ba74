"""The subject of a video, by what is there: a mask, alpha, a plain background, or a person."""

from __future__ import annotations

from collections.abc import Generator

from torch import Tensor

from ..errors import InputError
from ..messages import Message, progress_of
from .background_key import background_of, keyed
from .foreground import alphas_of
from .person import UNITS, person_masks
from .subjects import INSIDE, largest_subject

MATTES = ("auto", "mask", "alpha", "plain background", "person")
# share of an image that a person must cover, and share of the frames that must show one
PERSON, PRESENT = 0.005, 0.5


def video_matte(
    frames: Tensor, masks: Tensor | None, matte: str = "auto", follows_one: bool = True
) -> Generator[Message, None, tuple[Tensor, Tensor, str]]:
    """Tell the subject of a video from the background.

    Args:
        frames: [F, H, W, 3], or with alpha [F, H, W, 4], in 0..1.
        masks: 1 on the subject, [F, H, W] or [1, H, W].
        matte: One of MATTES. "auto": the mask, else alpha, else a plain background's color, else the network for people.
        follows_one: If the network is used, it looks at the largest person.

    Yields:
        Progress, up to `UNITS` per frame.

    Returns:
        Coverage [F, H, W] in 0..1, the subject's colors [F, H, W, 3], and the source in words.

    Raises:
        InputError: What `matte` names is missing, or nothing tells the subject from the background.
    """
    asked, count = matte, len(frames)
    colors, has_alpha = frames[..., :3], frames.shape[-1] > 3 and bool((frames[..., 3] < 1).any())
    background = background_of(colors)
    if matte == "auto":
        if masks is not None:
            matte = "mask"
        elif has_alpha:
            matte = "alpha"
        else:
            matte = "plain background" if background.is_plain else "person"
    if matte == "mask":
        if masks is None:
            raise InputError(
                "MSK-029",
                "matte is 'mask', but no mask is connected; connect that of Segment by Text or SAM 3, or choose 'auto'.",
            )
        return alphas_of(colors, masks), colors, "the connected mask"
    if matte == "alpha":
        return alphas_of(frames), colors, "the images' alpha"
    if matte == "plain background":
        alphas, cleaned = yield from progress_of(keyed(colors, background), share=UNITS)
        return (
            alphas,
            cleaned,
            f"plain background of color {background.hex} ({background.share:.0%} of the border)",
        )
    alphas = yield from progress_of(person_masks(colors, follows_one=follows_one))
    present = (alphas > INSIDE).float().mean((1, 2)) > PERSON
    if float(present.float().mean()) < PRESENT:
        raise InputError(
            "MSK-030",
            f"Nothing tells the subject from the background: a person was found in {int(present.sum())} of {count} frames"
            + (
                ""
                if asked == "person"
                else ", the background is not plain, and there is neither mask nor alpha"
            )
            + ". Connect a mask, such as that of Segment by Text or SAM 3.",
        )
    return alphas, colors, "the network for people"


def one_subject(alphas: Tensor) -> tuple[Tensor, str]:
    """The largest subject of masks [F, H, W], and a sentence where there were others."""
    kept = largest_subject(alphas)
    if kept.subjects < 2:
        return kept.masks, ""
    first = kept.frames[0]
    inside = kept.masks[first] > INSIDE
    center = float(inside.any(0).nonzero().float().mean()) / inside.shape[1]
    side = "left" if center < 0.4 else "right" if center > 0.6 else "middle"
    covered, others = (float((m[first] > INSIDE).float().mean()) for m in (kept.masks, alphas - kept.masks))
    return kept.masks, (
        f"{kept.subjects} subjects in {len(kept.frames)} of {len(alphas)} frames: the largest is kept (frame {first}: {side}, "
        f"{covered:.1%} of the image, the rest {others:.1%}); connect a mask of another one to choose it"
    )
