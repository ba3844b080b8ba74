"""Checkpoints belong to contents: what differs has another identity, what is equal has the same."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

from engine.deform import FrozenAppearance, Masked
from engine.latent import Drawing, LatentField, VaeSignature
from engine.scene import Selection
from engine.steps import fit_edits
from engine.train.state import identity, input_identity, key_of
from tests.edit_scenes import PerfectEditor, edited_views, field_scene
from tests.scenes import capture_of


@pytest.fixture(scope="module")
def scene():
    return field_scene(count=20)


def latent_field(scene):
    features = torch.zeros(len(scene.canonical), 1, 3)
    vae = VaeSignature("toy", 3, 4, torch.zeros(3, 8, 8))
    return LatentField(scene, features, torch.zeros(3), (48, 40), vae)


def variants(scene):
    """Values of every kind; in each group all are different."""
    canonical = scene.canonical
    moving = canonical.means[:, 2] > 0
    yield (
        "scene",
        [
            scene,
            scene.with_(canonical=canonical.with_(means=canonical.means + 1e-6)),
            scene.with_(deformation=FrozenAppearance(scene.deformation)),
            scene.with_(deformation=Masked(scene.deformation, moving)),
            scene.with_(deformation=Masked(scene.deformation, ~moving)),
            scene.with_(times=scene.times * 2),
            scene.with_(bounds=scene.bounds * 2),
            scene.with_(background=scene.background * 0.5),
            scene.with_(rig=scene.rig.scaled(0.5)),
            scene.with_history("fit_edits", prompt="gold"),
        ],
    )
    weights = torch.linspace(0, 1, 20)
    yield "selection", [None, Selection(weights), Selection(weights.flip(0)), Selection(weights[:10])]
    video = capture_of(scene)
    yield (
        "video",
        [
            video,
            replace(video, test_views=(1,)),
            replace(video, test_moments=(1,)),
            replace(video, points=torch.ones(4, 3)),
            replace(video, points=torch.zeros(4, 3)),
            replace(video, background=None),
            replace(video, times=video.times * 2),
            replace(video, source=capture_of(field_scene(count=21)).source),
        ],
    )
    views = edited_views(scene, (1, 2))
    yield (
        "views",
        [
            views,
            views.with_images(views.images * 0.5),
            replace(views, alphas=torch.ones(2, 40, 48)),
            replace(views, edit={"prompt": "gold"}),
            replace(views, seconds=(0.0, 0.5)),
        ],
    )
    field = latent_field(scene)
    yield (
        "latent field",
        [
            field,
            field.with_(features=field.features + 1),
            field.with_(background=field.background + 1),
            field.with_(how=Drawing(samples=2)),
            field.with_(vae=replace(field.vae, card=field.vae.card + 1)),
            field.with_(scene=scene.with_(canonical=canonical.map(lambda t: t * 1.01))),
            field.with_(before=field),
        ],
    )
    other = PerfectEditor()
    other.fingerprint = "another"
    yield "model", [PerfectEditor(), other]
    tensor = torch.arange(6)
    yield "tensor", [tensor, tensor.float(), tensor.view(2, 3), [tensor], (tensor, tensor), {"a": tensor}]


def test_different_contents_have_different_identities(scene):
    for name, values in variants(scene):
        keys = [key_of(*input_identity(value)) for value in values]
        assert len(set(keys)) == len(keys), name


def test_equal_contents_have_one_identity_in_plain_json():
    for (name, first), (_, second) in zip(
        variants(field_scene(count=20)), variants(field_scene(count=20)), strict=True
    ):
        a, b = input_identity(*first), input_identity(*second)
        assert a == b, name
        assert json.loads(json.dumps(a)) == a, name


def test_the_order_of_inputs_matters():
    a, b = torch.zeros(2), torch.ones(2)
    assert input_identity(a, b) != input_identity(b, a)
    assert input_identity(None, a) != input_identity(a, None)


def test_numbers_that_only_say_when_to_save_or_show_do_not_count(scene):
    config = fit_edits.Config()
    quiet = replace(config, preview_every=7, checkpoint_seconds=5.0, max_seconds=9.0)
    assert identity(config, scene) == identity(quiet, scene)
    assert identity(config, scene) != identity(replace(config, iterations=7), scene)


def test_what_has_no_contents_to_compare_is_refused():
    with pytest.raises(TypeError, match="object cannot be told apart"):
        input_identity(object())


def test_a_value_from_outside_takes_part_by_its_fingerprint_or_as_a_config():
    @dataclass(frozen=True)
    class Plan:
        rate: float

    class Model:
        def fingerprint(self) -> str:
            return "mine"

    assert input_identity(Model(), Plan(0.5)) == input_identity(Model(), Plan(0.5))
    assert input_identity(Plan(0.5)) != input_identity(Plan(0.25))
