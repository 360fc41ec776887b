"""Who was at an address at a time, as a report shows it (pure, given who owned the address)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from enum import StrEnum
from typing import Protocol

from kiptail.pods.ownership import Hands, Owned
from kiptail.pods.pod import PodRef

__all__ = ["OTHERS", "By", "End", "Ends", "Owners"]

#: Addresses that are distinguished; a flood with forged senders has millions.
MOST_ADDRESSES = 500_000
#: The most pods that are named of those that may have had an address.
_NAMED = 3


class By(StrEnum):
    """How a report adds up."""

    POD = "pod"
    WORKLOAD = "workload"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """One end of flows. Two are equal only when they are the same: that is fast."""

    #: "" for addresses that are not distinguished.
    address: str
    #: Of the pod, or of all pods that may have had the address; else "".
    namespace: str = ""
    pod: str = ""
    #: As :func:`kiptail.pods.workload.workload_of`; likewise.
    workload: str = ""
    #: What to call an end that is no pod, or one of several: ``node/NAME``, ``service NAMESPACE/NAME``; else "".
    name: str = ""

    def label(self, by: By) -> str:
        """What it is added up under, and called."""
        if by is By.NAMESPACE:
            return self.namespace or "(no pod)"
        if by is By.WORKLOAD and self.workload:
            return f"{self.namespace}/{self.workload}"
        if self.pod:
            return f"{self.namespace}/{self.pod}"
        return self.name or self.address


#: All addresses that came when :data:`MOST_ADDRESSES` were known.
OTHERS = End("", name="(other addresses)")


class Owners(Protocol):
    """What is asked of ownership; times are the wall clock's."""

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned the address then."""

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's, or ""."""


@dataclass(slots=True)
class _Answers:
    """Who was at one address."""

    #: When another answer begins, in their order.
    changes: Sequence[int]
    #: The answers that were asked for, by how many of the changes were before.
    ends: dict[int, End] = field(default_factory=dict)

    def stretch(self, at_us: int) -> int:
        return bisect_right(self.changes, at_us)


class Ends:
    """The ends of all flows, each made once."""

    def __init__(self, owners: Owners | None, workloads: Mapping[tuple[str, str], str]) -> None:
        """Without ``owners`` addresses are all that is known; ``workloads`` are by the pods' namespace and name."""
        self._owners = owners
        self._workloads = workloads
        self._known: dict[str, _Answers] = {}

    def at(self, address: str, at_us: int) -> End:
        """Who was at ``address`` at a time, µs since the epoch."""
        answers = self._answers(address)
        if answers is None:
            return OTHERS
        stretch = answers.stretch(at_us)
        end = answers.ends.get(stretch)
        if end is None:
            found = self._found(address, at_us)
            # It may be the same pod again.
            end = next((one for one in answers.ends.values() if astuple(one) == astuple(found)), found)
            answers.ends[stretch] = end
        return end

    def stays(self, address: str, first_us: int, last_us: int) -> bool:
        """Whether the address surely did not change hands between these times."""
        answers = self._answers(address)
        return answers is None or not answers.changes or answers.stretch(first_us) == answers.stretch(last_us)

    def _answers(self, address: str) -> _Answers | None:
        answers = self._known.get(address)
        if answers is None and len(self._known) < MOST_ADDRESSES:
            changes = self._owners.hands(address).changes if self._owners is not None else ()
            answers = self._known[address] = _Answers(changes)
        return answers

    def _found(self, address: str, at_us: int) -> End:
        if self._owners is None:
            return End(address)
        pods = self._owners.owned(address, at_us).pods
        if not pods:
            return End(address, name=self._owners.name(address))
        namespace = _only(pod.namespace for pod in pods)
        workload = _only(self._workloads.get((pod.namespace, pod.name), "") for pod in pods) if namespace else ""
        if len(pods) == 1:
            return End(address, namespace, pods[0].name, workload)
        return End(address, namespace, "", workload, _one_of(pods))


def _only(texts: Iterable[str]) -> str:
    """The text, if they are all the same."""
    different = set(texts)
    return different.pop() if len(different) == 1 else ""


def _one_of(pods: Sequence[PodRef]) -> str:
    names = [f"{pod.namespace}/{pod.name}" for pod in pods[:_NAMED]]
    return " or ".join([*names, f"{len(pods) - _NAMED} others"] if len(pods) > _NAMED else names)
