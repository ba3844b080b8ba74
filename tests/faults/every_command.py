"""A command that ends well for every verb: small inputs of all kinds, and the flags as the parsers declare them."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.cli import _parser, main
from engine.io.imports.gaussian_avatars import import_gaussian_avatar
from engine.io.mask_folder import save_masks
from engine.io.ply import write_ply
from engine.io.scene_file import save_scene
from tests.engine.test_gaussian_avatars import write_avatar
from tests.engine.test_head_files import write_npz
from tests.engine.test_head_motion_files import write_motion
from tests.faults.commands import CLIP, PROMPTS, ROOT, make_inputs
from tests.subjects import animal
from tests.tiny_head import tiny_head
from tests.tiny_image_model import save_image_model
from tests.tiny_segmentation import save_detector, save_segmenter
from tests.tiny_trellis import save_encoder, save_trellis
from tests.tiny_variation import save_variation

WRITTEN = re.compile(r"--(out|sheet|checkpoint|keep-views|folder|report|[a-z-]+-out)")
# a name with a byte that is not UTF-8, as Python holds it
FOREIGN = "caf\udce9"


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The parser of every verb, without other names of the same."""
    found = next(action.choices for action in _parser()._actions if isinstance(action.choices, dict))
    return {parser.prog.split()[-1]: parser for parser in found.values()}


VERBS = verbs()


def flags_of(verb: str) -> list[argparse.Action]:
    """The flags of a verb that take a value."""
    return [action for action in VERBS[verb]._actions if action.option_strings and action.nargs != 0]


def is_written(action: argparse.Action) -> bool:
    """Whether a flag names what a verb writes."""
    return WRITTEN.fullmatch(action.option_strings[0]) is not None


class Bench:
    """Valid inputs for every verb below `inputs`, and an empty folder `out` for what is written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.inputs, self.out = folder, folder / "inputs", folder / "out"
        self.inputs.mkdir()
        self.out.mkdir()
        made = make_inputs(self.inputs)
        self.values: dict[str, Path] = {
            "--scene": made.folder / "scene.safetensors",
            "--field": made.folder / "field.safetensors",
            "--views": self._sheets(made.folder / "views"),
            "--sheets": self.inputs / "sheets",
            "--selection": made.folder / "selection.safetensors",
            "--model": made.folder / "model",
            "--data": CLIP,
            "--capture": CLIP,
            "--mesh": next((ROOT / "assets/puppets").glob("*/*.glb")),
            "--source": self._splat(),
            "--splat": self._splat(),
            "--images": self._images(),
            "--image": self.inputs / "images" / "0.png",
            "--masks": self.inputs / "masks",
            "--depth": self.inputs / "depth.npy",
            "--reference": self.inputs / "depth.npy",
            "--segmenter": save_segmenter(self.inputs / "sam", seed=2),
            "--detector": save_detector(self.inputs / "dino"),
            "--trellis": save_trellis(self.inputs / "trellis"),
            "--image-encoder": save_encoder(self.inputs / "encoder"),
            "--variation": save_variation(self.inputs / "variation"),
            "--generator": save_image_model(self.inputs / "generator"),
            "--parts": self._part(made.folder / "scene.safetensors"),
        }
        self._head()
        more = ("--compare", "--original", "--truth", "--start")
        self.values |= dict.fromkeys(more, self.values["--scene"])
        self.values |= {"--use-views": self.values["--views"], "--region": self.values["--selection"]}
        self.values |= {"--keep": self.values["--masks"], "--pin": self.values["--masks"]}
        for flag, value in self.values.items():
            copy = shutil.copytree if value.is_dir() else shutil.copy2
            copy(value, self.foreign(flag))
        self.make_bad()

    def _splat(self) -> Path:
        return write_ply(animal(20), self.inputs / "animal.ply")

    def _part(self, scene: Path) -> Path:
        """All frames of a rendering as one part."""
        part = self.inputs / "part.mkv"
        words = ("--frames", 2, "--width", 32, "--height", 32, "--part", "1/1", "--device", "cpu", "--json")
        assert main([str(word) for word in ("render", "--scene", scene, "--out", part, *words)]) == 0
        return part

    def _jobs(self) -> Path:
        file = self.inputs / "jobs.yaml"
        file.write_text(
            "folder: out\njobs: {gold: {run: grade, scene: scene.safetensors, out: a.safetensors}}\n"
        )
        return file

    def _sheets(self, views: Path) -> Path:
        """The views as they stand on sheets, which are beside them."""
        laid_out, sheets = self.inputs / "laid out", self.inputs / "sheets"
        words = ("views-to-sheet", "--views", views, "--out", laid_out, "--sheets-out", sheets, "--json")
        assert main([str(word) for word in words]) == 0
        return laid_out

    def _images(self) -> Path:
        folder = self.inputs / "images"
        folder.mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (48, 56, 4), np.uint8)
        pixels[..., 3] = 0
        pixels[10:40, 14:42, 3] = 255
        for i in range(3):
            Image.fromarray(pixels).save(folder / f"{i}.png")
        save_masks(torch.from_numpy(pixels[None, ..., 3].repeat(3, 0) / 255), self.inputs / "masks")
        np.save(
            self.inputs / "depth.npy", np.linspace(1, 2, 3 * 48 * 56, dtype=np.float32).reshape(3, 48, 56)
        )
        return folder

    def _head(self) -> None:
        """A head model, its motion, and a scene that is bound to it."""
        place, head = self.inputs / "head", tiny_head()
        place.mkdir()
        motion = write_motion(self.inputs / "flame_param.npz", head)
        self.values |= {"--head": motion, "--driver": motion, "--head-model": write_npz(place)}
        np.savez(place / "head_masks.npz", lips=np.array([1, 2], np.int32))
        folder = write_avatar(self.inputs / "avatar", head)
        self.avatar = save_scene(
            import_gaussian_avatar(folder, head.model, "import_scene", 10), place / "a.safetensors"
        )

    def foreign(self, flag: str) -> Path:
        """The valid value of a flag under a name that is not UTF-8, in a folder of its own as others lie beside the first."""
        folder = self.inputs / FOREIGN / flag
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{FOREIGN}{self.values[flag].suffix}"

    def make_bad(self) -> None:
        """What no flag should be given."""
        bad = self.folder / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        bad.mkdir()
        # not the machine's own: root could replace it
        with contextlib.suppress(PermissionError):
            os.mknod(bad / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mkfifo(bad / "pipe.safetensors")
        os.symlink(bad / "loop.safetensors", bad / "loop.safetensors")
        (bad / "text.safetensors").write_text("some words\n")
        (bad / "empty").mkdir()
        (bad / "locked").mkdir(mode=0o500)
        (bad / "secret.safetensors").write_text("")
        (bad / "secret.safetensors").chmod(0)

    def command(self, verb: str) -> list[str]:
        """The words of a command that ends well, without its output."""
        few = ("--frame-count", 3, "--scale", 0.1)
        quick = ("--rasterizer", "torch")
        steps = ("--iterations", 2)
        prompt = ("--prompt", "make it night", "--resolution", 32)
        views = ("--views", self.values["--views"])
        more: dict[str, tuple[object, ...]] = {
            "render": ("--frames", 2, "--width", 32, "--height", 32),
            "demo": ("--prompt", ""),
            "edit": (*prompt, "--fit-iterations", 2),
            "prepare-video": ("--size", 64),
            "canonical": ("--structure-steps", 2, "--latent-steps", 2),
            "align": ("--resolution", 32, "--max-elevation", 0, *quick),
            "lift-video": ("--cameras", "fixed"),
            "generate": ("--steps", 2, "--frames", 5, "--width", 32, "--height", 32),
            "preflight": few,
            "fit-scene": (*few, *steps, *quick),
            "segment": ("--detector", self.values["--detector"], "--prompt", "mouth", *views),
            "lift-mask": views,
            "fit-edits": (*steps, *quick),
            "refine": (*prompt, *steps),
            "train-latents": steps,
            "delta-edit": (*PROMPTS, *steps),
            "latents-to-scene": (*steps, "--moments", "0"),
            "decode-latents": ("--views", "0"),
            "evaluate": (*few, "--every", 10),
            "head-mask": (*quick, "--part", "lips"),
            "edit-head": (*prompt, "--levels", "300", "--frames-per-round", 1, "--iterations-per-frame", 1),
        }
        if verb == "batch":
            # its jobs are commands too
            more[verb] = (self._jobs(), "--dry-run")
        dests = {action.dest for action in flags_of(verb)}
        given = {a.option_strings[0] for a in flags_of(verb) if a.required and not is_written(a)}
        given |= {f"--{name}" for name in ("masks", "model", "generator", "variation") if name in dests}
        words: list[object] = [verb]
        for flag in sorted(given):
            words += [flag, self.values[flag]]
        if verb.split("-")[-1] in ("head", "mask") and "head_model" in dests:
            words += ["--scene", self.avatar, "--head-model", self.values["--head-model"]]
        if "device" in dests:
            words += ["--device", "cpu"]
        return [str(word) for word in (*words, *more.get(verb, ()))]

    def output(self, verb: str) -> str:
        """Where a verb writes in a command that ends well; empty for verbs that report."""
        if not any(action.dest == "out" for action in flags_of(verb)) and verb != "export":
            return ""
        endings = {
            "render": ".mp4",
            "join": ".mp4",
            "clip": ".gs4dclip",
            "page": ".html",
            "export": ".ply",
            "align-depth": ".npy",
        }
        folders = ("demo", "prepare-video", "scene-views", "segment", "decode-latents", "head-mask")
        folders += ("views-to-sheet", "sheet-to-views", "web-player")
        return str(self.out / f"a{'' if verb in folders else endings.get(verb, '.safetensors')}")
