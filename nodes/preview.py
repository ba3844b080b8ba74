"""The node that plays a scene on the canvas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from ..engine.errors import InputError
from ..engine.messages import Stream
from ..engine.render.camera_paths import rig_focus
from ..engine.scene import Scene4D
from ..engine.scene.origins import check_same_origin
from ..engine.scene.rigs import upright_turn
from ..engine.steps import bake_clip as step
from ..engine.steps import splat_to_scene
from ..engine.steps.step import Kind
from . import fields, folders, host, kinds
from .checks import checked
from .compat import io, make, schema
from .load3d import read_load3d, to_load3d, upright
from .types import Load3DCameraSocket, SceneOrSplatSocket, SceneSocket


@dataclass(frozen=True)
class Shown:
    """A scene's player file and small video, with their notes."""

    clip: Path
    movie: Path | None
    notes: tuple[str, ...]
    text: str


# framing another camera does not bake the scene again, nor does another node that shows it
_baked: WeakKeyDictionary[Any, dict[tuple[Any, ...], Shown]] = WeakKeyDictionary()


@checked(read_load3d, "camera")
class Preview4DScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_Preview4DScene",
            display_name="Preview 4D Scene",
            category="4dgs/render",
            description="Plays a scene in the node: orbit, scrub, compare with another scene, look through the "
            "captured cameras, and frame a shot for Camera Path.",
            search_aliases=["player", "timeline", "viewer", "4d", "splat", "compare", "before after"],
            inputs=[
                SceneOrSplatSocket.Input(
                    "scene", tooltip="The scene to play, or a splat of another node (several play as frames)."
                ),
                *fields.inputs(step.Config, "max_error most sh_degree"),
                make(
                    io.Boolean.Input,
                    "makes_movie",
                    default=True,
                    display_name="small video",
                    tooltip="Also renders a small video, shown where WebGL 2 is unavailable.",
                    advanced=True,
                ),
                make(
                    io.String.Input,
                    "camera",
                    default="",
                    tooltip="View framed with the player's camera button, as JSON. Empty uses the first captured camera.",
                ),
                SceneSocket.Input(
                    "compare",
                    optional=True,
                    tooltip="Optional second scene for before/after comparison (right of the divider).",
                ),
                *fields.inputs(step.Config, "segment_seconds"),
            ],
            outputs=[
                SceneSocket.Output(
                    "played", display_name="scene", tooltip="The first scene; a splat as a scene."
                ),
                Load3DCameraSocket.Output(
                    "framed", display_name="camera", tooltip="The framed view, for Camera Path."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, scene: Any, makes_movie: bool, camera: str, compare: Any = None, **numbers: Any) -> Any:
        def follow(stream: Stream) -> Any:
            return host.follow(stream, cls.hidden.unique_id)

        with host.node_context():
            framed = read_load3d(camera)
            if not isinstance(scene, Scene4D):
                scene = splat_to_scene.make(kinds.entering(Kind.SPLAT, scene))
            config = fields.config_from(step.Config, numbers)
            check_same_origin([each for each in (scene, compare) if each is not None])
            scenes = {"4D scene": scene} if compare is None else {"Before": scene, "After": compare}
            shown = [show(each, config, makes_movie, follow) for each in scenes.values()]
            if framed is None:
                focus = rig_focus(scene.rig, scene.bounds.double().mean(0))
                framed = to_load3d(scene.rig, 0, focus)
            # the player shows scenes in their own axes
            turn = upright_turn(scene.rig)
            framed = framed if turn is None else upright(framed, turn)
        names = [f"{title}: " for title in scenes] if len(scenes) > 1 else [""]
        notes = [f"{name}{note}" for name, one in zip(names, shown, strict=True) for note in one.notes]
        text = "\n".join(f"{name}{one.text}" for name, one in zip(names, shown, strict=True))
        ui = {
            "clip": [folders.as_view(one.clip) for one in shown],
            "movie": [folders.as_view(one.movie) for one in shown if one.movie is not None],
            "notes": notes,
        }
        return host.output(scene, framed, notes=text, ui=ui)


def show(scene: Any, config: Any, makes_movie: bool, follow: Callable[[Stream], Any]) -> Shown:
    """Bake `scene` into ComfyUI's temp folder, under a name derived from its content, so that another run adds nothing."""
    key = (config, makes_movie)
    known = _baked.setdefault(scene, {})
    found = known.get(key)
    if found is not None and found.clip.is_file() and (found.movie is None or found.movie.is_file()):
        return found
    # the player names the two sides itself: a scene shown before and after an edit is baked once
    baked = follow(step.run(scene, config, title=""))
    name = baked.sha256()[:24]
    clip = folders.temporary(f"{name}.gs4dclip")
    baked.save(clip)
    movie, notes = folders.temporary(f"{name}.mp4") if makes_movie else None, baked.player_file.notes
    if movie is not None and not movie.is_file():
        try:
            follow(step.movie(baked.player_file, movie))
        # the player file plays without the video
        except InputError as error:
            movie, notes = None, (*notes, f"No small video: {error}")
    known[key] = Shown(clip, movie, notes, step.describe(baked))
    return known[key]
