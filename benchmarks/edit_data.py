"""Pairs of captures, before and after an exact edit, and edited images as a capture to train on."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.capture.readers import LoadOptions, load_video
from engine.errors import InputError
from engine.scene import Frame, MultiViewVideo, ViewSet
from engine.scene.video import FrameSource
from engine.train.originals import resize
from engine.train.targets import background_of, composite

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from training.demo_clip.edits import EDITS  # noqa: E402

DEMO = ROOT / "assets" / "clips" / "walker"


@dataclass(frozen=True, eq=False)
class Pair:
    name: str
    original: MultiViewVideo
    edited: MultiViewVideo  # the truth
    instruction: str


def load_pair(folder: Path, options: LoadOptions) -> Pair:
    """`folder`/original, `folder`/edited and `folder`/instruction.txt. Raises InputError."""
    instruction = folder / "instruction.txt"
    for path in (folder / "original", folder / "edited", instruction):
        if not path.exists():
            raise InputError(
                "BEN-002",
                f"{folder.name}/{path.name} is missing; a pair has the folders original and edited (the same cameras "
                "and times, in any layout) and the file instruction.txt.",
            )
    report_text = instruction.read_text(encoding="utf-8").strip()
    if not report_text:
        raise InputError(
            "BEN-003",
            f"{folder.name}/instruction.txt is empty; write the prompt of the edit, such as 'make it night'.",
        )
    pair = Pair(
        folder.name,
        load_video(folder / "original", options),
        load_video(folder / "edited", options),
        report_text,
    )
    same = pair.original.cameras.sizes == pair.edited.cameras.sizes and torch.allclose(
        pair.original.cameras.world_to_camera.double(),
        pair.edited.cameras.world_to_camera.double(),
        atol=1e-6,
    )
    if not same or pair.original.times.tolist() != pair.edited.times.tolist():
        raise InputError(
            "BEN-004",
            f"{folder.name}: original and edited have different cameras or times, so they are not a "
            "pair; export both with the same cameras and frames.",
        )
    return pair


def demo_pair(edit: str, clip: Path = DEMO) -> Pair:
    """The demo capture, and the same capture with an exact edit applied to its frames."""
    if edit not in EDITS or edit == "none":
        known = ", ".join(name for name in EDITS if name != "none")
        raise InputError("BEN-005", f"Edit '{edit}' does not exist; choose one of {known}.")
    video = load_video(clip)
    source = EditedFrames(video.source, background_of(video), edit)
    return Pair(f"{video.name}, {edit}", video, replace(video, source=source), EDITS[edit][0])


@dataclass(frozen=True, eq=False)
class EditedFrames:
    """Frames with an exact edit of the subject's own colors; background and coverage are unchanged."""

    frames: FrameSource
    background: Tensor  # [3] in 0..1
    edit: str

    def read(self, view: int, moment: int) -> Frame:
        frame = self.frames.read(view, moment)
        if frame.mask is None:
            raise InputError(
                "BEN-006",
                "The demo capture has no masks, which the exact edit needs; restore its masks folder.",
            )
        alpha = frame.mask.double().numpy()[..., None] / 255
        ground = self.background.double().numpy() * (1 - alpha)
        seen = frame.image.double().numpy() / 255
        # the subject's own color: the background's share at its edge is removed
        own = np.clip((seen - ground) / np.maximum(alpha, 0.05), 0, 1)
        image = alpha * np.clip(EDITS[self.edit][1](own), 0, 1) + ground
        return Frame(torch.from_numpy((image * 255).round().clip(0, 255).astype(np.uint8)), frame.mask)

    def fingerprint(self) -> str:
        return f"{self.edit} {self.frames.fingerprint()}"


@dataclass(frozen=True, eq=False)
class StoredFrames:
    """Frames in memory: images [F, H, W, 3] by (view, frame)."""

    images: dict[tuple[int, int], Frame]

    def read(self, view: int, moment: int) -> Frame:
        return self.images[view, moment]

    def fingerprint(self) -> str:
        return f"edited {sum(int(f.image.sum()) for f in self.images.values())}"


def as_video(views: ViewSet, video: MultiViewVideo) -> MultiViewVideo:
    """Edited images of every view and frame as a capture to train on, at its own size or at the edit's if that is
    smaller."""
    sizes = tuple(min(size, views.size) for size in video.cameras.sizes)
    frames: dict[tuple[int, int], Frame] = {}
    available = torch.zeros_like(video.available)
    for i, (view, moment) in enumerate(zip(views.views, views.moments, strict=True)):
        image, mask = resize(views.images[i], sizes[view]), None
        if views.alphas is not None:
            mask = _bytes(resize(views.alphas[i][..., None], sizes[view])[..., 0])
        frames[view, moment] = Frame(_bytes(image), mask)
        available[view, moment] = True
    return replace(
        video,
        cameras=video.cameras.resized(sizes),
        available=available,
        source=StoredFrames(frames),
        has_masks=views.alphas is not None,
        background=background_of(video),
    )


def true_views(views: ViewSet, truth: MultiViewVideo, background: Tensor) -> ViewSet:
    """The same views with the true images instead of the model's."""
    pictures: Iterable[Tensor] = (
        resize(composite(truth.source.read(v, t), background).image, views.size)
        for v, t in zip(views.views, views.moments, strict=True)
    )
    return replace(views, images=torch.stack(list(pictures)), edit={"prompt": "", "model": "the truth"})


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
