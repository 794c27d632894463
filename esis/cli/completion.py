"""`esis completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the shell code for completion: eval "$(esis completion bash)"."""
    from click.shell_completion import get_completion_class

    from esis.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(found(cli, {}, "esis", "_ESIS_COMPLETE").source())
