"""A name of a log leads back to the tasks whose log it is, for every kind of array."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esis.model.limits import Limits
from esis.operations.submission.arrays import Packing, plan
from esis.records.log_names import LogKind, RunLogs, unique_output, written_output
from esis.records.submissions import Job, Submission

SCRIPT = "#!/bin/sh\n#SBATCH -J 'my job' -o {output}{more}\ntrue\n"
OUTPUTS = [
    "slurm-%A_%a.out",
    "log_%a.txt",
    "%x/%3a.%u",
    "%A%a",
    "%j-%a",
    "%N_%a_%b",
    "../logs/%A/%a",
    "all.log",
    r"\%a",
]


def submission(
    script: str, number: int, tasks: Sequence[int], size: int, per_job: int, scheduler: str = "slurm"
) -> Submission:
    limits = Limits(max_array_size=size) if scheduler == "slurm" else None
    made = plan(tasks, 0, limits, Packing(per_job, 1) if scheduler == "slurm" else Packing(1, 1))
    jobs = tuple(Job(str(100 * number + position)) for position in range(len(made.arrays)))
    return Submission(
        number=number,
        scheduler=scheduler,
        tasks=tasks,
        arrays=made.arrays,
        mapped=made.mapped,
        per_job=per_job if scheduler == "slurm" else 1,
        script_digest="",
        created=0.0,
        owner="",
        records=True,
        jobs=jobs,
        output=written_output(script, ()),
        unique_output=unique_output(script, ()),
    )


def owners(logs: RunLogs, name: str) -> set[tuple[LogKind, int]]:
    """Return whose log a name is, by all patterns."""
    return {
        (owner.stream, task)
        for pattern in logs.series
        for reading in logs.read(pattern, name)
        for owner in logs.owners(pattern, reading)
        for task in owner.tasks
    }


@given(
    st.sampled_from(OUTPUTS),
    st.sampled_from(["", " -e err_%a"]),
    st.sets(st.integers(0, 60), min_size=1),
    st.integers(1, 40),
    st.sampled_from([1, 1, 3]),
    st.sampled_from(["slurm", "slurm", "local"]),
    st.data(),
)
def test_the_name_of_a_tasks_log_leads_back_to_it(
    output: str, more: str, tasks: set[int], size: int, per_job: int, scheduler: str, data: st.DataObject
) -> None:
    """Whatever array it is in; where the name holds job and index it leads to nothing else."""
    script = SCRIPT.format(output=output, more=more)
    first = submission(script, 1, range(61), 1000, 1)
    second = submission(script, 2, sorted(tasks), size, per_job, scheduler)
    logs = RunLogs([first, second], script, "ada")
    task = data.draw(st.sampled_from(sorted(tasks)))
    for stream in (LogKind.OUTPUT, LogKind.ERROR) if more and per_job == 1 else (LogKind.OUTPUT,):
        (name, *_) = logs.of(second).of_task(task, None, {"j": "77", "N": "node-1"}, stream)
        found = owners(logs, str(name))
        assert (stream, task) in found
        if "%A" in output and output != "%A%a" and stream is LogKind.OUTPUT:
            assert found == {(stream, task)}


def test_an_offset_leads_to_other_tasks() -> None:
    """Of ten tasks where four fit into an array, index 1 of the second one is task 5."""
    script = SCRIPT.format(output="log_%a.txt", more="")
    logs = RunLogs([submission(script, 1, range(10), 4, 1)], script, "ada")
    assert owners(logs, "log_1.txt") == {(LogKind.OUTPUT, 1)}
    assert owners(logs, "log_101_1.txt") == {(LogKind.OUTPUT, 5)}
    assert owners(logs, "log_102_1.txt") == {(LogKind.OUTPUT, 9)}


def test_a_map_leads_to_other_tasks_than_the_array_before() -> None:
    """A later submission of scattered tasks has names of its own, and the old ones stay those of the old tasks."""
    script = SCRIPT.format(output="log_%a.txt", more="")
    scattered = submission(script, 2, [3, 500, 900, 1300], 3, 1)
    assert scattered.mapped
    logs = RunLogs([submission(script, 1, range(2000), 3000, 1), scattered], script, "ada")
    assert owners(logs, "log_1.txt") == {(LogKind.OUTPUT, 1)}
    assert owners(logs, "log_200_1.txt") == {(LogKind.OUTPUT, 500)}
    assert owners(logs, "log_201_0.txt") == {(LogKind.OUTPUT, 1300)}


def test_a_local_run_of_scattered_tasks_has_the_tasks_in_its_names() -> None:
    """Its tasks need no list: each is a process that is told its task."""
    script = SCRIPT.format(output="log_%a.txt", more="")
    scattered = submission(script, 1, list(range(0, 60000, 3)), 1001, 1, "local")
    assert not scattered.mapped
    logs = RunLogs([scattered], script, "ada")
    assert str(logs.of(scattered).of_task(300, None, {})[0]) == "log_300.txt"
    assert owners(logs, "log_300.txt") == {(LogKind.OUTPUT, 300)}


def test_a_pack_has_a_log_for_each_task_and_one_of_its_own() -> None:
    script = SCRIPT.format(output="slurm-%A_%a.out", more="")
    logs = RunLogs([submission(script, 1, range(7), 1000, 3)], script, "ada")
    assert owners(logs, "slurm-100_task4.out") == {(LogKind.OUTPUT, 4)}
    assert owners(logs, "slurm-100_1.out") == {(LogKind.PACK, task) for task in (3, 4, 5)}


def test_a_name_without_index_is_that_of_all_tasks() -> None:
    """All tasks of an array share the file; of several arrays those of the one whose id it holds."""
    script = SCRIPT.format(output="%A.log", more="")
    logs = RunLogs([submission(script, 1, range(6), 4, 1)], script, "ada")
    assert owners(logs, "100.log") == {(LogKind.OUTPUT, task) for task in range(4)}
    assert owners(logs, "101.log") == {(LogKind.OUTPUT, 4), (LogKind.OUTPUT, 5)}


def test_error_output_of_several_arrays_is_shared() -> None:
    """Nothing keeps it apart where the script's name doesn't."""
    script = SCRIPT.format(output="%A_%a", more=" -e err_%a")
    logs = RunLogs([submission(script, 1, range(6), 4, 1)], script, "ada")
    assert owners(logs, "err_1") == {(LogKind.ERROR, 1), (LogKind.ERROR, 5)}


def test_names_of_what_was_submitted_by_hand_are_those_of_the_script() -> None:
    """Also where ESIS itself would have given another name; they count where such a job left records."""
    script = SCRIPT.format(output="log_%a.txt", more="")
    later = submission(script, 2, [5, 500, 900, 1300], 3, 1)
    before = submission(script, 1, range(2000), 3000, 1)
    names = [str(RunLogs([before, later], script, "ada").of(later).of_task(900, job, {})[0]) for job in (None, "77")]
    assert names == ["log_200_2.txt", "log_2.txt"]
    assert owners(RunLogs([before, later], script, "ada", {"100", "200"}), "log_2.txt") == {(LogKind.OUTPUT, 2)}
    assert owners(RunLogs([before, later], script, "ada", {"77"}), "log_2.txt") == {
        (LogKind.OUTPUT, 2),
        (LogKind.OUTPUT, 900),
    }


@pytest.mark.parametrize("name", ["log_1.txt.bak", "log_x.txt", "slurm-1_2.out", "log_01.txt"])
def test_other_files_belong_to_nobody(name: str) -> None:
    script = SCRIPT.format(output="log_%a.txt", more="")
    assert owners(RunLogs([submission(script, 1, range(10), 4, 1)], script, "ada"), name) == set()
