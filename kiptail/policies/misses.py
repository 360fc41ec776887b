"""Why rules do not admit a connection: for each the nearest miss, in words (pure).

Whatever stands in an object is cut and has no control characters; its parts are counted where there are many.
"""

from __future__ import annotations

from dataclasses import dataclass

from kiptail.policies.ends import Connection, End, Outside, Pod, range_text, shown
from kiptail.policies.evaluate import Case, Direction, Rules, Verdict, admits, peer_matches, port_matches
from kiptail.policies.policy import METADATA_NAME, Address, Block, Peer, Port, Rule
from kiptail.policies.selector import Requirement, Selector, listed

__all__ = ["Miss", "misses_of", "port_text"]

#: How far a peer that can never match is from one that matches: further than labels that differ.
_NEVER = 1_000


@dataclass(frozen=True, slots=True)
class Miss:
    """A rule that does not admit the connection."""

    #: ``NAMESPACE/NAME``.
    policy: str
    #: Its place among the policy's rules for that direction, from 0.
    rule: int
    #: "wants app=client, the peer has app=worker; allows 80/TCP, not 8080/TCP".
    reason: str
    #: How far it was from admitting it, in conditions that do not hold.
    distance: int


def misses_of(verdict: Verdict, case: Case) -> list[Miss]:
    """The rules of the isolating policies that do not admit the connection."""
    direction = verdict.direction
    return [
        Miss(policy.ref, number, *_reason(rule, policy.namespace, direction, case))
        for policy in verdict.isolated_by
        for number, rule in enumerate(policy.rules(direction) or ())
        if not admits(rule, policy.namespace, direction, case)
    ]


def port_text(connection: Connection) -> str:
    """``8080/TCP``; "" of what has no port."""
    return f"{connection.port}/{connection.protocol}" if connection.port is not None else ""


def _reason(rule: Rule, namespace: str, direction: Direction, case: Case) -> tuple[str, int]:
    reasons, distance = [], 0
    if rule.peers and not any(peer_matches(peer, namespace, direction, case) for peer in rule.peers):
        distances = (_distance(peer, namespace, direction, case) for peer in rule.peers)
        # Of those that are equally near, the first.
        distance, nearest = min(distances, key=lambda miss: miss[0])
        reasons.append(f"{nearest} (nearest of {len(rule.peers)} peers)" if len(rule.peers) > 1 else nearest)
    if rule.ports and not any(port_matches(port, case.connection) for port in rule.ports):
        ports = listed(_port_words(port, case.connection.destination) for port in rule.ports)
        wanted = port_text(case.connection)
        reasons.append(f"allows {ports}, not {wanted or 'traffic without ports, as ICMP'}")
        distance += 1
    return "; ".join(reasons), distance


def _distance(peer: Peer, namespace: str, direction: Direction, case: Case) -> tuple[int, str]:
    """How far the other end is from this peer, and what is in the way."""
    if peer.block is not None:
        return _outside_of(peer.block, case.address(direction))
    end, rules = case.peer(direction), case.rules
    if isinstance(end, Outside):
        return _NEVER, f"is for pods, and {shown(end.address)} is none's address"
    if end.host_network:
        return _NEVER, f"is for pods, and {end.ref} is on its node's network, where only an ipBlock matches"
    failed, reasons = 0, []
    if peer.namespaces is None:
        if end.namespace != namespace:
            failed = 1
            reasons.append(f"is for pods of namespace {namespace}, the peer is in {end.namespace}")
    elif missed := peer.namespaces.failed(rules.labels(end.namespace)):
        failed = len(missed)
        reasons.append(_namespace_words(missed, end.namespace, rules))
    if missed := (peer.pods or Selector()).failed(end.labels):
        failed += len(missed)
        wanted = listed(requirement.wanted() for requirement in missed)
        found = listed(requirement.found(end.labels) for requirement in missed)
        reasons.append(f"wants {wanted}, the peer has {found}")
    return failed, "; ".join(reasons)


def _namespace_words(missed: list[Requirement], namespace: str, rules: Rules) -> str:
    if len(missed) == 1 and (by_name := missed[0]).key == METADATA_NAME and by_name.operator == "In":
        return f"wants namespace {listed(by_name.values)}, the peer is in {namespace}"
    wanted = listed(requirement.wanted() for requirement in missed)
    found = listed(requirement.found(rules.labels(namespace)) for requirement in missed)
    return f"wants a namespace with {wanted}, {namespace} has {found}"


def _outside_of(block: Block, address: Address | None) -> tuple[int, str]:
    wanted = range_text(block.network)
    if address is None:
        return _NEVER, f"wants an address in {wanted}, and the peer's is not known"
    if excepted := block.excepting(address):
        return 1, f"excepts {range_text(excepted)} from {wanted}, the peer has {shown(address)}"
    # Further than one label that differs: an address cannot be changed as a label can.
    distance = 2 if address.version == block.network.version else _NEVER
    return distance, f"wants an address in {wanted}, the peer has {shown(address)}"


def _port_words(port: Port, destination: End) -> str:
    """``80/TCP``, ``80-90/TCP``, ``any TCP``, and of a name what it is at the destination."""
    if port.port is None:
        return f"any {port.protocol} port"
    if isinstance(port.port, int):
        return f"{port.port}{f'-{port.end}' if port.end else ''}/{port.protocol}"
    numbers = destination.numbers(port.port, port.protocol) if isinstance(destination, Pod) else ()
    known = f"{listed(map(str, numbers))} there" if numbers else "which the destination does not have"
    return f"{port.port}/{port.protocol} ({known})"
