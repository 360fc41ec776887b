"""One filter: what has to hold of packets for it to leave them out (pure).

A filter is a conjunction: each key that it has must hold, and one with several values holds for any of them. What is
not known does not hold, so that nothing is left out by a guess: of a folded flow, only one address, the verdict and who
is at that address are known.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from kiptail.flows.flow import FlowKey
from kiptail.flows.left_out import LeftOut
from kiptail.policies.selector import Selector
from kiptail.quiet import noise

__all__ = ["Address", "Filter", "Network", "Packets", "Party", "Place", "PodThere", "matches_glob", "policies_of"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The end at which a pod is that did this with the packets.
_ENDS = {"sent": "src", "received": "dst"}


class Place(StrEnum):
    """Who is at an address, where that is no pod."""

    NODE = "node"
    SERVICE = "service"
    #: Nothing of the cluster, as far as it is known.
    OUTSIDE = "outside"


class PodThere(NamedTuple):
    """A pod that is, or may be, at an end."""

    namespace: str
    #: None where they are not known.
    labels: Mapping[str, str] | None = None


class Party(NamedTuple):
    """Who is at an end of a flow."""

    #: None of a pod.
    place: Place | None = None
    #: All that may be there, where that is not certain.
    pods: tuple[PodThere, ...] = ()
    #: It is this node, whose kubelet probes the other end on the flow's port.
    probes: bool = False


_NOBODY: Mapping[str, Party] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets of one flow."""

    key: FlowKey
    #: None of the many that a folded flow is about.
    src: Address | None
    dst: Address | None
    #: They reset a connection (the TCP flag RST); False where some may.
    reset: bool = False
    #: By end; empty before it is known.
    parties: Mapping[str, Party] = field(default_factory=lambda: _NOBODY)

    @classmethod
    def of(cls, key: FlowKey, *, reset: bool = False, parties: Mapping[str, Party] = _NOBODY) -> Packets:
        """Those of the flow with this key."""
        src, dst = (ipaddress.ip_address(text) if text else None for text in (key.src, key.dst))
        return cls(key, src, dst, reset, parties)

    @property
    def folded(self) -> bool:
        """They are of many flows."""
        return self.src is None or self.dst is None


# More than 12 attributes: one for each key that a filter may have.
@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What has to hold; an attribute that is empty, or None, does not matter."""

    src: tuple[Network | Place, ...] = ()
    dst: tuple[Network | Place, ...] = ()
    #: Either end.
    peer: tuple[Network | Place, ...] = ()
    #: With ``*`` and ``?``, of a pod at either end; together with ``pod`` of the same one.
    namespaces: tuple[str, ...] = ()
    pod: Selector | None = None
    #: First and last port. As a flow has it: the service's, also of a reply.
    ports: tuple[tuple[int, int], ...] = ()
    #: As :attr:`FlowKey.protocol`.
    protocols: tuple[str, ...] = ()
    #: Protocol, type, and code or None for any.
    icmp: tuple[tuple[str, int, int | None], ...] = ()
    #: ``sent`` or ``received``: what the pod did whose Event is left out.
    direction: str = ""
    #: As :attr:`FlowKey.prefix`.
    prefixes: tuple[str, ...] = ()
    #: With ``*`` and ``?``.
    policies: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()
    reply: bool | None = None
    #: A name in :data:`kiptail.quiet.noise.NOISE`.
    noise: str = ""
    reason: str = "filter"
    #: Nothing is kept of it; else it has no Event.
    everything: bool = False
    #: As somebody would write it, to be called by.
    text: str = ""

    @property
    def left_out(self) -> LeftOut:
        """What it says of packets for which it holds."""
        return LeftOut(self.reason, self.everything)

    @property
    def needs_ends(self) -> bool:
        """Lines do not tell all of it: it has to be known who is at the ends, or at which end an Event is."""
        places = any(isinstance(value, Place) for value in (*self.src, *self.dst, *self.peer))
        of_pods = bool(self.namespaces or self.direction) or self.pod is not None
        return places or of_pods or self.noise == noise.PROBES

    def holds(self, packets: Packets, end: str = "") -> bool:
        """Whether it leaves packets out, or their Event at this ``end``."""
        key = packets.key
        return (
            (not self.ports or self._has_port(key.port))
            and (not self.protocols or key.protocol in self.protocols)
            and (not self.verdicts or key.verdict in self.verdicts)
            and (not self.prefixes or key.prefix in self.prefixes)
            and (self.reply is None or (key.reply is self.reply and not packets.folded))
            and (not self.icmp or self._has_icmp(key))
            and (not self.policies or self._has_policy(key))
            and (not self.direction or end == _ENDS[self.direction])
            and self._is_there(packets)
            and self._is_of(packets.parties)
            and (not self.noise or self._is_noise(packets))
        )

    def _has_port(self, port: int | None) -> bool:
        return port is not None and any(first <= port <= last for first, last in self.ports)

    def _has_icmp(self, key: FlowKey) -> bool:
        return any(
            key.protocol == protocol and key.icmp_type == number and code in (None, key.icmp_code)
            for protocol, number, code in self.icmp
        )

    def _has_policy(self, key: FlowKey) -> bool:
        named = policies_of(key)
        return any(matches_glob(each, policy) for each in self.policies for policy in named)

    def _is_there(self, packets: Packets) -> bool:
        src, dst = packets.parties.get("src"), packets.parties.get("dst")
        return (
            (not self.src or _is_at(self.src, packets.src, src))
            and (not self.dst or _is_at(self.dst, packets.dst, dst))
            and (not self.peer or _is_at(self.peer, packets.src, src) or _is_at(self.peer, packets.dst, dst))
        )

    def _is_of(self, parties: Mapping[str, Party]) -> bool:
        if not self.namespaces and self.pod is None:
            return True
        return any(party.pods and all(map(self._selects, party.pods)) for party in parties.values())

    def _selects(self, pod: PodThere) -> bool:
        if self.namespaces and not any(matches_glob(each, pod.namespace) for each in self.namespaces):
            return False
        return self.pod is None or (pod.labels is not None and self.pod.matches(pod.labels))

    def _is_noise(self, packets: Packets) -> bool:
        match self.noise:
            case noise.REPLIES:
                return packets.key.protocol == "TCP" and (packets.key.reply or packets.reset)
            case noise.MULTICAST:
                return packets.dst is not None and noise.is_to_many(packets.dst)
        return any(party.probes for party in packets.parties.values())


def policies_of(key: FlowKey) -> tuple[str, ...]:
    """All that a filter may call the policies that a line names: each, and where there are several, all of them."""
    return tuple(dict.fromkeys((key.policy, *key.policy.split(", ")))) if key.policy else ()


def _is_at(wanted: Sequence[Network | Place], address: Address | None, party: Party | None) -> bool:
    return any(
        party is not None and party.place is each
        if isinstance(each, Place)
        else address is not None and address in each
        for each in wanted
    )


def matches_glob(glob: str, text: str) -> bool:
    """Whether ``text`` as a whole is what ``glob`` says, in which ``*`` is any text and ``?`` any character."""
    return glob == text or (("*" in glob or "?" in glob) and _compiled(glob).fullmatch(text) is not None)


@lru_cache(maxsize=4_096)
def _compiled(glob: str) -> re.Pattern[str]:
    parts = ({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in re.sub(r"\*+", "*", glob))
    return re.compile("".join(parts), re.DOTALL)
