"""``kiptail report``."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kiptail import stdio
from kiptail.cli import logs
from kiptail.cli.commands import UNITS_ENVIRONMENT, read_environment, require_place
from kiptail.cli.flags import flags, merged
from kiptail.cli.progress import Progress
from kiptail.config import options, values
from kiptail.config.settings import resolve
from kiptail.config.values import checked
from kiptail.errors import KiptailError, SettingsError
from kiptail.text import one_line

if TYPE_CHECKING:
    from kiptail.report.run import Output

__all__ = ["report_command"]

_SETTINGS = (
    options.CONFIG,
    options.PREFIX,
    options.PROFILE,
    options.PODS,
    options.KUBECONFIG,
    options.CONTEXT,
    options.SERVER,
    options.NODE_NAME,
    options.JOURNAL_DIRECTORY,
    options.JOURNAL_FILE,
)
_MOST_ROWS = 10_000


@click.command("report")
@flags(_SETTINGS)
@click.option(
    "--since", metavar="TIME", help="The first moment to report, as of kiptail. [default: the journal's start]"
)
@click.option("--until", metavar="TIME", help="The moment with which the report ends. [default: the journal's end]")
@click.option("--from", "counted_by", metavar="auto|lines|records",
              help="What to count packets by: the kernel's lines, kiptail's own flow records, or lines, with the names"
              " that records give, and records of machines without any. [default: auto]")  # fmt: skip
@click.option("--policies", metavar="FILE", multiple=True,
              help="Say which of the packets these NetworkPolicies, JSON or YAML, would admit if there were no others;"
              " can be given several times, and be a directory. Pods' labels are those of --pods or the"
              " cluster.")  # fmt: skip
@click.option("--by", type=click.Choice(["pod", "workload", "namespace"]), default="pod", show_default=True,
              help="What the ends of flows are added up by.")  # fmt: skip
@click.option("--top", "most", metavar="NUMBER", default="10", show_default=True, help="How many rows the tables have.")
@click.option("--output", metavar="text|json|csv|html", help="What to write. [default: text]")
@click.option("--out", metavar="FILE", help="The file to write. [default: the standard output]")
@click.pass_context
def report_command(
    ctx: click.Context, /, by: str, most: str, out: str | None, policies: tuple[str, ...], **given: object
) -> None:
    """Add up whose packets were dropped, to where and when, by the journal of this machine or a recorded one.

    Reads the kernel's log lines, all of them, and changes nothing. Pods are named as they were then by kiptail's own
    flow records in the journal; else by --pods, or as the cluster knows them today: who had an address earlier and is
    gone is shown by the address. json and csv have a row for each flow; html is one page that needs nothing else.

    Settings are those of the service: its configuration file, and the variables in /etc/default/kiptail.
    """
    now_us = time.time_ns() // 1000
    given = merged(ctx.obj, given)
    # What is asked for goes by flags alone: the service's own --since and --output are about something else.
    since_us, until_us = _period(given.pop("since", None), given.pop("until", None), now_us)
    form, counted_by = given.pop("output", None), given.pop("counted_by", None)
    output: Output = checked(
        "--output", "text" if form is None else str(form), values.choice("text", "json", "csv", "html")
    )
    counted_by = checked(
        "--from", "auto" if counted_by is None else str(counted_by), values.choice("auto", "lines", "records")
    )
    tried = tuple(checked("--policies", each, values.path) for each in policies)
    rows = checked("--top", most, lambda text: values.whole_number(text, least=1, most=_MOST_ROWS))
    environ = {**read_environment(UNITS_ENVIRONMENT), **os.environ}
    # Nothing is written to a cluster, and reading ends.
    settings = resolve(
        {**given, "dry_run": True, "no_follow": True}, environ, now_us=now_us, need_prefix=counted_by != "records"
    )
    if out is None:
        stdio.require_output()
    else:
        # Before the journal is read, which can take minutes.
        require_place(checked("--out", out, values.path))
    logs.configure("warning", style=settings.log_format)
    if until_us is None and settings.journal_directory is None and not settings.journal_files:
        until_us = now_us
    from kiptail.report import run  # noqa: PLC0415 - 50 ms that other commands do without

    wanted = run.Wanted(
        settings=settings,
        period=run.Period(since_us, until_us),
        policies=tried,
        counted_by=run.CountedBy(counted_by),
        cluster_named=any(given.get(option.key) for option in (options.KUBECONFIG, options.CONTEXT, options.SERVER)),
        by=run.By(by),
        most=rows,
        output=output,
    )
    with contextlib.ExitStack() as shown:
        report = run.made(wanted, lambda what: shown.enter_context(Progress(what)))
    if output != "text":
        for remark in report.remarks:
            stdio.say(f"kiptail: {one_line(remark)}")
    screen = run.Screen(shutil.get_terminal_size().columns, blocks=_has_blocks("utf-8" if out else sys.stdout.encoding))
    pieces = run.written(report, wanted, screen)
    if out is None:
        for piece in pieces:
            stdio.write(piece)
    else:
        _save(Path(out), pieces)


def _period(since: object, until: object, now_us: int) -> tuple[int | None, int | None]:
    since_us, until_us = _moment("--since", since, now_us), _moment("--until", until, now_us)
    if since_us is not None and until_us is not None and until_us <= since_us:
        raise SettingsError("--until: is not later than --since")
    return since_us, until_us


def _moment(flag: str, text: object, now_us: int) -> int | None:
    if text is None:
        return None
    us = checked(flag, str(text), values.moment).at(now_us)
    if us < 0:
        raise SettingsError(f"{flag}: lies before 1970")
    return us


def _has_blocks(encoding: str) -> bool:
    """Whether a text in this encoding can have what a chart is made of."""
    try:
        "▁█→".encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _save(path: Path, pieces: Iterable[str]) -> None:
    """Write the file: all of it, or what there was stays; into a pipe or a device as it comes."""
    try:
        if path.exists() and not path.is_file():
            _write_into(path, "w", pieces)
            return
        path = path.resolve()
        whole = path.with_name(f".{path.name[:200]}.{os.getpid()}")
        # Never by a name that somebody else has put there.
        _write_into(whole, "x", pieces)
        try:
            whole.replace(path)
        except OSError:
            whole.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KiptailError(f"--out: cannot write {one_line(str(path))}: {error.strerror}") from error


def _write_into(path: Path, mode: str, pieces: Iterable[str]) -> None:
    file = path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")
    try:
        with file:
            file.writelines(pieces)
    except OSError:
        if mode == "x":
            path.unlink(missing_ok=True)
        raise
