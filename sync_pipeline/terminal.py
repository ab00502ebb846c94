"""Everything that commands write to the terminal; problems go through `logs.tell`.

What is written may hold names and messages from APIs and files. Control characters in them could move the cursor,
change the title, hide text or fill the clipboard, so none gets through.
"""

from typing import TYPE_CHECKING

import click

from sync_pipeline.text_safety import printable

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str, *, err: bool = False) -> None:
    """Write lines of text to standard output, or to standard error."""
    click.echo(printable(text), err=err)


def say_beside_progress(console: "Console", text: str) -> None:
    """Write a line above a progress bar, without reading rich's markup in it."""
    console.print(printable(text), markup=False, highlight=False)


def ask(question: str) -> str:
    """Ask for a line of text."""
    answer: str = click.prompt(printable(question))
    return answer


def ask_password(question: str) -> str:
    """Ask twice for a password, without showing it."""
    password: str = click.prompt(printable(question), hide_input=True, confirmation_prompt=True)
    return password


def confirm(question: str) -> None:
    """Ask a yes-or-no question, and end the command unless the answer is yes."""
    click.confirm(printable(question), abort=True)


def write_file(content: bytes) -> None:
    """Write the bytes of a file to standard output as they are, for a program or a redirection to read."""
    click.echo(content, nl=False)
