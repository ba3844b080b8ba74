"""The latent dynamic reconstruction model: latents of a video and its camera path to Gaussians that move, in one pass.

Source: Diff4Splat (2025), section 3. No code or weights of the paper's model are public; what it leaves open is marked as ours
in `config.LdrmConfig`, `upsample` and `gaussian_maps`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...scene import rotations
from ..layers import TransformerBlock, position_code
from . import matching
from .config import LdrmConfig
from .gaussian_maps import GaussianMaps, Motion, deformation_channels, gaussian_maps
from .heads import DeformationHead, GaussianHead, Matches
from .tokens import fold, pixel_angles, ray_origins, token_inputs
from .upsample import Upsampler


class Embedding(nn.Module):
    """Latent and pose tokens of the same grid, joined feature-wise and projected to the width."""

    def __init__(self, config: LdrmConfig) -> None:
        super().__init__()
        latent = config.latent
        self.latent = nn.Linear(latent.channels * config.patch**2, config.width)
        self.pose = nn.Linear(6 * latent.time_factor * config.cell**2, config.width)
        self.join = nn.Linear(2 * config.width, config.width)

    def forward(self, latents: Tensor, poses: Tensor) -> Tensor:
        return self.join(torch.cat([self.latent(latents), self.pose(poses)], dim=-1))


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What one pass found, and what motion at any time is computed from.

    Args:
        gaussians: Maps of the A frames that give Gaussians.
        base: The deformation head's part of them that does not depend on time [B, A, hidden, h, w].
        all_frames: Maps of all T frames, with correspondences; None without.
        features: Compared features of all T frames [B, T, h, w, C], for "correlation".
        rays: Plücker rays of all T frames [B, T, H, W, 6].
    """

    gaussians: GaussianMaps
    base: Tensor
    all_frames: GaussianMaps | None
    features: Tensor | None
    rays: Tensor


class Ldrm(nn.Module):
    """Latents and Plücker rays to canonical Gaussians and their deformation at query times.

    Coordinates are those of the first camera, in the units of the rays.

    Args:
        config: The architecture; the default is the full size.

    Example:
        found = model(latents, rays)
        motion = model.motion(found, torch.arange(49.0))
        canonical, changes = as_scene(found.gaussians, motion, model.config)
    """

    def __init__(self, config: LdrmConfig = LdrmConfig()) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.blocks)
        )
        self.deconv = Upsampler(config)
        channels = self.deconv.channels + (3 * config.space_stride**2 if config.image_input else 0)
        self.head_gs = GaussianHead(channels, config)
        self.head_def = DeformationHead(channels, config)

    def tokens(self, latents: Tensor, rays: Tensor) -> Tensor:
        """Tokens [B, n, h, w, width] behind the transformer; arguments as `forward`."""
        x = self.embed(*token_inputs(latents, rays.to(latents), self.config))
        axes = [torch.arange(size, device=x.device) for size in x.shape[1:4]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        x = x + position_code(grid, x.shape[-1]).to(x)
        shape = x.shape[1:4]
        x = x.flatten(1, 3)
        for block in self.blocks:
            x = block(x)
        return x.unflatten(1, shape)

    def forward(
        self,
        latents: Tensor,
        rays: Tensor,
        video: Tensor | None = None,
        time_stride: int | None = None,
        space_stride: int | None = None,
    ) -> Reconstruction:
        """One pass.

        Args:
            latents: [B, C, n, h, w].
            rays: [B, T, H, W, 6] from `plucker_rays`, relative to the first camera.
            video: The decoded video [B, T, H, W, 3] in 0..1, for models with `image_input`.
            time_stride: Every n-th frame gives Gaussians; a multiple of the model's own. None: its own.
            space_stride: Every n-th pixel gives one; likewise.

        Raises:
            InputError: Latents, rays or video do not fit the model or each other.
        """
        config = self.config
        strides = (time_stride or config.time_stride, space_stride or config.space_stride)
        if strides[0] % config.time_stride or strides[1] % config.space_stride:
            raise InputError(
                "REC-006",
                f"Strides {strides[0]} (frames) and {strides[1]} (pixels) are not multiples of the model's own, "
                f"{config.time_stride} and {config.space_stride}; use multiples.",
            )
        tokens = self.tokens(latents, rays)
        # matches look at every frame, Gaussians come of some
        has_matches = config.correspondences != "none"
        every = 1 if has_matches else strides[0]
        x = self.deconv(tokens, every, config.space_stride)
        colors = None
        if config.image_input:
            pixels = self._pixels(video, rays)[:, ::every].to(x)
            cells = fold(pixels, 1, config.space_stride)
            colors = cells.unflatten(-1, (-1, 3)).mean(-2)
            x = torch.cat([x, 2 * cells - 1], dim=-1)
        size = x.shape[:2]
        flat = x.flatten(0, 1).permute(0, 3, 1, 2)
        raw = self.head_gs(flat).unflatten(0, size)
        maps = self._maps(raw, rays.to(x), colors, every)
        pick = slice(None, None, strides[0] // every)
        base = self.head_def.base(x[:, pick].flatten(0, 1).permute(0, 3, 1, 2))
        base = base.unflatten(0, (size[0], -1))
        features = None
        if config.correspondences == "correlation":
            features = self.head_def.match(flat).unflatten(0, size)
        skip = strides[1] // config.space_stride
        chosen = _picked(maps, pick, skip)
        return Reconstruction(
            chosen,
            base[..., ::skip, ::skip],
            _picked(maps, slice(None), skip) if has_matches else None,
            None if features is None else features[:, :, ::skip, ::skip],
            rays.to(x),
        )

    def motion(self, found: Reconstruction, times: Tensor, flow: Tensor | None = None) -> Motion:
        """Deform the Gaussians to query times.

        Args:
            found: A pass.
            times: Query times [Q] in frames; with correspondences, whole frames.
            flow: For models with correspondences "flow": where each query frame shows the Gaussians, (x, y) in 0..1, and a
                confidence in 0..1 [B, A, Q, h, w, 3].

        Raises:
            InputError: The model reads flow, and none is given.
        """
        maps = found.gaussians
        raw: list[Tensor] = []
        matches: list[Matches] = []
        for q, time in enumerate(times.to(maps.means)):
            seen = None
            if found.all_frames is not None:
                match = self._match(found, int(time.round()), q, flow)
                frame = int(time.round())
                points = found.all_frames.means[:, frame].detach()
                seen = matching.lifted(
                    maps.means.detach(), match.pixels, found.rays[:, frame], points, match.quality
                )
                matches.append(match)
            raw.append(self.head_def(found.base, maps.frames, time, seen))
        shifts, turns, growth = deformation_channels(torch.stack(raw, dim=2))
        return Motion(
            shifts,
            turns,
            growth,
            maps.presence(times),
            torch.stack([m.pixels for m in matches], dim=2) if matches else None,
        )

    def _match(self, found: Reconstruction, frame: int, query: int, flow: Tensor | None) -> Matches:
        if found.features is not None:
            own = found.features[:, found.gaussians.frames]
            return self.head_def.compare(own, found.features[:, frame])
        if flow is None:
            raise InputError(
                "REC-007",
                "This reconstruction model reads flow, and none was given; give the decoded video, in which it is found.",
            )
        here = flow[:, :, query].to(found.base)
        return Matches(here[..., :2], here[..., 2:].expand(*here.shape[:-1], 2))

    def _maps(self, raw: Tensor, rays: Tensor, colors: Tensor | None, every: int) -> GaussianMaps:
        space = self.config.space_stride
        rays = rays[:, ::every]
        # the ray of a cell is that of its middle
        directions = rotations.normalise(
            rays[..., 3:].unflatten(2, (-1, space)).unflatten(4, (-1, space)).mean((3, 5))
        )
        angles = pixel_angles(rays)[:, :, ::space, ::space] * space
        frames = torch.arange(0, every * rays.shape[1], every, device=raw.device)
        return gaussian_maps(raw, ray_origins(rays), directions, angles, frames, self.config, colors)

    def _pixels(self, video: Tensor | None, rays: Tensor) -> Tensor:
        if video is None or video.shape[:4] != rays.shape[:4]:
            found = "none was given" if video is None else " × ".join(map(str, video.shape[1:4]))
            raise InputError(
                "REC-008",
                f"This reconstruction model also reads the decoded video (frames × height × width): {found}, and "
                f"{' × '.join(map(str, rays.shape[1:4]))} is needed. Decode the latents, and use cameras of their size.",
            )
        return video


def _picked(maps: GaussianMaps, frames: slice, skip: int) -> GaussianMaps:
    """The Gaussians of some frames, and of every n-th cell; a sparser Gaussian is larger."""

    def some(x: Tensor) -> Tensor:
        return x[:, frames, ::skip, ::skip]

    return GaussianMaps(
        some(maps.means),
        some(maps.quats),
        some(maps.scales) * skip,
        some(maps.opacities),
        some(maps.rgb),
        some(maps.distances),
        None if maps.lifetimes is None else some(maps.lifetimes),
        maps.frames[frames],
    )
