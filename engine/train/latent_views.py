"""Views of a latent field as images, together with the scene's own images of the same views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..diffusion.backbone import check_makes_images
from ..diffusion.in_parallel import each
from ..fields import choice
from ..guidance.detail import carry_detail
from ..latent import FieldRenderer, LatentField
from ..masks.matte import over_background
from ..messages import Message, Preview, Progress, Started
from ..render import choose, rasterizer_field
from ..scene import MultiViewVideo, Scene4D, ViewSet
from .originals import Originals, Pair, choose_pairs, choose_source, collect
from .threads import threads_for, threads_for_model

DETAILS = ("auto", "as decoded", "from originals")
# images between two messages; several are decoded at once (`each`)
AT_ONCE = 4
BACKGROUNDS = ("auto", "scene", "as decoded")


@dataclass(frozen=True)
class DecodingConfig:
    """How latents become images; a step's Config adds which."""

    detail: str = choice(
        "auto",
        DETAILS,
        "Fine detail: as decoded, or transferred from the originals, which keeps faces and seams and limits new shapes. "
        "auto uses the model's default for an edited field.",
    )
    background: str = choice(
        "auto", BACKGROUNDS, "Background of the decoded images: the scene's own or the decoded one. auto is the scene's."
    )  # fmt: skip
    rasterizer: str = rasterizer_field()


class Decoding:
    """Decodes image by image (`stream`), then returns all of them (`made`)."""

    def __init__(
        self,
        field: LatentField,
        backbone: Backbone,
        config: DecodingConfig,
        views: str,
        moments: str,
        originals: str = "rendered",
        video: MultiViewVideo | None = None,
        device: torch.device | str = "cpu",
        is_refined: bool = True,
        edits: Sequence[str] = (),  # steps after which the captured images no longer show the scene
        prompt: str = "",  # of the edit that the images show
    ) -> None:
        check_makes_images(backbone, "decoding a latent field")
        field.vae.check(backbone)
        self.backbone, self.config, self.is_refined, self.prompt = backbone, config, is_refined, prompt
        self.source, self.pairs = choose_source(
            originals, field.scene, video, choose_pairs(field.scene, views, moments, video), edits
        )
        self.field = field.to(device)
        self.device = torch.device(device)
        self.rasterizer = choose(config.rasterizer, self.device)
        self.renderer = FieldRenderer(self.field, self.rasterizer)
        first = self.field.before
        self.unedited = None if first is None else FieldRenderer(first, self.rasterizer)
        captured = video if self.source == "captured" else None
        # the unedited scene: a shape edit moved the field's own Gaussians
        shown = self.field.scene if first is None else first.scene
        self.originals = Originals(shown, self.rasterizer, field.size, captured)
        self.carries = config.detail == "from originals" or (
            config.detail == "auto" and first is not None and backbone.defaults.keeps_detail
        )
        self.moved = self.field.scene if first is not None and _moved(first.scene, field.scene) else None
        self.decoded: list[Tensor] = []
        self.seen: list[Tensor] = []

    def stream(self) -> Iterator[Message]:
        width, height = self.field.size
        yield Started(
            len(self.pairs),
            f"{len(self.pairs)} images of {width}×{height} from {self.backbone.name}'s latents",
        )
        for start in range(0, len(self.pairs), AT_ONCE):
            pairs = self.pairs[start : start + AT_ONCE]
            pictures = self._pictures(self.renderer, pairs)
            if self.carries:
                self.seen += self._pictures(self.unedited or self.renderer, pairs)
            for picture in pictures:
                self.decoded.append(picture)
                yield Progress(len(self.decoded), count=len(self.field.scene.canonical))
                yield Preview(picture, len(self.decoded))

    @torch.no_grad()
    def _pictures(self, renderer: FieldRenderer, pairs: Sequence[Pair]) -> list[Tensor]:
        """Images [H, W, 3], each decoded alone."""
        with threads_for(self.rasterizer, self.device):
            seconds = [float(self.field.scene.times[moment]) for _, moment in pairs]
            latents = [
                renderer.latents([view], time, self.is_refined)[0]
                for (view, _), time in zip(pairs, seconds, strict=True)
            ]
        with threads_for_model(self.backbone):
            return each(self.backbone, self._decoded, latents)

    def _decoded(self, latents: Tensor) -> Tensor:
        return self.backbone.decode(latents.to(self.backbone.device))[0].float().clamp(0, 1).cpu()

    def _coverage(self, scene: Scene4D) -> Tensor:
        drawn = Originals(scene, self.rasterizer, self.field.size)
        return torch.stack([drawn.get(view, moment)[1] for view, moment in self.pairs])

    @torch.no_grad()
    def made(self) -> ViewSet:
        """The images as a set of views whose originals are the scene before the edit."""
        views = collect(self.originals, self.pairs)
        images = torch.stack(self.decoded)
        if self.carries:
            images = carry_detail(images, views.originals, views.alphas, torch.stack(self.seen))
        exchanged = views.alphas is not None and self.config.background != "as decoded"
        if exchanged and views.alphas is not None:
            alphas = views.alphas if self.moved is None else self._coverage(self.moved)
            images = over_background(images, alphas, self.field.scene.background.cpu())
        about: dict[str, Any] = {
            "prompt": self.prompt,
            "model": self.backbone.name,
            "latents": "refined" if self.is_refined and self.field.refiner is not None else "as drawn",
            "originals": self.source,
            "background": "scene" if exchanged else "as decoded",
            "detail": "from originals" if self.carries else "as decoded",
        }
        return replace(views, images=images, edit=about)


def _moved(before: Scene4D, after: Scene4D) -> bool:
    """Whether a shape edit changed the Gaussians."""
    now = after.canonical.tensors()
    return any(not torch.equal(t.cpu(), now[name].cpu()) for name, t in before.canonical.tensors().items())
