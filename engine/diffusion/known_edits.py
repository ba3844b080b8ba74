"""The closed list of edits of a small model, read from the gs4d.json in its folder, and the check of a prompt against it.

A model like the bundled one turns any other prompt into a gray wash without an error, so steps check the prompt before
they run. Models without a list accept any prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from unicodedata import category

from ..errors import InputError
from ..wording import brief

BUNDLED_EDITS = (
    "The bundled model knows these edits: night, golden hour, black and white, fog, gold, bronze, marble, red, green and "
    "blue; on heads also blue hair, green skin, older and snow."
)
FORCE_TEXT = (
    "Runs prompts that are not among the model's known edits instead of refusing them. The bundled model usually turns "
    "them into a gray wash."
)
# name of the edit that changes nothing
UNCHANGED = "none"
# in the vocabulary as a whole subject, but usually a part of one
PARTS = ("face", "head")
# words without information about the edit: never reported as unknown
SMALL_WORDS = frozenset(
    "a an the it its is are was be been being of in on at to into as if and or for with by from this that these those i "
    "me my you your we our us he him his she her they them their please now can could would should will want like just "
    "so very really more all whole only up down some make turn change set put give show look".split()
)
# unknown words in a message
MOST_SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """A prompt matched against a model's list.

    Args:
        edits: Names of the edits in it.
        unknown: Words outside the model's vocabulary.
        is_trained: The model was trained on this exact sentence.
    """

    edits: tuple[str, ...]
    unknown: tuple[str, ...]
    is_trained: bool


@dataclass(frozen=True)
class KnownEdits:
    """The closed list of edits of one model.

    Args:
        model: Name of the model.
        edits: Edits to offer in messages, without "none".
        keys: Edit → sets of words; a prompt that contains all words of one set asks for the edit.
        vocabulary: All known words.
        sentences: Trained instructions and captions, as `_plain` writes them.
        unchanged: An instruction that changes nothing.
        subjects: Captions of unedited images.
        local: Edits that find their own part of the subject, such as the hair.
        weak: Edits that it was trained on but barely makes, as measured by its authors; not offered in messages.
    """

    model: str
    edits: tuple[str, ...]
    keys: Mapping[str, tuple[frozenset[str], ...]]
    vocabulary: frozenset[str]
    sentences: frozenset[str]
    unchanged: str
    subjects: tuple[str, ...]
    local: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    @staticmethod
    def from_facts(facts: Mapping[str, Any], model: str) -> KnownEdits | None:
        """Read the list from the content of a gs4d.json.

        Args:
            facts: The file's content; empty if there is no file.
            model: Name of the model, for messages.

        Returns:
            The list, or None if the file has none.

        Raises:
            InputError: The list is damaged.
        """
        if not facts.get("known_edits"):
            return None
        try:
            listed = _Listed.of(facts)
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(
                "DIF-005",
                f"{model}/gs4d.json: 'known_edits' is not a table of sentences by edit; restore the file or delete it.",
            ) from error
        sentences = listed.trained()
        return KnownEdits(
            model,
            tuple(name for name in listed.main if name != UNCHANGED and name not in listed.weak),
            listed.keys(),
            frozenset(word for sentence in sentences for word in sentence.split()) | SMALL_WORDS,
            sentences,
            next(iter(listed.known.get(UNCHANGED, ())), ""),
            listed.subjects,
            frozenset(listed.local),
            frozenset(listed.weak),
        )

    def text(self) -> str:
        """The edits in one line."""
        return f"known edits: {_list(self.edits)}"

    def read(self, prompt: str) -> Reading:
        """Match `prompt` against the list. A key inside a longer key does not count: "golden hour" is not "gold"."""
        words = _words(prompt)
        there = set(words)
        found = [(key, name) for name, keys in self.keys.items() for key in keys if key <= there]
        whole = [name for key, name in found if not any(key < other for other, _ in found)]
        edits = tuple(dict.fromkeys(whole))
        unknown = tuple(word for word in dict.fromkeys(words) if word not in self.vocabulary)
        # "no" alone means no change, but "no hat" asks for one
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
    """Check a prompt against the model's list of edits.

    Args:
        known: The model's list; None for a model that takes any prompt.
        prompt: An instruction, or with `is_caption` also a description of an image.
        force: Return a note instead of raising.
        is_local: A selection already limits the edit.
        is_caption: `prompt` may be one of the trained captions.

    Returns:
        A note for the user; "" if there is none.

    Raises:
        InputError: `prompt` does not match any edit of the list.
    """
    if known is None or not prompt.strip():
        return ""
    reading = known.read(prompt)
    if not reading.edits and not (is_caption and reading.is_trained):
        if force:
            return (
                f"'{brief(prompt)}' does not match any edit of {known.model}{_unknown(reading)}; "
                "it runs because 'force' is on."
            )
        raise InputError(
            "DIF-006",
            f"'{brief(prompt)}' does not match any edit of {known.model}{_unknown(reading)}. Choose one of "
            f"{_list(known.edits)}; or load another model, or turn on 'force' for this prompt.",
        )
    notes = (
        _several(known, reading),
        _weak(known, reading),
        "" if is_local else _whole(known, prompt, reading),
    )
    return " ".join(filter(None, notes))


def check_source_prompt(
    known: KnownEdits | None, prompt: str, force: bool = False, sees_originals: bool = False
) -> str:
    """Check the prompt that describes the scene before the edit.

    Args:
        known: The model's list; None for a model that takes any prompt.
        prompt: An instruction such as "leave it as it is" with `sees_originals`, otherwise a caption that contains
            some words of the model's vocabulary.
        force: Return a note instead of raising.
        sees_originals: The model is conditioned on the original images.

    Returns:
        A note for the user; "" if there is none.

    Raises:
        InputError: `prompt` does not contain a known word.
    """
    if known is None or not prompt.strip():
        return ""
    reading = known.read(prompt)
    means_something = bool(set(_words(prompt)) - SMALL_WORDS - set(reading.unknown))
    if not reading.edits and not means_something:
        if force:
            return (
                f"'{brief(prompt)}' does not contain a subject of {known.model}{_unknown(reading)}; "
                "it runs because 'force' is on."
            )
        options = [f"'{text}'" for text in (known.unchanged, *known.subjects[:1]) if text]
        raise InputError(
            "DIF-007",
            f"'{brief(prompt)}' does not contain a subject of {known.model}{_unknown(reading)}. Use "
            f"{' or '.join(options) or 'one of its captions'} as the source prompt; or load another model, or turn on "
            "'force' for this prompt.",
        )
    if sees_originals and not reading.edits and known.unchanged:
        return (
            f"'{brief(prompt)}' is a caption, but {known.model} takes instructions when it is conditioned on the "
            f"originals; use '{known.unchanged}' as the source prompt."
        )
    return ""


def _several(known: KnownEdits, reading: Reading) -> str:
    if len(reading.edits) < 2 or reading.is_trained:
        return ""
    return (
        f"The prompt names several edits ({_list(reading.edits)}); {known.model} was trained on single edits."
    )


def _weak(known: KnownEdits, reading: Reading) -> str:
    """The note for an edit that the model was trained on but barely makes."""
    found = tuple(name for name in reading.edits if name in known.weak)
    if not found:
        return ""
    return (
        f"{known.model} knows {_list(found)}, but changes little of the image, or more than that part. Use a single color with a "
        "selection lifted from masks, or another model."
    )


def _whole(known: KnownEdits, prompt: str, reading: Reading) -> str:
    """The note for words that the model ignores, such as a part of the subject that it does not know."""
    finds_part = known.local.issuperset(reading.edits)
    ignored = [
        word
        for word in dict.fromkeys(_words(prompt))
        if word in reading.unknown or (word in PARTS and not finds_part)
    ]
    if not ignored or reading.is_trained:
        return ""
    if finds_part:
        return f"{known.model} ignores {_quoted(ignored)} and applies {_list(reading.edits)} where it sees that part."
    return (
        f"{known.model} ignores {_quoted(ignored)} and applies {_list(reading.edits)} to the whole subject. To change "
        "only a part, limit the edit with a selection lifted from masks."
    )


def _unknown(reading: Reading) -> str:
    return f" (unknown: {_quoted(reading.unknown)})" if reading.unknown else ""


def _quoted(words: list[str] | tuple[str, ...]) -> str:
    more = len(words) - MOST_SHOWN
    shown = ", ".join(f"'{brief(word)}'" for word in words[:MOST_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _list(edits: tuple[str, ...]) -> str:
    return ", ".join(name.replace("_", " ") for name in edits)


def _words(text: str) -> list[str]:
    # marks belong to their letters: vowels of Arabic and Hindi, accents that follow the letter
    plain = "".join(c if c.isalnum() or c in "'’" or category(c)[0] == "M" else " " for c in text.lower())
    found = [word.strip("'’") for word in plain.split()]
    return [re.sub(r"['’]s$", "", word) for word in found if word]


def _plain(text: str) -> str:
    return " ".join(_words(text))


@dataclass(frozen=True)
class _Listed:
    """The entries of a gs4d.json that describe edits, type-checked.

    `known` are sentences by edit, `key_words` words by edit, `patterns` captions of edited images with "{}" for a
    subject, `main` the edits to offer, `local` those that find their own part, `weak` those that it barely makes.
    """

    known: dict[str, tuple[str, ...]]
    key_words: dict[str, tuple[str, ...]]
    subjects: tuple[str, ...]
    patterns: tuple[str, ...]
    main: tuple[str, ...]
    local: tuple[str, ...]
    weak: tuple[str, ...]

    @staticmethod
    def of(facts: Mapping[str, Any]) -> _Listed:
        """Raises TypeError, AttributeError or ValueError if an entry has another type."""
        known = _table(facts["known_edits"])
        key_words = _table(facts.get("key_words", {}))
        captions = cast(dict[str, Any], facts.get("captions", {}))
        return _Listed(
            known,
            key_words,
            tuple(str(subject) for subject in captions.get("subjects", ())),
            tuple(str(pattern) for pattern in captions.get("edits", {}).values()),
            tuple(str(name) for name in facts.get("main_edits", known)),
            tuple(str(name) for name in facts.get("local_edits", ())),
            tuple(str(name) for name in facts.get("weak_edits", ())),
        )

    def trained(self) -> frozenset[str]:
        """All instructions and captions that the model was trained on, as `_plain` writes them."""
        found = {_plain(sentence) for sentences in self.known.values() for sentence in sentences}
        found |= {
            _plain(pattern.replace("{}", subject)) for pattern in self.patterns for subject in self.subjects
        }
        return frozenset(found)

    def keys(self) -> dict[str, tuple[frozenset[str], ...]]:
        """See `KnownEdits.keys`; an edit without key words uses the words of its sentences."""
        return {
            name: tuple(frozenset(_words(key)) for key in self.key_words.get(name, sentences) if _words(key))
            for name, sentences in self.known.items()
        }


def _table(found: Any) -> dict[str, tuple[str, ...]]:
    """Sentences by edit. Raises TypeError or AttributeError if `found` has another form."""
    table: dict[str, tuple[str, ...]] = {}
    for name, sentences in found.items():
        if not isinstance(sentences, list):
            raise TypeError(name)
        table[str(name)] = tuple(str(sentence) for sentence in cast(list[Any], sentences))
    return table
