"""Job files: what they mean, and one sentence with the line for everything that can be wrong in them."""

import os
import shlex
import textwrap
from pathlib import Path

import pytest

from engine.cli import main, verbs
from engine.cluster import Jobs, read_jobs, run, standing
from engine.cluster.job_file import KEYS, LARGEST
from engine.errors import InputError
from engine.messages import result

VERBS = verbs()
FINE = """
    folder: out
    jobs:
      gold: {run: grade, scene: a.safetensors, preset: gold, out: gold.safetensors}
"""


def plan(folder: Path, text: str) -> Jobs:
    for name in ("a.safetensors", "b.safetensors"):
        (folder / name).write_bytes(b" ")
    file = folder / "jobs.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return read_jobs(file, VERBS)


def words(jobs: Jobs) -> dict[str, str]:
    """The command of each job, with the folders' names left out."""
    place = f"{jobs.file.parent}{os.sep}"
    return {job.name: " ".join(job.words).replace(place, "") for job in jobs.jobs}


def test_every_combination_of_the_matrix_is_a_job_and_finds_its_own_input(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        folder: out
        jobs:
          show:                              # before what it needs
            run: render
            matrix: {shot: [a, b], look: [gold, night], turns: [1, -1]}
            scene: ${graded.out}
            turns: "{turns}"
            wants-depth: yes
            out: "{shot} {look} {turns}.mp4"
          graded:
            run: grade
            matrix: {look: [gold, night], shot: [a, b]}
            scene: "{shot}.safetensors"
            preset: "{look}"
            out: "graded/{shot}-{look}.safetensors"
        """,
    )
    found = words(jobs)
    assert len(found) == 4 + 8
    assert next(iter(found)).startswith("graded"), "what is needed comes first"
    assert (
        found["graded[night, a]"]
        == "grade --scene=a.safetensors --preset=night --out=out/graded/a-night.safetensors"
    )
    assert (
        found["show[b, gold, -1]"]
        == "render --scene=out/graded/b-gold.safetensors --turns=-1 --wants-depth --out=out/b gold -1.mp4"
    )
    assert next(job for job in jobs.jobs if job.name == "show[b, gold, -1]").needs == ("graded[gold, b]",)


def test_values_become_file_names_that_differ_and_stay_in_the_folder(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        folder: out
        jobs:
          edit:
            run: edit
            matrix: {prompt: ["make it gold", "make  it gold", "../../etc/passwd", "A: what?", "CON"]}
            scene: a.safetensors
            prompt: "{prompt}"
            out: "{prompt}.safetensors"
        """,
    )
    names = [job.outputs[0].name for job in jobs.jobs]
    assert len({name.lower() for name in names}) == 5 and not any(
        set('/\\:?<>"|*') & set(name) for name in names
    )
    assert all(job.outputs[0].parent == tmp_path / "out" for job in jobs.jobs)
    assert "--prompt=../../etc/passwd" in jobs.jobs[2].words, "only names of files are changed"


def test_a_text_is_taken_as_it_is_written(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        folder: out
        jobs:
          a: {run: scene-views, scene: a.safetensors, moments: 1:30, views: 010, out: v}
          b: {run: edit, scene: a.safetensors, prompt: "yes {{no}}", negative: "", out: e.safetensors}
          c: {run: render, matrix: {frames: [2]}, scene: a.safetensors, frames: "{ frames }", out: "{frames }.mp4"}
        """,
    )
    found = words(jobs)
    assert "--moments=1:30 --views=010" in found["a"]
    assert "--prompt=yes {no} --negative= " in found["b"]
    assert "--frames=2 --out=out/2.mp4" in found["c[2]"]


def test_a_flag_of_several_values_takes_all_combinations_in_order(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        folder: out
        jobs:
          join:
            run: join
            matrix: {shot: [a, b]}
            parts: ["${render.out}", a.safetensors]
            out: "{shot}.mp4"
          render:
            run: render
            matrix: {part: [1/2, 2/2], shot: [a, b]}
            scene: "{shot}.safetensors"
            part: "{part}"
            out: "{shot} {part}.mkv"
        """,
    )
    assert words(jobs)["join[b]"] == "join --parts out/b 1_2.mkv out/b 2_2.mkv a.safetensors --out=out/b.mp4"


def test_a_path_of_another_jobs_output_is_a_dependency(tmp_path: Path) -> None:
    jobs = plan(
        tmp_path,
        """
        folder: out
        jobs:
          fit: {run: fit-edits, scene: a.safetensors, views: out/views, out: fitted.safetensors}
          sheet: {run: sheet-to-views, views: out/views, sheets: out/views/images, out: again}
          views: {run: scene-views, scene: a.safetensors, out: views}
          late: {run: grade, scene: a.safetensors, out: late.safetensors, after: [fit, views]}
        """,
    )
    needs = {job.name: set(job.needs) for job in jobs.jobs}
    assert needs == {"fit": {"views"}, "sheet": {"views"}, "views": set(), "late": {"fit", "views"}}


BAD: dict[str, tuple[str, str, int, str]] = {
    "no jobs": ("folder: out", "CLU-001", 1, "no 'jobs:'"),
    "unknown part": ("folder: out\nsteps: {}\njobs: {a: {}}", "CLU-002", 2, "'steps' is not known"),
    "no folder": ("jobs: {a: {run: grade}}", "CLU-003", 1, "no 'folder:'"),
    "nothing to do": ("folder: out\njobs: {}", "CLU-004", 2, "'jobs' is empty"),
    "anchor": ("folder: &a out\njobs: {x: {run: *a}}", "CLU-007", 1, "anchors"),
    "nesting": ("folder: out\njobs: " + "{a: " * 30 + "1" + "}" * 30, "CLU-008", 2, "nested"),
    "tag": ("folder: !!python/object/apply:os.system ['true']\njobs: {}", "CLU-009", 1, "tag"),
    "not YAML": ("folder: out\njobs:\n  a: {run: [", "CLU-010", 3, "not YAML"),
    "a tab": ("folder: out\njobs:\n\ta: {run: grade}", "CLU-010", 3, "Indent with spaces"),
    "an open quote": ("folder: out\njobs:\n  a:\n    run: 'grade\n    out: x\n    scene: y", "CLU-010", 4, "quote is not closed"),
    "a colon in a value": ("folder: out\njobs:\n  a:\n    prompt: gold: all", "CLU-010", 4, "': ' in it needs quotes"),
    "no space after a colon": ("folder: out\njobs:\n  a:\n    run: grade\n    out:x", "CLU-010", 5, "a space after the colon"),
    "two documents": ("folder: out\n---\njobs: {}", "CLU-010", 2, "Remove the line '---'"),
    "a merge key": ("folder: out\njobs:\n  a:\n    <<: {run: grade}\n    out: x", "CLU-055", 4, "merge keys"),
    "a list of jobs": ("folder: out\njobs:\n- a\n", "CLU-012", 3, "jobs must be 'name: value' lines"),
    "a job twice": ("folder: out\njobs:\n  a: {run: grade}\n  a: {run: page}", "CLU-013", 4, "'a' occurs twice"),
    "a flag twice": (
        "folder: out\njobs:\n  a:\n    run: render\n    start-seconds: 1\n    start_seconds: 2", "CLU-013", 6, "twice",
    ),
    "a mapping as value": ("folder: out\njobs:\n  a: {run: {x: 1}}", "CLU-014", 3, "one value"),
    "a job's name": ("folder: out\njobs:\n  'a b': {run: grade}", "CLU-015", 3, "'a b' cannot be"),
    "no verb": ("folder: out\njobs:\n  a: {out: x}", "CLU-016", 3, "no 'run:'"),
    "a value of the matrix twice": ("folder: out\njobs:\n  a: {run: grade, matrix: {x: [1, 1]}}", "CLU-017", 3, "twice"),
    "a number of GPUs": ("folder: out\njobs:\n  a: {run: grade, gpus: many}", "CLU-018", 3, "gpus is 'many'"),
    "half a retry": ("folder: out\njobs:\n  a: {run: grade, retries: 1.5}", "CLU-018", 3, "a whole number from 0 to 100"),
    "part of a second GPU": (
        "folder: out\njobs:\n  a: {run: grade, gpus: 1.5}", "CLU-018", 3, "gpus is '1.5'",
    ),
    "less of a CPU than can be counted": (
        "folder: out\njobs:\n  a: {run: grade, cpus: 1e-320}", "CLU-018", 3, "cpus is '1e-320'",
    ),
    "too many jobs": (
        "folder: out\njobs:\n  a: {run: grade, matrix: {x: " + str(list(range(200))) + ", y: " + str(list(range(200))) + "}}",
        "CLU-019", 3, "more than 10,000 jobs",
    ),
    "a name that the matrix lacks": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: '{shto}.safetensors'}", "CLU-020", 3, "{shto}",
    ),
    "a long text": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: " + "x" * 30_001 + "}",
        "CLU-058", 3, "30,000 characters",
    ),
    "a text that the matrix makes long": (
        "folder: out\njobs:\n  a:\n    run: edit\n    scene: a.safetensors\n    out: a.safetensors\n"
        "    matrix: {x: [" + "y" * 9_000 + "]}\n    prompt: '" + "{x}" * 9_000 + "'",
        "CLU-058", 8, "30,000 characters",
    ),
    "a folder elsewhere": ("folder: ../out\njobs: {a: {run: grade}}", "CLU-021", 1, "not below"),
    "an absolute folder": ("folder: /tmp\njobs: {a: {run: grade}}", "CLU-021", 1, "not below"),
    "an unknown verb": ("folder: out\njobs:\n  a:\n    run: rendr", "CLU-022", 4, "did you mean 'render'?"),
    "processes of a verb for one": (
        "folder: out\njobs:\n  a: {run: render, scene: s.safetensors, out: a.mp4, processes: 2}",
        "CLU-053", 3, "several can share the work of fit-scene",
    ),
    "the verb itself": ("folder: out\njobs:\n  a:\n    run: batch", "CLU-022", 4, "not a verb that a job can run"),
    "an unknown flag": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    framse: 3\n    out: a.mp4",
        "CLU-023", 6, "did you mean 'frames'?",
    ),
    "a flag of the runner": ("folder: out\njobs:\n  a: {run: render, json: true}", "CLU-023", 3, "no flag 'json'"),
    "no value": ("folder: out\njobs:\n  a: {run: render, scene: , out: x}", "CLU-024", 3, "'scene' has no value"),
    "a list of values": ("folder: out\njobs:\n  a: {run: render, scene: [a, b], out: x}", "CLU-025", 3, "use 'matrix'"),
    "a flag that is needed": ("folder: out\njobs:\n  a: {run: render, out: x.mp4}", "CLU-026", 3, "needs 'scene'"),
    "an output above the folder": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: ../a.safetensors}", "CLU-027", 3, "not a path inside",
    ),
    "an absolute output": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: /tmp/a.safetensors}", "CLU-027", 3, "not a path inside",
    ),
    "the home folder": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: ~/a.safetensors}", "CLU-027", 3, "not a path inside",
    ),
    "a folder at home": ("folder: ~/out\njobs: {a: {run: grade}}", "CLU-021", 1, "not below"),
    "a checkpoint elsewhere": (
        "folder: out\njobs:\n  a: {run: fit-scene, data: ., out: a.safetensors, checkpoint: ../c.safetensors}",
        "CLU-027", 3, "not a path inside",
    ),
    "an output through a link": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: elsewhere/a.safetensors}", "CLU-028", 3, "a link",
    ),
    "an output of two jobs": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: x.safetensors}\n"
        "  b: {run: grade, scene: a.safetensors, out: ./x.safetensors}",
        "CLU-029", 4, "'b' and 'a' (line 3) both write x.safetensors",
    ),
    "an output of two jobs by a link": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: elsewhere/out/x.safetensors}\n"
        "  b: {run: grade, scene: a.safetensors, out: x.safetensors}",
        "CLU-029", 4, "which is also elsewhere/out/x.safetensors",
    ),
    "an output of two jobs but for case": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: É.safetensors}\n"
        "  b: {run: grade, scene: a.safetensors, out: e\u0301.safetensors}",
        "CLU-029", 4, "which is also É.safetensors",
    ),
    "an output in place of another job's checkpoint": (
        "folder: out\njobs:\n  a: {run: fit-scene, data: ., out: x.safetensors}\n"
        "  b: {run: grade, scene: a.safetensors, out: x.training.safetensors}",
        "CLU-029", 4, "both write x.training.safetensors",
    ),
    "an output in place of the batch's own files": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: .GS4D-batch.json}", "CLU-056", 3, "own files",
    ),
    "an output of all combinations": (
        "folder: out\njobs:\n  a: {run: grade, matrix: {x: [1, 2]}, scene: a.safetensors, out: x.safetensors}",
        "CLU-029", 3, "Put a name of the matrix",
    ),
    "an output inside another": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: v/x.safetensors}\n"
        "  b: {run: scene-views, scene: a.safetensors, out: v}",
        "CLU-030", 3, "into v, which 'b' writes",
    ),
    "an ambiguous reference": (
        "folder: out\njobs:\n  a: {run: grade, matrix: {x: [1, 2]}, scene: a.safetensors, out: '{x}.safetensors'}\n"
        "  b:\n    run: page\n    scene: ${a.out}\n    out: b.html",
        "CLU-031", 6, "names 2 outputs",
    ),
    "a value that its field refuses": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    frames: 0\n    out: a.mp4",
        "CLU-032", 6, "frames is 0",
    ),
    "a scene with the ending of a video": (
        "folder: out\njobs:\n  a:\n    run: grade\n    scene: a.safetensors\n    out: a.mp4",
        "CLU-032", 6, "Name it a.safetensors",
    ),
    "a video with another ending": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    out: a.mov", "CLU-032", 6, "Name it a.mp4",
    ),
    "a part with the ending of a video": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    part: 1/2\n    out: a.mp4",
        "CLU-032", 7, "Name it a.mkv",
    ),
    "a word for a number": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    width: wide\n    out: a.mp4",
        "CLU-032", 6, "--width",
    ),
    "an option that is not one": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    kind: circle\n    out: a.mp4",
        "CLU-032", 6, "circle",
    ),
    "a switch": (
        "folder: out\njobs:\n  a:\n    run: render\n    scene: a.safetensors\n    wants-flow: maybe\n    out: a.mp4",
        "CLU-033", 6, "true or false",
    ),
    "half a reference": (
        "folder: out\njobs:\n  a:\n    run: grade\n    scene: ${b.out\n    out: a.safetensors", "CLU-034", 5, "not a reference",
    ),
    "an empty path": ("folder: out\njobs:\n  a: {run: grade, scene: '', out: a.safetensors}", "CLU-035", 3, "is empty"),
    "an unknown output": (
        "folder: out\njobs:\n  a: {run: grade, scene: a.safetensors, out: a.safetensors}\n"
        "  b:\n    run: page\n    scene: ${a.page}\n    out: b.html",
        "CLU-036", 6, "no output 'page'; it has out",
    ),
    "an unknown job": (
        "folder: out\njobs:\n  train: {run: grade, scene: a.safetensors, out: a.safetensors}\n"
        "  b:\n    run: page\n    scene: ${trian.out}\n    out: b.html",
        "CLU-037", 6, "did you mean 'train'?",
    ),
    "a combination that the other lacks": (
        "folder: out\njobs:\n  a: {run: grade, matrix: {x: [1]}, scene: a.safetensors, out: '{x}.safetensors'}\n"
        "  b:\n    run: page\n    matrix: {x: [1, 2]}\n    scene: ${a.out}\n    out: '{x}.html'",
        "CLU-038", 7, "with x '2'",
    ),
    "a missing input": (
        "folder: out\njobs:\n  a:\n    run: grade\n    scene: c.safetensors\n    out: a.safetensors", 
        "CLU-039", 5, "c.safetensors",
    ),
    "a missing input in a folder": (
        "folder: out\njobs:\n  a:\n    run: grade\n    scene: ~/shots/c.safetensors\n    out: a.safetensors",
        "CLU-039", 5, "~/shots/c.safetensors is not there",
    ),
    "a cycle": (
        "folder: out\njobs:\n  a: {run: grade, scene: '${b.out}', out: a.safetensors}\n"
        "  b: {run: grade, scene: '${c.out}', out: b.safetensors}\n  c: {run: grade, scene: '${a.out}', out: c.safetensors}",
        "CLU-040", 3, "a → b → c → a",
    ),
    "a job that needs itself": (
        "folder: out\njobs:\n  a: {run: grade, scene: out/a.safetensors, out: a.safetensors}", "CLU-040", 3, "a → a",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_with_its_line_before_anything_runs(case: str, tmp_path: Path) -> None:
    text, code, line, fragment = BAD[case]
    (tmp_path / "out").mkdir()
    if hasattr(os, "symlink"):
        (tmp_path / "out" / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(InputError) as caught:
        plan(tmp_path, text)
    message = str(caught.value)
    assert caught.value.code == code, message
    assert f"line {line}" in message and fragment in message, message
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["elsewhere"]


def test_files_that_are_not_texts_of_a_job_file(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    for content, code in (
        (b"", "CLU-012"),
        (b"\xff\xfe\x00", "CLU-010"),
        ("folder: für".encode("latin-1"), "CLU-010"),
        (b"a: \x01", "CLU-010"),
        (b"#" * (LARGEST + 1), "CLU-006"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_jobs(file, VERBS)
        assert caught.value.code == code, str(caught.value)
    for place in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError) as caught:
            read_jobs(place, VERBS)
        assert caught.value.code == "CLU-005"


def test_no_verb_has_a_flag_that_is_a_key_of_jobs() -> None:
    assert not {(name, key) for name, verb in VERBS.items() for key in KEYS if key in verb.flags}


@pytest.mark.parametrize(
    "name", ["jobs.yaml", "a.safetensors", "out/gold.safetensors", "out/gold.safetensors/report.json"]
)
def test_a_report_replaces_nothing_of_the_batch(tmp_path: Path, name: str) -> None:
    jobs = plan(tmp_path, FINE)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for look in (standing, lambda *given, report: result(run(*given, report=report))):
        with pytest.raises(InputError, match="the report would replace it") as caught:
            look(jobs, report=tmp_path / name)
        assert caught.value.code == "CLU-060"
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_dry_run_lists_the_commands_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(
        tmp_path,
        FINE
        + """      said: {run: edit, scene: a.safetensors, prompt: "it's gold", out: said.safetensors}\n""",
    )
    before = sorted(tmp_path.rglob("*"))
    assert main(["batch", str(tmp_path / "jobs.yaml"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"gold: grade --scene={tmp_path / 'a.safetensors'} --preset=gold")
    assert "--prompt=it's gold" in shlex.split(lines[1]), "a shell takes the command as it is shown"
    assert sorted(tmp_path.rglob("*")) == before
