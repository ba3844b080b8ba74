"""Which frames of a rendering one command makes: "0:40" of its frames, or "1/3" of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InputError

_FRAMES = re.compile(r"(\d{0,7}):(\d{0,7})")
_SHARE = re.compile(r"(\d{1,7})/(\d{1,7})")


@dataclass(frozen=True)
class Part:
    """Frames `first` to `stop` of a path, without `stop`; or its `number`-th of `count` equal parts, from 1.

    Example:
        Part.parse("40:").of(60)  # range(40, 60)
        Part.parse("3/3").of(60)  # range(40, 60)
    """

    text: str
    first: int = 0
    # None: to the end
    stop: int | None = None
    number: int = 0
    count: int = 0

    @staticmethod
    def parse(text: str) -> Part:
        """A part from the words of a flag. Raises InputError."""
        if (share := _SHARE.fullmatch(text)) and 1 <= int(share[1]) <= int(share[2]):
            return Part(text, number=int(share[1]), count=int(share[2]))
        if found := _FRAMES.fullmatch(text):
            first, stop = int(found[1] or 0), int(found[2]) if found[2] else None
            if stop is None or first < stop:
                return Part(text, first, stop)
        raise InputError(
            "REN-006",
            f"'{text[:40]}' is not a part of a rendering. Give frames from 0 and the one to stop before, such as 0:40, or a "
            "share such as 1/3.",
        )

    def of(self, frames: int) -> range:
        """The frames of this part in a path of so many. Raises InputError where it has others, or none."""
        if self.count:
            found = range((self.number - 1) * frames // self.count, self.number * frames // self.count)
            if not found:
                raise InputError(
                    "REN-007",
                    f"The part {self.text} of {frames} frames is empty. Split them into at most {frames} parts.",
                )
            return found
        stop = frames if self.stop is None else self.stop
        if self.first >= frames or stop > frames:
            raise InputError(
                "REN-008",
                f"The part {self.text} is outside the camera path, which has the frames 0:{frames}. Choose frames within it, or "
                "raise --frames.",
            )
        return range(self.first, stop)


def in_words(frames: range) -> str:
    """The flag for these frames: "0:40"."""
    return f"{frames.start}:{frames.stop}"
