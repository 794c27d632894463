"""A template becomes a script by replacing its marks once, and nothing else in it changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput
from esis.model.options import script_options
from esis.model.template import Values, check, has_dependency_line, is_posix_shell, is_template, read_template, render

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

HOOK_LINES = 12
VALUES = Values(array="0-9%10", worker="worker.py", submission=7, tasks=10, digest="ab" * 32)
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="runs rendered lines with bash")


def rendered(
    body: str,
    header: str = "#SBATCH --array=TASKARRAYDEFINITION\n",
    values: Values = VALUES,
    name: str = "t.sh",
    shell: str = "#!/bin/bash\n",
) -> str:
    return render(shell + header + body, name, values).text


def without_hook(script: str) -> str:
    """Take the hook out again: a known block of lines that begins with a known comment."""
    lines = script.split("\n")
    (at,) = [number for number, line in enumerate(lines) if line.startswith("# ESIS writes the task records")]
    return "\n".join(lines[:at] + lines[at + HOOK_LINES :])


# --- marks


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("--array=TASKARRAYDEFINITION", "--array=0-9%10"),
        ("--array TASKARRAYDEFINITION", "--array 0-9%10"),
        ("--array='TASKARRAYDEFINITION'", "--array='0-9%10'"),
        ('--array="TASKARRAYDEFINITION"', '--array="0-9%10"'),
        ("-a TASKARRAYDEFINITION", "-a 0-9%10"),
        ("-aTASKARRAYDEFINITION", "-a0-9%10"),
        ("TASKARRAYDEFINITION", "--array=0-9%10"),
        ("--mem=1G TASKARRAYDEFINITION -n 1", "--mem=1G --array=0-9%10 -n 1"),
        ("--mem=1G --array=TASKARRAYDEFINITION -n 1", "--mem=1G --array=0-9%10 -n 1"),
        ("-n 1 -a TASKARRAYDEFINITION # all", "-n 1 -a 0-9%10 # all"),
    ],
)
def test_the_array_mark(before: str, after: str) -> None:
    """The mark may be the value of either spelling of the option, or stand for the whole option, as in 0.0.4."""
    script = rendered("true\n", f"#SBATCH {before}\n")
    assert script.split("\n")[1] == f"#SBATCH {after}"
    assert [option.value for option in script_options(script) if option.name == "array"] == ["0-9%10"]


def test_marks_in_the_body_are_replaced_bare() -> None:
    """Outside of the directives the array's specification and the worker's path stand for their marks."""
    script = rendered("echo TASKARRAYDEFINITION WORKERSCRIPT; x=WORKERSCRIPT\n")
    assert script.endswith("echo 0-9%10 ../worker.py; x=../worker.py\n")


@pytest.mark.parametrize("worker", ["TASKARRAYDEFINITION.sh", "WORKERSCRIPT", "WORKERSCRIPT.WORKERSCRIPT"])
def test_f41_marks_are_replaced_in_a_single_pass(worker: str) -> None:
    """F41: a mark's text inside of the worker's name stays as it is."""
    script = rendered("srun WORKERSCRIPT TASKARRAYDEFINITION\n", values=Values("0-3", worker, 1))
    assert script.endswith(f"srun ../{worker} 0-3\n")


# --- hostile names


worker_names = st.binary(min_size=1, max_size=24).map(os.fsdecode) | st.text(
    st.sampled_from("ab \"'`$\\;&|<>(){}[]*?!#~=%\t-\x7fé\udcff"), min_size=1, max_size=12
)
worker_names = worker_names.filter(lambda name: not set(name) & set("/\0\n\r") and name not in (".", ".."))


@needs_bash
@settings(RELAXED, max_examples=50)
@given(worker_names)
@example("$(touch canary)")
@example("`touch canary`")
@example("'; touch canary; '")
@example('"; touch canary; "')
@example("a b'c\"d\\e$f`g!h")
@example("-rf")
@example("\\")
@example("'")
@example('"')
@example("x" * 252)
@example("TASKARRAYDEFINITION WORKERSCRIPT.sh")
def test_f39_a_hostile_worker_arrives_as_one_argument(worker: str) -> None:
    """F39: unquoted, in double and in single quotes: bash hands over the very path, and runs nothing else."""
    script = rendered(
        "printf '%s\\0' WORKERSCRIPT \"WORKERSCRIPT\" 'WORKERSCRIPT' \"a b:\"WORKERSCRIPT"
        ' \'c\'"WORKERSCRIPT" it\\\'s WORKERSCRIPT "\\"WORKERSCRIPT\\""\n',
        values=Values("0-3", worker, 1),
    )
    path = os.fsencode(f"../{worker}")
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "script").write_bytes(os.fsencode(script))
        done = subprocess.run(
            ["bash", "script"], cwd=scratch, capture_output=True, check=False, env={"PATH": os.environ["PATH"]}
        )
        assert os.listdir(scratch) == ["script"]
    assert done.stderr == b""
    assert done.stdout.split(b"\0") == [
        path,
        path,
        path,
        b"a b:" + path,
        b"c" + path,
        b"it's",
        path,
        b'"' + path + b'"',
        b"",
    ]


@needs_bash
@settings(RELAXED, max_examples=15)
@given(worker_names)
@example("$(touch canary) '\"")
def test_f39_jinja_templates_have_a_filter_for_hostile_workers(worker: str) -> None:
    """F39: `{{ worker | quote }}` in a jinja2 template is one argument, whatever the worker is called."""
    script = rendered(
        "printf '%s\\0' {{ worker | quote }}\n", "#SBATCH --array={{ array }}\n", Values("0-3", worker, 1), "t.sh.j2"
    )
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "script").write_bytes(os.fsencode(script))
        done = subprocess.run(["bash", "script"], cwd=scratch, capture_output=True, check=False)
        assert os.listdir(scratch) == ["script"]
    assert done.stdout == os.fsencode(f"../{worker}") + b"\0"


# --- nothing else changes


TRICKY = """\
x=abc; echo ${#x} {{x}} {% y %} ${x:-"{#"} {1..3} $((1+2)) %j \\
  more
cat <<'EOF'
#SBATCH --mem=never
  #ESIS_PRIVATE
$(not run) `nor this`
EOF
awk '{ print $1 }' <<< "a\tb" \x0c \x0b \x85 \u2028 end
"""


def test_shell_text_survives_byte_for_byte(tmp_path: Path) -> None:
    """Lengths, braces, heredocs, form feeds and bytes that are no UTF-8 come through unchanged."""
    body = os.fsencode(TRICKY) + b"echo \xff\xfe\x80 \xc3(\n\n\n"
    data = b"#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n# caf\xe9\n" + body + b"srun WORKERSCRIPT"
    (tmp_path / "t.sh").write_bytes(data)
    script = os.fsencode(render(read_template(tmp_path / "t.sh"), "t.sh", VALUES).text)
    assert script.endswith(body + b"srun ../worker.py")
    expected = data.replace(b"TASKARRAYDEFINITION", b"0-9%10").replace(b"WORKERSCRIPT", b"../worker.py")
    assert os.fsencode(without_hook(os.fsdecode(script))) == expected


lines = st.binary(max_size=25).map(lambda data: data.decode("utf-8", "surrogateescape")) | st.text(max_size=25)
lines = lines.filter(lambda line: not set(line) & set("\n\r\0")).filter(
    lambda line: "TASKARRAYDEFINITION" not in line and "WORKERSCRIPT" not in line and "# ESIS writes" not in line
)


@RELAXED
@given(
    st.lists(lines | st.sampled_from(["", "#SBATCH -n 1", "# c", "#", "true", " #x", "cat <<E", "#ESIS_PRIVATE"])),
    st.integers(0, 10),
    st.sampled_from(["#!/bin/bash", "#!/bin/sh -e", "#!/usr/bin/env python3", "#!/bin/csh"]),
    st.sampled_from(["", "\n", "\n\n"]),
)
def test_rendering_changes_nothing_but_marks_and_hook(body: list[str], at: int, shell: str, end: str) -> None:
    """Whatever a template holds, taking the hook out and putting the marks back gives the template again."""
    body = [*body[:at], 'run "x" WORKERSCRIPT', *body[at:]]
    text = "\n".join([shell, "#SBATCH --array=TASKARRAYDEFINITION", *body]) + end
    made = render(text, "t.sh", VALUES)
    assert made.records == shell.startswith(("#!/bin/bash", "#!/bin/sh"))
    plain = without_hook(made.text) if made.records else made.text
    assert plain.replace("0-9%10", "TASKARRAYDEFINITION", 1).replace("../worker.py", "WORKERSCRIPT", 1) == text


# --- refusals


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#SBATCH --array=TASKARRAYDEFINITION\ntrue\n", "#!"),
        (" #!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\n", "#!"),
        ("", "#!"),
        ("#!/bin/sh\r\n#SBATCH --array=TASKARRAYDEFINITION\r\n", "DOS line ends"),
        ("#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\nx\r\ny\n", "DOS line ends"),
        ("#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\n\0", "NUL"),
        ("#!/bin/sh\n#SBATCH --array=1-3\n", "TASKARRAYDEFINITION"),
        ("#!/bin/sh\n# SBATCH --array=TASKARRAYDEFINITION\n", "TASKARRAYDEFINITION"),
        ("#!/bin/sh\ntrue\n#SBATCH --array=TASKARRAYDEFINITION\n", "TASKARRAYDEFINITION"),
        ("#!/bin/sh\necho TASKARRAYDEFINITION\n", "TASKARRAYDEFINITION"),
    ],
)
def test_f41_what_slurm_would_refuse_is_refused_before(text: str, expected: str) -> None:
    """F41: no `#!`, DOS line ends, NUL, or no array mark that sbatch would look at: the template is named."""
    for act in (lambda: check(text, "dir/t.sh"), lambda: render(text, "dir/t.sh", VALUES)):
        with pytest.raises(BadInput, match=expected) as caught:
            act()
        assert "dir/t.sh" in str(caught.value)


@pytest.mark.parametrize("body", ["true\n#ESIS_PRIVATE\n", "#ESIS_PRIVATE x\n", "# ESIS_PRIVATE\n", "##ESIS_PRIVATE\n"])
def test_a_dependency_needs_its_line(body: str) -> None:
    """Without a line #ESIS_PRIVATE among the directives a dependency is refused, never silently dropped."""
    text = "#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\n" + body
    assert not has_dependency_line(text)
    check(text, "t.sh")
    with pytest.raises(BadInput, match="#ESIS_PRIVATE"):
        check(text, "t.sh", needs_dependency=True)
    with pytest.raises(BadInput, match="#ESIS_PRIVATE"):
        render(text, "t.sh", Values("0", "w", 1, dependency="afterok:5"))


@pytest.mark.parametrize("mark", ["#ESIS_PRIVATE", "#ESIS_PRIVATE  "])
@pytest.mark.parametrize("name", ["t.sh", "t.sh.j2"])
def test_the_dependency_goes_to_its_line(mark: str, name: str) -> None:
    """The first such line becomes the option; without a dependency it stays a comment."""
    header = "#SBATCH --array=" + ("{{ array }}" if name.endswith("j2") else "TASKARRAYDEFINITION")
    text = f"#!/bin/sh\n{header}\n{mark}\n#SBATCH -n 1\n#ESIS_PRIVATE\ntrue\n#ESIS_PRIVATE\n"
    assert has_dependency_line(text)
    script = render(text, name, Values("0-3", "w", 1, dependency="afterok:12:13")).text
    assert script.startswith("#!/bin/sh\n#SBATCH --array=0-3\n#SBATCH --dependency=afterok:12:13\n#SBATCH -n 1\n#ES")
    assert script.count("afterok") == 1
    assert script.endswith("true\n#ESIS_PRIVATE\n")
    assert "dependency" not in render(text, name, Values("0-3", "w", 1)).text


def test_a_script_that_slurm_would_find_too_large_is_refused(tmp_path: Path) -> None:
    """4 MiB is Slurm's limit for a script, before and after rendering."""
    text = "#!/bin/sh\n#SBATCH --array=TASKARRAYDEFINITION\n"
    (tmp_path / "t.sh").write_text(text + "#" * 4 * 1024 * 1024)
    with pytest.raises(BadInput, match="larger than"):
        read_template(tmp_path / "t.sh")
    with pytest.raises(BadInput, match="larger than"):
        render(text + "#" * (4 * 1024 * 1024 - len(text)), "t.sh", VALUES)


def test_f38_a_template_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """F38: a FIFO as template is refused at once."""
    os.mkfifo(tmp_path / "t.sh")
    with pytest.raises(BadInput, match="FIFO"):
        read_template(tmp_path / "t.sh")
    assert not is_template(tmp_path / "t.sh")


def test_templates_are_recognised(tmp_path: Path) -> None:
    """A file with the array mark, or one of jinja2's, is a template; others are not."""
    for name, text, expected in (
        ("a", "x TASKARRAYDEFINITION y", True),
        ("b", "#!/bin/sh\n", False),
        ("c.j2", "", True),
        ("d", "", False),
    ):
        (tmp_path / name).write_text(text)
        assert is_template(tmp_path / name) is expected
    assert not is_template(tmp_path / "absent")


# --- the hook


def test_the_hook_stands_behind_the_directives_and_before_the_first_command() -> None:
    """sbatch stops reading at the first command, so nothing of ours may come before the last #SBATCH line."""
    header = "#SBATCH --array=TASKARRAYDEFINITION\n\n# comment\n#SBATCH -n 1\n\t\n#SBATCH --mem=1G\n# last\n\n"
    script = rendered("first command\n#SBATCH --too-late\n", header).split("\n")
    hook = next(number for number, line in enumerate(script) if "ESIS writes" in line)
    assert script.index("#SBATCH --mem=1G") < script.index("# last") < hook
    assert hook + HOOK_LINES == script.index("first command")
    assert any(line.startswith("esis_submission=0007 ") for line in script)
    assert options("\n".join(script)) == [("array", "0-9%10"), ("ntasks", "1"), ("mem", "1G")]


def test_an_indented_comment_does_not_end_the_directives() -> None:
    """sbatch skips comments that are indented, so directives behind one count and stay in front of the hook."""
    script = rendered("true\n", "#SBATCH --array=TASKARRAYDEFINITION\n  # resources\n#SBATCH --mem=3G\n")
    assert script.index("--mem=3G") < script.index("ESIS writes")


def test_a_script_of_directives_alone_gets_its_hook() -> None:
    """Also where no command follows, with or without a newline at the end."""
    for end in ("", "\n"):
        script = rendered("", "#SBATCH --array=TASKARRAYDEFINITION" + end)
        assert script.split("\n")[1] == "#SBATCH --array=0-9%10"
        assert script.split("\n")[2].startswith("# ESIS writes")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/bin/sh", True),
        ("#!/bin/bash", True),
        ("#! /bin/bash", True),
        ("#!/bin/bash -l", True),
        ("#!/bin/dash -eu", True),
        ("#!/usr/bin/ksh93", True),
        ("#!/usr/bin/zsh -f", True),
        ("#!/bin/busybox sh", True),
        ("#!/usr/bin/env bash", True),
        ("#!/usr/bin/env -S bash -e", True),
        ("#!/usr/bin/env A=b bash", True),
        ("#!/sw/bash-5.2/bin/bash", True),
        ("#!/usr/bin/python3", False),
        ("#!/usr/bin/env python3", False),
        ("#!/bin/csh", False),
        ("#!/bin/tcsh", False),
        ("#!/usr/bin/fish", False),
        ("#!/usr/bin/perl", False),
        ("#!/usr/bin/env", False),
        ("#!", False),
        ("#!/opt/bash/bin/julia", False),
        ("#!/usr/bin/xonsh", False),
    ],
)
def test_only_scripts_of_posix_shells_get_a_hook(first: str, expected: bool) -> None:
    """Python, csh and others can't source it: their jobs run as they are, known to write no records."""
    made = render(f"{first}\n#SBATCH --array=TASKARRAYDEFINITION\nx\n", "t", VALUES)
    assert is_posix_shell(first + "\n") is made.records is expected
    assert ("ESIS" in made.text) is expected


def test_rendering_is_deterministic() -> None:
    """The same template and values give the same script; another submission differs in its number alone."""
    assert rendered("x\n") == rendered("x\n")
    other = Values(array="0-9%10", worker="worker.py", submission=12345, digest="ab" * 32)
    assert rendered("x\n", values=other) == rendered("x\n").replace("submission=0007", "submission=12345")


# --- jinja2


def test_jinja_templates() -> None:
    """Their variables are array, worker, tasks, submission and hash; shell text survives in raw blocks."""
    text = (
        "#SBATCH --array={{ array }}\n",
        "echo {{ worker }} {{ tasks }} {{ submission }} {{ hash }} {% raw %}${#x}{% endraw %} <&>\n",
    )
    assert without_hook(rendered(text[1], text[0], name="t.j2")) == (
        f"#!/bin/bash\n#SBATCH --array=0-9%10\necho ../worker.py 10 7 {'ab' * 32} ${{#x}} <&>\n"
    )


def test_marks_are_plain_text_in_jinja_templates() -> None:
    """A jinja2 template has variables, so the marks of the other kind mean nothing in it."""
    script = rendered("echo WORKERSCRIPT\n", "#SBATCH -a {{ array }}\n", name="t.j2")
    assert script.endswith("echo WORKERSCRIPT\n")


@pytest.mark.parametrize(
    ("body", "expected"),
    [("x\n{{ unknown }}\n", "unknown"), ("x\n{% if %}\n", "t.j2, line 4"), ("x ${#y}\n", "t.j2, line 3")],
)
def test_f37_what_is_wrong_in_a_jinja_template_is_told(body: str, expected: str) -> None:
    """A misspelt variable or a syntax error is bad input, with the template's name and the line where known."""
    with pytest.raises(BadInput, match=expected):
        rendered(body, "#SBATCH --array={{ array }}\n", name="t.j2")


@pytest.mark.parametrize("body", ["{% include 'x' %}\n", "{{ 1 / 0 }}\n", "{{ 1 + 'a' }}\n"])
def test_f37_an_error_inside_of_an_expression_is_told(body: str) -> None:
    """Whatever goes wrong while a jinja2 template is rendered is bad input that names the template."""
    with pytest.raises(BadInput, match=r"t\.j2"):
        rendered(body, "#SBATCH --array={{ array }}\n", name="t.j2")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{% for i in range(10**12) %}{% endfor %}", "Range too big"),
        ("{% for i in range(10**5) %}{% for k in range(10**5) %}{{ i }}{% endfor %}{% endfor %}", "larger than"),
        ("{{ 'x' * 2**23 }}", "larger than"),
        ("{{ 'x' * 2**62 }}", "t.j2"),
    ],
)
def test_f37_a_jinja_template_without_end_is_cut(body: str, expected: str) -> None:
    """Before what it makes fills the memory of a login node."""
    with pytest.raises(BadInput, match=expected):
        rendered(body, "#SBATCH --array={{ array }}\n", name="t.j2")


def test_a_jinja_template_without_the_array_is_refused() -> None:
    """The rendered script must hold the array in a directive."""
    with pytest.raises(BadInput, match=r"t\.j2: no #SBATCH line .* 0-9%10"):
        rendered("echo {{ array }}\n", "#SBATCH --array=1-3\n", name="t.j2")


@RELAXED
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r{}#%"), max_size=40))
def test_jinja_changes_no_other_text(text: str) -> None:
    """Text without braces comes through jinja2 unchanged, the newline at the end included."""
    script = rendered(f"run {text}\n", "#SBATCH --array={{ array }}\n", name="t.j2")
    assert script.endswith(f"\nrun {text}\n")


# --- reading directives


def options(script: str) -> list[tuple[str, str | None]]:
    return [(option.name, option.value) for option in script_options(script)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("--mem=1G -n 4", [("mem", "1G"), ("ntasks", "4")]),
        ('--comment="a b" # c', [("comment", "a b")]),
        ("-J 'it is' --x", [("job-name", "it is"), ("x", None)]),
        ('--comment="open', [("comment", '"open')]),
        ("", []),
    ],
)
def test_directives_are_split_as_sbatch_does(line: str, found: list[tuple[str, str | None]]) -> None:
    """Quotes hold words together, a comment ends the line; an open quote is no crash."""
    assert options(f"#!/bin/sh\n#SBATCH {line}\ntrue\n#SBATCH --no\n") == found


# --- options that contradict those of ESIS


ARRAY = "#SBATCH --array=TASKARRAYDEFINITION\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (ARRAY + "#SBATCH --array=1-2\n", "line 3: --array 1-2 contradicts the array"),
        ("#SBATCH -a1-2\n" + ARRAY, "line 2: -a 1-2 contradicts"),
        (ARRAY + "#SBATCH -Ha 3\n", "line 3: -a 3 contradicts"),
        (ARRAY + "\n# comment\n#SBATCH --mem=1 --arr 1-2\n", "line 5: --arr 1-2 contradicts"),
        (ARRAY + "#SBATCH-a1-2\n", "line 3: -a 1-2 contradicts"),
        (ARRAY + "#SBATCH --array=\n", "line 3: --array contradicts"),
        ("#SBATCH --array=TASKARRAYDEFINITION,11\n", "line 2: .*contradicts .*TASKARRAYDEFINITION and nothing else"),
        ("#SBATCH --array=TASKARRAYDEFINITION%5\n", "line 2: .*contradicts .*maxparallel"),
        ("#SBATCH -a=TASKARRAYDEFINITION\n", "line 2: -a =0-9%10 contradicts"),
        ("#SBATCH --job-name=TASKARRAYDEFINITION\n", "no #SBATCH line"),
        (ARRAY + "#SBATCH --chdir=/tmp\n", "line 3: --chdir /tmp takes .* use cd"),
        (ARRAY + "#SBATCH -D /tmp\n", "line 3: -D /tmp takes"),
        (ARRAY + "#SBATCH --chd=/tmp\n", "line 3: --chd /tmp takes"),
        (ARRAY + "#SBATCH -HD/tmp\n", "line 3: -D /tmp takes"),
        (ARRAY + "#SBATCH --wait\n", "line 3: --wait lets sbatch block"),
        (ARRAY + "#SBATCH -W\n", "line 3: -W lets sbatch block"),
        (ARRAY + "#SBATCH --wai\n", "line 3: --wai may mean --wait"),
        (ARRAY + "#SBATCH --test-only\n", "line 3: --test-only keeps"),
        (ARRAY + "#SBATCH --autocomplete=x\n", "line 3: --autocomplete x lets"),
        (ARRAY + "#SBATCH --external\n", "line 3: --external makes"),
        (ARRAY + "#SBATCH hetjob\n#SBATCH --mem=1\n", "line 3: hetjob makes"),
        (ARRAY + "#SBATCH packjob\n", "line 3: packjob makes"),
        (ARRAY + "#SLURM --wait\n", "line 3: --wait lets"),
        (ARRAY + "#PBS -t 1-3\n", "line 3: -t 1-3 contradicts"),
        (ARRAY + "#PBS -W depend=afterok:1\n", "line 3: -W depend=afterok:1 outranks"),
        (ARRAY + "#BSUB -cwd /tmp\n", "line 3: -c /tmp takes"),
        (ARRAY + "true\n#PBS -J 1-3\n", "line 4: -J 1-3 contradicts"),
        (ARRAY + "#SBATCH --dependency=afterok:1?afterok:2\n", "line 3: .* means 'or'"),
        (ARRAY + "#SBATCH other.sh\n", "line 3: 'other.sh' is no option|line 3: other.sh is no option"),
        (ARRAY + '#SBATCH --comment="open\n', "line 3: a quotation mark"),
        (ARRAY + "#SBATCH -Z\n", "line 3: -Z is no option"),
    ],
)
def test_f60_what_contradicts_esis_is_refused_with_its_line(header: str, expected: str) -> None:
    """F60: sbatch would do something else than ESIS says, or block; in jinja2 templates as well."""
    text = f"#!/bin/sh\n{header}true WORKERSCRIPT\n"
    for act in (lambda: check(text, "dir/t.sh"), lambda: render(text, "dir/t.sh", VALUES)):
        with pytest.raises(BadInput, match=f"dir/t.sh(, |: ){expected}"):
            act()
    jinja = text.replace("TASKARRAYDEFINITION", "{{ array }}")
    with pytest.raises(BadInput, match=r"t\.j2"):
        check(jinja, "t.j2")


def test_f60_what_jinja_writes_is_looked_at() -> None:
    """F60: the option stands in the rendered script alone."""
    text = "#!/bin/sh\n#SBATCH --array={{ array }}\n#SBATCH --{{ 'chdir' }}=/tmp\ntrue\n"
    with pytest.raises(BadInput, match=r"t\.j2, rendered, line 3: --chdir /tmp"):
        check(text, "t.j2")


@pytest.mark.parametrize(
    "line",
    [
        "--hold",
        "--parsable",
        "--no-requeue",
        "--export=NONE",
        "-o /dev/null",
        "--kill-on-invalid-dep=yes",
        "-M other",
        "--deadline=2030-01-01",
        "--input=x",
        "--wait-all-nodes=1",
        "--time-min=5",
        "--job-name=array",
        "--spank-option x",
        "--wrap=x",
        "--array=TASKARRAYDEFINITION",
        "--dependency=singleton",
        "--ignore-pbs\n#PBS -t 1-3",
        "-N1\n#PBS -l x=1",
    ],
)
def test_options_that_contradict_nothing_are_left_alone(line: str) -> None:
    text = f"#!/bin/sh\n{ARRAY}#SBATCH {line}\ntrue WORKERSCRIPT\n"
    check(text, "t.sh")
    assert line.replace("TASKARRAYDEFINITION", "0-9%10") in render(text, "t.sh", VALUES).text


def test_f60_a_dependency_of_the_template_is_joined_with_that_of_esis() -> None:
    """F60: sbatch takes the last of two dependencies; the job has to wait for both."""
    text = f"#!/bin/sh\n{ARRAY}#SBATCH -d singleton\n#ESIS_PRIVATE\ntrue\n"
    done = render(text, "t.sh", Values("0-3", "w", 1, dependency="afterok:5"))
    assert "#SBATCH -d singleton\n#SBATCH --dependency=afterok:5,singleton\n" in done.text
    assert done.dependency == "afterok:5,singleton"
    assert render(text, "t.sh", Values("0-3", "w", 1)).dependency == "singleton"
    for none in ("-n 1", "--dependency=0", "-d 0", "--dependency=''"):
        plain = text.replace("-d singleton", none)
        assert render(plain, "t.sh", Values("0-3", "w", 1)).dependency is None
        assert render(plain, "t.sh", Values("0-3", "w", 1, dependency="afterok:5")).dependency == "afterok:5"


def test_f60_a_dependency_below_that_of_esis_is_refused() -> None:
    """F60: it would be the last one, and the job would not wait for what the workflow requires."""
    text = f"#!/bin/sh\n{ARRAY}#ESIS_PRIVATE\n#SBATCH --dependency=singleton\ntrue\n"
    with pytest.raises(BadInput, match="line 4: --dependency singleton stands below #ESIS_PRIVATE"):
        check(text, "t.sh", needs_dependency=True)
    with pytest.raises(BadInput, match="line 4"):
        render(text, "t.sh", Values("0-3", "w", 1, dependency="afterok:5"))
    check(text, "t.sh")
    assert render(text, "t.sh", Values("0-3", "w", 1)).dependency == "singleton"
