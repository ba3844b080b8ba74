"""The node that loads a head: its model and its motion."""

from __future__ import annotations

from typing import Any

from . import folders, host, model_folders
from .checks import about, checked
from .compat import combo, io, make, schema
from .types import FaceLandmarksSocket, HeadSocket


def _motion(model: str, motion: str) -> Any:
    """What the node watches: the motion, or the model alone."""
    with about("model"):
        found = model_folders.head_model(model)
    with about("motion"):
        return model_folders.head_motion(motion) or found


@checked(_motion, "model", "motion", watches=True)
class LoadHead(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_LoadHead",
            display_name="Load Head",
            category="4dgs/heads",
            description="Loads a head model in FLAME's format and the parameters that move it (expression, pose, shape).",
            search_aliases=["flame", "avatar", "face", "talking head", "nersemble", "vhap"],
            inputs=[
                combo(
                    "model",
                    model_folders.head_models(),
                    model_folders.BUNDLED_HEAD,
                    display_name="head model",
                    tooltip="The bundled head, or a FLAME .pkl or .npz in models/gs4d/heads. FLAME is not part of this pack; "
                    "download it from its website.",
                ),
                make(
                    io.String.Input,
                    "motion",
                    default="",
                    display_name="head parameters",
                    tooltip="Path of a flame_param.npz or of a head capture's folder, in input, output or models/gs4d. Empty "
                    "gives the neutral head.",
                ),
                make(
                    io.Float.Input,
                    "frames_per_second",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    display_name="frames per second (0 = as stored)",
                    tooltip="Frame rate of the parameters; must equal the video's. 0 uses the stored rate, else 25.",
                ),
            ],
            outputs=[
                HeadSocket.Output(
                    "head",
                    display_name="head",
                    tooltip="The head model with its recorded motion, for Train 4D Scene and the nodes that move a head.",
                )
            ],
        )

    @classmethod
    def execute(cls, model: str, motion: str, frames_per_second: float) -> Any:
        from ..engine.io.heads import load_head

        with host.node_context():
            head = load_head(
                model_folders.head_model(model),
                model_folders.head_motion(motion),
                frames_per_second,
                model_folders.head_cache(),
            )
        return host.output(head, notes=head.summary())


class HeadFromLandmarks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GS4D_HeadFromLandmarks",
            display_name="Head Motion from Face Landmarks",
            category="4dgs/heads",
            description="Turns the face landmarks of a video or webcam into head motion for Drive Head.",
            search_aliases=[
                "webcam",
                "mediapipe",
                "arkit",
                "blend shapes",
                "face capture",
                "performance capture",
            ],
            inputs=[
                FaceLandmarksSocket.Input(
                    "landmarks", tooltip="Face landmarks of all frames, from MediaPipe Face Landmarker."
                ),
                HeadSocket.Input("head", tooltip="The head model to move, from Load Head."),
                make(
                    io.Float.Input,
                    "frames_per_second",
                    default=30.0,
                    min=0.1,
                    max=1000.0,
                    display_name="frames per second",
                    tooltip="Frame rate of the video. Higher plays faster.",
                ),
                make(
                    io.String.Input,
                    "matrix",
                    default="",
                    display_name="score matrix",
                    tooltip="Path of an .npz that turns scores into coefficients, for models without ARKit's names such as "
                    "FLAME. Empty matches names.",
                ),
            ],
            outputs=[
                HeadSocket.Output(
                    "head_out",
                    display_name="head",
                    tooltip="The head model with the video's motion, for Drive Head.",
                )
            ],
        )

    @classmethod
    def execute(cls, landmarks: Any, head: Any, frames_per_second: float, matrix: str) -> Any:
        from ..engine.heads import Head
        from ..engine.heads.landmarks import motion_of_faces
        from .landmarks import faces_of, read_matrix

        with host.node_context():
            faces, several = faces_of(landmarks)
            scores = read_matrix(folders.readable(matrix)) if matrix.strip() else None
            motion, filled = motion_of_faces(faces, head.model, frames_per_second, scores)
            made = Head(head.model, motion, "face landmarks")
        return host.output(made, notes="\n".join(filter(None, (made.summary(), several, filled))))
