"""Numbers that stand for words: one declaration gives the label, the flag and what a user reads."""

from __future__ import annotations

from dataclasses import fields

import pytest

from engine.cli.arguments import Parser, add_config, config_from
from engine.fields import caption_of, number_of, text_of
from engine.steps import all_steps, camera_path
from engine.train.view_edit_config import ViewEditConfig

WORDED = [
    (step.name, f) for step in all_steps() for f in fields(step.config) if f.metadata.get("words")
]  # fmt: skip


def parsed(config, *words: str):
    parser = Parser(prog="test")
    add_config(parser, config)
    return config_from(parser.parse_args(list(words)), config)


def test_every_word_stands_for_a_number_that_the_field_takes():
    assert len(WORDED) > 40
    for name, f in WORDED:
        for value, word in f.metadata["words"].items():
            assert f.metadata["low"] <= value <= f.metadata["high"], (name, f.name)
            assert number_of(f, word) == value and text_of(f, value) == word
            assert number_of(f, str(value)) == value and type(number_of(f, word)) is type(f.default)
            listed = caption_of(f).rpartition("(")[2].removesuffix(")").split(", ")
            assert f"{value} = {word}" in listed


def test_a_flag_takes_the_word_and_the_number():
    assert parsed(ViewEditConfig, "--steps", "auto", "--key-view", "First").steps == 0
    assert parsed(ViewEditConfig, "--key-view", "first").key_view == -1
    assert parsed(ViewEditConfig, "--keep-feather", "no-blending", "--steps", "12") == ViewEditConfig(
        steps=12
    )
    assert parsed(camera_path.Config, "--elevation", "as captured").elevation == -1000.0
    assert parsed(camera_path.Config, "--elevation=-20").elevation == -20.0


def test_a_flag_says_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        parsed(ViewEditConfig, "--steps", "many")
    assert "invalid int or auto value: 'many'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parsed(camera_path.Config, "--help")
    assert "(default as captured)" in " ".join(capsys.readouterr().out.split())
