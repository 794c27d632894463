"""Slurm's answers are read by pure functions: what is unheard of is unknown, never a guess and never a crash."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from esis.errors import BadInput
from esis.model.limits import Limits
from esis.model.workdir import RunDir
from esis.process import Completed
from esis.records.submissions import Array, Job, Outcome, Submission
from esis.schedulers import answers, commands, slurm
from esis.schedulers.answers import classify, judge, parse_job, parse_sacct, parse_squeue
from esis.schedulers.base import JobState, Sighting, Snapshot
from esis.schedulers.config import limits_in, parse_config
from tests.users import nobody

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines may be busy

DATA = Path(__file__).parents[1] / "data"
RUN = RunDir(Path("/scratch/a b|c/wrkdir." + "0" * 64))
SCRIPT = f"{RUN.path}/__esis__/../sbatch.sh"
FIRST = f"{RUN.path}/__esis__/./../__esis__//../__esis__/../sbatch.sh"  # as array 0 of submission 1
SECOND = f"{RUN.path}/__esis__/./../__esis__/./../__esis__/../sbatch.sh"

WAITING = "PENDING CONFIGURING REQUEUED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT EXPEDITING"
ACTIVE = "RUNNING COMPLETING RESIZING SIGNALING STAGE_OUT SUSPENDED STOPPED"
FAILED = "FAILED TIMEOUT DEADLINE OUT_OF_MEMORY NODE_FAIL BOOT_FAIL LAUNCH_FAILED CANCELLED PREEMPTED"


# --- the answer of sbatch


def test_f297_a_working_directory_that_cannot_be_entered_is_named_and_not_sbatch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F297: cwd/ without x for its owner; no option and no template mends that."""
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own directories are closed to other users
        place = Path(scratch)
        place.chmod(0o755)
        run = RunDir(place / RUN.path.name)
        run.cwd.mkdir(parents=True, mode=0o700)
        run.cwd.chmod(0o666)
        (place / "sbatch").write_text("#!/bin/sh\necho 41\n")
        (place / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
        intent = Submission(1, "slurm", range(3), (Array("0-2", 0, 3),), "ab", 1.5, "o", True)
        with nobody():
            answer = slurm.Slurm().submit(run, intent, 0, lambda job: pytest.fail("nothing was queued"))
    assert (answer.outcome, answer.asked) == (Outcome.REFUSED, False)
    assert f"sbatch can't be started in {run.cwd}: Permission denied to enter that directory (chmod" in answer.message


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("123\n", Job("123")),
        ("123", Job("123")),
        ("123;cluster-2\n", Job("123", "cluster-2")),
        ("Welcome to the cluster\n\n*** 3 news ***\n4711;c1\n", Job("4711", "c1")),
        ("Checking account 42\n  123  \n\n", Job("123")),
        ("99\nyour quota: 17\n123\n", Job("123")),
        ("123\nhave fun!\n", Job("123")),
        ("123\r\n", Job("123")),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("job 5\n", None),
        ("123 456\n", None),
        ("-5\n", None),
        ("12a\n", None),
        ("123;\n", None),
        ("123;a b\n", None),
        ("1.5\n", None),
        (";c\n", None),
    ],
)
def test_f12_the_job_id_behind_banners(stdout: str, expected: Job | None) -> None:
    """F12: the last line that is nothing but an id, with its cluster; numbers in prose are no ids."""
    assert parse_job(stdout) == expected


@RELAXED
@given(st.text())
def test_f12_no_output_at_all_raises(stdout: str) -> None:
    """F12: whatever a site's wrapper prints, there is a job or there is none."""
    found = parse_job(stdout)
    assert found is None or found.id.isdecimal()


def at_limit(message: str) -> bool:
    return judge(Completed(["sbatch"], 1, b"", message.replace(" | ", "\n").encode())).at_limit


def outcome(code: int, stderr: str, stdout: str = "", timed_out: bool = False) -> Outcome:
    return judge(Completed(["sbatch"], code, stdout.encode(), stderr.encode(), timed_out)).outcome


@pytest.mark.parametrize(
    "message",
    [
        "Invalid job array specification",
        "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "Requested node configuration is not available",
        "Job dependency problem",
        "Invalid account or account/partition combination specified",
        "Requested time limit is invalid (missing or exceeds some limit)",
        "Pathname of a file, directory or other parameter too long",
        "Invalid partition name specified",
        "User's group not permitted to use this partition",
        "Memory specification can not be satisfied",
    ],
)
def test_f11_definite_refusals(message: str) -> None:
    """F11: the controller said no: nothing is queued, and the line that says why is shown."""
    stderr = f"sbatch: error: some hint of a site\nsbatch: error: Batch job submission failed: {message}\n\n"
    done = judge(Completed(["sbatch"], 1, b"", stderr.encode()))
    assert (done.outcome, done.message) == (
        Outcome.REFUSED,
        f"sbatch: error: some hint of a site | sbatch: error: Batch job submission failed: {message}",
    )


@pytest.mark.parametrize(
    "stderr",
    [
        "sbatch: error: This does not look like a batch script.  The first\nsbatch: error: line must start with #! "
        "followed by the path to an interpreter.\nsbatch: error: For instance: #!/bin/sh\n",
        "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\nsbatch: error: instead of expected UNIX line "
        "breaks (\\n).\n",
        "sbatch: unrecognized option '--tiem=5'\nTry \"sbatch --help\" for more information\n",
        "sbatch: invalid option -- 'y'\nTry \"sbatch --help\" for more information\n",
        "sbatch: error: Unable to open file ../sbatch.sh\n",
        'sbatch: error: Invalid numeric value "x" for --cpus-per-task.\n',
        "sbatch: fatal: --ntasks-per-node: invalid\n",
        "allocation failure: Invalid account\n",
        "sbatch: error: lua: give an account\nsbatch: error: cli_filter plugin terminated with error\n",
        "sbatch: error: cli_filter plugin terminated with error\n",
        "sbatch: error: spank: required plugin x.so: init() failed with rc=-1\n"
        "sbatch: error: Failed to initialize plugin stack\n",
        "sbatch: error: Invalid directive found in batch script: x\n",
        "sbatch: error: Invalid generic resource (gres) specification\n",
        "sbatch: error: Problem talking to database\n",
        "sbatch: option '--no' is ambiguous; possibilities: '--nodes' '--nodelist'\n",
        "sbatch.real: error: No cluster 'x' known by database.\n",
        "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.\n",
    ],
)
def test_f11_what_sbatch_refuses_itself(stderr: str) -> None:
    """F11, F61: sbatch never sent anything, so nothing can be queued; what it said is all shown."""
    for code in (1, 255):
        done = judge(Completed(["sbatch"], code, b"", stderr.encode()))
        assert done.outcome is Outcome.REFUSED
        assert all(line.strip() in done.message for line in stderr.splitlines())


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: sorry, connection refused by policy 7",
        "sbatch: error: Connection refused: ask for a project",
        "sbatch: lua: host is down for maintenance",
        "sbatch: error: job_submit: no route to host for this partition",
        "the protocol version of your form is old",
    ],
)
def test_f61_the_words_of_a_site_are_not_those_of_slurm(said: str) -> None:
    """F61: what a plugin says before the controller's own line leaves nothing open."""
    for reason in ("Unspecified error", "Invalid account or account/partition combination specified"):
        stderr = f"{said}\nsbatch: error: Batch job submission failed: {reason}\n"
        assert outcome(1, stderr) is Outcome.REFUSED


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (
            127,
            "/usr/bin/sbatch: error while loading shared libraries: libslurm.so.41: cannot open shared object file: No "
            "such file or directory\n",
        ),
        (127, "/opt/site/bin/sbatch: line 3: /opt/slurm/bin/sbatch: No such file or directory\n"),
        (127, "/opt/site/bin/sbatch: 3: sbatch: not found\n"),
        (127, "wrapper: line 2: sbatch: command not found\n"),
        (126, "/opt/site/bin/sbatch: line 3: /opt/slurm/bin/sbatch: Permission denied\n"),
        (126, "bash: /opt/slurm/bin/sbatch: cannot execute binary file: Exec format error\n"),
        (
            1,
            "/usr/bin/sbatch: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found "
            "(required by /usr/bin/sbatch)"
            "\n",
        ),
    ],
)
def test_an_sbatch_that_never_ran_sent_nothing(code: int, stderr: str) -> None:
    """Nothing is looked up for a minute, and nothing is sent a second time."""
    assert outcome(code, stderr) is Outcome.REFUSED
    assert outcome(code, f"{stderr}sbatch: error: Socket timed out on send/recv operation\n") is Outcome.OPEN


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (1, "wrapper/sbatch: line 4: /no/such/dir/sbatch.log: No such file or directory\n"),
        (127, "wrapper/sbatch: line 4: /no/such/dir/sbatch.log: No such file or directory\n"),
        (1, "wrapper/sbatch: line 4: /var/log/sbatch: Permission denied\n"),
        (127, "wrapper/sbatch: line 5: logger: command not found\n"),
        (126, "wrapper/sbatch: 5: notify: Permission denied\n"),
        (1, "/usr/bin/python3: sbatch: No such file or directory\n"),
    ],
)
def test_what_goes_wrong_behind_sbatch_in_a_wrapper_leaves_it_open(code: int, stderr: str) -> None:
    """The job may be queued by then: only sbatch itself missing, in the words of a shell, is certain."""
    assert outcome(code, stderr) is Outcome.OPEN


@pytest.mark.parametrize("code", [0, 1])
def test_f182_what_a_wrapper_of_sbatch_passes_on_to_standard_output_is_read(code: int) -> None:
    """F182: `sbatch "$@" 2>&1 | tee -a log` ends with 0 and has all words there; a refusal is one, and is shown."""
    said = "sbatch: error: Give a project\nsbatch: error: Batch job submission failed: Invalid account\n"
    done = judge(Completed(["sbatch"], code, said.encode(), b"\n"))
    assert (done.outcome, done.message) == (Outcome.REFUSED, said.strip().replace("\n", " | "))
    lost = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
    assert outcome(code, "", lost) is Outcome.OPEN
    assert outcome(0, "", f"{said}trying another account\nSubmitted batch job 17\n") is Outcome.OPEN
    assert outcome(0, said, "Submitted batch job 17\n") is Outcome.OPEN
    assert outcome(0, "", "sbatch: error: a note of a plugin\n") is Outcome.OPEN, "it may have hidden the id"
    assert outcome(0, "", f"{said}17\n") is Outcome.SUBMITTED


def test_f63_what_was_masked_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """F63: a lost submission can't be repeated from its record: sbatch isn't called, and the record is closed."""
    monkeypatch.setattr(slurm, "capture", lambda *_, **__: pytest.fail("sbatch was called"))
    submission = sent("0-3")._replace(options=("--export=ALL,TOKEN=***",))
    answer = slurm.Slurm().submit(RunDir(Path("/nowhere")), submission, 0, lambda job: None)
    assert (answer.outcome, answer.asked) == (Outcome.REFUSED, True)


def test_f61_the_reasons_of_a_site_are_shown() -> None:
    """F61: they stand before the last line, which says "Unspecified error"; seen on 22.05 to 26.05."""
    stderr = (
        "sbatch: error: Give a project: --account\nsbatch: error: Ask hpc@site\x1b[31m\n"
        "sbatch: error: Batch job submission failed: Unspecified error\n"
    )
    done = judge(Completed(["sbatch"], 1, b"", stderr.encode()))
    assert done.outcome is Outcome.REFUSED
    assert done.message == (
        "sbatch: error: Give a project: --account | sbatch: error: Ask hpc@site\\x1b[31m | "
        "sbatch: error: Batch job submission failed: Unspecified error"
    )
    assert not done.at_limit


def test_f61_much_that_is_said_is_cut_in_the_middle() -> None:
    """F61: the first and the last lines stay; no line fills the terminal."""
    many = "".join(f"sbatch: error: line {n} {'x' * 1000}\n" for n in range(500))
    done = judge(Completed(["sbatch"], 1, b"", f"{many}sbatch: error: Batch job submission failed: Why\n".encode()))
    assert "line 0 x" in done.message
    assert done.message.endswith("submission failed: Why")
    assert "(481 more lines)" in done.message
    assert len(done.message) < 10_000


def test_a_limit_is_told_by_the_controller_alone() -> None:
    """A text of the site's about limits doesn't make a refusal for another reason one that fewer tasks would get by."""
    final = "sbatch: error: Batch job submission failed:"
    assert at_limit(f"sbatch: error: AssocMaxSubmitJobLimit | {final} Job violates accounting/QOS policy (job")
    policy = f"{final} Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    for name in (
        "QOSMaxSubmitJobPerUserLimit",
        "QOSGrpSubmitJobsLimit",
        "MaxSubmitJobsPerAccount",
        "AssocMaxSubmitJobLimit",
        "AssocGrpSubmitJobsLimit",
    ):
        assert at_limit(f"sbatch: error: {name} | {policy}"), name
    for name in ("QOSMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "QOSGrpCpuLimit"):
        assert not at_limit(f"sbatch: error: {name} | {policy}"), "less of them has no more room"
    assert at_limit(policy), "which one isn't told"
    assert not at_limit(f"sbatch: error: mind MaxSubmit | {final} Invalid account")


def test_f61_warnings_of_a_taken_job_are_kept() -> None:
    """F61: exit status 0 and words on stderr: a note of the site's."""
    done = judge(Completed(["sbatch"], 0, b"17\n", b"sbatch: note: project ends soon\nsbatch: lua: hello\n"))
    assert (done.outcome, done.message) == (Outcome.SUBMITTED, "sbatch: note: project ends soon | sbatch: lua: hello")


@pytest.mark.parametrize("code", [1, 255])
@pytest.mark.parametrize(
    "stderr",
    ["sbatch: error: Batch job submission failed: Invalid account\n", "sbatch: error: the site's log is full\n", ""],
)
def test_a_job_that_is_named_is_no_refusal(code: int, stderr: str) -> None:
    """A wrapper of the site's may fail behind the submission."""
    assert outcome(code, stderr, "17\n") is Outcome.OPEN


@pytest.mark.parametrize(
    "stderr",
    [
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
        "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received\n",
        "sbatch: error: Batch job submission failed: Unexpected message received\n",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
        "sbatch: error: Batch job submission failed: Unable to contact slurm controller (send failure)\n",
        "sbatch: error: slurm_receive_msg: Socket timed out on send/recv operation\nsbatch: error: "
        "Batch job submission "
        "failed: Invalid account\n",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\nsbatch: error: "
        "Batch job submission failed: Socket timed out on send/recv operation\n",
        "sbatch: error: Batch job submission failed: Connection refused\n",
        "sbatch: error: Batch job submission failed: Protocol authentication error\n",
        "sbatch: error: Batch job submission failed: Incomplete packet\n",
        "sbatch: error: Batch job submission failed: No error\n",
        "sbatch: error: slurm_unpack_received_msg: Header lengths are longer than data received\n",
        "sbatch: error: slurm_receive_msgs: [[ctl]:6817] failed: Zero Bytes were transmitted or received\n"
        "sbatch: error: Batch job submission failed: Invalid account\n",
        "sbatch: note: project ends soon\n",
        "site wrapper: error: no\n",
        "wrapper: line 3: logger: command not found\n",
        "",
        "Killed\n",
        "some words that nobody has heard before\n",
    ],
)
@pytest.mark.parametrize("code", [1, 255, -9])
def test_f10_an_unknown_outcome_is_never_a_refusal(stderr: str, code: int) -> None:
    """F10, F14: after a lost reply, a killed client or an unheard-of message the job may be queued all the same."""
    assert outcome(code, stderr) is Outcome.OPEN


def test_f13_a_time_out_is_an_unknown_outcome() -> None:
    """F13: also where the client had said something by then."""
    assert outcome(-15, "sbatch: error: Batch job submission failed: Invalid account\n", "5\n", True) is Outcome.OPEN
    assert slurm.SUBMIT_SECONDS >= 200  # sbatch itself retries for about 120 s


@pytest.mark.parametrize(
    "stderr",
    [
        "",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n",
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
    ],
)
def test_an_acknowledged_job_is_submitted_whatever_stderr_says(stderr: str) -> None:
    """Exit status 0 with an id is an acknowledgement: sbatch retries by itself and reports its errors all the same."""
    assert outcome(0, stderr, "banner\n17;c\n") is Outcome.SUBMITTED


@pytest.mark.parametrize("stdout", ["", "Submitted!\n", "hello 17 times\n"])
def test_success_without_an_id_is_an_unknown_outcome(stdout: str) -> None:
    """A wrapper swallowed the id: the job is looked up, not sent again at once."""
    assert outcome(0, "", stdout) is Outcome.OPEN


def test_f39_stderr_need_not_be_utf8() -> None:
    """F39: a message in another encoding is shown as well as it can be."""
    done = judge(Completed(["sbatch"], 1, b"", b"sbatch: error: Batch job submission failed: \xff\xfe\n"))
    assert done.outcome is Outcome.REFUSED
    done.message.encode("utf-8")


# --- states


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (WAITING, JobState.WAITING),
        (ACTIVE, JobState.ACTIVE),
        (FAILED, JobState.FAILED),
        ("COMPLETED", JobState.COMPLETED),
    ],
)
def test_f20_every_state_of_slurm_has_a_class(words: str, state: JobState) -> None:
    """F20: alone, followed by more words, and with the plus sign of a cut column."""
    for word in words.split():
        for spelt in (word, f"{word} by 1000", f"{word}+", f" {word} "):
            assert classify(spelt) is state, spelt


def test_f20_cancelled_by_a_user_is_failed() -> None:
    """F20: sacct says who it was."""
    assert classify("CANCELLED by 1000") is JobState.FAILED


@RELAXED
@given(st.text())
@example("")
@example("   ")
@example("completed")
@example("DONE")
@example("COMPLETED_WITH_JOY")
@example("POWERING_DOWN")
@example("FAILEDX")
@example("+")
def test_f20_an_unheard_of_word_is_unknown(word: str) -> None:
    """F20: never a crash, never done, never failed."""
    known = {*WAITING.split(), *ACTIVE.split(), *FAILED.split(), "COMPLETED", "REQUEUE_FED", "REVOKED"}
    if not word.strip() or word.split(maxsplit=1)[0].rstrip("+") not in known:
        assert classify(word) is JobState.UNKNOWN


# --- squeue


def row(
    job: object = 17,
    index: str = "3",
    word: str = "RUNNING",
    reason: str = "None",
    used: str = "0:01",
    command: str = "/x/sbatch.sh",
    workdir: str = "/x",
    sluid: str = "",
    start: str = "N/A",
) -> str:
    """Return a line in the format that squeue_argv asks for."""
    values = {
        "%F": str(job),
        "%K": index,
        "%T": word,
        "%r": reason,
        "%M": used,
        "%18S": f"{start[:18]:18}",
        "%s": sluid,
        "%o": command,
        "%Z": workdir,
    }
    form = commands.squeue_argv()[commands.squeue_argv().index("-o") + 1]
    for field, value in values.items():
        assert field in form
        form = form.replace(field, value.replace("%", "\0"))
    return form.replace("\0", "%")


# The same on 22.05, 24.11 and 26.05.
HEADER = row("ARRAY_JOB_ID", "ARRAY_TASK_ID", "STATE", "REASON", "TIME", "COMMAND", "WORK_DIR", "SLUID", "START_TIME")


def queue(*rows: str) -> str:
    """Return what squeue prints for these rows."""
    return "".join(f"{line}\n" for line in (HEADER, *rows))


def read(*rows: str) -> list[Sighting]:
    """Return what a whole answer with these rows says."""
    found, problem = parse_squeue(queue(*rows))
    assert problem is None
    return found


def tasks(*rows: str) -> list[int | None]:
    """Return all indices that are named; None for a row that names none."""
    return named(read(*rows))


def named(found: Sequence[Sighting]) -> list[int | None]:
    return [index for seen in found for index in (seen.indices if seen.indices is not None else (None,))]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("3", [3]),
        ("0", [0]),
        ("0-3", [0, 1, 2, 3]),
        ("1,4-5", [1, 4, 5]),
        ("5-6%2", [5, 6]),
        ("2-4%1", [2, 3, 4]),
        ("0-8:4", [0, 4, 8]),
        ("0-8:4%1", [0, 4, 8]),
        ("N/A", [None]),
        ("", [None]),
        ("53...%2", [None]),
        ("1,7,13,...", [None]),
    ],
)
def test_indices_of_a_row(index: str, expected: list[int | None]) -> None:
    """A row stands for a task, for several, or (not an array, a cut list) for the whole job."""
    assert tasks(row(index=index)) == expected


def test_every_field_arrives() -> None:
    """The scheduler's own word and reason are kept verbatim; free text comes last and may hold the separator."""
    (seen,) = read(row(17, "3", "SPECIAL_EXIT", "JobHeldUser", "1-02:03:04", str(RUN.script), str(RUN.cwd)))
    assert seen == Sighting(
        "17",
        [3],
        JobState.WAITING,
        "SPECIAL_EXIT",
        "JobHeldUser",
        f"{RUN.script}|{RUN.cwd}",
        used="1-02:03:04",
        start="N/A",
    )
    assert (seen.elapsed, seen.began) == (93784, None)
    assert Snapshot((seen,)).of_run(RUN, ()) == [seen]


def test_f306_when_an_attempt_began_is_known_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """F306: in the time zone of who asks, from both witnesses; so little of it that more rows are alike."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        (seen,) = read(row(17, "3", "COMPLETED", start="2026-07-01T12:00:09"))
        assert (seen.start, seen.began) == ("2026-07-01T12:00:0", 1782900000.0)
        told = parse_sacct("17_3|COMPLETED|0:0|60|2026-07-01T12:00:09|/a|sbatch x\n17_4|PENDING|0:0|0|Unknown|/a|b\n")
        assert [(one.start, one.began, one.place) for one in told] == [
            ("2026-07-01T12:00:0", 1782900000.0, "/a|sbatch x"),
            ("Unknown", None, "/a|b"),
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_between_rows_a_site_may_print_what_it_likes() -> None:
    """A site's notice, the newlines of a name, the lines that -M puts in between: the rows count."""
    text = "\n".join(
        [
            "slurm_load_jobs: notice",
            "",
            "CLUSTER: a",
            HEADER,
            row(5, "1", workdir="/x\ny|\n/z"),
            "CLUSTER: b",
            HEADER,
            row(5, "2"),
            "have fun",
            "",
        ]
    )
    found, problem = parse_squeue(text)
    assert (named(found), problem) == ([1, 2], None)
    assert found[0].place == "/x/sbatch.sh|/x\ny|\n/z"


def test_f52_no_jobs_at_all_is_an_answer_and_silence_is_none() -> None:
    """F52: squeue prints its header also where there is nothing to tell."""
    assert parse_squeue(queue()) == ([], None)
    assert parse_squeue("") == ([], "squeue said nothing")
    assert parse_squeue("\n") == ([], "squeue said nothing")


@pytest.mark.parametrize(
    "text",
    [
        "Bad gateway\n",
        "<html>\n" * 50,
        "5|1|RUNNING|None|0:01|c|w\n",
        row(5, "1") + "\n",
        queue("name|x|"),
        queue(row("a", "1")),
        queue(row(5, "1").replace("RUNNING|", "")),
        "\0" * 500,
    ],
)
def test_f52_garbage_is_no_answer(text: str) -> None:
    """F52: what isn't a header and rows proves nothing, and the words that came are shown, not all of them."""
    problem = parse_squeue(text)[1] if "name|x|" not in text else "squeue's answer can't be read"
    assert problem is not None
    assert problem.startswith("squeue's answer can't be read")
    assert len(problem) < 300


@RELAXED
@given(st.data())
def test_f52_a_cut_is_recognised_wherever_it_is(data: st.DataObject) -> None:
    """F52: but for the end of a line, where nothing can tell it; what was whole counts all the same."""
    rows = [row(5, str(n), used="0:10", workdir="/a b") for n in range(4)]
    text = queue(*rows)
    cut = data.draw(st.integers(0, len(text) - 1))
    found, problem = parse_squeue(text[:cut])
    ends = [len(queue(*rows[:number])) for number in range(5)]
    assert (problem is None) is (cut in ends)
    assert named(found) == list(range(sum(end <= cut + 1 for end in ends[1:])))


@pytest.mark.parametrize(
    ("sluid", "expected"), [("s1EDM8C3HYJ800", "s1EDM8C3HYJ800"), ("%s", ""), ("", ""), ("select info", ""), ("s1", "")]
)
def test_the_name_of_an_attempt_is_told_from_what_other_versions_have_there(sluid: str, expected: str) -> None:
    """26.05 has one; 24.11 prints the letters of the format, 22.05 nothing, older ones what a plugin says."""
    (seen,) = read(row(sluid=sluid))
    assert seen.sluid == expected
    assert (seen.used, seen.place) == ("0:01", "/x/sbatch.sh|/x")


def test_f52_an_empty_field_is_nothing_told() -> None:
    """F52: a row without a state is about a job of which nothing is known."""
    (seen,) = read(row(5, "1", word=""))
    assert (seen.state, seen.word) == (JobState.UNKNOWN, "no state told")
    (told,) = parse_sacct("5_1||0:0|60|/a|sbatch x\n")
    assert (told.state, told.word) == (JobState.UNKNOWN, "no state told")


@pytest.mark.parametrize("index", ["0-", "1-3,x", "5-2", "1 2", "²", "0-99999999999999"])
def test_an_odd_index_is_no_crash(index: str) -> None:
    """What is no index list says something about the job, but not about which tasks."""
    assert sorted(tasks(row(index=index), row(index="1")), key=str) == [1, None]


pieces = st.sampled_from(["1", "23", "|", ",", "-", ":", "%", "...", "N/A", "[", "]", " ", "\n", "RUNNING", "²", "x"])


@RELAXED
@given(st.lists(pieces, max_size=30).map("".join), st.lists(pieces, max_size=5).map("".join))
def test_no_answer_at_all_raises(text: str, index: str) -> None:
    """Whatever squeue prints, rows come out or nothing does."""
    for answer in (text, row(index=index), queue(text), queue(row(index=index), text, row())):
        assert all(isinstance(seen, Sighting) for seen in parse_squeue(answer)[0])


def test_the_query_names_clusters_only_where_sbatch_did() -> None:
    """`-M` needs slurmdbd; and the states of all jobs of the user come in one call.

    Without -r: what waits of an array is one row, however large it is.
    """
    assert "-M" not in commands.squeue_argv()
    assert commands.squeue_argv(["a", "b"])[-2:] == ["-M", "a,b"]
    assert "--me" in commands.squeue_argv()
    assert "-a" in commands.squeue_argv()  # hidden partitions
    assert "-h" not in commands.squeue_argv()  # no header, no answer
    assert "-r" not in commands.squeue_argv()
    assert commands.squeue_argv()[commands.squeue_argv().index("-t") + 1] == "all"


# --- captured answers


SQUEUE_FILES = sorted((DATA / "squeue").glob("*.txt"))
SACCT_FILES = sorted((DATA / "sacct").glob("*.txt"))


def as_asked(line: str) -> str:
    """Turn a captured row (%F|%K|%T|%A|%r|%Z) into one of the format that is asked for."""
    job, index, word, _, reason, workdir = line.split("|", 5)
    return row(job, index, word, reason, "0:00", "/s/sbatch.sh", workdir)


@pytest.mark.skipif(not SQUEUE_FILES, reason="no captured answers here")
@pytest.mark.parametrize("path", SQUEUE_FILES, ids=lambda path: str(path.name))
def test_captured_answers_of_squeue(path: Path) -> None:
    """Every row that a real squeue gave is read, no state is unknown, and places keep their separators."""
    lines = path.read_text("utf-8").splitlines()
    for line in lines:
        found = read(as_asked(line))
        assert found, line
        assert {seen.word for seen in found} == {line.split("|")[2]}
        assert JobState.UNKNOWN not in {seen.state for seen in found}
        assert {seen.place for seen in found} == {"/s/sbatch.sh|" + line.split("|", 5)[5]}
    whole = read(*map(as_asked, lines))
    assert len({seen.job for seen in whole}) == 20


@pytest.mark.parametrize("version", ["20.11", "22.05", "24.11"])
def test_captured_answers_with_and_without_folding_agree(version: str) -> None:
    """One row for each task, and folded rows with whole lists, tell the same; cut lists tell of the job alone."""
    files = {name: DATA / "squeue" / f"{version}{name}.txt" for name in ("", "-folded", "-folded-full")}
    if not all(path.exists() for path in files.values()):
        pytest.skip("no captured answers here")
    seen = {
        name: {
            (item.job, index, item.state)
            for line in path.read_text("utf-8").splitlines()
            for item in read(as_asked(line))
            for index in named([item])
        }
        for name, path in files.items()
    }
    assert seen[""] == seen["-folded-full"]
    scattered = {job for job, task, _ in seen["-folded"] - seen[""] if task is None}
    assert len(scattered) == 1
    assert {item for item in seen["-folded"] if item[0] not in scattered} == {
        item for item in seen[""] if item[0] not in scattered
    }


@pytest.mark.skipif(not SACCT_FILES, reason="no captured answers here")
@pytest.mark.parametrize("path", SACCT_FILES, ids=lambda path: str(path.name))
def test_captured_answers_of_sacct(path: Path) -> None:
    """Rows of a real sacct are read with their codes; the list that 20.11 cuts without a mark is not half believed."""
    found = {}
    for line in path.read_text("utf-8").splitlines():
        _, job, state, code, elapsed, workdir = line.split("|", 5)
        hours, minutes, seconds = map(int, elapsed.split(":"))
        text = "|".join([job, state, code, str(hours * 3600 + minutes * 60 + seconds), workdir])
        rows = answers.parse_sacct(text)
        if "[" in job and "]" not in job:
            assert rows == []
            continue
        assert rows, line
        for item in rows:
            assert (item.word, item.place) == (state, workdir)
            assert f"{item.code}:{item.signal}" == code
            assert item.state is not JobState.UNKNOWN
            found.update({(item.job, index): item for index in named([item])})
    (failed,) = [item for (_, index), item in found.items() if index == 2 and item.code == 3]
    assert failed.state is JobState.FAILED
    assert [key[1] for key, item in found.items() if key[0] == failed.job and item.state is JobState.WAITING] == [5, 6]
    assert sum(item.word == "CANCELLED by 1000" for item in found.values()) >= 9


def test_the_query_of_the_accounting() -> None:
    """With ids and a beginning, or its window would start at midnight and match ids used before; no step rows."""
    argv = commands.sacct_argv(["5", "6"], [], 1.7e9)
    assert argv[:1] == ["sacct"]
    assert {"-X", "-n", "-P"} <= set(argv)
    assert argv[argv.index("-j") + 1] == "5,6"
    start = time.mktime(time.strptime(argv[argv.index("-S") + 1], "%Y-%m-%dT%H:%M:%S"))
    assert 0 < 1.7e9 - start <= 2 * 86400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MessageTimeout          = 25 sec\n", 25.0),
        ("", 10.0),
        ("MessageTimeoutX = 5\n", 10.0),
        ("Foo = 1\nMessageTimeout = 100 sec\nBar = 2\n", 100.0),
    ],
)
def test_the_message_timeout(text: str, expected: float) -> None:
    """MessageTimeout of the configuration; Slurm's default where it is not told."""
    assert limits_in(parse_config(text)).message_timeout == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Limits()),
        ("MaxArraySize            = 101\n", Limits(101)),
        ("MaxArraySizeX           = 101\nXMaxArraySize = 5\n", Limits()),
        ("SchedulerParameters     = bf_max_job_test=5,max_array_tasks=40,defer\n", Limits(1001, 40)),
        ("SchedulerParameters     = max_array_tasks=40\n", Limits(1001, 40)),
        ("SchedulerParameters     = xmax_array_tasks=40\n", Limits()),
        ("PrologEpilogTimeout     = max_array_tasks=40\n", Limits()),
        (
            "Configuration data as of 2026-11-25T10:00:00\nMaxArraySize            = 100001\n"
            "MessageTimeout          = 10 sec\nSLURM_VERSION           = 22.05.8\n",
            Limits(100001, version="22.05.8"),
        ),
    ],
)
def test_the_limits_of_arrays(text: str, expected: Limits) -> None:
    """MaxArraySize and max_array_tasks cap different things; what the configuration doesn't tell is Slurm's default."""
    assert limits_in(parse_config(text)) == expected


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        (
            "sbatch: error: Batch job submission failed: Job "
            "violates accounting/QOS policy (job submit limit, user's size "
            "and/or time limits)",
            True,
        ),
        ("sbatch: error: Batch job submission failed: Unable to create job record, try again", True),
        ("sbatch: error: AssocMaxSubmitJobLimit", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            "sbatch: error: Batch job submission failed: Resource temporarily unavailable",
            True,
        ),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", True),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", False),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            False,
        ),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
    ],
)
def test_f24_a_limit_on_the_number_of_jobs_is_told_from_a_mistake(message: str, limit: bool) -> None:
    """F24: only after such a refusal can fewer tasks, or the same later, be taken."""
    assert at_limit(message) is limit


# --- what is asked for


def sent(*specs: str, **more: object) -> Submission:
    """Return a submission of these arrays, the ids of which are 71, 72, … as far as they are sent."""
    arrays = tuple(Array(spec, 100 * number, 100) for number, spec in enumerate(specs))
    jobs = tuple(Job(str(71 + number)) for number in range(len(specs)))
    submission = Submission(1, "slurm", range(100 * len(specs)), arrays, "ab", 1.5, "o", True, jobs=jobs)
    return submission._replace(**more)  # type: ignore[arg-type]


def test_the_command_that_submits() -> None:
    """Given options stand before the script and so outrank its lines; the answer is to be parsable."""
    assert commands.sbatch_argv(RUN, sent("0-9"), 0) == ["sbatch", "--parsable", FIRST]
    assert commands.sbatch_argv(RUN, sent("0-9", options=("--mem=1G",)), 0) == [
        "sbatch",
        "--parsable",
        "--mem=1G",
        FIRST,
    ]


def test_the_command_for_a_further_array() -> None:
    """The script holds the first array; its lines for the others are outranked: indices, logs, dependency."""
    submission = sent("0-99", "0-99", options=("--mem=1G",), dependency="afterok:5", unique_output="out_%A_%a.log")
    assert commands.sbatch_argv(RUN, submission, 0) == ["sbatch", "--parsable", "--mem=1G", FIRST]
    assert commands.sbatch_argv(RUN, submission, 1) == [
        "sbatch",
        "--parsable",
        "--mem=1G",
        "--array=0-99",
        "--output=out_%A_%a.log",
        "--dependency=afterok:5",
        SECOND,
    ]
    assert commands.sbatch_argv(RUN, sent("0-99", "0-99"), 1) == [
        "sbatch",
        "--parsable",
        "--array=0-99",
        "--dependency=",
        SECOND,
    ]


def test_more_arrays_than_tasks_may_run_at_a_time_take_turns() -> None:
    """Each waits for the end, good or bad, of the one that it follows, and for what the whole submission waits for."""
    submission = sent("0-99%1", "0-99%1", "0-99%1", "0-49%1", throttle=2)
    turns = [None, None, "afterany:71", "afterany:72"]
    assert [commands.behind(submission, position) for position in range(4)] == turns
    behind = submission._replace(dependency="afterok:5:6")
    assert [commands.behind(behind, position) for position in range(4)] == [
        "afterok:5:6",
        "afterok:5:6",
        "afterok:5:6,afterany:71",
        "afterok:5:6,afterany:72",
    ]
    shared = sent("0-99%2", "0-99%1", throttle=3)
    assert [commands.behind(shared, position) for position in range(2)] == [None, None]


@pytest.mark.parametrize(
    "option",
    [
        "--array=1",
        "--arr=1",
        "-a",
        "-a1-3",
        "--dependency=",
        "-d",
        "--wrap=x",
        "--chdir=/",
        "-D/",
        "--wait",
        "-W",
        "--parsable",
        "--test-only",
        "-M",
        "--clusters=x",
        "x",
        "--cluster=x",
        "-HD/tmp",
        "-Ha 1",
        "--quiet",
        "-Q",
        "--external",
        "--wai",
        "--dep=singleton",
        "--usa",
        "",
    ],
)
def test_f25_options_that_break_the_contract_are_refused(option: str) -> None:
    """F25: what ESIS sets itself can't be given, however it is abbreviated."""
    with pytest.raises(BadInput):
        commands.check_options([option])


@pytest.mark.parametrize(
    "options",
    [
        ["--time=5", "other.sh"],
        ["--time", "5", "other.sh"],
        ["other.sh", "--time=5"],
        ["--hold", "other.sh"],
        ["--exclusive", "other.sh"],
        ["-H", "other.sh"],
        ["--", "other.sh"],
        ["--nice", "5"],
        ["-n4", "-", "--time=5"],
        ["--of-a-plugin", "other.sh"],
    ],
)
def test_f60_a_word_that_sbatch_would_take_for_the_script_is_refused(options: list[str]) -> None:
    """F60: `--time=5 other.sh` would submit other.sh; which options take the next word is known."""
    with pytest.raises(BadInput, match=r"take it for the script|write --of-a-plugin=other\.sh"):
        commands.check_options(options)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--mem=1G"],
        ["-A", "acc"],
        ["--time", "2-0"],
        ["-p", "array"],
        ["-t5"],
        ["--account=dependency"],
        ["-A", "acc", "-Ht", "5"],
        ["--of-a-plugin=x"],
        ["--export", "ALL", "--nice=5"],
        ["--wait-all-nodes=1"],
    ],
)
def test_other_options_may_be_given(options: list[str]) -> None:
    """Everything else is the user's business."""
    commands.check_options(options)


@RELAXED
@given(st.sets(st.integers(0, 3_000_000), min_size=1, max_size=300).map(sorted), st.booleans())
def test_cancelling_names_exactly_the_wanted_positions(positions: list[int], pending_only: bool) -> None:
    """However scattered, each position is named once, and no list is longer than Slurm takes."""
    found: list[int] = []
    for argv in commands.scancel_argvs(Job("20"), positions, pending_only):
        assert ("-t" in argv) is pending_only
        job, _, ranges = argv[-1].partition("_[")
        assert (job, ranges[-1]) == ("20", "]")
        assert len(argv[-1]) < 4000
        found += [task for task in tasks(row(index=ranges[:-1])) if task is not None]
    assert found == positions


def test_f12_the_cluster_that_sbatch_named_is_named_again() -> None:
    """F12: `id;cluster` is asked for and acted on there; without one no cluster is named, for -M needs slurmdbd."""
    far = Job("20", "west")
    assert commands.scancel_argvs(far, [1], pending_only=False) == [["scancel", "-M", "west", "20_[1]"]]
    assert commands.update_argv(far, "ArrayTaskThrottle=2") == [
        "scontrol",
        "-M",
        "west",
        "update",
        "jobid=20",
        "ArrayTaskThrottle=2",
    ]
    assert commands.squeue_argv(["east", "west"])[-2:] == ["-M", "east,west"]
    assert commands.sacct_argv(["20"], ["west"], 1.7e9)[-2:] == ["-M", "west"]
    for argv in (
        commands.squeue_argv(),
        commands.sacct_argv(["20"], [], 1.7e9),
        commands.update_argv(Job("20"), "x=1"),
        *commands.scancel_argvs(Job("20"), [1], pending_only=False),
    ):
        assert "-M" not in argv


@pytest.mark.parametrize(
    ("parse", "line"),
    [
        (parse_sacct, "{job}_{index}|{word}|0:0|60|/a|b_c"),
        (lambda text: parse_squeue(f"{HEADER}\n{text}")[0], "esis|{job}|{index}|{word}|None|0:01||/a|b_c|end"),
    ],
)
def test_lines_that_differ_in_the_element_alone_are_read_like_any_other(
    parse: Callable[[str], list[Sighting]], line: str
) -> None:
    """They are folded into one sighting, which tells of each element what its own line would."""
    elements = [("7", "0"), ("7", "1"), ("9", "2"), ("7", "[3-5]"), ("7", "²"), ("x", "1"), ("7", "8"), ("7", "6")]
    lines = [
        line.format(job=job, index=index, word="FAILED" if index == "6" else "COMPLETED") for job, index in elements
    ]
    together = parse("\n".join(lines) + "\n")
    assert each(together) == each([seen for line in lines for seen in parse(line)])
    assert {(job, index) for job, index, *_ in each(together)} >= {("7", 0), ("7", 1), ("7", 8), ("9", 2), ("7", 6)}
    assert [seen.indices for seen in together][:3] == [[0, 1, 8], [2], [6]]


def test_f111_what_has_a_row_of_its_own_is_not_in_the_rest() -> None:
    """F111: seen on 22.05: the list of the rest that was cancelled still holds elements which had just begun."""
    place = "|/a/cwd|sbatch --parsable /a/sbatch.sh"
    lines = [
        f"7_0|COMPLETED|0:0|6{place}",
        f"7_2|COMPLETED|0:0|6{place}",
        f"7_3|TIMEOUT|0:0|60{place}",
        f"7_[2-5,9%2]|CANCELLED by 1000|0:0|0{place}",
        f"7_[2-3]|CANCELLED by 1000|0:0|0{place}",
        f"7_[0-3]|CANCELLED by 1000|0:0|0{place} of another job with that id",
        f"8_[0-3]|PENDING|0:0|0{place}",
        f"7|CANCELLED by 1000|0:0|0{place}",
    ]
    found = [(seen.job, seen.indices and list(seen.indices), seen.word) for seen in parse_sacct("\n".join(lines))]
    assert found == [
        ("7", [0, 2], "COMPLETED"),
        ("7", [3], "TIMEOUT"),
        ("7", [4, 5, 9], "CANCELLED by 1000"),
        ("7", [0, 1, 2, 3], "CANCELLED by 1000"),
        ("8", [0, 1, 2, 3], "PENDING"),
        ("7", None, "CANCELLED by 1000"),
    ]
    without = [
        (seen.job, seen.indices and list(seen.indices), seen.word) for seen in parse_sacct("\n".join(lines), False)
    ]
    assert without == found[1:]


def test_what_is_completed_can_be_left_out() -> None:
    """By the state alone: a directory may be called whatever it likes."""
    lines = [
        "7_0|COMPLETED|0:0|60|/a",
        "7_1|FAILED|1:0|60|/a|COMPLETED|0:0",
        "7|COMPLETED|0:0|60|/a",
        "",
        "7_2|CANCELLED by 1000|0:0|60|/a",
        "COMPLETED",
        "7_[3-5]|COMPLETED|0:0|60|/a",
        "7_9|COMPLETEDX|0:0|1|/a",
    ]
    text = "\n".join(lines) + "\n"
    assert each(parse_sacct(text, completed=False)) == [
        told for told in each(parse_sacct(text)) if told[2] is not JobState.COMPLETED
    ]
    assert len(each(parse_sacct(text, completed=False))) == 3
    assert [seen.word for seen in parse_sacct(text, completed=False, besides={"7_0"})].count("COMPLETED") == 1
    rest = "\n".join(lines[:6])  # without what is left of an array
    assert [seen.word for seen in parse_sacct(rest, completed=False, besides={"7_0"})].count("COMPLETED") == 1
    assert len(each(parse_sacct(rest, completed=False, besides={"7_8"}))) == 2


def each(found: Sequence[Sighting]) -> list[tuple[object, ...]]:
    """Return what is told of each element, sorted."""
    told = [
        (seen.job, index, *seen[2:])
        for seen in found
        for index in (seen.indices if seen.indices is not None else (None,))
    ]
    return sorted(told, key=str)


@pytest.mark.parametrize(("clusters", "expected"), [((), [""]), (("all",), [""]), (("b", "a"), ["b", "a"])])
def test_f146_the_limits_of_the_named_clusters_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, clusters: Sequence[str], expected: Sequence[str]
) -> None:
    """F146: `--clusters=all` is no name that scontrol takes; those of the default one are better than none."""
    asked: list[str] = []

    def answer(cluster: str) -> tuple[Mapping[str, str], str | None]:
        asked.append(cluster)
        return {"MaxArraySize": "2000"}, None

    monkeypatch.setattr("esis.schedulers.config.ask_config", answer)
    limits = slurm.Slurm().limits(clusters)
    assert limits is not None
    assert (asked, limits.max_array_size) == (expected, 2000)
