"""Heads: how well an avatar is trained, what fine-tuning wins back, how exact region masks are, and how edits turn out.

    python benchmarks/head_edit.py --json [--data DIR] [--head-model FILE] [--max-seconds 180] [--scene FILE]

DIR has the avatar layout, with the head model beside it (`../head_model/head_model.npz`) or given; without it the bundled
capture and head are used. Held out are the capture's own test camera and test frames. "Eyes and mouth" are the pixels of the
folder's `eye_masks` and `mouth_masks` if it has them, else of the mesh's own regions. The disturbed run adds noise to the head
parameters (translation 2 mm, pose 1 degree, expression 0.05; seed 0) and trains once without and once with fine-tuning.

The avatar is then edited with a prompt whose truth is exact (`head_edits.py`): `--edit` everywhere on the head except eyes and
mouth, as `with_inpainting` (eyes and mouth kept), `without_inpainting`, `uncoherent` (each image edited alone) and `baseline`
(preset GaussianAvatar-Editor); and `--region-edit` in one part of it, with and without its mask. `edit_psnr` compares the
edited avatar with the true edit inside the edited part, over all cameras and frames, the held-out ones included;
`outside_change` is the mean absolute difference to the unedited avatar outside it; `multi_view_gap` is how much better the
trained cameras are than the held-out one, in dB; `eyes_mouth_psnr` compares the edited images of the first round with what
they were rendered as; `expression_error` is explained in `head_expression.py`. `lookup_table` is the best look-up table of
colors for the captured images and their truth: what recoloring alone reaches.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.head_avatar import Measure, disturbed, train
from benchmarks.head_edits import Config, HeadEditBenchmark, RegionEdit
from engine.capture.readers import LoadOptions, load_video
from engine.diffusion.loading import embedded, load
from engine.errors import InputError
from engine.io.heads import load_head
from engine.io.scene_file import load_scene, save_scene
from engine.scene import Scene4D
from engine.steps import fit_scene

DEMO = Path(__file__).resolve().parents[1] / "assets" / "clips" / "talking_head"
SECTIONS = ("avatar", "disturbed", "edits", "region")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--data", type=Path, default=DEMO, help="capture in the avatar layout")
    parser.add_argument("--head-model", type=Path, help="default: beside the capture, else the bundled head")
    parser.add_argument("--fps", type=float, default=0.0, help="frames per second; 0 = as stored")
    parser.add_argument("--max-seconds", type=float, default=180.0, help="of each training")
    parser.add_argument("--iterations", type=int, default=1600)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scene", type=Path, help="trained avatar; created if it does not exist")
    parser.add_argument("--sections", nargs="*", default=SECTIONS, choices=SECTIONS, help="what is measured")
    parser.add_argument("--edit", default="bronze", help="exact edit of the whole head")
    parser.add_argument("--region-edit", nargs=2, default=("green", "skin"), help="exact edit and its part")
    parser.add_argument("--model", help="diffusers folder or .safetensors file (default: the bundled model)")
    parser.add_argument("--frames-per-round", type=int, default=6)
    parser.add_argument("--every", type=int, default=1, help="measure edits in every n-th frame")
    parser.add_argument("--keep-folder", type=Path, help="folder for the edited avatars")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of everything, to check that it runs"
    )
    arguments = parser.parse_args()
    try:
        report = Run(arguments).report()
    except InputError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps(report))
    return 0


class Run:
    """One capture, its avatar, and the sections of the report."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        a = self.arguments = arguments
        beside = a.data.parent / "head_model" / "head_model.npz"
        self.video = load_video(a.data, LoadOptions(frames_per_second=a.fps))
        model = a.head_model or (beside if beside.is_file() else None)
        self.has_own_model = model is not None
        self.head = load_head(model, a.data, self.video.fps or 0.0)
        self.config = fit_scene.Config(
            iterations=60 if a.quick else a.iterations,
            max_seconds=a.max_seconds,
            budget=5 * len(self.head.model.faces) // 2,
            sh_degree=0,
            density="adaptive",
            preview_every=0,
        )
        self.trained_frames = [f for f in range(self.video.moments) if f not in self.video.test_moments]
        self.measured = Measure(self.video, a.data, a.device)

    def avatar(self) -> tuple[Scene4D, dict[str, Any]]:
        """The avatar, trained or loaded, and what its training took."""
        file = self.arguments.scene
        if file is not None and file.is_file():
            return load_scene(file), {}
        scene, seconds, steps = train(self.video, self.head, self.config, self.arguments.device)
        if file is not None:
            save_scene(scene, file)
        return scene, {"avatar_seconds": round(seconds, 1), "avatar_steps": steps}

    def against_capture(self, scene: Scene4D) -> dict[str, Any]:
        video, measured = self.video, self.measured
        views = measured.over(scene, list(video.test_views), self.trained_frames, self.head)
        report: dict[str, Any] = {
            "avatar_gaussians": len(scene.canonical),
            "avatar_psnr_views": round(views["psnr"], 2),
            "avatar_ssim_views": round(views["ssim"], 4),
            "avatar_psnr_eyes_mouth": round(views["eyes_mouth"], 2),
        }
        if video.test_moments:
            again = measured.over(scene, list(range(video.views)), list(video.test_moments), self.head)
            report["reenact_psnr_self"] = round(again["psnr"], 2)
        iou = {part: round(value, 4) for part, value in measured.mask_iou(scene, self.head).items()}
        return report | {f"region_mask_iou{'' if p == 'together' else '_' + p}": v for p, v in iou.items()}

    def disturbed(self) -> dict[str, Any]:
        """Trainings with noise on the head parameters, without and with fine-tuning."""
        noisy = disturbed(self.head)
        both: dict[str, float] = {}
        for name, rate in (("before", 0.0), ("after", 1.0)):
            config = replace(self.config, head_lr=rate)
            tuned, _, _ = train(self.video, noisy, config, self.arguments.device)
            found = self.measured.over(tuned, list(self.video.test_views), self.trained_frames, self.head)
            both[name] = round(found["psnr"], 2)
        return {"avatar_psnr_disturbed": both}

    def editing(self, scene: Scene4D) -> HeadEditBenchmark:
        a = self.arguments
        listed = range(self.video.views)
        config = Config(
            prompt="-",
            frames_per_round=2 if a.quick else a.frames_per_round,
            iterations_per_frame=5 if a.quick else 0,
            levels="999 300" if a.quick else Config.levels,
            frames=" ".join(map(str, self.trained_frames)),
            views=" ".join(str(v) for v in listed if v not in self.video.test_views),
            preview_every=0,
        )
        backbone = load(a.model or embedded(), a.device, "auto")
        every = max(a.every, 6) if a.quick else a.every
        # those of make_demo.py, for the bundled head, count differently; its mesh is as exact
        stored = a.data / "region_ids"
        ids = stored if self.has_own_model and stored.is_dir() else None
        return HeadEditBenchmark(self.video, ids, scene, self.head, backbone, config, a.device, every)

    def report(self) -> dict[str, Any]:
        a, sections = self.arguments, self.arguments.sections
        scene, report = self.avatar()
        if "avatar" in sections:
            report |= self.against_capture(scene)
        if "disturbed" in sections:
            report |= self.disturbed()
        if "edits" in sections or "region" in sections:
            editing = self.editing(scene)
            report["expression_error_unedited"] = editing.expression_error(scene)
            if "edits" in sections:
                report |= run(editing, RegionEdit(a.edit), a.keep_folder)
                report["lookup_table"] = editing.lookup_table(RegionEdit(a.edit))
            if "region" in sections:
                asked = RegionEdit(*a.region_edit)
                ways = ("with_inpainting", "without_inpainting")
                report["region"] = run(editing, asked, a.keep_folder, ways)
                report["region"]["lookup_table"] = editing.lookup_table(asked)
        report["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return report | environment(a.device, self.config.seed)


def run(
    editing: HeadEditBenchmark, edit: RegionEdit, folder: Path | None, names: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The figures of all variants, or of those named; each is told on stderr when it is done."""
    rows: dict[str, Any] = {}
    for name, measure in editing.variants(edit).items():
        if not names or name in names:
            scene, rows[name] = measure()
            print(edit, name, rows[name], file=sys.stderr, flush=True)
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                save_scene(scene, folder / f"{edit.edit}_{edit.part or 'head'}_{name}.safetensors")
    return rows


if __name__ == "__main__":
    sys.exit(main())
