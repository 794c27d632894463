"""What a release has to agree on: the name of the distribution, the version, the changelog."""

from __future__ import annotations

import re
from pathlib import Path

from esis.operations.installation import DISTRIBUTION

ROOT = Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
TEXTS = [*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "Makefile", *(
    path for place in ("esis", "examples", "tests", "ci", "slurm-docker-cluster", ".ci")
    for path in (ROOT / place).rglob("*") if path.is_file() and path.suffix != ".pyc")]


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
