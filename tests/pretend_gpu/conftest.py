"""What the tests of this folder run on, made on the CPU before the pretend GPU is there."""

from __future__ import annotations

import pytest

from tests.latent_scenes import small_scene, small_video, trained  # noqa: F401  # fixtures
from tests.tiny_diffusion import tiny_backbone


@pytest.fixture(scope="module")
def field(scene):
    return trained(scene, tiny_backbone(), warm_up=0.0)
