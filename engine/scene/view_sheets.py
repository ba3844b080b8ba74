"""Several views on one image, so that an editor of single images edits them together.

Cells are filled row by row; a view stands in the middle of its cell. Cutting takes out the very pixels that were put in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .framing import Size, edge_shift

# what surrounds views and fills empty cells
GRAY = 0.5
# pixels of a side; larger images are more than any editor takes
LONGEST = 16384


@dataclass(frozen=True)
class SheetLayout:
    """Where the views of a set stand on sheets.

    Raises:
        InputError: Views that are larger than their cells, or a sheet that is larger than LONGEST.
    """

    rows: int
    columns: int
    width: int  # of a sheet, in pixels
    height: int
    view_width: int  # of a view in its cell, in pixels
    view_height: int
    count: int  # views on all sheets

    def __post_init__(self) -> None:
        if (
            min(self.rows, self.columns, self.view_width, self.view_height, self.count) < 1
            or self.view_width > self.cell[0]
            or self.view_height > self.cell[1]
            or max(self.size) > LONGEST
        ):
            raise InputError(
                "SCN-020",
                f"{self.rows} × {self.columns} views of {self.view_width}×{self.view_height} do not stand on a sheet of "
                f"{self.width}×{self.height}; make the sheet again with Views to Sheet.",
            )

    @property
    def size(self) -> Size:
        """(width, height) of a sheet in pixels."""
        return self.width, self.height

    @property
    def cell(self) -> Size:
        """(width, height) of a cell in pixels."""
        return self.width // max(self.columns, 1), self.height // max(self.rows, 1)

    @property
    def sheets(self) -> int:
        """Number of sheets."""
        return -(-self.count // (self.rows * self.columns))

    @property
    def empty(self) -> int:
        """Cells of the last sheet without a view."""
        return self.sheets * self.rows * self.columns - self.count

    def place(self, i: int) -> tuple[int, slice, slice]:
        """(sheet, rows of pixels, columns of pixels) of one view."""
        sheet, at = divmod(i, self.rows * self.columns)
        row, column = divmod(at, self.columns)
        left = column * self.cell[0] + (self.cell[0] - self.view_width) // 2
        top = row * self.cell[1] + (self.cell[1] - self.view_height) // 2
        return sheet, slice(top, top + self.view_height), slice(left, left + self.view_width)

    def paste(self, images: Tensor) -> Tensor:
        """Sheets [S, H, W, C] of views [count, view_height, view_width, C]."""
        sheets = images.new_full((self.sheets, self.height, self.width, images.shape[-1]), GRAY)
        for i, image in enumerate(images):
            sheet, rows, columns = self.place(i)
            sheets[sheet, rows, columns] = image
        return sheets

    def cut(self, sheets: Tensor) -> Tensor:
        """The views on sheets, as `paste` was given them."""
        places = [self.place(i) for i in range(self.count)]
        return torch.stack([sheets[sheet, rows, columns] for sheet, rows, columns in places])

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> SheetLayout:
        return SheetLayout(**{name: int(data[name]) for name in SheetLayout.__dataclass_fields__})

    @staticmethod
    def of(rows: int, columns: int, sheet: Size, view: Size, count: int) -> SheetLayout:
        """Views of an image size as large as they fit into the cells of a sheet."""
        cell = (sheet[0] // columns, sheet[1] // rows)
        scale = min(cell[0] / view[0], cell[1] / view[1])
        shown = [min(max(round(side * scale), 1), most) for side, most in zip(view, cell, strict=True)]
        return SheetLayout(rows, columns, *sheet, shown[0], shown[1], count)


def largest(rows: int, columns: int, sheets: tuple[Size, ...], view: Size, count: int) -> SheetLayout:
    """The layout on that of several sheet sizes that shows the views largest; of equals, the one with least padding."""
    made = [SheetLayout.of(rows, columns, sheet, view, count) for sheet in sheets]
    return max(
        made,
        key=lambda layout: (
            layout.view_width * layout.view_height,
            -edge_shift(layout.cell, view),
            -layout.width * layout.height,
        ),
    )
