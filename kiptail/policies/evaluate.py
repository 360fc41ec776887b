"""Whether NetworkPolicies admit a connection, at each of its ends (pure).

A connection needs both: egress of the source pod, and ingress of the destination pod. Policies only admit; a pod that
none selects for a direction is open in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kiptail.policies.ends import Connection, End, Outside, Pod, address_of
from kiptail.policies.policy import METADATA_NAME, Address, Peer, Policy, Port, Rule

__all__ = [
    "Case",
    "Direction",
    "Rules",
    "Verdict",
    "admits",
    "allowed",
    "best_family",
    "passes",
    "peer_matches",
    "port_matches",
    "verdicts",
]

Direction: TypeAlias = Literal["egress", "ingress"]


class Rules:
    """The policies, by namespace, and the namespaces' labels, which their selectors look at. It does not change."""

    def __init__(self, policies: Iterable[Policy], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        """Of each name the last one counts. A namespace that is not in ``namespaces`` has its name for a label."""
        self._namespaces = {name: {**labels, METADATA_NAME: name} for name, labels in namespaces.items()}
        known = {policy.ref: policy for policy in policies}
        #: By namespace, in the order of their names.
        self._policies: dict[str, list[Policy]] = {}
        for _, policy in sorted(known.items()):
            self._policies.setdefault(policy.namespace, []).append(policy)

    @classmethod
    def joined(cls, parts: Iterable[Rules], namespaces: Mapping[str, Mapping[str, str]]) -> Rules:
        """The policies of all ``parts``, each of other namespaces, with these labels; takes next to no time."""
        made = cls((), namespaces)
        for part in parts:
            made._policies |= part._policies
        return made

    def labels(self, namespace: str) -> Mapping[str, str]:
        """The namespace's labels, with the one that every namespace has."""
        return self._namespaces.get(namespace) or {METADATA_NAME: namespace}

    def policies(self, namespace: str) -> Sequence[Policy]:
        """Those of a namespace, by name."""
        return self._policies.get(namespace, ())

    def isolating(self, pod: Pod, direction: Direction) -> tuple[Policy, ...]:
        """The policies that select the pod for this direction."""
        if pod.host_network:
            return ()
        return tuple(
            policy
            for policy in self.policies(pod.namespace)
            if policy.rules(direction) is not None and policy.selects.matches(pod.labels)
        )

    def with_policies(self, policies: Iterable[Policy]) -> Rules:
        """The same with these added, or in the place of those with their names."""
        return Rules([*itertools.chain.from_iterable(self._policies.values()), *policies], self._namespaces)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say at one end."""

    direction: Direction
    pod: Pod
    isolated_by: tuple[Policy, ...]
    #: Those of them with a rule that admits the connection.
    allowed_by: tuple[Policy, ...]
    #: Why it is allowed whatever the policies say; "" where only they count.
    exempt: str = ""

    @property
    def allowed(self) -> bool:
        """Whether this end lets the connection through."""
        return not self.isolated_by or bool(self.allowed_by) or bool(self.exempt)


@dataclass(frozen=True, slots=True)
class Case:
    """A connection over one address family, under some rules."""

    connection: Connection
    rules: Rules
    #: 4 or 6; None where no address is known: no ipBlock matches anything then.
    family: int | None

    def peer(self, direction: Direction) -> End:
        """Who is at the other end, seen from the one that ``direction`` is of."""
        return self.connection.destination if direction == "egress" else self.connection.source

    def address(self, direction: Direction) -> Address | None:
        """The peer's address."""
        return address_of(self.peer(direction), self.family)


def allowed(connection: Connection, rules: Rules) -> bool:
    """Whether both ends let it through, over any address family that they have in common."""
    return any(passes(Case(connection, rules, family)) for family in connection.families())


def best_family(connection: Connection, rules: Rules) -> int | None:
    """The family over which it is allowed, else the first one, else None."""
    families = connection.families()
    for family in families:
        if passes(Case(connection, rules, family)):
            return family
    return next(iter(families), None)


def passes(case: Case) -> bool:
    """Whether both ends let it through."""
    return all(verdict.allowed for verdict in verdicts(case))


def verdicts(case: Case) -> tuple[Verdict, ...]:
    """What each end that is a pod says, the source first."""
    ends: tuple[tuple[Direction, End], ...] = (
        ("egress", case.connection.source),
        ("ingress", case.connection.destination),
    )
    return tuple(_verdict(end, direction, case) for direction, end in ends if isinstance(end, Pod))


def _verdict(pod: Pod, direction: Direction, case: Case) -> Verdict:
    isolating = case.rules.isolating(pod, direction)
    admitting = tuple(
        policy
        for policy in isolating
        if any(admits(rule, policy.namespace, direction, case) for rule in policy.rules(direction) or ())
    )
    return Verdict(direction, pod, isolating, admitting, _exemption(pod, case.peer(direction)))


def admits(rule: Rule, namespace: str, direction: Direction, case: Case) -> bool:
    """Whether a rule of a policy in ``namespace`` admits the connection."""
    if rule.ports and not any(port_matches(port, case.connection) for port in rule.ports):
        return False
    return not rule.peers or any(peer_matches(peer, namespace, direction, case) for peer in rule.peers)


def peer_matches(peer: Peer, namespace: str, direction: Direction, case: Case) -> bool:
    """Whether the other end is a peer that a rule of a policy in ``namespace`` names."""
    if peer.block is not None:
        address = case.address(direction)
        return address is not None and peer.block.holds(address)
    end = case.peer(direction)
    if isinstance(end, Outside) or end.host_network:
        return False
    if peer.namespaces is None:
        if end.namespace != namespace:
            return False
    elif not peer.namespaces.matches(case.rules.labels(end.namespace)):
        return False
    return peer.pods is None or peer.pods.matches(end.labels)


def port_matches(port: Port, connection: Connection) -> bool:
    """Whether that is the connection's port. What has no ports matches none."""
    wanted = connection.port
    if wanted is None or port.protocol != connection.protocol:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, str):
        destination = connection.destination
        return isinstance(destination, Pod) and wanted in destination.numbers(port.port, port.protocol)
    return port.port <= wanted <= (port.end or port.port)


def _exemption(pod: Pod, peer: End) -> str:
    """What every implementation lets through: a pod's traffic with itself, and with its own node (for probes)."""
    if isinstance(peer, Pod) and peer.ref == pod.ref:
        return "a pod always reaches itself"
    if isinstance(peer, Outside):
        its_node = peer.address in pod.node_addresses
    else:
        its_node = peer.host_network and bool(pod.node) and peer.node == pod.node
    return "traffic between a pod and its own node is always allowed" if its_node else ""
