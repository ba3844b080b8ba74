"""Gaussians on a head while it is trained (GaussianAvatars, Qian et al., CVPR 2024, sections 3.2 and 3.3).

What is optimized are values relative to each Gaussian's triangle, and, where asked for, the head's expression, pose and
translation at each frame. Changed: the mesh of the rest pose turns them into the canonical Gaussians of a scene; hinges
apply to all Gaussians, not only to the visible ones, and start at larger ones: smaller Gaussians fit the pixel grid of the
training images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..deform import BoundMesh
from ..errors import InputError
from ..heads import Head, HeadMotion, TriangleFrames, to_local, to_world, triangle_frames
from ..render.mesh import visible_faces
from ..scene import Deformation, Gaussians, MultiViewVideo, harmonics
from ..scene.cameras import AT_ZERO, in_words
from ..scene.origins import is_near
from .adam import Adam
from .motion import Collected, MotionStart, TrainableMotion, on_cpu
from .normalization import Normalization
from .parameters import Lineage
from .schedule import log_linear
from .state import adam_memory
from .targets import Targets

POSITION_WEIGHT, POSITION_LIMIT = 0.01, 1.0  # triangle sizes
SCALE_WEIGHT, SCALE_LIMIT = 1.0, 1.0  # triangle sizes; the paper's limit, for 80,000 Gaussians, is 0.6
POSES = ("rotation", "neck_pose", "jaw_pose", "eyes_pose")
# 20 (expression), 100 (pose) and 200 (translation) times the paper's: it takes 600,000 steps, this a few thousand
HEAD_RATES = {"expr": 2e-2, **dict.fromkeys(POSES, 1e-3), "translation": 2e-4}
MOST_LOOKED_AT = 64  # images for the first colors


class BoundMeshMotion(TrainableMotion):
    """Trains Gaussians bound to a head's mesh; `head_lr` multiplies the head parameters' rates, 0 keeps them."""

    has_coarse_stage = False
    loss_is_mean = True

    def __init__(
        self, head: Head, world: Normalization, binding: Tensor, head_lr: float, device: torch.device
    ) -> None:
        self.head, self.world, self.binding, self.head_lr = head, world, binding, head_lr
        self.model = head.model.to(device)
        self.center = torch.tensor(world.center, dtype=torch.float32, device=device)
        self.rest_vertices = head.vertices(head.motion.canonical())[0].to(device)
        self.rest = self._frames(self.rest_vertices)
        self.position_unit = float(self.rest.sizes.mean())
        own = {name: t.to(device) for name, t in head.motion.tensors().items() if name != "times"}
        self.fixed = {name: own[name] for name in ("shape", "static_offset") if name in own}
        self.learned = {name: nn.Parameter(own[name].float().clone(), head_lr > 0) for name in HEAD_RATES}
        groups = [{"params": [p], "lr": 0.0, "rate": HEAD_RATES[name]} for name, p in self.learned.items()]
        self.optimizer = Adam(groups)
        self._posed = None if head_lr > 0 else head.posed.to(device)
        self._local: Gaussians | None = None  # as it was rendered last, for `loss`

    @staticmethod
    def create(start: MotionStart) -> BoundMeshMotion:
        """One Gaussian for each triangle, in order, as `head_gaussians` makes them."""
        assert start.head is not None
        device = start.canonical.device
        binding = torch.arange(len(start.head.model.faces), device=device)
        return BoundMeshMotion(start.head, start.world, binding, start.config.head_lr, device)

    def _frames(self, vertices: Tensor) -> TriangleFrames:
        return triangle_frames((vertices - self.center) / self.world.scale, self.model.faces)

    def _motion(self, index: slice) -> HeadMotion:
        """The parameters of some frames as they are now."""
        values = {name: t[index] for name, t in self.learned.items()}
        return HeadMotion(times=self.head.motion.times[index], **self.fixed, **values)

    def _vertices(self, seconds: float) -> Tensor:
        """[V, 3] the mesh at a time, in world units."""
        times = self.head.motion.times
        index = int((times - seconds).abs().argmin())
        if self._posed is not None:
            return self._posed[index]
        return self.model.pose(self._motion(slice(index, index + 1)))[0]

    def groups(self) -> Tensor:
        """Each Gaussian's triangle: no triangle loses its last one."""
        return self.binding

    def to_trained(self, canonical: Gaussians) -> Gaussians:
        return to_local(canonical, self.rest, self.binding)

    def to_canonical(self, trained: Gaussians) -> Gaussians:
        return to_world(trained, self.rest, self.binding)

    def deform(self, trained: Gaussians, seconds: float) -> Gaussians:
        self._local = trained
        return to_world(trained, self._frames(self._vertices(seconds)), self.binding)

    def loss(self) -> Tensor | None:
        """Position and scale hinges in triangle sizes (equations 4 and 5)."""
        if self._local is None:
            return None
        far = (self._local.means.norm(dim=-1) - POSITION_LIMIT).relu().mean()
        large = (self._local.log_scales.exp() - SCALE_LIMIT).relu().norm(dim=-1).mean()
        return POSITION_WEIGHT * far + SCALE_WEIGHT * large

    def step(self, progress: float) -> None:
        if not self.head_lr:
            return
        for group in self.optimizer.param_groups:
            group["lr"] = self.head_lr * log_linear(group["rate"], 0.1 * group["rate"], progress)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def after_density(self, change: Lineage, part: Deformation | None = None) -> None:
        self.binding = self.binding[change.parents]

    def trained(self) -> Mapping[str, Tensor]:
        return dict(self.learned) if self.head_lr else {}

    @torch.no_grad()
    def finished(self, world: Normalization, collected: Collected = on_cpu) -> BoundMesh:
        motion = self._motion(slice(None))
        parameters = {n: t.detach().cpu().clone() for n, t in motion.tensors().items() if n != "times"}
        posed = self.model.posed(motion) if self._posed is None else self._posed
        return BoundMesh(
            faces=self.model.faces.cpu(),
            rest=self.rest_vertices.cpu(),
            frames=posed.cpu().contiguous(),
            seconds=self.head.motion.times,
            binding=collected(self.binding, 0),
            parameters=parameters,
            model=self.head.model.name,
        )

    def rows(self) -> Mapping[str, int | None]:
        return {"binding": 0}

    def state(self) -> dict[str, Tensor]:
        result = {"binding": self.binding}
        for name, parameter in self.learned.items():
            result[f"{name}.value"] = parameter.detach()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                result[f"{name}.{key}"] = value
        return result

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.binding = state["binding"].to(self.binding.device)
        self.optimizer.state.clear()
        for name, parameter in self.learned.items():
            with torch.no_grad():
                parameter.copy_(state[f"{name}.value"])
            memory = adam_memory(state, name, parameter)
            if memory:
                self.optimizer.state[parameter] = memory


def head_for(video: MultiViewVideo, head: Head) -> Head:
    """The head with its frames in step with the video's.

    Raises InputError where they do not cover the video, or the mesh is in coordinates that float32 cannot resolve.
    """
    origin = video.cameras.origin
    if origin != AT_ZERO and is_near(head.posed[0].mean(dim=0), origin):
        raise InputError(
            "TRN-039",
            f"{head.name} lies around {in_words(origin)}, too far from zero for the float32 numbers of a mesh. Export the head "
            "and the capture in coordinates around the subject.",
        )
    return replace(head, motion=head.motion.at(video.times, head.name, video.name))


def mesh_bounds(head: Head) -> Tensor:
    """The box [2, 3] (float64, world units) that holds the mesh at every frame and in the canonical pose, with a margin."""
    canonical = head.vertices(head.motion.canonical())
    points = torch.cat([head.posed, canonical]).flatten(0, 1).double()
    low, high = points.amin(0), points.amax(0)
    margin = 0.05 * float((high - low).max())
    return torch.stack([low - margin, high + margin])


def visible_colors(head: Head, targets: Targets, samples: Mapping[int, Sequence[int]]) -> Tensor:
    """The mean color [F, 3] of each triangle over the images that show it; the color of its neighbors where none does.

    Triangles behind others keep out: teeth and mouth interior would start with the color of the lips.

    Args:
        samples: Views by frame; at most `MOST_LOOKED_AT` images, spread over all of them, are looked at.
    """
    pairs = [(view, frame) for frame, views in samples.items() for view in views]
    chosen = torch.linspace(0, len(pairs) - 1, min(len(pairs), MOST_LOOKED_AT)).round().long().tolist()
    vertices, faces = head.posed, head.model.faces
    total, count = torch.zeros(len(faces), 3), torch.zeros(len(faces), 1)
    for view, frame in (pairs[i] for i in chosen):
        target = targets.get(view, frame)
        found = visible_faces(vertices[frame], faces, targets.video.cameras, view)
        inside = found >= 0 if target.mask is None else (found >= 0) & (target.mask.cpu() > 0.5)
        total.index_add_(0, found[inside], target.image.cpu()[inside])
        count.index_add_(0, found[inside], torch.ones(int(inside.sum()), 1))
    return spread_colors(total / count.clamp(min=1), count[:, 0] > 0, faces)


def spread_colors(colors: Tensor, known: Tensor, faces: Tensor) -> Tensor:
    """Colors [F, 3] where each unknown triangle has the mean of the nearest known ones, by steps across shared vertices.

    A held-out camera looks deeper into an open mouth than any other; a fixed color would shine there.
    Parts of the mesh without a known triangle become gray.
    """
    vertices = int(faces.max()) + 1
    colors, known = torch.where(known[:, None], colors, 0.5), known.clone()
    while True:
        corners = faces[known].flatten()
        total = torch.zeros(vertices, 3).index_add_(0, corners, colors[known].repeat_interleave(3, 0))
        count = torch.zeros(vertices).index_add_(0, corners, torch.ones(len(corners)))
        reached = ~known & (count[faces].sum(-1) > 0)
        if not reached.any():
            return colors
        colors[reached] = total[faces[reached]].sum(1) / count[faces[reached]].sum(-1, keepdim=True)
        known |= reached


def head_gaussians(
    head: Head, targets: Targets, samples: Mapping[int, Sequence[int]], sh_degree: int
) -> tuple[Gaussians, str]:
    """One Gaussian for each triangle, in order, in the canonical pose, with the colors that the images of `samples` show.

    Each lies at its triangle's center, 0.7 times its size, flat along its normal and nearly opaque.
    """
    faces = head.model.faces
    count = len(faces)
    colors = visible_colors(head, targets, samples)
    sh = torch.zeros(count, harmonics.bases(sh_degree), 3)
    sh[:, 0] = harmonics.rgb_to_dc(colors)
    local = Gaussians(
        means=torch.zeros(count, 3),
        log_scales=torch.tensor([0.7, 0.2, 0.7]).log().repeat(count, 1),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        logit_opacities=torch.full((count,), 0.9).logit(),
        sh=sh,
    )
    rest = triangle_frames(head.vertices(head.motion.canonical())[0], faces)
    return to_world(local, rest, torch.arange(count)), f"one Gaussian for each of {count} triangles"
