"""All that is to be said of one connection (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kiptail.policies.cluster import Objects
from kiptail.policies.ends import Connection, Outside, Pod, address_of, shown
from kiptail.policies.evaluate import Case, Rules, Verdict, allowed, best_family, passes, verdicts
from kiptail.policies.misses import Miss, misses_of
from kiptail.policies.suggest import Suggestion, suggest

__all__ = ["EndAnswer", "Explanation", "explain"]

_AS_THEY_ARE_NOW = (
    "allowed by the policies as they are now, so what dropped a packet was a policy that has changed since, a policy of"
    " another kind, or a rule of the host's own; or its address or port was translated"
)


@dataclass(frozen=True, slots=True)
class EndAnswer:
    """What the policies say at one end, and which rules do not admit the connection."""

    verdict: Verdict
    misses: list[Miss]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer."""

    connection: Connection
    #: 4 or 6: the address family of the answer; None where no address is known, or both ends have none in common.
    family: int | None
    allowed: bool
    #: Those that are pods, the source first.
    ends: list[EndAnswer]
    suggestion: Suggestion
    #: What the answer hangs on.
    notes: list[str]


def explain(connection: Connection, objects: Objects) -> Explanation:
    """Whether the policies admit it, and what would."""
    rules = objects.rules()
    case = Case(connection, rules, best_family(connection, rules))
    found = verdicts(case)
    open_now = allowed(connection, rules)
    notes = [*_of_ends(connection, objects), *_of_families(connection, rules), *_of_verdicts(found)]
    suggestion = Suggestion()
    if open_now and found:
        notes.append(_AS_THEY_ARE_NOW)
    elif connection.families() and not open_now and not _services(connection, objects):
        suggestion = suggest(case, objects.pods.values(), objects.originals)
    notes += suggestion.notes
    answers = [EndAnswer(verdict, misses_of(verdict, case)) for verdict in found]
    return Explanation(connection, case.family, open_now, answers, suggestion, notes)


def _of_ends(connection: Connection, objects: Objects) -> Iterator[str]:
    ends = (connection.source, connection.destination)
    pods = [end for end in ends if isinstance(end, Pod)]
    if not pods:
        yield "neither end is a pod: no NetworkPolicy has a say"
    for pod in pods:
        if pod.finished:
            yield f"{pod.ref} has finished: it has no traffic any more"
        if pod.host_network:
            yield f"{pod.ref} is on its node's network: no NetworkPolicy selects it, and its address is the node's"
        elif not pod.addresses:
            yield f"{pod.ref} has no address: no ipBlock was taken to match it"
    for outsider, service in _services(connection, objects):
        yield (
            f"{shown(outsider.address)} is {service}: policies see the address and port of the pod behind it, so ask"
            " about that pod; for the Service's own address no rule is suggested"
        )
    for end in ends:
        if isinstance(end, Outside) and (finished := _finished(end, objects)):
            yield f"{shown(end.address)} was the address of {finished}, which has finished: it is taken for no pod's"
        if isinstance(end, Outside) and (node := _node(end, objects)):
            yield f"{shown(end.address)} is {node}'s own address, and that of all pods on its network"


def _services(connection: Connection, objects: Objects) -> list[tuple[Outside, str]]:
    """Which of the ends are a Service's address."""
    outside = (end for end in (connection.source, connection.destination) if isinstance(end, Outside))
    named = ((end, objects.named.names.get(shown(end.address), "")) for end in outside)
    return [(end, name) for end, name in named if name.startswith("service ")]


def _node(end: Outside, objects: Objects) -> str:
    """``node/NAME``, if that is one's address."""
    named = objects.named.names.get(shown(end.address), "")
    if named.startswith("node/"):
        return named
    nodes = (pod.node for pod in objects.pods.values() if pod.node and end.address in pod.node_addresses)
    return next((f"node/{name}" for name in nodes), "")


def _finished(end: Outside, objects: Objects) -> str:
    """A pod that had the address."""
    pods = (pod for pod in objects.pods.values() if pod.finished and not pod.host_network)
    return next((pod.ref for pod in pods if end.address in pod.addresses), "")


def _of_families(connection: Connection, rules: Rules) -> Iterator[str]:
    families = connection.families()
    if not families:
        yield "the ends have no address of the same family: no connection between them is possible"
    if len(families) < 2:
        return
    passing = {family: passes(Case(connection, rules, family)) for family in families}
    if len(set(passing.values())) > 1:
        for family in (family for family in families if not passing[family]):
            pair = (address_of(end, family) for end in (connection.source, connection.destination))
            text = " → ".join(shown(address) for address in pair if address)
            yield f"over IPv{family} ({text}) it is denied: an ipBlock is of one address family"


def _of_verdicts(found: tuple[Verdict, ...]) -> Iterator[str]:
    """Why ends allow what no rule of their policies does."""
    yield from dict.fromkeys(
        verdict.exempt for verdict in found if verdict.exempt and verdict.isolated_by and not verdict.allowed_by
    )
