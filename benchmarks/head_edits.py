"""Edits of a head avatar against their exact truth; the second half of head_edit.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Cost, Counting, costing
from benchmarks.head_expression import ExpressionFit
from engine import messages as m
from engine.heads import Head
from engine.losses import psnr
from engine.losses.photometric import ssim_map
from engine.masks.head_regions import draw_part, select_part
from engine.render import choose, render_gaussians
from engine.scene import MultiViewVideo, Scene4D, Selection, ViewSet
from engine.steps import evaluate_edit
from engine.steps.edit_head import Config, HeadEdit
from engine.train.targets import Targets
from training.demo_clip.edits import EDITS
from training.tiny_editor import lookup
from training.tiny_editor.regions import PART_IDS

# part → its ids in `region_ids`; "" are eyes and mouth
IDS = {**PART_IDS, "brows": PART_IDS["brow"], "": (5, 6, 7, 8, 9, 10, 11)}
# of the expression error: frames, and cameras of each
EXPRESSIONS, FRONTAL = 4, 3


@dataclass(frozen=True)
class RegionEdit:
    """An edit with an exact truth: a function of each pixel's color, in one part of the head or (part "") in all of it."""

    edit: str
    part: str = ""

    @property
    def prompt(self) -> str:
        return EDITS[self.edit][0]


class Edited(HeadEdit):
    """A head edit that remembers the images of its first round."""

    first: ViewSet | None = None

    def _fit_if_edited(self) -> None:
        super()._fit_if_edited()
        if self.first is None:
            self.first = self.views


class AloneConfig(Config):
    """Each image is edited alone."""

    @property
    def attention_of_preset(self) -> str:
        return "vanilla"


class Truth:
    """What captured images would show after an edit, and where.

    Args:
        region_ids: Folder of exact images of region ids, as `IDS` has them; without one, and for parts that have no id, the
            mesh of `scene` is drawn.
    """

    def __init__(self, video: MultiViewVideo, region_ids: Path | None, scene: Scene4D, head: Head) -> None:
        self.video, self.region_ids, self.scene, self.head = video, region_ids, scene, head
        self.targets = Targets(video, scene.background)

    def part(self, part: str, view: int, frame: int) -> Tensor:
        """[H, W] bool: where a part of the head is visible; "" is all of it, without eyes and mouth."""
        target = self.targets.get(view, frame)
        if self.region_ids is not None and part in IDS:
            ids = torch.from_numpy(np.array(Image.open(self.region_ids / f"{frame:05d}_{view:02d}.png")))
            chosen = torch.isin(ids, torch.tensor(IDS[part]))
        else:
            seconds = [float(self.video.times[frame])]
            drawn = draw_part(
                self.scene, self.head.model, part or "expression", self.video.cameras[[view]], seconds
            )
            chosen = drawn[0] > 0
        if part:
            return chosen
        # mixed pixels of the outline belong to the background, too
        whole = target.mask is None or target.mask.cpu() > 0.999
        return ~chosen & whole

    def image(self, edit: RegionEdit, view: int, frame: int) -> Tensor:
        """[H, W, 3] the captured image with the edit applied everywhere; compare it inside `part` only."""
        image = self.targets.get(view, frame).image.cpu()
        changed = EDITS[edit.edit][1](image.double().numpy()).clip(0, 1)
        return torch.from_numpy(changed).float()


class HeadEditBenchmark:
    """One trained avatar and one model; each variant edits the avatar and is measured.

    Args:
        scene: The unedited avatar.
        config: Settings of all variants.
    """

    def __init__(
        self,
        video: MultiViewVideo,
        region_ids: Path | None,
        scene: Scene4D,
        head: Head,
        backbone: Any,
        config: Config,
        device: str = "cpu",
        every: int = 1,
    ) -> None:
        self.video, self.scene, self.head, self.config = video, scene, head, config
        self.backbone: Any = Counting(backbone)
        self.device, self.every = device, every
        self.rasterizer = choose("auto", device)
        self.truth = Truth(video, region_ids, scene, head)
        self.expressions = ExpressionFit(scene, head.model, self.rasterizer)

    def lookup_table(self, edit: RegionEdit) -> dict[str, float]:
        """The best look-up table of colors for the captured images and their truth: what recoloring alone reaches."""
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for view in range(self.video.views):
            for frame in range(0, self.video.moments, self.every):
                before = self.truth.targets.get(view, frame).image.cpu()
                inside = self.truth.part(edit.part, view, frame)
                after = torch.where(inside[..., None], self.truth.image(edit, view, frame), before)
                rows.append((before, after, inside))
        few = [[image.reshape(-1, 3)[:: len(rows)] for image in row[:2]] for row in rows]
        table = lookup.fit(*(torch.cat([pair[i] for pair in few]).double().numpy() for i in range(2)))
        measured: list[tuple[float, float, float]] = []
        for before, after, inside in rows:
            made = torch.from_numpy(lookup.apply(table, before.double().numpy())).float()
            near, far = (float(psnr(_planes(i), _planes(after), inside[None])) for i in (made, before))
            measured.append((near, far, float((made - before).abs()[~inside].mean())))
        near, far, outside = (float(value) for value in np.array(measured).mean(0))
        return {
            "edit_psnr": round(near, 2),
            "edit_psnr_unedited": round(far, 2),
            "outside_change": round(outside, 5),
        }

    def variants(self, edit: RegionEdit) -> dict[str, Callable[[], tuple[Scene4D, dict[str, Any]]]]:
        """The four ways that are compared, by name."""
        base = replace(self.config, prompt=edit.prompt, force=True)
        area = select_part(self.scene, self.head.model, edit.part) if edit.part else None
        alone = AloneConfig(**asdict(base))
        bare = replace(base, keep="nothing")
        return {
            "with_inpainting": lambda: self.measure(edit, base, area),
            "without_inpainting": lambda: self.measure(edit, bare, None),
            "uncoherent": lambda: self.measure(edit, alone, area),
            "baseline": lambda: self.measure(edit, replace(bare, preset="GaussianAvatar-Editor"), None),
        }

    def measure(
        self, edit: RegionEdit, config: Config, selection: Selection | None
    ) -> tuple[Scene4D, dict[str, Any]]:
        """Edit the avatar and compare."""
        with costing(self.backbone, self.device) as cost:
            work = Edited(self.scene, self.head, self.backbone, config, selection, self.device)
            while not work.is_finished:
                work.step()
            scene = work.result()
        assert work.first is not None
        return scene, {**self.figures(edit, scene, work.first), **_costs(cost)}

    def figures(self, edit: RegionEdit, scene: Scene4D, views: ViewSet) -> dict[str, Any]:
        """All measures of an edited avatar and of the images of its first round."""
        trained = [v for v in range(self.video.views) if v not in self.video.test_views]
        by_view = [self._against_truth(edit, scene, view) for view in range(self.video.views)]
        both = np.array(by_view).mean(0)
        held = np.array([by_view[v] for v in self.video.test_views])
        own = np.array([by_view[v] for v in trained])
        return {
            **self._eyes_and_mouth(views),
            "expression_error": self.expression_error(scene),
            "edit_psnr": round(float(both[0]), 2),
            "edit_psnr_unedited": round(float(both[1]), 2),
            "outside_change": round(float(both[2]), 5),
            "multi_view_gap": round(float((own - held.mean(0)).mean(0)[0]), 2) if len(held) else None,
            "flow_warp_error": self._flow_warp_error(scene),
        }

    def _render(self, scene: Scene4D, view: int, frame: int) -> Tensor:
        seconds = float(self.video.times[frame])
        with torch.no_grad():
            drawn = render_gaussians(
                scene.at(seconds), self.video.cameras[view], self.rasterizer, scene.background
            )
        return drawn.rgb[0].cpu().clamp(0, 1)

    def _against_truth(self, edit: RegionEdit, scene: Scene4D, view: int) -> tuple[float, float, float]:
        """Means over the frames of a view: PSNR in the edited part, the unedited avatar's, and the change outside."""
        rows: list[tuple[float, float, float]] = []
        for frame in range(0, self.video.moments, self.every):
            inside = self.truth.part(edit.part, view, frame)
            wanted = self.truth.image(edit, view, frame)
            images = [self._render(s, view, frame) for s in (scene, self.scene)]
            near, far = (float(psnr(_planes(i), _planes(wanted), inside[None])) for i in images)
            rows.append((near, far, float((images[0] - images[1]).abs()[~inside].mean())))
        mean = np.array(rows).mean(0)
        return float(mean[0]), float(mean[1]), float(mean[2])

    def _eyes_and_mouth(self, views: ViewSet) -> dict[str, float]:
        """The edited images against the unedited renders, inside eyes and mouth."""
        seconds = list(views.seconds)
        masks = draw_part(self.scene, self.head.model, "expression", views.cameras, seconds) > 0
        found = [
            (float(psnr(a, b, mask[None]).clamp(max=120)), float(ssim_map(a, b)[0][:, mask].mean()))
            for a, b, mask in zip(
                views.images.permute(0, 3, 1, 2)[:, None],
                views.originals.permute(0, 3, 1, 2)[:, None],
                masks,
                strict=True,
            )
            if int(mask.sum()) >= 20
        ]
        mean = np.array(found).mean(0)
        return {"eyes_mouth_psnr": round(float(mean[0]), 2), "eyes_mouth_ssim": round(float(mean[1]), 4)}

    def _flow_warp_error(self, scene: Scene4D) -> float:
        config = evaluate_edit.Config(every=self.every, pictures=0)
        front = scene.with_(rig=scene.rig[[self.video.test_views[0] if self.video.test_views else 0]])
        found = m.result(evaluate_edit.run(front, config=config, device=self.device))
        return round(found["flow_warp_error"], 5)

    def expression_error(self, scene: Scene4D) -> float:
        """Over `EXPRESSIONS` frames, spread over the capture, each seen by the cameras that see both eyes."""
        frames = torch.linspace(0, self.video.moments - 1, EXPRESSIONS).round().long().tolist()
        found = []
        for frame in frames:
            views = self._frontal(frame)
            images = torch.stack([self._render(scene, view, frame) for view in views])
            found.append(self.expressions.error(images, self.video.cameras[views], frame))
        return round(float(np.mean(found)), 4)

    def _frontal(self, frame: int) -> list[int]:
        """The cameras that see most of the eyes."""
        seconds = [float(self.video.times[frame])] * self.video.views
        eyes = draw_part(self.scene, self.head.model, "eye area", self.video.cameras, seconds)
        return eyes.flatten(1).sum(1).topk(min(FRONTAL, len(eyes))).indices.tolist()


def _planes(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)[None]


def _costs(cost: Cost) -> dict[str, Any]:
    return {
        "seconds": round(cost.seconds, 1),
        "diffusion_calls": cost.diffusion_calls,
        "peak_mb": round(cost.peak_mb),
    }
