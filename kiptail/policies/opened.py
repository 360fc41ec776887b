"""What added rules open beside the connection that they are meant for (pure)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kiptail.policies.ends import End, Pod, shown
from kiptail.policies.evaluate import Case, Direction, Rules, allowed
from kiptail.policies.policy import Peer, Policy
from kiptail.policies.selector import listed
from kiptail.policies.workload import same_workload

__all__ = ["Addition", "opened"]

#: Pairs of pods that are looked at.
_MOST_PAIRS = 20_000
_MOST_NAMED = 50


@dataclass(frozen=True, slots=True)
class Addition:
    """A rule that was added."""

    direction: Direction
    #: With the rule.
    policy: Policy
    #: The one peer of the rule.
    peer: Peer
    #: Whom policy and peer are meant for.
    own: Pod
    other: End


def opened(additions: Iterable[Addition], case: Case, after: Rules, pods: Sequence[Pod]) -> Iterator[str]:
    """Notes about what opens beside the two workloads; ``after`` are the rules with the additions."""
    connection = case.connection
    if connection.protocol is None:
        yield "a rule cannot admit ICMP alone: without ports it opens all of them, of every protocol"
    for end in (connection.source, connection.destination):
        if isinstance(end, Pod) and end.host_network:
            yield f"{end.ref} has its node's address: the rule is for that, and so for whatever else is on the node"
    pairs = itertools.chain.from_iterable(_other_pairs(addition, pods) for addition in additions)
    found: dict[str, None] = {}
    for source, destination in itertools.islice(pairs, _MOST_PAIRS):
        other = replace(connection, source=source, destination=destination)
        if allowed(other, after) and not allowed(other, case.rules):
            found[f"{_called(source)} → {_called(destination)}"] = None
    if found:
        yield f"this also opens {listed(found, _MOST_NAMED)}: labels do not tell them apart"
    if next(pairs, None) is not None:
        yield "whether it opens more was not looked at in full, for there are too many pods"


def _other_pairs(addition: Addition, pods: Sequence[Pod]) -> Iterator[tuple[End, End]]:
    """Sources and destinations that a rule is for, but those of which both are of the workloads it is meant for."""
    own = [
        pod
        for pod in pods
        if pod.namespace == addition.policy.namespace and addition.policy.selects.matches(pod.labels)
    ]
    peers = _peers(addition, pods)
    meant, others = _parted(own, addition.own)
    meant_peers, other_peers = _parted(peers, addition.other)
    for one, peer in itertools.chain(
        itertools.product(others, [*meant_peers, *other_peers]), itertools.product(meant, other_peers)
    ):
        yield (peer, one) if addition.direction == "ingress" else (one, peer)


def _peers(addition: Addition, pods: Sequence[Pod]) -> Sequence[End]:
    """Whom the rule names: pods, or an address."""
    other, selector = addition.other, addition.peer.pods
    if not isinstance(other, Pod) or selector is None:
        return [other]
    return [pod for pod in pods if pod.namespace == other.namespace and selector.matches(pod.labels)]


def _parted(ends: Sequence[End], meant: End) -> tuple[list[End], list[End]]:
    """Those of the same workload, and the others."""
    same = [end for end in ends if _same(end, meant)]
    return same, [end for end in ends if not _same(end, meant)]


def _same(end: End, meant: End) -> bool:
    if isinstance(end, Pod) and isinstance(meant, Pod):
        return same_workload(end, meant)
    return end == meant


def _called(end: End) -> str:
    return end.ref if isinstance(end, Pod) else shown(end.address)
