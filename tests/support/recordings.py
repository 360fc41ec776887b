"""The recordings in tests/handover: an address goes from pod a to pod b, with the truth in the source port."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

__all__ = ["RECORDINGS", "Flow", "KernelLine", "Packet", "Pod", "PodChange", "Recording", "Span"]

_DIRECTORY = Path(__file__).parents[1] / "handover"
_SUFFIX = ".jsonl.gz"
#: The names of all recordings.
RECORDINGS = tuple(sorted(path.name.removesuffix(_SUFFIX) for path in _DIRECTORY.glob(f"*{_SUFFIX}")))

_OWNER_BY_SOURCE_PORT = {"40001": "a", "40002": "b"}
_PACKET = re.compile(r"DST=(\S+) .* PROTO=UDP SPT=(\d+) DPT=(\d+) ")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"

#: Address and port of a destination.
Flow = tuple[str, int]
Json = Any


@dataclass(frozen=True, slots=True)
class Span:
    """From one time to another, in seconds of any one clock; both belong to it."""

    begin: float
    end: float

    def __contains__(self, at: float) -> bool:
        return self.begin <= at <= self.end


@dataclass(frozen=True, slots=True)
class KernelLine:
    """The journal entry of a dropped packet; times in µs."""

    message: str
    #: When journald received it, since the epoch.
    realtime_us: int
    #: How long before that the kernel had written it.
    delay_us: int

    @property
    def at(self) -> float:
        """When it is written, in seconds since the epoch."""
        return self.realtime_us / 1e6


@dataclass(frozen=True, slots=True)
class PodChange:
    """A line of the watch: at ``at`` (seconds since the epoch) the client had it."""

    at: float
    type: str
    pod: Mapping[str, Json]

    @property
    def name(self) -> str:
        name: str = self.pod["metadata"]["name"]
        return name

    @property
    def has_address(self) -> bool:
        return bool(self.pod["status"].get("podIP"))


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet, and whose it truly is; times in seconds since the epoch."""

    owner: str
    flow: Flow
    #: When the kernel logged it, and when journald received that.
    logged: float
    received: float


@dataclass(frozen=True, slots=True)
class Pod:
    """One of the two pods."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Recording:
    """What kernel and API server said, in order of arrival."""

    name: str
    #: When the list was received, in seconds since the epoch.
    began: float
    #: The node's pods then.
    listed: tuple[Mapping[str, Json], ...]
    steps: tuple[KernelLine | PodChange, ...]

    @classmethod
    def load(cls, name: str) -> Self:
        with gzip.open(_DIRECTORY / f"{name}{_SUFFIX}", "rt") as file:
            head, *rows = map(json.loads, file)
        return cls(name, head["at"], tuple(head["list"]["items"]), tuple(map(_step, rows)))

    def later(self, seconds: int) -> Self:
        """The same, so many seconds later: also all times in the pods, which are whole seconds."""
        return replace(
            self,
            began=self.began + seconds,
            listed=tuple(_later(pod, seconds) for pod in self.listed),
            steps=tuple(_step_later(step, seconds) for step in self.steps),
        )

    @property
    def pod_changes(self) -> Iterator[PodChange]:
        return (step for step in self.steps if isinstance(step, PodChange))

    @property
    def kernel_lines(self) -> Iterator[KernelLine]:
        return (step for step in self.steps if isinstance(step, KernelLine))

    @property
    def pods(self) -> dict[str, Pod]:
        """a and b by the ends of their names. Others that are listed belong to earlier recordings."""
        return {
            change.name.rpartition("-")[2]: Pod(change.name, change.pod["metadata"]["uid"])
            for change in self.pod_changes
            if change.type == "ADDED"
        }

    @property
    def packets(self) -> tuple[Packet, ...]:
        return tuple(map(_packet, self.kernel_lines))

    def since_began(self, owner: str, which: int) -> float:
        """When a packet (0: the first, -1: the last) of ``owner`` was received, in seconds of the recording."""
        return [packet.received for packet in self.packets if packet.owner == owner][which] - self.began


def _step(row: Json) -> KernelLine | PodChange:
    if "kernel" in row:
        return KernelLine(row["kernel"], row["realtime_us"], row["monotonic_us"] - row["source_us"])
    return PodChange(row["at"], row["watch"]["type"], row["watch"]["object"])


def _packet(line: KernelLine) -> Packet:
    found = _PACKET.search(line.message)
    assert found, line.message
    flow = found[1], int(found[3])
    return Packet(_OWNER_BY_SOURCE_PORT[found[2]], flow, (line.realtime_us - line.delay_us) / 1e6, line.at)


def _step_later(step: KernelLine | PodChange, seconds: int) -> KernelLine | PodChange:
    if isinstance(step, KernelLine):
        return replace(step, realtime_us=step.realtime_us + seconds * 1_000_000)
    return replace(step, at=step.at + seconds, pod=_later(step.pod, seconds))


def _later(value: Json, seconds: int) -> Json:
    """A JSON value with each time in it moved."""
    match value:
        case dict():
            return {key: _later(item, seconds) for key, item in value.items()}
        case list():
            return [_later(item, seconds) for item in value]
        case str() if _TIME.fullmatch(value):
            then = datetime.strptime(value, _TIME_FORM).replace(tzinfo=UTC) + timedelta(seconds=seconds)
            return then.strftime(_TIME_FORM)
    return value
