"""The command line: ``kiptail`` and ``kiptail parse``; :mod:`kiptail.commands` has the others."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from kiptail import __version__, logs, options
from kiptail.commands import COMMANDS
from kiptail.entry import text_of
from kiptail.errors import KiptailError, one_line
from kiptail.flags import flags
from kiptail.netfilter import Unparsed, parse, split
from kiptail.options import OPTIONS
from kiptail.prefixes import Prefixes, PrefixRule, Verdict, to_json_dict, without_log_header
from kiptail.settings import Settings, resolve
from kiptail.sinks import let_go

__all__ = ["main"]

#: Longest line that ``kiptail parse`` takes in one piece, in bytes; the rest of a longer one is dropped.
LINE_LIMIT = 65_536
#: What a write fails with where the disk is full, or breaks.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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
    KIPTAIL_LOG_LEVEL; several values go one a line.
    """
    ctx.obj = given
    if ctx.invoked_subcommand is not None:
        return
    settings = _resolve(given)
    if settings.dry_run and sys.stdout is None:
        raise KiptailError("the standard output is closed")
    logs.configure(settings.log_level, drops=settings.log_drops, style=settings.log_format)
    from kiptail.daemon import run  # noqa: PLC0415 - the cluster client costs half a second that `parse` saves

    ctx.exit(run(settings))


@cli.command("parse")
@flags([options.CONFIG, options.PREFIX])
@click.pass_context
def parse_command(ctx: click.Context, /, **given: object) -> None:
    """Read log lines from the standard input and print what was understood, one JSON object a line.

    A line may have a header of any kind before the prefix. Lines without one of the prefixes give nothing. A line with
    one that cannot be read gives an object with "error" and "line".
    """
    merged = {**ctx.obj, **{key: value for key, value in given.items() if value}}
    prefixes = Prefixes(PrefixRule(p.text, Verdict(p.verdict)) for p in _resolve(merged).prefixes)
    if sys.stdin is None or sys.stdout is None:
        raise KiptailError("the standard input or output is closed")
    try:
        for line in _lines(sys.stdin.buffer):
            answer = _understand(line, prefixes)
            if answer is not None:
                # Each at once: whoever follows a log wants to see it now.
                sys.stdout.write(json.dumps(answer) + "\n")
                sys.stdout.flush()
    except BrokenPipeError:
        let_go(sys.stdout)
    except OSError as error:
        let_go(sys.stdout)
        raise KiptailError(f"cannot read or write: {error.strerror}") from error


for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 internal error, 2 usage, 3 journal, 4 cluster, 5 state."""
    try:
        sys.exit(cli.main(args=arguments, prog_name="kiptail", standalone_mode=False) or 0)
    except KiptailError as error:
        click.echo(f"kiptail: {one_line(str(error), 2_000)}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"kiptail: {one_line(error.format_message(), 2_000)}", err=True)
        click.echo("Try 'kiptail --help'.", err=True)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        let_go(sys.stdout)
        click.echo(f"kiptail: cannot write: {error.strerror}", err=True)
        sys.exit(1)


def _resolve(given: dict[str, object]) -> Settings:
    return resolve(given, os.environ, now_us=time.time_ns() // 1000)


def _understand(line: str, prefixes: Prefixes) -> dict[str, Any] | None:
    """What ``kiptail parse`` prints of a line; None for one without a wanted prefix."""
    for candidate in (line, without_log_header(line)):
        parts = split(candidate)
        # Headers that are not known end with a blank.
        rule = prefixes.match_end(parts[0]) if parts is not None else None
        if rule is not None:
            drop = parse(candidate)
            if isinstance(drop, Unparsed):
                return {"error": drop.reason, "line": one_line(line, 1_000)}
            return to_json_dict(drop, rule)
    return None


def _lines(stream: BinaryIO) -> Iterator[str]:
    while line := stream.readline(LINE_LIMIT):
        yield text_of(line.rstrip(b"\r\n"))
        while line and not line.endswith(b"\n") and len(line) == LINE_LIMIT:
            line = stream.readline(LINE_LIMIT)
