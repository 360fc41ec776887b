"""The command line: ``kiptail`` and ``kiptail parse``; :mod:`kiptail.cli.commands` has the others."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO

import click

from kiptail import __version__, stdio
from kiptail.cli import logs
from kiptail.cli.commands import COMMANDS
from kiptail.cli.ending import run_command
from kiptail.cli.flags import flags, merged
from kiptail.cli.progress import Progress
from kiptail.cli.report import report_command
from kiptail.config import options
from kiptail.config.options import OPTIONS
from kiptail.config.settings import Settings, resolve
from kiptail.errors import KiptailError
from kiptail.netfilter.log_text import LINE_LIMIT, LogText
from kiptail.netfilter.prefixes import Prefixes

__all__ = ["main"]


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[COMMAND]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@flags(OPTIONS)
@click.version_option(__version__, message="kiptail %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **given: object) -> None:
    """Tell the owners of pods which of their packets a firewall rule dropped.

    Follows the kernel's netfilter log lines in the systemd journal, finds the pods behind the addresses and posts
    Kubernetes Events, which `kubectl describe pod` shows. Without a command it runs until it is stopped; try it
    with --dry-run first, which writes nothing to the cluster.

    Every option can also be set in a TOML file (see --config) or as an environment variable: --log-level is
    KIPTAIL_LOG_LEVEL; several values are written one per line.
    """
    ctx.obj = given
    if ctx.invoked_subcommand is not None:
        return
    settings = _resolve(given)
    if settings.dry_run:
        stdio.require_output()
    logs.configure(settings.log_level, drops=settings.log_drops, style=settings.log_format)
    from kiptail.daemon.run import run  # noqa: PLC0415 - the cluster client costs half a second that `parse` saves

    # What is printed meanwhile would run into the bar.
    if settings.follow or settings.log_drops or not settings.dry_run:
        ctx.exit(run(settings))
    with Progress() as progress:
        code = run(settings, progress)
    ctx.exit(code)


@cli.command("parse")
@flags([options.CONFIG, options.PREFIX, options.PROFILE])
@click.pass_context
def parse_command(ctx: click.Context, /, **given: object) -> None:
    """Read log lines from the standard input and print what was understood, one JSON object per line.

    A line may have a header of any kind before the prefix, or be a JSON document (`journalctl -o json`) with the
    kernel's line in it. Lines without one of the prefixes give nothing; when no line had one, a line on the standard
    error says so. A line with one that cannot be read gives an object with "error" and "line".
    """
    prefixes = Prefixes(_resolve(merged(ctx.obj, given)).prefixes)
    if sys.stdin is None:
        raise KiptailError("the standard input is closed")
    stdio.require_output()
    text = LogText(prefixes)
    try:
        for line in _lines(sys.stdin.buffer):
            for answer in text.read(line):
                sys.stdout.write(json.dumps(answer) + "\n")
            # For each line at once: whoever follows a log wants to see it now.
            sys.stdout.flush()
    except OSError as error:
        raise KiptailError(f"cannot read the standard input: {error.strerror}") from error
    if remark := text.remark():
        stdio.say(f"kiptail: {remark}")


for _command in (*COMMANDS, report_command):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit, as :func:`~kiptail.cli.ending.run_command`."""
    run_command(cli, "kiptail", arguments)


def _resolve(given: dict[str, object]) -> Settings:
    return resolve(given, os.environ, now_us=time.time_ns() // 1000)


def _lines(stream: BinaryIO) -> Iterator[str]:
    while line := stream.readline(LINE_LIMIT):
        yield line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        while line and not line.endswith(b"\n") and len(line) == LINE_LIMIT:
            line = stream.readline(LINE_LIMIT)
