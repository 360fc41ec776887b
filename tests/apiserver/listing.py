"""Lists: resourceVersion semantics, selectors, pages."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.apiserver.answers import ApiError, bad_request, dump, expired, invalid
from tests.apiserver.kinds import Kind
from tests.apiserver.selection import label_matcher, parse_fields
from tests.apiserver.store import Collection, Expired, Store, Stored

__all__ = ["Page", "list_objects", "number", "selector", "too_large"]

Match = Callable[[Stored], bool]

_TOKEN_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You can start a new list without the continue parameter, or use the continue token in this response to "
    "retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True, slots=True)
class Page:
    """A list's answer: its head and tail around the items' bytes."""

    head: bytes
    items: list[Stored]
    tail: bytes = b"]}\n"


def number(text: str, what: str) -> int:
    """A decimal parameter, or 400."""
    if not text.isdecimal():
        raise bad_request(f'Invalid value: "{text}": {what}: strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def too_large(version: int, current: int) -> ApiError:
    """504: the server has not seen that resourceVersion yet."""
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {version}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
        headers={"Retry-After": "1"},
    )


def selector(kind: Kind, namespace: str, query: Mapping[str, str]) -> Match | None:
    """The predicate of namespace, fieldSelector and labelSelector; None when everything matches."""
    tests: list[tuple[int, str, bool]] = []
    for term in parse_fields(query.get("fieldSelector", "")):
        if term.field not in kind.selectable:
            raise bad_request(f"field label not supported: {term.field}")
        tests.append((kind.labels.index(term.field), term.value, term.negated))
    labels = label_matcher(query.get("labelSelector", ""))
    if not tests and labels is None and not namespace:
        return None
    if len(tests) == 1 and not tests[0][2] and labels is None and not namespace:
        # The common case on the hot path: one equality over all pods.
        position, value, _ = tests[0]
        return lambda stored: stored.fields[position] == value

    def matches(stored: Stored) -> bool:
        if namespace and stored.namespace != namespace:
            return False
        for position, value, negated in tests:
            if (stored.fields[position] == value) == negated:
                return False
        return labels is None or labels(stored.labels)

    return matches


def _encode(version: int, start: str) -> str:
    token = dump({"v": "meta.k8s.io/v1", "rv": version, "start": start}).replace(b"\x00", b"\\u0000")
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


def _decode(token: str) -> tuple[int, str]:
    try:
        value = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(value["rv"]), str(value["start"])
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error


def _version_wanted(query: Mapping[str, str], limit: int) -> tuple[str, int]:
    """(`Exact`, `NotOlderThan` or empty, the version): the parameters' combinations, as documented."""
    text = query.get("resourceVersion", "")
    match = query.get("resourceVersionMatch", "")
    version = number(text, "resourceVersion") if text else 0
    if match and not text:
        why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise invalid("ListOptions.meta.k8s.io", "", [("FieldValueForbidden", why, "resourceVersionMatch")])
    if match == "Exact" and not version:
        why = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise invalid("ListOptions.meta.k8s.io", "", [("FieldValueForbidden", why, "resourceVersionMatch")])
    if not match and version and limit:
        match = "Exact"
    return match, version


def list_objects(store: Store, collection: Collection, namespace: str, query: Mapping[str, str]) -> Page:
    """Answer a list."""
    kind = collection.kind
    limit = number(query["limit"], "limit") if query.get("limit") else 0
    token = query.get("continue", "")
    match, wanted = _version_wanted(query, limit)
    if "sendInitialEvents" in query:
        why = "Forbidden: sendInitialEvents is forbidden for list"
        raise invalid("ListOptions.meta.k8s.io", "", [("FieldValueForbidden", why, "sendInitialEvents")])
    matches = selector(kind, namespace, query)
    if token and query.get("resourceVersion", "") not in ("", "0"):
        raise bad_request("specifying resource version is not allowed when using continue")
    prefix = f"{namespace}/" if namespace and kind.namespaced else ""
    start = ""
    if token:
        wanted, start = _decode(token)
        start = prefix + start.lstrip("/")
    with store.lock:
        if wanted > store.version:
            raise too_large(wanted, collection.version)
        try:
            if (token and wanted > 0) or match == "Exact":
                objects, version = collection.snapshot(wanted)
            else:
                objects, version = collection.snapshot()
                if query.get("resourceVersion") and kind.cached and not token:
                    version = max(collection.version, wanted)
        except Expired as error:
            if not token:
                raise expired("The resourceVersion for the provided list is too old.") from error
            raise expired(_TOKEN_TOO_OLD, token=_encode(-1, _decode(token)[1])) from error
    if kind.cached and query.get("resourceVersion") == "0" and not token:
        limit = 0  # The watch cache answers, and it knows no pages.
    found = objects if matches is None else [stored for stored in objects if matches(stored)]
    if start:
        found = [stored for stored in found if stored.key >= start]
    metadata: dict[str, object] = {"resourceVersion": str(version)}
    if limit and len(found) > limit:
        last = found[limit - 1]
        metadata["continue"] = _encode(version, "/" + last.key.removeprefix(prefix) + "\x00")
        if not (query.get("fieldSelector") or query.get("labelSelector")):
            metadata["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    head = dump({"kind": f"{kind.kind}List", "apiVersion": kind.group_version, "metadata": metadata})
    return Page(head[:-1] + b',"items":[', found)
