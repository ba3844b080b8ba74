"""tools/release_check.py: what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tools"))
import release_check  # noqa: E402

CHANGELOG = """# Changelog

## [Unreleased]

## [1.1.0] - 2026-02-01

### Added

- A node.

## [1.0.0] - 2026-01-01

- All of it.

[Unreleased]: https://example.org/compare
[1.0.0]: https://example.org/1.0.0
"""


def test_the_changelog_of_this_version_is_there() -> None:
    assert not release_check.changelog_problems(release_check.changelog(), release_check.version())
    assert not release_check.version_problems()


def test_an_entry_ends_where_the_next_begins() -> None:
    assert release_check.entry(CHANGELOG, "1.1.0") == "### Added\n\n- A node."
    assert release_check.entry(CHANGELOG, "1.0.0") == "- All of it."
    assert release_check.entry(CHANGELOG, "Unreleased") == ""
    assert release_check.entry(CHANGELOG, "2.0.0") is None
    assert release_check.entry("", "2.0.0") is None


@pytest.mark.parametrize(
    "text, version, tag, words",
    [
        (CHANGELOG, "1.1.0", "v1.1.0", None),
        (CHANGELOG, "1.1.0", "v1.2.0", "the tag v1.2.0 is not v1.1.0"),
        (CHANGELOG, "1.2.0", None, "the newest version is not 1.2.0"),
        (CHANGELOG.replace(" - 2026-02-01", ""), "1.1.0", None, "1.1.0 has no date"),
        (CHANGELOG.replace("### Added\n\n- A node.\n", ""), "1.1.0", None, "nothing is listed"),
        (CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- Two.\n"), "1.1.0", None, None),
        (CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- Two.\n"), "1.1.0", "v1.1.0", "Unreleased"),
    ],
)
def test_a_changelog_that_does_not_fit(text: str, version: str, tag: str | None, words: str | None) -> None:
    problems = release_check.changelog_problems(text, version, tag)
    assert (words is None) == (not problems)
    assert words is None or any(words in problem for problem in problems)


def test_a_missing_translation_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    known = release_check.write_locales.read(release_check.write_locales.PHRASES)
    phrase = next(iter(known["phrases"]))
    before = release_check.translation_problems()
    known["phrases"][phrase].pop("ko")
    known["phrases"]["Nobody says this."] = {"ko": "아무도"}
    real = release_check.write_locales.read
    monkeypatch.setattr(
        release_check.write_locales,
        "read",
        lambda file: known if file == release_check.write_locales.PHRASES else real(file),
    )
    problems = set(release_check.translation_problems()) - set(before)
    assert any(problem.endswith(f"no ko for {phrase!r}") for problem in problems)
    assert any("'Nobody says this.'" in problem for problem in problems)


def test_a_missing_page_or_thumbnail_is_a_problem() -> None:
    files = release_check.archive_files()
    assert not release_check.page_problems(files)
    left_out = {"web/docs/GS4D_Train4DScene.md", "workflows/ed_nerf.jpg"}
    problems = release_check.page_problems(set(files) - left_out)
    assert problems == [
        "GS4D_Train4DScene has no help page",
        "workflows/ed_nerf.json has no thumbnail beside it",
    ]


def test_the_changelog_can_be_handed_to_the_registry() -> None:
    """The publish workflow runs it with nothing installed but Python."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(REPOSITORY / "tools" / "release_check.py"), "--changelog"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == release_check.entry(release_check.changelog(), release_check.version())
