"""``kiptail explain``: the command line around the room ``policies``."""

from __future__ import annotations

import os

import click

from kiptail import stdio
from kiptail.cli.flags import merged, value_of
from kiptail.config import values
from kiptail.config.values import checked

__all__ = ["explain_command"]


@click.command("explain")
@click.option("--objects", metavar="FILE", multiple=True,
              help="Ask this file instead of the cluster: what `kubectl get pods,namespaces,networkpolicies -A -o json`"
              " (or yaml) prints; can be given several times, - is the standard input.")  # fmt: skip
@click.option("--output", type=click.Choice(["text", "json", "yaml"]),
              help="For people, for programs, or the suggested manifests alone. [default: text]")  # fmt: skip
@click.option("--kubeconfig", metavar="FILE",
              help="Whose rights to use. [default: $KUBECONFIG, ~/.kube/config or kubeadm's]")  # fmt: skip
@click.option("--context", metavar="NAME", help="Which of its contexts to use.")
@click.option("--server", metavar="URL", help="Address of the API server. [default: the kubeconfig's]")
@click.argument("source")
@click.argument("destination")
@click.argument("port", required=False, metavar="[PORT[/PROTOCOL]]")
@click.pass_context
def explain_command(  # noqa: PLR0917 - click passes them by name
    ctx: click.Context,
    objects: tuple[str, ...],
    output: str | None,
    kubeconfig: str | None,
    context: str | None,
    server: str | None,
    source: str,
    destination: str,
    port: str | None,
) -> None:
    """Say which NetworkPolicies admit a connection or do not, why, and what rule would let it through.

    SOURCE and DESTINATION are pods (NAMESPACE/POD) or addresses; PORT is 8080, 53/UDP or 3868/SCTP, and without one the
    question is about traffic that has no ports, as ICMP. The suggestion is the least that admits this connection:
    read it, then `kubectl apply` it. Nothing is changed.

    \b
    kiptail explain team-a/client team-b/web 8080
    kubectl get pods,namespaces,networkpolicies -A -o json >all.json
    kiptail explain --objects all.json --output yaml 10.244.1.9 team-b/web 8080
    """
    stdio.require_output()
    given = merged(ctx.obj, {"output": output, "kubeconfig": kubeconfig, "context": context, "server": server})
    from kiptail.admin import explain, node_kubeconfig  # noqa: PLC0415 - as above
    from kiptail.admin.question import question_of  # noqa: PLC0415 - likewise

    question = question_of(source, destination, port)
    if objects:
        answer = explain.explain_by_files(question, [checked("--objects", each, values.path) for each in objects])
    else:
        named = value_of(given, "kubeconfig", values.path)
        answer = explain.explain_by_cluster(
            question,
            (named,) if named is not None else node_kubeconfig.administrators_kubeconfigs(os.environ),
            context=value_of(given, "context", values.context),
            server=value_of(given, "server", values.server_url),
        )
    form = value_of(given, "output", values.choice("text", "json", "yaml")) or "text"
    stdio.write(explain.printed(answer, form))
    if form == "yaml" and not answer.suggestion.manifests:
        why = "nothing has to be added: it is allowed" if answer.allowed else "there is no rule to suggest"
        stdio.say(f"kiptail: {why}; `--output text` says more")
