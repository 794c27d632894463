"""The documentation is true of the code: its examples run, and what it names exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import jinja2
import pytest

from esis import environment as variables
from esis import hook
from esis.cli.doc import topics
from esis.cli.main import COMMANDS, cli
from esis.cli.rendering import show_json
from esis.errors import BadInput, ExitCode
from esis.locks import HEARTBEAT_SECONDS, STALE_SECONDS
from esis.model import template, workflow
from esis.model.fingerprint import Kind
from esis.model.workdir import RunDir
from esis.operations import cancel
from esis.operations.submission import choice
from esis.operations.submission.arrays import ARRAY_SPEC_LIMIT
from esis.operations.submission.send import MINIMUM_GRACE_SECONDS
from esis.operations.table import collect, formats
from esis.operations.table.rows import Row
from esis.operations.witness.evidence import Evidence
from esis.operations.witness.status import RunStatus, TaskState, TaskStatus, Verdict
from esis.records import submissions
from esis.records.stage import Stage, State
from esis.records.tasks import TaskRecord, TaskRecords
from esis.schedulers import commands, local, slurm
from esis.schedulers.directives import Options
from esis.schedulers.query import QUERY_SECONDS
from tests.fakes import FakeSlurm

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "esis" / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
TASK_HOOK = ROOT / "esis" / "records" / "task.sh"
TOPIC_LINES = 120

# Options of other programs that the text names on their own; those behind a command's name are found by that name.
FOREIGN_OPTIONS = {
    "--array",
    "--array=",
    "--array=0",
    "--array=2",
    "--array=0-99%10",
    "--array=7",
    "--dependency",
    "--dependency=afterok:…",
    "--dependency=afterok:<its",
    "--output",
    "--error",
    "--job-name",
    "--chdir",
    "--open-mode",
    "--cpus-per-task",
    "--ntasks",
    "-a",
    "-o",
    "-e",
    "-J",
    "-c",
    "-n",
    "-M",
    "--parsable",
    "--wrap",
    "--wait",
    "--test-only",
    "--usage",
    "--clusters",
    "--mem",
    "--mem-per-cpu",
    "--mem-per-gpu",
    "--signal",
    "--signal=USR1@120",
    "--signal=USR1@T",
    "--signal=B:USR1@T",
    "--requeue",
    "--signal=B:…",
    "--open-mode=append",
    "--no-requeue",
    "--time",
    "--gres",
    "--external",
    "--quiet",
    "--autocomplete",
    "--name=value",
    "--mem=0",
    "--ignore-pbs",
    "-1",
    "--export",
}
# What follows `esis` in code without being a command of it.
PLACEHOLDERS = {"doc <topic>"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    kind: str  # the info string
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(kind, text) for kind, text in found]


def spans(page: Path) -> list[str]:
    """Return the inline code of a page, each on one line."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.split("\n") if not line.startswith("    "))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def code_lines(page: Path) -> list[str]:
    """Return all code of a page: inline, fenced and indented; without the comments of shell lines."""
    text = page.read_text("utf-8")
    fenced = [line for block in blocks(page) for line in block.text.split("\n")]
    indented = [line.strip() for line in text.split("\n") if line.startswith("    ")]
    lines = [re.sub(r"\s# .*", "", line.removeprefix("$ ")) for line in [*fenced, *indented]]
    return [line for line in lines if line.strip()] + spans(page)


def calls(page: Path) -> Iterator[tuple[str, str]]:
    """Yield (command, rest of the line) for everything like `esis command …` in the code of a page."""
    for line in code_lines(page):
        for match in re.finditer(r"(?<![\w./-])esis ([a-z][a-z-]*)\b([^;&|)]*)", line):
            rest, separator, others = match.group(2).partition(" -- ")
            if separator:
                commands.check_options(others.split())  # raises where esis would
            yield match.group(1), rest


def table(page: Path, heading: str) -> dict[str, list[str]]:
    """Return a table's rows by their first cell; the table is the one whose first heading is `heading`."""
    lines = page.read_text("utf-8").split("\n")
    start = next(n for n, line in enumerate(lines) if line.replace(" ", "").startswith(f"|{heading.replace(' ', '')}|"))
    rows: dict[str, list[str]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows[cells[0]] = cells[1:]
    return rows


def names(cell: str) -> list[str]:
    """Return what stands in backquotes in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def options(command: str | None) -> set[str]:
    """Return the options that `esis [command] --help` shows."""
    with click.Context(cli, info_name="esis") as parent:
        if command is None:
            text = cli.get_help(parent)
        else:
            found = cli.get_command(parent, command)
            assert found is not None
            with click.Context(found, parent=parent, info_name=command, help_option_names=["-h", "--help"]) as context:
                text = found.get_help(context)
    shown = text.partition("\nOptions:\n")[2].partition("\nCommands:\n")[0]
    return {
        option
        for line in re.findall(r"^  (-[^ ].*)$", shown, re.MULTILINE)
        for option in re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", line.partition("  ")[0])
    }


def environment(slurm_env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an example: this Python and its esis first, without a Slurm around us."""
    kept = {key: value for key, value in slurm_env.items() if not key.startswith(("SLURM_", "SBATCH_"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}


def run_shell(script: str, directory: Path, env: Mapping[str, str]) -> str:
    """Run a script with bash and return all that it wrote; a failure shows it."""
    assert shutil.which("esis", path=env["PATH"]), "esis is not installed beside this Python: pip install -e ."
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=dict(env),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def pattern(expected: str) -> str:
    """Return the regular expression of an expected output: … stands for anything, on a line of its own for lines."""
    lines = [
        r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in expected.rstrip("\n").split("\n")
    ]
    return "".join(lines)


def run_page(page: Path, directory: Path) -> None:
    """Run the `sh` blocks of a page in one shell, as somebody who pastes them; compare with the `text` behind each."""
    found = blocks(page)
    shell = [number for number, block in enumerate(found) if block.kind == "sh"]
    assert shell, f"{page} has no block to run"
    mark = "=== end of block ==="
    script = "".join(f"{found[number].text}\nprintf '{mark}\\n'\n" for number in shell)
    with FakeSlurm(directory / "slurm", auto=True) as cluster:
        output = run_shell(script, directory, environment(cluster.env()))
        cluster.wait_idle()
    shown = output.split(f"{mark}\n")
    assert len(shown) == len(shell) + 1, output
    for number, text in zip(shell, shown):
        following = found[number + 1] if number + 1 < len(found) else None
        if following is None or following.kind != "text":
            continue
        seen = text if text.endswith("\n") else text + "\n"
        assert re.fullmatch(pattern(following.text), seen), f"{page.name} says\n{following.text}\nthere came\n{seen}"


# Examples


@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=lambda page: page.stem)
def test_examples_run_as_they_are_pasted_and_show_what_is_promised(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize(
    ("text", "shown", "fits"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("a…c\n", "abc\n", True),
        ("a…c\n", "a\nc\n", False),
        ("a\n…\n", "a\nb\nc\n", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_the_comparison_of_outputs_can_fail(text: str, shown: str, fits: bool) -> None:
    assert bool(re.fullmatch(pattern(text), shown)) is fits


def test_a_page_whose_example_is_wrong_fails(tmp_path: Path) -> None:
    for content in ("```sh\nfalse\n```\n", "```sh\nesis --version\n```\n\n```text\nesis, version 0\n```\n"):
        page = tmp_path / "page.md"
        page.write_text(content)
        with pytest.raises(AssertionError):
            run_page(page, tmp_path)


def test_the_recipe_in_hash_gives_the_hash_of_the_quickstart(tmp_path: Path) -> None:
    """The recipe is run on the files of the quickstart and compared with what a dry run shows."""
    files = next(block.text for block in blocks(DOCS / "quickstart.md") if block.kind == "sh")
    recipe = next(block.text for block in blocks(DOCS / "hash.md") if block.kind == "sh")
    script = f"{files}\nesis setup setup.sh parameters.py template.sh worker.py >setup.log\n{recipe}\nesis run -n\n"
    lines = run_shell(script, tmp_path, environment(os.environ)).split("\n")
    by_hand = lines[0].removesuffix("  -")
    assert re.fullmatch("[0-9a-f]{64}", by_hand)
    assert lines[1] == f"hash: {by_hand}"


# Commands and options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    for command, rest in calls(page):
        assert command in COMMANDS, f"{page.name}: there is no command esis {command}"
        known = options(command) | options(None)
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest):
            assert option in known, f"{page.name}: esis {command} has no option {option}"
        if command == "doc" and f"doc{rest}" not in PLACEHOLDERS:
            topic = rest.split()[0] if rest.split() else "index"
            assert topic in topics(), f"{page.name}: there is no topic {topic}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_is_named_on_its_own_exists(page: Path) -> None:
    known = FOREIGN_OPTIONS.union(options(None), *(options(command) for command in COMMANDS))
    for span in spans(page):
        if re.match(r"--?[a-z]", span, re.IGNORECASE):
            assert span.split()[0] in known, f"{page.name}: nothing has the option {span}"


def test_the_foreign_options_are_really_named() -> None:
    """An entry that nothing needs would hide an option that is gone."""
    named = {span.split()[0] for page in PAGES for span in spans(page)}
    assert not {option for option in FOREIGN_OPTIONS if option.startswith("--")} - named


def test_the_search_for_commands_finds_what_is_written() -> None:
    """The two tests above can't pass because they see nothing."""
    assert {command for page in PAGES for command, _ in calls(page)} == set(COMMANDS)
    assert options("run") >= {"--local", "--dry-run", "-n", "-m", "-j", "-v", "--script-timeout", "--take-over", "-h"}
    assert "--local" not in options("setup")


def test_every_command_is_in_the_readme() -> None:
    rows = table(README, "command")
    assert [names(cell)[0] for cell in rows] != []
    assert {names(cell)[0] for cell in rows} == {f"esis {command}" for command in COMMANDS}


# Contracts


def test_every_exit_code_is_listed_under_its_name() -> None:
    rows = table(DOCS / "exit-codes.md", "code")
    assert {cells[0]: int(code) for code, cells in rows.items()} == ExitCode.all()


def a_status(*states: TaskState) -> RunStatus:
    return with_verdicts({number: Verdict(state) for number, state in enumerate(states)})


def with_verdicts(verdicts: Mapping[int, Verdict]) -> RunStatus:
    groups: dict[Verdict, list[int]] = {}
    for task, verdict in verdicts.items():
        groups.setdefault(verdict, []).append(task)
    evidence = Evidence(RunDir(Path("wrkdir.x")), None, sorted(verdicts), (), TaskRecords(()), marked_complete=False)
    return RunStatus(
        evidence,
        {task: TaskStatus(verdict) for task, verdict in verdicts.items()},
        groups,
        complete={verdict.state for verdict in verdicts.values()} == {TaskState.DONE},
    )


def test_what_wait_and_check_end_with_is_what_the_code_says() -> None:
    """The rows come in the order in which they are decided: each state here is there beside all later ones."""
    order = [TaskState.WAITING, TaskState.UNKNOWN, TaskState.LOST, TaskState.UNSUBMITTED]
    codes = [a_status(TaskState.DONE).exit_code]
    codes += [a_status(*order[number:], TaskState.DONE).exit_code for number in range(len(order))]
    assert [int(code) for code in table(DOCS / "status.md", "code")] == codes
    named = re.findall(r"end with 0 for a complete run and with ([\d, or]+) for", (DOCS / "exit-codes.md").read_text())
    assert [sorted(map(int, re.findall(r"\d+", text))) for text in named] == [sorted(codes[1:])]


def test_the_columns_of_tasks_are_those_of_the_code() -> None:
    shown = [names(cell)[0] for cell in table(DOCS / "status.md", "column")]
    row = Row(0, TaskStatus(Verdict(TaskState.DONE)), 1, {"beta": 1, "task": 2})
    assert list(row.cells()) == [*shown, "beta", "parameters.task"]


def test_the_columns_of_an_export_are_those_of_the_code() -> None:
    shown = [names(cell)[0] for cell in table(DOCS / "export.md", "column") if names(cell)]
    assert shown == [name for name in collect.OWN_COLUMNS if name not in collect.ON_REQUEST]
    text = (DOCS / "export.md").read_text("utf-8")
    on_request = text.partition("On request only, with `--columns`:")[2].partition(", as in")[0]
    assert names(on_request) == list(collect.ON_REQUEST)
    documented = {names(cell)[0]: names(cells[0]) for cell, cells in table(DOCS / "export.md", "format").items()}
    assert {ending: form for form, endings in documented.items() for ending in endings} == dict(formats._ENDINGS)


def test_the_keys_of_the_status_are_those_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    show_json(with_verdicts({3: Verdict(TaskState.FAILED, "TIMEOUT")}))
    written = json.loads(capsys.readouterr().out)
    rows = {names(cell)[0]: cells for cell, cells in table(DOCS / "status.md", "key").items()}
    assert list(rows) == list(written)
    assert {"count", "tasks", "reasons"} == set(written["states"]["failed"]) <= set(names(rows["states"][0]))


def test_what_is_resubmitted_by_default_is_what_the_code_says() -> None:
    text = (DOCS / "resubmit.md").read_text("utf-8")
    shown = re.search(r"^Without a choice: (.*)\. Else$", text, re.MULTILINE)
    assert shown is not None
    assert names(shown.group(1)) == [state.value for state in choice.DEFAULT_STATES]
    refused = text.partition("Refused are options")[2].partition("\n\n")[0]
    short = {"--cluster"}  # the page tells of short forms as such
    assert {*names(refused)} | short == {f"--{name}" for name in commands._RESERVED}
    for option in names(refused):
        with pytest.raises(BadInput):
            commands.check_options([option])
    assert f"need more than {ARRAY_SPEC_LIMIT:,} characters" in text
    assert f"after {cancel._SETTLE_SECONDS:.0f} s" in text


def test_the_signals_with_a_trap_are_those_of_the_code() -> None:
    text = " ".join((DOCS / "templates.md").read_text("utf-8").split())
    assert "turns every signal that can end a shell into an exit with status 128 + number" in text
    handed = re.findall(r"^trap 'esis_signalled ([A-Z0-9]+) (\d+)' \1$", TASK_HOOK.read_text(), re.MULTILINE)
    assert " and ".join(name for name, _ in handed) + " are handed on to the worker first" in text
    assert [(name, int(number)) for name, number in handed] == [
        (name, signal.Signals[f"SIG{name}"]) for name, _ in handed
    ]


def test_a_line_of_the_required_runs_is_drawn_as_it_is() -> None:
    drawn = re.search(r'^ +requirements +"(<first.*>)" of each', (DOCS / "layout.md").read_text("utf-8"), re.MULTILINE)
    assert drawn is not None
    assert f"# {drawn.group(1)}\n" in TASK_HOOK.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_variable_of_esis_that_is_named_is_read_somewhere(page: Path) -> None:
    sources = [*(ROOT / "esis").rglob("*.py"), TASK_HOOK, *(ROOT / "ci").iterdir(), *(ROOT / "tests").rglob("*.py")]
    known = "".join(path.read_text("utf-8") for path in sources if path.is_file() and path != Path(__file__).resolve())
    for name in re.findall(r"\bESIS2?_[A-Z_]+\b", page.read_text("utf-8")):
        assert re.search(rf"\b{name}\b", known), f"{page.name}: nothing reads {name}"


def template_block(part: str) -> str:
    """Return the one indented block of templates.md that holds `part`."""
    text = (DOCS / "templates.md").read_text("utf-8")
    (found,) = (block for block in re.findall(r"(?:^ {4,}.*\n)+", text, re.MULTILINE) if part in block)
    return textwrap.dedent(found)


@pytest.mark.parametrize(("before", "code"), [("", ExitCode.OK), ("set -e\n", ExitCode.TASKS_FAILED)])
def test_a_script_that_goes_on_is_done_unless_it_says_set_e(tmp_path: Path, before: str, code: int) -> None:
    """The known limit that templates.md describes, with its own example."""
    assert try_template(tmp_path, before + template_block("echo finished"), "exit 3").returncode == code


def test_the_trap_of_templates_keeps_the_record_of_the_end(tmp_path: Path) -> None:
    """The hook itself notes the end, not esis afterwards: the trap's last line kills esis."""
    block = template_block("scratch=$(mktemp -d)")
    killing = block.replace('exit "$code"\'', "kill -9 $PPID'")
    assert killing != block
    try_template(tmp_path, f"{killing}srun WORKERSCRIPT\n", "exit 3")
    (record,) = (name for path in tmp_path.glob("wrkdir.*/__esis__/tasks") for name in os.listdir(path))
    assert ".exit3." in record


@pytest.mark.parametrize(
    ("part", "number", "code"),
    [
        ("\n      wait $!\n", signal.SIGTERM, 143),
        ("\n      wait $!\n", signal.SIGUSR1, 138),
        ("#SBATCH --signal=B:USR1@120", signal.SIGUSR1, 7),
    ],
    ids=["TERM", "USR1", "own trap"],
)
def test_a_signal_is_handled_at_once_in_the_forms_of_templates(
    tmp_path: Path, part: str, number: signal.Signals, code: int
) -> None:
    """The worker signals its script and goes on; a shell that waited in the foreground would hear it too late."""
    worker = (
        f"kill -{int(number)} $PPID\n"
        "for i in {1..100}; do [ -e stop.0 ] && exit 7; kill -0 $PPID || exit 8; sleep 0.05; done; touch late"
    )
    done = try_template(tmp_path, template_block(part), worker)
    assert done.returncode == ExitCode.TASKS_FAILED
    assert f"exit code {code}" in done.stderr
    assert not list(tmp_path.glob("wrkdir.*/cwd/late"))


def try_template(directory: Path, body: str, worker: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow of one task here."""
    for name, text in {
        "setup": "",
        "generator": "echo {} >parameters.0.json; echo 1",
        "worker": worker,
        "template": f"#SBATCH --array=TASKARRAYDEFINITION\n{body}",
    }.items():
        (directory / name).write_text(f"#!/bin/bash\n{text}\n")
        (directory / name).chmod(0o755)
    described = workflow.Workflow(directory / workflow.DEFAULT_NAME, "setup", "generator", "template", "worker")
    described.path.write_text(workflow.dump(described))
    return subprocess.run(
        ["esis", "run", "--local"],
        cwd=directory,
        env=environment(os.environ),
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_every_topic_is_in_the_index_and_nothing_else() -> None:
    listed = re.findall(r"^- `([a-z-]+)`: ", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(topics()) - {"index"}


@pytest.mark.parametrize("topic", topics())
def test_a_topic_is_short_and_begins_with_a_title(topic: str) -> None:
    text = (DOCS / f"{topic}.md").read_text("utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) <= TOPIC_LINES


def a_workflow() -> workflow.Workflow:
    return workflow.Workflow(Path("wf.esis.json"), "s", "p", "t", "w")


def test_the_keys_of_the_workflow_file_and_their_defaults_are_those_of_the_code() -> None:
    written = json.loads(workflow.dump(a_workflow()))
    rows = {name: cells for cell, cells in table(DOCS / "workflow-file.md", "key").items() for name in names(cell)}
    packed = json.loads(workflow.dump(a_workflow()._replace(tasks_per_job=7, tasks_parallel=2)))
    optional = set(packed) - set(written)  # not written where they are 1: older versions don't know them
    assert {key: packed[key] for key in optional} == {"tasks_per_job": 7, "tasks_parallel": 2}
    assert set(rows) == set(packed)
    needed = {"setupscript", "param_generator", "sbatchtemplate", "workerscript"}
    assert {key for key, cells in rows.items() if cells[-1] == "needed"} == needed
    written.update(dict.fromkeys(optional, 1))
    for key in set(rows) - needed:
        shown = names(rows[key][-1])[0]
        assert shown == (written[key] if key == "workdirpath" else json.dumps(written[key])), key


def test_the_example_of_a_workflow_file_is_one() -> None:
    text = (DOCS / "workflow-file.md").read_text("utf-8")
    found = re.search(r"^    \{\n(?:    .*\n)*?    \}\n", text, re.MULTILINE)
    assert found is not None
    parsed = workflow.parse(Path("wf.esis.json"), found.group().encode())
    assert json.loads(workflow.dump(parsed)) == json.loads(found.group())


def test_the_template_variables_are_those_that_jinja2_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def generate(self: jinja2.Template, *args: Mapping[str, object]) -> list[str]:
        given.update(args[0])
        return ["#!/bin/sh\n#SBATCH --array=0-3%2\n"]

    monkeypatch.setattr(jinja2.Template, "generate", generate)
    template.render("#!/bin/sh\n", "t.j2", template.Values("0-3%2", "w", 1))
    assert {names(cell)[0] for cell in table(DOCS / "templates.md", "variable")} == set(given)


def test_the_marks_of_templates_are_those_of_the_code() -> None:
    marks = {names(cell)[0] for cell in table(DOCS / "templates.md", "mark")}
    assert marks == {template.ARRAY_MARK, template.WORKER_MARK, template.DEPENDENCY_MARK}


def test_the_name_of_a_task_record_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^    (<task>\S+)$", (DOCS / "records.md").read_text("utf-8"), re.MULTILINE)
    running = TaskRecord(task=12, submission=3, job="4711", restart=2, start=1700000000)
    ended = running._replace(code=7, end=1700000099)
    judged = running._replace(verdict="TIMEOUT", end=1700000099)
    values = {name: str(value) for name, value in ended._asdict().items()} | {"submission": "0003", "WORD": "TIMEOUT"}
    saved = ended._replace(code=75, resumable=True)
    filled = [re.sub(r"<(\w+)>", lambda match: values[match.group(1)], text) for text in drawn]
    assert filled == [running.name, ended.name, judged.name, saved.name]
    assert [TaskRecord.parse(name) for name in filled] == [running, ended, judged, saved]


def test_the_keys_of_a_submission_record_are_those_of_the_code() -> None:
    record = submissions.Submission(1, "slurm", (0,), (submissions.Array("0", 0, 1),), "", 0.0, "", True)
    rows = table(DOCS / "records.md", "key")
    assert [name for cell in rows for name in names(cell)] == list(record.to_json())
    outcomes = next(cells for cell, cells in rows.items() if names(cell) == ["outcome"])
    assert names(outcomes[0]) == [outcome.value for outcome in submissions.Outcome]


def test_keys_and_stages_of_the_state_file_are_those_of_the_code(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "wrkdir.x")
    run.private.mkdir(parents=True)
    from esis.records import stage

    stage.save(run, State(Stage.PREPARED))
    section = (DOCS / "layout.md").read_text("utf-8").partition("## state.json")[2].partition("\n## ")[0]
    before, _, after = section.partition("Stages, in their order:")
    assert set(re.findall(r"`(\w+)`", before)) == set(json.loads(run.state.read_text()))
    assert re.findall(r"`([\w ]+)`", after.partition(".")[0]) == [item.value for item in Stage]


def test_every_path_of_a_run_is_drawn() -> None:
    text = (DOCS / "layout.md").read_text("utf-8").partition("## Task records")[0]
    run = RunDir(Path("wrkdir"))
    paths = [getattr(run, name) for name, value in vars(RunDir).items() if isinstance(value, property)]
    drawn = {item.name for item in paths if isinstance(item, Path)} | {run.submission(1).name, run.claim(1).name}
    assert {name for name in drawn if not re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", text)} == set()


def test_the_states_of_tasks_are_those_of_the_code() -> None:
    assert [names(cell)[0] for cell in table(DOCS / "states.md", "state")] == [state.value for state in TaskState]


def test_the_kinds_of_entries_in_a_hashed_listing_are_those_of_the_code() -> None:
    found = re.findall(r'^    \["(\w+)", ".*\]$', (DOCS / "hash.md").read_text("utf-8"), re.MULTILINE)
    assert set(found) == {kind.value for kind in Kind}


def test_the_variables_that_are_removed_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SBATCH_* or SLURM_* name in slurm.md does to the environment what the text says."""
    section = (DOCS / "slurm.md").read_text("utf-8").partition("## Environment")[2].partition("\n## ")[0]
    removed = set(re.findall(r"`(SBATCH_\w+)`", section)) - {"SBATCH_CLUSTERS"}
    assert "SBATCH_ARRAY_INX" in removed
    assert not removed & variables.SBATCH_KEPT
    stay = set(re.findall(r"`(SLURM_[A-Z_]+[A-Z])`", section))
    assert stay == {name for name in variables.SLURM_KEPT if not name.startswith("SLURM_SACK_")}
    assert "`SLURM_SACK_*`" in section
    for name in [*removed, *stay, "SLURM_JOB_ID", "SBATCH_ACCOUNT", "SQUEUE_PARTITION"]:
        monkeypatch.setenv(name, "x")
    kept = {name for name in variables.clean_environment() if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))}
    assert kept == {*stay, "SBATCH_ACCOUNT", "SQUEUE_PARTITION"}
    for prefix in variables._QUERIES:
        assert f"`{prefix}*`" in section or prefix == "SINFO_"
    assert "SQUEUE_PARTITION" not in variables.query_environment()


def test_the_variables_of_a_local_task_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    record = submissions.Submission(1, "local", (0,), (submissions.Array("0", 0, 1),), "", 0.0, "", True)
    env = local.environment(RunDir(tmp_path), record, 1, 0, Options(cpus="2", ntasks="3"), tmp_path)
    documented = {name for cell in table(DOCS / "local.md", "variable") for name in names(cell)}
    assert documented == {name for name in env if name.startswith("SLURM")}


def test_the_queries_are_those_that_are_called() -> None:
    text = (DOCS / "slurm.md").read_text("utf-8")
    *words, last = commands.squeue_argv()
    assert f"    {' '.join(words)} '{last}'" in text
    first = submissions.Submission(1, "slurm", (0,), (submissions.Array("0", 0, 1),), "", 0.0, "", True)
    run = RunDir(Path("<path>/wrkdir.<hash>"))
    *words, script = commands.sbatch_argv(run, first, 0)
    assert f"&& {' '.join(words)} {run.private}/…/../sbatch.sh\n" in text
    assert script.startswith(f"{run.private}/")
    accounting = commands.sacct_argv(["<jobs>"], (), 0.0)
    accounting[accounting.index("-S") + 1] = "<a day before the submission>"
    assert f"    {' '.join(accounting)}\n" in text
    assert hook.FENCE_VARIABLE in text
    job = submissions.Job("<job>")
    (cancelling,) = commands.scancel_argvs(job, (0, 1, 2, 3, 7), pending_only=False)
    assert f"    {' '.join(cancelling)} " in text
    for change in ("ArrayTaskThrottle=<N>", "dependency=afterok:<jobs>"):
        assert f"    {' '.join(commands.update_argv(job, change))}\n" in text


def test_the_periods_are_those_of_the_code() -> None:
    shown = list(table(DOCS / "states.md", "seconds"))
    waiting = re.search(r"ESIS_REQUIREMENT_WAIT:-(\d+)", TASK_HOOK.read_text())
    sources = "".join(path.read_text("utf-8") for path in sorted((ROOT / "esis/operations").rglob("*.py")))
    grace = re.search(r"^GRACE_SECONDS = (\d+)", sources, re.MULTILINE)
    assert waiting is not None
    assert grace is not None
    assert [text.split(",")[0] for text in shown] == [grace.group(1), f"{MINIMUM_GRACE_SECONDS:.0f}", waiting.group(1)]
    locks = (DOCS / "locks.md").read_text("utf-8")
    assert f"every {HEARTBEAT_SECONDS:.0f} s" in locks
    assert f"for {STALE_SECONDS:.0f} s" in locks
    calls_take = (DOCS / "slurm.md").read_text("utf-8")
    assert f"`sbatch` gets {slurm.SUBMIT_SECONDS:.0f} s" in calls_take
    assert f"the others {QUERY_SECONDS:.0f} s" in calls_take


# Links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
