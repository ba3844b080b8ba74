"""Checks that this commit can be released: python tools/release_check.py [--tag vX.Y.Z] [--files] [--changelog]

It reports a version without an entry in CHANGELOG.md, texts without a translation, nodes without a help page, workflows
without a thumbnail, and an archive for the ComfyUI registry that holds too much or too little. --tag is what the publish
workflow adds: the tag must name the version and nothing may be left under "Unreleased". --files prints the contents of
the archive, --changelog the entry of this version. It needs git and no other package.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tools" / "locales")]
import write_locales  # noqa: E402

import engine  # noqa: E402

SHIPS = ("__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md", "CHANGELOG.md")
SHIPPED_FOLDERS = ("assets", "docs", "engine", "locales", "nodes", "subgraphs", "web", "workflows")
# most of it is the small models' weights
MOST_BYTES = 80_000_000
MOST_SHOWN = 8
HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\S+))?$", re.MULTILINE)


def version() -> str:
    """The version of the pack, from pyproject.toml."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def changelog() -> str:
    return (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def entry(text: str, name: str) -> str | None:
    """What a changelog says below the heading of a version, or None where it has no such heading."""
    headings = list(HEADING.finditer(text))
    for i, heading in enumerate(headings):
        if heading["version"] == name:
            end = headings[i + 1].start() if i + 1 < len(headings) else text.find("\n[Unreleased]: ")
            return text[heading.end() : end if end >= 0 else None].strip()
    return None


def archive_files(repository: Path = REPOSITORY) -> list[str]:
    """What `comfy node publish` puts into the registry's archive: tracked files that .comfyignore does not match."""
    ignored = _git_files(repository, "--cached", "--ignored", "--exclude-from=.comfyignore")
    return sorted(set(_git_files(repository)) - set(ignored))


def _git_files(repository: Path, *options: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=repository, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name]


def changelog_problems(text: str, current: str, tag: str | None = None) -> list[str]:
    """`tag`: the git tag that is being published."""
    problems = []
    released = [heading for heading in HEADING.finditer(text) if heading["version"] != "Unreleased"]
    if not released or released[0]["version"] != current:
        problems.append(f"CHANGELOG.md: the newest version is not {current}, the version in pyproject.toml")
    problems += [
        f"CHANGELOG.md: version {heading['version']} has no date (## [1.2.3] - 2026-01-31)"
        for heading in released
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", heading["date"] or "")
    ]
    if not entry(text, current):
        problems.append(f"CHANGELOG.md: nothing is listed under {current}")
    if tag is not None:
        if tag != f"v{current}":
            problems.append(f"the tag {tag} is not v{current}: set the version in pyproject.toml")
        if entry(text, "Unreleased"):
            problems.append("CHANGELOG.md: move the entries under Unreleased to the version that is released")
    return problems


def version_problems() -> list[str]:
    if engine.__version__ == version():
        return []
    return [f"the engine says it is {engine.__version__}, pyproject.toml {version()}"]


def translation_problems() -> list[str]:
    problems = [
        f"tools/locales/phrases.json: no {language} for {text!r}"
        for language, texts in write_locales.untranslated().items()
        for text in texts
    ]
    problems += [
        f"tools/locales/phrases.json: no longer used: {text!r}" for text in write_locales.leftovers()
    ]
    words = (REPOSITORY / "web" / "words.js").read_text(encoding="utf-8")
    for file in sorted((REPOSITORY / "web").glob("*.js")):
        for text in re.findall(r"""\b(?:t|invite)\("([^"]+)"[,)]""", file.read_text(encoding="utf-8")):
            if f'"{text}":' not in words and f"\n  {text}:" not in words:
                problems.append(f"web/words.js: no translations of {text!r} ({file.name})")
    return problems


def page_problems(files: Iterable[str]) -> list[str]:
    """Help pages of nodes and thumbnails of workflows that the archive lacks."""
    held = set(files)
    nodes = json.loads((REPOSITORY / "tests" / "nodes" / "schemas.json").read_text(encoding="utf-8"))
    problems = [f"{node} has no help page" for node in nodes if f"web/docs/{node}.md" not in held]
    workflows = [name for name in held if re.fullmatch(r"workflows/[^/]+\.json", name)]
    for name in sorted(workflows):
        if name.removesuffix(".json") + ".jpg" not in held:
            problems.append(f"{name} has no thumbnail beside it")
    return problems


def archive_problems(files: list[str], repository: Path = REPOSITORY) -> list[str]:
    """Files that ship and should not, and those that should and do not."""
    problems = [f"the archive lacks {name}" for name in SHIPS if name not in files]
    folders = {name.partition("/")[0] for name in files if "/" in name}
    problems += [f"the archive lacks {name}/" for name in SHIPPED_FOLDERS if name not in folders]
    extra = [name for name in files if not name.startswith(tuple(f"{f}/" for f in SHIPPED_FOLDERS))]
    problems += [
        f"the archive holds {name}: list it in .comfyignore, or in {Path(__file__).name} where it should ship"
        for name in extra
        if name not in SHIPS
    ]
    size = sum((repository / name).stat().st_size for name in files if (repository / name).is_file())
    if size > MOST_BYTES:
        problems.append(
            f"the archive holds {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB should ship"
        )
    problems += [f"{name} is a link" for name in files if (repository / name).is_symlink()]
    return problems


def tree_problems() -> list[str]:
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    changed = done.stdout.splitlines()
    return [f"not committed: {changed[0][3:]} and {len(changed) - 1} more"] if changed else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tag", help="the git tag that is being published")
    parser.add_argument(
        "--files", action="store_true", help="print the contents of the archive and nothing else"
    )
    parser.add_argument(
        "--changelog", action="store_true", help="print the entry of this version and nothing else"
    )
    parser.add_argument("--all", action="store_true", help="list every problem")
    arguments = parser.parse_args()
    files = archive_files()
    if arguments.files or arguments.changelog:
        print("\n".join(files) if arguments.files else entry(changelog(), version()) or "")
        return 0
    checks: dict[str, Callable[[], list[str]]] = {
        "version": version_problems,
        "changelog": lambda: changelog_problems(changelog(), version(), arguments.tag),
        "translations": translation_problems,
        "help pages and thumbnails": lambda: page_problems(files),
        "archive": lambda: archive_problems(files),
        "working tree": tree_problems,
    }
    failed = 0
    for name, check in checks.items():
        problems = check()
        failed += len(problems)
        shown = problems if arguments.all else problems[:MOST_SHOWN]
        print(
            f"{'FAIL' if problems else 'ok':4} {name}", *(f"       {problem}" for problem in shown), sep="\n"
        )
        if len(shown) < len(problems):
            print(f"       and {len(problems) - len(shown)} more (--all lists them)")
    size = sum((REPOSITORY / name).stat().st_size for name in files)
    print(f"Version {version()}; the archive holds {len(files)} files, {size / 1e6:.1f} MB.")
    if not arguments.tag and entry(changelog(), "Unreleased"):
        print("Changes are listed under Unreleased: raise the version before you tag a release.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
