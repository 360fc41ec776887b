"""Whether Events say of a played recording what its source ports say: each packet on the pod that sent it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.support.recordings import Flow, Packet, Recording, Span

__all__ = ["AROUND_CHANGE_S", "COUNTED_ELSEWHERE", "around_change", "judge"]

#: The change of hands goes on from a's last packet to b's first. Packets so many seconds before and after it may be
#: nobody's: a pod's times are whole seconds.
AROUND_CHANGE_S = 1.0
#: Half the time between two packets: of those that are sent a second apart, none is just beyond the bound by chance.
_JITTER_S = 0.05
#: An Event whose text ends so stands for no packet any more.
COUNTED_ELSEWHERE = "counted for another pod since"

_TEXT = re.compile(r"Packet dropped when sending traffic to (?:\S+ \()?([0-9.]+)\)? on port (\d+)/UDP(?:\W.*)?")


class _Entry(NamedTuple):
    """What packets are counted under."""

    owner: str
    flow: Flow

    def __str__(self) -> str:
        return f"{self.owner}, {_flow_text(self.flow)}"


@dataclass(frozen=True, slots=True)
class _Told:
    """An Event, as far as it counts; times in whole seconds since the epoch."""

    entry: _Entry
    name: str
    count: int
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        times = f"{_clock(self.first)} to {_clock(self.last)}"
        return f"Event {self.name}: {self.count} from {times}: {self.text}"


def around_change(packets: Sequence[Packet]) -> Span:
    """Packets that were logged in this time may be nobody's."""
    ended = max(packet.logged for packet in packets if packet.owner == "a")
    began = min(packet.logged for packet in packets if packet.owner == "b")
    return Span(ended - AROUND_CHANGE_S - _JITTER_S, began + AROUND_CHANGE_S + _JITTER_S)


def judge(
    recording: Recording,
    events: Iterable[Mapping[str, Any]],
    *,
    ambiguous: int | None,
    unseen: Sequence[str] = (),
) -> list[str]:
    """What is wrong with the Events, in words.

    ``ambiguous`` is how many drops the daemon says it could not attribute; None when it was started again and has
    forgotten that. Packets of the pods (``a``, ``b``) that are ``unseen`` may be missing altogether.
    """
    wrong: list[str] = []
    told: list[_Told] = []
    for event in events:
        reading = _read(recording, event)
        if isinstance(reading, str):
            wrong.append(reading)
        else:
            told.append(reading)
    packets = recording.packets
    unsure = around_change(packets)
    sent: defaultdict[_Entry, list[Packet]] = defaultdict(list)
    for packet in packets:
        sent[_Entry(packet.owner, packet.flow)].append(packet)
    by_entry: defaultdict[_Entry, list[_Told]] = defaultdict(list)
    for each in told:
        by_entry[each.entry].append(each)
    missing = 0
    for entry in sorted(sent.keys() | by_entry.keys()):
        of_pod = sent.get(entry, [])
        sure = [] if entry.owner in unseen else [packet for packet in of_pod if packet.logged not in unsure]
        counted = by_entry.get(entry, [])
        missing += max(0, len(of_pod) - sum(each.count for each in counted))
        complaints = [*_miscounted(len(of_pod), len(sure), counted), *_mistimed(of_pod, sure, counted)]
        if complaints:
            wrong += [f"{entry}: {complaint}" for complaint in complaints]
            wrong.append(f"    sent: {_by_second(packet for packet in packets if packet.flow == entry.flow)}")
            wrong += [f"    {each}" for each in counted]
    if ambiguous is not None and missing != ambiguous:
        wrong.append(f"{missing} packets are counted nowhere, {ambiguous} are said to be ambiguous")
    return wrong


def _read(recording: Recording, event: Mapping[str, Any]) -> _Told | str:
    """The Event, or what is wrong with it by itself."""
    pod, text = event["involvedObject"], event["message"]
    owners = [owner for owner, known in recording.pods.items() if known.uid == pod["uid"]]
    name = event["metadata"]["name"]
    if not owners:
        return f"Event {name} is on {pod['name']}, which has sent nothing: {text}"
    found = _TEXT.fullmatch(text)
    if not found:
        return f"Event {name} has a text that nobody expects here: {text}"
    count = 0 if text.endswith(COUNTED_ELSEWHERE) else event["count"]
    first, last = _seconds(event["firstTimestamp"]), _seconds(event["lastTimestamp"])
    return _Told(_Entry(owners[0], (found[1], int(found[2]))), name, count, first, last, text)


def _miscounted(sent: int, sure: int, told: Sequence[_Told]) -> Iterable[str]:
    counted = sum(each.count for each in told)
    if counted > sent:
        yield f"{counted} counted, {sent} sent: {counted - sent} of them another pod's, or counted twice"
    elif counted < sure:
        yield f"{counted} counted, {sent} sent: at most {sent - sure} of them may be missing"


def _mistimed(sent: Sequence[Packet], sure: Sequence[Packet], told: Sequence[_Told]) -> Iterable[str]:
    """Which of the packets were counted shows only in the Events' first and last times.

    A packet's time is between the kernel's and journald's.
    """
    times = [each for each in told if each.count]
    if not times or not sent:
        return
    first, last = min(each.first for each in times), max(each.last for each in times)
    if first < int(sent[0].logged):
        yield f"first counted at {_clock(first)}, first sent at {_clock(sent[0].logged)}"
    if last > int(sent[-1].received):
        yield f"last counted at {_clock(last)}, last sent at {_clock(sent[-1].received)}"
    if sure and first > int(sure[0].received):
        yield f"first counted at {_clock(first)}, though those from {_clock(sure[0].received)} on may not be missing"
    if sure and last < int(sure[-1].logged):
        yield f"last counted at {_clock(last)}, though those until {_clock(sure[-1].logged)} may not be missing"


def _by_second(packets: Iterable[Packet]) -> str:
    seconds = Counter((_clock(packet.logged), packet.owner) for packet in packets)
    return ", ".join(f"{clock} {count} of {owner}" for (clock, owner), count in sorted(seconds.items()))


def _flow_text(flow: Flow) -> str:
    return f"{flow[0]}:{flow[1]}/UDP"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%H:%M:%S")


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
