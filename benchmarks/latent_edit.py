"""How well a latent field represents a scene, and how well delta denoising edits it, against the exact ground truth.

    python benchmarks/latent_edit.py --json [--edit gold | --data DIR] [--model FOLDER|FILE] [--scene FILE] [--quick]
    python benchmarks/latent_edit.py --json --full-size      times and memory of a full-size model, on a GPU

`--data` is that of benchmarks/edit.py. A scene is trained on the original (`--scene` keeps it), and a latent field on the
scene. On views not used in training, `latent_psnr_*` compares its latents with the autoencoder's (the peak is the range
of the true latents, `latent_peak`), and `decoded_psnr_*` the decoded images with the captured ones
(`decoded_psnr_ceiling`: the captured images, encoded and decoded). `_raw` is the rendered field, `_refined` the field
with its refinement layer, `_alone` another field that was trained without one.

Then the field is edited by delta denoising (dds) and by score distillation (sds), each with and without a mask, and
transferred back to colors. There are two kinds of prompts: `variants` uses captions, as for a text-to-image model (as in the
paper); `variants_seeing_originals` uses instructions and the original images, as for an InstructPix2Pix. If an edit has
no caption that the bundled model knows, only the second kind is run, unless --prompt and --source-prompt give
captions.

`psnr` is over all views and every `--every`-th frame, against the ground truth: without a mask the true edit; with a mask
the true edit where the selected Gaussians are visible and the original elsewhere. The mask selects the lower half of the
scene's Gaussians. `outside_change` is the mean absolute change (of 255) of the edited scene's images outside that half,
where the scene is visible, against the unedited scene; `spill` that of the decoded views in empty space. `seconds` covers
editing, decoding and refitting colors.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Cost, Counting, costing
from benchmarks.edit import follow, trained
from benchmarks.edit_data import Pair, demo_pair, load_pair
from benchmarks.environment import environment
from engine import messages as m
from engine.capture.readers import LoadOptions
from engine.cli import add_config, config_from
from engine.errors import InputError
from engine.io.scene_file import save_scene
from engine.latent import FieldRenderer, LatentField
from engine.latent.files import load_field, save_field
from engine.masks.lift import render_selection
from engine.render import choose, choose_device, render_gaussians
from engine.scene import Frame, MultiViewVideo, Scene4D, Selection
from engine.scene.video import FrameSource
from engine.steps import (
    decode_latents,
    delta_edit,
    evaluate_scene,
    fit_scene,
    latents_to_scene,
    train_latents,
)
from engine.train.latent_training_config import REFINERS
from engine.train.originals import Originals

METHODS = {
    "dds": ("dds", False),
    "masked_dds": ("dds", True),
    "sds": ("sds", False),
    "masked_sds": ("sds", True),
}
KEEP = "leave it as it is"


@dataclass(frozen=True)
class Way:
    """One kind of prompts, with matching settings."""

    prompt: str
    source_prompt: str
    looks_at: str
    tuned: dict[str, Any] = field(default_factory=dict)  # settings of the step that suit the model


@dataclass(frozen=True)
class Plan:
    """The settings of one benchmark run."""

    training: fit_scene.Config
    latents: train_latents.Config
    edit: delta_edit.Config  # prompts and method come from the variant
    back: latents_to_scene.Config
    every: int = 5  # frames measured


class Benchmark:
    """One pair and one model; intermediate results are computed once."""

    def __init__(
        self,
        pair: Pair,
        scene: Scene4D,
        backbone: Any,
        plan: Plan,
        ways: dict[str, Way],
        device: str,
        file: Path | None = None,  # of the trained field; created if it does not exist
    ) -> None:
        self.file = file
        self.plan, self.ways, self.device = plan, ways, device
        self.scene = scene.to(device)
        self.backbone: Any = Counting(backbone)
        self.pair = replace(pair, original=_with_held_out(pair.original))
        self.rasterizer = choose("auto", device)
        self.selection = lower_half(scene)
        self.cost = Cost()  # of the field

    @cached_property
    def field(self) -> LatentField:
        if self.file is not None and self.file.is_file():
            return load_field(self.file).to(self.device)
        with costing(self.backbone, self.device) as cost:
            made = self._field(self.plan.latents)
        self.cost = cost
        if self.file is not None:
            save_field(made.to("cpu"), self.file)
        return made

    def _field(self, config: train_latents.Config) -> LatentField:
        stream = train_latents.run(self.scene, self.backbone, config, self.pair.original, self.device)
        return follow(stream, "latents")

    @property
    def moments(self) -> range:
        return range(0, len(self.scene.times), self.plan.every)

    def reconstruction(self) -> dict[str, float]:
        """PSNR of latents and of their decoded images, on views that the field was not trained on."""
        alone = self._field(replace(self.plan.latents, refiner="none"))
        with torch.no_grad():
            return self._reconstruction(alone)

    def _reconstruction(self, alone: LatentField) -> dict[str, float]:
        ways = {"raw": (self.field, False), "refined": (self.field, True), "alone": (alone, False)}
        pictures = Originals(self.scene, self.rasterizer, self.field.size, self.pair.original)
        held = [v for v in range(len(self.scene.rig)) if v not in self.pair.original.views_to_train()]
        errors: dict[str, list[float]] = {name: [] for name in ways}
        decoded: dict[str, list[float]] = {name: [] for name in (*ways, "ceiling")}
        low, high = math.inf, -math.inf
        renderers = {name: FieldRenderer(made, self.rasterizer) for name, (made, _) in ways.items()}
        for moment in self.moments:
            for view in held:
                if not bool(self.pair.original.available[view, moment]):
                    continue
                picture = pictures.get(view, moment)[0].to(self.device)
                truth = self.backbone.encode(picture[None])
                low, high = min(low, float(truth.min())), max(high, float(truth.max()))
                found = {"ceiling": truth}
                for name, (_, refined) in ways.items():
                    seconds = float(self.scene.times[moment])
                    found[name] = renderers[name].latents([view], seconds, refined)[0].to(truth)
                    errors[name].append(float((found[name] - truth).square().mean()))
                for name, latents in found.items():
                    seen = self.backbone.decode(latents)[0].clamp(0, 1).to(picture)
                    decoded[name].append(-10 * math.log10(float((seen - picture).square().mean())))
        peak = high - low
        result = {f"latent_psnr_{n}": 10 * math.log10(peak**2 / mean(e)) for n, e in errors.items()}
        result |= {f"decoded_psnr_{n}": mean(values) for n, values in decoded.items()}
        return {**result, "latent_peak": peak}

    def variant(self, way: Way, method: str, masked: bool) -> tuple[LatentField, Scene4D, Cost]:
        """The edited field, the resulting scene, and the cost of both."""
        config = replace(
            self.plan.edit,
            **way.tuned,
            prompt=way.prompt,
            source_prompt=way.source_prompt,
            looks_at=way.looks_at,
            method=method,
            # unknown prompts are measured too
            force=True,
        )
        chosen = self.selection if masked else None
        start = self.field
        with costing(self.backbone, self.device) as cost:
            edited = follow(delta_edit.run(start, self.backbone, config, chosen, None, self.device), "edit")
            stream = latents_to_scene.run(edited, self.backbone, self.plan.back, chosen, self.device)
            scene = follow(stream, "fit")
        return edited, scene, cost

    def measure(self, edited: LatentField | None, scene: Scene4D, masked: bool) -> dict[str, float]:
        truth = self.pair.edited
        if masked:
            source = PartlyEdited(self.pair, self.scene, self.selection, self.rasterizer)
            truth = replace(truth, source=source)
        config = evaluate_scene.Config(views="all", every=self.plan.every, pictures=0)
        found = m.result(evaluate_scene.run(scene, truth, config, self.device)).summary
        result = {key: float(found[key]) for key in ("psnr", "ssim")}
        result["outside_change"] = self.outside_change(scene)
        if edited is not None:
            result["spill"] = self.spill(edited)
        return result

    @torch.no_grad()
    def outside_change(self, scene: Scene4D) -> float:
        """Mean absolute difference (of 255) outside the selection, where the unedited scene is visible."""
        changed, pixels = 0.0, 0
        for moment in self.moments:
            gaussians = scene.at(float(self.scene.times[moment]))
            for view in range(len(self.scene.rig)):
                was, outside = self._beside[view, moment]
                camera = self.scene.rig[view]
                now = render_gaussians(gaussians, camera, self.rasterizer, self.scene.background).rgb[0]
                changed += float((now.clamp(0, 1) - was).abs().mean(-1)[outside].sum())
                pixels += int(outside.sum())
        return 255 * changed / max(pixels, 1)

    @cached_property
    def _beside(self) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """The unedited scene's images [H, W, 3] and where they show unselected Gaussians [H, W]."""
        result: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        for moment in self.moments:
            seconds = float(self.scene.times[moment])
            gaussians = self.scene.at(seconds)
            for view in range(len(self.scene.rig)):
                camera = self.scene.rig[view]
                was = render_gaussians(gaussians, camera, self.rasterizer, self.scene.background)
                selected = render_selection(self.scene, self.selection, camera, [seconds], self.rasterizer)
                result[view, moment] = was.rgb[0].clamp(0, 1), ((selected < 0.01) & (was.alpha > 0.5))[0]
        return result

    @torch.no_grad()
    def spill(self, edited: LatentField) -> float:
        """Mean absolute difference (of 255) of decoded views in empty space."""
        renderer, changed, pixels = FieldRenderer(edited, self.rasterizer), 0.0, 0
        for (view, moment), (was, empty) in self._empty.items():
            now = self._decoded(renderer, view, moment)
            changed += float((now - was).abs().mean(-1)[empty].sum())
            pixels += int(empty.sum())
        return 255 * changed / max(pixels, 1)

    @cached_property
    def _empty(self) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
        """Decoded views of the unedited field [h, w, 3] and where they are empty [h, w]."""
        renderer = FieldRenderer(self.field, self.rasterizer)
        pictures = Originals(self.scene, self.rasterizer, self.field.size)
        return {
            (view, moment): (self._decoded(renderer, view, moment), pictures.get(view, moment)[1] == 0)
            for moment in self.moments[::2]
            for view in range(0, len(self.scene.rig), 3)
        }

    def _decoded(self, renderer: FieldRenderer, view: int, moment: int) -> Tensor:
        latents = renderer.latents([view], float(self.scene.times[moment]))[0]
        return self.backbone.decode(latents)[0].clamp(0, 1).cpu()


@dataclass(frozen=True, eq=False)
class PartlyEdited:
    """A frame source: the true edit where the selected Gaussians are visible, the original elsewhere."""

    pair: Pair
    scene: Scene4D
    selection: Selection
    rasterizer: Any

    def read(self, view: int, moment: int) -> Frame:
        before, after = (
            self.pair.original.source.read(view, moment),
            self.pair.edited.source.read(view, moment),
        )
        height, width = before.image.shape[:2]
        camera = self.scene.rig[view].resized(((width, height),))
        seconds = [float(self.scene.times[moment])]
        mask = render_selection(self.scene, self.selection, camera, seconds, self.rasterizer)[0].cpu()[
            ..., None
        ]
        blend = torch.lerp(before.image.float(), after.image.float(), mask)
        return Frame(blend.round().clamp(0, 255).to(before.image.dtype), before.mask)

    def fingerprint(self) -> str:
        return f"partly {self.pair.edited.source.fingerprint()}"


def lower_half(scene: Scene4D) -> Selection:
    """Weight 1 for the Gaussians below the median, with up as seen by the cameras; 0 for the others."""
    down = scene.rig.world_to_camera[:, 1, :3].mean(dim=0)
    depth = scene.canonical.means.detach().cpu().double() @ down.double()
    return Selection((depth > depth.median()).float())


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def run(
    benchmark: Benchmark, keep: Path | None = None, chosen: tuple[str, ...] = tuple(METHODS)
) -> dict[str, Any]:
    """All figures, as plain JSON."""
    field_made = benchmark.field
    cost, peak = benchmark.cost, benchmark.cost.peak_mb
    result: dict[str, Any] = {key: round(v, 3) for key, v in benchmark.reconstruction().items()}
    print(result, file=sys.stderr)
    result["refinement_gain_db"] = round(result["latent_psnr_refined"] - result["latent_psnr_raw"], 3)
    result["unedited"] = {
        f"psnr{name}": round(benchmark.measure(None, benchmark.scene, masked)["psnr"], 3)
        for name, masked in (("", False), ("_masked", True))
    }
    for group, way in benchmark.ways.items():
        rows: dict[str, Any] = {}
        for name in chosen:
            method, masked = METHODS[name]
            edited, scene, spent = benchmark.variant(way, method, masked)
            rows[name] = {k: round(v, 3) for k, v in benchmark.measure(edited, scene, masked).items()}
            rows[name] |= {"seconds": round(spent.seconds, 2), "cpu_seconds": round(spent.cpu_seconds, 2)}
            rows[name] |= {"network_calls": spent.network_calls, "peak_mb": round(spent.peak_mb, 1)}
            peak = max(peak, spent.peak_mb)
            print(group, name, rows[name], file=sys.stderr)
            if keep is not None:
                save_scene(scene.to("cpu"), keep / f"{group}_{name}.safetensors")
                sheet(benchmark, edited, scene, masked, keep / f"{group}_{name}.png")
        result[group] = rows
        result[f"goals_of_{group}"] = goals(rows)
    return {
        **result,
        "field": {"size": list(field_made.size), "channels": field_made.vae.channels},
        "seconds_train": round(cost.seconds, 2),
        "cpu_seconds_train": round(cost.cpu_seconds, 2),
        "peak_mb": round(peak, 1),
    }


def goals(rows: dict[str, Any]) -> dict[str, Any]:
    """The goals as numbers: how many dB dds is ahead, and the ratios of changes outside."""
    result: dict[str, Any] = {}
    for kind in ("", "masked_"):
        if f"{kind}dds" in rows and f"{kind}sds" in rows:
            ours, theirs = rows[f"{kind}dds"], rows[f"{kind}sds"]
            result[f"{kind}dds_ahead_db"] = round(ours["psnr"] - theirs["psnr"], 3)
            for key in ("outside_change", "spill"):
                result[f"{kind}{key}_dds_to_sds"] = ratio(ours[key], theirs[key])
    for method in ("dds", "sds"):
        if method in rows and f"masked_{method}" in rows:
            for key in ("outside_change", "spill"):
                result[f"{key}_masked_to_unmasked_{method}"] = ratio(
                    rows[f"masked_{method}"][key], rows[method][key]
                )
    return result


def ratio(a: float, b: float) -> float | None:
    return round(a / b, 4) if b else None


@torch.no_grad()
def sheet(benchmark: Benchmark, edited: LatentField, scene: Scene4D, masked: bool, file: Path) -> None:
    """Columns: three views at two frames. Rows: original, ground truth, decoded field, scene."""
    from PIL import Image

    source: FrameSource = benchmark.pair.edited.source
    if masked:
        source = PartlyEdited(benchmark.pair, benchmark.scene, benchmark.selection, benchmark.rasterizer)
    truth = replace(benchmark.pair.edited, source=source)
    last = len(benchmark.scene.times) // 2
    moments, views = (0, last), tuple(range(0, len(benchmark.scene.rig), 5))[:3]
    size, rasterizer = edited.size, benchmark.rasterizer
    config = decode_latents.Config(views=" ".join(map(str, views)), moments=f"0 {last}", detail="as decoded")
    seen = m.result(
        decode_latents.run(
            edited, benchmark.backbone, replace(config, background="as decoded"), None, benchmark.device
        )
    )
    rows: list[Tensor] = []
    for now, video in ((scene, benchmark.pair.original), (scene, truth), (None, None), (scene, None)):
        if now is None:
            rows.append(torch.cat(list(seen.images), dim=1))
            continue
        drawn = Originals(now, rasterizer, size, video)
        rows.append(torch.cat([drawn.get(view, moment)[0] for moment in moments for view in views], dim=1))
    Image.fromarray((torch.cat(rows).clamp(0, 1) * 255).byte().numpy()).save(file)


def ways_of(
    edit: str | None, instruction: str, subject: str, a: argparse.Namespace | None = None
) -> dict[str, Way]:
    """The kinds of prompts to run; captions only if they are known."""
    from training.tiny_editor.edits import CAPTION_EDITS, PHRASINGS

    seeing = Way(instruction, KEEP, "auto", TUNED["instructions"])
    name = edit or next((n for n, known in PHRASINGS.items() if instruction in known), None)
    if a is not None and a.prompt and a.source_prompt:
        captions = Way(a.prompt, a.source_prompt, "nothing", TUNED["captions"])
    elif name in CAPTION_EDITS:
        captions = Way(CAPTION_EDITS[name].format(subject), subject, "nothing", TUNED["captions"])
    else:
        return {"variants": seeing}
    return {"variants": captions, "variants_seeing_originals": seeing}


NOISY = {
    "weighting": "picture",
    "min_timestep": 0.6,
    "max_timestep": 1.0,
    "feature_lr": 0.1,
}  # what the model knows
CAPTIONS = {**NOISY, "guidance_scale": 1.5}
INSTRUCTIONS = {**NOISY, "guidance_scale": 1.4, "image_guidance_scale": 1.0}
TUNED: dict[str, dict[str, Any]] = {  # settings for the bundled model, the same for both methods
    "captions": CAPTIONS,
    "instructions": INSTRUCTIONS,
}


def _with_held_out(video: MultiViewVideo) -> MultiViewVideo:
    """If no view is held out, the middle one is."""
    if len(video.views_to_train()) < video.views or video.views < 2:
        return video
    return replace(video, test_views=(video.views // 2,))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--data", help="folder with original, edited and instruction.txt")
    parser.add_argument("--edit", default="gold", help="exact edit of the demo capture, without --data")
    parser.add_argument("--subject", default="a person walking", help="name of the subject in captions")
    parser.add_argument("--prompt", default="", help="caption of the edited subject, instead of a known one")
    parser.add_argument("--source-prompt", default="", help="caption of the subject as it is")
    parser.add_argument("--model", help="diffusers folder or .safetensors file (default: the bundled model)")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, fp16 or bf16")
    parser.add_argument("--device", default=choose_device())
    parser.add_argument("--scene", help="trained scene; created if it does not exist")
    parser.add_argument("--field", help="trained latent field; created if it does not exist")
    parser.add_argument("--keep", help="folder for the edited scenes and their contact sheets")
    parser.add_argument("--variants", default=",".join(METHODS), help="variants to run, separated by commas")
    parser.add_argument(
        "--ways", default="", help="variants, variants_seeing_originals: kinds to run, separated by commas"
    )
    parser.add_argument("--every", type=int, default=5, help="measure every n-th frame")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of everything, to check that it runs"
    )
    parser.add_argument("--training-iterations", type=int, default=fit_scene.Config.iterations)
    parser.add_argument("--latent-iterations", type=int, default=train_latents.Config.iterations)
    parser.add_argument("--edit-iterations", type=int, default=delta_edit.Config.iterations)
    parser.add_argument("--fit-iterations", type=int, default=latents_to_scene.Config.iterations)
    parser.add_argument("--refiner", default="auto", choices=REFINERS)
    parser.add_argument("--resolution", type=int, default=0, help="0 = the model's default")
    parser.add_argument("--seed", type=int, default=0)
    add_config(parser, LoadOptions, skip=("background", "resolution"))
    parser.add_argument("--full-size", action="store_true", help="times only, with 860 M random weights")
    parser.add_argument("--brief", action="store_true", help="--full-size with few steps")
    parser.add_argument("--shrink", type=float, default=1.0, help="shrinks --full-size (0.02 on a CPU)")
    arguments = parser.parse_args()
    if not 0 < arguments.shrink <= 1:
        parser.error("--shrink must be between 0 and 1")
    try:
        report = report_of(arguments)
    except InputError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(f"error: {error}")
    print(json.dumps(report))


def plan_of(a: argparse.Namespace) -> Plan:
    quick = a.quick
    common: dict[str, Any] = {"preview_every": 0, "seed": a.seed}
    return Plan(
        training=fit_scene.Config(iterations=60 if quick else a.training_iterations, **common),
        latents=train_latents.Config(
            iterations=6 if quick else a.latent_iterations,
            refiner=a.refiner,
            resolution=a.resolution,
            **common,
        ),
        edit=delta_edit.Config(iterations=2 if quick else a.edit_iterations, **common),
        back=latents_to_scene.Config(iterations=6 if quick else a.fit_iterations, **common),
        every=max(a.every, 8) if quick else a.every,
    )


def report_of(a: argparse.Namespace) -> dict[str, Any]:
    if a.full_size:
        from benchmarks import latent_full_size

        dtype = torch.float16 if a.device.startswith("cuda") else torch.float32
        return latent_full_size.run(a.shrink, a.device, dtype, a.seed, a.brief)
    from engine.diffusion.loading import embedded, load

    names = tuple(a.variants.split(","))
    unknown = set(names) - set(METHODS)
    if unknown:
        raise InputError(
            "BEN-007",
            f"Variant {', '.join(sorted(unknown))} does not exist; choose from {', '.join(METHODS)}.",
        )
    pair = (
        load_pair(Path(a.data), config_from(a, LoadOptions, background="auto"))
        if a.data
        else demo_pair(a.edit)
    )
    plan = plan_of(a)
    ways = ways_of(None if a.data else a.edit, pair.instruction, a.subject, a)
    if a.ways:
        ways = {name: way for name, way in ways.items() if name in a.ways.split(",")}
    backbone = load(a.model or embedded(), a.device, a.dtype)
    if not backbone.has_image_conditioning:
        ways.pop("variants_seeing_originals", None)
    keep = Path(a.keep) if a.keep else None
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    scene, training = trained(pair, plan.training, a.device, Path(a.scene) if a.scene else None)
    file = Path(a.field) if a.field else None
    result = run(Benchmark(pair, scene, backbone, plan, ways, a.device, file), keep, names)
    return {
        "capture": pair.name,
        "instruction": pair.instruction,
        "prompts": {name: [way.source_prompt, way.prompt] for name, way in ways.items()},
        "model": backbone.name,
        **result,
        "views": len(scene.rig),
        "moments": len(scene.times),
        "gaussians": len(scene.canonical),
        "seconds_training_scene": round(training.seconds, 1),
        "iterations": {
            "latents": plan.latents.iterations,
            "edit": plan.edit.iterations,
            "fit": plan.back.iterations,
        },
        "env": environment(a.device, a.seed),
    }


if __name__ == "__main__":
    main()
