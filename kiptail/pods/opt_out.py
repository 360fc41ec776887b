"""What an owner says of Events, in an annotation of a pod or a namespace (pure)."""

from __future__ import annotations

from typing import Literal

__all__ = ["ANNOTATION", "OFF", "PEERS", "OptOut", "OptOuts", "opt_out", "stronger"]

ANNOTATION = "kiptail/events"

#: Pods that are gone of which it is known that their owners opted out, at most.
MAX_GONE = 4_096

OptOut = Literal["", "off", "peers"]
#: No Events of its packets: neither on it nor on its peers.
OFF: OptOut = "off"
#: None on it; its peers have theirs.
PEERS: OptOut = "peers"


def opt_out(annotations: object) -> OptOut:
    """What an object's ``metadata.annotations`` say; "" where they say nothing, or what nobody understands."""
    value = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
    return OFF if value == OFF else PEERS if value == PEERS else ""


def stronger(one: OptOut, other: OptOut) -> OptOut:
    """What holds where a pod says one thing and its namespace another."""
    return OFF if OFF in (one, other) else one or other


#: Namespace, name, and the UID that Events have.
_Named = tuple[str, str, str]


class OptOuts:
    """The pods whose owners opted out, those that are gone included; one thread at a time writes, any may ask."""

    def __init__(self) -> None:
        self._present: dict[_Named, OptOut] = {}
        self._gone: dict[_Named, OptOut] = {}

    def __bool__(self) -> bool:
        return bool(self._present or self._gone)

    def of(self, namespace: str, name: str, uid: str) -> OptOut:
        """What is said of this pod; "" where nothing is, or it is not known."""
        pod = (namespace, name, uid)
        return self._present.get(pod) or self._gone.get(pod, "")

    def note(self, pod: _Named, said: OptOut | None) -> None:
        """A pod as it is now; None: that is not known."""
        if said:
            self._present[pod] = said
        elif said is not None and self:
            self._present.pop(pod, None)
            self._gone.pop(pod, None)

    def end(self, pod: _Named) -> None:
        """It is gone, and has said what it said."""
        said = self._present.pop(pod, None)
        if said:
            self._gone[pod] = said
            if len(self._gone) > MAX_GONE:
                del self._gone[next(iter(self._gone))]
