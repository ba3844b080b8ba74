"""The two motions: walking in place, and a head that turns and talks. Both loop."""

from __future__ import annotations

import numpy as np

from .figure import Figure, FloatArray, swing, turn

# Joint angles over one stride, p in [0, 1) from the heel's touch-down; degrees. Shaped by hand after
# typical gait curves: the hip is nearly a cosine, the knee flexes slightly under load and strongly in swing.


def _bump(p: float, centre: float, width: float) -> float:
    d = (p - centre + 0.5) % 1.0 - 0.5
    return float(np.exp(-((d / width) ** 2)))


def _leg(p: float) -> tuple[float, float, float]:
    hip = 7.0 + 25.0 * np.cos(2 * np.pi * (p + 0.03))
    knee = 5.0 + 12.0 * _bump(p, 0.14, 0.09) + 58.0 * _bump(p, 0.72, 0.125)
    ankle = 9.0 * _bump(p, 0.42, 0.14) - 22.0 * _bump(p, 0.63, 0.08) + 4.0 * _bump(p, 0.95, 0.1)
    return float(hip), float(knee), float(ankle)


def _flat(rotations: dict[str, FloatArray], joint: str, matrix: FloatArray) -> None:
    rotations[joint] = matrix @ rotations.get(joint, np.eye(3))


def _pose_leg(figure: Figure, out: dict[str, FloatArray], side: str, p: float) -> None:
    hip, knee, ankle = _leg(p)
    s = 1.0 if side == "L" else -1.0
    j = figure.joint
    thigh = j[f"lowerleg01.{side}"] - j[f"upperleg01.{side}"]
    shank = j[f"foot.{side}"] - j[f"lowerleg01.{side}"]
    # The feet are nearly under the hips: a relaxed stance is narrower than the reference pose.
    down = np.array([s * 0.03, 0.0, -1.0])
    thigh_rotation = turn("x", -hip) @ swing(thigh, down)
    shank_target = turn("x", knee - hip) @ np.array([s * -0.02, 0.0, -1.0])
    out[f"upperleg01.{side}"] = thigh_rotation
    out[f"lowerleg01.{side}"] = swing(shank, thigh_rotation.T @ shank_target)
    shank_world = thigh_rotation @ out[f"lowerleg01.{side}"]
    # The foot keeps its own heading (toes slightly outward), whatever the small rotations of the leg.
    foot_world = turn("x", knee - hip - ankle) @ turn("z", s * 4.0)
    out[f"foot.{side}"] = shank_world.T @ foot_world


def _pose_arm(
    figure: Figure, out: dict[str, FloatArray], side: str, forward: float, bend: float, out_angle: float
) -> None:
    s = 1.0 if side == "L" else -1.0
    j = figure.joint
    upper = j[f"lowerarm01.{side}"] - j[f"upperarm01.{side}"]
    lower = j[f"wrist.{side}"] - j[f"lowerarm01.{side}"]
    hang = np.array([s * np.tan(np.radians(out_angle)), 0.0, -1.0])
    upper_rotation = turn("x", -forward) @ swing(upper, hang)
    lower_target = turn("x", -forward - bend) @ np.array([s * 0.03, 0.0, -1.0])
    out[f"upperarm01.{side}"] = upper_rotation
    out[f"lowerarm01.{side}"] = swing(lower, upper_rotation.T @ lower_target)
    for finger in range(2, 6):
        for phalanx, curl in ((1, 12.0), (2, 18.0), (3, 12.0)):
            out[f"finger{finger}-{phalanx}.{side}"] = _curl(figure, side, finger, phalanx, curl)


def _curl(figure: Figure, side: str, finger: int, phalanx: int, degrees: float) -> FloatArray:
    """Bend a phalanx about the knuckle line, toward the palm."""
    j = figure.joint
    along = j[f"finger{finger}-3.{side}"] - j[f"finger{finger}-1.{side}"]
    across = j[f"finger2-1.{side}"] - j[f"finger5-1.{side}"]
    palm = np.cross(along, across) * (1.0 if side == "L" else -1.0)
    along = along / np.linalg.norm(along)
    palm = palm - along * (palm @ along)
    palm /= np.linalg.norm(palm)
    angle = np.radians(degrees)
    return swing(along, along * np.cos(angle) + palm * np.sin(angle))


def walk(figure: Figure, phase: float, strides: float) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Vertices and joints at phase in [0, 1) of the loop, which holds a whole number of strides."""
    p = phase * strides
    wave = 2 * np.pi * p
    slow = 2 * np.pi * phase
    out: dict[str, FloatArray] = {}
    _pose_leg(figure, out, "L", p % 1.0)
    _pose_leg(figure, out, "R", (p + 0.5) % 1.0)
    sway = float(np.cos(wave))
    # Each arm swings opposite to the leg on its side, and the shoulders opposite to the hips.
    for side, sign in (("L", 1.0), ("R", -1.0)):
        forward = -4.0 - sign * 30.0 * sway
        bend = 24.0 + 16.0 * (1 - sign * sway) / 2 + 6.0 * np.sin(wave + 0.6)
        _pose_arm(figure, out, side, forward, bend, 13.0)
    yaw = 16.0 * np.sin(slow)
    roll = 3.5 * np.sin(wave)
    out["root"] = turn("z", yaw - 6.0 * sway) @ turn("y", roll)
    for joint, share in (("spine05", 0.3), ("spine03", 0.4), ("spine01", 0.3)):
        out[joint] = turn("z", share * 15.0 * sway) @ turn("y", -share * 1.6 * roll) @ turn("x", share * 4.0)
    look = 22.0 * np.sin(slow + 0.9) - 0.6 * yaw
    nod = -5.0 + 2.5 * np.cos(2 * wave + 0.5) + 3.0 * np.sin(slow)
    for joint, share in (("neck02", 0.4), ("head", 0.6)):
        out[joint] = turn("z", share * (look - 9.0 * sway)) @ turn("x", share * nod)
    blink = max(_bump(phase, 0.30, 0.02), _bump(phase, 0.78, 0.02))
    face = {"mouthSmileLeft": 0.45, "mouthSmileRight": 0.45, "eyeBlinkLeft": blink, "eyeBlinkRight": blink}
    return figure.pose(out, face)


# One loop of speech: (center, width, actions). Broad vowels and lip consonants.
_SPEECH: tuple[tuple[float, float, dict[str, float]], ...] = (
    (0.07, 0.045, {"jawOpen": 0.4, "mouthLowerDownLeft": 0.3, "mouthLowerDownRight": 0.3}),
    (0.17, 0.030, {"mouthPucker": 0.7, "mouthFunnel": 0.5, "jawOpen": 0.22}),
    (0.27, 0.040, {"jawOpen": 0.34, "mouthStretchLeft": 0.5, "mouthStretchRight": 0.5}),
    (0.36, 0.026, {"mouthPressLeft": 0.7, "mouthPressRight": 0.7, "mouthRollLower": 0.4}),
    (0.45, 0.045, {"jawOpen": 0.46, "mouthFunnel": 0.25}),
    (0.57, 0.035, {"mouthPucker": 0.8, "mouthFunnel": 0.4, "jawOpen": 0.18}),
    (0.67, 0.040, {"jawOpen": 0.3, "mouthUpperUpLeft": 0.4, "mouthUpperUpRight": 0.4}),
    (0.82, 0.075, {"mouthSmileLeft": 0.85, "mouthSmileRight": 0.85, "cheekSquintLeft": 0.5,
                   "cheekSquintRight": 0.5, "jawOpen": 0.16}),
)  # fmt: skip


def talk(figure: Figure, phase: float, strides: float) -> tuple[FloatArray, dict[str, FloatArray]]:
    """A head that turns, nods, speaks, raises its eyebrows and blinks twice in the loop."""
    slow = 2 * np.pi * phase
    out: dict[str, FloatArray] = {}
    for side in "LR":
        _pose_arm(figure, out, side, 0.0, 12.0, 13.0)
    out["spine01"] = turn("z", 4.0 * np.sin(slow)) @ turn("y", 2.0 * np.sin(slow + 0.8))
    yaw, nod, tilt = 26.0 * np.sin(slow), -3.0 + 7.0 * np.sin(2 * slow + 0.6), 6.0 * np.sin(slow + 1.9)
    for joint, share in (("neck01", 0.2), ("neck02", 0.3), ("head", 0.5)):
        out[joint] = turn("z", share * yaw) @ turn("y", share * tilt) @ turn("x", share * nod)
    face: dict[str, float] = {}
    for centre, width, actions in _SPEECH:
        for name, amount in actions.items():
            face[name] = min(1.0, face.get(name, 0.0) + amount * _bump(phase, centre, width))
    blink = max(_bump(phase, 0.21, 0.022), _bump(phase, 0.71, 0.022))
    raised = 0.9 * _bump(phase, 0.45, 0.11) + 0.4 * _bump(phase, 0.85, 0.08)
    face |= {"eyeBlinkLeft": blink, "eyeBlinkRight": blink, "browInnerUp": raised}
    face |= {"browOuterUpLeft": raised, "browOuterUpRight": raised}
    gaze = turn("z", -0.25 * yaw)
    out["eye.L"] = out["eye.R"] = gaze
    return figure.pose(out, face)
