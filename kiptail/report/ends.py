"""Who was at an address at a time, as a report shows it (pure, given who owned the address)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kiptail.pods.ownership import Hands, Owned
from kiptail.report.recorded import Who
from kiptail.report.recorded_names import RecordedNames

__all__ = ["OTHERS", "By", "End", "Ends", "Owners"]

#: Addresses that are distinguished; a flood with forged senders has millions.
MOST_ADDRESSES = 500_000
#: The most pods that are named of those that may have had an address.
_NAMED = 3
#: Of so many stretches of time it is seen whether the answer is the same in all.
_COMPARED = 32


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

    def __init__(
        self,
        owners: Owners | None,
        workloads: Mapping[tuple[str, str], str],
        recorded: RecordedNames | None = None,
    ) -> None:
        """Who is ``recorded`` comes before the ``owners``, for that was found out then.

        Without both, addresses are all that is known. ``workloads`` are by the pods' namespace and name.
        """
        self._owners = owners
        self._workloads = workloads
        self._recorded = recorded or None
        self._known: dict[str, _Answers] = {}
        self._made: dict[tuple[str, str, str, str, str], End] = {}

    def at(self, address: str, at_us: int) -> End:
        """Who was at ``address`` at a time, µs since the epoch."""
        answers = self._answers(address)
        if answers is None:
            return OTHERS
        stretch = answers.stretch(at_us)
        end = answers.ends.get(stretch)
        if end is None:
            end = answers.ends[stretch] = self._found(address, at_us)
        return end

    def of(self, address: str, who: Who) -> End:
        """Who a record says was at ``address``."""
        workload = who.workload or self._workloads.get((who.namespace, who.pod), "")
        return self._end(address, who.namespace, who.pod, workload, who.name)

    def stays(self, address: str, first_us: int, last_us: int) -> bool:
        """Whether whoever was at the address at the first of these times surely was until the last."""
        answers = self._answers(address)
        if answers is None or not answers.changes:
            return True
        first, last = answers.stretch(first_us), answers.stretch(last_us)
        if first == last:
            return True
        if last - first > _COMPARED:
            return False
        end = self.at(address, first_us)
        return all(self.at(address, change_us) is end for change_us in answers.changes[first:last])

    def _answers(self, address: str) -> _Answers | None:
        answers = self._known.get(address)
        if answers is None and len(self._known) < MOST_ADDRESSES:
            changes: Sequence[int] = self._owners.hands(address).changes if self._owners is not None else ()
            if self._recorded is not None:
                changes = sorted({*changes, *self._recorded.changes(address)})
            answers = self._known[address] = _Answers(changes)
        return answers

    def _found(self, address: str, at_us: int) -> End:
        recorded = self._recorded.at(address, at_us) if self._recorded is not None else ()
        if recorded:
            return self._one_of(address, recorded)
        pods = self._owners.owned(address, at_us).pods if self._owners is not None else ()
        if pods:
            return self._one_of(address, [Who(pod.namespace, pod.name) for pod in pods])
        return self._end(address, name=self._owners.name(address) if self._owners is not None else "")

    def _one_of(self, address: str, found: Sequence[Who]) -> End:
        """The pod that it was, or what to call it that it was one of several."""
        if len(found) == 1:
            return self.of(address, found[0])
        namespace = _only(who.namespace for who in found)
        workload = ""
        if namespace:
            workload = _only(who.workload or self._workloads.get((namespace, who.pod), "") for who in found)
        names = [who.name or f"{who.namespace}/{who.pod}" for who in found[:_NAMED]]
        text = " or ".join([*names, f"{len(found) - _NAMED} others"] if len(found) > _NAMED else names)
        return self._end(address, namespace, "", workload, text)

    def _end(self, address: str, namespace: str = "", pod: str = "", workload: str = "", name: str = "") -> End:
        """It may be the same again: then it is the same object."""
        key = (address, namespace, pod, workload, name)
        end = self._made.get(key)
        if end is None:
            end = self._made[key] = End(*key)
        return end


def _only(texts: Iterable[str]) -> str:
    """The text, if they are all the same."""
    different = set(texts)
    return different.pop() if len(different) == 1 else ""
