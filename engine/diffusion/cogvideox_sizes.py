"""The published sizes of CogVideoX, built without memory: parameters, latents and tokens.

Layers, heads and patches: CogVideoX (Yang et al., ICLR 2025) and the defaults of diffusers' CogVideoXTransformer3DModel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends import require
from ..models.loading import on_meta
from .camera_condition import RayGrid, WidenedProjection
from .frames import latent_frames
from .video_autoencoder import GROUP

_LARGE = {"num_layers": 42, "num_attention_heads": 48, "use_rotary_positional_embeddings": True}
PUBLISHED: dict[str, dict[str, Any]] = {
    "2B": {"num_layers": 30, "num_attention_heads": 30},
    "5B": _LARGE,
    "5B-I2V": {**_LARGE, "in_channels": 32, "use_learned_positional_embeddings": True},
    "1.5-5B-I2V": {
        **_LARGE,
        "in_channels": 32,
        "patch_size_t": 2,
        "ofs_embed_dim": 512,
        "patch_bias": False,
        "sample_frames": 81,
    },
}
# pixels per latent, frames per latent
SPACE, TIME = 8, 4


@dataclass(frozen=True)
class FullSize:
    """A model at full size.

    Args:
        name: A key of PUBLISHED.
        parameters: Of the transformer, learned positions included.
        camera_parameters: Added by a camera condition with one ray per latent.
        latents: [C, T', h, w] of a video.
        tokens: Tokens of that video, text excluded.
    """

    name: str
    parameters: int
    camera_parameters: int
    latents: tuple[int, int, int, int]
    tokens: int

    def __str__(self) -> str:
        return (
            f"CogVideoX {self.name}: {self.parameters:,} parameters, {self.camera_parameters:,} more with a camera; "
            f"latents {'×'.join(map(str, self.latents))}, {self.tokens:,} tokens"
        )


def full_size(name: str, frames: int, width: int, height: int) -> FullSize:
    """Build a published size on the meta device.

    Args:
        name: A key of PUBLISHED.
        frames: Frames of the video.
        width: In pixels.
        height: In pixels.

    Raises:
        InputError: diffusers is missing, or the model makes no video of that length.

    Example:
        print(full_size("5B-I2V", 49, 720, 480))
    """
    require("diffusers")
    from diffusers import CogVideoXTransformer3DModel

    model: Any = on_meta(lambda: CogVideoXTransformer3DModel(**PUBLISHED[name]))
    config, projection = model.config, model.patch_embed.proj
    depth = int(config.patch_size_t or 1)
    volume = int(config.patch_size) ** 2 * depth
    camera = on_meta(lambda: WidenedProjection(projection, RayGrid(TIME, SPACE), volume))
    learned = model.patch_embed.pos_embedding.numel() if config.use_learned_positional_embeddings else 0
    count = latent_frames(frames, TIME, f"CogVideoX {name}", GROUP)
    rows, columns = height // SPACE, width // SPACE
    return FullSize(
        name,
        sum(parameter.numel() for parameter in model.parameters()) + learned,
        sum(parameter.numel() for parameter in camera.added.parameters()),
        (int(config.out_channels), count, rows, columns),
        -(-count // depth) * (rows // int(config.patch_size)) * (columns // int(config.patch_size)),
    )
