"""Answers that an API server would, or would not, give, for tests: the bodies, and damage to what is well-formed."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from typing import Any

from tests.support.kube import EVENT

__all__ = ["BODIES", "ODD", "RAW", "body", "damaged", "encoded", "mutated", "status"]

#: Values that no field expects.
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 2**31, 2**63 - 1, -(2**63), 1.5, "", " ", ".", "..", "../x", "a/b", "a b", "x" * 300,
    "x" * 5_000, "0", "1" * 100, "nul\0", "line\nfeed", "\x1b[31m", "é", "\U0001f600", "fe80::1%eth0", "10.0.0.1", "::",
    "255.255.255.255", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01",
    "9999-12-31T23:59:59-23:59", "yesterday", [], {}, [[]], [None], [{}], {"": ""}, {"a": []}, ["10.0.0.1"],
    [{"ip": 7}], {"ip": "10.0.0.1"}, {"k8s.io/initial-events-end": "true"},
)  # fmt: skip
#: Pieces of JSON text that Python's writer would not write.
RAW = (
    '"\\ud800"', '"\\udfff\\ud800"', "1e999", "-1e999", "NaN", "Infinity", "1" * 30, "1" * 5_000, "0.1e-999",
    "[" * 200 + "]" * 200, "[" * 100_000, '{"a":1,"a":2}', "-", "tru", "'x'", '"\x01"', "",
)  # fmt: skip


def status(code: int, reason: str = "Reason", **more: Any) -> dict[str, Any]:
    """A failure Status."""
    made = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "m"}
    return made | {"reason": reason, "code": code} | more


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def body(kind: str, code: int) -> tuple[bytes, str]:
    """The body of an answer with this HTTP status, and what it needs of further headers."""
    made = BODIES[kind](code)
    return made if isinstance(made, tuple) else (made, "")


def _event(**more: Any) -> bytes:
    return encoded(EVENT | more)


def _with(old: bytes, new: bytes) -> bytes:
    """The Event with a part of its text replaced."""
    return _event().replace(old, new)


GZIP = "Content-Encoding: gzip\r\n"
#: Kinds of bodies, made for an HTTP status.
BODIES: dict[str, Callable[[int], bytes | tuple[bytes, str]]] = {
    "its Status": lambda code: encoded(status(code)),
    "its Status, already exists": lambda code: encoded(status(code, "AlreadyExists")),
    "another's Status": lambda code: encoded(status(404 if code != 404 else 400)),
    "a Status without a code": lambda code: encoded({k: v for k, v in status(code).items() if k != "code"}),
    "a Status with a text for a code": lambda code: encoded(status(code) | {"code": str(code)}),
    "a Status of success": lambda code: encoded(status(code) | {"status": "Success"}),
    "a Status of another version": lambda code: encoded(status(code) | {"apiVersion": "v2"}),
    "the Event": lambda _: _event(),
    "another Event": lambda _: _event(metadata=EVENT["metadata"] | {"name": "another"}),
    "an Event elsewhere": lambda _: _event(metadata=EVENT["metadata"] | {"namespace": "team-b"}),
    "an Event without a name": lambda _: _event(metadata={}),
    "an Event with a list for metadata": lambda _: _event(metadata=[EVENT["metadata"]]),
    "an Event of events.k8s.io": lambda _: _event(apiVersion="events.k8s.io/v1"),
    "a list with the Event": lambda _: encoded({"kind": "EventList", "apiVersion": "v1", "items": [EVENT]}),
    "another object": lambda _: _event(kind="Pod"),
    "a list": lambda _: b"[]",
    "a number": lambda _: b"7",
    "null": lambda _: b"null",
    "a page": lambda _: (b"<html><title>Sign in</title><h1>Not Found</h1></html>", "Content-Type: text/html\r\n"),
    "a text": lambda _: b"404 page not found\n",
    "nothing": lambda _: b"",
    "a truncated Event": lambda _: _event()[:-20],
    "an Event and more": lambda _: _event() + _event(),
    "an Event in UTF-16": lambda _: _event().decode().encode("utf-16"),
    "an Event that is no UTF-8": lambda _: _with(b'"m"', b'"\xff"'),
    "an Event with half a surrogate pair": lambda _: _with(b'"m"', b'"\\ud800"'),
    "an Event with a raw half": lambda _: _with(b'"m"', b'"\xed\xa0\x80"'),
    "an Event with an endless number": lambda _: _with(b'"count": 1', b'"count": ' + b"1" * 5_000),
    "an Event with NaN": lambda _: _with(b'"count": 1', b'"count": NaN'),
    "a deep Event": lambda _: _with(b'"m"', b"[" * 50_000 + b"]" * 50_000),
    "a compressed Event": lambda _: (gzip.compress(_event()), GZIP),
    "a compressed Status": lambda code: (gzip.compress(encoded(status(code))), GZIP),
    "an Event that says it is compressed": lambda _: (_event(), "Content-Encoding: gzip, gzip, gzip\r\n"),
    "a huge Event": lambda _: _with(b'"m"', b'"' + b"m" * (1 << 20) + b'"'),
    "a huge Status": lambda code: encoded(status(code)).replace(b'"m"', b'"' + b"m" * (1 << 20) + b'"'),
}


def mutated(chance: random.Random, document: Any) -> bytes:
    """JSON like ``document``, with some values in it replaced, removed or doubled, and perhaps no JSON any more."""
    document = copy.deepcopy(document)
    marks: list[str] = []
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = _somewhere(chance, document)
        if place is None:
            break
        parent, key = place
        match chance.randrange(8):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.extend([parent[key]] * chance.choice((1, 50)))
            case 2:
                parent[key] = f"@{len(marks)}@"
                marks.append(chance.choice(RAW))
            case _:
                parent[key] = copy.deepcopy(chance.choice(ODD))
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    for number, raw in enumerate(marks):
        text = text.replace(f'"@{number}@"', raw)
    return text.encode("utf-8", "surrogatepass")


def damaged(chance: random.Random, data: bytes) -> bytes:
    """``data`` with some bytes changed, cut out, doubled or put in."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at : at + 1] = chance.randbytes(1)
            case 1:
                del data[at : at + chance.choice((1, 3, 40))]
            case 2:
                data[at:at] = data[at : at + chance.choice((1, 20))]
            case 3:
                data[at:at] = chance.choice((b"\r\n", b"\n", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"{", b"]", b'"'))
            case 4:
                data[at:] = b""
            case _:
                data[at:at] = chance.randbytes(chance.choice((1, 8)))
    return bytes(data)


def _somewhere(chance: random.Random, document: Any) -> tuple[Any, Any] | None:
    """A container in the document, and the key or index of something in it."""
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            todo.append(node[key])
    return chance.choice(places) if places else None
