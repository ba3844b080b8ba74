"""What to segment: phrases, points and boxes, as users type them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError

# between phrases; those of Chinese, Japanese and Arabic too
_SEPARATORS = r".,;\n。，、；،؛"
_NUMBER = r"(\d+(?:\.\d+)?)"
_IMAGE = r"(?:(\d{1,6})\s*:\s*)?"
_POINT = re.compile(rf"{_IMAGE}(-?)\s*{_NUMBER}[\s,]+{_NUMBER}")
_BOX = re.compile(rf"{_IMAGE}{_NUMBER}[\s,]+{_NUMBER}[\s,]+{_NUMBER}[\s,]+{_NUMBER}")


@dataclass(frozen=True, eq=False)
class ImagePrompts:
    """Prompts for SAM 2 in one image, in its pixels. Each box is an object, and all inside points together are another;
    outside points exclude from every object of the image."""

    boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))  # [N, 4] x0, y0, x1, y1
    inside: Tensor = field(default_factory=lambda: torch.zeros(0, 2))  # [P, 2] x, y
    outside: Tensor = field(default_factory=lambda: torch.zeros(0, 2))  # [Q, 2]

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.boxes) + int(len(self.inside) > 0)

    def with_boxes(self, boxes: Tensor) -> ImagePrompts:
        """These prompts after other boxes."""
        return ImagePrompts(torch.cat([boxes, self.boxes]), self.inside, self.outside)


def phrases_of(text: str) -> tuple[str, ...]:
    """The phrases in a text such as "left eye. mouth, teeth", lower case, without duplicates."""
    words = (" ".join(part.lower().split()) for part in re.split(rf"[{_SEPARATORS}]", text))
    return tuple(dict.fromkeys(word for word in words if word))


def prompts_of(points: str, boxes: str, count: int, size: tuple[int, int]) -> dict[int, ImagePrompts]:
    """Points and boxes by image index.

    Args:
        points: Entries "x y" separated by semicolons; "3: x y" belongs to image 3 (else image 0), "-x y" excludes.
        boxes: Entries "x0 y0 x1 y1", separated and numbered in the same way.
        count: Number of images.
        size: Their (width, height).

    Raises:
        InputError: An entry that cannot be read, or that lies outside the images.
    """
    found: dict[int, tuple[list[list[float]], list[list[float]], list[list[float]]]] = {}
    for entry in _entries(points):
        match = _POINT.fullmatch(entry)
        if match is None:
            raise InputError(
                "MSK-006",
                f"The point '{entry[:40]}' cannot be read; write x and y in pixels, such as '120 80; -40 60; 3: 200 90'.",
            )
        image, point = int(match[1] or 0), [float(match[3]), float(match[4])]
        _check_inside(entry, image, point[:1], point[1:], count, size)
        found.setdefault(image, ([], [], []))[2 if match[2] else 1].append(point)
    for entry in _entries(boxes):
        match = _BOX.fullmatch(entry)
        corners = [float(number) for number in match.groups()[1:]] if match else []
        if match is None or not (corners[0] < corners[2] and corners[1] < corners[3]):
            raise InputError(
                "MSK-007",
                f"The box '{entry[:40]}' cannot be read; write left, top, right and bottom in pixels, such as "
                "'40 30 200 180; 3: 50 30 210 180'.",
            )
        image = int(match[1] or 0)
        _check_inside(entry, image, corners[::2], corners[1::2], count, size)
        found.setdefault(image, ([], [], []))[0].append(corners)
    return {
        image: ImagePrompts(
            torch.tensor(given[0]).reshape(-1, 4),
            torch.tensor(given[1]).reshape(-1, 2),
            torch.tensor(given[2]).reshape(-1, 2),
        )
        for image, given in sorted(found.items())
    }


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in re.split(r"[;\n]", text) if entry.strip()]


def _check_inside(
    entry: str, image: int, xs: list[float], ys: list[float], count: int, size: tuple[int, int]
) -> None:
    if image >= count:
        raise InputError(
            "MSK-008",
            f"'{entry[:40]}' names image {image}, but there are {count}, numbered 0 to {count - 1}.",
        )
    width, height = size
    if max(xs) > width or max(ys) > height:
        raise InputError(
            "MSK-009",
            f"'{entry[:40]}' lies outside the images of {width}×{height}; give it in their pixels.",
        )
