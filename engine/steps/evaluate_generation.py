"""Measure a generated scene: image by image, as sets of clips (FVD, KVD), its video alone, and how smoothly its Gaussians move.

The metrics are those of GVFDiffusion (Zhang et al., ICCV 2025) and Diff4Splat (Pan et al., CVPR 2026). Every value names its
network, and FVD is only called that where it comes from a feature network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..figures.color_maps import padded
from ..generation import left_out
from ..generation.evaluation_config import EvaluationConfig as Config
from ..generation.evaluation_config import angles
from ..generation.measures import (
    ClipSet,
    ClipSettings,
    ImageMeasures,
    motion_numbers,
    row_of,
    set_distances,
)
from ..generation.output_measures import (
    TRACKED_FRAMES,
    OutputNetworks,
    network_numbers,
    reference_path_numbers,
    tracked_numbers,
)
from ..generation.scene_videos import References, SceneVideos
from ..generation.video_pairs import pairs_of_folders
from ..generation.video_sources import videos_in
from ..losses.means import Number, as_json, as_lines
from ..losses.perceptual import load_clip, load_lpips
from ..losses.video_distances import PooledPixels, load_video_network
from ..messages import Finished, Preview, Progress, Started, Stream, progress_of
from ..models.dino import DinoFeatures
from ..render import choose
from ..render.camera_paths import CameraPath
from ..scene import MultiViewVideo, Scene4D
from .step import Comparison, Figure, Input, Kind, Step, report_outputs

__all__ = ["STEP", "Config", "GenerationEvaluation", "run"]


@dataclass(frozen=True, eq=False)
class GenerationEvaluation:
    """Numbers, and what was compared.

    Args:
        numbers: Each names its network.
        clips: Length, stride and counts of the clips, and seconds of a clip and of the evaluation.
        missing: Sentences: what was skipped, and what it needs; what to be careful about.
        pictures: Comparison rows [K, H, W, 3].
        titles: K: view and frame of each row.
    """

    numbers: tuple[Number, ...]
    clips: dict[str, Any]
    missing: tuple[str, ...]
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1, 3))
    titles: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float:
        """The value of that name; KeyError where it was not measured."""
        return {n.name: n.value for n in self.numbers}[name]

    @property
    def summary(self) -> dict[str, Any]:
        """Plain JSON: each number with its network and counts, the clips, and what is missing."""
        return {"numbers": as_json(self.numbers), "clips": self.clips, "missing": list(self.missing)}

    @property
    def comparison(self) -> Comparison:
        """The rows that are shown, with their captions."""
        columns = ("reference", "generated", "difference", "error")
        return Comparison(self.pictures, list(self.titles), columns, "the generated scene")

    def to_json(self) -> dict[str, Any]:
        """`summary`."""
        return self.summary

    def text(self) -> str:
        """A table as text."""
        c = self.clips
        about = (
            f"clips of {c['length']} frames ({c['clip_seconds']:.2f} s), stride {c['stride']}: {c['generated']} generated, "
            f"{c['reference']} reference; measured in {c['seconds']:.1f} s"
        )
        return "\n".join([*as_lines(self.numbers), about, *self.missing])


def run(
    scene: Scene4D,
    truth: Scene4D | None = None,
    images: Tensor | None = None,
    capture: MultiViewVideo | None = None,
    generated: Path | None = None,
    references: Path | None = None,
    config: Config = Config(),
    device: torch.device | str = "cpu",
    clip: Path | None = None,
    lpips_weights: Path | None = None,
    video_network: Path | None = None,
    dino: Path | None = None,
    path: CameraPath | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Stream:
    """Measure a generated scene; each optional input adds its metrics.

    Args:
        scene: The generated scene.
        truth: The scene as it should be, at the same frames.
        images: Frames [T, H, W, 3 or 4] of one of its cameras, as they should be.
        capture: Images of its cameras, as they should be, at the same frames.
        generated: Folder of more generated scenes or videos, for the sets of clips.
        references: Folder of reference scenes or videos. Those that are called like one of `generated` are also compared with it
            image by image.
        config: Views, and the clips of FVD and KVD.
        device: Device to render on.
        clip: Folder of a CLIP model.
        lpips_weights: File with torchvision's VGG16 or AlexNet weights.
        video_network: TorchScript file of a feature network such as I3D; None: a stand-in, which is not FVD.
        dino: Folder of a DINO model, for subject consistency.
        path: The camera path that was asked for, a camera for each of the scene's frames. None: the scene's own cameras, if they
            are a path.
        clock: Seconds.

    Yields:
        Started, Progress per video, Previews, and Finished with a `GenerationEvaluation`.

    Raises:
        InputError: Videos of different lengths, a missing view, empty folders, or files that cannot be used.

    Source:
        GVFDiffusion (Zhang et al., ICCV 2025), section 4.2; Diff4Splat (Pan et al., CVPR 2026), section 4.
    """
    begun = clock()
    rasterizer = choose(config.rasterizer, device)
    scene = scene.to(device)
    clip_model = load_clip(clip, device) if clip is not None else None
    networks = OutputNetworks(
        clip_model, DinoFeatures(dino, device) if dino is not None else None, config.prompt.strip()
    )
    lpips_model = load_lpips(lpips_weights, device) if lpips_weights is not None else None
    measures = ImageMeasures(clip_model, lpips_model, device)
    features = PooledPixels() if video_network is None else load_video_network(video_network, device)
    settings = ClipSettings(config.clip_length, config.clip_stride, config.clips)
    ours, reference = ClipSet(features, settings), ClipSet(features, settings)
    videos = SceneVideos(scene, angles(config.azimuths), config.resolution, config.view, rasterizer)
    compared = References(truth, images, capture)
    total = videos.count(compared) + sum(
        len(videos_in(folder)) if folder is not None else 0 for folder in (generated, references)
    )
    units = max(total, 1)
    # of frames, tracked in the scene's video and in the one that it was generated from
    tracking = min(len(scene.times), TRACKED_FRAMES) - 1
    yield Started(
        units + tracking * (1 if images is None else 2),
        f"{total} videos with the {rasterizer.name} rasterizer",
    )
    pictures, titles = list[Tensor](), list[str]()
    pairs = chain(
        videos.pairs(compared, device),
        pairs_of_folders(generated, references, rasterizer, device, ours, reference),
    )
    for done, pair in enumerate(pairs, 1):
        if pair.title:
            measures.add(pair.ours, pair.reference)
            ours.add(pair.ours)
            reference.add(pair.reference)
        if pair.title and len(pictures) < config.pictures:
            middle = len(pair.ours) // 2
            pictures.append(row_of(pair.ours[middle], pair.reference[middle]))
            titles.append(f"{pair.title} · frame {middle}")
            yield Preview(pictures[-1], min(done, units))
        yield Progress(min(done, units))
    if not ours.count and references is not None:
        # nothing was compared image by image: the scene alone against the set
        own = videos.source()
        for view in range(len(own.views)):
            ours.add(own.video(view))
    output = videos.output(path)
    tracked, missing = yield from progress_of(tracked_numbers(output), units)
    along = None if path is not None else videos.reference_along_path(compared, output)
    of_reference = yield from progress_of(reference_path_numbers(along), units + tracking)
    numbers = (
        *measures.means.numbers(),
        *network_numbers(output, networks),
        *set_distances(ours, reference, config.seed),
        *motion_numbers(scene, None if truth is None else truth.to(device)),
        *tracked,
        *of_reference,
        *([Number("seconds", config.seconds, 1)] if config.seconds else []),
    )
    fps = (len(scene.times) - 1) / scene.duration if scene.duration > 0 else 24.0
    about = {
        "length": settings.length,
        "stride": settings.stride,
        "generated": ours.count,
        "reference": reference.count,
        "network": features.name,
        "clip_seconds": settings.length / fps,
        "seconds": clock() - begun,
    }
    skipped = {
        left_out.COMPARED: not measures.means.values,
        left_out.LPIPS: lpips_weights is None,
        left_out.CLIP: clip is None,
        left_out.PROMPT: clip is not None and not networks.prompt,
        left_out.DINO: dino is None,
        left_out.FVD: not features.is_network,
        left_out.SECONDS: not config.seconds,
    }
    words = [sentence for sentence, holds in skipped.items() if holds]
    if clip_model is not None:
        words += filter(None, [clip_model.length_note(networks.prompt, "prompt")])
    words += [*missing, *left_out.about_clips(ours, reference)]
    yield Finished(GenerationEvaluation(numbers, about, tuple(words), padded(pictures), tuple(titles)))


STEP = Step(
    name="evaluate_generation",
    node="EvaluateGeneration",
    label="Evaluate Generation",
    category="4dgs/measure",
    description="Measures a generated scene against a true scene, a video or sets of them: PSNR, SSIM, LPIPS, CLIP, FVD and KVD; "
    "and its own video: CLIP score, consistency, matches between frames, camera path, and how smoothly it moves.",
    search=(
        "fvd",
        "kvd",
        "psnr",
        "lpips",
        "clip",
        "clip score",
        "metrics",
        "gvfdiffusion",
        "diff4splat",
        "vbench",
        "consistency",
        "relative pose error",
        "jerk",
    ),
    config=Config,
    run=run,
    inputs=(
        Input("scene", Kind.SCENE, "The generated scene."),
        Input(
            "clip",
            Kind.PATH,
            "Path of a CLIP model (a transformers folder) in input, output or models/gs4d, for CLIP similarity, CLIP score and "
            "background consistency. Empty skips them.",
            "CLIP folder",
            id="clip_folder",
        ),
        Input(
            "lpips_weights",
            Kind.PATH,
            "Path of torchvision's VGG16 or AlexNet weights in input, output or models/gs4d, for LPIPS. Empty skips it.",
            "LPIPS weights",
            flag="lpips",
        ),
        Input(
            "video_network",
            Kind.PATH,
            "Path of a TorchScript I3D (such as i3d_torchscript.pt) in input, output or models/gs4d, for FVD and KVD. Empty uses "
            "a stand-in that is not FVD.",
            "video network",
        ),
        Input(
            "generated",
            Kind.PATH,
            "Folder of more generated scenes or videos in input, output or models/gs4d, which join the set for FVD.",
            "generated folder",
        ),
        Input(
            "references",
            Kind.PATH,
            "Folder of reference scenes or videos in input, output or models/gs4d. Those of the same name as a generated one are "
            "also compared image by image.",
            "reference folder",
        ),
        Input(
            "truth", Kind.SCENE, "The scene as it should be, at the same frames.", "true scene", optional=True
        ),
        Input(
            "images",
            Kind.FRAMES,
            "Frames of one of the scene's cameras, as they should be: the video that it was generated from.",
            "reference images",
            optional=True,
        ),
        Input(
            "capture",
            Kind.CAPTURE,
            "Images of the scene's cameras, as they should be, at the same frames.",
            flag="capture",
            optional=True,
        ),
        Input(
            "dino",
            Kind.PATH,
            "Path of a DINO model (a transformers folder such as dino-vitb16) in input, output or models/gs4d, for subject "
            "consistency. Empty skips it.",
            "DINO folder",
            id="dino_folder",
            optional=True,
            since="0.2",
        ),
        Input(
            "path",
            Kind.CAMERA_PATH,
            "The camera path that was asked for, one camera per frame: the video is rendered along it, and cameras solved from "
            "it are compared with the path. Not needed for scenes whose own cameras are the path.",
            "camera path",
            optional=True,
            since="0.2",
        ),
    ),
    outputs=report_outputs("Reference, generated, difference and error map, side by side."),
    verb="evaluate-generation",
    figure=Figure.COMPARISON,
    note=GenerationEvaluation.text,
    is_output=True,
    lowers=("resolution", "pictures"),
)
