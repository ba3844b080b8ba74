"""How well a prompt edits a 4D scene, against the exact ground truth of the edit, and what it costs.

    python benchmarks/edit.py --json [--edit night | --data DIR] [--model FOLDER|FILE] [--exact] [--quick]

Without `--data`: the demo capture with an exact edit applied to its frames. `DIR` holds `original` and `edited` (the
same cameras and times, in any layout) and `instruction.txt`. A scene is trained on the original (`--scene` keeps it),
then edited in several ways; PSNR and SSIM compare each against the true edited video in all views and in every
`--every`-th frame (inside the masks as `psnr_subject`, in all frames but the first as `psnr_later`). `--exact` uses
the true images instead of the model's, which shows the limit of the fit. `seconds` covers editing and fitting, not
the training of the scene; `every_image` retrains with the budget of the first training; `lookup_table` edits the
images with the best look-up table of colors for the very pair. `diffusion_calls` counts images passed through the
network, one per guidance branch. Each variant is reported on stderr when it is done; with `--keep` it is also saved,
and a later run with the same settings reuses it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Cost, Counting, costing
from benchmarks.edit_data import Pair, as_video, demo_pair, load_pair, true_views
from benchmarks.environment import environment
from engine import demo
from engine import messages as m
from engine.capture.readers import LoadOptions
from engine.cli import add_config, config_from
from engine.errors import InputError
from engine.figures import contact_sheets
from engine.files.atomic import write_atomically
from engine.io.scene_file import load_scene, save_scene
from engine.losses import psnr, ssim
from engine.render import choose_device
from engine.scene import MultiViewVideo, Scene4D, ViewSet
from engine.steps import edit_views, evaluate_scene, fit_edits, fit_scene, refine_score, scene_views
from engine.train.state import fingerprint_of, key_of
from engine.train.targets import Targets
from training.tiny_editor import lookup

VARIANTS = (
    "unedited",
    "first_frame",
    "first_frame_own_edits",
    "stage1",
    "stage1_stage2",
    "score_only",
    "every_image",
    "uncoherent",
    "deformation_trained",
    "lookup_table",
)
# only where --variants names them
EXTRA = ("first_frame_score", "stage1_own_edits", "epipolar")
MOMENTS = (8, 16, 32)


@dataclass(frozen=True)
class Plan:
    """The settings of one benchmark run."""

    training: fit_scene.Config
    edit: edit_views.Config
    fit: fit_edits.Config
    refine: refine_score.Config
    score_only_iterations: int = 0  # 0: as many as stage 2
    score_only_color_rate: float = 0.0  # 0: as in stage 2, which changes less
    frames_at_once: int = 8  # for every image of every frame
    image_moments: str = "all"  # the frames of "every image"
    every: int = 1  # frames measured
    repeats: int = 2  # of the timing by frame count; the fastest counts
    variants: tuple[str, ...] = VARIANTS


class Benchmark:
    """One pair, one model: each variant is a method that returns a scene and its cost."""

    def __init__(
        self,
        pair: Pair,
        scene: Scene4D,
        backbone: Any | None,  # None: the true images replace the model's
        plan: Plan,
        device: str,
    ) -> None:
        self.pair, self.plan, self.device = pair, plan, device
        self.scene = scene.to(device)
        self.backbone = None if backbone is None else Counting(backbone)
        self.prompt = pair.instruction
        self._edited: dict[str, tuple[ViewSet, Cost]] = {}
        self._fitted: dict[str, tuple[Scene4D, Cost]] = {}

    def variants(self) -> dict[str, Callable[[], tuple[Scene4D, Cost]]]:
        """The variants that can be run, by name."""
        every = {
            "unedited": lambda: (self.scene, Cost()),
            "first_frame": self.first_frame,
            "first_frame_own_edits": lambda: self.further(self.first_frame(), objective="own edits"),
            "first_frame_score": lambda: self.further(self.first_frame()),
            "stage1_own_edits": lambda: self.both(objective="own edits"),
            "stage1": lambda: self.stage1(),
            "stage1_stage2": lambda: self.both(),
            "score_only": self.score_only,
            "every_image": self.every_image,
            "uncoherent": lambda: self.both(attention="vanilla"),
            "deformation_trained": lambda: self.both(trains_deformation=True),
            "epipolar": lambda: self.both(attention="epipolar"),
        }
        if self.backbone is None:  # no model to distill from, and no attention to share
            every = {name: every[name] for name in ("unedited", "first_frame", "stage1", "every_image")}
            every["deformation_trained"] = lambda: self.stage1(trains_deformation=True)
            every["stage1_reference_code"] = lambda: self.stage1(preset="reference code")
        wanted = (*self.plan.variants, "stage1_reference_code")
        return {name: run for name, run in every.items() if name in wanted}

    def views(self, attention: str | None = None) -> tuple[ViewSet, Cost]:
        """The edited views; made once for each kind of attention."""
        attention = attention or self.plan.edit.attention
        if attention not in self._edited:
            with costing(self.backbone, self.device) as cost:
                # unknown prompts are measured too
                config = replace(self.plan.edit, prompt=self.prompt, attention=attention, force=True)
                edited = self._edit(self.scene, config, self.pair.original)
            self._edited[attention] = edited, cost
        return self._edited[attention]

    def _edit(self, scene: Scene4D, config: edit_views.Config, video: MultiViewVideo | None) -> ViewSet:
        if self.backbone is not None:
            return follow(edit_views.run(scene, self.backbone, config, video), "edit")
        source = scene_views.Config(config.views, config.moments, config.resolution, config.originals)
        views = m.result(scene_views.run(scene, source, video))
        return true_views(views, self.pair.edited, scene.background.cpu())

    def stage1(self, attention: str | None = None, **changes: Any) -> tuple[Scene4D, Cost]:
        """Edit as many images as there are views, of any frame, and fit the canonical Gaussians to them; made once for each."""
        key = key_of(attention or self.plan.edit.attention, changes)
        if key not in self._fitted:
            views, cost = self.views(attention)
            with costing(self.backbone, self.device) as fitting:
                config = replace(self.plan.fit, **changes)
                scene = follow(fit_edits.run(self.scene, views, config, None, self.device), "fit")
            self._fitted[key] = scene, cost + fitting
        return self._fitted[key]

    def first_frame(self) -> tuple[Scene4D, Cost]:
        """Stage 1 as in the paper: the views of the first frame alone; made once."""
        if "first frame" in self._fitted:
            return self._fitted["first frame"]
        config = replace(self.plan.edit, prompt=self.prompt, moments="0", force=True)
        with costing(self.backbone, self.device) as cost:
            views = self._edit(self.scene, config, self.pair.original)
            scene = follow(fit_edits.run(self.scene, views, self.plan.fit, None, self.device), "fit")
        self._fitted["first frame"] = scene, cost
        return scene, cost

    def refined(self, scene: Scene4D, **changes: Any) -> tuple[Scene4D, Cost]:
        """Stage 2: score distillation on the whole capture, or own edits."""
        assert self.backbone is not None
        with costing(self.backbone, self.device) as cost:
            config = replace(self.plan.refine, prompt=self.prompt, force=True, **changes)
            video = self.pair.original
            stream = refine_score.run(
                scene, self.backbone, config, video, None, self.device, original=self.scene
            )
            made = follow(stream, "refine")
        return made, cost

    def both(self, attention: str | None = None, **changes: Any) -> tuple[Scene4D, Cost]:
        # what is of stage 2 alone
        fitting = {name: value for name, value in changes.items() if name != "objective"}
        fitted, cost = self.stage1(attention, **fitting)
        return self.further((fitted, cost), **changes)

    def further(self, stage1: tuple[Scene4D, Cost], **changes: Any) -> tuple[Scene4D, Cost]:
        """Stage 2 after a stage 1, and what both cost."""
        scene, refining = self.refined(stage1[0], **changes)
        return scene, stage1[1] + refining

    def score_only(self) -> tuple[Scene4D, Cost]:
        iterations = self.plan.score_only_iterations or self.plan.refine.iterations
        rate = self.plan.score_only_color_rate or self.plan.refine.color_lr
        return self.refined(self.scene, iterations=iterations, color_lr=rate)

    def every_image(self) -> tuple[Scene4D, Cost]:
        """Edit every image of the capture (with the same key view for all), then train a scene on them from scratch."""
        config = replace(
            self.plan.edit,
            prompt=self.prompt,
            moments=self.plan.image_moments,
            frames_at_once=self.plan.frames_at_once,
        )
        with costing(self.backbone, self.device) as cost:
            views = self._edit(self.scene, config, self.pair.original)
            video = as_video(views, self.pair.original)
            scene = follow(fit_scene.run(video, self.plan.training, self.device), "retrain")
        return scene, cost

    @cached_property
    def key(self) -> str:
        """Identifies what a variant's figures belong to: this pair, scene, model and plan."""
        scene, plan = self.scene, replace(self.plan, variants=(), repeats=0)
        tensors = [*scene.canonical.tensors().values(), *scene.deformation.tensors().values()]
        model = None if self.backbone is None else self.backbone.fingerprint
        videos = [video.source.fingerprint() for video in (self.pair.original, self.pair.edited)]
        return key_of(self.prompt, videos, fingerprint_of(*tensors), model, asdict(plan), self.device)

    def measure(self, scene: Scene4D) -> dict[str, float]:
        config = evaluate_scene.Config(views="all", every=self.plan.every, pictures=0)
        found = m.result(evaluate_scene.run(scene, self.pair.edited, config, self.device))
        summary = found.summary
        numbers = {key: summary[key] for key in ("psnr", "ssim", "psnr_subject") if summary[key] is not None}
        later = [row.psnr for row in found.rows if row.moment > 0]
        return {**numbers, "psnr_later": sum(later) / len(later)} if later else numbers

    def lookup_table(self) -> dict[str, Any]:
        """The best look-up table of colors for this very pair, applied to its images: what recoloring alone reaches."""
        started, cpu = time.perf_counter(), time.process_time()
        ground = self.scene.background.cpu()
        videos = [Targets(video, ground) for video in (self.pair.original, self.pair.edited)]
        shown = [(v, m) for v, m in self.pair.edited.samples() if m % self.plan.every == 0]
        images = [[video.get(*key) for video in videos] for key in shown]
        few = [[target.image.reshape(-1, 3)[:: len(images)] for target in two] for two in images]
        before, after = (torch.cat([two[i] for two in few]).double().numpy() for i in range(2))
        table = lookup.fit(before, after)
        sums: dict[str, list[float]] = {}
        for source, target in images:
            made = torch.from_numpy(lookup.apply(table, source.image.double().numpy())).float()
            a, b = made.permute(2, 0, 1)[None], target.image.permute(2, 0, 1)[None]
            sums.setdefault("psnr", []).append(float(psnr(a, b).mean()))
            sums.setdefault("ssim", []).append(float(ssim(a, b).mean()))
            if target.mask is not None and bool((target.mask > 0.5).any()):
                inside = target.mask > 0.5
                sums.setdefault("psnr_subject", []).append(
                    float(psnr(made[inside][None], target.image[inside][None]).mean())
                )
        return {
            **{name: round(sum(found) / len(found), 4) for name, found in sums.items()},
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "diffusion_calls": 0,
            "network_calls": 0,
            "peak_mb": 0.0,
        }

    def seconds_by_moments(self) -> dict[str, dict[str, float]]:
        """Stage 1 on the scene sampled at 8, 16 and 32 frames: wall-clock time and CPU time, the fastest of a few runs.

        The frame counts alternate, so that a slowdown of the machine affects all of them. The edited images are rendered
        from the scene, so the capture may have fewer than 32 frames.
        """
        best: dict[int, Cost] = {}
        first, last = float(self.scene.times[0]), float(self.scene.times[-1])
        trained = " ".join(str(view) for view in self.pair.original.views_to_train())
        edit = replace(
            self.plan.edit,
            prompt=self.prompt,
            originals="rendered",
            views=self.plan.edit.views or trained,
        )
        for _ in range(self.plan.repeats):
            for count in MOMENTS:
                cut = self.scene.with_(times=torch.linspace(first, last, count, dtype=torch.float64))
                with costing(self.backbone, self.device) as cost:
                    if self.backbone is not None:
                        views = m.result(edit_views.run(cut, self.backbone, edit))
                    else:
                        views = self.views()[0]
                    m.result(fit_edits.run(cut, views, self.plan.fit, None, self.device))
                if count not in best or cost.cpu_seconds < best[count].cpu_seconds:
                    best[count] = cost
        return {str(count): asdict(cost) for count, cost in best.items()}


def follow(stream: m.Stream, name: str) -> Any:
    """The value of a stream; progress goes to stderr."""
    value: Any = None
    for message in stream:
        if isinstance(message, m.Started):
            print(f"  {name}: {message.note}", file=sys.stderr)
        elif isinstance(message, m.Progress) and message.done % 200 == 0:
            print(f"  {name}: {message.done} {message.losses}", file=sys.stderr)
        elif isinstance(message, m.Finished):
            value = message.value
    return value


def run(benchmark: Benchmark, keep: Path | None = None) -> dict[str, Any]:
    """All variants, the timing by frame count and the peak memory, as plain JSON."""
    variants: dict[str, dict[str, Any]] = {}
    peak = 0.0
    for name, make in benchmark.variants().items():
        row = kept(benchmark, name, keep)
        if row is None:
            scene, cost = make()
            numbers = benchmark.measure(scene)
            row = {
                **{key: round(value, 4) for key, value in numbers.items()},
                "seconds": round(cost.seconds, 2),
                "cpu_seconds": round(cost.cpu_seconds, 2),
                "diffusion_calls": cost.diffusion_calls,
                "network_calls": cost.network_calls,
                "peak_mb": round(cost.peak_mb, 1),
            }
            if keep is not None:
                save_scene(scene.to("cpu"), keep / f"{name}.safetensors")
                sheet(benchmark, name, scene, keep)
                with write_atomically(keep / f"{name}.json") as partial:
                    partial.write_text(json.dumps({"key": benchmark.key, "row": row}))
        variants[name] = row
        if name != "every_image":
            peak = max(peak, row["peak_mb"])
        print(name, row, file=sys.stderr, flush=True)
    if "lookup_table" in benchmark.plan.variants:
        variants["lookup_table"] = benchmark.lookup_table()
        print("lookup_table", variants["lookup_table"], file=sys.stderr, flush=True)
    result: dict[str, Any] = {"variants": variants}
    if benchmark.plan.repeats:
        by_moments = benchmark.seconds_by_moments()
        result["seconds_by_moments"] = {n: round(c["seconds"], 3) for n, c in by_moments.items()}
        result["cpu_seconds_by_moments"] = {n: round(c["cpu_seconds"], 3) for n, c in by_moments.items()}
        result["calls_by_moments"] = {n: c["diffusion_calls"] for n, c in by_moments.items()}
    return {**result, "peak_mb": round(peak, 1)}


def kept(benchmark: Benchmark, name: str, folder: Path | None) -> dict[str, Any] | None:
    """The figures of an earlier run with the same settings; None if there are none."""
    file = None if folder is None else folder / f"{name}.json"
    if file is None or not file.is_file():
        return None
    found = json.loads(file.read_text())
    return found["row"] if found["key"] == benchmark.key else None


def sheet(benchmark: Benchmark, name: str, scene: Scene4D, folder: Path) -> None:
    """Contact sheets: rows of ground truth, scene, depth and error, and the edited views."""
    config = evaluate_scene.Config(views="all", every=max(1, len(scene.times) // 4), pictures=6)
    pictures = m.result(evaluate_scene.run(scene, benchmark.pair.edited, config, benchmark.device)).pictures
    tile = pictures.shape[2]  # in their own size
    rows = contact_sheets.sheet([[row] for row in pictures], columns=1, headers=demo.TRAINED, tile=tile)
    shown = {f"{name}.png": rows}
    for kind, (views, _) in benchmark._edited.items():
        shown[f"views_{kind}.png"] = contact_sheets.before_and_after(views.originals, views.images, ())
    for file, picture in shown.items():
        picture.save(folder / file)


def trained(pair: Pair, config: fit_scene.Config, device: str, file: Path | None) -> tuple[Scene4D, Cost]:
    """The scene trained on the original, loaded from `file` if it exists."""
    if file is not None and file.is_file():
        return load_scene(file), Cost()
    with costing(None, device) as cost:
        scene = follow(fit_scene.run(pair.original, config, device), "train")
    if file is not None:
        save_scene(scene, file)
    return scene, cost


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--data", help="folder with original, edited and instruction.txt")
    parser.add_argument("--edit", default="night", help="exact edit of the demo capture, without --data")
    parser.add_argument("--model", help="diffusers folder or .safetensors file (default: the bundled model)")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, fp16 or bf16")
    parser.add_argument("--exact", action="store_true", help="use the true images instead of a model's")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of everything, to check that it runs"
    )
    parser.add_argument("--device", default=choose_device())
    parser.add_argument("--scene", help="trained scene; created if it does not exist")
    parser.add_argument("--keep", help="folder for the edited scenes and their contact sheets")
    parser.add_argument(
        "--variants",
        default=",".join(VARIANTS),
        help=f"variants to run, separated by commas; also: {', '.join(EXTRA)}",
    )
    parser.add_argument("--every", type=int, default=1, help="measure every n-th frame")
    parser.add_argument("--repeats", type=int, default=2, help="timings by frame count; 0 skips them")
    parser.add_argument("--training-iterations", type=int, default=fit_scene.Config.iterations)
    parser.add_argument("--stage1-iterations", type=int, default=200, help="the paper: 1000")
    parser.add_argument("--stage1-color-rate", type=float, default=2e-2, help="the paper: 2.5e-3")
    parser.add_argument("--stage2-iterations", type=int, default=100, help="the paper: 800")
    parser.add_argument("--stage2-images", type=int, default=2, help="images per step; the paper uses 4")
    parser.add_argument("--stage2-color-rate", type=float, default=1e-2, help="the paper: 2.5e-3")
    parser.add_argument("--score-only-iterations", type=int, default=0, help="0: as many as stage 2")
    parser.add_argument(
        "--score-only-color-rate",
        type=float,
        default=5e-2,
        help="stage 2 alone carries the whole edit; 0: as in stage 2",
    )
    parser.add_argument("--preset", default="paper", choices=("paper", "reference code"))
    parser.add_argument("--refine-guidance-scale", type=float, default=0.0)
    parser.add_argument("--refine-image-guidance-scale", type=float, default=0.0)
    add_config(parser, LoadOptions, skip=("background",))
    skipped = ("prompt", "moments", "checkpoint_seconds", "preview_every", "force")
    add_config(parser, edit_views.Config, skip=skipped)
    arguments = parser.parse_args()
    try:
        report = report_of(arguments)
    except InputError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(f"error: {error}")
    print(json.dumps(report))


def plan_of(a: argparse.Namespace) -> Plan:
    unknown = set(a.variants.split(",")) - {*VARIANTS, *EXTRA}
    if unknown:
        raise InputError(
            "BEN-001",
            f"Variant {', '.join(sorted(unknown))} does not exist; choose from {', '.join((*VARIANTS, *EXTRA))}.",
        )
    quick = a.quick
    common = {"preset": a.preset, "preview_every": 0, "seed": a.seed, "rasterizer": a.rasterizer}
    return Plan(
        training=fit_scene.Config(
            iterations=60 if quick else a.training_iterations,
            preview_every=0,
            seed=a.seed,
            rasterizer=a.rasterizer,
        ),
        edit=config_from(a, edit_views.Config, preview_every=0, steps=a.steps or (2 if quick else 0)),
        fit=fit_edits.Config(
            iterations=20 if quick else a.stage1_iterations, color_lr=a.stage1_color_rate, **common
        ),
        refine=refine_score.Config(
            iterations=2 if quick else a.stage2_iterations,
            images_per_step=a.stage2_images,
            color_lr=a.stage2_color_rate,
            guidance_scale=a.refine_guidance_scale,
            image_guidance_scale=a.refine_image_guidance_scale,
            resolution=a.resolution,
            **common,
        ),
        score_only_iterations=2 if quick else a.score_only_iterations,
        score_only_color_rate=a.score_only_color_rate,
        image_moments="0 2 4" if quick else "all",
        every=max(a.every, 8) if quick else a.every,
        repeats=min(a.repeats, 1) if quick else a.repeats,
        variants=tuple(a.variants.split(",")),
    )


def report_of(a: argparse.Namespace) -> dict[str, Any]:
    pair = (
        load_pair(Path(a.data), config_from(a, LoadOptions, background="auto"))
        if a.data
        else demo_pair(a.edit)
    )
    plan = plan_of(a)
    backbone = None
    if not a.exact:
        from engine.diffusion.loading import embedded, load

        backbone = load(a.model or embedded(), a.device, a.dtype)
    keep = Path(a.keep) if a.keep else None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    scene, training = trained(pair, plan.training, a.device, Path(a.scene) if a.scene else None)
    result = run(Benchmark(pair, scene, backbone, plan, a.device), keep)
    return {
        "capture": pair.name,
        "instruction": pair.instruction,
        "model": "the truth itself" if backbone is None else backbone.name,
        **result,
        "views": len(scene.rig),
        "moments": len(scene.times),
        "gaussians": len(scene.canonical),
        "seconds_training": round(training.seconds, 1),
        "iterations": {
            "training": plan.training.iterations,
            "stage1": plan.fit.iterations,
            "stage2": plan.refine.iterations,
        },
        "env": environment(a.device, a.seed),
    }


if __name__ == "__main__":
    main()
