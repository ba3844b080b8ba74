"""OpenUSD files with Gaussian splats, through the optional package `usd-core`."""

from .axes import stage_turn
from .reading import UsdSplats, is_usd
from .writing import WRITABLE, write_usd, writing_usd

__all__ = ["WRITABLE", "UsdSplats", "is_usd", "stage_turn", "write_usd", "writing_usd"]
