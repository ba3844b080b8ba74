"""Metrics with trained networks, LPIPS and CLIP. The user provides the weights; nothing is downloaded.

Source: LPIPS: Zhang et al., CVPR 2018 (linear weights v0.1 from the package `lpips`). CLIP: Radford et al. 2021. Values of
different networks cannot be compared, so every loaded network has a name to report with them.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from .. import backends
from ..errors import InputError
from ..files.jsonfile import read_json
from ..files.safetensors_reader import read_tensors
from ..files.weights import check_folder
from ..models.text_length import cut_short, length_note

# indices as in torchvision's `features`: convolution → (stride, padding); taps read the ReLU after a convolution
_NETWORKS: dict[str, dict[str, Any]] = {
    "vgg": {
        "convolutions": {i: (1, 1) for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)},
        # index → (kernel, stride)
        "pools": {4: (2, 2), 9: (2, 2), 16: (2, 2), 23: (2, 2)},
        "taps": (2, 7, 14, 21, 28),
        "first": (64, 3, 3, 3),
    },
    "alex": {
        "convolutions": {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)},
        "pools": {2: (3, 2), 5: (3, 2)},
        "taps": (0, 3, 6, 8, 10),
        "first": (64, 3, 11, 11),
    },
}
# of LPIPS, for images in −1..1
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# length of a difference of unit features below which its direction is undefined
UNDEFINED = 1e-4


@dataclass(frozen=True, eq=False)
class Lpips:
    """The network of LPIPS; calling it with two batches of images [B, 3, H, W] in −1..1 gives distances [B, 1, 1, 1].

    Args:
        kind: vgg or alex.
        name: File name of the weights.
        features: Weights and biases of the convolutions.
        linear: Linear weights, 5 × [1, C, 1, 1].
    """

    kind: str
    name: str
    features: dict[str, Tensor]
    linear: tuple[Tensor, ...]

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        total = torch.zeros(len(a), 1, 1, 1, device=a.device)
        for x, y, weight in zip(self._taps(a), self._taps(b), self.linear, strict=True):
            difference = (_unit(x) - _unit(y)).square()
            total = total + F.conv2d(difference, weight).mean(dim=(2, 3), keepdim=True)
        return total

    def _taps(self, x: Tensor) -> list[Tensor]:
        network = _NETWORKS[self.kind]
        shift, scale = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        x, taps = (x - shift) / scale, []
        for i in range(max(network["convolutions"]) + 1):
            if i in network["pools"]:
                x = F.max_pool2d(x, *network["pools"][i])
            if i in network["convolutions"]:
                stride, padding = network["convolutions"][i]
                weight, bias = self.features[f"{i}.weight"], self.features[f"{i}.bias"]
                x = F.relu(F.conv2d(x, weight, bias, stride, padding))
                if i in network["taps"]:
                    taps.append(x)
        return taps


def load_lpips(weights: Path, device: torch.device | str = "cpu", linear: Path | None = None) -> Lpips:
    """Load LPIPS.

    Args:
        weights: torchvision's VGG16 or AlexNet weights (`vgg16-397923af.pth`, `alexnet-owt-7be5be79.pth`, or the same as
            .safetensors).
        device: Torch device.
        linear: LPIPS's linear weights; None: those of the installed package `lpips`.

    Returns:
        The network for `metrics.lpips`.

    Raises:
        InputError: A file is missing, damaged or of another network.

    Example:
        network = load_lpips(Path("vgg16-397923af.pth"))
        distance = lpips(rendered, captured, network)
    """
    state = _read(weights, "LPIPS weights")
    first = state.get("features.0.weight")
    kind = next(
        (k for k, v in _NETWORKS.items() if first is not None and tuple(first.shape) == v["first"]), None
    )
    if kind is None:
        raise InputError(
            "LOS-002",
            f"{weights.name} is neither torchvision's VGG16 nor its AlexNet, which LPIPS needs; "
            "use vgg16-397923af.pth or alexnet-owt-7be5be79.pth.",
        )
    linear = linear or _linear_of_package(kind)
    lins = _read(linear, "LPIPS's linear weights")
    try:
        features = {
            f"{i}.{part}": state[f"features.{i}.{part}"].float().to(device)
            for i in _NETWORKS[kind]["convolutions"]
            for part in ("weight", "bias")
        }
        heads = tuple(lins[f"lin{i}.model.1.weight"].float().to(device) for i in range(5))
    except KeyError as error:
        raise InputError(
            "LOS-003",
            f"{weights.name} and {linear.name} are incomplete for LPIPS: {error} is missing; copy both files again.",
        ) from error
    return Lpips(kind, weights.name, features, heads)


def _linear_of_package(kind: str) -> Path:
    found = importlib.util.find_spec("lpips") if backends.installed("lpips") else None
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / "weights" / "v0.1" / f"{kind}.pth"
        if path.is_file():
            return path
    raise InputError(
        "LOS-004",
        "LPIPS needs the package lpips, which contains its linear weights; run pip install --no-deps lpips.",
    )


def _read(path: Path, what: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("LOS-005", f"{path.name} ({what}) was not found; add the file, or leave LPIPS out.")
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError("LOS-006", f"{path.name} cannot be read as {what}; copy the file again.") from error
    if not isinstance(state, dict):
        raise InputError(
            "LOS-007",
            f"{path.name} is not a table of tensors, so it cannot be {what}; use the published file.",
        )
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


# -- CLIP -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Clip:
    """A CLIP model, which maps images and texts to unit vectors of one space.

    Args:
        name: Name of its folder.
        model: transformers.CLIPModel.
        tokenizer: transformers.CLIPTokenizer.
        size: Side of the input images, in pixels.
        mean: Mean color of the normalization.
        deviation: Standard deviation of the normalization.
    """

    name: str
    model: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    deviation: tuple[float, ...] = CLIP_DEVIATION

    @torch.no_grad()
    def images(self, images: Tensor, crops: bool = True) -> Tensor:
        """Encode images.

        Args:
            images: [F, H, W, 3] in 0..1.
            crops: Bicubic resize of the short side and center crop, as in CLIP; False: stretched to a square, as
                InstructPix2Pix does for directional similarity.

        Returns:
            Unit features [F, D].
        """
        x = images[..., :3].permute(0, 3, 1, 2).float()
        h, w = x.shape[-2:]
        size = (self.size, self.size)
        if crops:
            factor = self.size / min(h, w)
            size = (max(self.size, round(h * factor)), max(self.size, round(w * factor)))
        x = F.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (size[0] - self.size) // 2, (size[1] - self.size) // 2
        x = x[..., top : top + self.size, left : left + self.size]
        mean, deviation = (
            torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (self.mean, self.deviation)
        )
        seen = self.model.vision_model(pixel_values=((x - mean) / deviation).to(self.model.device))
        return F.normalize(self.model.visual_projection(seen.pooler_output), dim=-1).float()

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Encode texts; a text beyond the model's length is truncated, see `length_note`.

        Args:
            prompts: P texts.

        Returns:
            Unit features [P, D].
        """
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self._text_length,
            truncation=True,
            return_tensors="pt",
        ).to(self.model.device)
        seen = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return F.normalize(self.model.text_projection(seen.pooler_output), dim=-1).float()

    def length_note(self, text: str, what: str) -> str:
        """The line for a text that is truncated; `what` names it."""
        return length_note("CLIP", cut_short(self.tokenizer, text, self._text_length), what)

    @property
    def _text_length(self) -> int:
        return int(self.model.config.text_config.max_position_embeddings)


def load_clip(folder: Path, device: torch.device | str = "cpu") -> Clip:
    """Load CLIP from a folder in transformers' layout.

    Args:
        folder: Contains config.json, weights and tokenizer.
        device: Torch device.

    Raises:
        InputError: The folder is incomplete, damaged or of another model.
    """
    backends.require("transformers")
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            "LOS-008",
            f"{folder.name} is not a CLIP folder: config.json is missing; use the folder of a complete CLIP model, "
            "such as clip-vit-base-patch32.",
        )
    try:
        kind = read_json(config, config.name).get("model_type")
    except InputError as error:
        raise InputError(
            "LOS-009", f"{folder.name}/config.json cannot be read; copy the folder again."
        ) from error
    if kind != "clip":
        raise InputError(
            "LOS-010",
            f"{folder.name} contains a model of type '{kind}', not a complete CLIP model (images and text); "
            "use a folder such as clip-vit-base-patch32.",
        )
    check_folder(folder)
    from transformers import CLIPModel, CLIPTokenizer

    try:
        model: Any = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        raise InputError(
            "LOS-011",
            f"{folder.name} cannot be loaded as CLIP: weights or tokenizer are missing or damaged; "
            "copy the folder again, with model.safetensors, vocab.json and merges.txt.",
        ) from error
    mean, deviation = CLIP_MEAN, CLIP_DEVIATION
    preprocessor = folder / "preprocessor_config.json"
    if preprocessor.is_file():
        found = read_json(preprocessor, f"{folder.name}/{preprocessor.name}")
        mean, deviation = tuple(found.get("image_mean", mean)), tuple(found.get("image_std", deviation))
    model = model.eval().requires_grad_(False).to(device)
    return Clip(folder.name, model, tokenizer, int(model.config.vision_config.image_size), mean, deviation)


def clip_similarity(images: Tensor, text: Tensor) -> Tensor:
    """Cosine similarity of images with a text.

    Args:
        images: Unit image features [F, D].
        text: Unit text feature [D].

    Returns:
        [F] in −1..1.
    """
    return images @ text


def clip_direction(edited: Tensor, originals: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Directional similarity: cosine between the change of each image and the change of the caption.

    Args:
        edited: Unit features of the edited images [F, D].
        originals: Unit features of the originals [F, D].
        target: Unit feature of the target caption [D].
        source: Unit feature of the source caption [D].

    Returns:
        [F] in −1..1; NaN where an image or the caption did not change.

    Source:
        StyleGAN-NADA (Gal et al. 2022), as reported by InstructPix2Pix and Instruct-NeRF2NeRF.
    """
    return _cosine(edited - originals, (target - source).expand_as(edited))


def clip_c_direction(edited: Tensor, originals: Tensor) -> Tensor:
    """Directional consistency: cosine between the changes of neighboring images.

    Args:
        edited: Unit features of the edited images [F, D].
        originals: Unit features of the originals [F, D].

    Returns:
        [F − 1] in −1..1; NaN where an image did not change.

    Source:
        Instruct-NeRF2NeRF (Haque et al., ICCV 2023).
    """
    change = edited - originals
    return _cosine(change[:-1], change[1:])


def clip_c_adjacent(edited: Tensor) -> Tensor:
    """Cosine [F − 1] between the unit features [F, D] of neighboring images."""
    return (edited[:-1] * edited[1:]).sum(dim=-1)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    defined = (a.norm(dim=-1) > UNDEFINED) & (b.norm(dim=-1) > UNDEFINED)
    return torch.where(defined, F.cosine_similarity(a, b, dim=-1), torch.nan)
