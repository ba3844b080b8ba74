"""The check of an edit's prompts against the model that is to follow them."""

from __future__ import annotations

from ..models.text_length import length_note
from .backbone import Backbone
from .known_edits import check_prompt


def checked_prompt(
    backbone: Backbone, prompt: str, negative: str = "", force: bool = False, is_local: bool = False
) -> str:
    """Check an instruction for a model that edits images.

    Args:
        backbone: The model.
        prompt: The instruction.
        negative: The negative prompt.
        force: Return a note on a prompt that the model does not know instead of raising.
        is_local: A selection already limits the edit.

    Returns:
        Notes for the user, one per line; "" if there are none.

    Raises:
        InputError: The model has a list of edits, and `prompt` matches none of them.
    """
    notes = (
        check_prompt(backbone.known_edits, prompt, force, is_local),
        length_note(backbone.name, backbone.cut_short(prompt)),
        length_note(backbone.name, backbone.cut_short(negative), "negative prompt"),
    )
    return "\n".join(filter(None, notes))
