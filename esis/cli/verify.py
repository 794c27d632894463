"""`esis verify`."""

from __future__ import annotations

from pathlib import Path

import click

from esis.cli.common import json_option, pick_run, say
from esis.errors import ExitCode, printable


@click.command()
@click.argument("target", required=False, metavar="[ARCHIVE | WRKDIR | WORKFLOW FILE]")
@json_option
def verify(target: str | None, as_json: bool) -> int:
    """Check an archive, unpacked or not, or a run: all checksums, and that the hash belongs to the scripts.

    An archive is read without unpacking it. Prints a line for each problem; the exit code is 1 if there is any.
    """
    from esis.operations.archive.reader import is_archive, is_unpacked
    from esis.operations.archive.verify import verify_archive, verify_run, verify_unpacked

    path = Path(target) if target is not None else Path()
    if target is not None and is_archive(path):
        report = verify_archive(path)
    elif is_unpacked(path):
        report = verify_unpacked(path)
    else:
        run = pick_run(target)
        report = verify_unpacked(run.path) if is_unpacked(run.path) else verify_run(run)
    if as_json:
        from esis.cli.json_output import show_object

        show_object(
            {
                "path": str(report.path),
                "kind": report.kind,
                "hash": report.digest,
                "files": report.files,
                "ok": not report.problems,
                "problems": [{"path": problem.path, "what": problem.what} for problem in report.problems],
                "unknown": [{"path": item.path, "what": item.what} for item in report.unknown],
            }
        )
    else:
        for problem in report.problems:
            click.echo(printable(f"{problem.path}: {problem.what}"))
    for item in report.unknown:
        say(f"{report.path}: made by ESIS 0.0.4, which doesn't keep everything: {item.path} {item.what}")
    count = len(report.problems)
    files = f"{report.files} file{'s' if report.files != 1 else ''}"
    if count:
        say(f"{report.path}: {count} problem{'s' if count != 1 else ''} ({files} looked at)")
        return ExitCode.FAILURE
    if report.unknown:
        say(f"{report.path}: nothing that can be checked was changed ({files} looked at)")
        return ExitCode.OK
    say(
        f"{report.path}: {files} as they were, and the hash belongs to them"
        if report.kind != "run"
        else f"{report.path}: the hash belongs to its {files}"
    )
    return ExitCode.OK
