"""How well motion is generated from a video and a splat, against the exact ground truth of made subjects.

    python benchmarks/video_to_4d.py --json [--model FOLDER] [--clips N] [--seconds S] [--quick]

`vae_*` are short trainings of the variation-field VAE, of equal processor time, each with one more part of the paper:
`baseline` (static queries, image losses), `mesh_loss`, `motion_queries`, `all_attributes` (colors and opacities too). `_ablation`
is the PSNR on unseen toys, `_position_error` the mean distance from the true positions (in units of a box of side 1), `_looks`
the PSNR on clips in which a part glows or fades, `vae_still` the PSNR of the canonical splat.

The other figures are of the bundled model (or `--model`): `vae_bundled` and `vae_held_out_family` through its VAE,
`generated` from videos of unseen subjects of the trained families, `generated_held_out_family` of the robot, which no training
saw. `psnr_no_motion` is the canonical splat, `psnr_vae` the ceiling, `psnr_wrong_video` with another clip's video. Of the
first clips (`--fits`), `psnr_of_fitted_clips` is as generated, `psnr_fitted` then fitted to the video, `psnr_fit` fitted from
no motion; `psnr_video_*` are the same from the video's own camera. `long` compares the jerk of a 40-frame video at the joints
of its windows with that inside of them. `steps` holds the PSNR by sampling steps. `positional_prior` and `projected_features`
are short trainings of the transformer with and without them.

PSNR is over three views around the subject (not the video's) and all frames but the first. Training data and families:
training/variation_field/README.md. Human, dog and robot need GS4D_FIGURES and GS4D_ROBOT; their figures are left out
without them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from engine.diffusion import windows
from engine.diffusion.dpm_solver import multistep
from engine.models.variation_field import Conditions, VariationDit, VariationVaeShape, guided
from training.common.loop import LoopConfig
from training.variation_field import data, dit, evaluate, figures, fit, pictures, robot, vae
from training.variation_field.data import Clip, ClipShape, Pool
from training.variation_field.dit import DitTraining, Latents, Prepared
from training.variation_field.export import loaded
from training.variation_field.losses import VaeWeights

MODEL = Path(__file__).resolve().parents[1] / "assets" / "models" / "tiny-variation-field"
# what needs no files
TOYS = {"limbed": 3, "bending": 1}
# of the short trainings
SMALL = ClipShape(frames=16, points=256, gaussians=1024)
POOL = 400
# of the fit to the video, as in gvf_diffusion.json
FIT_STEPS = 40
# of the fit from no motion, which has farther to go
LONG_FIT = 120
# frames of a video of several windows
LONG = 40


def ablation(seconds: float, clips: list[Clip], looks: list[Clip]) -> dict[str, dict[str, float]]:
    """Four trainings of the VAE of equal time."""
    images = VaeWeights(mesh=0.0, kl=1e-5)
    mesh = replace(images, mesh=1.0)
    shape = replace(vae.SHAPE, appearance_input=False)
    variants: dict[str, tuple[VariationVaeShape, VaeWeights, bool]] = {
        "baseline": (replace(shape, motion_queries=False), images, False),
        "mesh_loss": (replace(shape, motion_queries=False), mesh, False),
        "motion_queries": (shape, mesh, False),
        "all_attributes": (vae.SHAPE, mesh, True),
    }
    pool = Pool(POOL, TOYS, SMALL)
    result: dict[str, dict[str, float]] = {}
    for name, (form, weights, attributes) in variants.items():
        config = vae.VaeTraining(weights, attributes, batch=6, frames=3, images=12, image_steps=1.0)
        # how long a step takes, with clips that are made already
        for i in range(POOL if not result else 0):
            pool[i]
        trial = LoopConfig(steps=4)
        start = time.process_time()
        vae.train_vae(vae.new_vae(form), pool, config, trial)
        steps = max(4, round(4 * seconds / (time.process_time() - start)))
        model, start = vae.new_vae(form), time.process_time()
        vae.train_vae(model, pool, config, LoopConfig(steps, average=0.99))
        spent = time.process_time() - start

        def decode(latents: Any, vectors: Any, model: Any = model, attributes: bool = attributes) -> Any:
            return vae.decoded(model, latents, vectors, attributes)

        found = evaluate.evaluate_vae(model, clips, decode)
        found["looks"] = evaluate.evaluate_vae(model, looks, decode)["psnr"] if looks else float("nan")
        result[name] = {**found, "steps": steps, "seconds": round(spent, 1)}
        print(name, result[name], file=sys.stderr, flush=True)
    return result


def switches(seconds: float, latents: Latents, clips: list[Prepared]) -> dict[str, dict[str, float]]:
    """Three trainings of the transformer of equal time."""
    shapes = {
        "with": dit.SHAPE,
        "prior": replace(dit.SHAPE, positional_prior=False),
        "projected": replace(dit.SHAPE, projected_channels=0),
    }
    for i in range(latents.pool.size):
        latents[i]
    found: dict[str, float] = {}
    config = DitTraining()
    for name, shape in shapes.items():
        start = time.process_time()
        dit.train_dit(dit.new_generator(shape), latents, config, LoopConfig(3))
        steps = max(3, round(3 * seconds / (time.process_time() - start)))
        network = dit.new_generator(shape)
        dit.train_dit(network, latents, config, LoopConfig(steps, 1.5e-3, average=0.99))
        scores = evaluate.evaluate_generated(network.eval(), latents, clips, steps=(1,))
        found[name] = scores["psnr_1_steps"]
        print(name, steps, scores, file=sys.stderr, flush=True)
    return {
        "positional_prior": {"with": found["with"], "without": found["prior"]},
        "projected_features": {"with": found["with"], "without": found["projected"]},
    }


def generated(network: dit.Generator, latents: Latents, clips: list[Prepared], fits: int) -> dict[str, Any]:
    """Figures of generated motion; the first `fits` clips are also fitted."""
    scores = evaluate.evaluate_generated(network, latents, clips)
    steps = {str(n): scores[f"psnr_{n}_steps"] for n in evaluate.STEPS}
    best = max(evaluate.STEPS, key=lambda n: steps[str(n)])
    result: dict[str, Any] = {
        "psnr": steps[str(best)],
        "psnr_no_motion": scores["psnr_still"],
        "psnr_vae": scores["psnr_vae"],
        "psnr_wrong_video": scores["psnr_wrong_video"],
        "below_vae": round(scores["psnr_vae"] - steps[str(best)], 3),
        "position_error": scores[f"position_error_{best}_steps"],
        "position_error_no_motion": scores["position_error_still"],
        "best_steps": best,
        "steps": steps,
        "clips": len(clips),
    }
    start = time.perf_counter()
    for clip in clips:
        latent = dit.sampled(network, latents.statistics, clip, best)
        with torch.no_grad():
            latents.vae.decode(latent[None], clip.clip.vector[None])
    result["seconds"] = round((time.perf_counter() - start) / len(clips), 3)
    if fits:
        found = [fit_figures(network, latents, clip, best) for clip in clips[:fits]]
        result |= {key: round(sum(f[key] for f in found) / len(found), 4) for key in found[0]}
    return result


def fit_figures(network: dit.Generator, latents: Latents, clip: Prepared, steps: int) -> dict[str, float]:
    """A clip as generated, fitted to the video from there, and from no motion; `video`: from the video's own camera."""
    made = dit.sampled(network, latents.statistics, clip, steps)
    found: dict[str, float] = {}
    starts = {
        "of_fitted_clips": (made, 0),
        "fitted": (made, FIT_STEPS),
        "fit": (fit.still(latents, clip), LONG_FIT),
    }
    for name, (start, count) in starts.items():
        begin = time.perf_counter()
        result = fit.fitted(latents, clip, start, count) if count else start
        spent = time.perf_counter() - begin
        with torch.no_grad():
            deltas = latents.vae.decode(result[None], clip.clip.vector[None])[0]
        found[f"psnr_{name}"] = evaluate.rendered_psnr(clip.clip, deltas)
        found[f"psnr_video_{name}"] = evaluate.rendered_psnr(clip.clip, deltas, (0,))
        found[f"position_error_{name}"] = evaluate.position_error(clip.clip, deltas)
        if count:
            found[f"seconds_{name}"] = spent
    return found


def long_video(network: dit.Generator, latents: Latents, steps: int, clips: int = 3) -> dict[str, float]:
    """Jerk (third difference of positions per frame) of a video of several windows, at their joints and elsewhere."""
    plan = windows.plan(LONG, ClipShape().frames, ClipShape().frames // 2 - 1)
    joints = torch.tensor(windows.joints(plan))
    # the third difference at i looks at frames i to i + 3
    at_joint = ((torch.arange(LONG - 3)[:, None] - joints).abs() <= 3).any(dim=1)
    sums: dict[str, list[float]] = {
        "jerk_joint": [],
        "jerk_inside": [],
        "jerk_true_joint": [],
        "jerk_true_inside": [],
    }
    for i in range(clips):
        clip = latents.prepared(data.make_clip("limbed", data.HELD_OUT_SEED + i, ClipShape(frames=LONG)))
        with torch.no_grad():
            predictors = [
                guided(network.dit, network.conditions([clip], w.frames[None], pictures.INPUT.cameras()))
                for w in plan
            ]
            size = clip.latents.shape[1:]
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(1, 1 if steps == 1 else LONG, *size, generator=generator)
            noise = noise.expand(1, LONG, *size)
            *_, last = multistep(windows.blended(predictors, plan), noise, dit.SCHEDULE, steps)
            found = latents.statistics.latents(last.latents)
            deltas = latents.vae.decode(found, clip.clip.vector[None])[0]
        for name, moved in (("jerk", deltas), ("jerk_true", clip.clip.deltas.float())):
            jerk = moved[..., :3].diff(n=3, dim=0).norm(dim=-1).mean(dim=-1)
            sums[f"{name}_joint"].append(float(jerk[at_joint].mean()))
            sums[f"{name}_inside"].append(float(jerk[~at_joint].mean()))
    return {name: round(sum(v) / len(v), 5) for name, v in sums.items()}


def full_size(device: str) -> dict[str, float] | None:
    """Time and memory of one call of the published transformer, 24 frames of 512 anchors; None without a GPU."""
    if not device.startswith("cuda"):
        return None
    network = VariationDit().to(device).eval()
    network.cast_torso(torch.float16)
    with torch.no_grad():
        conditions = Conditions(
            torch.randn(1, 24, 1370, 1024, device=device),
            torch.randn(1, 4096, 14, device=device),
            torch.rand(1, 512, 3, device=device) - 0.5,
        )
        x, t = torch.randn(1, 24, 512, 16, device=device), torch.tensor([500.0], device=device)
        network(x, t, conditions)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        network(x, t, conditions)
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {"call_ms": round(1000 * seconds, 1), "peak_mb": torch.cuda.max_memory_allocated() // 2**20}


def available() -> list[str]:
    """Trained families whose files are there."""
    place = figures.folder()
    absent = {
        name for name, part in (("human", figures.HUMAN), ("dog", figures.DOG)) if not (place / part).is_dir()
    }
    return [name for name in data.FAMILIES if name not in absent]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--clips", type=int, default=12, help="unseen clips, over all families")
    parser.add_argument("--fits", type=int, default=4, help="clips that are also fitted")
    parser.add_argument("--seconds", type=float, default=110.0, help="processor time of each short training")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes, to see that it runs"
    )
    parser.add_argument("--only", choices=["vae", "model", "switches"], help="one part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds, count = (2.0, 2) if options.quick else (options.seconds, options.clips)
    if options.quick:
        global POOL
        POOL = 6
    result: dict[str, Any] = {}
    if options.only in (None, "vae"):
        clips = data.held_out("limbed", count, SMALL)
        looks = [c for c in data.held_out("limbed", 40, SMALL)[count:] if c.looks_change][:count]
        found = ablation(seconds, clips, looks)
        for key, name in (("ablation", "psnr"), ("position_error", "position_error"), ("looks", "looks")):
            result[f"vae_{key}"] = {variant: values[name] for variant, values in found.items()}
        result["vae_still"] = found["baseline"]["psnr_still"]
        result["vae_seconds"] = {variant: values["seconds"] for variant, values in found.items()}
    has_model = (options.model / "gs4d.json").is_file()
    if not has_model:
        result["model"] = f"{options.model.name} is not there: figures of the bundled model are left out"
    if has_model and options.only != "vae":
        network, latents = loaded(options.model, Pool(POOL, dict.fromkeys(available(), 1)))
        names = available()
        unseen = [data.make_clip(names[i % len(names)], data.HELD_OUT_SEED + i) for i in range(count)]
        prepared = [latents.prepared(c) for c in unseen]
        has_robot = robot.file().is_file()
        foreign = data.held_out("robot", 3 if options.quick else 14) if has_robot else []
        if options.only in (None, "model"):
            result["families"] = names
            result["vae_bundled"] = evaluate.evaluate_vae(latents.vae, unseen)
            fits = 0 if options.quick else options.fits
            result["generated"] = generated(network, latents, prepared, fits)
            result["long"] = long_video(network, latents, result["generated"]["best_steps"])
            if foreign:
                result["vae_held_out_family"] = evaluate.evaluate_vae(latents.vae, foreign)
                strangers = [latents.prepared(c) for c in foreign]
                result["generated_held_out_family"] = generated(network, latents, strangers, fits)
        if options.only in (None, "switches"):
            result |= switches(seconds, latents, prepared)
    result["full_size"] = full_size("cuda" if torch.cuda.is_available() else "cpu")
    result["reasons"] = {} if result["full_size"] else {"full_size": "no GPU"}
    result["env"] = environment("cpu", 0)
    print(json.dumps(result, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
