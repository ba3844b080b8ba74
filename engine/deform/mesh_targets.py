"""What a mesh is to carry, and how it is placed on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry.animated_mesh import AnimatedMesh
from ..geometry.boxes import gaussian_bounds
from ..geometry.mesh_fit import SAMPLES, Cloud, MeshFit, best_fit, fit_bounds, mesh_cloud, unmoved, up_axes
from ..scene import Deformation, Gaussians, Scene4D, harmonics
from ..scene.rigs import UPS, rig_up, ring_of_cameras
from .moments import scene_of_moments

# Gaussians less opaque than this do not show the subject's shape
VISIBLE = 0.1
# in diagonals: a mean distance beyond which the mesh is not where the splat is, and one that deserves a second look
ELSEWHERE, POOR = 0.1, 0.03
# another fit is better where its distance is less than this share
CLEARLY = 0.6
# frames from which the bounds are taken
BOUNDED = 12
REST, FIRST = "rest", "first frame"


@dataclass(frozen=True, eq=False)
class Target:
    """The Gaussians to be carried, the scene that they come from and its up axis, a key of UPS."""

    gaussians: Gaussians
    scene: Scene4D
    up: str
    has_cameras: bool


@dataclass(frozen=True, eq=False)
class Fitted:
    """A mesh in the splat's coordinates; `pose` [V, 3] is where it matches it, `diagonal` that of the mesh there."""

    mesh: AnimatedMesh
    pose: Tensor
    diagonal: float
    note: str


def target_of(splat: Scene4D | list[Gaussians], up: str | None) -> Target:
    """The Gaussians of a scene's first frame, or of a splat.

    Args:
        splat: A scene, or a list of which the first splat is taken.
        up: Key of UPS; None takes the scene's own, and y down for a splat.

    Raises:
        InputError: The splat is empty, or values are NaN or infinite.
    """
    if isinstance(splat, Scene4D):
        scene = splat.to("cpu")
        gaussians = scene.at(float(scene.times[0])).map(lambda t: t.detach().float())
        measured = rig_up(scene.rig)
        axes = {name: torch.tensor(axis, dtype=torch.float64) @ measured for name, axis in UPS.items()}
        nearest = max(axes, key=lambda name: float(axes[name]))
        # checks the values; its cameras are not used
        scene_of_moments([gaussians], 1.0, measured, False)
        return Target(gaussians, scene, up or nearest, True)
    gaussians = splat[0].map(lambda t: t.detach().cpu().float())
    name = up or "y down"
    scene = scene_of_moments([gaussians], 1.0, torch.tensor(UPS[name], dtype=torch.float64), False)
    # without Gaussians that were left out
    return Target(scene.canonical, scene, name, False)


def fitted(mesh: AnimatedMesh, target: Target, fit: str, up: str, turn: float, pose: str) -> Fitted:
    """Place a mesh on a splat.

    Args:
        mesh: In its own coordinates.
        target: The splat.
        fit: "auto", "bounds" or "off".
        up: The splat's up axis, a key of UPS, or "auto".
        turn: Degrees about it.
        pose: "rest", "first frame" or "auto".

    Raises:
        InputError: The mesh lies elsewhere, or has another size or up axis.
    """
    wanted = _cloud(target.gaussians)
    poses = {REST: mesh.rest, FIRST: mesh.frames[0]}
    poses = {name: vertices for name, vertices in poses.items() if pose in ("auto", name)}
    ups = [up] if up != "auto" else up_axes(target.up)

    def searched(name: str, is_free: bool) -> MeshFit:
        cloud = mesh_cloud(poses[name], mesh.faces, mesh.colors)
        if is_free:
            free = fit == "auto"
            return best_fit(cloud, wanted, ups if free else up_axes(target.up), turn if free else 0.0)
        return fit_bounds(cloud, wanted, ups[0], turn) if fit == "bounds" else unmoved(cloud, wanted)

    # the rest pose where both fit equally well
    found = {name: searched(name, fit == "auto") for name in poses}
    chosen = min(found, key=lambda name: found[name].distance * (1.0 if name == FIRST else 0.9))
    best = found[chosen]
    if fit != "auto" and best.distance > POOR:
        other = min((searched(name, True) for name in poses), key=lambda each: each.distance)
        if best.distance > ELSEWHERE or other.distance < CLEARLY * best.distance:
            raise InputError(
                "ANM-001",
                f"{mesh.name} does not lie on the splat: {_difference(mesh, poses[chosen], best, wanted)}. Set fit mesh to splat "
                f"to auto, which gives {other.sentence()}.",
            )
    placed = mesh.moved(best.matrix)
    vertices = placed.rest if chosen == REST else placed.frames[0]
    note = f"{mesh.action}: matched in the {chosen if chosen == FIRST else 'rest pose'}"
    if fit != "off":
        note += f"; {best.sentence()}"
    note += f"; mean distance {100 * best.distance:.1f} % of the size"
    if best.distance > POOR:
        note += ". The mesh and the splat differ: check the pose, the up axis and the turn."
    box = torch.stack([vertices.amin(0), vertices.amax(0)])
    return Fitted(placed, vertices, float((box[1] - box[0]).norm()), note)


def with_motion(target: Target, deformation: Deformation, seconds: Tensor) -> Scene4D:
    """The target's scene with a motion; bounds contain it at all times, and cameras that were made for it see all of it."""
    step = max(1, len(seconds) // BOUNDED)
    boxes = [gaussian_bounds(deformation.deform(target.gaussians, float(t)).means) for t in seconds[::step]]
    stacked = torch.stack(boxes)
    bounds = torch.stack([stacked[:, 0].amin(0), stacked[:, 1].amax(0)])
    scene = target.scene.with_(
        canonical=target.gaussians, deformation=deformation, times=seconds, bounds=bounds
    )
    if target.has_cameras:
        return scene
    ring = ring_of_cameras(bounds, torch.tensor(UPS[target.up], dtype=torch.float64))
    return scene.with_(rig=replace(ring, origin=scene.rig.origin))


def _cloud(gaussians: Gaussians) -> Cloud:
    """At most SAMPLES of the Gaussians that can be seen, with their colors."""
    is_visible = gaussians.logit_opacities.sigmoid() > VISIBLE
    shown = torch.nonzero(is_visible)[:, 0] if bool(is_visible.any()) else torch.arange(len(gaussians))
    chosen = shown[torch.linspace(0, len(shown) - 1, min(SAMPLES, len(shown))).long()]
    colors = harmonics.dc_to_rgb(gaussians.sh[chosen, 0]).clamp(0, 1)
    return Cloud(gaussians.means[chosen].double(), colors.double())


def _difference(mesh: AnimatedMesh, vertices: Tensor, fit: MeshFit, wanted: Cloud) -> str:
    """How the mesh stands to the splat, for a person."""
    moved = vertices.double() @ fit.matrix[:, :3].T + fit.matrix[:, 3]
    own, goal = (
        torch.stack([moved.amin(0), moved.amax(0)]),
        torch.stack([wanted.points.amin(0), wanted.points.amax(0)]),
    )
    ratio = float((own[1] - own[0]).norm() / (goal[1] - goal[0]).norm().clamp(min=1e-12))
    apart = float((own.mean(0) - goal.mean(0)).norm() / (goal[1] - goal[0]).norm().clamp(min=1e-12))
    if not 0.67 < ratio < 1.5:
        return f"it is {ratio:.3g} times as large"
    return (
        f"its center is {apart:.2g} splat sizes away"
        if apart > 0.25
        else "it has another up axis, turn or shape"
    )
