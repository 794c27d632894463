"""What a release has to agree on: the name of the distribution, the version, the changelog."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from esis.operations.advice.installation import DISTRIBUTION
from esis.version import VERSION

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")  # Keep a Changelog
TEXTS = [
    *ROOT.glob("*.md"),
    ROOT / "pyproject.toml",
    ROOT / "Makefile",
    *(
        path
        for place in ("esis", "examples", "tests", "ci", "slurm-docker-cluster", ".ci")
        for path in (ROOT / place).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ),
]


def test_the_distribution_has_the_name_that_doctor_looks_for() -> None:
    assert re.findall(r'^name = "(.*)"$', PROJECT, re.MULTILINE) == [DISTRIBUTION]


def test_nobody_is_told_to_install_the_other_esis() -> None:
    """`pip install esis`, with an extra or without, would bring somebody else's program."""
    command = re.compile(r"""(?<!un)install(?: -\S+)*["'`, ]+esis(?![\w./-]).*|(?<![\w-])esis\[[a-z,]+\]""")
    warning = "until `pip install -U esis` replaces it"
    found = {}
    for path in TEXTS:
        text = path.read_text("utf-8", "replace")
        if path != Path(__file__) and (told := command.findall(text.replace(warning, ""))):
            found[path.relative_to(ROOT)] = told
    assert found == {}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def sections() -> dict[str, str]:
    """Return what stands under each heading of the changelog."""
    _, *parts = re.split(r"^## (.*)\n", CHANGELOG, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2]))


def releases() -> list[tuple[str, date]]:
    """Return the dated headings; each has the one form that there is."""
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in list(sections())[1:]]
    assert all(found), list(sections())
    return [(match.group(1), date.fromisoformat(match.group(2))) for match in found if match is not None]


def test_the_changelog_begins_with_what_is_not_released() -> None:
    assert next(iter(sections())) == "[Unreleased]"


def test_the_version_is_that_of_the_newest_release_or_a_later_one_in_the_making() -> None:
    """1.2.0 has to have its section; 1.3.0.dev0 is newer than all that have one."""
    newest = releases()[0][0]
    wanted, dev, _ = VERSION.partition(".dev")
    assert numbers(wanted) > numbers(newest) if dev else wanted == newest


def test_releases_stand_newest_first() -> None:
    versions = [numbers(version) for version, _ in releases()]
    assert versions == sorted(set(versions), reverse=True)
    days = [day for _, day in releases()]
    assert days == sorted(days, reverse=True)


def test_a_section_has_the_kinds_of_keep_a_changelog_once_and_in_order() -> None:
    for heading, text in sections().items():
        kinds = re.findall(r"^### (.*)$", text, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds], heading
        assert all(re.search(rf"^### {kind}\n\n- ", text, re.MULTILINE) for kind in kinds), heading
        assert kinds or heading == "[Unreleased]"


def test_the_recipe_of_a_release_names_what_there_is() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## A release\n")[2]
    for path in re.findall(r"(?<![\w/.])(?:\.?ci/\w+|esis/[\w/.]+|tests/\w+)", recipe):
        assert (ROOT / path).exists(), path
    phony = (ROOT / "Makefile").read_text("utf-8").partition(".PHONY: ")[2].partition("\n")[0].split()
    assert set(re.findall(r"make ([\w-]+)", recipe)) <= set(phony)
    assert f"as `{DISTRIBUTION}`" in recipe
