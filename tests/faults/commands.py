"""Small inputs, and the commands of the command line that work on them, for tests that disturb these commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.cli import main
from engine.io.scene_file import save_scene
from engine.io.selection_file import save_selection
from engine.scene import Selection, Static
from tests.scenes import moving_scene
from tests.tiny_diffusion import tiny_folder

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "assets" / "clips" / "walker"
PROMPTS = ("--source-prompt", "a person", "--prompt", "a gold statue")


@dataclass(frozen=True)
class Inputs:
    """A scene, a latent field, edited views, a selection and a tiny model of random weights, in one folder."""

    folder: Path

    def command(self, verb: str, out: Path, iterations: int) -> list[str]:
        """The words of a command that writes `out`."""
        scene = ("--scene", self.folder / "scene.safetensors")
        field = ("--field", self.folder / "field.safetensors")
        model = ("--model", self.folder / "model")
        steps = ("--iterations", iterations)
        few = ("--frame-count", 3, "--scale", 0.25)
        words: dict[str, tuple[object, ...]] = {
            "fit-scene": ("--data", CLIP, *few, *steps),
            "edit": (
                *scene,
                *model,
                "--prompt",
                "make it night",
                "--resolution",
                32,
                "--fit-iterations",
                iterations,
            ),
            "fit-edits": (*scene, "--views", self.folder / "views", *steps),
            "refine": (*scene, *model, "--prompt", "make it night", "--resolution", 32, *steps),
            "train-latents": (*scene, *model, *steps),
            "delta-edit": (*field, *model, *PROMPTS, *steps),
            "latents-to-scene": (*field, *model, "--moments", "0", *steps),
            "export": (*scene,),
            "page": (*scene,),
            "render": (*scene, "--frames", iterations, "--width", 64, "--height", 64),
        }
        device = () if verb in ("export", "page") else ("--device", "cpu")
        return [verb, *map(str, (*words[verb], "--out", out, *device))]


# verb → ending of its output; the first ones keep unfinished work beside it
RESUMED = ("fit-scene", "edit", "fit-edits", "refine", "train-latents", "delta-edit", "latents-to-scene")
ENDINGS = {**dict.fromkeys(RESUMED, ".safetensors"), "export": ".ply", "page": ".html", "render": ".mp4"}


def make_inputs(folder: Path) -> Inputs:
    model = tiny_folder(folder / "model")
    (model / "gs4d.json").write_text(json.dumps({"recommended": {"steps": 2, "resolution": 32}}))
    scene = moving_scene(count=60, views=3, moments=3).with_(deformation=Static())
    save_scene(scene, folder / "scene.safetensors")
    save_selection(Selection(scene.canonical.means[:, 0].gt(0).float()), folder / "selection.safetensors")
    words = ("--scene", folder / "scene.safetensors", "--device", "cpu", "--json")
    latents = ("train-latents", "--model", model, "--iterations", 2, "--out", folder / "field.safetensors")
    for command in (("scene-views", "--out", folder / "views"), latents):
        assert main([str(word) for word in (*command, *words)]) == 0
    return Inputs(folder)


def start(words: list[str], **more: str) -> subprocess.Popen[str]:
    """A command in a process of its own, with `more` in its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_one_sentence(text: str) -> bool:
    """Whether the last line of stderr explains the end of a command, and nothing there is a traceback."""
    lines = text.strip().splitlines()
    return (
        bool(lines) and "Traceback" not in text and "Exception ignored" not in text and len(lines[-1]) <= 400
    )
