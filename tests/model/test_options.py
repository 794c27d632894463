"""Options are read as sbatch reads them: each case here was seen on Slurm 22.05, 24.11 and 26.05 (sbatch -vv)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esis.model.options import last_of, line_options, script_options


def of(header: str) -> list[tuple[str, str | None]]:
    return [(option.name, option.value) for option in script_options(f"#!/bin/sh\n{header}\ntrue\n")]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("#SBATCH --comment=one\n#SBATCH-a1-2", [("comment", "one"), ("array", "1-2")]),
        ("#SBATCH--array=1-2", [("array", "1-2")]),
        (" #SBATCH --array=1-2", []),
        ("##SBATCH --array=1-2", []),
        ("#sbatch --array=1-2", []),
        ("#SLURM --array=1-2", [("array", "1-2")]),
        ("#SBATCH\t--arr 1-2 # --comment=x", [("array", "1-2")]),
        ('#SBATCH --comment=a#b --arr="1-2"', [("comment", "a")]),
        ("#SBATCH --array\n#SBATCH 1-2", [("array", "1-2")]),
        ("#SBATCH -Ha1-2", [("hold", None), ("array", "1-2")]),
        ("#SBATCH -HD /tmp", [("hold", None), ("chdir", "/tmp")]),
        ("#SBATCH -a=1-2", [("array", "=1-2")]),
        ("#SBATCH -D  /tmp", [("chdir", "/tmp")]),
        ("#SBATCH --chd=/tmp --dep=singleton", [("chdir", "/tmp"), ("dependency", "singleton")]),
        ('#SBATCH --job-name="x y"z', [("job-name", "x yz")]),
        ("#SBATCH --comment='a\"b'", [("comment", 'a"b')]),
        (r"#SBATCH --job-name='x\\y'", [("job-name", r"x\y")]),
        ('#SBATCH --job-name="a#b" --mem=3', [("job-name", "a#b"), ("mem", "3")]),
        ("#SBATCH --nice 5", [("nice", None), ("", None)]),
        ("#SBATCH --time-min=5 --wait-all-nodes=1", [("time-min", "5"), ("wait-all-nodes", "1")]),
        ("#SBATCH hetjob", [("hetjob", None)]),
        ("echo\n#SBATCH --array=9", []),
        ("#SBATCH --mem=1\n\f\n  \t\n  # hi\n#SBATCH --error=x", [("mem", "1"), ("error", "x")]),
    ],
)
def test_lines_of_a_script_are_read_as_sbatch_reads_them(header: str, expected: list[tuple[str, str | None]]) -> None:
    """Abbreviations, bundles, quotes, comments, no blank behind #SBATCH: as seen on real ones."""
    assert of(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("#PBS -J 1-3 -N name\n#SBATCH --array=1-2", {"array": "1-3", "job-name": "name"}),
        ("#SBATCH --array=1-2\ntrue\n#PBS -t 1-3", {"array": "1-3"}),
        ("#SBATCH --array=1-2\n#PBS --array 1-3", {"array": "1-3"}),
        ("#SBATCH --array=1-2\n#PBS -W depend=afterok:1", {"array": "1-2", "depend": "depend=afterok:1"}),
        ("#SBATCH --array=1-2\n#PBS -W umask=077", {"array": "1-2", "depend": None}),
        ("#SBATCH --array=1-2 --ignore-pbs\n#PBS -t 1-3", {"array": "1-2"}),
        ("#PBS -t 1-3\n#SBATCH --array=1-2 --ignore-pbs", {"array": "1-2"}),
        (
            "#SBATCH --array=1-2\n#BSUB -cwd /tmp\n#BSUB -J x[1-3]",
            {"array": "1-2", "chdir": "/tmp", "job-name": "x[1-3]"},
        ),
        ("#SBATCH -o a%j\n#PBS -l walltime=1 -o none -d /tmp", {"output": "/dev/null", "chdir": "/tmp"}),
        ("#SBATCH -a 1\n" + "true\n" * 98 + "#PBS -t 2", {"array": "2"}),
        ("#SBATCH -a 1\n" + "true\n" * 101 + "#PBS -t 2", {"array": "1"}),
    ],
)
def test_f60_lines_of_pbs_and_lsf_count_and_outrank(header: str, expected: dict[str, str | None]) -> None:
    """F60: sbatch reads #PBS and #BSUB lines, also between commands, unless it is told not to."""
    options = script_options(f"#!/bin/sh\n{header}\ntrue\n")
    assert {name: last_of(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--time", "5", "other.sh"], "other.sh"),
        (["--nice", "5"], "5"),
        (["--exclusive", "x"], "x"),
        (["-Hn", "4", "y"], "y"),
        (["--hold", "z"], "z"),
        (["--", "s"], "--"),
        (["-"], "-"),
        ([""], ""),
        (["-k", "w"], "w"),
    ],
)
def test_a_word_that_sbatch_would_take_for_the_script_is_found(words: list[str], expected: str) -> None:
    """Which options take the next word as their value decides."""
    (stray,) = [option for option in line_options(words) if not option.name][:1]
    assert stray.written == expected
    assert stray.fault


@pytest.mark.parametrize(
    "words",
    [
        ["--time", "5"],
        ["-t", "5"],
        ["-n4", "-c", "2"],
        ["--nice=5"],
        ["--spank=x"],
        ["--spank"],
        ["--export", "ALL"],
        ["--mem=1G", "--hold"],
        ["--spank", "--mem=1"],
    ],
)
def test_options_with_their_values_have_no_fault(words: list[str]) -> None:
    assert [option.fault for option in line_options(words) if option.fault or not option.name] == []


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--spank", "x"], "write --spank=x"),
        (["--wai"], "--wait, --wait-all-nodes"),
        (["-Z"], "no option"),
        (["--time"], "needs a value"),
        (["-t"], "needs a value"),
        (["--hold=5"], "takes no value"),
    ],
)
def test_what_is_unsure_has_a_fault(words: list[str], part: str) -> None:
    assert [part in option.fault for option in line_options(words)] == [True]


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_no_text_is_a_crash(text: str) -> None:
    """Whatever stands in a line, reading it ends."""
    script_options(f"#!/bin/sh\n#SBATCH {text}\n#PBS {text}\n#BSUB {text}\n{text}")
    line_options(text.split(" "))
