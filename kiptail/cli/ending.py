"""How a command line ends: an error is one line and an exit code, whatever was asked for."""

from __future__ import annotations

import sys

import click

from kiptail import stdio
from kiptail.errors import KiptailError
from kiptail.text import one_line

__all__ = ["exit_code", "run_command"]


def run_command(command: click.Command, program: str, arguments: list[str] | None) -> None:
    """Run the command line and exit: 0 done, 1 internal error, 2 usage, 3 journal, 4 cluster, 5 state.

    Where the standard output cannot be written to is 1, too; but when nobody reads it any more the work is done.
    """
    stdio.prepare()
    sys.exit(stdio.finish(exit_code(command, program, arguments)))


def exit_code(command: click.Command, program: str, arguments: list[str] | None) -> int:
    """Run the command line; what went wrong is said on the standard error."""
    try:
        return command.main(args=arguments, prog_name=program, standalone_mode=False) or 0
    except stdio.OutputClosed:
        return 0
    except KiptailError as error:
        stdio.say(f"{program}: {one_line(str(error), 2_000)}")
        return error.exit_code
    except click.ClickException as error:
        stdio.say(f"{program}: {one_line(error.format_message(), 2_000)}")
        stdio.say(f"Try '{program} --help'.")
        return 2
    except click.Abort:
        return 130
