"""A folder of TRELLIS' published files: which networks it holds, and loading them one at a time.

Each network is a .json (class name and constructor arguments) beside a .safetensors of the same stem; the folder is that of
`microsoft/TRELLIS-image-large`, or its `ckpts`. Networks are identified by the class name, not by the file name.

Source: TRELLIS (Xiang et al., CVPR 2025), released weights (MIT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import InputError
from ...files.folders import visible
from ...files.jsonfile import read_json
from ...files.weights import read_header, refuse_pickle
from ..loading import check_weights, load_weights, on_meta
from .gaussian_decoder import GVF_CANONICAL, GaussianDecoder, GaussianDecoderShape, gvf_name
from .latent_flow import LatentFlow, LatentFlowShape
from .pipeline import Pipeline, read_pipeline
from .raw_gaussians import GaussianFormat, offset_perturbation
from .structure_decoder import StructureDecoder, StructureDecoderShape
from .structure_flow import StructureFlow, StructureFlowShape

WANTED = "use the folder of TRELLIS-image-large"
_CANONICAL = "GVFDiffusion's canonical decoder"
_Network = TypeVar("_Network", StructureFlow, StructureDecoder, LatentFlow, GaussianDecoder)

# classes of TRELLIS.2, which has no Gaussian decoder
_SECOND = (
    "FlexiDualGridVaeDecoder",
    "SparseUnetVaeDecoder",
    "FlexiDualGridVaeEncoder",
    "SparseUnetVaeEncoder",
)
_PUBLISHED = {
    "structure flow": ("SparseStructureFlowModel",),
    "structure decoder": ("SparseStructureDecoder",),
    "latent flow": ("SLatFlowModel", "ElasticSLatFlowModel"),
    "Gaussian decoder": ("SLatGaussianDecoder", "ElasticSLatGaussianDecoder"),
}
# arguments that change the computation, and the only values that are implemented
_FLOW = {"pe_mode": "ape", "share_mod": False, "qk_rms_norm_cross": False}
_FIXED: dict[str, dict[str, Any]] = {
    "structure flow": {**_FLOW, "patch_size": 1},
    "structure decoder": {"norm_type": "layer"},
    "latent flow": {**_FLOW, "patch_size": 2, "use_skip_connection": True},
    "Gaussian decoder": {"attn_mode": "swin", "pe_mode": "ape", "qk_rms_norm": False},
}
_GAUSSIANS = {"perturb_offset": True, "scaling_activation": "softplus"}
# what the released classes assume where an argument is not written
_ASSUMED = {"mlp_ratio": 4, "qk_rms_norm": False, "num_res_blocks_middle": 2}


@dataclass(frozen=True)
class _Found:
    """One network of the folder."""

    weights: Path
    config: str  # name of its .json in messages
    args: dict[str, Any]


class TrellisFolder:
    """The four networks from image tokens to Gaussians, as published.

    Args:
        path: The folder, or its parent with a `ckpts`.

    Raises:
        InputError: A network is missing or there twice, a file is damaged, or the folder holds TRELLIS.2.

    Example:
        folder = TrellisFolder("models/gs4d/trellis")
        flow = folder.structure_flow("cuda", torch.float16)
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        places = [place for place in (self.path, self.path / "ckpts") if place.is_dir()]
        configs = {file: _config(file) for place in places for file in visible(place, "*.json")}
        if any(
            config.get("name") in _SECOND or _args(config).get("pe_mode") == "rope"
            for config in configs.values()
        ):
            raise InputError(
                "MOD-002",
                f"{self.path.name} holds TRELLIS.2, which makes meshes and cannot make Gaussians; {WANTED}.",
            )
        self._found: dict[str, _Found] = {}
        for what, classes in _PUBLISHED.items():
            files = [file for file, config in configs.items() if config.get("name") in classes]
            if len(files) > 1:
                raise InputError(
                    "MOD-003",
                    f"{self.path.name} holds more than one {what} ({', '.join(file.name for file in files)}); {WANTED} "
                    "alone.",
                )
            if files:
                weights = files[0].with_suffix(".safetensors")
                name = f"{files[0].parent.name}/{files[0].name}"
                self._found[what] = _Found(weights, name, _args(configs[files[0]]))
        lacking = [what for what in _PUBLISHED if what not in self._found]
        lacking += [f"{it.weights.name}" for it in self._found.values() if not it.weights.is_file()]
        if lacking:
            raise InputError(
                "MOD-004",
                f"{self.path.name} is not a complete TRELLIS folder: it lacks the {', the '.join(lacking)}. Put the .json "
                "and the .safetensors of each network from ckpts of TRELLIS-image-large into it.",
            )
        for what, found in self._found.items():
            _check_fixed(found.args, _FIXED[what], found.config)
            # a download that broke off is found before anything runs
            read_header(found.weights)
        self._gaussians = _gaussian_format(self._found["Gaussian decoder"])
        _check_count(
            self._found["Gaussian decoder"].weights, self._gaussians.count, "TRELLIS' Gaussian decoder"
        )

    def check(self, gaussian_decoder: bool = True) -> None:
        """Compare names and shapes of all weights with the networks, without reading tensors.

        Args:
            gaussian_decoder: The Gaussian decoder too.

        Raises:
            InputError: The weights of one belong to another network.
        """
        builds: dict[str, Callable[[], torch.nn.Module]] = {
            "structure flow": lambda: StructureFlow(self._shape("structure flow", StructureFlowShape)),
            "structure decoder": lambda: StructureDecoder(
                self._shape("structure decoder", StructureDecoderShape)
            ),
            "latent flow": lambda: LatentFlow(self._shape("latent flow", LatentFlowShape)),
        }
        if gaussian_decoder:
            builds["Gaussian decoder"] = lambda: GaussianDecoder(self.decoder_shape)
        for what, build in builds.items():
            check_weights(on_meta(build), self._found[what].weights, f"TRELLIS' {what}")

    @property
    def cond_channels(self) -> dict[str, int]:
        """Channels of the image tokens that each flow takes."""
        flow = self._shape("structure flow", StructureFlowShape)
        latent = self._shape("latent flow", LatentFlowShape)
        return {"structure flow": flow.cond_channels, "latent flow": latent.cond_channels}

    @property
    def decoder_shape(self) -> GaussianDecoderShape:
        """Architecture of the Gaussian decoder."""
        return self._shape("Gaussian decoder", GaussianDecoderShape, gaussians=self._gaussians)

    @property
    def pipeline(self) -> Pipeline:
        """Sampling parameters and statistics of pipeline.json; the published ones where there is none."""
        return read_pipeline(self.path, self._shape("latent flow", LatentFlowShape).in_channels)

    @property
    def files(self) -> list[Path]:
        """The weights, in the order of use."""
        return [self._found[what].weights for what in _PUBLISHED]

    def structure_flow(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> StructureFlow:
        """Load the structure flow.

        Args:
            device: Where it goes.
            dtype: Precision of its blocks; they are published in float16.

        Raises:
            InputError: The weights belong to another network.
        """
        shape = self._shape("structure flow", StructureFlowShape)
        return self._load("structure flow", lambda: StructureFlow(shape), device, dtype)

    def structure_decoder(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> StructureDecoder:
        """Load the structure decoder; arguments as `structure_flow`."""
        shape = self._shape("structure decoder", StructureDecoderShape)
        return self._load("structure decoder", lambda: StructureDecoder(shape), device, dtype)

    def latent_flow(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> LatentFlow:
        """Load the latent flow; arguments as `structure_flow`."""
        shape = self._shape("latent flow", LatentFlowShape)
        return self._load("latent flow", lambda: LatentFlow(shape), device, dtype)

    def gaussian_decoder(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> GaussianDecoder:
        """Load the Gaussian decoder; arguments as `structure_flow`."""
        shape = self.decoder_shape
        return self._load("Gaussian decoder", lambda: GaussianDecoder(shape), device, dtype)

    def _shape(self, what: str, kind: type[Any], **more: Any) -> Any:
        found = self._found[what]
        return _read_shape(kind, found.args, found.config, **more)

    def _load(
        self, what: str, build: Callable[[], _Network], device: torch.device | str, dtype: torch.dtype
    ) -> _Network:
        network = on_meta(build)
        network.cast_torso(dtype)
        return load_weights(network, self._found[what].weights, f"TRELLIS' {what}", device=device)


def load_canonical_decoder(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    shape: GaussianDecoderShape = GVF_CANONICAL,
) -> GaussianDecoder:
    """Load GVFDiffusion's canonical decoder: 8 Gaussians per voxel.

    Args:
        path: A .safetensors of the canonical VAE, or of its decoder alone, in GVFDiffusion's names.
        device: Where it goes.
        dtype: Precision of its blocks.
        shape: The architecture.

    Raises:
        InputError: The file belongs to another network, TRELLIS' own decoder for example.
    """
    check_canonical_decoder(path, shape)
    start = offset_perturbation(shape.gaussians.count, shape.gaussians.voxel_size)
    network = on_meta(lambda: GaussianDecoder(shape))
    network.cast_torso(dtype)
    return load_weights(
        network,
        path,
        _CANONICAL,
        rename=gvf_name,
        defaults={"offset_perturbation": start},
        device=device,
    )


def check_canonical_decoder(path: Path, shape: GaussianDecoderShape = GVF_CANONICAL) -> None:
    """Compare names and shapes of GVFDiffusion's canonical decoder with a file; arguments and error as
    `load_canonical_decoder`."""
    refuse_pickle(path)
    _check_count(path, shape.gaussians.count, _CANONICAL)
    network = on_meta(lambda: GaussianDecoder(shape))
    check_weights(network, path, _CANONICAL, rename=gvf_name, defaults=["offset_perturbation"])


def _check_count(path: Path, expected: int, what: str) -> None:
    """InputError where the file's decoder makes another number of Gaussians per voxel."""
    shapes = read_header(path).shapes
    out = next((shape for name, shape in shapes.items() if name.endswith("out_layer.weight")), ())
    if len(out) == 2 and out[0] % 14 == 0 and out[0] != 14 * expected:
        raise InputError(
            "MOD-005",
            f"{path.parent.name}/{path.name} makes {out[0] // 14} Gaussians per voxel, but {what} makes {expected}. "
            "TRELLIS' own decoder makes 32 and GVFDiffusion's 8; choose the other file.",
        )


def _config(file: Path) -> dict[str, Any]:
    found = read_json(file, f"{file.parent.name}/{file.name}")
    return found if isinstance(found, dict) else {}


def _args(config: Mapping[str, Any]) -> dict[str, Any]:
    args = config.get("args")
    return args if isinstance(args, dict) else {}


def _check_fixed(args: Mapping[str, Any], fixed: Mapping[str, Any], name: str) -> None:
    for key, value in fixed.items():
        if args.get(key, value) != value:
            raise InputError(
                "MOD-006", f"{name} has {key} = {args[key]!r}, but only {value!r} is supported; {WANTED}."
            )


def _read_shape(kind: type[Any], args: Mapping[str, Any], name: str, **more: Any) -> Any:
    """The dataclass `kind` from constructor arguments; `more` are fields that are read elsewhere."""
    values = dict(more)
    for field in fields(kind):
        if field.name not in more:
            values[field.name] = _value(field, args, name)
    return kind(**values)


def _value(field: Field[Any], args: Mapping[str, Any], name: str) -> Any:
    value = args.get(field.name, _ASSUMED.get(field.name, MISSING))
    if isinstance(value, list) and value and all(type(it) is int and it > 0 for it in value):
        return tuple(value)
    wants_list, wants_flag = isinstance(field.default, tuple), isinstance(field.default, bool)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    if wants_list or (not isinstance(value, bool) if wants_flag else not is_number):
        written = "is missing" if value is MISSING else f"is {value!r}"
        raise InputError(
            "MOD-007", f"{name}: '{field.name}' {written}; download the .json of the network again."
        )
    return value


def _gaussian_format(found: _Found) -> GaussianFormat:
    form = found.args.get("representation_config")
    form = form if isinstance(form, dict) else {}
    _check_fixed(form, _GAUSSIANS, found.config)
    own = GaussianFormat()
    lr = form.get("lr")
    lr = lr if isinstance(lr, dict) else {}
    same = {key: 1.0 for key in ("_xyz", "_features_dc", "_opacity", "_scaling")}
    _check_fixed(lr, same, found.config)
    written = {
        "count": form.get("num_gaussians", own.count),
        "voxel_size": form.get("voxel_size", own.voxel_size),
        "rotation_multiplier": lr.get("_rotation", own.rotation_multiplier),
        "scale_bias": form.get("scaling_bias", own.scale_bias),
        "min_scale": form.get("3d_filter_kernel_size", own.min_scale),
        "opacity_bias": form.get("opacity_bias", own.opacity_bias),
    }
    return _read_shape(GaussianFormat, written, found.config)
