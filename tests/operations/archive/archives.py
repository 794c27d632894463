"""A finished run with everything that an archive may have to hold, and short ways to pack and check it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from esis.model.workdir import RunDir
from esis.operations.archive.contents import Scope
from esis.operations.archive.crate import About
from esis.operations.archive.make import Made, archive
from esis.operations.archive.verify import verify_archive, verify_run, verify_unpacked
from esis.operations.witness.look import status_of
from esis.operations.witness.target import evidence_of
from esis.schedulers.base import Snapshot

BIN = Path(sys.executable).parent
HOSTILE = ["with space", "quote'\"", "dollar $HOME `id`", "back\\slash", "-dash", "ümlaut", "%41 #?&"]
ALICE, HOST = "alice-of-wonderland", "rabbithole-login7"


def make_run(home: Path, fail: str = "") -> RunDir:
    """Run three tasks here, as `esis run --local` does it; includes, links and names are of the nasty kind."""
    home.mkdir(parents=True)
    tables = home / "lib" / "tables"
    (tables / "below").mkdir(parents=True)
    (tables / "below" / "tool.sh").write_text("#!/bin/sh\necho tool\n")
    (tables / "below" / "tool.sh").chmod(0o755)
    (tables / "a.txt").write_text("a\n")
    (tables / "latest").symlink_to("below/tool.sh")
    (home / "lib" / "one.txt").write_text("one\n")
    files = {
        "setup.sh": "#!/bin/sh\nprintf 'built in %s' \"$PWD\" >built.txt\nmkdir -p tools\n"
        "printf '#!/bin/sh\\necho made\\n' >tools/made\nchmod +x tools/made\nln -s made tools/link\n",
        "gen.py": "#!/usr/bin/env python3\nfor n in range(3):\n    open(f'parameters.{n}.json', 'w').write('{}')\n"
        "print(3)\n",
        "template.sh": "#!/bin/bash\n#SBATCH --array=TASKARRAYDEFINITION\n#SBATCH --time=5\n#ESIS_PRIVATE\nset -eu\n"
        "srun WORKERSCRIPT\n",
        "my worker.sh": '#!/bin/sh\nset -e\nt=$SLURM_ARRAY_TASK_ID\necho "log of $t"\n../tools/made >made.$t\n'
        "../includes/tables/below/tool.sh >>made.$t\n"
        f"printf '{{\"n\": %s}}' $t >../results/results.$t.json\n"
        "printf 'x' >../results/results.$t.m.npy\n"
        f"{fail}\n",
    }
    for name, text in files.items():
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    (home / "wf.esis.json").write_text(
        json.dumps(
            {
                "setupscript": "setup.sh",
                "param_generator": "gen.py",
                "sbatchtemplate": "template.sh",
                "workerscript": "my worker.sh",
                "param_includes": ["lib/tables", "lib/one.txt"],
            }
        )
    )
    esis(home, "run", "--local", "-j", "2", code=8 if fail else 0)
    (path,) = home.glob("wrkdir.*")
    for name in HOSTILE:
        (path / "results" / name).write_text(name)
    return RunDir(path)


def esis(cwd: Path, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run the command, without a Slurm; return what it prints."""
    given = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))}
    done = subprocess.run(
        [str(BIN / "esis"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**given, "PATH": f"{BIN}:{os.environ['PATH']}", **(env or {})},
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def pack(
    run: RunDir, output: Path, choice: Scope | None = None, about: About | None = None, notes: list[str] | None = None
) -> Made:
    """Pack a run as the command does."""
    evidence = evidence_of(run)
    status = status_of(evidence, Snapshot())
    said = notes if notes is not None else []
    return archive(evidence_of(run), status, output, choice or Scope(), about or About(), said.append)


def unpack(path: Path, to: Path) -> Path:
    """Unpack with the stock tools; return the directory of the run."""
    to.mkdir()
    if path.name.endswith(".zip"):
        subprocess.run(["unzip", "-q", str(path), "-d", str(to)], check=True, timeout=120)
        return to
    with subprocess.Popen(["zstd", "-dc", str(path)], stdout=subprocess.PIPE) as plain:
        subprocess.run(["tar", "-x", "-C", str(to)], stdin=plain.stdout, check=True, timeout=120)
    assert plain.returncode == 0
    (top,) = to.iterdir()
    return top


def problems(path: Path) -> list[tuple[str, str]]:
    """Verify whatever `path` is; return the problems as pairs."""
    if path.is_file():
        report = verify_archive(path)
    elif RunDir(path).manifest.is_file():
        report = verify_unpacked(path)
    else:
        report = verify_run(RunDir(path))
    return [(item.path, item.what) for item in report.problems]


def copied(run: RunDir, parent: Path) -> Path:
    """Copy a run, so that it can be tampered with."""
    parent.mkdir(exist_ok=True)
    target = parent / run.path.name
    shutil.copytree(run.path, target, symlinks=True)
    for path in [target, *target.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    return target
