"""Fitting canonical Gaussians to images of known views, for edited views and decoded latents."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import flag, number
from ..guidance.inpaint import fitted
from ..losses.color_loss import color_loss
from ..losses.metrics import decibels
from ..masks.coverage import contributions, enough
from ..render import render_gaussians
from ..scene import Gaussians, Scene4D, Selection, ViewSet
from ..scene.harmonics import dc_to_rgb, rgb_to_dc
from ..scene.origins import in_coordinates_of
from .edit_config import EditConfig
from .edits import CanonicalEdit
from .loop import Losses
from .threads import threads_for
from .unseen_colors import settled


@dataclass(frozen=True)
class ViewFitConfig(EditConfig):
    """Parameters of a fit to views; a step's Config may set other defaults."""

    iterations: int = number(
        200,
        1,
        1_000_000,
        "Number of optimization steps. More follows the edited views more closely, with what is wrong in them; the paper uses "
        "1000.",
    )
    views_per_step: int = number(
        2,
        1,
        64,
        "Edited views per optimization step. More is smoother and slower.",
        label="batch size",
        advanced=True,
    )
    strength: float = number(
        1.0,
        0.0,
        1.0,
        "Blend between the original and the edited views; 0 changes nothing, 1 is the full edit.",
        0.01,
        label="blend",
    )
    ssim_weight: float = number(
        0.0,
        0.0,
        1.0,
        "Weight of D-SSIM against L1. More favors crisp texture; the paper uses 0.",
        0.01,
        label="SSIM weight",
        advanced=True,
    )
    color_lr: float = number(
        2e-2,
        0.0,
        1.0,
        "Learning rate of base colors, decaying in the second half; view-dependent SH bands use 1/20 of it. At the "
        "reference's 2.5e-3, white does not become dark within 1000 steps.",
        1e-4,
        id="color_rate",
        advanced=True,
    )
    densifies: bool = flag(
        False,
        "Adds Gaussians where the edit needs detail, in the last 40% of the steps (reference code).",
        label="densify",
        advanced=True,
    )
    fills_unseen: bool = flag(
        True,
        "Gaussians that the edited images hardly show change as similar ones nearby do. Off leaves them as they are.",
        label="fill unseen",
        advanced=True,
        # after the steps' own fields of 0.2, which were there before it
        since="0.3",
    )


class Pins(NamedTuple):
    """Pixels that are fitted to the unedited originals, whatever the edit made of them.

    Source: GaussianAvatar-Editor (Liu et al., 3DV 2025), which pins the mouth with weight 1000.
    """

    masks: Tensor  # [F, h, w] in 0..1, or a single one for all views
    weight: float  # in the loss, against 1 of other pixels; 0: nothing is pinned


class ViewFit(CanonicalEdit):
    """An optimization (see `loop`) of canonical Gaussians toward edited views; a step names it. `pins`: see `Pins`."""

    config: ViewFitConfig

    def __init__(
        self,
        scene: Scene4D,
        views: ViewSet,
        config: ViewFitConfig,
        selection: Selection | None,
        device: torch.device | str,
        pins: Pins | None = None,
    ) -> None:
        super().__init__(scene, config, selection, device, config.densifies)
        # the Gaussians before the edit: their colors tell how those that no image shows change
        self.unedited: Gaussians = self.before.canonical
        self.views = views = replace(views, cameras=in_coordinates_of(scene, views.cameras))
        images = torch.lerp(views.originals, views.images, config.strength)
        # [F, h, w, 1]: weight of each pixel in the loss; None: all weigh the same
        self.weights: Tensor | None = None
        self.pins = pins if pins is not None and pins.weight > 0 else None
        if self.pins is not None:
            width, height = views.size
            source = scene.rig.sizes[views.views[0]] if _shows_whole_view(scene, views) else None
            masks = fitted(self.pins.masks, len(views), height, width, source, "pin")[..., None]
            images = torch.lerp(images, views.originals, masks.to(images))
            self.weights = (1 + (self.pins.weight - 1) * masks).to(self.device, torch.float32)
        if not bool(torch.isfinite(images).all()):
            raise InputError(
                "TRN-020", "The edited views contain NaN or infinite values; edit the views again."
            )
        self.targets = images[..., :3].detach().to(self.device, torch.float32)
        self.moments: dict[float, list[int]] = {}
        for i, seconds in enumerate(views.seconds):
            self.moments.setdefault(float(seconds), []).append(i)

    @property
    def idle(self) -> str:
        return super().idle or ("strength is 0" if self.config.strength == 0 else "")

    def _first(self) -> int:
        """A view, at random."""
        return int(torch.randint(len(self.views), (), generator=self.generator))

    def _draw(self) -> tuple[float, list[int]]:
        """A view, and others of its frame: they share the cost of the motion."""
        first = self._first()
        seconds = float(self.views.seconds[first])
        others = [i for i in self.moments[seconds] if i != first]
        order = torch.randperm(len(others), generator=self.generator)[: self.config.views_per_step - 1]
        return seconds, [first, *(others[i] for i in order.tolist())]

    def step(self) -> Losses:
        with threads_for(self.rasterizer, self.device):
            return self._step()

    def _step(self) -> Losses:
        seconds, index = self._draw()
        cameras, truth = self.views.cameras[index], _rows(self.targets, index)
        picture = render_gaussians(self.gaussians_at(seconds), cameras, self.rasterizer, self.background)
        color = color_loss(picture.rgb, truth, self.config.ssim_weight)
        loss = color.loss
        if self.weights is not None:
            extra = _rows(self.weights, index) - 1
            loss = loss + (1 - self.config.ssim_weight) * (extra * (picture.rgb - truth).abs()).mean()
        motion_loss = self.motion_loss()
        loss = loss if motion_loss is None else loss + motion_loss
        loss.backward()
        self.learn([(picture.info, *cameras.sizes[0])])
        return {"l1": color.l1, "loss": loss.detach(), "psnr": decibels(color.squared)}

    def result(self) -> Scene4D:
        edited = super().result()
        if not self.config.fills_unseen or self.iteration == 0 or self.idle:
            return edited
        here = edited.to(self.device)
        shown = contributions(here, self.views.cameras, self.views.seconds, self.rasterizer)
        canonical, first = edited.canonical, self.origin.cpu()
        before, after = (dc_to_rgb(g.sh[:, 0].detach().cpu()) for g in (self.unedited, canonical))
        limit = torch.ones(len(first)) if self.selection is None else self.selection.weights.cpu()[first]
        colors = settled(
            before[first], after, canonical.means.detach().cpu(), shown.amax(dim=0), enough(shown), limit
        )
        changed = (colors != after).any(dim=1).to(canonical.device)
        base = torch.where(changed[:, None], rgb_to_dc(colors).to(canonical.sh), canonical.sh[:, 0])
        sh = torch.cat([base[:, None], canonical.sh[:, 1:]], dim=1)
        return edited.with_(canonical=canonical.with_(sh=sh))

    def preview(self) -> Tensor:
        """[H, 2W, 3]: an edited view next to the current render; cycles through the views."""
        i = self.iteration // max(self.config.preview_every, 1) % len(self.views)
        with torch.no_grad():
            now = self.gaussians_at(float(self.views.seconds[i]))
            drawn = render_gaussians(now, self.views.cameras[i], self.rasterizer, self.background)
        return torch.cat([self.targets[i], drawn.rgb[0].clamp(0, 1)], dim=1).cpu()

    def metadata(self) -> dict[str, Any]:
        edit = self.views.edit or {}
        return {
            "prompt": str(edit.get("prompt", "")),
            "model": str(edit.get("model", "")),
            "edit": self.views.edit,
            "views": list(self.views.views),
            "moments": list(self.views.moments),
        }

    def inputs(self) -> list[Any]:
        return [*super().inputs(), self.views, *([] if self.pins is None else [self.pins.masks])]


def _shows_whole_view(scene: Scene4D, views: ViewSet) -> bool:
    """Whether the images show what the scene's cameras see, at another size, rather than a part of it."""
    whole = scene.rig[[views.views[0]]].resized((views.size,)).K[0]
    return torch.allclose(whole, views.cameras.K[0].to(whole), atol=1e-3)


def _rows(tensor: Tensor, index: list[int]) -> Tensor:
    """`tensor[index]`, without the upload of the list that makes the CPU wait for a GPU."""
    return torch.stack([tensor[i] for i in index])
