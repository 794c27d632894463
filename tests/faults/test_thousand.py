"""A scan of a thousand tasks, seven of which fail."""

from __future__ import annotations

import json

import pytest

from tests.faults.bench import Bench, only_run
from tests.faults.conftest import FULL

BROKEN = {17: 3, 18: 3, 19: 3, 400: 7, 731: 3, 998: 7, 999: 1}  # task: exit code
WORKER = (
    '#!/bin/sh\necho x >>"did.$SLURM_ARRAY_TASK_ID"\n[ -e ../mended ] && exit 0\n'
    "case $SLURM_ARRAY_TASK_ID in\n" + "".join(f"{task}) exit {code};;\n" for task, code in BROKEN.items()) + "esac\n"
)


@pytest.mark.parametrize("first", [0, 1] if FULL else [0])
def test_of_a_thousand_tasks_the_seven_that_failed_are_named_and_rerun(bench: Bench, first: int) -> None:
    """Status names them and why, resubmit reruns exactly these, the run becomes complete and satisfies a requirement.

    With MaxArraySize 1001 as everywhere: indices 0-999; ci/faults also tries 1-1000.
    """
    place = bench.workflow("a", 1000, worker=WORKER)
    if first:
        text = (place / "gen.sh").read_text().replace("n=0; while [ $n -lt 1000 ]", "n=1; while [ $n -le 1000 ]")
        (place / "gen.sh").write_text(text)
    child = bench.workflow("b", requires=["a"])
    bench.esis(place, "run", "-m", "0").ok()
    bench.slurm.run(parallel=4)
    lines = bench.esis(place, "status").ok().stdout.splitlines()[1:]
    assert lines[0].split("\t")[:2] == ["done", "993"]
    failed = {line.split("\t")[3]: line.split("\t")[2] for line in lines[1:]}
    shown = json.loads(bench.esis(place, "status", "--json").ok().stdout)["states"]
    assert shown["failed"]["count"] == 7
    reasons = {"exit code 1": "999", "exit code 3": "17-19,731", "exit code 7": "400,998"}
    assert shown["failed"]["reasons"] == reasons
    assert failed == reasons or len(failed) == 1
    assert bench.esis(child, "run").code == 3
    (only_run(place) / "mended").touch()
    bench.esis(place, "resubmit").ok()
    record = json.loads((only_run(place) / "__esis__/submissions/0002.json").read_text())
    assert record["tasks"] == "17-19,400,731,998-999"
    bench.slurm.run(parallel=4)
    assert bench.states(place) == {"done": 1000}
    times = {path.name: len(path.read_text().splitlines()) for path in (only_run(place) / "cwd").glob("did.*")}
    assert times == {f"did.{task}": 2 if task in BROKEN else 1 for task in range(first, first + 1000)}
    assert (only_run(place) / "__esis__/completed.state").read_text() == "1"
    bench.esis(child, "run").ok()
    bench.slurm.run()
    assert bench.states(child) == {"done": 3}
