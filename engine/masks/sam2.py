"""Masks of prompted objects in images and through a video: SAM 2 (Ravi et al., 2024) from transformers.

Images are prepared in torch, because transformers' own processors need torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.transformers_folder import ModelFolder, class_of, on_device
from .detector import prepared
from .prompts import ImagePrompts

# labels of SAM's points
OUTSIDE, INSIDE, FIRST_CORNER, LAST_CORNER = 0, 1, 2, 3


class MaskPredictor:
    """SAM 2 from a local folder; its weights are loaded at first use and stay on the CPU between uses.

    The image model and the video model read the same folder, each where it is needed.

    Raises:
        InputError: Not a SAM 2 folder, or transformers is missing or too old.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = ModelFolder(folder, ("sam2", "sam2_video"), "SAM 2")
        class_of("Sam2Model")
        self._models: dict[bool, Any] = {}
        self._model: Any = None

    @contextmanager
    def on(self, device: torch.device, is_video: bool) -> Generator[None, None, None]:
        """Inside, the image or the video model is loaded and on the device.

        Raises:
            InputError: A folder of the image model alone where a video is to be followed, or a damaged one.
        """
        if is_video and self.folder.kind != "sam2_video":
            raise InputError(
                "MSK-022",
                f"{self.folder.name} is an image model that cannot follow objects through frames; set mode to 'every image', "
                "or use a checkpoint such as sam2.1-hiera-tiny.",
            )
        if is_video not in self._models:
            self._models[is_video] = self.folder.load("Sam2VideoModel" if is_video else "Sam2Model")
        with on_device(self._models[is_video], device) as self._model:
            try:
                yield
            finally:
                self._model = None

    @property
    def _side(self) -> int:
        """Pixels of the model's square images."""
        return int(self._model.config.prompt_encoder_config.image_size)

    @torch.no_grad()
    def masks(self, image: Tensor, prompts: ImagePrompts) -> Tensor:
        """Mask [H, W] of 0 and 1 of all prompted objects of one image [H, W, 3]; inside of `on(…, is_video=False)`."""
        model, side = self._model, self._side
        size = image.shape[0], image.shape[1]
        if not len(prompts):
            return torch.zeros(size)
        embeddings = model.get_image_embeddings(prepared(image, (side, side)).to(model.device))
        made: list[Tensor] = []
        for points, labels in self._objects(prompts, size):
            # a single point is ambiguous: the best of three masks is taken, as SAM 2 does
            several = points.shape[0] == 1
            output = model(
                image_embeddings=embeddings,
                input_points=points[None, None].to(model.device),
                input_labels=labels[None, None].to(model.device),
                multimask_output=several,
            )
            best = int(output.iou_scores[0, 0].argmax())
            made.append(output.pred_masks[0, 0, best].float().cpu())
        return _union(torch.stack(made), size)

    @torch.no_grad()
    def track(
        self, frame: Callable[[int], Tensor], count: int, start: int, prompts: ImagePrompts
    ) -> Generator[tuple[int, Tensor], None, None]:
        """Follow objects that are prompted in one frame through all others; inside of `on(…, is_video=True)`.

        Args:
            frame: Gives an image [H, W, 3] by index.
            count: Number of frames.
            start: The prompted frame; later frames follow, then earlier ones.
            prompts: The objects in that frame.

        Yields:
            (index, mask [H, W] of 0 and 1) of each frame.
        """
        model, side = self._model, self._side
        size = frame(start).shape[0], frame(start).shape[1]
        sessions = class_of("Sam2VideoInferenceSession")
        # what is remembered lies on the CPU: a long video would fill the GPU
        session = sessions(
            video_height=size[0],
            video_width=size[1],
            inference_device=model.device,
            inference_state_device="cpu",
            dtype=torch.float32,
        )
        session.processed_frames = _Frames(frame, count, side)
        for number, (points, labels) in enumerate(self._objects(prompts, size)):
            index = session.obj_id_to_idx(number)
            given = {"point_coords": points[None, None], "point_labels": labels[None, None]}
            session.add_point_inputs(index, start, given)
        session.obj_with_new_inputs = list(session.obj_ids)
        for i in (*range(start, count), *range(start - 1, -1, -1)):
            output = model(session, frame_idx=i, reverse=i < start)
            yield i, _union(output.pred_masks[:, 0].float().cpu(), size)

    def _objects(self, prompts: ImagePrompts, size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
        """(points [P, 2] in the model's pixels, labels [P]) of each object; a box is two corner points."""
        scale = torch.tensor([self._side / size[1], self._side / size[0]])
        minus = prompts.outside * scale, torch.full((len(prompts.outside),), OUTSIDE)
        made = [
            (box.reshape(2, 2) * scale, torch.tensor([FIRST_CORNER, LAST_CORNER])) for box in prompts.boxes
        ]
        if len(prompts.inside):
            made.append((prompts.inside * scale, torch.full((len(prompts.inside),), INSIDE)))
        return [
            (torch.cat([points, minus[0]]).float(), torch.cat([labels, minus[1]]).int())
            for points, labels in made
        ]


class _Frames:
    """A video of a session whose frames are prepared when they are needed, so that a long one takes no memory."""

    def __init__(self, frame: Callable[[int], Tensor], count: int, side: int) -> None:
        self.frame, self.count, self.side = frame, count, side

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return prepared(self.frame(index), (self.side, self.side))[0]


def _union(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """[H, W] of 0 and 1 where any of the masks [N, h, w] is positive, at (height, width)."""
    resized = torch.nn.functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)
    return (resized[:, 0] > 0).any(dim=0).float()
