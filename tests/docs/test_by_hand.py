"""The recipes of `esis doc by-hand` that read a run without ESIS are right for every form that a run may have."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.worker.conftest import make_run

PAGE = Path(__file__).parents[2] / "esis/docs/by-hand.md"

# What is known of tasks 1 to 6: done; failed; failed, then done; done, as Slurm alone knows; saved its state; killed.
# Of task 7 there is nothing.
NAMES = """\
1.0001.41.0.1700000000.exit0.1700000009
2.0001.41.0.1700000000.exit3.1700000009
3.0001.41.0.1700000000.slurm-TIMEOUT.1700000009
3.0002.52.0.1700000100.exit0.1700000109
4.0001.41.0.1700000000.slurm-COMPLETED.1700000009
5.0001.41.0.1700000000.resumable.1700000009
6.0001.41.0.1700000000.running
""".split()


def recipe(begin: str, uses: str = "") -> str:
    """Return the block behind the line that begins so; and in front of it the one that it uses."""
    text = PAGE.read_text("utf-8")
    block = text[text.index(f"\n{begin}") :].split("\n\n")[1]
    assert block.startswith("    ")
    before = recipe(uses).replace("records | grep '^3\\.'", "#") + "\n" if uses else ""
    return before + textwrap.dedent(block)


@pytest.mark.parametrize("records", ["files", "folded", "both"])
@pytest.mark.parametrize("parameters", ["files", "lines", "lines, the last one open"])
def test_f296_the_tasks_that_failed_or_never_ended_well_are_listed(
    tmp_path: Path, parameters: str, records: str
) -> None:
    """F296: with parameters.jsonl none was listed, and of folded records all."""
    run = make_run(tmp_path / "it's a $HOME")
    first = 1 if parameters == "files" else 0
    if parameters == "files":
        for task in range(first, 8):
            run.parameter_file(task).write_text("{}")
    else:
        run.parameters_lines.write_text("{}\n" * 7 + ("{}" if "open" in parameters else "{}\n\n"))
        run.parameters_index.write_text("")
        run.parameter_file(6).write_text("{}")  # as a task that runs has it, or was killed with it
    folded = {"files": 0, "folded": len(NAMES), "both": 4}[records]
    if folded:
        run.folded_tasks.write_text("".join(f'{name} {{"host": "n.exit0.1"}}\n' for name in NAMES[:folded]))
    for name in NAMES[folded:]:
        (run.tasks / name).write_text("{}\n")

    def shown(script: str) -> list[int]:
        done = subprocess.run(["sh", "-c", script], cwd=run.path, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [int(line) for line in done.stdout.split()]

    uses = "The records of the tasks"
    assert shown(recipe("Tasks that never ended well", uses)) == [*range(first, 1), 2, 5, 6, 7]
    assert shown(recipe("Failed tasks", uses)) == [2, 3, 5]
