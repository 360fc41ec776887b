"""Which policies are in a connection's way, in short: what an Event says of them (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kiptail.policies.ends import Connection, Pod
from kiptail.policies.evaluate import Case, Direction, Rules, best_family, verdicts
from kiptail.policies.policy import METADATA_NAME, Policy

__all__ = ["Denial", "PolicyName", "deny", "namespaces_that_matter"]


class PolicyName(NamedTuple):
    """A NetworkPolicy, by its names."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Denial:
    """At each end that does not admit a connection, the policies that isolate its pod; none where it is admitted."""

    #: Of the source's pod.
    egress: tuple[PolicyName, ...] = ()
    #: Of the destination's.
    ingress: tuple[PolicyName, ...] = ()


def deny(connection: Connection, rules: Rules) -> Denial:
    """What is in the connection's way."""
    case = Case(connection, rules, best_family(connection, rules))
    found: dict[Direction, tuple[PolicyName, ...]] = {
        verdict.direction: tuple(PolicyName(policy.namespace, policy.name) for policy in verdict.isolated_by)
        for verdict in verdicts(case)
        if not verdict.allowed
    }
    return Denial(found.get("egress", ()), found.get("ingress", ()))


def namespaces_that_matter(connection: Connection, rules: Rules) -> frozenset[str]:
    """The namespaces whose labels may decide; of all others their name is enough."""
    ends: tuple[tuple[Direction, object, object], ...] = (
        ("egress", connection.source, connection.destination),
        ("ingress", connection.destination, connection.source),
    )
    return frozenset(
        peer.namespace
        for direction, pod, peer in ends
        if isinstance(pod, Pod) and isinstance(peer, Pod) and not peer.host_network
        if any(_selects_by_labels(policy, direction) for policy in rules.isolating(pod, direction))
    )


def _selects_by_labels(policy: Policy, direction: Direction) -> bool:
    """It has rules for namespaces by other labels than their name."""
    return any(
        requirement.key != METADATA_NAME
        for rule in policy.rules(direction) or ()
        for peer in rule.peers
        if peer.namespaces is not None
        for requirement in peer.namespaces.requirements
    )
