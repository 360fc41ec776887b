"""One Event object → one row (pure): by its annotation, and by its text as far as that can be read.

Whoever may create Events in a namespace may write what they like in them: types are checked, lengths are bounded, and
texts are still foreign; :mod:`kiptail.drops.table` makes them fit for a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeGuard

from kiptail.addresses import canonical
from kiptail.drops.sentence import Sentence, is_withdrawn, read_sentence
from kiptail.events.annotation import ANNOTATION, ANNOTATION_LIMIT
from kiptail.events.endpoint import RECEIVED, SENT
from kiptail.kube import strict_json
from kiptail.kube.fields import mapping
from kiptail.kube.object_names import is_name, is_namespace
from kiptail.netfilter.protocols import icmp_name, protocol_name

__all__ = ["Key", "Row", "key_of", "row_of"]

Json: TypeAlias = Mapping[str, Any]
#: Namespace and name of an Event.
Key: TypeAlias = tuple[str, str]

#: Of any text no more is kept, in characters.
_TEXT_LIMIT = 1_100
#: Longest name of anybody, in characters: two of them with a slash, or three pods.
_NAME_LIMIT = 520
_PORTS = 1 << 16
#: Of several policies so many are named.
_POLICIES = 10
#: metav1.Time, and MicroTime.
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?Z")


# More than 12 attributes: one for each thing that a row can show.
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Drops of one pod with one peer. What is not known is "" or None."""

    key: Key
    namespace: str
    pod: str
    #: ``sent`` or ``received``.
    direction: str
    reply: bool
    #: ``namespace/name`` of a pod, ``node/NAME``, another name, or the address.
    peer: str
    #: The peer's address.
    address: str
    #: The peer is a pod.
    peer_is_pod: bool
    port: int | None
    protocol: str
    #: The ICMP message's name.
    icmp: str
    count: int
    #: Of the first and the last drop, in seconds since the epoch.
    first: float | None
    last: float | None
    verdict: str
    policy: str
    why: str
    node: str
    message: str


def key_of(event: Json) -> Key:
    """Which Event it is."""
    metadata = mapping(event.get("metadata"))
    return (_text(metadata.get("namespace")), _text(metadata.get("name")))


def row_of(event: Json) -> Row | None:
    """The row; None where it is not about a pod, or where its packets count for another."""
    involved, message = mapping(event.get("involvedObject")), _text(event.get("message"))
    namespace, pod = involved.get("namespace"), involved.get("name")
    if involved.get("kind") != "Pod" or not is_namespace(namespace) or not is_name(pod) or is_withdrawn(message):
        return None
    says, noted = read_sentence(message), _annotation(event)
    direction = noted.get("direction") or says.direction
    peer, address, is_pod = _peer(says, noted, sent=direction == SENT) if noted else (says.peer, says.address, False)
    protocol = _text(noted.get("protocol"), 40)
    first, last = _times(event)
    return Row(
        key=key_of(event),
        namespace=namespace,
        pod=pod,
        direction=direction,
        reply=noted.get("reply") is True if noted else says.reply,
        peer=peer,
        address=address,
        peer_is_pod=is_pod,
        port=_port(noted.get("port") if noted else says.port),
        protocol=protocol_name(protocol) or says.protocol,
        icmp=_icmp(noted) or says.icmp,
        count=_count(event),
        first=first,
        last=last,
        verdict=_text(noted.get("verdict"), 40) or says.verdict,
        policy=_text(noted.get("policy"), _NAME_LIMIT) or says.policy,
        why=says.why or _isolated(noted.get("isolated_by")),
        node=_text(noted.get("node"), _NAME_LIMIT) or _text(mapping(event.get("source")).get("host"), _NAME_LIMIT),
        message=message,
    )


def _annotation(event: Json) -> Json:
    """What the annotation says; nothing where it is not such a one, and then the text is all there is."""
    annotations = mapping(mapping(event.get("metadata")).get("annotations"))
    text = annotations.get(ANNOTATION)
    if not isinstance(text, str) or len(text) > ANNOTATION_LIMIT:
        return {}
    try:
        noted = mapping(strict_json.parse(text.encode()))
    except ValueError:  # UnicodeEncodeError is one
        return {}
    return noted if noted.get("direction") in (SENT, RECEIVED) else {}


def _peer(says: Sentence, noted: Json, *, sent: bool) -> tuple[str, str, bool]:
    """What to call the other end, its address, and whether it is a pod."""
    given = noted.get("dst" if sent else "src")
    address = (canonical(given) or "") if isinstance(given, str) else ""
    peer = mapping(noted.get("peer"))
    kind, namespace, name = peer.get("kind"), peer.get("namespace"), peer.get("name")
    if kind == "pod" and is_namespace(namespace) and is_name(name):
        return f"{namespace}/{name}", address, True
    if kind == "service" and is_namespace(namespace) and is_name(name):
        return f"service {namespace}/{name}", address, False
    if kind == "node" and is_name(name):
        return f"node/{name}", address, False
    if kind == "ambiguous" and isinstance(names := peer.get("names"), list):
        return " or ".join(_text(each, _NAME_LIMIT) for each in names[:3])[:_NAME_LIMIT], address, False
    if kind == "dns" and isinstance(name, str):
        return name[:_NAME_LIMIT], address, False
    return says.peer or address, address, False


def _icmp(noted: Json) -> str:
    icmp = mapping(noted.get("icmp"))
    kind, code = icmp.get("type"), icmp.get("code", 0)
    return icmp_name(_text(noted.get("protocol"), 40), kind, code) if _is_byte(kind) and _is_byte(code) else ""


def _is_byte(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 8


def _port(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _PORTS else None


def _isolated(policies: object) -> str:
    if not isinstance(policies, Sequence) or isinstance(policies, str):
        return ""
    names = [_text(each, _NAME_LIMIT) for each in policies[:_POLICIES]]
    return f"no rule of NetworkPolicy {', '.join(names)} allows it" if names else ""


def _count(event: Json) -> int:
    """Of a series of events.k8s.io, that one's. An Event that does not count was written once."""
    for value in (mapping(event.get("series")).get("count"), event.get("count")):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 1


def _times(event: Json) -> tuple[float | None, float | None]:
    """Of the first and of the last drop."""
    created = _time(mapping(event.get("metadata")).get("creationTimestamp"))
    series = mapping(event.get("series")).get("lastObservedTime")
    first, last, once = _time(event.get("firstTimestamp")), _time(event.get("lastTimestamp")), event.get("eventTime")
    begun = _first(first, _time(once), last, created)
    return begun, _first(_time(series), last, _time(once), begun)


def _first(*times: float | None) -> float | None:
    return next((time for time in times if time is not None), None)


def _time(value: object) -> float | None:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
    return whole + float(f"0{found[2] or '.0'}")


def _text(value: object, limit: int = _TEXT_LIMIT) -> str:
    return value[:limit] if isinstance(value, str) else ""
