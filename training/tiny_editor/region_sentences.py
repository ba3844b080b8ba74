"""Sentences, key words and captions of the edits in `regions.py`."""

from __future__ import annotations

from . import regions


def _part(name: str) -> list[str]:
    part, word = regions.PART_EDITS[name]
    first = {
        "skin": "make the skin",
        "lips": "paint the lips",
        "hair": "dye the hair",
        "shirt": "make the shirt",
    }
    rest = [
        f"make the {part}",
        f"paint the {part}",
        f"dye the {part}",
        f"turn the {part}",
        f"colour the {part}",
    ]
    sentences = [f"{start} {word}" for start in dict.fromkeys([first[part], *rest])]
    a = "" if part in ("skin", "lips", "hair") else "a "
    sentences += [
        f"{word} {part}", f"give her {a}{word} {part}", f"give him {a}{word} {part}", f"give them {a}{word} {part}",
        f"give it {a}{word} {part}", f"{a}{word} {part} please", f"add {a}{word} {part}", f"with {a}{word} {part}",
        f"make her {part} {word}", f"make his {part} {word}", f"change the {part} to {word}",
        f"recolour the {part} {word}", f"give the person {a}{word} {part}", f"turn his {part} {word}",
        f"turn her {part} {word}", f"paint her {part} {word}", f"paint his {part} {word}",
    ]  # fmt: skip
    if part == "lips":
        sentences += [
            f"{word} lipstick",
            f"give her {word} lipstick",
            f"add {word} lipstick",
            f"put on {word} lipstick",
        ]
    if part == "shirt":
        sentences += [
            f"put on a {word} shirt",
            f"let her wear a {word} shirt",
            f"let him wear a {word} shirt",
        ]
    return list(dict.fromkeys(sentences))


PHRASINGS: dict[str, list[str]] = {
    **{name: _part(name) for name in regions.PART_EDITS},
    "face_paint": [
        "add face paint", "face paint", "give her face paint", "give him face paint", "add war paint", "war paint",
        "put on face paint", "put on war paint", "with face paint", "with war paint", "give the person face paint",
        "give the head war paint", "give it face paint", "give her war paint", "give him war paint",
        "cover the face in war paint", "put war paint on the face", "put face paint on the head",
    ],
    "older": [
        "make her look older", "make him look older", "make the person look older", "make it older", "make her older",
        "make him older", "turn her older", "turn him older", "make them look older", "an older person",
        "turn the person older", "add wrinkles", "give her wrinkles", "give him wrinkles", "make the face older",
        "make the head look older", "show her older", "show him older", "give the face wrinkles", "elderly",
        "make her elderly", "make him elderly", "turn her into an elderly person", "turn him into an elderly person",
    ],
    "snow": [
        "cover it in snow", "add snow", "snow", "put snow on it", "cover it with snow", "make it snowy", "in the snow",
        "cover the person in snow", "cover the head in snow", "cover the subject in snow", "let it snow",
        "make it look snowy", "put snow on the person", "put snow on the head", "cover her in snow",
        "cover him in snow", "add some snow", "fresh snow", "cover everything in snow", "snow on it",
    ],
}  # fmt: skip

KEY_WORDS: dict[str, list[str]] = {
    **{name: [f"{word} {part}"] for name, (part, word) in regions.PART_EDITS.items()},
    "red_lips": ["red lips", "red lipstick"],
    "face_paint": ["face paint", "war paint"],
    "older": ["older", "elderly", "wrinkles"],
    "snow": ["snow", "snowy"],
}

HELD_OUT: dict[str, list[str]] = {
    "green_skin": ["change her skin to green", "turn the skin of the person green", "put on green skin"],
    "red_lips": ["change her lips to red", "turn the lips of the person red", "put on red lips"],
    "blue_hair": ["change his hair to blue", "turn the hair of the person blue", "put on blue hair"],
    "green_shirt": [
        "change his shirt to green",
        "turn the shirt of the person green",
        "paint the shirt on him green",
    ],
    "face_paint": [
        "cover her face in face paint",
        "put some war paint on him",
        "add face paint to the person",
    ],
    "older": [
        "change her into an older person",
        "make this person look older",
        "add some wrinkles to the face",
    ],
    "snow": ["put some snow on her", "cover this in snow", "add fresh snow to the scene"],
}

CAPTION_EDITS: dict[str, str] = {
    **{name: f"{{}} with {word} {part}" for name, (part, word) in regions.PART_EDITS.items()},
    "face_paint": "{} with face paint", "older": "an older picture of {}", "snow": "{} in the snow",
}  # fmt: skip
