"""Every command that takes a prompt ends in one sentence, or well, whatever the prompt is; the prompt is kept as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.cli import main
from engine.diffusion.loading import EMBEDDED
from engine.files.safetensors_header import read_header
from tests.faults.commands import is_one_sentence
from tests.faults.every_command import VERBS, Bench, flags_of

MARKUP = "</script><script>alert(1)</script> make it <b>night</b> & ${x} %s {}"
PROMPTS = {
    "empty": "",
    "spaces": " \t\n\u3000 ",
    "chinese": "把它变成黄金雕像",
    "arabic": "حوّله إلى تمثال ذهبي",
    "accents": "façonne-le à Noël, cafe\u0301, Ångström",
    "controls": "make it\x00 night\x1b[31m\r\n\x07 now\u202e\u2028 and on",
    "markup": MARKUP,
    "10,000 characters": ("make it night and " * 600)[:10_000],
    "one word of 10,000": "n" * 10_000,
}
# every flag that takes sentences, and whether its step needs one
NEEDED = {
    ("demo", "prompt"): False,
    ("edit", "prompt"): True,
    ("edit", "negative"): False,
    ("generate", "prompt"): False,
    ("segment", "prompt"): True,
    ("refine", "prompt"): True,
    ("refine", "negative"): False,
    ("delta-edit", "prompt"): True,
    ("delta-edit", "source_prompt"): True,
    ("delta-edit", "negative"): False,
    ("evaluate-edit", "prompt"): False,
    ("evaluate-edit", "source_caption"): False,
    ("evaluate-edit", "target_caption"): False,
    ("evaluate-generation", "prompt"): False,
    ("edit-head", "prompt"): True,
}
# its minutes of training end before the prompt is used; the same check is tested below
TRIED = [
    (verb, name, kind)
    for verb, name in NEEDED
    for kind in PROMPTS
    if verb != "demo" and (name == "prompt" or kind in ("spaces", "controls", "10,000 characters"))
]
# the longest line of a report or a message
LONGEST = 400
# what the prompts are given to: models that follow no text, and words that a tiny vocabulary lacks
MAY_REFUSE = ("generate", "segment")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def is_plain(text: str) -> bool:
    """Whether every line of a text may stand on a terminal, and be read there."""
    return all(line.isprintable() and len(line) <= LONGEST for line in text.split("\n"))


def is_refused(text: str) -> bool:
    return is_one_sentence(text) and "[GS4D-" in text.strip().splitlines()[-1]


def test_every_flag_for_sentences_is_tried() -> None:
    names = ("prompt", "negative", "caption")
    found = {(v, flag.dest) for v in VERBS for flag in flags_of(v) if flag.dest.endswith(names)}
    assert found == set(NEEDED)


@pytest.mark.parametrize(("verb", "name", "kind"), TRIED)
def test_any_prompt_works_or_is_refused_in_one_sentence(
    bench: Bench, capsys: pytest.CaptureFixture[str], verb: str, name: str, kind: str
) -> None:
    prompt, out = PROMPTS[kind], bench.output(verb)
    folder = bench.out / kind
    folder.mkdir(exist_ok=True)
    target = folder / Path(out).name
    shutil.rmtree(target, ignore_errors=True)
    target.unlink(missing_ok=True)
    flag = f"--{name.replace('_', '-')}={prompt}"
    code, printed, said = run(capsys, *bench.command(verb), flag, *(["--out", str(target)] if out else []))
    # progress bars of libraries
    said = "\n".join(line for line in said.split("\n") if "\r" not in line)
    assert is_plain(printed) and is_plain(said), ascii(printed + said)
    if not prompt.strip() and NEEDED[verb, name]:
        assert code == 1
    elif verb not in MAY_REFUSE:
        assert code == 0, said
    if code == 1:
        assert is_refused(said), ascii(said)
        assert not target.exists()
        return
    if target.suffix == ".safetensors" and verb not in MAY_REFUSE and prompt:
        metadata = " ".join(read_header(target).metadata.values())
        assert (
            json.dumps(prompt)[1:-1] in metadata or json.dumps(prompt, ensure_ascii=False)[1:-1] in metadata
        )
    long = len(prompt) > LONGEST and kind != "one word of 10,000"
    if long and name in ("prompt", "source_prompt", "negative") and not verb.startswith("evaluate"):
        assert "reads the first 77 and ignores the rest" in said


@pytest.mark.parametrize("kind", [kind for kind, prompt in PROMPTS.items() if "night" not in prompt])
@pytest.mark.parametrize("verb", ["edit", "refine", "demo"])
def test_the_bundled_model_says_which_edits_it_knows(
    bench: Bench, capsys: pytest.CaptureFixture[str], verb: str, kind: str
) -> None:
    if verb == "demo" and not PROMPTS[kind].strip():
        # no edit
        return
    target = bench.out / "none" / "a.safetensors"
    model = [] if verb == "demo" else [f"--model={EMBEDDED}"]
    code, printed, said = run(
        capsys, *bench.command(verb), *model, f"--prompt={PROMPTS[kind]}", "--out", target
    )
    assert code == 1 and is_refused(said) and is_plain(printed), ascii(said)
    assert ("gold" if PROMPTS[kind].strip() else "prompt is empty") in said
    assert not target.exists()


def test_a_prompt_is_needed_before_the_fit_that_a_refinement_follows(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    target, views = bench.out / "late" / "a.safetensors", bench.values["--views"]
    words = (*bench.command("edit"), "--use-views", views, "--refine", "--prompt", "  ", "--out", target)
    code, _, said = run(capsys, *words)
    assert code == 1 and "STP-024" in said and "fitting" not in said
    assert not list(target.parent.glob("*"))


def test_exported_pages_and_files_hold_no_markup_of_prompts(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bench.out / "exported"
    folder.mkdir()
    edited = folder / "edited.safetensors"
    assert main([*bench.command("edit"), f"--prompt={MARKUP}", "--out", str(edited), "--json"]) == 0
    for verb, ending in (("page", "html"), ("export", "ply"), ("clip", "gs4dclip")):
        target = folder / f"edited.{ending}"
        assert main([verb, "--scene", str(edited), "--out", str(target), "--json"]) == 0
        assert b"<script>alert" not in target.read_bytes()
    capsys.readouterr()
    assert {path.name for path in folder.iterdir()} == {
        f"edited.{ending}" for ending in ("safetensors", "html", "ply", "gs4dclip")
    }
