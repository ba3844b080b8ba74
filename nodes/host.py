"""Connects a step to ComfyUI: progress bar, preview, status line, interrupt, device and gradients."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.model_management as model_management  # pyright: ignore[reportMissingImports]
import comfy.utils  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from ..engine.backends import explains_memory
from ..engine.errors import InputError
from ..engine.figures.drawing import as_picture
from ..engine.figures.training_curves import TrainingCurves
from ..engine.files.paths import explains_files
from ..engine.messages import Finished, Message, Preview, Progress, Saved, Started, Stream, status
from ..engine.render import choose_device
from ..engine.render.hardware import gpu_choices, missing
from ..engine.render.self_check import check_again
from ..engine.train import compile_ahead
from .compat import io

DEVICES = ["auto", "cpu", "cuda", *gpu_choices()]
DEVICE_TEXT = "Device. auto uses ComfyUI's GPU if gsplat or Warp works on it, otherwise the CPU."
PREVIEW_PIXELS = 512
SECONDS_BETWEEN_UPDATES = 0.1
# key in a node's `ui` of the lines that web/notes.js shows
NOTES = "gs4d_notes"
WORD_JOINER = "\u2060"
# after "<" and "&" (tags, entities), inside "[[text|address]]" and "__LNK0__" (links), "://" and "www." (bare links)
MARKUP = re.compile(r"(?<=[<&])|(?<=\[)(?=\[)|(?<=__)(?=LNK)|(?<=:)(?=//)|(?<=www)(?=\.)", re.IGNORECASE)


class ShownError(InputError):
    """An InputError as ComfyUI shows it: under the name of its type, which would begin with the path of the pack."""

    __module__, __qualname__ = "gs4d", "InputError"


@contextmanager
def node_context() -> Generator[None, None, None]:
    """Inside, gradients are enabled, and an InputError, a file that cannot be used, or memory that runs out, is shown as one
    message only.

    ComfyUI runs nodes in inference mode, whose tensors cannot be trained; nodes do all their work inside this instead.
    """
    # memory may be free that was not in an earlier run
    check_again()
    # while the first nodes read files
    compile_ahead.start()
    with torch.inference_mode(False), torch.enable_grad():
        try:
            with explains_files(), explains_memory("working", advice="Use smaller or fewer inputs."):
                yield
        except InputError as error:
            raise ShownError(error.code, error.message) from None


@contextmanager
def as_host() -> Generator[None, None, None]:
    """Inside `node_context`: back to the inference mode that ComfyUI's own functions expect. They patch weights in place,
    and weights from a loader node are inference tensors. Results must leave through `detach`."""
    with torch.inference_mode():
        yield


def detach(tensor: Tensor) -> Tensor:
    """A trainable clone of a tensor that another node created in inference mode."""
    return tensor.detach().clone()


def device(choice: str, megabytes: int = 0, rasterizer: str = "auto") -> torch.device:
    """The device for a widget's choice, with `megabytes` freed on it. Raises InputError if CUDA is unavailable."""
    if choice.startswith("cuda") or (choice == "auto" and choose_device(rasterizer) == "cuda"):
        found = model_management.get_torch_device()
        if found.type == "cuda":
            if ":" in choice:
                found = _named_gpu(choice)
            if megabytes:
                model_management.free_memory(megabytes << 20, found)
            return found
        if choice != "auto":
            raise InputError(
                "NOD-023",
                f"device is '{choice}', but ComfyUI runs without a CUDA GPU here; choose auto or cpu.",
            )
    return torch.device("cpu")


def _named_gpu(name: str) -> torch.device:
    """A GPU by its index. Raises InputError if there is no such GPU."""
    problem = missing(name)
    if problem is not None:
        raise InputError("NOD-062", problem)
    return torch.device(name)


def diffusion_device(choice: str) -> torch.device:
    """The device of a diffusion model, regardless of rasterizers. Raises InputError if CUDA is unavailable."""
    found = model_management.get_torch_device()
    if choice == "cpu" or (choice == "auto" and found.type != "cuda"):
        return torch.device("cpu")
    return device(choice) if choice != "auto" else found


def make_room(megabytes: int, where: torch.device) -> None:
    """Make ComfyUI unload models until that much memory is free."""
    model_management.free_memory(megabytes << 20, where)


def follow(
    stream: Stream,
    node_id: str | None,
    live: LivePreviews | None = None,
    record: TrainingCurves | None = None,
    endings: list[str] | None = None,
) -> Any:
    """Run a step's stream to its end and return its result. Cancel takes effect at every message.

    Cancel is an exception: the stream is closed before it propagates, which saves the checkpoint. `live`, if given, knows
    the latest preview afterwards. `record`, if given, collects curves, which previews then show. `endings`, if given, gets
    what the step says about an early end.
    """
    display, value = _Display(node_id, record, live or LivePreviews(node_id)), None
    try:
        for message in stream:
            model_management.throw_exception_if_processing_interrupted()
            if record is not None:
                record.hear(message)
            display.show(message)
            if isinstance(message, Finished):
                value = message.value
                if message.note and endings is not None:
                    endings.append(message.note)
    finally:
        stream.close()
    return value


class LivePreviews:
    """The previews that a node shows while it works.

    Frontends keep the last one beside the image that a node returns, or in its place. A figure that follows previews is
    therefore streamed as the last of them (`show`) as well, and web/pictures.js leaves one of the two. With `holds_back`, a
    preview is shown once the next one has come: a figure that is the only preview is returned, and not streamed.
    """

    def __init__(self, node_id: str | None, holds_back: bool = False) -> None:
        self.node_id, self.holds_back = node_id, holds_back
        # the latest preview [H, W, 3]
        self.latest: Tensor | None = None
        self.streamed = False
        # units of the progress bar
        self.done, self.total = 0, 1
        self._pending: Any = None

    def add(self, picture: Any) -> None:
        """Show a PIL image, or the one before it."""
        if self.holds_back:
            picture, self._pending = self._pending, picture
        if picture is not None:
            self.show(picture)

    def show(self, picture: Any) -> None:
        """Show a PIL image; one that is larger than PREVIEW_PIXELS keeps its size, so that its text stays legible."""
        self.streamed = True
        bar = comfy.utils.ProgressBar(self.total, node_id=self.node_id)
        bar.update_absolute(self.done, self.total, ("JPEG", picture, max(PREVIEW_PIXELS, *picture.size)))


class _Display:
    """Shows a step's messages on its node: progress bar, preview and status line."""

    def __init__(self, node_id: str | None, record: TrainingCurves | None, live: LivePreviews) -> None:
        self.node_id, self.record, self.live = node_id, record, live
        self.bar: Any = None
        self.total, self.task = 1, ""
        self.updated = 0.0
        # time and unit of the first progress
        self.begun, self.first = time.monotonic(), -1

    def show(self, message: Message) -> None:
        if isinstance(message, Started):
            self.total, self.task, self.first = max(message.total, 1), message.task, -1
            self.live.total = self.total
            self.bar = comfy.utils.ProgressBar(self.total, node_id=self.node_id)
            self.bar.update_absolute(0, self.total)
            say(self.node_id, message.note)
        elif isinstance(message, Progress):
            self._show_progress(message)
        elif isinstance(message, Preview) and self.bar is not None:
            self._show_preview(message)
        elif isinstance(message, Saved):
            say(self.node_id, f"saved at step {message.done}")

    def _show_progress(self, message: Progress) -> None:
        now = time.monotonic()
        self.live.done = message.done
        # the time before the first progress was spent on reading and compiling: it does not predict the rest
        if self.first < 0:
            self.begun, self.first = now, message.done
        end = message.total or self.total
        if now - self.updated <= SECONDS_BETWEEN_UPDATES and message.done != end:
            return
        if self.bar is not None:
            self.bar.update_absolute(message.done, end)
        if now - self.begun > 1:
            say(self.node_id, status(message, self.total, self.first, now - self.begun, self.task))
        self.updated = now

    def _show_preview(self, message: Preview) -> None:
        self.live.latest, self.live.done = message.image, message.done
        if self.record is not None:
            return self.live.add(self.record.live(message.image))
        picture = as_picture(message.image)
        picture.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
        self.live.add(picture)


def output(*values: Any, notes: str = "", ui: Mapping[str, Any] | None = None) -> Any:
    """A node's return value: its outputs, the lines that it shows when it is done, and other `ui` content.

    web/notes.js shows the lines as text. Progress text is not used for them, because frontends from 1.54 on remove it when
    a job ends.
    """
    shown: dict[str, Any] = dict(ui or {})
    if notes:
        shown[NOTES] = notes.splitlines()
    return io.NodeOutput(*values, ui=shown or None)


def inert(text: str) -> str:
    """The text with invisible word joiners wherever a frontend could interpret it as markup.

    Frontends before 1.49 show progress text as HTML; later ones escape it first and would show entities literally.
    """
    return MARKUP.sub(WORD_JOINER, text)


def say(node_id: str | None, text: str) -> None:
    """Show a few lines of progress on the node while it works; permanent notes go through `output`."""
    if not text or node_id is None:
        return
    try:
        from server import PromptServer  # pyright: ignore[reportMissingImports]
    except ImportError:
        return
    server = getattr(PromptServer, "instance", None)
    if server is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(inert(text), node_id)


def free() -> None:
    """Free GPU memory after a long step."""
    model_management.soft_empty_cache()
