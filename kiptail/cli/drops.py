"""``kubectl drops``: the command line of ``kubectl-drops``, which kubectl finds by its name."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from kiptail import __version__, stdio
from kiptail.admin.node_kubeconfig import administrators_kubeconfigs
from kiptail.cli.ending import run_command
from kiptail.cli.flags import merged, value_of
from kiptail.config import values
from kiptail.config.values import Moment, checked
from kiptail.credentials.kubeconfig import context_namespace, read_kubeconfigs
from kiptail.drops import owned
from kiptail.drops.follow import Follower
from kiptail.drops.live import Appended, Drawn, follow
from kiptail.drops.questions import MOST, questions
from kiptail.drops.requests import list_rows, refused, with_known_pods
from kiptail.drops.table import SORTS, Columns, Style, as_document, as_names, in_order
from kiptail.drops.wanted import Wanted
from kiptail.errors import ApiError, KiptailError, SettingsError
from kiptail.kube.event_reads import EventReader
from kiptail.kube.object_names import is_namespace
from kiptail.text import one_line, plural

__all__ = ["drops", "main"]

_PROGRAM = "kubectl-drops"
_REASON = "PacketDrop"
_FORMS = ("table", "wide", "json", "name")


def _of_cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say which namespace of which cluster, as kubectl's."""
    for option in (
        click.option("--reason", metavar="REASON", help=f"Which Events: those of this reason. [default: {_REASON}]"),
        click.option("-s", "--server", metavar="URL", help="Address of the API server. [default: the kubeconfig's]"),
        click.option("--context", metavar="NAME", help="Which of its contexts to use."),
        click.option(
            "--kubeconfig", metavar="FILE", help="Whose rights to use. [default: $KUBECONFIG, ~/.kube/config]"
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
@click.option("--for", "owner", metavar="KIND/NAME",
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
    cluster = _Cluster.of(given)
    target = None if given["owner"] is None else checked("--for", given["owner"], owned.target)
    # As with kubectl, -A wins over -n.
    wanted = _wanted(given, "" if given["everywhere"] else cluster.namespace(given), target)
    _show(cluster, wanted, given)


@drops.command("explain")
@_of_cluster
@click.argument("pods", metavar="POD...", nargs=-1, required=True)
@click.pass_context
def explain_command(ctx: click.Context, /, pods: tuple[str, ...], **given: Any) -> None:
    """Say of each connection that a pod lost packets of which NetworkPolicies do not admit it, and what would.

    POD is a pod, or a workload as in --for. This is `kiptail explain` for each connection, and takes the right to list
    pods and networkpolicies as well.
    """
    stdio.require_output()
    given = merged(ctx.obj, given)
    cluster = _Cluster.of(given)
    namespace = cluster.namespace(given)
    targets = [checked("POD", pod, owned.target) for pod in pods]
    for at, target in enumerate(targets):
        if at:
            stdio.write("\n")
        _explain(cluster, _wanted(given, namespace, target), target)


@dataclass(frozen=True, slots=True)
class _Cluster:
    """Where to ask, and as whom."""

    kubeconfigs: tuple[Path, ...]
    context: str | None
    server: str | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> _Cluster:
        """By the flags and the environment."""
        named = value_of(given, "kubeconfig", values.path)
        return cls(
            (named,) if named is not None else administrators_kubeconfigs(os.environ),
            value_of(given, "context", values.context),
            value_of(given, "server", values.server_url),
        )

    def namespace(self, given: Mapping[str, Any]) -> str:
        """The one that was given, else the context's. Raises SettingsError, ClusterError."""
        name, source = given.get("namespace"), "--namespace"
        if name is None:
            source = "the kubeconfig"
            name = context_namespace(read_kubeconfigs(self.kubeconfigs), self.context) or "default"
        if not is_namespace(name):
            raise SettingsError(f"{source}: {values.quoted(name)} is no namespace's name")
        return name

    @contextlib.contextmanager
    def events(self, wanted: Wanted) -> Iterator[EventReader]:
        """A client, for the block that reads these Events. Raises ClusterError, also of ApiErrors in that block."""
        api = EventReader.from_kubeconfig(*self.kubeconfigs, context=self.context, server=self.server)
        with contextlib.closing(api):
            try:
                yield api
            except ApiError as error:
                raise refused(error, wanted) from error


def _wanted(given: Mapping[str, Any], namespace: str, target: owned.Target | None) -> Wanted:
    since, reason = given.get("since"), given.get("reason")
    return Wanted(
        namespace=namespace,
        reason=_REASON if reason is None else checked("--reason", reason, values.event_reason),
        target=target,
        since=None if since is None else checked("--since", since, _since),
    )


def _since(text: str) -> Moment:
    """As kubectl has it, ``10m``, and as kiptail has it, ``-10m`` and times."""
    try:
        return Moment(-int(values.duration(text) * 1e6), relative=True)
    except ValueError:
        return values.moment(text)


def _show(cluster: _Cluster, wanted: Wanted, given: Mapping[str, Any]) -> None:
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


def _explain(cluster: _Cluster, wanted: Wanted, target: owned.Target) -> None:
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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit, as :func:`~kiptail.cli.ending.run_command`."""
    run_command(drops, _PROGRAM, arguments)
