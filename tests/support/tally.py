"""What the journal says was lost, read without any of kiptail's code, and how Events differ from that.

The readings here are naive on purpose: a regular expression for a log line, one for an Event's text, and sums.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.support.journald import Journald

__all__ = ["Lost", "Packet", "differences", "dropped", "miscounted", "packets"]

#: So many flows of an address and direction are told one by one (the default); beyond, their sum counts.
TOLD_SINGLY = 20

Event = dict[str, Any]

_LINE = re.compile(r"SRC=(\S+) DST=(\S+) .* PROTO=(\S+) SPT=(\d+) DPT=(\d+) ")
_TEXT = re.compile(
    r"Packet dropped when (sending|receiving) traffic (?:to|from) .*?\(([0-9a-f.:]+)\) on port (\d+)/UDP"
)
#: Both words are in folded texts too.
_END = {"sending": 0, "receiving": 1}


class Lost(NamedTuple):
    """What the packets of one flow have in common."""

    src: str
    dst: str
    protocol: str
    port: int


class Packet(NamedTuple):
    """One line."""

    lost: Lost
    source_port: int
    #: When journald received it, in seconds since the epoch.
    at: float


def packets(journald: Journald, prefix: str) -> list[Packet]:
    """The packets of the lines that the journal holds, oldest first."""
    journald.sync()
    out = journald.run(
        "journalctl", "-q", "--no-pager", "-o", "json", "--output-fields=MESSAGE",
        "_TRANSPORT=kernel", "SYSLOG_FACILITY=0",
    )  # fmt: skip
    found = []
    for line in out.splitlines():
        entry = json.loads(line)
        text = entry.get("MESSAGE")
        if isinstance(text, str) and text.startswith(prefix):
            match = _LINE.search(text)
            assert match, text
            lost = Lost(match[1], match[2], match[3], int(match[5]))
            found.append(Packet(lost, int(match[4]), int(entry["__REALTIME_TIMESTAMP"]) / 1e6))
    return found


def dropped(journald: Journald, prefix: str) -> Counter[Lost]:
    """How many lines of each flow the journal holds."""
    return Counter(packet.lost for packet in packets(journald, prefix))


def miscounted(lines: Mapping[Lost, int], events: Iterable[Event], pods: Mapping[str, str]) -> list[str]:
    """Where the Events' counts differ from the lines', in words; ``pods`` are the names by address.

    At each end, the counts of a pod's Events add up to its lines. Where the flows of an end are few enough to be told
    one by one, each of them has the count of its own lines.
    """
    addresses = {name: address for address, name in pods.items()}
    sums: Counter[tuple[str, int]] = Counter()
    singly: Counter[tuple[str, int, Lost]] = Counter()
    for event in events:
        name, count, text = event["involvedObject"]["name"], event["count"], event["message"]
        end = _END[next(word for word in _END if word in text)]
        sums[name, end] += count
        match = _TEXT.fullmatch(text)
        if match:
            addressed = (addresses[name], match[2]) if end == 0 else (match[2], addresses[name])
            singly[name, end, Lost(*addressed, "UDP", int(match[3]))] += count
    expected: Counter[tuple[str, int]] = Counter()
    flows: defaultdict[tuple[str, int], dict[Lost, int]] = defaultdict(dict)
    for lost, count in lines.items():
        for end in (0, 1):
            if lost[end] in pods:
                expected[pods[lost[end]], end] += count
                flows[pods[lost[end]], end][lost] = count
    wrong = [
        f"{name} {('sent', 'received')[end]}: {expected[name, end]} lines, {sums[name, end]} in Events"
        for name, end in sorted(expected.keys() | sums.keys())
        if expected[name, end] != sums[name, end]
    ]
    for (name, end), by_flow in sorted(flows.items()):
        if len(by_flow) <= TOLD_SINGLY:
            wrong += [
                f"{name}: {count} lines of {lost}, {singly[name, end, lost]} in Events"
                for lost, count in by_flow.items()
                if singly[name, end, lost] != count
            ]
    return wrong


def differences(ours: Iterable[Event], theirs: Iterable[Event]) -> list[str]:
    """In what two clusters' Events differ, in words: counts, times, texts, all but what a server sets."""
    left, right = _by_name(ours), _by_name(theirs)
    wrong = [f"only in the first: {left[name]}" for name in sorted(left.keys() - right.keys())]
    wrong += [f"only in the second: {right[name]}" for name in sorted(right.keys() - left.keys())]
    for name in sorted(left.keys() & right.keys()):
        fields = sorted(left[name].keys() | right[name].keys())
        wrong += [
            f"{'/'.join(name)}: {field} is {left[name].get(field)} and {right[name].get(field)}"
            for field in fields
            if left[name].get(field) != right[name].get(field)
        ]
    return wrong


def _by_name(events: Iterable[Event]) -> dict[tuple[str, str], Event]:
    """Without what differs between two servers."""
    return {
        (event["metadata"]["namespace"], event["metadata"]["name"]): {k: v for k, v in event.items() if k != "metadata"}
        for event in events
    }
