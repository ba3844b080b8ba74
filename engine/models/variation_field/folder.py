"""A folder of GVFDiffusion's published files: which networks it holds, and loading them one at a time.

The files are those of `BwZhang/GaussianVariationFieldDiffusion` (MIT): pickles, of which .safetensors are made on first use.
Models of another size have the same files with a `gs4d.json` (`VariationConfig`), may lack the canonical decoder, and may have
an image encoder.

Source: GVFDiffusion (Zhang et al., ICCV 2025), released weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ...errors import InputError
from ...files.folders import visible
from ...files.safetensors_header import read_header
from ...files.safetensors_reader import open_tensors
from ...files.torch_weights import as_safetensors
from ..loading import load_weights, on_meta
from ..trellis import GVF_CANONICAL, GaussianDecoder, GaussianDecoderShape
from ..trellis.folder import load_canonical_decoder
from .conditions import Statistics
from .config import VariationConfig
from .image_encoder import ImageEncoder
from .variation_dit import VariationDit, VariationDitShape
from .variation_vae import VariationVae, VariationVaeShape

# how the names of the published files begin
_STEMS = {
    "transformer": "ema_diffusion",
    "variation-field VAE": "ema_deformation",
    "canonical decoder": "ema_static_vae",
    **{name: name for name in ("static_mean", "static_std", "deformation_mean", "deformation_std")},
}
_SUFFIXES = (".safetensors", ".pt", ".pth")
# what only a folder with a `gs4d.json` may lack, and may have
_LEFT_OUT, _ADDED = "canonical decoder", {"image encoder": "image_encoder"}
_Network = TypeVar("_Network", VariationDit, VariationVae, ImageEncoder)


class VariationFolder:
    """The networks and statistics from a video and a splat to a variation field, as published.

    Args:
        path: The folder, or its parent.
        dit: Architecture of the transformer; None: as the folder's `gs4d.json` says, or as published.
        vae: Architecture of the variation-field VAE; None: likewise.
        canonical: Architecture of the canonical decoder.

    Raises:
        InputError: A file is missing, or there in two versions.

    Example:
        folder = VariationFolder("models/gs4d/gvfdiffusion")
        dit, statistics = folder.transformer("cuda"), folder.statistics("cuda")
    """

    def __init__(
        self,
        path: Path | str,
        dit: VariationDitShape | None = None,
        vae: VariationVaeShape | None = None,
        canonical: GaussianDecoderShape = GVF_CANONICAL,
    ) -> None:
        self.path = Path(path).expanduser()
        places = [self.path, *(p for p in visible(self.path) if p.is_dir())]
        described = next((c for c in map(VariationConfig.of_folder, places) if c), None)
        self.config = described or VariationConfig()
        self._dit, self._vae = dit or self.config.transformer, vae or self.config.vae
        self._canonical = canonical
        stems = _STEMS | (_ADDED if self.config.image_encoder else {})
        self._found: dict[str, Path] = {}
        for what, stem in stems.items():
            files = [
                file
                for place in places
                for file in visible(place, f"{stem}*")
                if file.suffix.lower() in _SUFFIXES and file.is_file()
            ]
            # a pickle and what was made of it are one file
            if len({file.with_suffix("") for file in files}) > 1:
                raise InputError(
                    "MOD-022",
                    f"{self.path.name} holds more than one {what} ({', '.join(file.name for file in files)}); keep one.",
                )
            if files:
                # the pickle where it is still there: it may have been replaced
                self._found[what] = min(files, key=lambda file: file.suffix.lower() == ".safetensors")
        needed = [what for what in stems if not (described and what == _LEFT_OUT)]
        lacking = [f"{stems[what]}…" for what in needed if what not in self._found]
        if lacking:
            raise InputError(
                "MOD-023",
                f"{self.path.name} is not a complete GVFDiffusion folder: it lacks {', '.join(lacking)}. Put all .pt files of "
                "BwZhang/GaussianVariationFieldDiffusion into it.",
            )

    @property
    def files(self) -> list[Path]:
        """The files as they are now, networks first: pickles, or what was made of them."""
        return list(self._found.values())

    def transformer(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> VariationDit:
        """Load the diffusion transformer.

        Args:
            device: Where it goes.
            dtype: Precision of its blocks; they are published in float32.

        Raises:
            InputError: The file is not safe to open, is damaged, or belongs to another network.
        """
        network = on_meta(lambda: VariationDit(self._dit))
        network.cast_torso(dtype)
        return self._load(network, "transformer", device)

    def vae(self, device: torch.device | str = "cpu") -> VariationVae:
        """Load the variation-field VAE; arguments as `transformer`."""
        network = on_meta(lambda: VariationVae(self._vae))
        return self._load(network, "variation-field VAE", device)

    def canonical_decoder(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> GaussianDecoder:
        """Load the decoder of canonical Gaussians, 8 per voxel; arguments as `transformer`."""
        if "canonical decoder" not in self._found:
            raise InputError(
                "MOD-031",
                f"{self.path.name} has no canonical decoder: this model animates a splat that exists. Connect a splat, or use "
                "the published weights.",
            )
        return load_canonical_decoder(self._file("canonical decoder"), device, dtype, self._canonical)

    def image_encoder(self, device: torch.device | str = "cpu") -> ImageEncoder | None:
        """Load the folder's image encoder; None where it has none (the published model uses DINOv2)."""
        shape = self.config.image_encoder
        if shape is None:
            return None
        return self._load(on_meta(lambda: ImageEncoder(shape)), "image encoder", device)

    def statistics(self, device: torch.device | str = "cpu") -> Statistics:
        """Load the means and standard deviations; arguments as `transformer`."""
        sizes = {"static": self._dit.static_cond_channels, "deformation": self._dit.in_channels}
        values = {name: self._vector(name, sizes[name.split("_")[0]]).to(device) for name in list(_STEMS)[3:]}
        return Statistics(**values)

    def _load(self, network: _Network, what: str, device: torch.device | str) -> _Network:
        return load_weights(
            network,
            self._file(what),
            f"GVFDiffusion's {what}",
            rename=lambda name: name.removeprefix("module."),
            device=device,
        )

    def _file(self, what: str) -> Path:
        return as_safetensors(self._found[what])

    def _vector(self, name: str, channels: int) -> Tensor:
        file = self._file(name)
        shapes = read_header(file).shapes
        with open_tensors(file) as opened:
            values = [opened.get_tensor(key).float().flatten() for key in shapes]
        found = values[0] if len(values) == 1 else torch.zeros(0)
        is_usable = len(found) == channels and bool(found.isfinite().all())
        if not is_usable or (name.endswith("_std") and bool((found <= 0).any())):
            raise InputError(
                "MOD-024",
                f"{file.parent.name}/{file.name} is not the {name} of {channels} channels (shapes {list(shapes.values())[:3]}); "
                "download it again.",
            )
        return found
