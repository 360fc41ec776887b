"""All filters together: which one leaves packets out, found without asking each of them (pure).

Filters that what lines say can answer are asked when a line is seen for the first time; the others once it is known who
is at a flow's ends. A thousand filters must not cost a thousand comparisons each time, so each is kept by one of its
values that has to be there exactly, an address range for most, and only those are asked whose value is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from kiptail.flows.flow import FlowKey
from kiptail.flows.left_out import LeftOut
from kiptail.quiet.filter import Address, Filter, Network, Packets, Place, matches_glob, policies_of

__all__ = ["Filters"]

#: A filter with more ports is not kept by port.
_MOST_PORTS = 256
#: Texts whose answer is remembered.
_MOST_KNOWN = 1_024


class Filters:
    """What is configured: of several that hold, the first with ``what = "all"`` counts, else the first."""

    def __init__(self, filters: Sequence[Filter] = ()) -> None:
        self._by_line = _Index(each for each in filters if not each.needs_ends)
        self._by_ends = _Index(each for each in filters if each.needs_ends)
        #: Some look at pods' labels.
        self.need_labels = any(each.pod is not None for each in filters)

    @property
    def need_ends(self) -> bool:
        """Some are asked at a flow's ends."""
        return bool(self._by_ends)

    def leave_out(self, key: FlowKey, reset: bool) -> LeftOut | None:
        """What is said of packets by what their lines tell: a :data:`kiptail.flows.left_out.LeaveOut`."""
        return self._by_line.first(Packets.of(key, reset=reset)) if self._by_line else None

    def all_by_line(self, key: FlowKey, reset: bool) -> list[int]:
        """Which of the filters that lines can answer hold for packets, by their numbers among those."""
        return self._by_line.all(Packets.of(key, reset=reset)) if self._by_line else []

    def at_end(self, packets: Packets, end: str) -> LeftOut | None:
        """What else is said of a flow's packets at this end, once it is known who is at its ends."""
        return self._by_ends.first(packets, end) if self._by_ends else None


class _Ranges:
    """Numbers by address ranges."""

    def __init__(self) -> None:
        #: By IP version and length of the range, then by its first address.
        self._numbers: dict[tuple[int, int], dict[int, list[int]]] = {}

    def add(self, network: Network, number: int) -> None:
        """Keep ``number`` by a range."""
        by_address = self._numbers.setdefault((network.version, network.prefixlen), {})
        by_address.setdefault(int(network.network_address), []).append(number)

    def of(self, address: Address | None) -> Iterator[int]:
        """The numbers of all ranges that the address is in."""
        if address is None:
            return
        value = int(address)
        for (version, length), by_address in self._numbers.items():
            if version == address.version:
                shift = address.max_prefixlen - length
                yield from by_address.get(value >> shift << shift, ())


class _Texts:
    """Numbers by texts, in which there may be ``*`` and ``?``."""

    def __init__(self) -> None:
        self._exact: dict[str, list[int]] = {}
        self._globs: dict[str, list[int]] = {}
        #: What was asked lately: a node's flows have few namespaces and policies.
        self._known: dict[str, tuple[int, ...]] = {}

    def add(self, text: str, number: int) -> None:
        """Keep ``number`` by a text."""
        by_text = self._globs if set(text) & set("*?") else self._exact
        by_text.setdefault(text, []).append(number)

    def of(self, text: str) -> tuple[int, ...]:
        """The numbers of all that match."""
        if text not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = set(self._exact.get(text, ()))
            found.update(*(numbers for glob, numbers in self._globs.items() if matches_glob(glob, text)))
            self._known[text] = tuple(found)
        return self._known[text]


class _Index:
    """Filters by one of their values."""

    def __init__(self, filters: Iterable[Filter]) -> None:
        self._filters = tuple(filters)
        self._src, self._dst, self._peer = _Ranges(), _Ranges(), _Ranges()
        self._policies, self._namespaces = _Texts(), _Texts()
        #: By port, prefix, or key and value of a label.
        self._exact: defaultdict[object, list[int]] = defaultdict(list)
        #: Those that have no such value.
        self._rest: list[int] = []
        for number, each in enumerate(self._filters):
            self._keep(number, each)

    def __bool__(self) -> bool:
        return bool(self._filters)

    def first(self, packets: Packets, end: str = "") -> LeftOut | None:
        """What the filter says that counts, None where none holds."""
        found: LeftOut | None = None
        for number in sorted(self._candidates(packets)):
            each = self._filters[number]
            if (found is None or each.everything) and each.holds(packets, end):
                if each.everything:
                    return each.left_out
                found = each.left_out
        return found

    def all(self, packets: Packets) -> list[int]:
        """The numbers of all that hold."""
        return [number for number in self._candidates(packets) if self._filters[number].holds(packets)]

    def _keep(self, number: int, each: Filter) -> None:
        for ranges, values in ((self._src, each.src), (self._dst, each.dst), (self._peer, each.peer)):
            networks = [value for value in values if not isinstance(value, Place)]
            if networks and len(networks) == len(values):
                for network in networks:
                    ranges.add(network, number)
                return
        for texts, wanted in ((self._policies, each.policies), (self._namespaces, each.namespaces)):
            if wanted:
                for text in wanted:
                    texts.add(text, number)
                return
        exact = _ports_of(each) or each.prefixes or _labels_of(each)
        for value in exact:
            self._exact[value].append(number)
        if not exact:
            self._rest.append(number)

    def _candidates(self, packets: Packets) -> set[int]:
        key = packets.key
        found = set(self._rest)
        found.update(self._src.of(packets.src), self._dst.of(packets.dst))
        found.update(self._peer.of(packets.src), self._peer.of(packets.dst))
        for policy in policies_of(key):
            found.update(self._policies.of(policy))
        values: list[object] = [key.port, key.prefix]
        for party in packets.parties.values():
            for pod in party.pods:
                found.update(self._namespaces.of(pod.namespace))
                values += (pod.labels or {}).items()
        for value in values if self._exact else ():
            found.update(self._exact.get(value, ()))
        return found


def _ports_of(each: Filter) -> Sequence[int]:
    """All ports of a filter, none where there are too many."""
    number = sum(last - first + 1 for first, last in each.ports)
    return [port for first, last in each.ports for port in range(first, last + 1)] if number <= _MOST_PORTS else []


def _labels_of(each: Filter) -> Sequence[tuple[str, str]]:
    """Labels of which a pod has to have one for the filter to hold; none where that cannot be said."""
    for requirement in each.pod.requirements if each.pod is not None else ():
        if requirement.operator == "In":
            return [(requirement.key, value) for value in requirement.values]
    return ()
