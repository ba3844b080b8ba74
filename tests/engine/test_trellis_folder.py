"""A folder of TRELLIS' files: it loads as it was saved, and each kind of wrong folder is named."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import InputError
from engine.models import trellis
from engine.models.loading import load_state, on_meta

FLOW = trellis.StructureFlowShape(4, 4, 4, 48, 20, 1, 3)
STRUCTURE = trellis.StructureDecoderShape(1, 4, 1, 1, (16, 8))
LATENT = trellis.LatentFlowShape(16, 4, 4, 48, 20, 1, 3, io_block_channels=(16,))
GAUSSIANS = trellis.GaussianDecoderShape(16, 48, 4, 2, 3, window_size=4)
CANONICAL = trellis.GaussianDecoderShape(16, 48, 4, 2, 3, window_size=4, gaussians=trellis.GaussianFormat(8))
STEMS = ("ss_flow_img_dit", "ss_dec_conv3d", "slat_flow_img_dit", "slat_dec_gs")


def decoder_args() -> dict[str, Any]:
    """Constructor arguments as in the published .json, with entries that are not needed here."""
    args = {key: value for key, value in asdict(GAUSSIANS).items() if key != "gaussians"}
    lr = {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1}
    form = {"lr": lr, "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 32, "scaling_bias": 0.004}
    form |= {"2d_filter_kernel_size": 0.1, "3d_filter_kernel_size": 9e-4, "opacity_bias": 0.1}
    form |= {"scaling_activation": "softplus"}
    return {**args, "attn_mode": "swin", "use_fp16": True, "representation_config": form}


def put(folder: Path, stem: str, name: str, args: dict[str, Any], model: Any = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.json").write_text(json.dumps({"name": name, "args": args}))
    if model is not None:
        model.cast_torso(torch.float16)
        save_file(model.state_dict(), folder / f"{stem}.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    place = tmp_path / "TRELLIS-image-large" / "ckpts"
    flow, latent = ({**asdict(shape), "pe_mode": "ape", "use_fp16": True} for shape in (FLOW, LATENT))
    put(place, STEMS[0], "SparseStructureFlowModel", {**flow, "patch_size": 1}, trellis.StructureFlow(FLOW))
    put(place, STEMS[1], "SparseStructureDecoder", asdict(STRUCTURE), trellis.StructureDecoder(STRUCTURE))
    put(place, STEMS[2], "ElasticSLatFlowModel", {**latent, "patch_size": 2}, trellis.LatentFlow(LATENT))
    put(place, STEMS[3], "ElasticSLatGaussianDecoder", decoder_args(), trellis.GaussianDecoder(GAUSSIANS))
    (place.parent / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": {}}))
    return place.parent


def edit(file: Path, **args: Any) -> None:
    found = json.loads(file.read_text())
    found["args"] |= args
    file.write_text(json.dumps({**found, "args": {k: v for k, v in found["args"].items() if v is not None}}))


def test_every_network_loads_as_it_was_saved(folder: Path):
    for path in (folder, folder / "ckpts"):
        found = trellis.TrellisFolder(path)
        assert [file.stem for file in found.files] == list(STEMS)
        for stem, load, shape in (
            (STEMS[0], found.structure_flow, FLOW),
            (STEMS[1], found.structure_decoder, STRUCTURE),
            (STEMS[2], found.latent_flow, LATENT),
            (STEMS[3], found.gaussian_decoder, GAUSSIANS),
        ):
            saved = load_file(folder / "ckpts" / f"{stem}.safetensors")
            full, half = load(), load(dtype=torch.float16)
            assert full.shape == shape
            assert not full.training and not any(p.requires_grad for p in full.parameters())
            for name, tensor in saved.items():
                assert torch.equal(full.state_dict()[name], tensor.float())
                # float16 blocks between float32 norms, as the file has them
                assert torch.equal(half.state_dict()[name], tensor)
                assert half.state_dict()[name].dtype == tensor.dtype


def test_loaded_networks_run(folder: Path):
    found = trellis.TrellisFolder(folder)
    voxels = trellis.Voxels(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]]))
    flow, decoder = found.latent_flow(), found.gaussian_decoder()
    assert flow(torch.randn(2, 4), torch.tensor([500.0]), torch.randn(1, 3, 20), voxels).shape == (2, 4)
    assert len(decoder(torch.randn(2, 4), voxels)[0]) == 64
    latents = torch.randn(1, 4, 4, 4, 4)
    assert (
        found.structure_flow()(latents, torch.tensor([500.0]), torch.randn(1, 3, 20)).shape == latents.shape
    )
    assert found.structure_decoder()(latents).shape == (1, 1, 8, 8, 8)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda p: (p / f"{STEMS[1]}.json").unlink(), "lacks the structure decoder"),
        (lambda p: (p / f"{STEMS[2]}.safetensors").unlink(), r"lacks the slat_flow_img_dit\.safetensors"),
        (lambda p: put(p, "slat_flow_txt", "SLatFlowModel", {}), "more than one latent flow"),
        (lambda p: put(p, "shape_dec", "FlexiDualGridVaeDecoder", {}), r"holds TRELLIS\.2"),
        (lambda p: edit(p / f"{STEMS[0]}.json", pe_mode="rope"), r"holds TRELLIS\.2"),
        (lambda p: edit(p / f"{STEMS[0]}.json", patch_size=2), "patch_size = 2"),
        (lambda p: edit(p / f"{STEMS[3]}.json", attn_mode="full"), "attn_mode = 'full'"),
        (lambda p: (p / f"{STEMS[0]}.safetensors").write_bytes(b"\0" * 4), r"not a \.safetensors file"),
        (
            lambda p: (p / f"{STEMS[3]}.safetensors").write_bytes(
                (p / f"{STEMS[3]}.safetensors").read_bytes()[:-8]
            ),
            "cut short",
        ),
    ],
)
def test_wrong_folders_are_named_before_anything_is_loaded(folder: Path, damage: Any, sentence: str):
    damage(folder / "ckpts")
    with pytest.raises(InputError, match=sentence):
        trellis.TrellisFolder(folder)


@pytest.mark.parametrize(
    ("stem", "args", "sentence"),
    [
        (STEMS[0], {"num_heads": None}, "'num_heads' is missing"),
        (STEMS[0], {"model_channels": -1}, "'model_channels' is -1"),
        (STEMS[0], {"num_blocks": 2}, "structure flow: .* are missing"),
        (STEMS[2], {"cond_channels": 24}, r"latent flow: .* \[96, 20\] instead of \[96, 24\]"),
        (STEMS[2], {"qk_rms_norm": False}, "unknown"),
        (STEMS[3], {"representation_config": {"num_gaussians": 8}}, "makes 32 Gaussians per voxel"),
        (STEMS[3], {"representation_config": {"perturb_offset": False}}, "perturb_offset = False"),
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_named(
    folder: Path, stem: str, args: Any, sentence: str
):
    edit(folder / "ckpts" / f"{stem}.json", **args)
    with pytest.raises(InputError, match=sentence):
        found = trellis.TrellisFolder(folder)
        dict(
            zip(STEMS, (found.structure_flow, None, found.latent_flow, found.gaussian_decoder), strict=True)
        )[stem]()


def gvf_file(path: Path, model: trellis.GaussianDecoder) -> Path:
    """The canonical VAE in GVFDiffusion's names, with an encoder."""
    names = {"blocks": "decoder", "input_layer": "from_latent", "out_layer": "out_layer"}
    state = {"module.encoder.0.weight": torch.ones(2), "module.MipGS_perturbation": torch.zeros(8, 3)}
    for name, tensor in model.state_dict().items():
        head, _, rest = name.partition(".")
        if head in names:
            state[f"module.{names[head]}.{rest}"] = tensor
    save_file(state, path)
    return path


def test_the_canonical_decoder_loads_without_its_encoder(tmp_path: Path):
    saved = trellis.GaussianDecoder(CANONICAL)
    loaded = trellis.load_canonical_decoder(gvf_file(tmp_path / "vae.safetensors", saved), shape=CANONICAL)
    # the perturbation is computed, not read
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in saved.state_dict().items())


def test_the_other_decoder_is_named(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"makes 32 Gaussians per voxel, but GVFDiffusion's .* 8"):
        trellis.load_canonical_decoder(folder / "ckpts" / f"{STEMS[3]}.safetensors", shape=CANONICAL)
    gvf_file(folder / "ckpts" / f"{STEMS[3]}.safetensors", trellis.GaussianDecoder(CANONICAL))
    with pytest.raises(InputError, match=r"makes 8 Gaussians per voxel, but TRELLIS' .* 32"):
        trellis.TrellisFolder(folder).gaussian_decoder()
    pickle = tmp_path / "ema_static_vae.pt"
    pickle.write_bytes(b"")
    with pytest.raises(InputError, match="pickle"):
        trellis.load_canonical_decoder(pickle)


def test_nothing_is_read_when_a_name_is_wrong():
    def read(name: str) -> torch.Tensor:
        pytest.fail(f"{name} was read")

    network = on_meta(lambda: torch.nn.Linear(2, 3))
    with pytest.raises(
        InputError, match=r"1 of 2 tensors are missing \(such as bias\), 1 are unknown \(such as b\)"
    ):
        load_state(network, {"weight": (3, 2), "b": (3,)}, read, "a.safetensors", "a layer")
    assert network.weight.is_meta
