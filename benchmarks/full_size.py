"""Time and memory of an edit at the paper's full size: InstructPix2Pix with 860 M RANDOM weights.

    python benchmarks/full_size.py --json [--device cuda] [--dtype auto] [--scale 0.1] [--brief]

Speed does not depend on the values of the weights, so the results are noise; only times and memory are reported. The
paper's sizes (Instruct-4DGS, Kwon et al., CVPR 2025): 20 views of 1352×1014 edited at 512×384 in 20 steps, 1000
fitting iterations, 800 iterations of score distillation on 4 images, about 100,000 Gaussians, a DyNeRF-sized motion
field over 300 frames. `key_views` is one episode of Edit3DGS: the 20 views of 8 frames, edited with random key views and
injection along epipolar lines (DGE). `--scale` shrinks all of these, for machines without a large GPU.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.cost import Cost, Counting, costing, peak_mb, reset_peak
from benchmarks.environment import environment
from engine import messages as m
from engine.deform import PRESETS, HexPlane, HexPlaneConfig
from engine.diffusion import DiscreteSchedule, ModelDefaults
from engine.diffusion.single_file import CONFIGS
from engine.diffusion.stable_diffusion import StableDiffusion
from engine.diffusion.tokenizer import clip_tokenizer
from engine.render import choose_device
from engine.scene import Cameras, Frame, Gaussians, MultiViewVideo, Scene4D, harmonics
from engine.scene.cameras import look_at
from engine.steps import edit_views, fit_edits, refine_score

PROMPT = "make it look like a fauvism painting"


@dataclass(frozen=True)
class Sizes:
    """The paper's settings; `shrunk` keeps the proportions."""

    views: int = 20
    moments: int = 300
    picture: tuple[int, int] = (1352, 1014)
    resolution: int = 512
    gaussians: int = 100_000
    steps: int = 20
    stage1: int = 1000
    stage2: int = 800
    images_per_step: int = 4
    frames_at_once: int = 7  # images edited together; bounds the memory of stage 1
    key_view_frames: int = 8  # frames of an episode with key views

    def shrunk(self, scale: float) -> Sizes:
        def least(value: int, low: int) -> int:
            return max(low, round(value * scale))

        return Sizes(
            views=least(self.views, 3),
            moments=least(self.moments, 3),
            picture=(least(self.picture[0], 48), least(self.picture[1], 36)),
            resolution=max(64, round(self.resolution * scale / 64) * 64),
            gaussians=least(self.gaussians, 200),
            steps=least(self.steps, 2),
            stage1=least(self.stage1, 2),
            stage2=least(self.stage2, 2),
            images_per_step=least(self.images_per_step, 2),
            frames_at_once=self.frames_at_once,
            key_view_frames=least(self.key_view_frames, 2),
        )

    def brief(self) -> Sizes:
        """The same sizes with fewer steps, whose times can be multiplied, and without the episode with key views."""
        return replace(self, stage1=min(self.stage1, 100), stage2=min(self.stage2, 10), key_view_frames=0)


def random_backbone(
    scale: float, device: str, dtype: torch.dtype, seed: int, resolution: int
) -> StableDiffusion:
    """InstructPix2Pix with the layers of Stable Diffusion 1.5 and RANDOM weights; `scale` narrows every layer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    def config(part: str) -> dict[str, Any]:
        return json.loads((CONFIGS / "sd1" / part / "config.json").read_text())

    def narrowed(widths: list[int], multiple: int) -> list[int]:
        return [max(multiple, round(w * scale / multiple) * multiple) for w in widths]

    unet, vae, text = config("unet"), config("vae"), config("text_encoder")
    (states,) = narrowed([text["hidden_size"]], 64)
    text |= {
        "hidden_size": states,
        "projection_dim": states,
        "intermediate_size": 4 * states,
        "num_attention_heads": states // 64,
        "num_hidden_layers": max(1, round(text["num_hidden_layers"] * scale)),
    }
    unet |= {"in_channels": 8, "cross_attention_dim": states}
    for part in (unet, vae):
        part["block_out_channels"] = narrowed(part["block_out_channels"], 32)
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(unet),
            "vae": AutoencoderKL.from_config(vae),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
        }
    scheduler = json.loads((CONFIGS / "sd1" / "scheduler" / "scheduler_config.json").read_text())
    return StableDiffusion(
        **parts,
        tokenizer=clip_tokenizer(),
        noise_schedule=DiscreteSchedule.from_config(scheduler),
        name="random weights of full size" if scale == 1 else f"random weights, layers × {scale:g}",
        fingerprint=f"random-{seed}-{scale}",
        defaults=ModelDefaults(resolution=resolution),
        device=device,
        dtype=dtype,
    )


@dataclass(frozen=True, eq=False)
class RandomFrames:
    """One random image per view, the same in every frame; only reading and resizing matter."""

    pictures: tuple[torch.Tensor, ...]

    def read(self, view: int, moment: int) -> Frame:
        return Frame(self.pictures[view])

    def fingerprint(self) -> str:
        return f"random {len(self.pictures)}"


def random_scene(sizes: Sizes, seed: int) -> tuple[Scene4D, MultiViewVideo]:
    """Gaussians that fill the images, a motion field that moves them, and a capture of noise."""
    g = torch.Generator().manual_seed(seed)
    n, (width, height) = sizes.gaussians, sizes.picture
    sh = torch.zeros(n, harmonics.bases(3), 3)
    sh[:, 0] = harmonics.rgb_to_dc(torch.rand(n, 3, generator=g))
    gaussians = Gaussians(
        means=(torch.rand(n, 3, generator=g) * 2 - 1) * torch.tensor([1.6, 1.0, 1.2]),
        log_scales=torch.full((n, 3), math.log(1.2 * n ** (-1 / 3))) + 0.3 * torch.randn(n, 3, generator=g),
        quats=torch.randn(n, 4, generator=g),
        logit_opacities=torch.randn(n, generator=g),
        sh=sh,
    )
    poses = []
    for i in range(sizes.views):  # an arc in front, as DyNeRF's
        angle = math.radians(-30 + 60 * i / max(sizes.views - 1, 1))
        position = torch.tensor([4 * math.sin(angle), -4 * math.cos(angle), 0.3 * (i % 3 - 1)])
        poses.append(look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])))
    K = torch.tensor(
        [[1.4 * height, 0, width / 2], [0, 1.4 * height, height / 2], [0, 0, 1]], dtype=torch.float64
    )
    names = tuple(f"cam{i:02}" for i in range(sizes.views))
    rig = Cameras(torch.stack(poses), K.repeat(sizes.views, 1, 1), (sizes.picture,) * sizes.views, names)
    times = torch.linspace(0, 10, sizes.moments, dtype=torch.float64)
    settings = HexPlaneConfig.from_json({**PRESETS["dynerf"].to_json(), "time_range": [0.0, 10.0]})
    box = torch.tensor([[1.7] * 3, [-1.7] * 3])
    field = HexPlane.create(settings, box, g, zero_init=False)
    with torch.no_grad():  # moves, but stays finite
        for head in settings.heads:
            for tensor in field.head(head):
                tensor.mul_(0.05)
    bounds = torch.tensor([[-1.6, -1.0, -1.2], [1.6, 1.0, 1.2]], dtype=torch.float64)
    scene = Scene4D(gaussians, field, times, rig, bounds, torch.zeros(3))
    pictures = tuple(
        torch.randint(0, 256, (height, width, 3), generator=g, dtype=torch.uint8) for _ in range(sizes.views)
    )
    available = torch.ones(sizes.views, sizes.moments, dtype=torch.bool)
    video = MultiViewVideo("noise", rig, times, available, RandomFrames(pictures), torch.zeros(3))
    return scene, video


def finished(stream: m.Stream, what: str) -> Any:
    value: Any = None
    for message in stream:
        if isinstance(message, m.Started):
            print(f"  {what}: {message.note}", file=sys.stderr)
        if isinstance(message, m.Finished):
            value = message.value
    return value


def run(
    scale: float,
    device: str,
    dtype: torch.dtype,
    seed: int,
    frames_at_once: int | None = None,
    is_brief: bool = False,
) -> dict[str, Any]:
    """Times and memory of both stages, as plain JSON."""
    sizes = Sizes() if scale == 1 else Sizes().shrunk(scale)
    sizes = sizes.brief() if is_brief else sizes
    together = sizes.frames_at_once if frames_at_once is None else frames_at_once
    backbone = Counting(random_backbone(scale, device, dtype, seed, sizes.resolution))
    scene, video = random_scene(sizes, seed)
    scene = scene.to(device)
    reset_peak(device)
    idle = peak_mb(device)
    # kernels are selected and compiled at first use, which is not part of the measured time
    warm = edit_views.Config(prompt=PROMPT, steps=1, views="0 1", preview_every=0, seed=seed)
    with costing(backbone, device) as warming:
        views = finished(edit_views.run(scene, backbone, warm, video), "warm-up")
        finished(fit_edits.run(scene, views, fit_edits.Config(iterations=2), None, device), "warm-up")
        refining = refine_score.Config(
            prompt=PROMPT, iterations=1, images_per_step=sizes.images_per_step, preview_every=0, seed=seed
        )
        finished(refine_score.run(scene, backbone, refining, video, None, device), "warm-up")
    with costing(backbone, device) as editing:
        config = edit_views.Config(
            prompt=PROMPT, steps=sizes.steps, frames_at_once=together, preview_every=0, seed=seed
        )
        views = finished(edit_views.run(scene, backbone, config, video), "edit")
    with costing(backbone, device) as episode:
        frames = " ".join(map(str, range(sizes.key_view_frames)))
        config = replace(config, attention="epipolar", moments=frames, frames_at_once=0)
        if sizes.key_view_frames:
            finished(edit_views.run(scene, backbone, config, video), "key views")
    with costing(None, device) as fitting:
        config = fit_edits.Config(iterations=sizes.stage1, preview_every=0, seed=seed)
        fitted = finished(fit_edits.run(scene, views, config, None, device), "fit")
    with costing(backbone, device) as refine:
        config = refine_score.Config(
            prompt=PROMPT,
            iterations=sizes.stage2,
            images_per_step=sizes.images_per_step,
            preview_every=0,
            seed=seed,
        )
        finished(refine_score.run(fitted, backbone, config, video, None, device), "refine")
    return {
        "seconds": round(editing.seconds + fitting.seconds + refine.seconds, 2),
        "seconds_stage1": round(editing.seconds + fitting.seconds, 2),
        "seconds_stage2": round(refine.seconds, 2),
        "seconds_warm_up": round(warming.seconds, 2),
        "peak_mb": round(max(c.peak_mb for c in (editing, fitting, refine)), 1),
        "peak_mb_idle": round(idle, 1),
        "edit_views": numbers(editing),
        "key_views": {**numbers(episode), "images": sizes.views * sizes.key_view_frames},
        "fit_edits": numbers(fitting),
        "refine_score": numbers(refine),
        "unet_parameters": sum(p.numel() for p in backbone.unet.parameters()),
        "vae_parameters": sum(p.numel() for p in backbone.vae.parameters()),
        "text_parameters": sum(p.numel() for p in backbone.text_encoder.parameters()),
        "weights": "random",
        "dtype": str(dtype).removeprefix("torch."),
        "picture": list(views.size),
        "sizes": {**vars(sizes), "picture": list(sizes.picture), "frames_at_once": together},
        "scale": scale,
        "env": environment(device, seed),
    }


def numbers(cost: Cost) -> dict[str, float]:
    return {
        "seconds": round(cost.seconds, 2),
        "peak_mb": round(cost.peak_mb, 1),
        "diffusion_calls": cost.diffusion_calls,
        "network_calls": cost.network_calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="(always) the last line is one JSON object")
    parser.add_argument("--device", default=choose_device())
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="shrinks model, scene and steps (0.02 on a CPU)"
    )
    parser.add_argument(
        "--brief", action="store_true", help="fewer steps of the same size, without key views"
    )
    parser.add_argument("--frames-at-once", type=int, help="images edited together; 0 = all")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    if not 0 < a.scale <= 1:
        parser.error("--scale must be between 0 and 1")
    cuda = a.device.startswith("cuda")
    if not cuda and a.scale > 0.25:
        said = "No CUDA device is available, and full size would take days on a CPU; use --scale 0.02."
        print(json.dumps({"error": said}))
        sys.exit(f"error: {said}")
    named = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    dtype = named.get(a.dtype, torch.float16 if cuda else torch.float32)
    print(json.dumps(run(a.scale, a.device, dtype, a.seed, a.frames_at_once, a.brief)))


if __name__ == "__main__":
    main()
