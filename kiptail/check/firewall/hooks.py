"""In which order the kernel calls base chains, and what a packet can meet after one (pure).

An accept is final for its base chain only: nft(8), "VERDICT STATEMENTS", and the packet flow of iptables(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kiptail.check.firewall.known import Known, survivors
from kiptail.check.firewall.rulesets import PROTOCOL, Base, Chains, Key

__all__ = ["Hooks", "Leg"]

_LAYER_3 = ("ip", "ip6", "inet")
#: What may follow a hook for the packets that pass it, each way a sequence.
_WAYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "prerouting": (("input",), ("forward", "postrouting")),
    "input": ((),),
    "forward": (("postrouting",),),
    "output": (("postrouting",),),
    "postrouting": ((),),
}
#: A packet to the machine itself comes in again, by the loopback device.
_LEAVES = ("output", "postrouting")
#: Before this priority, the kernel has not looked for the packet's connection (NF_IP_PRI_CONNTRACK).
_CONNTRACK = -200
#: NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC.
_NAT_BEFORE, _NAT_AFTER = -100, 100


class Leg(NamedTuple):
    """A base chain that a packet comes to next."""

    key: Key
    base: Base
    #: Not every packet comes to it.
    maybe: bool


class Hooks:
    """All base chains."""

    def __init__(self, chains: Chains) -> None:
        #: Where each is called.
        self.bases = {key: _as_called(chain.base) for key, chain in chains.items() if chain.base is not None}
        self._by_hook: dict[tuple[str, str], list[Key]] = {}
        for key, base in sorted(self.bases.items(), key=lambda item: item[1].priority):
            for protocol in _protocols(key, base):
                self._by_hook.setdefault((protocol, base.hook), []).append(key)

    def ways(self, key: Key, known: Known) -> list[list[Leg]]:
        """Each way that a packet can go after base chain ``key`` has let it pass."""
        base = self.bases[key]
        ways = []
        for protocol in _narrowed(_protocols(key, base), known):
            same = [
                Leg(other, self.bases[other], self._maybe(other) or self.bases[other].priority == base.priority)
                for other in self._by_hook[protocol, base.hook]
                if other != key and self.bases[other].priority >= base.priority
            ]
            ways += [[*same, *self._legs(protocol, hooks)] for hooks in _WAYS[base.hook]]
        return ways or [[]]

    def _legs(self, protocol: str, hooks: Iterable[str]) -> list[Leg]:
        keys = [key for hook in hooks for key in self._by_hook.get((protocol, hook), ())]
        return [Leg(key, self.bases[key], self._maybe(key)) for key in keys]

    def _maybe(self, key: Key) -> bool:
        base = self.bases[key]
        return base.nat or base.dormant

    def elsewhere(self, key: Key) -> list[Key]:
        """Base chains that some of these packets may come to besides: bridges, devices, the loopback device."""
        base = self.bases[key]
        found = []
        for other, of_other in self.bases.items():
            if not _is_layer_3(other, of_other):
                arp = "arp" in (key.family, other.family) and not {key.family, other.family} <= {"arp", "bridge"}
                reached = not arp and not (base.hook == "input" and _is_layer_3(key, base))
            elif _is_layer_3(key, base):
                reached = base.hook in _LEAVES and of_other.hook in ("prerouting", "input")
            else:
                reached = key.family != "arp"
            if reached and other != key:
                found.append(other)
        return found

    def survivors(self, known: Known, before: Base, after: Base) -> Known:
        """What is still known of a packet in a base chain after another."""
        translated = any(base.nat and base.hook == after.hook for base in self.bases.values())
        if before.hook == after.hook and before.priority > _CONNTRACK and not translated:
            return known
        # Addresses, ports and connections are another matter there, and so are the devices.
        return survivors(known, frozenset().union(*(match.about for match in known)) - PROTOCOL)


def _as_called(base: Base) -> Base:
    """Chains of type nat are called from one place in each hook, whatever their priorities (nf_nat_proto.c)."""
    if not base.nat:
        return base
    return base._replace(priority=_NAT_BEFORE if base.hook in ("prerouting", "output") else _NAT_AFTER)


def _is_layer_3(key: Key, base: Base) -> bool:
    return key.family in _LAYER_3 and base.hook in _WAYS


def _protocols(key: Key, base: Base) -> tuple[str, ...]:
    if not _is_layer_3(key, base):
        return ()
    return ("ip", "ip6") if key.family == "inet" else (key.family,)


def _narrowed(protocols: tuple[str, ...], known: Known) -> Iterable[str]:
    """Those that packets of which this is known can be of."""
    for protocol, signs in (("ip", _SIGNS_OF_IP), ("ip6", _SIGNS_OF_IP6)):
        if protocol in protocols and any(sign in match.text and not match.negated for match in known for sign in signs):
            return (protocol,)
    return protocols


_SIGNS_OF_IP = ('"protocol": "ip"', '{"meta": {"key": "nfproto"}}] "ipv4"')
_SIGNS_OF_IP6 = ('"protocol": "ip6"', '{"meta": {"key": "nfproto"}}] "ipv6"')
