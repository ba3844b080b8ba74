"""Nodes that take, edit and mask pictures of a scene."""

from __future__ import annotations

from typing import Any

from ..engine.steps import edit_views, lift_mask, scene_views
from . import fields, folders, host, pictures
from .compat import combo, io, make, schema
from .guidance import Guidance
from .types import GuidanceSocket, MultiViewVideoSocket, SceneSocket, SelectionSocket, ViewsSocket

# Append only: workflows store positions.
SCENE_VIEWS_FIELDS = ("views", "moments", "resolution", "originals", "rasterizer")
EDIT_FIELDS = (
    "prompt", "guidance_scale", "image_guidance_scale", "steps", "strength", "views", "moments", "seed", "negative",
    "resolution", "attention", "key_view", "start", "originals", "background", "frames_at_once", "rasterizer",
    "preview_every", "checkpoint_seconds",
)  # fmt: skip
ADVANCED_EDIT_FIELDS = EDIT_FIELDS[EDIT_FIELDS.index("negative") :]
LIFT_FIELDS = ("threshold", "softness", "fills_unseen", "rasterizer")
SELECTION_TIP = (
    "From Lift Mask to Gaussians: the edit stays where the mask was; without it everything may change."
)
VIDEO_TIP = "The capture that the scene was trained on: its pictures are edited instead of renders."


class SceneViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_SceneViews",
            display_name="Scene Views",
            category="4dgs/edit",
            description="Takes pictures of a scene from its own cameras, to mask them or to edit them with any other node.",
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to look at."),
                *fields.inputs(scene_views.Config, SCENE_VIEWS_FIELDS, ("rasterizer",)),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                MultiViewVideoSocket.Input(
                    "video",
                    optional=True,
                    tooltip="The capture that the scene was trained on, for its own pictures.",
                ),
            ],
            outputs=[
                ViewsSocket.Output(
                    "views_out", display_name="views", tooltip="For Fit Scene to Edited Views."
                ),
                io.Image.Output("images", display_name="images", tooltip="The pictures, as a batch."),
                io.Mask.Output("mask", display_name="mask", tooltip="Where the scene is in each picture."),
            ],
        )

    @classmethod
    def execute(cls, scene: Any, device: str, video: Any = None, **numbers: Any) -> Any:
        import torch

        with host.node_context():
            config = fields.config_from(scene_views.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            made = host.follow(scene_views.run(scene.to(where), config, video), cls.hidden.unique_id)
            alphas = torch.ones(made.images.shape[:3]) if made.alphas is None else made.alphas
        return io.NodeOutput(made, made.images, alphas)


class EditViews(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_EditViews",
            display_name="Edit Views with Prompt",
            category="4dgs/edit",
            description="Edits pictures of the scene with one sentence so that they agree with each other. Look at them, "
            "replace them if you like, then fit the scene to them.",
            search_aliases=["instruct-4dgs", "instruct pix2pix", "ip2p", "prompt", "text edit"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene to edit; it stays as it is."),
                GuidanceSocket.Input(
                    "guidance", tooltip="An InstructPix2Pix model, from Load Diffusion Guidance."
                ),
                *fields.inputs(edit_views.Config, EDIT_FIELDS, ADVANCED_EDIT_FIELDS),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                MultiViewVideoSocket.Input("video", optional=True, tooltip=VIDEO_TIP),
                SelectionSocket.Input("selection", optional=True, tooltip=SELECTION_TIP),
                *fields.inputs(edit_views.Config, ("detail", "force"), later=("detail", "force")),
            ],
            outputs=[
                ViewsSocket.Output(
                    "views_out", display_name="views", tooltip="For Fit Scene to Edited Views."
                ),
                io.Image.Output("edited", display_name="edited", tooltip="The edited pictures, as a batch."),
                io.Image.Output("originals_out", display_name="originals", tooltip="What was edited."),
            ],
        )

    @classmethod
    def execute(
        cls,
        scene: Any,
        guidance: Guidance,
        device: str,
        video: Any = None,
        selection: Any = None,
        **numbers: Any,
    ) -> Any:
        with host.node_context():
            config = fields.config_from(edit_views.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            with guidance.in_use() as backbone:
                checkpoint = folders.checkpoint(
                    "edit views",
                    fields.identity(config),
                    backbone.fingerprint,
                    str(where),
                    *input_fingerprint(scene, selection, video),
                )
                stream = edit_views.run(scene.to(where), backbone, config, video, selection, checkpoint)
                made = host.follow(stream, cls.hidden.unique_id)
        host.say(cls.hidden.unique_id, summary(made))
        return io.NodeOutput(made, made.images, made.originals, ui=pictures.before_and_after(made))


class LiftMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LiftMask",
            display_name="Lift Mask to Gaussians",
            category="4dgs/edit",
            description="Chooses the Gaussians that lie behind masks painted on pictures of the scene, so that an edit "
            "changes them alone.",
            search_aliases=["select", "segment", "local edit", "inpaint mask"],
            inputs=[
                SceneSocket.Input("scene", tooltip="The scene that the pictures show."),
                io.Mask.Input(
                    "mask", tooltip="One mask for each of the views, or a single one for the view and moment below."
                ),
                *fields.inputs(lift_mask.Config, LIFT_FIELDS, ("rasterizer",)),
                make(
                    io.Int.Input, "view", default=0, min=0, max=9999,
                    tooltip="Number of the view that the mask was painted on; not read where views are wired.",
                ),
                make(
                    io.Int.Input, "moment", default=0, min=0, max=1_000_000,
                    tooltip="Number of the moment that the mask was painted on; not read where views are wired.",
                ),
                combo("device", host.DEVICES, "auto", tooltip=host.DEVICE_TEXT),
                ViewsSocket.Input(
                    "views", optional=True, tooltip="The pictures that were masked, from Scene Views; one mask for each."
                ),
            ],
            outputs=[SelectionSocket.Output("selection", display_name="selection")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, scene: Any, mask: Any, view: int, moment: int, device: str, views: Any = None, **numbers: Any
    ) -> Any:
        with host.node_context():
            config = fields.config_from(lift_mask.Config, numbers)
            where = host.device(device, 500, config.rasterizer)
            masks = host.detach(mask).float()
            if views is None:
                masks = masks[:1] if masks.ndim == 3 else masks[None]
                shown = scene_views.Config(
                    views=str(view),
                    moments=str(moment),
                    resolution=max(masks.shape[1:]),
                    originals="rendered",
                )
                views = host.follow(scene_views.run(scene.to(where), shown), None)
            overlay: list[Any] = []
            stream = lift_mask.run(scene, views, masks, config, where)
            made = host.follow(stream, cls.hidden.unique_id, overlay)
        chosen = int((made.weights > 0).sum())
        host.say(cls.hidden.unique_id, f"{chosen} of {len(made.weights)} Gaussians chosen")
        return io.NodeOutput(made, ui=pictures.preview(overlay))


def input_fingerprint(scene: Any, selection: Any = None, video: Any = None) -> list[Any]:
    """What a checkpoint's name needs of the values that are wired: their content, in plain JSON."""
    from ..engine.train.state import fingerprint_of

    tensors = [*scene.canonical.tensors().values(), *scene.deformation.tensors().values(), scene.background]
    found: list[Any] = [fingerprint_of(*tensors, scene.times), scene.deformation.kind, scene.rig.to_json()]
    found.append(None if selection is None else fingerprint_of(selection.weights))
    found.append(None if video is None else video.source.fingerprint())
    return found


def notes(scene: Any) -> list[str]:
    """What its last edit noted of the prompt."""
    last = scene.history[-1] if scene.history else {}
    return [str(last["note"])] if last.get("note") else []


def summary(views: Any) -> str:
    """One or two lines on what an edit did."""
    width, height = views.size
    edit = views.edit or {}
    lines = [f"{len(views)} pictures of {width}×{height}, {edit.get('originals', '')} originals"]
    if edit:
        lines.append(
            f"{edit.get('steps')} steps, prompt strength {edit.get('guidance_scale'):g}, original strength "
            f"{edit.get('image_guidance_scale'):g}"
        )
    if edit.get("note"):
        lines.append(str(edit["note"]))
    return "\n".join(lines)
