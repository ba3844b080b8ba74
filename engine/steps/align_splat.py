"""Turn canonical Gaussians so that their front is what a video shows, and find the video's camera.

The search of GVFDiffusion (Zhang et al., ICCV 2025) for splats from anywhere: TRELLIS' or TripoSplat's, a file, or a frame of
a scene. What differs: up axis, elevation, scale and shift are searched too (engine/generation/alignment.py). The Gaussians
are only turned about the vertical; elevation, scale and shift become those of the scene's first camera, the video's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from ..fields import as_record, choice, flag, number, validate
from ..figures.contact_sheets import sheet
from ..figures.drawing import as_tensor
from ..generation.alignment import (
    Alignment,
    Candidate,
    ObjectView,
    Target,
    ViewSearch,
    align,
    focal_length,
    units,
)
from ..geometry.boxes import gaussian_bounds
from ..geometry.placement import TURNS, Placed, about_z, canonical, turned
from ..losses.perceptual import load_clip
from ..masks.foreground import Square, alphas_of, foreground_square, square_crops
from ..messages import Finished, Message, Preview, Progress, Started, Stream, progress_of
from ..render import Rasterizer, choose, rasterizer_field
from ..scene import Cameras, Gaussians, Scene4D
from ..scene.mending import mended
from ..scene.rigs import ORBIT_RADIUS, orbit_cameras, orbit_pose
from .step import Figure, Input, Kind, Output, Step

__all__ = ["STEP", "Config", "run"]

# sides of GVFDiffusion's crop and of the canvas around it
CROP, CANVAS = 380, 512
PREVIEW_PIXELS = 256
# views and pixels with which up axes are compared
UP_AZIMUTHS, UP_ELEVATION, UP_PIXELS = 15, 15.0, 64
# an up axis whose score is this many times better than that of the chosen one is named
CLEARLY = 1.25


class Aligned(NamedTuple):
    """The turned Gaussians as a scene of one frame, how the video sees them, and what to know about it."""

    scene: Scene4D
    view: ObjectView
    sheet: Tensor  # [1, H, W, 3]: the frame, the best view and the runners-up
    note: str


@dataclass(frozen=True)
class Config:
    up: str = choice(
        "auto",
        ("auto", *TURNS),
        "Up axis of the splat. auto tries all three and says which fits; TRELLIS has z up, ComfyUI's own splats y down.",
        label="up axis",
    )
    moment: int = number(
        0, 0, 1_000_000, "Which frame of the scene, or splat of the batch, to align.", label="scene frame"
    )
    frame: int = number(
        0,
        0,
        100_000,
        "Which image of the video to align with; GVFDiffusion uses the first.",
        label="video frame",
    )
    max_elevation: float = number(
        30.0,
        0.0,
        80.0,
        "Camera heights to search, in degrees above and below the horizon. Higher finds steeper views and takes longer; 0 "
        "searches the horizon alone, as GVFDiffusion does.",
        5.0,
    )
    rank: int = number(
        1,
        1,
        6,
        "Which of the views to take, by its number on the contact sheet: 1 is the best. Choose another where the best is wrong.",
        label="view to take",
    )
    removes_floaters: bool = flag(
        True,
        "Leaves out Gaussians far outside of the object or larger than half of it.",
        label="remove floaters",
    )
    resolution: int = number(
        128,
        32,
        512,
        "Size of the images that are compared, in pixels. Higher sees finer details and takes longer; typical 96 to 192.",
        32,
        label="search resolution",
    )
    rasterizer: str = rasterizer_field()

    def __post_init__(self) -> None:
        validate(self)


def run(
    splat: Scene4D | Sequence[Gaussians],
    images: Tensor,
    masks: Tensor | None = None,
    clip: Path | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
) -> Stream:
    """Align a splat with a video.

    Args:
        splat: A scene, or splats.
        images: Frames of the video [F, H, W, 3], or with alpha [F, H, W, 4], in 0..1.
        masks: 1 on the object, [F, H, W] or [1, H, W]; None: the alpha of the images.
        clip: Folder of a CLIP model, which then helps to rank the candidates; None: without.
        config: Up axis, which frames, and how far to search.
        device: Device to render on.

    Yields:
        Started, Progress, a Preview with the frame and the candidates, and Finished with an `Aligned`.

    Raises:
        InputError: The splat or the frame cannot be used, or the view does not exist.

    Example:
        made = result(align_splat.run(scene, frames, masks))
        render = render_gaussians(made.scene.canonical, made.scene.rig[0], choose("auto"), torch.ones(3))
    """
    given, left_out = _moment(splat, config.moment)
    target, square, size = _target(images, masks, config.frame)
    similarity = None if clip is None else _similarity(clip, target, device)
    rasterizer = choose(config.rasterizer, device)
    ups = list(TURNS)
    total = len(ups) + units()
    yield Started(total, f"{len(given):,} Gaussians; {rasterizer.name} rasterizer on {device}")
    shown = Target(target.image.to(device), target.alpha.to(device))
    placed, up, about_up = yield from _upright(given.map(lambda t: t.to(device)), shown, rasterizer, config)
    search = ViewSearch(placed.gaussians, shown, rasterizer, config.resolution)
    with closing(align(search, config.max_elevation, similarity)) as work:
        found = yield from progress_of(work, len(ups))
    if config.rank > len(found.candidates):
        raise InputError(
            "STP-038",
            f"View {config.rank} does not exist; {len(found.candidates)} were found. Choose one of the contact sheet.",
        )
    picture = _sheet(
        target, found, ViewSearch(placed.gaussians, shown, rasterizer, PREVIEW_PIXELS), config.rank
    )
    yield Preview(picture, total)
    view, K = _in_frame(found.candidates[config.rank - 1].view, square, size)
    scene = _scene(placed, view, K, size).with_history(
        "align_splat",
        config=as_record(config),
        up=up,
        azimuth=view.azimuth,
        elevation=view.elevation,
        scale=view.scale,
        shift=[view.right, view.up],
        score=found.candidates[config.rank - 1].score,
        floaters=placed.floaters,
        gaussians=len(placed.gaussians),
    )
    words = [_words(view, found, config.rank), about_up, placed.note, _doubt(found), left_out]
    yield Finished(Aligned(scene, view, picture[None], "\n".join(filter(None, words))))


def _moment(splat: Scene4D | Sequence[Gaussians], moment: int) -> tuple[Gaussians, str]:
    count = len(splat.times) if isinstance(splat, Scene4D) else len(splat)
    if moment >= count:
        raise InputError(
            "STP-039", f"Scene frame {moment} does not exist; there are {count}, numbered from 0."
        )
    if isinstance(splat, Scene4D):
        with torch.no_grad():
            return splat.at(float(splat.times[moment])).map(lambda t: t.detach()), ""
    (kept,), note = mended([splat[moment]])
    # where nothing is left, the splat as it came is refused, with the reason
    return (kept, note) if len(kept) else (splat[moment], "")


def _target(images: Tensor, masks: Tensor | None, frame: int) -> tuple[Target, Square, tuple[int, int]]:
    """GVFDiffusion's crop of a frame, where it lies in the frame, and the frame's (width, height)."""
    if frame >= len(images):
        raise InputError(
            "STP-040", f"Video frame {frame} does not exist; there are {len(images)}, numbered from 0."
        )
    one = images[frame : frame + 1].detach().cpu().float()
    mask = masks if masks is None or len(masks) == 1 else masks[frame : frame + 1]
    alphas = alphas_of(one, None if mask is None else mask.detach().cpu())
    square = foreground_square(alphas[0])
    crop = square_crops(one, alphas, square, CROP, CANVAS)
    return Target(crop.images[0], crop.alphas[0]), square, (int(one.shape[2]), int(one.shape[1]))


def _similarity(folder: Path, target: Target, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    model = load_clip(folder, device)
    wanted = model.images(target.image[None].to(device))
    return lambda images: (model.images(images.to(device)) @ wanted[0]).cpu()


def _upright(
    given: Gaussians, target: Target, rasterizer: Rasterizer, config: Config
) -> Generator[Message, None, tuple[Placed, str, str]]:
    """The canonical Gaussians, their up axis, and what to say about it."""
    placed = {up: canonical(given, up, config.removes_floaters) for up in TURNS}
    elevations = [0.0] if config.max_elevation < UP_ELEVATION else [-UP_ELEVATION, 0.0, UP_ELEVATION]
    azimuths = [360 / UP_AZIMUTHS * i for i in range(UP_AZIMUTHS)]
    scores: dict[str, float] = {}
    for i, (up, each) in enumerate(placed.items()):
        search = ViewSearch(each.gaussians, target, rasterizer, UP_PIXELS)
        scores[up] = min(c.score for c in search.sweep(azimuths, elevations))
        yield Progress(i + 1)
    best = min(scores, key=lambda up: scores[up])
    up = best if config.up == "auto" else config.up
    words = ""
    if up != best and scores[up] > CLEARLY * scores[best]:
        words = (
            f"the splat fits the frame better with up axis '{best}' than with '{up}' (score {scores[best]:.3f}, not "
            f"{scores[up]:.3f}); set it to '{best}' or auto"
        )
    elif up != "z up":
        words = f"up axis: {up}; turned by {TURNS[up]:.0f}° about x to z up"
    return placed[up], up, words


def _in_frame(view: ObjectView, square: Square, size: tuple[int, int]) -> tuple[ObjectView, Tensor]:
    """The view with scale and shift in the video's frame instead of its crop, relative to the frame's height; K [3, 3]."""
    K = view.intrinsics(CANVAS)
    # pixels of the canvas to pixels of the video
    K[:2, 2] -= (CANVAS - CROP) / 2
    K[:2] *= square.side / CROP
    K[:2, 2] += torch.tensor([square.left, square.top], dtype=torch.float64)
    width, height = size
    focal = focal_length(height)
    right, down = (float(K[i, 2] - side / 2) * ORBIT_RADIUS / focal for i, side in enumerate((width, height)))
    return replace(view, scale=float(K[0, 0]) / focal, right=right, up=-down), K


def _scene(placed: Placed, view: ObjectView, K: Tensor, size: tuple[int, int]) -> Scene4D:
    """The Gaussians with the view's azimuth in front, seen by the video's camera and three others around them."""
    gaussians = turned(placed.gaussians.map(lambda t: t.cpu()), about_z(-view.azimuth))
    video = Cameras(orbit_pose(0.0, view.elevation)[None], K[None], (size,), ("video",))
    around = orbit_cameras([90.0, 180.0, 270.0], view.elevation, CANVAS, ["right", "back", "left"])
    rig = Cameras.concatenate([video, around])
    bounds = gaussian_bounds(gaussians.means)
    return Scene4D.still(gaussians, torch.zeros(1, dtype=torch.float64), rig, bounds, torch.ones(3))


def _words(view: ObjectView, found: Alignment, rank: int) -> str:
    what = "best view" if rank == 1 else f"view {rank}"
    return (
        f"{what}: azimuth {view.azimuth:.1f}°, elevation {view.elevation:.1f}°, scale {view.scale:.3f}, shift "
        f"{view.right:+.3f} right {view.up:+.3f} up; score {found.candidates[rank - 1].score:.4f}"
    )


def _doubt(found: Alignment) -> str:
    """A sentence where the best view is not the only one that fits."""
    if found.is_symmetric:
        return (
            "ambiguous: the splat looks alike from every side, so the azimuth is arbitrary; views "
            f"2 to {len(found.candidates)} fit as well"
        )
    if not found.ties:
        return ""
    listed = ", ".join(
        f"{i + 1} (azimuth {found.candidates[i].view.azimuth:.0f}°, score {found.candidates[i].score:.4f})"
        for i in found.ties
    )
    return f"ambiguous: view {listed} fits as well; compare them on the contact sheet and set 'view to take'"


def _sheet(target: Target, found: Alignment, search: ViewSearch, rank: int) -> Tensor:
    """The frame and the candidates, best first."""
    images, _ = search.render([c.view for c in found.candidates])
    captions = ["video frame", *(_caption(i, c, i + 1 == rank) for i, c in enumerate(found.candidates))]
    stacks = [[target.at(PREVIEW_PIXELS).image.cpu()], *([image] for image in images.cpu())]
    return as_tensor(sheet(stacks, captions, columns=4, title="lower scores fit better"))


def _caption(index: int, candidate: Candidate, is_taken: bool) -> str:
    view = candidate.view
    taken = " (taken)" if is_taken else ""
    return f"{index + 1}{taken}: az {view.azimuth:.0f}°, el {view.elevation:.0f}°, {candidate.score:.4f}"


STEP = Step(
    name="align_splat",
    node="AlignSplat",
    label="Align Splat to Video",
    category="4dgs/generate",
    description="Turns a splat of an object so that its front is what a video shows, and finds the video's camera: azimuth, "
    "elevation, scale and shift.",
    search=("azimuth", "pose", "register", "gvfdiffusion", "canonical"),
    config=Config,
    run=run,
    inputs=(
        Input(
            "splat",
            Kind.CANONICAL,
            "The object: a scene (from Canonical Gaussians from Image, Import 4D Scene …), or a SPLAT of ComfyUI's own nodes "
            "(TripoSplat, File3DToSplat …).",
        ),
        Input("images", Kind.FRAMES, "The frames of the video, all of one camera."),
        Input(
            "masks",
            Kind.MASKS,
            "1 on the object, one per frame or one for all. Without it, the frames need alpha.",
            id="mask",
            optional=True,
        ),
        Input(
            "clip",
            Kind.PATH,
            "Folder of a CLIP model (such as clip-vit-base-patch32) in models/gs4d, which then helps to rank the views, as in "
            "GVFDiffusion. Empty: without.",
            label="CLIP folder",
            id="clip_folder",
        ),
    ),
    outputs=(
        Output(
            "scene",
            Kind.SCENE,
            "The turned object, z up in a box of side 1; its first camera sees it as the video does.",
            of=lambda made: made.scene,
        ),
        Output(
            "contact_sheet",
            Kind.IMAGES,
            "The frame, the best view and the runners-up.",
            label="contact sheet",
            of=lambda made: made.sheet,
        ),
        Output(
            "azimuth", Kind.NUMBER, "Degrees, counterclockwise from above.", of=lambda made: made.view.azimuth
        ),
        Output("elevation", Kind.NUMBER, "Degrees above the horizon.", of=lambda made: made.view.elevation),
        Output(
            "scale",
            Kind.NUMBER,
            "Size in the frame, relative to a camera with a field of view of 49.1° at distance 2.",
            of=lambda made: made.view.scale,
        ),
    ),
    verb="align",
    figure=Figure.PREVIEW,
    note=lambda made: made.note,
    lowers=("resolution",),
)
