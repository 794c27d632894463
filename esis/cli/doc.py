"""`esis doc`."""

from __future__ import annotations

import sys

import click

from esis.errors import BadInput

INDEX = "index"


@click.command()
@click.argument("topic", default=INDEX)
def doc(topic: str) -> None:
    """Show a topic of the documentation; without one, the list of topics."""
    from importlib import resources

    known = topics()
    if topic not in known:
        raise BadInput(f"there is no topic {topic!r}", f"the topics are: {', '.join(known)}")
    text = resources.files("esis.docs").joinpath(f"{topic}.md").read_text("utf-8")
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    with console.pager(styles=True) if console.height < len(text.splitlines()) else console:
        console.print(Markdown(text))


def topics() -> list[str]:
    """Return the names of all topics."""
    from importlib import resources

    return sorted(item.name[:-3] for item in resources.files("esis.docs").iterdir() if item.name.endswith(".md"))
