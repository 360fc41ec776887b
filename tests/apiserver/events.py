"""core/v1 Events: which fields there are, what the server makes of them and when it refuses them.

After `legacyValidateEvent` in kubernetes/pkg/apis/core/validation/events.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tests.apiserver.answers import bad_request

__all__ = ["blank_event", "new_event", "validate_event"]

Json = dict[str, Any]
Cause = tuple[str, str, str]

_REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_ALWAYS_THERE: Mapping[str, Any] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
_ORDER = (
    "metadata",
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "series",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")


def blank_event() -> Json:
    """An empty Event as Go writes it."""
    return dict(_ALWAYS_THERE)


def _unreadable(why: str) -> Exception:
    return bad_request(f'Event in version "v1" cannot be handled as a Event: {why}')


def _whole_seconds(value: Any) -> str | None:
    """metav1.Time: any RFC 3339 time is read, whole seconds of UTC are written."""
    if value is None:
        return None
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise _unreadable(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse')
    without_fraction = re.sub(r"\.\d+", "", value).replace("Z", "+00:00")
    return datetime.fromisoformat(without_fraction).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(value: Any) -> Json:
    return {key: value[key] for key in _REFERENCE if value.get(key)} if isinstance(value, Mapping) else {}


def new_event(obj: Json) -> Json:
    """The Event as it is stored: unknown fields dropped, times normalised, empty fields as Go leaves them."""
    event: Json = {**_ALWAYS_THERE, **{key: value for key, value in obj.items() if value is not None}}
    for key in ("reason", "message", "type", "action", "reportingComponent", "reportingInstance"):
        if not isinstance(event.get(key, ""), str):
            raise _unreadable(f"json: cannot unmarshal into Go struct field Event.{key} of type string")
    count = event.get("count", 0)
    if isinstance(count, bool) or not isinstance(count, int) or not -(2**31) <= count < 2**31:
        raise _unreadable("json: cannot unmarshal into Go struct field Event.count of type int32")
    event["involvedObject"] = _reference(event["involvedObject"])
    if event.get("related"):
        event["related"] = _reference(event["related"])
    event["source"] = {key: event["source"][key] for key in ("component", "host") if event["source"].get(key)}
    for key in ("firstTimestamp", "lastTimestamp"):
        event[key] = _whole_seconds(event[key])
    when = event["eventTime"]
    if when is not None and not (isinstance(when, str) and _MICRO_TIME.fullmatch(when)):
        raise _unreadable(f'parsing time "{when}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse')
    return {key: event[key] for key in _ORDER if event.get(key) or key in _ALWAYS_THERE}


def _too_long(event: Mapping[str, Any], field: str, limit: int) -> list[Cause]:
    """Go counts bytes, though the message says characters."""
    if len(event.get(field, "").encode()) <= limit:
        return []
    return [("FieldValueInvalid", f'Invalid value: "": can have at most {limit} characters', field)]


def validate_event(event: Mapping[str, Any]) -> list[Cause]:
    """Causes for a 422. With `eventTime` the rules are stricter."""
    namespace = event["metadata"].get("namespace", "")
    involved = event["involvedObject"].get("namespace", "")
    mismatch = ("FieldValueInvalid", f'Invalid value: "{involved}": does not match event.namespace')
    causes: list[Cause] = []
    if event["eventTime"] is None:
        if namespace != involved and not (involved == "" and namespace == "default"):
            causes.append((*mismatch, "involvedObject.namespace"))
        return causes
    if not involved and namespace not in ("default", "kube-system"):
        causes.append((*mismatch, "involvedObject.namespace"))
    for field in ("reportingComponent", "reportingInstance", "action", "reason"):
        if not event.get(field):
            causes.append(("FieldValueRequired", "Required value", field))
        if field != "reportingComponent":
            causes += _too_long(event, field, 128)
    return causes + _too_long(event, "message", 1024)
