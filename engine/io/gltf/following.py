"""Reading an animated mesh as part of a step's messages."""

from __future__ import annotations

from collections.abc import Generator

from ...geometry.animated_mesh import AnimatedMesh
from ...messages import Message, Progress, Started
from .animated import read_animated_mesh
from .document import Document


def follow_mesh(
    document: Document, action: str, fps: float, hidden: tuple[str, ...], rounds: int, note: str
) -> Generator[Message, None, AnimatedMesh]:
    """As `read_animated_mesh`, yielding Started and Progress.

    Args:
        document: The opened file.
        action: The animation's name.
        fps: Frames per second.
        hidden: Names of nodes or meshes to leave out, lowercase.
        rounds: How often the step goes through the frames in all, reading included.
        note: What the step does.
    """
    work, has_started = read_animated_mesh(document, action, fps, hidden), False
    while True:
        try:
            done, count = next(work)
        except StopIteration as end:
            return end.value
        if not has_started:
            yield Started(rounds * count, note)
        has_started = True
        yield Progress(done)
