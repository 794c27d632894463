"""Hold the command `esis`: its subcommands, loaded when used, and the one place where errors become exit codes."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from esis.cli.streams import guard, open_closed, what_was_lost
from esis.errors import EsisError, ExitCode, FileTrouble, printable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Name, module, function, help in one line. The lines stand here so that `esis --help` imports no command.
COMMANDS: Mapping[str, tuple[str, str, str]] = {
    "setup": ("esis.cli.setup", "setup", "Describe a workflow by its four files."),
    "require": ("esis.cli.require", "require", "Let a workflow require the run of another one."),
    "list-requirements": ("esis.cli.require", "list_requirements", "Show what a workflow requires."),
    "freeze-requirement": ("esis.cli.require", "freeze_requirement", "Pin a requirement to one run."),
    "run": ("esis.cli.run", "run", "Build the run of a workflow and submit its tasks."),
    "dependency": ("esis.cli.dependency", "dependency", "Run a workflow behind all that it requires."),
    "status": ("esis.cli.status", "status", "Tell the states of the tasks of a run."),
    "resubmit": ("esis.cli.resubmit", "resubmit", "Submit tasks of a run again."),
    "cancel": ("esis.cli.control", "cancel", "Cancel the tasks of a run that wait or run."),
    "throttle": ("esis.cli.control", "throttle", "Change how many tasks of a run are active at a time."),
    "wait": ("esis.cli.wait", "wait", "Wait until no task of a run is active any more."),
    "log": ("esis.cli.logs", "log", "Show the log of a task."),
    "export": ("esis.cli.export", "export", "Write parameters, states and results as one table."),
    "plot": ("esis.cli.plot", "plot", "Plot a column of the table of a run against another one."),
    "errors": ("esis.cli.logs", "errors", "Group the failed tasks by what they have in common."),
    "why": ("esis.cli.why", "why", "Tell why a workflow's hash is not that of a run."),
    "compact": ("esis.cli.compact", "compact", "Fold records and logs of a complete run into one file each."),
    "doctor": ("esis.cli.doctor", "doctor", "Look for what people get wrong in a workflow and in Slurm."),
    "list": ("esis.cli.list", "list_command", "List the runs in a directory."),
    "archive": ("esis.cli.archive", "archive", "Pack a run as an RO-Crate, for others to check and rerun."),
    "verify": ("esis.cli.verify", "verify", "Check an archive or a run against its checksums and its hash."),
    "doc": ("esis.cli.doc", "doc", "Show the documentation."),
    "completion": ("esis.cli.completion", "completion", "Print the shell code for completion."),
}


class LazyGroup(click.Group):
    """Import a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called `cmd_name`."""
        if cmd_name not in COMMANDS:
            return None
        import importlib

        module, function, summary = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), function)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{function} is no command")
        command.help = command.help or summary  # python -OO takes docstrings away
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names and options without importing a command."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=summary)
            for name, (_, _, summary) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from esis.version import VERSION

        click.echo(f"esis, version {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error; works at any place of the line.")
def cli(debug: bool) -> None:
    """Run parameter scans on Slurm clusters: isolated, reproducible, resumable.

    Four files make a workflow: a setup script, a parameter generator, an sbatch template and a worker script. Start
    with `esis doc`.
    """


def run() -> NoReturn:
    """Run the command line and exit with the code of its work, whatever became of its output."""
    open_closed()
    out = guard()
    arguments = sys.argv[1:]
    debug = "--debug" in own_part(arguments)  # anywhere: people add it to the end of the command that failed
    if debug:
        arguments.remove("--debug")
    code = guarded(arguments or ["--help"], debug)
    atexit._run_exitfuncs()  # of libraries: matplotlib may have a temporary directory to remove
    lost = what_was_lost(out)
    if lost is not None:
        code = _say(lost, code or ExitCode.FAILURE)
    sys.stderr.flush()
    # All is done and written. Python's own end would take a module apart after the other (9 of 70 ms), show a traceback
    # of a Ctrl-C, and SystemExit under PYTHONINSPECT.
    os._exit(code)


def own_part(arguments: list[str]) -> list[str]:
    """Return the arguments for ESIS; those behind `--` are for sbatch."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def guarded(arguments: list[str], debug: bool) -> int:
    """Return the exit code of the command; every error becomes one line on stderr."""
    try:
        if "" in own_part(arguments):  # most often a variable of a script that isn't set; it would mean the run here
            raise click.UsageError("one of the arguments is empty")
        result: Any = cli.main(arguments, prog_name="esis", standalone_mode=False)
        code = int(result) if isinstance(result, int) else ExitCode.OK
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        command = ctx.command_path if ctx is not None else "esis"
        return _say(f"{printable(error.format_message())}; {command} --help shows the usage", ExitCode.BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", ExitCode.INTERRUPTED)
    except EsisError as error:
        if debug:
            raise
        return _say(str(error), error.exit_code)
    except OSError as error:
        if debug:
            raise
        return _say(str(FileTrouble.of(error, _where(error))), ExitCode.FAILURE)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
            # The operating system is given names in the encoding of the locale, unless Python was told otherwise.
            lacking = f"{error.object[error.start]!a}, which the locale's encoding {error.encoding} lacks"
            return _say(f"a name holds {lacking}; set LC_ALL=C.UTF-8", ExitCode.BAD_INPUT)
        return _say(
            printable(
                f"internal error: {type(error).__name__}: {error}; please report it, with what the same "
                f"command shows with --debug"
            ),
            ExitCode.FAILURE,
        )
    return code


def _where(error: OSError) -> str:
    """Return what to say of an error that names no file."""
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return "the present directory is gone, or can't be read"
    return "the file system refused something"


def _say(text: str, code: int) -> int:
    click.echo(f"esis: {text}", err=True)
    return int(code)
