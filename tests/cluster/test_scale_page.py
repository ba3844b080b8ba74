"""The job files of docs/scale.md: the first one runs, the second one is checked."""

import re
import shutil
from pathlib import Path

from engine.cli import verbs
from engine.cluster import read_jobs, run
from engine.messages import result
from tests.cluster.small_jobs import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def example(name: str, folder: Path) -> Path:
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) if f"# {name}\n" in block)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_the_first_example_runs(tmp_path: Path) -> None:
    scene = Path("assets", "scenes", "walker", "walker.safetensors")
    (tmp_path / scene).parent.mkdir(parents=True)
    shutil.copy(ROOT / scene, tmp_path / scene)
    report = result(run(read_jobs(example("looks.yaml", tmp_path), verbs())))
    assert report["done"] == 8, report
    made = {path.name for path in (tmp_path / "looks").iterdir() if not path.name.startswith(".")}
    looks = ("gold", "night")
    assert made == {
        f"{look}{end}" for look in looks for end in (".safetensors", " 1_2.mkv", " 2_2.mkv", ".mp4")
    }


def test_the_second_example_is_a_job_file(tmp_path: Path) -> None:
    for shot in ("s010", "s020", "s030"):
        (tmp_path / "captures" / shot).mkdir(parents=True)
    jobs = read_jobs(example("shots.yaml", tmp_path), verbs())
    assert len(jobs.jobs) == 3 + 6 + 6
    edit = next(job for job in jobs.jobs if job.entry == "edit" and job.values["shot"] == "s020")
    assert edit.needs == ("train[s020]",) and edit.outputs[0].name == "turn-it-into-a-gold-statue.safetensors"
