"""Classifier-free guidance of the variation-field transformer, as functions that a sampler calls.

Networks predict velocities here and the released code combines noise predictions; the weights of a combination sum to 1, so
that both give the same.

Source: Ho and Salimans 2022; two scales as in GVFDiffusion's released sampler (Zhang et al., ICCV 2025).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conditions import Conditions

# velocity of noisy latents [B, T, N, C] at times [B] under conditions of B samples
Network = Callable[[Tensor, Tensor, Conditions], Tensor]
# the same at one time, with guidance: what samplers call
Predict = Callable[[Tensor, float], Tensor]


def _velocities(
    network: Network, x: Tensor, t: float, branches: list[Conditions], at_once: bool
) -> list[Tensor]:
    def run(states: Tensor, conditions: Conditions) -> Tensor:
        return network(
            states, torch.full((len(states),), t, dtype=torch.float32, device=x.device), conditions
        )

    if not at_once:
        return [run(x, branch) for branch in branches]
    return list(run(torch.cat([x] * len(branches)), Conditions.concatenate(branches)).chunk(len(branches)))


def guided(
    network: Network, conditions: Conditions, image_scale: float = 1.0, at_once: bool = True
) -> Predict:
    """Guidance away from "no images": v_s + g (v_is − v_s), with s the splat and i the images.

    Args:
        network: For example a `VariationDit`.
        conditions: Of B samples.
        image_scale: g; larger follows the images more closely. 1 turns guidance off, with one network call instead of two.
        at_once: Evaluate all branches as one batch; otherwise one after another, which needs less memory.

    Returns:
        A function of latents [B, T, N, C] and the network's time.
    """
    if image_scale == 1:
        return lambda x, t: _velocities(network, x, t, [conditions], at_once)[0]

    def predict(x: Tensor, t: float) -> Tensor:
        static, both = _velocities(network, x, t, [conditions.without_images(), conditions], at_once)
        return static + image_scale * (both - static)

    return predict


def guided_twice(
    network: Network, conditions: Conditions, canonical_scale: float, image_scale: float, at_once: bool = True
) -> Predict:
    """Guidance with one scale for the splat and one for the images: v + g_s (v_s − v) + g_i (v_is − v_s).

    Args:
        network: For example a `VariationDit`.
        conditions: Of B samples.
        canonical_scale: g_s; larger follows the splat more closely.
        image_scale: g_i; larger follows the images more closely. Where both are 1 there is one network call instead of three.
        at_once: Evaluate all branches as one batch; otherwise one after another, which needs less memory.

    Returns:
        A function of latents [B, T, N, C] and the network's time.
    """
    if canonical_scale == 1:
        # the prediction without conditions cancels out
        return guided(network, conditions, image_scale, at_once)

    def predict(x: Tensor, t: float) -> Tensor:
        branches = [conditions.empty(), conditions.without_images(), conditions]
        none, static, both = _velocities(network, x, t, branches, at_once)
        return none + canonical_scale * (static - none) + image_scale * (both - static)

    return predict
