"""The networks of TRELLIS that make Gaussians from image tokens, in plain PyTorch.

Source: TRELLIS, "Structured 3D Latents for Scalable and Versatile 3D Generation" (Xiang et al., CVPR 2025).
"""

from .folder import TrellisFolder, check_canonical_decoder, load_canonical_decoder
from .gaussian_decoder import GVF_CANONICAL, GaussianDecoder, GaussianDecoderShape, from_gvf_names, gvf_name
from .latent_flow import LatentFlow, LatentFlowShape, denormalize
from .pipeline import FlowSampling, Pipeline, read_pipeline
from .raw_gaussians import GaussianFormat, RawGaussians
from .structure_decoder import StructureDecoder, StructureDecoderShape, occupied
from .structure_flow import StructureFlow, StructureFlowShape
from .voxels import Voxels

__all__ = [
    "GVF_CANONICAL",
    "FlowSampling",
    "GaussianDecoder",
    "GaussianDecoderShape",
    "GaussianFormat",
    "LatentFlow",
    "LatentFlowShape",
    "Pipeline",
    "RawGaussians",
    "StructureDecoder",
    "StructureDecoderShape",
    "StructureFlow",
    "StructureFlowShape",
    "TrellisFolder",
    "Voxels",
    "check_canonical_decoder",
    "denormalize",
    "from_gvf_names",
    "gvf_name",
    "load_canonical_decoder",
    "occupied",
    "read_pipeline",
]
