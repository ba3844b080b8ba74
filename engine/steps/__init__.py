"""Steps: operations that an artist would name, one file each, in menu order. A step never imports another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .step import Step

# each has a `STEP`, from which its node and its verb are made
DECLARED = (
    "import_scene",
    "splat_to_scene",
    "animate_splat",
    "prepare_video",
    "align_depth",
    "canonical_from_image",
    "align_splat",
    "variation_diffusion",
    "lift_video",
    "generate_from_image",
    "encode_mesh",
    "preflight",
    "capture_images",
    "add_depth",
    "prepare_gpu",
    "fit_scene",
    "scene_views",
    "views_to_sheet",
    "sheet_to_views",
    "edit_views",
    "segment_text",
    "lift_mask",
    "fit_edits",
    "refine_score",
    "grade_scene",
    "train_latents",
    "delta_edit",
    "decode_latents",
    "latents_to_scene",
    "camera_path",
    "camera_embedding",
    "render_scene",
    "evaluate_scene",
    "evaluate_edit",
    "evaluate_generation",
    "head_masks",
    "pose_head",
    "edit_head",
    "drive_head",
    "sample_scene",
    "export_scene",
)
# no node is theirs alone: the first is part of the verb `import`, the second of the preview, `clip` and `page`
HAND_WRITTEN = ("convert_capture", "bake_clip")
STEPS = (*DECLARED, *HAND_WRITTEN)

# those that leave a scene which the captured images no longer show
EDITS = ("fit_edits", "edit_head", "refine_score", "latents_to_scene", "grade_scene")


def all_steps() -> list[Step]:
    """The steps that declare themselves, in menu order."""
    return [import_module(f"{__name__}.{name}").STEP for name in DECLARED]
