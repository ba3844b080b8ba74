"""Files of latent fields: bit for bit what was saved, and one sentence for whatever is not a latent field."""

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from engine.deform import HexPlane, HexPlaneConfig
from engine.errors import InputError
from engine.io.scene_file import load_scene, save_scene
from engine.io.selection_file import save_selection
from engine.latent import Drawing, LatentField, VaeSignature
from engine.latent.files import load_field, save_field
from engine.models.latent_refiner import LatentRefiner, RefinerShape
from engine.scene import Selection
from engine.train.state import save_state
from tests.latent_scenes import bits_of
from tests.scenes import moving_scene

MOTION = HexPlaneConfig(4, (5, 6, 7, 8), (1, 2), 1, 16, ("position", "rotation"), time_range=(0.0, 1.5))


def field(channels: int = 4, bases: int = 1, refined: bool = True, seed: int = 0) -> LatentField:
    generator = torch.Generator().manual_seed(seed)
    box = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    motion = HexPlane.create(MOTION, box, generator, zero_init=False)
    scene = moving_scene(30, views=3, sh_degree=1).with_(deformation=motion)
    refiner = None
    if refined:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            refiner = LatentRefiner(RefinerShape(channels, 8, 2, 4, 3))
            torch.nn.init.normal_(refiner.conv_out.weight)
        refiner.requires_grad_(False)
    return LatentField(
        scene.with_history("train_latents", rate=1 / 3),
        torch.randn(30, bases, channels, generator=generator),
        torch.randn(channels, generator=generator),
        (96, 128),
        VaeSignature("модель", channels, 8, torch.randn(channels, 8, 8, generator=generator)),
        refiner,
        Drawing(3, 1 / 3, False),
    )


def edited(moves: bool = False) -> LatentField:
    """An edit of a field: everything that did not change is the same objects, as an edit leaves them."""
    first = field()
    scene = first.scene
    if moves:
        scene = scene.with_(canonical=scene.canonical.with_(means=scene.canonical.means + 0.1))
    after = first.with_(scene=scene, features=first.features + 1, before=first)
    return after.with_history("delta_edit", prompt="gold")


def assert_same(a: LatentField, b: LatentField) -> None:
    assert bits_of(a) == bits_of(b)
    assert (a.size, a.how, a.scene.history) == (b.size, b.how, b.scene.history)
    assert (a.vae.name, a.vae.channels, a.vae.factor) == (
        b.vae.name,
        b.vae.channels,
        b.vae.factor,
    )
    assert torch.equal(a.vae.card, b.vae.card) and torch.equal(a.scene.rig.K, b.scene.rig.K)
    assert (a.refiner is None) == (b.refiner is None) and (a.before is None) == (b.before is None)
    if a.refiner is not None and b.refiner is not None:
        assert a.refiner.shape == b.refiner.shape
        latents = torch.randn(1, a.vae.channels, 6, 5, generator=torch.Generator().manual_seed(1))
        assert torch.equal(a.refiner(latents), b.refiner(latents))
        assert not any(p.requires_grad for p in b.refiner.parameters())
    if a.before is not None and b.before is not None:
        assert_same(a.before, b.before)


@pytest.mark.parametrize(
    "made",
    [field, lambda: field(16, 4), lambda: field(refined=False), edited, lambda: edited(moves=True)],
    ids=["plain", "16 channels", "unrefined", "edited", "moved"],
)
def test_a_field_saved_and_loaded_is_bit_for_bit_itself(made, tmp_path):
    latents = made()
    path = save_field(latents, tmp_path / "field.safetensors")
    again = load_field(path)
    assert_same(latents, again)
    second = save_field(again, tmp_path / "again.safetensors")
    assert path.read_bytes() == second.read_bytes(), "and so is the file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "field.safetensors"]


def test_what_an_edit_left_as_it_was_is_written_once(tmp_path):
    first, after = field(), edited()
    sizes = [save_field(latents, tmp_path / "field.safetensors").stat().st_size for latents in (first, after)]
    features = first.features.numel() * 4
    assert sizes[1] < sizes[0] + features + 8000, "only the features and a description more"


def refused(path, *words, load=load_field):
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    for word in words:
        assert word in message, message


def test_a_field_is_no_scene_and_a_scene_is_no_field(tmp_path):
    path = save_field(edited(), tmp_path / "it.safetensors")
    refused(path, "latent field", "latents-to-scene", load=load_scene)
    refused(save_scene(field().scene, path), "4D scene", "train-latents")
    save_selection(Selection(torch.ones(3)), path)
    refused(path, "selection")
    save_state(path, {"a": torch.ones(2)}, {}, "key")
    refused(path, "training checkpoint")
    save_file({"a": torch.zeros(3)}, path)
    refused(path, "not a latent field", "train-latents")
    path.unlink()
    refused(path, "does not exist")


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.3, 0.7, 0.999])
def test_a_field_cut_short_anywhere_says_so(share, tmp_path):
    path = save_field(edited(), tmp_path / "field.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, *(["cut short"] if share > 0.5 else []))


def rewritten(tmp_path, about=None, tensors=None, drop=(), **header):
    """A file of an edited field whose parts were changed by somebody else."""
    path = save_field(edited(), tmp_path / "field.safetensors")
    raw = path.read_bytes()
    metadata = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]
    description = json.loads(metadata["field"])
    if about:
        about(description)
    content = {k: v for k, v in load_file(path).items() if k not in drop} | (tensors or {})
    save_file(content, path, metadata=metadata | {"field": json.dumps(description)} | header)
    return path


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("features", torch.zeros(29, 1, 4)),
        ("features", torch.zeros(30, 2, 4)),
        ("features", torch.zeros(30, 1, 4, dtype=torch.float64)),
        ("latent_background", torch.zeros(3)),
        ("codec.card", torch.zeros(4, 8, 9)),
        ("refiner.conv_in.weight", torch.zeros(9, 4, 3, 3)),
        ("refiner.conv_in.weight", torch.zeros(8, 4, 3, 3, dtype=torch.float16)),
        ("refiner.surplus", torch.zeros(1)),
        ("before.features", torch.zeros(30, 1, 5)),
        ("times", torch.tensor([0.0, 1.0])),
        ("gaussians.means", torch.full((30, 3), torch.nan)),
    ],
)
def test_wrong_tensors_are_refused(name, tensor, tmp_path):
    refused(rewritten(tmp_path, tensors={name: tensor}))


@pytest.mark.parametrize(
    "name", ["features", "codec.card", "refiner.attn.q.weight", "before.features", "rig.K"]
)
def test_missing_tensors_are_refused(name, tmp_path):
    refused(rewritten(tmp_path, drop=(name,)))


@pytest.mark.parametrize(
    "change",
    [
        {"size": [96, 130]},
        {"size": [0, 8]},
        {"size": [96]},
        {"size": "96"},
        {"codec": {"name": "x", "channels": 4, "factor": 0}},
        {"codec": {"name": "x", "channels": True, "factor": 8}},
        {"codec": None},
        {"drawing": {"samples": 0, "scale_floor": 0.25, "antialiased": True}},
        {"drawing": {"samples": 4, "scale_floor": float("nan"), "antialiased": True}},
        {"drawing": {"samples": 4, "scale_floor": 0.25, "antialiased": True, "more": 1}},
        {"refiner": {"latent_channels": 4, "width": 2**19, "heads": 1, "groups": 32, "blocks": 2}},
        {"refiner": {"latent_channels": 4, "width": 8, "heads": 1, "groups": 0, "blocks": 2}},
        {"refiner": {"latent_channels": 4, "width": 8, "heads": 2, "groups": 4, "blocks": 2**19}},
        {"refiner": {"latent_channels": 16, "width": 8, "heads": 2, "groups": 4, "blocks": 3}},
        {"refiner": {"unknown": 1}},
        {"refiner": []},
        {"before": {"same": ["nothing"]}},
        {"before": 3},
        {"scene": {}},
    ],
    ids=str,
)
def test_descriptions_that_lie_are_refused(change, tmp_path):
    refused(rewritten(tmp_path, about=lambda description: description.update(change)))


def test_a_newer_version_is_named(tmp_path):
    refused(rewritten(tmp_path, version="2"), "newer version", "Update the pack")
    refused(rewritten(tmp_path, field="{"), "description")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_no_damaged_byte_gives_anything_but_a_field_or_a_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = save_field(edited(), folder / "field.safetensors")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 12000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert isinstance(load_field(path), LatentField)
    except InputError as error:
        assert "\n" not in str(error)


def test_a_field_with_nan_is_not_written_and_the_old_file_stays(tmp_path):
    latents = edited()
    path = save_field(latents, tmp_path / "field.safetensors")
    before = path.read_bytes()
    with pytest.raises(InputError, match="features"):
        save_field(latents.with_(features=latents.features * torch.nan), path)
    assert path.read_bytes() == before
