"""Frames of a capture for a run that draws them at random: prepared once, then read ahead by threads of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import torch

from ..messages import Message, Progress, Started
from ..scene import Frame, FrameSource, MultiViewVideo

# (view, frame)
Pair = tuple[int, int]
# steps whose frames are read ahead, and the most frames and bytes that wait for them
STEPS, FRAMES, BYTES = 8, 16, 256_000_000
# threads that read prepared frames. Decoders go forward only, so one thread asks for frames of videos, in order
READERS = 2
# part of the free memory of a GPU that frames may take
SHARE = 0.25


class Feed:
    """A FrameSource that is told what will be read, and reads it ahead; the frames are those of its own source, bit for bit.

    A capture that fits into memory is read as before on the CPU. On a CUDA device, frames wait in pinned memory, and stay on the
    device where all of them fit into a part of its free memory. One thread may use a feed.

    Args:
        video: The capture; None makes a feed that does nothing.
        device: Where the frames are needed.
    """

    def __init__(self, video: MultiViewVideo | None, device: torch.device | str = "cpu") -> None:
        self._source: FrameSource | None = None if video is None else video.source
        self._device = torch.device(device)
        is_large = bool(getattr(self._source, "is_large", False))
        self.is_active = video is not None and (is_large or self._device.type == "cuda")
        # the capture whose frames come through here
        self.video = replace(video, source=self) if self.is_active and video is not None else video
        self._waiting: dict[Pair, Future[Frame]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._largest = 0
        self._resident: dict[Pair, Frame] = {}
        # bytes of the device for frames; None until the first of them is read
        self._room: int | None = None
        self._pairs = 0 if video is None else int(video.available.sum())
        # why frames could not be prepared, in a sentence
        self.note = ""

    def prepare(self, pairs: Sequence[Pair]) -> Iterator[Message]:
        """Prepare the frames of `pairs` where the capture is too large for memory and has a folder for them.

        Yields Started and Progress where there is work. Closing ends the threads and keeps what is whole.
        """
        prepared = getattr(self._source, "prepared", None)
        if not self.is_active or prepared is None:
            return
        numbers = prepared.missing(pairs)
        if not numbers:
            return
        total = prepared.count(numbers)
        yield Started(total, f"preparing {total} frames of the capture", "preparing frames")
        with closing(prepared.prepare(numbers)) as work:
            while True:
                try:
                    done = next(work)
                except StopIteration as end:
                    self.note = end.value
                    return
                yield Progress(done)

    def expect(self, pairs: Sequence[Pair]) -> None:
        """Read these frames ahead, in this order; what waits and is not among them is dropped."""
        if not self.is_active:
            return
        wanted = [pair for pair in dict.fromkeys(pairs) if pair not in self._resident]
        most = min(FRAMES, max(2, BYTES // self._largest)) if self._largest else 2
        wanted = wanted[:most]
        for pair in self._waiting.keys() - set(wanted):
            self._waiting.pop(pair).cancel()
        for pair in wanted:
            if pair not in self._waiting:
                self._waiting[pair] = self._threads(pairs).submit(self._read_ahead, *pair)

    def read(self, view: int, moment: int) -> Frame:
        """See FrameSource."""
        assert self._source is not None
        pair = (view, moment)
        if pair in self._resident:
            return self._resident[pair]
        waiting = self._waiting.pop(pair, None)
        frame = self._source.read(*pair) if waiting is None else waiting.result()
        self._largest = max(self._largest, _bytes(frame))
        if self._device.type == "cuda" and self._fits(frame):
            frame = self._resident[pair] = frame_on(frame, self._device)
        return frame

    def fingerprint(self) -> str:
        """See FrameSource."""
        assert self._source is not None
        return self._source.fingerprint()

    def close(self) -> None:
        """End the threads and let go of what they read; frames are read without them afterward."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self._waiting.clear()
        self._resident.clear()

    def _threads(self, pairs: Sequence[Pair]) -> ThreadPoolExecutor:
        if self._pool is None:
            prepared = getattr(self._source, "prepared", None)
            count = READERS if prepared is not None and prepared.has_all(pairs) else 1
            self._pool = ThreadPoolExecutor(count, thread_name_prefix="gs4d-feed")
        return self._pool

    def _read_ahead(self, view: int, moment: int) -> Frame:
        assert self._source is not None
        frame = self._source.read(view, moment)
        return _changed(frame, torch.Tensor.pin_memory) if self._device.type == "cuda" else frame

    def _fits(self, frame: Frame) -> bool:
        """Whether all frames of the capture may stay on the device, by the size of this one."""
        if self._room is None:
            self._room = int(SHARE * torch.cuda.mem_get_info(self._device)[0])
        return self._pairs * max(self._largest, _bytes(frame)) <= self._room


def frame_on(frame: Frame, device: torch.device) -> Frame:
    """A frame on a device; the copy from pinned memory to a GPU runs beside what comes next."""
    return _changed(frame, lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))


def _changed(frame: Frame, change: Callable[[torch.Tensor], torch.Tensor]) -> Frame:
    planes = (frame.image, frame.mask, frame.depth)
    return Frame(*(None if plane is None else change(plane) for plane in planes))  # pyright: ignore[reportArgumentType]


def _bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in (frame.image, frame.mask, frame.depth) if plane is not None)
