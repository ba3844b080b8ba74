"""Colors of Gaussians that the fitted images hardly show: they change as similar ones nearby do.

Without this, a Gaussian that only another frame shows, such as the sole of a foot, keeps its color from before the edit or gets a
saturated one.
"""

from __future__ import annotations

import torch
from torch import Tensor

# contributions, in parts of what counts as fully shown: from which a Gaussian is a neighbor to follow, and at which its own
# change counts half
TRUSTED, HALF = 0.3, 0.5
NEIGHBORS = 8
# darkest color that a Gaussian gets from its neighbors
DARKEST = 1 / 255
# distance of black and white, in diagonals of the scene
COLOR_DISTANCE = 0.4


def settled(
    before: Tensor, after: Tensor, means: Tensor, shown: Tensor, enough: float, limit: Tensor
) -> Tensor:
    """Colors after an edit, where the less a Gaussian was shown, the more it changes as its neighbors do.

    Neighbors are the Gaussians that were shown and are nearest in position and in color before the edit, so that what looked
    alike looks alike again.

    Args:
        before: Base colors [N, 3] before the edit.
        after: Base colors [N, 3] after it.
        means: Positions [N, 3].
        shown: Largest contribution [N] to a fitted image.
        enough: Contribution that counts as fully shown.
        limit: How much of the edit a Gaussian takes [N] in 0..1; those with 0 keep their colors.

    Returns:
        Base colors [N, 3]; `after` itself where too few Gaussians are trusted.
    """
    from scipy.spatial import KDTree

    trusted = ((shown > TRUSTED * enough) & (limit > 0.5)).nonzero().flatten()
    asked = (limit > 0).nonzero().flatten()
    if len(trusted) <= NEIGHBORS:
        return after
    extent = (means.amax(dim=0) - means.amin(dim=0)).norm().clamp(min=1e-9)
    places = torch.cat([means / extent, COLOR_DISTANCE / 3**0.5 * before], dim=1).double()
    # one more, since a trusted Gaussian finds itself
    found = KDTree(places[trusted].numpy()).query(places[asked].numpy(), k=NEIGHBORS + 1)
    distance, index = torch.from_numpy(found[0]), trusted[torch.from_numpy(found[1]).long()]
    weight = torch.where(index == asked[:, None], 0, 1 / (distance + 1e-3))
    # what the edit changes around, so that nothing changes where nothing was edited
    share = weight / weight.sum(dim=1, keepdim=True)
    change = (share[..., None] * (after - before)[index].double()).sum(dim=1)
    first = before[asked]
    expected = first + limit[asked, None].to(before) * change.to(before)
    # a color below black is drawn as black, and no gradient of a later fit brings it back
    expected = expected.clamp(min=first.clamp(max=DARKEST), max=first.clamp(min=1.0))
    known = (shown[asked] / (HALF * enough)).square()
    own = (known / (1 + known))[:, None].to(after)
    result = after.clone()
    result[asked] = torch.lerp(expected, after[asked], own)
    return result
