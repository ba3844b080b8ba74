"""Images of a scene before an edit, captured or rendered, at the model's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion import Backbone
from ..diffusion.in_parallel import each
from ..errors import InputError
from ..fields import indices
from ..lru import LruCache
from ..render import Rasterizer, render_gaussians
from ..scene import Gaussians, MultiViewVideo, Scene4D, ViewSet
from ..scene.framing import framed
from ..scene.origins import in_coordinates_of
from .targets import composite

SOURCES = ("auto", "captured", "rendered")

# (view, frame)
Pair = tuple[int, int]


def choose_pairs(scene: Scene4D, views: str, moments: str, video: MultiViewVideo | None = None) -> list[Pair]:
    """(view, frame) pairs, frame by frame. `views` "" is all that are trained on, `moments` "" the first.

    Raises InputError for numbers that are not there, and where the images of the views differ in shape.
    """
    rig = scene.rig
    if views.split():
        chosen = indices(views, len(rig), "view")
    else:
        trained = range(len(rig)) if video is None else video.views_to_train()
        chosen = tuple(view for view in trained if view < len(rig))
    when = indices(moments or "0", len(scene.times), "frame")
    if not chosen:
        raise InputError("TRN-012", "No view is selected; choose at least one.")
    w, h = rig.sizes[chosen[0]]
    for view in chosen:
        other_w, other_h = rig.sizes[view]
        if abs(other_w / other_h / (w / h) - 1) > 0.05:
            raise InputError(
                "TRN-013",
                f"View {rig.names[chosen[0]]} has images of {w}×{h}, view {rig.names[view]} of {other_w}×{other_h}; "
                "choose views of one aspect ratio.",
            )
    return [(view, moment) for moment in when for view in chosen]


def captured_pairs(video: MultiViewVideo, views: str, moments: str) -> list[Pair]:
    """(view, frame) of the images that a capture has of the named views and frames, frame by frame.

    Raises InputError for numbers that are not there, or where there is no image.
    """
    chosen = indices(views, video.views, "view")
    when = indices(moments, video.moments, "frame")
    pairs = [(v, m) for m in when for v in chosen if bool(video.available[v, m])]
    if not pairs:
        raise InputError(
            "STP-035",
            f"{video.name} does not have images of the chosen views at the chosen frames; choose other numbers.",
        )
    return pairs


def check_one_size(video: MultiViewVideo, pairs: Sequence[Pair]) -> None:
    """Raise InputError where images of `pairs` differ in size, so that they cannot be one batch."""
    sizes = sorted({video.cameras.sizes[view] for view, _ in pairs})
    if len(sizes) > 1:
        listed = ", ".join(f"{w}×{h}" for w, h in sizes)
        raise InputError(
            "STP-036",
            f"The chosen views of {video.name} have images of different sizes ({listed}); choose views of one size.",
        )


def choose_source(
    choice: str,
    scene: Scene4D,
    video: MultiViewVideo | None,
    pairs: Sequence[Pair],
    edits: Sequence[str],
) -> tuple[str, list[Pair]]:
    """("captured" | "rendered", the pairs that it has). Auto takes captured images where all are there and none of the
    steps `edits` is in the scene's history. Raises InputError where captured ones are asked for and missing."""
    if video is not None:
        check_same(scene, video)
    if choice not in SOURCES:
        raise InputError("TRN-014", f"originals is '{choice}'; choose one of {', '.join(SOURCES)}.")
    if choice == "rendered" or (choice == "auto" and video is None):
        return "rendered", list(pairs)
    if video is None:
        raise InputError(
            "TRN-015",
            "originals is 'captured', but no video is connected; connect the capture, or choose 'rendered'.",
        )
    there = [(view, moment) for view, moment in pairs if bool(video.available[view, moment])]
    if choice == "auto":
        edited = scene.last_entry(*edits) is not None
        return ("rendered", list(pairs)) if edited or len(there) < len(pairs) else ("captured", there)
    if not there:
        raise InputError(
            "TRN-016",
            f"{video.name} does not have images of the chosen views at the chosen frames; choose others, or set originals to "
            "'rendered'.",
        )
    return "captured", there


@dataclass(eq=False)
class Originals:
    """Reads or renders one image at a time; the Gaussians of the last frame are cached."""

    scene: Scene4D
    rasterizer: Rasterizer
    size: tuple[int, int]  # (width, height) in pixels
    video: MultiViewVideo | None = None  # captured images are taken from here; None = rendered
    # of each view: without stretch, cropped where captured and with a wider field of view where rendered
    is_framed: bool = False

    def __post_init__(self) -> None:
        rig = self.scene.rig
        self.framings = [framed(each, self.size, self.video is None) for each in rig.sizes]
        if self.is_framed:
            scaled = rig.resized(tuple(framing.scaled for framing in self.framings))
            self.rig = scaled.cropped([framing.box for framing in self.framings])
        else:
            self.rig = rig.resized((self.size,) * len(rig))
        self._moment: tuple[int, Gaussians] | None = None

    def gaussians(self, moment: int) -> Gaussians:
        if self._moment is None or self._moment[0] != moment:
            with torch.no_grad():
                self._moment = moment, self.scene.at(float(self.scene.times[moment]))
        return self._moment[1]

    @torch.no_grad()
    def get(self, view: int, moment: int) -> tuple[Tensor, Tensor]:
        """Image [h, w, 3] over the scene's background and coverage [h, w], both on the CPU, in 0..1.

        Coverage is the captured mask where the image is a captured one and has one (it is exact: on the demo scene an
        edit composited with it is 25 dB nearer to the truth than with the scene's own alpha), else the scene's alpha.
        """
        if self.video is not None:
            frame = composite(self.video.source.read(view, moment), self.scene.background.cpu())
            image = self._at_size(frame.image, view)
            if frame.mask is not None:
                return image, self._at_size(frame.mask[..., None], view)[..., 0]
            return image, self._draw(view, moment)[1]
        return self._draw(view, moment)

    def _at_size(self, image: Tensor, view: int) -> Tensor:
        """A captured image [h, w, C] as its camera in `rig` sees it."""
        if not self.is_framed:
            return resize(image, self.size)
        framing = self.framings[view]
        left, top, width, height = framing.box
        return resize(image, framing.scaled)[top : top + height, left : left + width].contiguous()

    def _draw(self, view: int, moment: int) -> tuple[Tensor, Tensor]:
        drawn = render_gaussians(
            self.gaussians(moment),
            self.rig[view],
            self.rasterizer,
            self.scene.background.to(self.scene.device),
        )
        return drawn.rgb[0].clamp(0, 1).cpu(), drawn.alpha[0].clamp(0, 1).cpu()


def latents_of(
    cache: LruCache[Pair, Tensor],
    pairs: Sequence[Pair],
    originals: Originals,
    encode: Callable[[Tensor], Tensor],
    backbone: Backbone,
) -> Tensor:
    """[P, C, h, w] of the images of `pairs`. `encode` makes those that the cache lacks of images [H, W, 3], see `each`."""
    found = {pair: latents for pair in pairs if (latents := cache.get(pair)) is not None}
    missing = [pair for pair in dict.fromkeys(pairs) if pair not in found]
    # videos are read by one thread
    images = [originals.get(*pair)[0] for pair in missing]
    for pair, latents in zip(missing, each(backbone, encode, images), strict=True):
        found[pair] = latents
        cache.put(pair, latents)
    return torch.stack([found[pair] for pair in pairs])


def collect(originals: Originals, pairs: Sequence[Pair]) -> ViewSet:
    """The images of `pairs` as a set of unedited views."""
    pictures, alphas = zip(*(originals.get(view, moment) for view, moment in pairs), strict=True)
    images = torch.stack(pictures)
    seconds = tuple(float(originals.scene.times[moment]) for _, moment in pairs)
    views = [view for view, _ in pairs]
    alpha = torch.stack(alphas)
    filled = float((alpha < 0.5).float().mean()) < 0.01
    return ViewSet(
        images=images,
        originals=images,
        cameras=originals.rig[views],
        views=tuple(views),
        moments=tuple(moment for _, moment in pairs),
        seconds=seconds,
        alphas=None if filled else alpha,
    )


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image [h, w, C] of values in 0..1 at (width, height); see `resampled`."""
    return image if image.shape[:2] == size[::-1] else resampled(image, size).clamp(0, 1).contiguous()


def resampled(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image [h, w, C] of any values at (width, height): averaged over areas when it shrinks, bilinear when it grows."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    planes = image.permute(2, 0, 1)[None]
    if height <= image.shape[0] and width <= image.shape[1]:
        moved = torch.nn.functional.interpolate(planes, (height, width), mode="area")
    else:
        moved = torch.nn.functional.interpolate(
            planes, (height, width), mode="bilinear", antialias=True, align_corners=False
        )
    return moved[0].permute(1, 2, 0)


def check_same(scene: Scene4D, video: MultiViewVideo) -> None:
    """InputError where the video does not have the scene's cameras and number of frames."""
    if len(video.cameras) != len(scene.rig) or video.moments != len(scene.times):
        raise InputError(
            "TRN-017",
            f"{video.name} has {video.views} views and {video.moments} frames, the scene {len(scene.rig)} and "
            f"{len(scene.times)}. Connect the video that the scene was trained on, or none.",
        )
    ours = scene.rig.world_to_camera.double()
    theirs = in_coordinates_of(scene, video.cameras).world_to_camera.double()
    apart = (ours - theirs).abs().amax(dim=(1, 2)) > 1e-3 * (1 + ours.abs().amax())
    if bool(apart.any()):
        name = scene.rig.names[int(apart.nonzero()[0])]
        raise InputError(
            "TRN-018",
            f"Camera {name} has another pose in {video.name} than in the scene; connect the video that the scene was "
            "trained on, or none.",
        )


def check_original(scene: Scene4D, original: Scene4D) -> None:
    """InputError where a scene before its edit does not have the edited scene's number of cameras and frames."""
    if len(original.rig) != len(scene.rig) or len(original.times) != len(scene.times):
        raise InputError(
            "STP-007",
            f"The original scene has {len(original.rig)} views and {len(original.times)} frames, the edited scene "
            f"{len(scene.rig)} and {len(scene.times)}. Connect the scene that this one was edited from.",
        )
