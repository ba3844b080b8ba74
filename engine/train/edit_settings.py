"""The settings in which an edited head is measured: novel view, self-reenactment and cross-identity reenactment.

They are those of GaussianAvatars (CVPR 2024) and of Edit3DGS's table: a camera that was held out, frames that were held
out, and another person's motion. Each compares the edited scene with the unedited one, seen and moved in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..deform.head_scenes import bound_mesh_of, has_head, motion_of, with_motion
from ..heads import Head, HeadMotion
from ..heads.reenact import drive
from ..masks.head_regions import has_part
from ..scene import MultiViewVideo, Scene4D, Selection

OWN, NOVEL, SELF, CROSS = "scene's views", "novel view", "self-reenactment", "cross-identity"
# of a scene without a head
HELD = "held-out frames"
# a driver with the scene's own shape coefficients
SELF_DRIVEN = "self-reenactment (driver)"
# in which an edit must keep the expression
PARTS = ("eyes", "mouth")


@dataclass(frozen=True, eq=False)
class SettingInputs:
    """What the settings are made from; each part that is missing leaves something out."""

    head: Head | None = None  # the model; its motion is not used
    capture: MultiViewVideo | None = None  # says which cameras and frames are held out
    driver: Head | None = None
    region: Selection | None = None  # Gaussians that the edit may have changed
    is_relative: bool = True  # the driver's change since its neutral frame, not its values

    def __bool__(self) -> bool:
        """Whether a table was asked for."""
        return any(each is not None for each in (self.head, self.capture, self.driver, self.region))


@dataclass(frozen=True, eq=False)
class Setting:
    """One row of the table: what is compared, from which cameras of the scene's rig, and when."""

    name: str
    scene: Scene4D
    original: Scene4D
    views: tuple[int, ...]
    seconds: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.views) * len(self.seconds)


def settings_of(
    scene: Scene4D, original: Scene4D, inputs: SettingInputs, every: int
) -> tuple[list[Setting], list[str]]:
    """The settings that the inputs allow, of every n-th frame, and a sentence for each that they do not.

    Raises:
        InputError: A driver is given, and the scenes have no head or another one, or its parameters are another model's.
    """
    capture = inputs.capture
    held = set() if capture is None else set(capture.test_moments)
    tests = () if capture is None else capture.test_views
    views, frames = tuple(range(len(scene.rig))), range(len(scene.times))
    trained = [float(scene.times[i]) for i in frames if i not in held][::every]
    unseen = [float(scene.times[i]) for i in frames if i in held][::every]
    found: list[Setting] = []
    missing: list[str] = []
    if tests and trained:
        found.append(Setting(NOVEL, scene, original, tests, tuple(trained)))
    else:
        found += [Setting(OWN, scene, original, views, tuple(trained))] if trained else []
        missing.append(
            f"{NOVEL} was skipped; {_without(capture, 'camera')} The scene's own views are measured instead."
        )
    if unseen:
        name = SELF if has_head(scene) else HELD
        found.append(Setting(name, scene, original, views, tuple(unseen)))
    elif has_head(scene):
        missing.append(f"{SELF} was skipped; {_without(capture, 'frame')}")
    driven, sentences = _driven(scene, original, inputs, views, every)
    return [*found, *driven], [*missing, *sentences]


def _without(capture: MultiViewVideo | None, what: str) -> str:
    """Why nothing of a kind is held out."""
    if capture is None:
        return f"connect the capture with a held-out {what}."
    return f"{capture.name} holds out no {what}."


def _driven(
    scene: Scene4D, original: Scene4D, inputs: SettingInputs, views: tuple[int, ...], every: int
) -> tuple[list[Setting], list[str]]:
    """Both scenes moved by the driver; each keeps its own shape and static offset."""
    if inputs.driver is None:
        return [], [] if not has_head(scene) else [
            f"{CROSS} was skipped; connect another person's motion as the driver."
        ]
    if inputs.head is None:
        return [], [f"{CROSS} was skipped; connect the head model that the scene was trained with."]
    model, driver = inputs.head.model, inputs.driver.motion
    own = motion_of(original, model)
    motion = drive(own, driver, relative=inputs.is_relative)
    name, missing = CROSS, list[str]()
    if _is_same_person(own, driver):
        name = SELF_DRIVEN
        missing.append(
            f"{CROSS} was skipped; the driver has the scene's own shape coefficients, so its row is {SELF_DRIVEN}."
        )
    seconds = tuple(motion.times[::every].tolist())
    moved, before = (with_motion(each, model, motion) for each in (scene, original))
    return [Setting(name, moved, before, views, seconds)], missing


def _is_same_person(a: HeadMotion, b: HeadMotion) -> bool:
    """Whether both have the same shape; missing coefficients are zero."""
    count = min(len(a.shape), len(b.shape))
    rest = [m.shape[count:].abs().sum() for m in (a, b)]
    return bool(torch.allclose(a.shape[:count], b.shape[:count], atol=1e-5)) and not any(map(bool, rest))


def measurable_parts(scene: Scene4D, inputs: SettingInputs) -> tuple[tuple[str, ...], list[str]]:
    """The parts of `PARTS` that can be masked, and a sentence for each other one of a head.

    Raises InputError where a head is given, and the scene has none or another one.
    """
    if inputs.head is None:
        sentence = "Eyes and mouth were skipped; connect the head model that the scene was trained with."
        return (), [sentence] if has_head(scene) else []
    bound_mesh_of(scene, inputs.head.model)
    model = inputs.head.model
    known = tuple(part for part in PARTS if has_part(model, part))
    return known, [
        f"'{part}' was skipped; {model.name} does not say where it is. Put FLAME_masks.pkl or head_masks.npz beside it."
        for part in PARTS
        if part not in known
    ]
