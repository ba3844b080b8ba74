"""Which edits a model of few edits knows, and what a prompt asks of it: read from the gs4d.json in its folder.

A model like the bundled one turns a prompt that it was not trained on into a gray wash, without an error. So a step asks
here before it runs. Other models have no such list and are free to be asked anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..errors import InputError

BUNDLED_EDITS = (
    "The bundled model knows ten edits: night, golden hour, black and white, fog, gold, bronze, marble, red, green and "
    "blue."
)
FORCE_TEXT = (
    "Runs prompts that are not among the model's known edits instead of refusing them. The bundled model usually turns "
    "them into a gray wash."
)
UNCHANGED = "none"  # the edit that leaves everything as it is
PARTS = ("face", "head")  # known as a whole subject, but more often a part of one
# English that says nothing of an edit: never reported as unknown
SMALL_WORDS = frozenset(
    "a an the it its is are was be been being of in on at to into as if and or for with by from this that these those i "
    "me my you your we our us he him his she her they them their please now can could would should will want like just "
    "so very really more all whole only up down some make turn change set put give show look".split()
)
LONGEST_SHOWN = 60  # letters of a prompt in a message
MOST_SHOWN = 5  # unknown words in a message


@dataclass(frozen=True)
class Reading:
    """What a prompt says to a model."""

    edits: tuple[str, ...]  # those that it names
    unknown: tuple[str, ...]  # words without a meaning for the model
    is_trained: bool  # the very sentence was trained


@dataclass(frozen=True)
class KnownEdits:
    """The closed list of edits of one model."""

    model: str
    edits: tuple[str, ...]  # the ones to offer first; without "none"
    keys: Mapping[str, tuple[frozenset[str], ...]]  # edit → sets of words, each of which brings it about
    vocabulary: frozenset[str]
    sentences: frozenset[str]  # trained instructions and captions, as `_plain` writes them
    unchanged: str  # an instruction that changes nothing
    subjects: tuple[str, ...]  # captions of unedited images

    @staticmethod
    def from_facts(facts: Mapping[str, Any], model: str) -> KnownEdits | None:
        """The list in the content of a gs4d.json; None where it holds none. Raises InputError where it is damaged."""
        if not facts.get("known_edits"):
            return None
        try:
            known = _table(facts["known_edits"])
            keys = _table(facts.get("key_words", {}))
            captions = cast(dict[str, Any], facts.get("captions", {}))
            subjects = tuple(str(subject) for subject in captions.get("subjects", ()))
            patterns = [str(pattern) for pattern in captions.get("edits", {}).values()]
            main = [str(name) for name in facts.get("main_edits", known)]
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(
                "DIF-005",
                f"{model}/gs4d.json: 'known_edits' is not a table of sentences by edit; restore the file or delete it.",
            ) from error
        said = {_plain(sentence) for sentences in known.values() for sentence in sentences}
        said |= {_plain(pattern.replace("{}", subject)) for pattern in patterns for subject in subjects}
        return KnownEdits(
            model,
            tuple(name for name in main if name != UNCHANGED),
            {
                name: tuple(frozenset(_words(key)) for key in keys.get(name, sentences) if _words(key))
                for name, sentences in known.items()
            },
            frozenset(word for sentence in said for word in sentence.split()) | SMALL_WORDS,
            frozenset(said),
            next(iter(known.get(UNCHANGED, ())), ""),
            subjects,
        )

    def text(self) -> str:
        """One line for a person."""
        return f"knows these edits alone: {_list(self.edits)}"

    def read(self, prompt: str) -> Reading:
        """What `prompt` asks for. A key inside a longer one does not count: golden hour is not gold."""
        words = _words(prompt)
        there = set(words)
        found = [(key, name) for name, keys in self.keys.items() for key in keys if key <= there]
        whole = [name for key, name in found if not any(key < other for other, _ in found)]
        edits = tuple(dict.fromkeys(whole))
        unknown = tuple(word for word in dict.fromkeys(words) if word not in self.vocabulary)
        # "no hat" is not a wish to leave everything as it is
        if len(edits) > 1 or unknown:
            edits = tuple(name for name in edits if name != UNCHANGED)
        return Reading(edits, unknown, " ".join(words) in self.sentences)


def check_prompt(
    known: KnownEdits | None,
    prompt: str,
    force: bool = False,
    is_local: bool = False,
    is_caption: bool = False,
) -> str:
    """A note on what the model will make of `prompt`; empty where there is nothing to say.

    Args:
        known: the model's list; None for a model that takes any prompt.
        prompt: an instruction, or with `is_caption` also the description of an image.
        force: return a note instead of raising.
        is_local: a selection limits the edit already.
    Raises:
        InputError: `prompt` names no edit on the list.
    """
    if known is None or not prompt.strip():
        return ""
    reading = known.read(prompt)
    if not reading.edits and not (is_caption and reading.is_trained):
        if force:
            return f"'{_short(prompt)}' names no edit that {known.model} knows{_unknown(reading)}; it was forced."
        raise InputError(
            "DIF-006",
            f"'{_short(prompt)}' names no edit that {known.model} knows{_unknown(reading)}. Choose one of "
            f"{_list(known.edits)}; or load another model, or turn on 'force' for this prompt.",
        )
    return " ".join(
        filter(None, (_several(known, reading), "" if is_local else _whole(known, prompt, reading)))
    )


def check_source_prompt(
    known: KnownEdits | None, prompt: str, force: bool = False, sees_originals: bool = False
) -> str:
    """The same for the prompt that says what a scene shows before the edit.

    A model that sees the originals takes instructions; else a caption is wanted, of which it should know some words.
    """
    if known is None or not prompt.strip():
        return ""
    reading = known.read(prompt)
    means_something = bool(set(_words(prompt)) - SMALL_WORDS - set(reading.unknown))
    if not reading.edits and not means_something:
        if force:
            return f"'{_short(prompt)}' describes nothing that {known.model} knows{_unknown(reading)}; it was forced."
        options = [f"'{text}'" for text in (known.unchanged, *known.subjects[:1]) if text]
        raise InputError(
            "DIF-007",
            f"'{_short(prompt)}' describes nothing that {known.model} knows{_unknown(reading)}. Write "
            f"{' or '.join(options) or 'one of its captions'} as the source prompt; or load another model, or turn on "
            "'force' for this prompt.",
        )
    if sees_originals and not reading.edits and known.unchanged:
        return (
            f"'{_short(prompt)}' is a caption, but {known.model} sees the originals and takes instructions: write "
            f"'{known.unchanged}' as the source prompt."
        )
    return ""


def _several(known: KnownEdits, reading: Reading) -> str:
    if len(reading.edits) < 2 or reading.is_trained:
        return ""
    return f"The prompt names several edits ({_list(reading.edits)}); {known.model} was trained on one at a time."


def _whole(known: KnownEdits, prompt: str, reading: Reading) -> str:
    """What is said where a part of the subject is named: the model knows no parts."""
    ignored = [word for word in dict.fromkeys(_words(prompt)) if word in reading.unknown or word in PARTS]
    if not ignored or reading.is_trained:
        return ""
    return (
        f"{known.model} ignores {_quoted(ignored)} and applies {_list(reading.edits)} to the whole subject. To change "
        "only a part, use a selection from Lift Mask to Gaussians."
    )


def _unknown(reading: Reading) -> str:
    return f" (unknown: {_quoted(reading.unknown)})" if reading.unknown else ""


def _quoted(words: list[str] | tuple[str, ...]) -> str:
    more = len(words) - MOST_SHOWN
    shown = ", ".join(f"'{_short(word)}'" for word in words[:MOST_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _list(edits: tuple[str, ...]) -> str:
    return ", ".join(name.replace("_", " ") for name in edits)


def _short(text: str) -> str:
    """One line of it, not too long."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def _words(text: str) -> list[str]:
    found = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
    return [re.sub(r"['’]s$", "", word) for word in found]


def _plain(text: str) -> str:
    return " ".join(_words(text))


def _table(found: Any) -> dict[str, tuple[str, ...]]:
    """Sentences by edit. Raises TypeError or AttributeError where it is anything else."""
    table: dict[str, tuple[str, ...]] = {}
    for name, sentences in found.items():
        if not isinstance(sentences, list):
            raise TypeError(name)
        table[str(name)] = tuple(str(sentence) for sentence in cast(list[Any], sentences))
    return table
