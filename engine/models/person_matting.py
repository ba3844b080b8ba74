"""MediaPipe Selfie Segmentation (Google, 2021): how much of each pixel of an image is a person.

A MobileNetV3-like encoder, a lite ASPP head (Howard et al., ICCV 2019) and three decoder stages with gated skips, rebuilt from
the published TensorFlow Lite graph. The bundled weights are the published ones (assets/models/person-matting).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .loading import load_weights, on_meta

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "models" / "person-matting"
WEIGHTS = "person_matting.safetensors"
# side of the images that the network was trained with
PIXELS = 256


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: with a stride, more of it lies right and below."""

    def forward(self, input: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            reversed(input.shape[-2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads) if any(pads) else input)


class Gate(nn.Module):
    """Squeeze-and-excite: one factor in 0..1 per channel, from the means of all channels."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = SameConv2d(channels, hidden, 1)
        self.excite = SameConv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, 1, 1]."""
        return self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Bottleneck(nn.Module):
    """Inverted residual: expand, depthwise, gate, project.

    Args:
        channels: Channels of input and output.
        expanded: Channels of the depthwise convolution.
        kernel: Its size.
        stride: Its stride.
        gate: Hidden channels of the gate; 0: none.
        hard_swish: Hard swish instead of ReLU.
        residual: Add the input to the output.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        expanded: int,
        kernel: int,
        stride: int,
        gate: int,
        hard_swish: bool,
        residual: bool,
    ) -> None:
        super().__init__()
        self.expand = SameConv2d(channels[0], expanded, 1)
        self.depthwise = SameConv2d(expanded, expanded, kernel, stride, groups=expanded)
        self.gate = Gate(expanded, gate) if gate else None
        self.project = SameConv2d(expanded, channels[1], 1)
        self.act = nn.Hardswish() if hard_swish else nn.ReLU()
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depthwise(self.act(self.expand(x))))
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        return y + x if self.residual else y


class Up(nn.Module):
    """A decoder stage: twice the size, with features of the encoder as far as the gate lets them through."""

    def __init__(self, channels: int, skip: int) -> None:
        super().__init__()
        self.reduce = SameConv2d(channels, skip, 1)
        self.gate = Gate(skip, skip)
        self.mix = SameConv2d(skip, skip, 1)
        self.depthwise = SameConv2d(skip, skip, 3, groups=skip)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.reduce(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        x = self.mix(skip * self.gate(skip + x) + x).relu()
        return x + self.depthwise(x).relu()


class PersonMatting(nn.Module):
    """The network; convolutions are declared in the order in which they run, which the conversion relies on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 16, 3, 2)
        self.quarter = Bottleneck((16, 16), 16, 3, 2, 8, False, False)
        self.eighth = nn.Sequential(
            Bottleneck((16, 24), 72, 3, 2, 0, False, False),
            Bottleneck((24, 24), 88, 3, 1, 0, False, True),
        )
        self.sixteenth = nn.Sequential(
            Bottleneck((24, 32), 96, 5, 2, 24, True, False),
            Bottleneck((32, 32), 128, 5, 1, 32, True, True),
            Bottleneck((32, 32), 128, 5, 1, 32, True, True),
            Bottleneck((32, 32), 96, 5, 1, 24, True, True),
            Bottleneck((32, 32), 96, 5, 1, 24, True, True),
        )
        self.features = SameConv2d(32, 128, 1)
        self.context = SameConv2d(32, 128, 1)
        self.up8 = Up(128, 24)
        self.up4 = Up(24, 16)
        self.up2 = Up(16, 16)
        self.matte = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Coverage of people.

        Args:
            images: [B, 3, H, W] in 0..1; sides are multiples of 16, best 256.

        Returns:
            [B, H, W] in 0..1.
        """
        half = F.hardswish(self.stem(images))
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        deep = self.sixteenth(eighth)
        x = self.features(deep).relu() * self.context(deep.mean((2, 3), keepdim=True)).sigmoid()
        x = self.up2(self.up4(self.up8(x, eighth), quarter), half)
        return self.matte(x)[:, 0].sigmoid()


def load_person_matting(folder: Path = BUNDLED, device: torch.device | str = "cpu") -> PersonMatting:
    """The network with its weights.

    Args:
        folder: Where `person_matting.safetensors` is; the bundled one by default.
        device: Where it runs.

    Raises:
        InputError: The file is missing, damaged or belongs to another network.
    """
    return load_weights(on_meta(PersonMatting), folder / WEIGHTS, "the person matting network", device=device)
