"""Workflows, forms and hooks: they run what the Makefile runs, and ask what a maintainer needs to know."""

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
GITHUB = REPOSITORY / ".github"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands(workflow: str) -> str:
    """Every shell command of a workflow."""
    jobs = read(GITHUB / "workflows" / workflow)["jobs"].values()
    return "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)


def used(workflow: str) -> set[str]:
    jobs = read(GITHUB / "workflows" / workflow)["jobs"].values()
    return {step["uses"].partition("@")[0] for job in jobs for step in job["steps"] if "uses" in step}


def test_the_test_workflow_runs_make_test_on_the_oldest_python() -> None:
    assert commands("test.yml").split() == ["make", "test"]
    text = (GITHUB / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert 'python-version: "3.11"' in text
    assert 'requires-python = ">=3.11"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")


def test_a_tag_is_published_only_after_the_release_check() -> None:
    workflow = read(GITHUB / "workflows" / "publish.yml")
    # YAML reads the key "on" as true
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    steps = workflow["jobs"]["publish-node"]["steps"]
    check = next(i for i, step in enumerate(steps) if "release_check.py --tag" in step.get("run", ""))
    publish = next(i for i, step in enumerate(steps) if "publish-node-action" in step.get("uses", ""))
    assert check < publish
    # a tag's name is never pasted into a script
    assert "${{" not in commands("publish.yml")


def test_workflows_hold_no_more_rights_than_they_need() -> None:
    for path in (GITHUB / "workflows").glob("*.yml"):
        assert read(path)["permissions"] == {"contents": "read"}, path.name
        assert used(path.name) <= {
            "actions/checkout",
            "actions/setup-python",
            "Comfy-Org/publish-node-action",
        }


def test_a_bug_report_names_versions_gpu_log_and_error_code() -> None:
    fields = {field.get("id"): field for field in read(GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml")["body"]}
    assert {"what", "steps", "pack", "comfyui", "machine", "log", "code"} <= set(fields)
    required = {name for name, field in fields.items() if field.get("validations", {}).get("required")}
    assert required == {"what", "steps", "pack", "comfyui", "machine"}


def test_links_of_the_templates_lead_to_files() -> None:
    blob = "https://github.com/gs4d-studio/gs4d-studio/blob/main/"
    texts = [path.read_text(encoding="utf-8") for path in GITHUB.rglob("*") if path.is_file()]
    linked = {part.split()[0].rstrip(")") for text in texts for part in text.split(blob)[1:]}
    named = {name.partition(")")[0] for name in linked}
    assert len(named) >= 2
    assert not [name for name in named if not (REPOSITORY / name).is_file()]


def test_the_hooks_run_the_ruff_of_make_lint() -> None:
    hooks = [hook for repo in read(REPOSITORY / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format"]
    wanted = [
        line
        for line in (REPOSITORY / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("ruff")
    ]
    assert all(hook["additional_dependencies"] == wanted for hook in hooks)
