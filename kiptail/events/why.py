"""What an Event says of the NetworkPolicies in a flow's way, and of which flows that can be said (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.flows.flow import ENDS, Flow
from kiptail.policies.denial import Denial

__all__ = ["can_be_explained", "isolating", "reason", "reason_in", "reasons", "reasons_of", "same_ends"]

#: Policies that are named, and what their names may take together beyond the first, in characters: with a pod's and a
#: DNS name the text is within its limit, or it would be cut.
_MOST_NAMED, _MOST_TEXT = 3, 400

#: Of ICMP, only these begin anything that policies look at; others answer, or are between neighbours.
_ECHO_REQUESTS = (("ICMP", 8), ("ICMPv6", 128))

#: What :func:`reason` says, in a text. No foreign text in an Event can hold a colon with a blank behind it.
_REASON = re.compile(
    r": (?:no rule of NetworkPolic(?:y|ies) [-a-z0-9., ]+ allows it"
    r"|isolated by NetworkPolic(?:y|ies) [-a-z0-9./, ]*[a-z0-9])"
)


def can_be_explained(flow: Flow, endpoints: Mapping[str, Endpoint]) -> bool:
    """The flow has an Event, policies may have a say in it, and it is known who is at its ends.

    They are about connections, so they say nothing of replies and ICMP errors. A Service's address is seen before its
    translation only, and which pod's it becomes is not known.
    """
    key = flow.key
    if key.reply or key.policy or flow.spread is not None or len(endpoints) < len(ENDS):
        return False
    if key.icmp_type is not None and (key.protocol, key.icmp_type) not in _ECHO_REQUESTS:
        return False
    found = endpoints.values()
    if any(each.kind is Kind.AMBIGUOUS or each.open or each.name.startswith("service ") for each in found):
        return False
    return any(endpoints[end].kind is Kind.POD for end in flow.ends)


def same_ends(endpoints: Mapping[str, Endpoint], others: Mapping[str, Endpoint]) -> bool:
    """The same pods, or others, are at both ends; what they are called is no matter."""
    return _who(endpoints) == _who(others)


def _who(endpoints: Mapping[str, Endpoint]) -> dict[str, object]:
    return {end: (each.kind, [pod.uid for pod in each.pods], each.open) for end, each in endpoints.items()}


def reasons(denial: Denial) -> dict[str, str]:
    """By end, what its Event says of policies; of a connection that is admitted nothing."""
    return {end: text for end in ENDS if (text := reason(end, denial))}


def reason(end: str, denial: Denial) -> str:
    """What the Event at one end says, behind its words about the packets: of its pod's policies, else the other's."""
    own, others = (denial.egress, denial.ingress) if end == "src" else (denial.ingress, denial.egress)
    if own:
        return f": no rule of {_named([policy.name for policy in own])} allows it"
    return f": isolated by {_named(['/'.join(policy) for policy in others])}" if others else ""


def reason_in(message: str) -> str:
    """What an Event's text says of policies, or ""."""
    found = _REASON.search(message)
    return found[0] if found else ""


def isolating(record: EventRecord) -> list[str]:
    """The NetworkPolicies that the Event's text names, as ``namespace/name``."""
    names = re.sub(r"^: (?:no rule of|isolated by) NetworkPolic(?:y|ies) | allows it$", "", reason_in(record.message))
    found = [name for name in re.split(r", | and ", names) if name and not name.endswith(" more")]
    return [name if "/" in name else f"{record.pod.namespace}/{name}" for name in found]


def reasons_of(records: Iterable[EventRecord]) -> dict[str, str] | None:
    """By end, what a flow's stored Events say of policies; None when that is to be found out: none was ever written."""
    found = [record for record in records if not record.withdrawn]
    said = {record.end: text for record in found if (text := reason_in(record.message))}
    return said if said or any(record.sent_count for record in found) else None


def _named(names: Sequence[str]) -> str:
    """``NetworkPolicy a``, ``NetworkPolicies a, b and c`` or ``NetworkPolicies a, b, c and 2 more``."""
    shown = list(names[:_MOST_NAMED])
    while len(shown) > 1 and sum(map(len, shown)) > _MOST_TEXT:
        shown.pop()
    if len(names) == 1:
        return f"NetworkPolicy {shown[0]}"
    left = len(names) - len(shown)
    last = f"{left} more" if left else shown.pop()
    return f"NetworkPolicies {', '.join(shown)} and {last}"
