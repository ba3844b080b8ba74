"""What a step declares about itself. The node, the command-line verb, the registries and the docs all come from it.

A step is a module in this folder with a frozen `Config`, a function `run` and one `STEP = Step(...)`. `run` takes the
declared inputs by name, `config`, and, where the step declares them, `device` and `checkpoint`. It is either a plain function
that returns the result, or a generator of messages (`engine.messages`) whose last one is `Finished(result)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from enum import Enum
from typing import Any, NamedTuple

from torch import Tensor

from ..fields import id_of
from ..train.memory_use import MemoryUse, rendering
from ..train.out_of_memory import run_explained


class Kind(Enum):
    """What flows between steps. nodes/kinds.py says how each looks on the canvas, engine/cli/kinds.py on the command
    line; a test holds both to this list."""

    SCENE = "scene"
    CAPTURE = "capture"
    VIEWS = "views"
    GUIDANCE = "guidance"
    LATENTS = "latents"
    SELECTION = "selection"
    CAMERA_PATH = "camera path"
    FRAMED_VIEW = "framed view"
    WAN_CAMERA_EMBEDDING = "Wan camera embedding"  # [1, 24, n, H, W]
    SETTINGS = "settings"
    IMAGES = "images"
    FRAMES = "image or frames"  # images that do not belong to a capture or scene
    MASKS = "masks"
    DEPTH_MAPS = "depth maps"  # [F, H, W]; on the canvas, images with values beyond 1
    VIDEO = "video"
    PATH = "path"
    SOURCE = "source"  # a path that must be given; on the canvas, what is there is watched for changes
    TARGET = "target"  # where to write; on the canvas, a name to which a number and the suffix are added
    FILES = "files"
    SPLAT = "splat"
    MESH = "mesh"  # an animated glTF file; on the canvas, one of a list
    COLOR_TABLE = "color look-up table"  # a .cube file; on the canvas, one of a list
    MODEL_FILE = "3D model file"  # an opened glTF file of another node
    TEXT = "text"
    NUMBER = "number"
    WHOLE_NUMBER = "whole number"
    FLAG = "flag"
    REPORT = "report"
    HEAD = "head"
    SEGMENTATION = "segmentation models"
    TRELLIS = "TRELLIS models"
    DEPTH = "depth"  # depth images or maps, or a dictionary with `depth`, as geometry networks give it
    CANONICAL = "scene or splat"  # a scene, or a list of Gaussians
    VARIATION = "variation models"
    IMAGE_TO_4D = "image-to-4D models"


class Figure(Enum):
    """What a node shows of a step's result, beside its outputs."""

    NONE = "none"
    CURVES = "curves"
    PREVIEW = "preview"
    BEFORE_AFTER = "before and after"
    COMPARISON = "comparison"


class Comparison(NamedTuple):
    """Rows of four images with captions, for figures: what a result with `Figure.COMPARISON` gives as `comparison`."""

    rows: Tensor  # [K, H, 4W, 3] in 0..1; the last column is an error map
    captions: list[str]
    columns: tuple[str, str, str, str]
    title: str


@dataclass(frozen=True)
class Input:
    """One input socket (or path widget) of a step."""

    name: str  # parameter of `run`
    kind: Kind
    help: str
    label: str = ""  # on the canvas; the id with spaces where empty
    id: str = ""  # in saved graphs; the name where empty. It never changes
    flag: str = ""  # on the command line; the kind's own where empty
    default: str = ""  # of a text widget
    optional: bool = False
    since: str = ""  # version that added it
    # on the canvas, a list of image or mask batches is one batch; the node then runs once, whatever is connected
    gathers: bool = False

    @property
    def socket(self) -> str:
        """The input's id in saved graphs."""
        return self.id or self.name


@dataclass(frozen=True)
class Output:
    """One output socket of a step; `of` takes its value from the result. None blocks what is wired to it."""

    id: str  # in saved graphs; it never changes
    kind: Kind
    help: str
    label: str = ""
    of: Callable[[Any], Any] = lambda result: result
    absent: str = ""  # why the value may be None, for whoever wired it


def report_outputs(shown: str) -> tuple[Output, Output, Output]:
    """Outputs of a step that measures: its result's `pictures`, which show what `shown` says, a text, and `summary` as JSON."""
    return (
        Output("comparison", Kind.IMAGES, shown, "images", of=lambda made: made.pictures),
        Output("report", Kind.REPORT, "The metrics as text, for Preview as Text."),
        Output(
            "json",
            Kind.TEXT,
            "The same metrics for other programs.",
            "JSON",
            of=lambda made: json.dumps(made.summary, indent=2),
        ),
    )


# inputs of the steps that move a splat as an animated mesh does
MESH_INPUTS = (
    Input(
        "splat",
        Kind.CANONICAL,
        "The splat to move, or a scene, of which the first frame is taken.",
    ),
    Input(
        "mesh",
        Kind.MESH,
        "Animated .glb or .gltf: the bundled one, or a file in ComfyUI's input or output folder or in models/gs4d.",
        label="animated mesh",
    ),
    Input(
        "model",
        Kind.MODEL_FILE,
        "An animated GLB from another node. If connected, it is used instead of the file above.",
        id="model_3d",
        label="3D model",
        optional=True,
    ),
)


@dataclass(frozen=True)
class Settings:
    """A second node for a step's advanced fields, which then leave the first one."""

    node: str
    label: str
    description: str
    # ids of the fields that are visible at once; the others are the second node's advanced ones
    visible: str


@dataclass(frozen=True)
class Step:
    """Everything that a node, a verb, the registries and the docs need to know about one step."""

    name: str  # of the module; in histories and checkpoints
    node: str  # the node's id without its prefix; it never changes
    label: str
    category: str
    description: str
    config: type[Any]
    run: Callable[..., Any]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    search: tuple[str, ...] = ()
    # ids of the first release's fields in canvas order, where that is not the order of declaration
    order: str = ""
    # other Configs that `run` takes, by the parameter's name; their fields are optional inputs
    more: Mapping[str, type[Any]] = field(default_factory=dict[str, type[Any]])
    verb: str = ""  # empty: another verb covers the step
    about: str = ""  # description of the verb, where the node's speaks of the canvas
    aliases: tuple[str, ...] = ()  # older spellings of the verb
    has_device: bool = True
    resumes: str = ""  # `run` takes a checkpoint: the word in its file name, such as "training"
    shares_views: bool = False  # its verb may be started by torchrun: the processes share the views
    # what a host frees before the step starts, from its config and its inputs by name
    memory: Callable[[Any, Mapping[str, Any]], MemoryUse] = rendering
    # what its memory grows with, for the error where it runs out: ids of fields, or words for what inputs decide
    lowers: tuple[str, ...] = ()
    suffix: Callable[[Any], str] = lambda config: ""  # of the file at its Kind.TARGET; empty for a folder
    figure: Figure = Figure.NONE
    note: Callable[[Any], str] = lambda result: ""  # one or two lines about the result
    settings: Settings | None = None
    is_output: bool = False  # its node runs although nothing is wired to it
    always_runs: bool = False  # its node runs each time, since what it finds is not in its inputs

    def __call__(self, *given: Any, **named: Any) -> Any:
        """`run` with these arguments; out of memory anywhere in it is an InputError that says which numbers to lower."""
        return run_explained(self, given, named)

    def fields(self) -> list[Field[Any]]:
        """Config fields in canvas order: the first release's, then later ones by version."""
        known = {id_of(f): f for f in fields(self.config)}
        first = [known[name] for name in self.order.split()] or [
            f for f in known.values() if not f.metadata["since"]
        ]
        later = [f for f in known.values() if f not in first]
        return first + sorted(later, key=lambda f: version(f.metadata["since"]))


def version(text: str) -> tuple[int, ...]:
    """ "0.10.1" as numbers that sort. Raises ValueError where it is not a version."""
    return tuple(int(part) for part in text.split("."))
