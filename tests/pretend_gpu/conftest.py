"""What the tests of this folder run on, made on the CPU before the pretend GPU is there."""

from __future__ import annotations

import pytest

from tests.edit_scenes import field_scene
from tests.latent_scenes import trained
from tests.scenes import capture_of
from tests.tiny_diffusion import tiny_backbone


@pytest.fixture(scope="module")
def scene():
    return field_scene(count=80, views=4, moments=4)


@pytest.fixture(scope="module")
def video(scene):
    return capture_of(scene)


@pytest.fixture(scope="module")
def field(scene):
    return trained(scene, tiny_backbone(), warm_up=0.0)
