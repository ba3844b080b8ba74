"""Boxes of what a text names: Grounding DINO (Liu et al., ECCV 2024) from transformers.

Images are prepared in torch, because transformers' own image processors need torchvision.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.transformers_folder import ModelFolder, class_of, on_device
from ..wording import brief

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# boxes of one image that are segmented, the best ones
MOST_BOXES = 32


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes of one image, best first."""

    boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))  # [N, 4] x0, y0, x1, y1 in pixels
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N] in 0..1
    phrases: tuple[int, ...] = ()  # N indices of phrases

    def __len__(self) -> int:
        return len(self.boxes)

    def chosen(self, pick: str) -> Found:
        """One box per phrase, the "largest" or the "best"; "union": all of them."""
        if pick == "union":
            return self
        extent = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(dim=1)
        rank = extent if pick == "largest" else self.scores
        kept = [
            max((i for i, p in enumerate(self.phrases) if p == phrase), key=lambda i: float(rank[i]))
            for phrase in sorted(set(self.phrases))
        ]
        kept.sort()
        return Found(self.boxes[kept], self.scores[kept], tuple(self.phrases[i] for i in kept))


class TextDetector:
    """Grounding DINO from a local folder; its weights are loaded at first use and stay on the CPU between uses.

    Raises:
        InputError: Not a Grounding DINO folder, or transformers is missing or too old.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = ModelFolder(folder, ("grounding-dino",), "Grounding DINO")
        class_of("GroundingDinoForObjectDetection")
        size = self.folder.image_settings().get("size")
        size = size if isinstance(size, dict) else {}
        self.shortest = int(size.get("shortest_edge") or 800)
        self.longest = int(size.get("longest_edge") or 1333)
        self._model: Any = None
        self._tokenizer: Any = None

    @contextmanager
    def on(self, device: torch.device) -> Generator[None, None, None]:
        """Inside, the model is loaded and on the device."""
        if self._model is None:
            path = str(self.folder.path)
            tokenizers = class_of("AutoTokenizer")
            self._tokenizer = self.folder.explained(
                lambda: tokenizers.from_pretrained(path, local_files_only=True)
            )
            # the kernels would be compiled or downloaded
            self._model = self.folder.load("GroundingDinoForObjectDetection", disable_custom_kernels=True)
        with on_device(self._model, device):
            yield

    @torch.no_grad()
    def detect(self, image: Tensor, phrases: Sequence[str], box: float, text: float) -> Found:
        """Find phrases in an image; to be called inside of `on`.

        Args:
            image: [H, W, 3] in 0..1.
            phrases: What to find, lower case.
            box: A box's best word must score more than this.
            text: And a word of a phrase more than this, for the box to be the phrase's.

        Returns:
            At most MOST_BOXES boxes, best first; a box belongs to the phrase whose word scores highest.

        Raises:
            InputError: The text is too long for the model, or a phrase has no word that it knows.
        """
        model = self._model
        ids, spans = self._tokens(phrases)
        if ids.shape[1] > int(model.config.max_text_len):
            raise InputError(
                "MSK-016",
                f"The text has {ids.shape[1]} tokens, but {self.folder.name} reads {model.config.max_text_len}; use fewer "
                "phrases.",
            )
        self._check_known(phrases, ids[0].tolist(), spans)
        pixels = prepared(image, self.size_of(image)).to(model.device)
        ids = ids.to(model.device)
        output = model(
            pixel_values=pixels,
            pixel_mask=torch.ones_like(pixels[:, 0], dtype=torch.long),
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )
        scores = output.logits[0].float().sigmoid().cpu()  # [queries, tokens]
        nothing = scores.new_zeros(len(scores))
        by_phrase = torch.stack([scores[:, s].amax(dim=1) if s else nothing for s in spans], dim=1)
        best, phrase = by_phrase.max(dim=1)
        top = scores.amax(dim=1)
        kept = ((top > box) & (best > text)).nonzero().flatten()
        kept = kept[top[kept].argsort(descending=True, stable=True)][:MOST_BOXES]
        height, width = image.shape[:2]
        center, extent = output.pred_boxes[0].float().cpu()[kept].split(2, dim=1)
        scale = torch.tensor([width, height], dtype=torch.float32)
        first, last = ((center + sign * extent / 2).clamp(0, 1) * scale for sign in (-1, 1))
        return Found(torch.cat([first, last], dim=1), top[kept], tuple(phrase[kept].tolist()))

    def size_of(self, image: Tensor) -> tuple[int, int]:
        """(width, height) at which the model sees an image: the shortest side as asked, unless the longest exceeds its limit."""
        height, width = image.shape[:2]
        limit = self.longest * min(height, width) / max(height, width)
        raw = min(self.shortest, limit)
        side = round(raw)
        # rounded as transformers does
        scale = (raw if limit < self.shortest else side) / min(height, width)
        return (side, int(height * scale)) if width < height else (int(width * scale), side)

    def _check_known(self, phrases: Sequence[str], ids: list[int], spans: list[list[int]]) -> None:
        unknown = self._tokenizer.unk_token_id
        for phrase, span in zip(phrases, spans, strict=True):
            if all(ids[position] == unknown for position in span):
                raise InputError(
                    "MSK-033",
                    f"{self.folder.name} does not know any word of '{brief(phrase)}'; it reads English. Describe it in simple "
                    "English words.",
                )

    def _tokens(self, phrases: Sequence[str]) -> tuple[Tensor, list[list[int]]]:
        """Token ids [1, L] of "first. second." and the positions of each phrase's tokens."""
        tokenizer = self._tokenizer
        ids = tokenizer(". ".join(phrases) + ".")["input_ids"]
        special, stop = set(tokenizer.all_special_ids), tokenizer.convert_tokens_to_ids(".")
        spans: list[list[int]] = [[]]
        for position, token in enumerate(ids):
            if token == stop:
                spans.append([])
            elif token not in special or token == tokenizer.unk_token_id:
                spans[-1].append(position)
        return torch.tensor([ids]), spans[: len(phrases)]


def prepared(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image [H, W, 3] in 0..1 resized to (width, height) and normalized as for ImageNet: [1, 3, h, w]."""
    planes = image[..., :3].float().permute(2, 0, 1)[None]
    if planes.shape[-2:] != (size[1], size[0]):
        planes = torch.nn.functional.interpolate(
            planes, (size[1], size[0]), mode="bilinear", antialias=True, align_corners=False
        )
    mean, deviation = (planes.new_tensor(v)[None, :, None, None] for v in (MEAN, DEVIATION))
    return (planes.clamp(0, 1) - mean) / deviation
