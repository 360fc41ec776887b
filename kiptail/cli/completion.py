"""What <TAB> offers: in shells by click, and in kubectl, which asks a plugin's ``kubectl_complete-NAME``."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete

from kiptail.cli.flags import merged
from kiptail.cli.whose_drops import Cluster, wanted_of
from kiptail.drops.requests import rows_at_once
from kiptail.errors import KiptailError
from kiptail.kube.object_names import is_name

__all__ = ["files", "kubectl_completions", "owners", "pods"]

#: What kubectl does with what it gets (cobra's ShellCompDirective), as sums of these.
_DEFAULT, _NO_SPACE, _NO_FILES = 0, 2, 4
_OWNERS = ("pod/", "deploy/", "rs/", "sts/", "ds/", "job/", "cronjob/")


def kubectl_completions(command: click.Command, program: str, arguments: Sequence[str]) -> str:
    """What kubectl reads: a line for each completion of the last argument, and one that says what to do with them."""
    *before, incomplete = arguments or [""]
    found = ShellComplete(command, {}, program, "").get_completions(before, incomplete)
    if any(item.type == "file" for item in found):
        return f":{_DEFAULT}\n"
    directive = _NO_FILES + (_NO_SPACE if any(item.value.endswith("/") for item in found) else 0)
    lines = [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in found]
    return "".join(f"{line}\n" for line in [*lines, f":{directive}"])


def files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The files there are."""
    return [CompletionItem(incomplete, type="file")]


def pods(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The namespace's pods that lost packets: one question to the cluster, and none where there is no answer."""
    given = merged(ctx.parent.params if ctx.parent else {}, ctx.params)
    try:
        cluster = Cluster.of(given)
        wanted = wanted_of({"reason": given.get("reason")}, cluster.namespace(given), None)
        with cluster.events(wanted) as api:
            names = {row.pod for row in rows_at_once(api, wanted)}
    except KiptailError:
        return []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete) and is_name(name)]


def owners(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds, and of pods the names."""
    if incomplete.startswith("pod/"):
        found = pods(ctx, parameter, incomplete.removeprefix("pod/"))
        return [CompletionItem(f"pod/{item.value}") for item in found]
    return [CompletionItem(kind) for kind in _OWNERS if kind.startswith(incomplete)]
