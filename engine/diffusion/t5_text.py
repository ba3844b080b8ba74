"""Text states of T5, for video models; the text encoder may be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.text_length import cut_short
from ..models.transformers_folder import on_device
from .faults import check_finite


class T5Text:
    """Encodes prompts, each once. The encoder is on the GPU only while it encodes: it is as large as the video model.

    Args:
        encoder: T5EncoderModel; None leaves text out: the states are zeros, and prompts are refused.
        tokenizer: Its tokenizer, or None.
        length: Tokens of a prompt; shorter ones are padded.
        width: Width of the states.
        name: The model's name in messages.
    """

    def __init__(self, encoder: Any, tokenizer: Any, length: int, width: int, name: str) -> None:
        self.encoder = None if encoder is None else encoder.eval().requires_grad_(False)
        self.tokenizer, self.length, self.width, self.name = tokenizer, length, width, name
        self._known: dict[str, Tensor] = {}

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """Text states [B, length, width] on `device`. Raises InputError for a prompt where text is left out."""
        if self.encoder is None:
            if any(prompt.strip() for prompt in prompts):
                raise InputError(
                    "DIF-075",
                    f"{self.name} has no text encoder, so it cannot follow a prompt. Leave the prompt empty, or add the "
                    "model's text_encoder and tokenizer folders.",
                )
            return torch.zeros(len(prompts), self.length, self.width, device=device)
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new:
            with on_device(self.encoder, device) as encoder:
                self._known |= {prompt: self._states(encoder, prompt, device) for prompt in new}
        return torch.stack([self._known[prompt] for prompt in prompts])

    def cut_short(self, prompt: str) -> tuple[int, int] | None:
        """See `Backbone`."""
        return None if self.tokenizer is None else cut_short(self.tokenizer, prompt, self.length)

    def clear(self) -> None:
        """Forget all states, which are on the device that they were made on."""
        self._known.clear()

    def _states(self, encoder: Any, prompt: str, device: torch.device) -> Tensor:
        tokens = self.tokenizer(
            prompt, padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        states = encoder(tokens.input_ids.to(device))[0][0]
        return check_finite(states.float(), "text states", self.name, states.dtype)
