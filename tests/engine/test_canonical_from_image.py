"""Canonical Gaussians from an image, with random weights: stages, seed, memory, and weights that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.cli import main
from engine.errors import InputError
from engine.generation.trellis import TrellisModels
from engine.io.scene_file import load_scene
from engine.messages import Finished, Preview, Progress, Started, result
from engine.models.trellis import LatentFlow, RawGaussians, StructureFlow, TrellisFolder
from engine.steps import canonical_from_image as step
from engine.steps.canonical_from_image import Config
from tests.tiny_trellis import CANONICAL, STEMS, save_canonical_decoder, save_encoder, save_trellis

FAST = Config(structure_steps=2, latent_steps=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("trellis")
    return save_trellis(root / "TRELLIS-image-large"), save_encoder(root / "dinov2")


@pytest.fixture(scope="module")
def models(folders: tuple[Path, Path]) -> TrellisModels:
    return TrellisModels(*folders)


def image(seed: int = 0) -> torch.Tensor:
    rgba = torch.rand(1, 40, 50, 4, generator=torch.Generator().manual_seed(seed))
    rgba[..., 3] = 0
    rgba[:, 8:30, 12:28, 3] = 1
    return rgba


def test_a_scene_of_one_frame_comes_out_with_progress_and_history(models: TrellisModels):
    messages = list(step.run(models, image(), config=FAST))
    started = messages[0]
    assert isinstance(started, Started) and started.total == 7
    assert [m.done for m in messages if isinstance(m, Progress)] == list(range(1, 8))
    assert len([m for m in messages if isinstance(m, Preview)]) == 2
    finished = messages[-1]
    assert isinstance(finished, Finished)
    made = finished.value
    scene, entry = made.scene, made.scene.last_entry("canonical_from_image")
    assert scene.deformation.kind == "still" and len(scene.times) == 1
    assert entry["gaussians"] == len(scene.canonical) > 1000
    assert entry["config"]["structure_steps"] == 2 and entry["weights"] == models.fingerprint()
    # the rig stands upright around it
    up = -scene.rig.world_to_camera[:, 1, :3].mean(0)
    assert float(up[2]) > 0.9
    # raw parameters of the network, quaternions as long as they were
    raw = RawGaussians.from_gaussians(scene.canonical)
    assert float((scene.canonical.quats.norm(dim=-1) - 1).abs().max()) > 1e-3
    assert float(raw.sizes().min()) >= 0.0009


def test_the_seed_decides_and_the_image_matters(models: TrellisModels):
    first, again = (result(step.run(models, image(), config=FAST)).scene.canonical for _ in range(2))
    assert all(
        torch.equal(a, b) for a, b in zip(first.tensors().values(), again.tensors().values(), strict=True)
    )
    for other in (
        step.run(models, image(), config=Config(seed=1, structure_steps=2, latent_steps=2)),
        step.run(models, image(1), config=FAST),
        step.run(models, image(), config=Config(structure_steps=2, latent_steps=2, latent_guidance=0)),
    ):
        got = result(other).scene.canonical.means
        assert got.shape != first.means.shape or not torch.equal(got, first.means)


def test_most_voxels_bound_the_object_and_the_note_says_so(models: TrellisModels):
    made = result(step.run(models, image(), config=Config(structure_steps=2, latent_steps=2, max_voxels=256)))
    assert made.scene.last_entry("canonical_from_image")["voxels"] == 256
    assert "raise 'max voxels'" in made.note


def test_gvfdiffusions_decoder_makes_eight_per_voxel(folders: tuple[Path, Path], tmp_path: Path):
    decoder = save_canonical_decoder(tmp_path / "gvf" / "ema_static_vae_0.9999_200000.safetensors")
    made = result(step.run(TrellisModels(*folders, decoder), image(), config=FAST))
    entry = made.scene.last_entry("canonical_from_image")
    assert len(made.scene.canonical) == 8 * entry["voxels"]
    assert "8 Gaussians per voxel" in entry["models"]


def test_one_network_is_in_memory_at_a_time_also_after_a_cancel(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    import gc
    import weakref

    alive: list[Any] = []
    for name in ("structure_flow", "structure_decoder", "latent_flow", "gaussian_decoder"):
        load = getattr(TrellisFolder, name)

        def watched(self: Any, *args: Any, load: Any = load, **more: Any) -> Any:
            gc.collect()
            assert not [ref for ref in alive if ref() is not None]
            network = load(self, *args, **more)
            alive.append(weakref.ref(network))
            return network

        monkeypatch.setattr(TrellisFolder, name, watched)
    models = TrellisModels(*folders)
    result(step.run(models, image(), config=FAST))
    assert len(alive) == 4
    stream = step.run(models, image(), config=FAST)
    while not (isinstance(message := next(stream), Progress) and message.done == 2):
        pass
    assert [ref for ref in alive if ref() is not None]
    stream.close()
    gc.collect()
    assert not [ref for ref in alive if ref() is not None]


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (StructureFlow, "while sampling the structure: .* choose device 'cpu'"),
        (LatentFlow, r"while sampling the latents: .* Lower 'max voxels' below the [\d,]+ that"),
    ],
)
def test_memory_that_runs_out_names_the_stage_and_the_number(
    models: TrellisModels, monkeypatch: pytest.MonkeyPatch, network: Any, sentence: str
):
    # the allocator's own error
    monkeypatch.setattr(network, "forward", lambda *_: torch.empty(1 << 60))
    with pytest.raises(InputError, match=sentence):
        result(step.run(models, image(), config=FAST))


def test_statistics_and_sampling_come_from_pipeline_json(folders: tuple[Path, Path], tmp_path: Path):
    params = {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.25, 1.0], "rescale_t": 4.0}
    args: dict[str, Any] = {
        "sparse_structure_sampler": {"args": {"sigma_min": 1e-4}, "params": params},
        "slat_normalization": {"mean": [0.0] * 8, "std": [2.0] * 8},
    }
    folder = save_trellis(tmp_path / "TRELLIS", pipeline={"args": args})
    for path in (folder, folder / "ckpts"):
        found = TrellisFolder(path).pipeline
        assert (found.structure.interval, found.structure.shift) == ((0.25, 1.0), 4.0)
        assert (found.structure.sigma_min, found.structure.steps) == (1e-4, 25)
        assert (found.latents.interval, found.latents.shift) == ((0.5, 1.0), 3.0)
        torch.testing.assert_close(found.denormalize(torch.ones(2, 8)), torch.full((2, 8), 2.0))
    for wrong in ({"mean": [0.0] * 7}, {"std": [0.0] * 8}, {"mean": "none"}):
        args["slat_normalization"] = wrong
        (folder / "pipeline.json").write_text(json.dumps({"args": args}))
        with pytest.raises(InputError, match=r"TRELLIS/pipeline\.json: '(mean|std)' is .* 8 numbers"):
            TrellisModels(folder, folders[1])


def test_an_image_encoder_of_another_size_is_named(folders: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(InputError, match="takes image tokens of 24 channels, but dinov2-small makes 16"):
        TrellisModels(folders[0], save_encoder(tmp_path / "dinov2-small", channels=16))


def test_weights_of_another_decoder_or_network_are_found_before_sampling(
    folders: tuple[Path, Path], tmp_path: Path
):
    own = folders[0] / "ckpts" / f"{STEMS[3]}.safetensors"
    with pytest.raises(InputError, match=r"makes 32 Gaussians per voxel, but GVFDiffusion's .* 8"):
        TrellisModels(*folders, own)
    folder = save_trellis(tmp_path / "TRELLIS")
    save_canonical_decoder(folder / "ckpts" / f"{STEMS[3]}.safetensors", CANONICAL)
    with pytest.raises(InputError, match=r"makes 8 Gaussians per voxel, but TRELLIS' .* 32"):
        TrellisModels(folder, folders[1])
    weights = folder / "ckpts" / f"{STEMS[2]}.safetensors"
    weights.write_bytes((folder / "ckpts" / f"{STEMS[0]}.safetensors").read_bytes())
    own_again = folders[0] / "ckpts" / f"{STEMS[3]}.safetensors"
    (folder / "ckpts" / f"{STEMS[3]}.safetensors").write_bytes(own_again.read_bytes())
    with pytest.raises(InputError, match="does not hold the weights of TRELLIS' latent flow"):
        TrellisModels(folder, folders[1])
    # TripoSplat's single file, or any other folder
    (tmp_path / "triposplat").mkdir()
    with pytest.raises(InputError, match="triposplat is not a complete TRELLIS folder"):
        TrellisModels(tmp_path / "triposplat", folders[1])


@pytest.mark.parametrize(
    ("images", "mask", "config", "sentence"),
    [
        (image()[..., :3], None, FAST, "no alpha channel"),
        (image() * torch.tensor([1.0, 1, 1, 0]), None, FAST, "no foreground"),
        (image(), None, Config(frame=1), "Image 1 does not exist; there are 1"),
        (image()[..., :3], torch.ones(1, 40, 50), FAST, "all four corners"),
    ],
)
def test_images_that_cannot_be_used_are_named(
    models: TrellisModels, images: torch.Tensor, mask: torch.Tensor | None, config: Config, sentence: str
):
    with pytest.raises(InputError, match=sentence):
        result(step.run(models, images, mask, config))


def test_the_command_line_writes_a_scene(folders: tuple[Path, Path], tmp_path: Path):
    from PIL import Image

    Image.fromarray((image()[0] * 255).byte().numpy()).save(tmp_path / "object.png")
    out = tmp_path / "object.safetensors"
    words = ["canonical", "--trellis", folders[0], "--image-encoder", folders[1], "--device", "cpu"]
    words += ["--images", tmp_path / "object.png", "--structure-steps", 2, "--latent-steps", 2, "-o", out]
    assert main([str(word) for word in words]) == 0
    entry = load_scene(out).last_entry("canonical_from_image") or {}
    assert entry["config"]["latent_steps"] == 2
