"""``kubectl drops``: the command line of ``kubectl-drops``, which kubectl finds by its name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from kiptail import __version__, stdio
from kiptail.cli import completion
from kiptail.cli.ending import run_command
from kiptail.cli.flags import merged
from kiptail.cli.whose_drops import REASON, Cluster, wanted_of
from kiptail.config.values import checked
from kiptail.drops import owned
from kiptail.drops.follow import Follower
from kiptail.drops.live import Appended, Drawn, follow
from kiptail.drops.questions import MOST, questions
from kiptail.drops.requests import list_rows, with_known_pods
from kiptail.drops.table import SORTS, Columns, Style, as_document, as_names, in_order
from kiptail.drops.wanted import Wanted
from kiptail.errors import KiptailError
from kiptail.text import one_line, plural

__all__ = ["drops", "main"]

_PROGRAM = "kubectl-drops"
#: By this name kubectl looks for what completes a plugin's command line.
_COMPLETER = "kubectl_complete-drops"
_FORMS = ("table", "wide", "json", "name")


def _of_cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say which namespace of which cluster, as kubectl's."""
    for option in (
        click.option("--reason", metavar="REASON", help=f"Which Events: those of this reason. [default: {REASON}]"),
        click.option("-s", "--server", metavar="URL", help="Address of the API server. [default: the kubeconfig's]"),
        click.option("--context", metavar="NAME", help="Which of its contexts to use."),
        click.option(
            "--kubeconfig",
            metavar="FILE",
            help="Whose rights to use. [default: $KUBECONFIG, ~/.kube/config]",
            shell_complete=completion.files,
        ),
        click.option("-n", "--namespace", metavar="NAME", help="The namespace. [default: the context's]"),
    ):
        function = option(function)
    return function


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[explain POD...]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@_of_cluster
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="The drops of all namespaces.")
@click.option("--for", "owner", metavar="KIND/NAME", shell_complete=completion.owners,
              help="Of one pod or workload: pod/NAME, deploy/NAME, rs/, sts/, ds/, job/ or cronjob/NAME.")  # fmt: skip
@click.option("--since", metavar="TIME", help="Whose last drop was since then: 10m, 2h, or a time in ISO 8601.")
@click.option("--sort", type=click.Choice(list(SORTS)), metavar="FIELD", default="last",
              help=f"What to sort by, the greatest last: {', '.join(SORTS)}. [default: last]")  # fmt: skip
@click.option("-w", "--watch", "watching", is_flag=True,
              help="Go on with what comes: drawn anew on a terminal, else a line for each change.")  # fmt: skip
@click.option("-o", "--output", "form", type=click.Choice(_FORMS), metavar="FORM", default="table",
              help="table; wide: with addresses, nodes, texts; json; name: the pods. [default: table]")  # fmt: skip
@click.option("--no-headers", "bare", is_flag=True, help="No line with the columns' names.")
@click.version_option(__version__, message=f"{_PROGRAM} %(version)s")
@click.pass_context
def drops(ctx: click.Context, /, **given: Any) -> None:
    """Show which packets of a namespace's pods were dropped: by whom, to where, how many, when last, and why.

    It reads the Events that kiptail posts, with your own kubeconfig; the right to list events in the namespace is all
    that it takes. Those that others write for the same reason are shown as far as their texts can be read.

    \b
    kubectl drops
    kubectl drops -n team-a --for deploy/web --since 1h
    kubectl drops -A -w
    kubectl drops explain web-0
    """
    ctx.obj = given
    if ctx.invoked_subcommand is not None:
        return
    stdio.require_output()
    cluster = Cluster.of(given)
    target = None if given["owner"] is None else checked("--for", given["owner"], owned.target)
    # As with kubectl, -A wins over -n.
    wanted = wanted_of(given, "" if given["everywhere"] else cluster.namespace(given), target)
    _show(cluster, wanted, given)


@drops.command("explain")
@_of_cluster
@click.argument("pods", metavar="POD...", nargs=-1, required=True, shell_complete=completion.pods)
@click.pass_context
def explain_command(ctx: click.Context, /, pods: tuple[str, ...], **given: Any) -> None:
    """Say of each connection that a pod lost packets of which NetworkPolicies do not admit it, and what would.

    POD is a pod, or a workload as in --for. This is `kiptail explain` for each connection, and takes the right to list
    pods and networkpolicies as well.
    """
    stdio.require_output()
    given = merged(ctx.obj, given)
    cluster = Cluster.of(given)
    namespace = cluster.namespace(given)
    targets = [checked("POD", pod, owned.target) for pod in pods]
    for at, target in enumerate(targets):
        if at:
            stdio.write("\n")
        _explain(cluster, wanted_of(given, namespace, target), target)


def _show(cluster: Cluster, wanted: Wanted, given: Mapping[str, Any]) -> None:
    form, sort, terminal = given["form"], given["sort"], sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    style = Style(
        wide=form == "wide",
        namespaces=not wanted.namespace,
        headings=not given["bare"],
        colours=terminal and not os.environ.get("NO_COLOR"),
    )
    with cluster.events(wanted) as api:
        wanted = with_known_pods(api, wanted)
        if given["watching"] and terminal and form in ("table", "wide"):
            follow(Follower(api, wanted), Drawn(style, sort, wanted, stdio.write))
        if given["watching"]:
            follow(Follower(api, wanted), Appended(style, sort, wanted, stdio.write, say=_remark, form=form))
        rows, _ = list_rows(api, wanted)
    now = time.time()
    rows = in_order((row for row in rows if wanted.accepts(row, now)), sort)
    if form == "json":
        stdio.write(as_document(rows))
        return
    if not rows:
        stdio.say(f"No drops found in {wanted.where}.")
        return
    lines = as_names(rows) if form == "name" else Columns(style).table(rows, now)
    stdio.write("".join(f"{line}\n" for line in lines))


def _explain(cluster: Cluster, wanted: Wanted, target: owned.Target) -> None:
    """The answers for one pod or workload. Raises KiptailError when there is none."""
    from kiptail.admin import explain  # noqa: PLC0415 - all of the room policies, for this command alone
    from kiptail.admin.question import question_of  # noqa: PLC0415 - likewise

    with cluster.events(wanted) as api:
        wanted = with_known_pods(api, wanted)
        rows, _ = list_rows(api, wanted)
    now = time.time()
    asked, passed_over = questions(row for row in rows if wanted.accepts(row, now))
    if not asked:
        raise KiptailError(
            f"{target}: no drops in {wanted.where} are known that a NetworkPolicy could be the reason of"
        )
    if passed_over:
        _remark(f"{target}: {plural(passed_over, 'Event')} of replies or of many peers cannot be explained so")
    if len(asked) == MOST:
        _remark(f"{target}: the latest {MOST} connections are explained, at most")
    failures: list[KiptailError] = []
    for at, each in enumerate(asked):
        try:
            answer = explain.explain_by_cluster(
                question_of(*each), cluster.kubeconfigs, context=cluster.context, server=cluster.server
            )
        except KiptailError as error:
            failures.append(error)
            continue
        stdio.write(("\n" if at > len(failures) else "") + explain.printed(answer, "text"))
    if len(failures) == len(asked):
        raise failures[0]
    for line in dict.fromkeys(map(str, failures)):
        _remark(line)


def _remark(text: str) -> None:
    stdio.say(f"{_PROGRAM}: {one_line(text, 2_000)}")


def _complete() -> None:
    stdio.write(completion.kubectl_completions(drops, _PROGRAM, sys.argv[1:]))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit, as :func:`~kiptail.cli.ending.run_command`. By its other name, the program says
    how the command line could go on instead.
    """
    if Path(sys.argv[0]).name == _COMPLETER:
        run_command(click.Command(_COMPLETER, callback=_complete), _COMPLETER, [])
    run_command(drops, _PROGRAM, arguments)
