"""How a template calls its worker: as a command, by an interpreter, or so that nobody can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from esis.model.worker_call import Call, call_of, made_executable
from esis.model.workflow import Workflow

HEAD = "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\nset -eu\n# WORKERSCRIPT comes below\n"


@pytest.mark.parametrize(
    "body",
    [
        "WORKERSCRIPT",
        'srun "WORKERSCRIPT" --fast',
        "srun -n 4 --exclusive --mem=4G WORKERSCRIPT",
        "srun -n $SLURM_NTASKS WORKERSCRIPT &\nwait $!",
        "if ! srun WORKERSCRIPT; then exit 1; fi",
        "cd . && OMP_NUM_THREADS=4 WORKERSCRIPT",
        "/usr/bin/time -v env A=b nice -n 5 timeout 10m WORKERSCRIPT",
        "mpirun -np 4 \\\n  WORKERSCRIPT",
        "exec WORKERSCRIPT",
        "srun bash -c 'WORKERSCRIPT'",
        "srun bash -c 'cd .; exec WORKERSCRIPT'",
        "echo WORKERSCRIPT\nsrun WORKERSCRIPT",
        "out=$(srun WORKERSCRIPT)",
    ],
)
def test_f291_a_worker_that_is_a_command(body: str) -> None:
    assert call_of(HEAD + body, "t.sh") is Call.COMMAND


@pytest.mark.parametrize(
    "body",
    [
        "python3 WORKERSCRIPT",
        "srun -n 4 /opt/bin/python3.11 -u WORKERSCRIPT",
        "bash WORKERSCRIPT",
        "srun Rscript --vanilla WORKERSCRIPT",
        "srun julia -t 4 WORKERSCRIPT",
        ". WORKERSCRIPT",
        "apptainer exec image.sif python3 WORKERSCRIPT",
        "srun bash -c 'cd .; python3 WORKERSCRIPT'",
        "srun env A=b python3 'WORKERSCRIPT'",
        '"$CONDA_PREFIX/bin/python3" WORKERSCRIPT',
    ],
)
def test_f291_a_worker_that_is_read(body: str) -> None:
    assert call_of(HEAD + body, "t.sh") is Call.READ


@pytest.mark.parametrize(
    "body",
    [
        "srun $PYTHON WORKERSCRIPT",
        "srun ../includes/wrapper.sh WORKERSCRIPT",
        "apptainer exec image.sif WORKERSCRIPT",
        "w=WORKERSCRIPT\nsrun $w",
        "w=$(realpath WORKERSCRIPT)\nsrun $w",
        "chmod +x WORKERSCRIPT\nsrun WORKERSCRIPT",
        "cp WORKERSCRIPT /tmp/w; python3 /tmp/w",
        "if true; then\nsrun WORKERSCRIPT\nelse\npython3 WORKERSCRIPT\nfi",
        "hostname",
        "srun $(which python3) WORKERSCRIPT",
        "`which python3` WORKERSCRIPT",
        "python3 $(cat ../includes/flags) WORKERSCRIPT",
        'args=(WORKERSCRIPT --fast)\nsrun python3 "${args[@]}"',
        'args=(\n  WORKERSCRIPT\n)\nsrun python3 "${args[@]}"',
        "python3 <<EOF\nimport runpy\nrunpy.run_path('WORKERSCRIPT')\nEOF",
        "srun python3 -c \"exec(open('WORKERSCRIPT').read())\"",
        "cat >run.py <<EOF\nimport runpy; runpy.run_path('WORKERSCRIPT')\nEOF\npython3 run.py",
        "srun -n 4 --multi-prog WORKERSCRIPT",
        "srun WORKERSCRIPT.compiled",
        "command -v WORKERSCRIPT || exit 1",
        'set -- WORKERSCRIPT\npython3 "$@"',
        'for script in WORKERSCRIPT; do python3 "$script"; done',
    ],
)
def test_f291_where_nobody_can_tell(body: str) -> None:
    assert call_of(HEAD + body, "t.sh") is Call.UNCLEAR


def test_f291_a_template_in_another_language_is_not_judged() -> None:
    text = "#!/usr/bin/env python3\n#SBATCH --array=TASKARRAYDEFINITION\nimport runpy\nrunpy.run_path('WORKERSCRIPT')\n"
    assert call_of(text, "t.py") is Call.UNCLEAR


def test_f291_templates_of_jinja2_have_a_mark_of_their_own() -> None:
    assert call_of("#!/bin/sh\nsrun {{ worker | quote }}", "t.j2") is Call.COMMAND
    assert call_of("#!/bin/sh\nsrun python3 {{ worker }}", "t.j2") is Call.READ


@pytest.mark.parametrize(
    ("setup", "may"), [("#!/bin/sh\n", False), ("chmod +x *", True), ("cp x worker.py", True), (None, True)]
)
def test_f291_a_setup_script_may_make_it_executable(tmp_path: Path, setup: str | None, may: bool) -> None:
    (tmp_path / "gen").write_text("#!/bin/sh\n")
    if setup is not None:
        (tmp_path / "setup").write_text(setup)
    assert made_executable(Workflow(tmp_path / "wf.esis.json", "setup", "gen", "t.sh", "worker.py")) is may
