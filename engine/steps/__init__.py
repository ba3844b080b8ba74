"""Steps: what an artist would name, one file each, in menu order. A step never imports another."""

STEPS = (
    "preflight",
    "convert_capture",
    "fit_scene",
    "import_scene",
    "splat_to_scene",
    "scene_views",
    "edit_views",
    "lift_mask",
    "fit_edits",
    "refine_score",
    "train_latents",
    "delta_edit",
    "decode_latents",
    "latents_to_scene",
    "camera_path",
    "render_scene",
    "evaluate_scene",
    "evaluate_edit",
    "sample_scene",
    "export_scene",
)
