"""The edits that the small model learns: exact functions of a pixel's color, and sentences for each.

The first ten and their truth are those of the demo clip (`training/demo_clip/edits.py`); the rest cost nothing
but a line each. Edits of a part or with a pattern have their truth in `regions.py`. Sentences use a closed list of words,
which is also the list that the tokenizer knows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from . import region_sentences, regions
from .regions import luminance, ramp

FloatArray = NDArray[np.floating]


def _night(x: FloatArray) -> FloatArray:
    tint, lift = np.array([0.11, 0.154, 0.3025], np.float32), np.array([0.0, 0.01, 0.05], np.float32)
    return luminance(x) * tint + np.float32(0.1) * x + lift


def _golden(x: FloatArray) -> FloatArray:
    return x * np.array([1.12, 0.86, 0.52], np.float32) + np.array([0.10, 0.04, 0.0], np.float32)


FUNCTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "none": lambda x: x,
    "night": _night,
    "golden_hour": _golden,
    "black_and_white": lambda x: np.repeat(luminance(x), 3, axis=-1),
    "fog": lambda x: np.float32(0.45) * x + np.float32(0.55) * np.array([0.80, 0.83, 0.86], np.float32),
    "gold": ramp((0.16, 0.08, 0.01), (0.78, 0.52, 0.12), (1.0, 0.92, 0.62)),
    "bronze": ramp((0.10, 0.05, 0.02), (0.50, 0.29, 0.12), (0.93, 0.74, 0.48)),
    "marble": ramp((0.52, 0.53, 0.56), (0.80, 0.80, 0.80), (0.98, 0.97, 0.95)),
    "red": regions.COLORS["red"],
    "green": regions.COLORS["green"],
    "blue": regions.COLORS["blue"],
    "yellow": ramp((0.20, 0.15, 0.0), (0.95, 0.80, 0.10), (1.0, 0.98, 0.65)),
    "purple": ramp((0.12, 0.0, 0.18), (0.52, 0.18, 0.72), (0.88, 0.70, 1.0)),
    "silver": ramp((0.08, 0.09, 0.11), (0.58, 0.60, 0.64), (0.97, 0.98, 1.0)),
    "copper": ramp((0.14, 0.04, 0.02), (0.72, 0.36, 0.22), (1.0, 0.80, 0.66)),
    "brighter": lambda x: np.float32(0.65) * x + np.float32(0.35),
    "darker": lambda x: np.float32(0.5) * x,
}
NAMES: tuple[str, ...] = (*FUNCTIONS, *regions.NAMES)
"""All edits, in the order of their numbers in the latents."""
TEN = ("night", "golden_hour", "black_and_white", "fog", "gold", "bronze", "marble", "red", "green", "blue")
GLOBAL = ("none", "night", "golden_hour", "black_and_white", "fog", "brighter", "darker")
"""Edits that act on the whole picture where the surroundings are a photograph."""

WEIGHTS: dict[str, float] = {
    "none": 0.9, "night": 0.9, "golden_hour": 1.0, "black_and_white": 1.3, "fog": 0.9, "gold": 1.2,
    "bronze": 1.2, "marble": 1.2, "red": 1.3, "green": 1.3, "blue": 1.3, "yellow": 0.25, "purple": 0.25,
    "silver": 0.25, "copper": 0.25, "brighter": 0.2, "darker": 0.2,
    **dict.fromkeys(regions.NAMES, 0.55), **dict.fromkeys(regions.MAIN, 1.7), "face_paint": 2.4, "older": 2.6,
    "red_lips": 2.4,
}  # fmt: skip


def apply(name: str, colour: FloatArray, alpha: FloatArray, background: FloatArray) -> FloatArray:
    """The true edited picture: alpha * clip(f(color)) + (1 - alpha) * background, sRGB 0..1 (H, W, 3)."""
    edited = np.clip(FUNCTIONS[name](colour), 0.0, 1.0)
    return alpha[..., None] * edited + (1 - alpha[..., None]) * background


def _colour(word: str) -> list[str]:
    return [
        f"make it {word}", f"paint it {word}", f"turn the subject {word}", f"turn it {word}",
        f"make the subject {word}", f"paint the subject {word}", f"colour it {word}", f"recolour it {word}",
        f"change the colour to {word}", f"make everything {word}", f"dye it {word}", f"cover it in {word} paint",
        f"a {word} version of it", f"make them {word}", f"turn the person {word}", f"paint the person {word}",
        f"make the person {word}", f"make the robot {word}", f"paint the robot {word}", f"make the head {word}",
        f"turn the head {word}", f"make the character {word}", f"turn the character {word}",
        f"make the body {word}", f"turn this {word}", f"make this {word}", f"give it a {word} colour",
        f"{word}", f"make him {word}", f"make her {word}", f"change it to {word}",
    ]  # fmt: skip


def _statue(word: str, *more: str) -> list[str]:
    return [
        f"turn it into a {word} statue", f"make it {word}", f"a {word} sculpture", f"cast it in {word}",
        f"turn it into {word}", f"make it a {word} statue", f"make it look like {word}",
        f"turn the person into a {word} statue", f"turn the subject into a {word} statue",
        f"turn the robot into a {word} statue", f"turn the character into a {word} statue",
        f"turn the head into a {word} statue", f"make the person a {word} statue",
        f"a {word} statue", f"a statue made of {word}", f"make it out of {word}", f"turn this into a {word} sculpture",
        f"make it a {word} sculpture", f"cover it in {word}", f"turn him into a {word} statue",
        f"turn her into a {word} statue", f"change it into a {word} statue", f"make the subject {word}",
        f"a {word} bust", f"{word}", f"change the material to {word}", f"as a {word} statue", *more,
    ]  # fmt: skip


PHRASINGS: dict[str, list[str]] = {
    "none": [
        "leave it as it is", "keep it the same", "do nothing", "no change", "leave it alone", "keep it as it is",
        "do not change it", "leave the picture as it is", "keep the picture the same", "change nothing",
        "make no change", "keep everything the same", "leave everything as it is", "do not change anything",
        "the same picture", "keep it", "leave it", "do not edit it", "no edit", "leave it the same",
    ],
    "night": [
        "make it night", "set the scene at night", "turn day into night", "make it look like night", "at night",
        "turn it into night", "as if at night", "put it in the dark of night", "a night scene", "make it a night scene",
        "night time", "make it night time", "show it at night", "moonlight", "in moonlight", "as if in moonlight",
        "turn it to night", "change it to night", "make it a dark night", "set it at night", "midnight",
        "make it midnight", "put it under the moon", "change the time to night", "turn the scene into night",
    ],
    "golden_hour": [
        "make it golden hour", "warm sunset light", "as if at sunset", "make it sunset", "set the scene at sunset",
        "golden hour", "at golden hour", "make it look like sunset", "in warm light", "give it warm light",
        "add warm sunset light", "put it in sunset light", "show it at sunset", "turn it into sunset",
        "make the light warm", "in golden hour light", "light it with the evening sun", "evening sun",
        "make it evening", "set it at golden hour", "change the time to sunset", "a sunset scene", "a golden hour scene",
        "make it warm", "sunrise", "make it sunrise", "at dusk", "make it dusk", "add golden light", "warm it up",
    ],
    "black_and_white": [
        "make it black and white", "turn it grayscale", "a monochrome photo", "make it grayscale",
        "turn it black and white", "make it monochrome", "turn it into a black and white photo",
        "a black and white photo", "remove the colour", "remove all colour", "take away the colour", "no colour",
        "a black and white picture", "in black and white", "turn it into a monochrome picture", "make it grey",
        "make it gray", "turn it grey", "turn it gray", "make it colourless", "an old black and white photo",
        "without colour", "desaturate it", "make it greyscale", "turn it greyscale", "turn it monochrome",
        "a grayscale photo", "change it to black and white",
    ],
    "fog": [
        "make it foggy", "add fog", "cover it in mist", "make it misty", "add mist", "put it in fog", "in the fog",
        "in the mist", "cover it in fog", "make the scene foggy", "a foggy scene", "make it a foggy day",
        "add some fog", "fill the scene with fog", "make it hazy", "add haze", "in haze", "cover it in haze",
        "a misty morning", "make it a misty morning", "show it in fog", "put it in the mist", "thick fog",
        "add thick fog", "turn it foggy", "lost in fog", "fade it into mist",
    ],
    "gold": _statue("gold", "make it golden", "turn it golden", "a golden sculpture", "a golden statue",
                    "turn it into a golden statue", "make it a golden statue", "make the person golden",
                    "make the subject golden", "make it shiny gold", "paint it gold"),
    "bronze": _statue("bronze", "a bronze figure", "make it a bronze figure", "make it old bronze",
                      "turn it into old bronze", "a sculpture in bronze"),
    "marble": _statue("marble", "a white stone sculpture", "turn it into stone", "make it white stone",
                      "a white marble statue", "turn it into a white marble statue", "make it stone",
                      "turn it into a stone statue", "carve it in marble", "carve it in white stone",
                      "turn the person into stone", "a stone statue", "make it a white stone statue"),
    "red": _colour("red"), "green": _colour("green"), "blue": _colour("blue"),
    "yellow": _colour("yellow"), "purple": _colour("purple"),
    "silver": _statue("silver"), "copper": _statue("copper"),
    "brighter": ["make it brighter", "brighten it", "make the picture brighter", "more light", "add more light",
                 "a brighter picture", "turn up the light", "make it lighter", "lighten it", "make it bright",
                 "brighten the picture", "make the scene brighter"],
    "darker": ["make it darker", "darken it", "make the picture darker", "less light", "a darker picture",
               "turn down the light", "make the scene darker", "darken the picture", "dim the light",
               "make it a little darker", "dim it", "darken the scene"],
    **region_sentences.PHRASINGS,
}  # fmt: skip

KEY_WORDS: dict[str, list[str]] = {
    "none": ["leave", "keep", "nothing", "same", "no change", "not change", "no edit", "not edit"],
    "night": ["night", "midnight", "moonlight", "moon", "dark night"],
    "golden_hour": ["golden hour", "golden light", "sunset", "sunrise", "dusk", "evening", "warm"],
    "black_and_white": ["black", "grayscale", "greyscale", "monochrome", "gray", "grey", "colourless", "desaturate",
                        "remove colour", "away colour", "no colour", "without colour", "remove color", "away color"],
    "fog": ["fog", "foggy", "mist", "misty", "haze", "hazy"],
    "gold": ["gold", "golden"], "bronze": ["bronze"], "marble": ["marble", "stone"],
    "red": ["red"], "green": ["green"], "blue": ["blue"], "yellow": ["yellow"], "purple": ["purple"],
    "silver": ["silver"], "copper": ["copper"],
    "brighter": ["brighter", "brighten", "bright", "lighter", "lighten", "more light", "up light"],
    "darker": ["darker", "darken", "dark", "dim", "less light", "down light"],
    **region_sentences.KEY_WORDS,
}  # fmt: skip
"""What an edit goes by: all words of one entry in a sentence bring it about, whatever else the sentence says.

Checked against the trained model: other words hardly change the result; without such words the image turns gray.
"""

HELD_OUT: dict[str, list[str]] = {
    "none": ["keep the scene as it is", "leave everything the same", "do not change the picture"],
    "night": ["change the scene to night", "show the scene in moonlight", "turn this into a night scene"],
    "golden_hour": ["change it to a sunset scene", "put it in warm evening light", "show the scene at golden hour"],
    "black_and_white": ["change the picture to grayscale", "make the photo black and white",
                        "show it in monochrome"],
    "fog": ["turn it into a foggy scene", "cover the scene in mist", "put some fog in the picture"],
    "gold": ["change the person into a golden statue", "turn this character into gold",
             "make the head look like gold"],
    "bronze": ["change the person into bronze", "make the head a bronze sculpture", "show it as a bronze bust"],
    "marble": ["change the person into a marble sculpture", "make the robot out of white stone",
               "show it as a marble bust"],
    "red": ["change the subject to red", "give the person a red colour", "turn him into a red character"],
    "green": ["change the subject to green", "give the person a green colour", "turn him into a green character"],
    "blue": ["change the subject to blue", "give the person a blue colour", "turn him into a blue character"],
    **region_sentences.HELD_OUT,
}  # fmt: skip
"""New combinations of known words, never trained on: for the test."""

_FRONT = ("", "", "", "", "please ", "now ", "can you ", "could you ", "just ")
_BACK = ("", "", "", "", "", " please", " now", " in the picture", " here", " in this photo", " for me")

CAPTIONS: dict[str, tuple[str, ...]] = {
    "bodies": ("a person", "a person walking", "a photo of a person", "a person standing", "a picture of a person",
               "a figure", "a man", "a woman", "a character"),
    "heads": ("a head", "a face", "a portrait", "a bust", "a picture of a head", "a portrait of a person"),
    "procedural": ("an object", "a toy", "a shape", "a thing", "a picture of an object", "an abstract shape"),
    "splats": ("an object", "a thing"),
    "painted": ("a head", "a face", "a portrait", "a bust", "a picture of a head", "a portrait of a person"),
    "photograph": ("a photo", "a picture", "a view", "a photo of a scene"),
}  # fmt: skip
"""What a picture without an image beside it is called, for each kind of subject."""

CAPTION_EDITS = {
    "none": "{}", "night": "{} at night", "golden_hour": "{} at sunset", "black_and_white": "a black and white photo of {}",
    "fog": "{} in the fog", "gold": "a gold statue of {}", "bronze": "a bronze statue of {}",
    "marble": "a marble statue of {}", "red": "a red picture of {}", "green": "a green picture of {}",
    "blue": "a blue picture of {}", "yellow": "a yellow picture of {}", "purple": "a purple picture of {}",
    "silver": "a silver statue of {}", "copper": "a copper statue of {}", "brighter": "a bright picture of {}",
    "darker": "a dark picture of {}", **region_sentences.CAPTION_EDITS,
}  # fmt: skip
"""And what it is called once edited; {} is its name."""

CAPTION_WORDS = (
    "a an the of in on at with and or two three one some photo picture image portrait view render drawing person "
    "people man woman boy girl child baby face head hair eyes nose mouth hand hands arm arms leg legs foot feet "
    "body back front side left right top bottom robot machine statue sculpture bust figure character toy doll "
    "animal cat dog fox horse bird bear koala fish plant tree flower leaf grass house room wall floor door window "
    "table chair car bike ball box cup vase bottle book lamp walking standing running sitting jumping dancing "
    "talking smiling looking turning holding wearing shirt trousers dress jacket coat hat shoes boots dungarees "
    "jeans suit stripes striped plain smooth rough shiny soft hard big small tall short long thin thick round "
    "square young old new happy sad angry calm strong brown black white grey gray pink orange cream dark light pale "
    "bright colourful sky cloud sun moon sea beach mountain street city forest garden snow rain day evening morning "
    "summer winter background foreground centre from above below behind near far close up full length studio "
    "cartoon clay plastic metal wood glass paper cloth stone water fire ice abstract shape object thing blob pot "
    "red green blue yellow purple gold golden silver bronze copper marble night sunset fog mist monochrome his her "
    "their its is are wears stands walks sits runs holds looks talks smiles"
).split()


COLORED = ("red", "green", "blue", "yellow", "purple")
UNKNOWN_PARTS = 0.2
"""Share of a color's sentences that name a part which the model does not know: the whole subject takes the color."""
_UNKNOWN = ("make the {part} {word}", "{word} {part}", "paint the {part} {word}", "turn the {part} {word}",
            "make her {part} {word}", "make his {part} {word}", "give her a {word} {part}")  # fmt: skip


def unknown_word(rng: random.Random) -> str:
    """A word of three to eight letters that the tokenizer most likely splits into letters, such as "cape"."""
    return "".join(rng.choice("aeiou" if k % 2 else "bcdfghklmnprstvw") for k in range(rng.randint(3, 8)))


def facts(names: Collection[str] = NAMES, weak: Collection[str] = ()) -> dict[str, object]:
    """What gs4d.json says of the edits `names`, beside the recommended numbers; `weak` of them are not offered."""
    subjects = list(dict.fromkeys(name for names in CAPTIONS.values() for name in names))
    return {
        "known_edits": {name: list(dict.fromkeys(PHRASINGS[name])) for name in NAMES if name in names},
        "main_edits": [name for name in (*TEN, *regions.MAIN) if name in names and name not in weak],
        "local_edits": [name for name in regions.NAMES if name in names],
        "weak_edits": [name for name in NAMES if name in weak],
        "key_words": {name: words for name, words in KEY_WORDS.items() if name in names},
        "captions": {
            "subjects": subjects,
            "edits": {name: caption for name, caption in CAPTION_EDITS.items() if name in names},
        },
    }


def words() -> list[str]:
    """Every word that the tokenizer keeps whole, sorted."""
    found: set[str] = set(CAPTION_WORDS)
    for table in (PHRASINGS, HELD_OUT):
        for sentences in table.values():
            for sentence in sentences:
                found.update(sentence.split())
    for part in (
        *_FRONT,
        *_BACK,
        *sum(CAPTIONS.values(), ()),
        *(c.format("") for c in CAPTION_EDITS.values()),
    ):
        found.update(part.split())
    return sorted(found)


def sentence(name: str, rng: random.Random) -> str:
    """A random trained sentence for an edit, dressed with small words."""
    if name in COLORED and rng.random() < UNKNOWN_PARTS:
        text = rng.choice(_UNKNOWN).format(part=unknown_word(rng), word=name)
        return rng.choice(_FRONT) + text + rng.choice(_BACK)
    table = PHRASINGS[name]
    # The first few are what people type and what the demo uses.
    text = rng.choice(table[:3]) if rng.random() < 0.25 else rng.choice(table)
    return rng.choice(_FRONT) + text + rng.choice(_BACK)
