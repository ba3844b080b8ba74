"""A mesh's motion through the variation-field VAE, with random weights: placement, history, and what does not fit."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.deform.per_frame import PerFrame
from engine.errors import InputError
from engine.generation.mesh_encoding import MeshEncoding
from engine.generation.model_space import ModelSpace
from engine.generation.variation import VariationModels
from engine.geometry.animated_mesh import sample_surface
from engine.geometry.placement import canonical, moved, upright
from engine.io.gltf import open_document, read_animated_mesh
from engine.io.scene_file import load_scene, save_scene
from engine.io.splats import read_splat
from engine.messages import Progress, result, returned
from engine.models.variation_field import canonical_changes
from engine.scene import Gaussians
from engine.steps import encode_mesh
from engine.steps.encode_mesh import Config
from tests.conftest import ROOT
from tests.tiny_variation import save_variation

PUPPET = ROOT / "assets" / "puppets" / "clay_dancer"
MESH = PUPPET / "clay_dancer.glb"
QUICK = Config(action="Walk", fps=8.0, fit="bounds", up="y down", pose="rest", points=256)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> VariationModels:
    return VariationModels(save_variation(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def splat() -> Gaussians:
    return read_splat(PUPPET / "clay_dancer.spz").map(lambda t: t[::60])


def test_every_frame_becomes_changes_of_all_gaussians(
    models: VariationModels, splat: Gaussians, tmp_path
) -> None:
    seen = list(encode_mesh.run(models, [splat], MESH, config=QUICK))
    scene = seen[-1].value
    done = [message.done for message in seen if isinstance(message, Progress)]
    assert done == sorted(done) and done[-1] == seen[0].total == 18
    assert isinstance(scene.deformation, PerFrame) and len(scene.times) == 9
    changes = scene.deformation.changes
    assert set(changes) == {"means", "log_scales", "quats", "logit_opacities", "sh"}
    assert all(float(t[3].abs().max()) > 0 for t in changes.values())
    # another frame of the mesh is another latent
    assert not torch.allclose(changes["means"][2], changes["means"][6], atol=1e-6)
    assert "scaled by" in encode_mesh.summary(scene)
    again = load_scene(save_scene(scene, tmp_path / "scene.safetensors"))
    assert torch.equal(again.at(0.4).means, scene.at(0.4).means)


def test_the_network_sees_mesh_and_splat_in_its_own_box(models: VariationModels, splat: Gaussians) -> None:
    """The same numbers as by hand: everything turned to z up and scaled into the box before it is encoded."""
    mesh = returned(read_animated_mesh(open_document(MESH), "Walk", 4.0))
    half_turn = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0]])
    mesh = mesh.moved(half_turn)
    got, _ = returned(MeshEncoding(models, splat, "y down", mesh, mesh.rest, 128, 500).changes())
    placed = canonical(splat, "y down")
    samples = sample_surface(mesh.rest, mesh.faces, 128)

    def in_box(points: torch.Tensor) -> torch.Tensor:
        count = len(points)
        carrier = splat.map(lambda t: t[:1].expand(count, *t.shape[1:])).with_(means=points)
        return moved(upright(carrier, "y down"), placed.scale, placed.shift).means

    first = in_box(samples.points(mesh.rest, mesh.faces))
    shift = torch.stack([in_box(samples.points(frame, mesh.faces)) - first for frame in mesh.frames])
    raw = ModelSpace.of(splat, "y down").raw
    assert float(first.abs().max()) < 0.6
    vae = models.folder.vae()
    with torch.no_grad():
        latents = vae.encode(first[None], shift[None], [raw.vector()]).mean
        wanted = canonical_changes(raw, vae.decode(latents, raw.vector()[None])[0])
    assert torch.allclose(got["logit_opacities"], wanted["logit_opacities"], atol=1e-4)
    assert torch.allclose(got["log_scales"], wanted["log_scales"], atol=1e-3)
    # z up is -y of the scene
    assert torch.allclose(got["means"][..., 1], -wanted["means"][..., 2] / placed.scale, atol=1e-4)


def test_a_decoder_that_changes_nothing_leaves_the_splat_as_it_is(tmp_path, splat: Gaussians) -> None:
    still = VariationModels(save_variation(tmp_path / "still", still=True))
    scene = result(encode_mesh.run(still, [splat], MESH, config=QUICK))
    for got, wanted in zip(scene.at(0.5).tensors().values(), splat.tensors().values(), strict=True):
        assert torch.equal(got, wanted)


def test_what_cannot_be_encoded_is_named(
    models: VariationModels, splat: Gaussians, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="16 anchors"):
        few, config = splat.map(lambda t: t[:8]), replace(QUICK, fit="auto")
        result(encode_mesh.run(models, [few], MESH, config=config))
    monkeypatch.setattr("engine.generation.mesh_encoding.MOST_CHANGES", 1000)
    with pytest.raises(InputError, match="at most 2 frames") as caught:
        result(encode_mesh.run(models, [splat], MESH, config=QUICK))
    assert caught.value.code == "GEN-050"
    monkeypatch.undo()
    folder = save_variation(tmp_path / "broken")
    file = folder / "ema_deformation.safetensors"
    save_file({name: t * torch.nan for name, t in load_file(file).items()}, file)
    with pytest.raises(InputError) as caught:
        result(encode_mesh.run(VariationModels(folder), [splat], MESH, config=QUICK))
    assert caught.value.code == "GEN-051"
