"""`esis archive`."""

from __future__ import annotations

from pathlib import Path

import click

from esis.cli.common import pick_run, say, signals_as_interrupts, target_argument


@click.command()
@target_argument
@click.option("-o", "--output", required=True, metavar="FILE", help="The archive to write: .zip or .tar.zst.")
@click.option(
    "--logs",
    type=click.Choice(["all", "failed", "none"]),
    metavar="WHICH",
    help="Logs of which tasks: all, failed (all that are not done), none.  [default: all; with --anonymous none]",
)
@click.option(
    "--cwd",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Also files below cwd/, like '*.dat' or 'plots/**'; can be given several times.",
)
@click.option("--no-prepared", is_flag=True, help="Leave out what the setup script made beside the scripts.")
@click.option("--incomplete", is_flag=True, help="Pack a run that is not complete.")
@click.option("--anonymous", is_flag=True, help="Take users, hosts, paths and git commit out of ESIS's own files.")
@click.option("--title", metavar="TEXT", help="Title of the archive.")
@click.option("--description", metavar="TEXT", help="What the scan is about.")
@click.option(
    "--author",
    "authors",
    multiple=True,
    metavar="NAME",
    help="An author, like 'Ada Lovelace <ORCID>'; can be given several times.",
)
@click.option("--license", metavar="LICENSE", help="SPDX identifier like CC-BY-4.0, or an address on the web.")
@click.option("--date", metavar="DAY", help="Day of publication.  [default: the day on which the last task ended]")
def archive(
    target: str | None,
    output: str,
    logs: str | None,
    patterns: tuple[str, ...],
    no_prepared: bool,
    incomplete: bool,
    anonymous: bool,
    title: str | None,
    description: str | None,
    authors: tuple[str, ...],
    license: str | None,
    date: str | None,
) -> None:
    """Pack a run as an RO-Crate for others to check and rerun: scripts, parameters, results, records, checksums.

    The same run gives the same file. Prints the SHA-256 of the archive and its name, as sha256sum does.
    """
    from esis.operations.archive import make as operations
    from esis.operations.archive.contents import Logs, Scope
    from esis.operations.archive.crate import About, Author
    from esis.operations.witness.keep import look_and_keep
    from esis.operations.witness.target import evidence_of
    from esis.schedulers.slurm import Slurm

    about = About(title, description, tuple(Author.parse(text) for text in authors), license, date)
    scope = Scope(Logs(logs or ("none" if anonymous else "all")), patterns, not no_prepared, anonymous)
    run, slurm = pick_run(target), Slurm()
    evidence = evidence_of(run)
    status = look_and_keep(evidence, slurm)
    operations.check_packable(evidence, status, slurm, incomplete)
    # Judging may have noted a verdict of Slurm's, or that the run is complete.
    with signals_as_interrupts():  # what is half written is large
        packed = operations.archive(evidence_of(run), status, Path(output), scope, about, say)
    if license is None:
        say("no licence is stated, so nobody knows what they may do with it; --license states one")
    if packed.telling:
        shown = ", ".join(packed.telling[:5]) + (" …" if len(packed.telling) > 5 else "")
        say(f"{len(packed.telling)} of your own files hold the name of a user, a host or a directory: {shown}")
    click.echo(f"{packed.digest}  {output}")
