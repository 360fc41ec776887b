"""Answers that are no success."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiptail.kube.api import KubeApi
from tests.apiserver import ApiServer
from tests.support.kube import (
    CHUNKED,
    EVENT,
    chunk,
    failure,
    list_pods,
    raw,
    reply,
)


def test_too_many_requests_tell_when_to_come_back(server: ApiServer, opened: Callable[..., KubeApi]) -> None:
    api = opened()
    with server.faults.status(429, retry_after=3):
        error = failure(lambda: list_pods(api))
    assert (error.status, error.reason, error.retry_after, error.transient) == (
        429,
        "TooManyRequests",
        3.0,
        True,
    )


STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "status": "Failure",
    "message": "m",
    "reason": "R",
    "details": {"retryAfterSeconds": 2},
    "code": 500,
}
ANSWERS: dict[str, tuple[str, str, bytes, tuple[Any, ...], str]] = {
    "proxy's text": (
        "503 x",
        "",
        b"no healthy\n upstream\x1b[1m",
        (503, "", None),
        "503: no healthy upstream",
    ),
    "proxy's page": (
        "502 Bad Gateway",
        "",
        b"<html><title>Bad</title><h1>Gateway</h1></html>",
        (502, "", None),
        "502: Bad Gateway",
    ),
    "nothing": ("504 x", "", b"", (504, "", None), "504"),
    "a delay in the Status": ("500 x", "", json.dumps(STATUS).encode(), (500, "R", 2.0), "500: m"),
    "a delay in the header": (
        "500 x",
        "Retry-After: 7\r\n",
        json.dumps(STATUS).encode(),
        (500, "R", 7.0),
        "m",
    ),
    "the API server's limits, which answer without a Status": (
        "429 Too Many Requests",
        "Retry-After: 1\r\n",
        b"Too many requests, please try again later.\n",
        (429, "", 1.0),
        "429: Too many requests",
    ),
    "a date in the header": (
        "503 x",
        "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n",
        b"x",
        (503, "", None),
        "x",
    ),
    "odd types": (
        "500 x",
        "",
        json.dumps(
            STATUS
            | {"message": ["a"], "reason": {}, "details": {"causes": [1, {"reason": 2}], "retryAfterSeconds": "1"}}
        ).encode(),
        (500, "", None),
        "answered 500: Internal Server Error",
    ),
    "more odd types": (
        "500 x",
        "",
        json.dumps(STATUS | {"message": "", "details": [], "reason": 7}).encode(),
        (500, "", None),
        "500",
    ),
    "deep nesting": ("500 x", "", b"[" * 100_000, (500, "", None), "[[["),
    "a redirect": (
        "302 x",
        "Location: http://elsewhere.invalid/\r\n",
        b"",
        (502, "BadResponse", None),
        "302 without a Status: Found",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_refusal_is_understood(case: str, tmp_path: Path) -> None:
    status, headers, body, expected, text = ANSWERS[case]
    with raw(tmp_path, reply(body, status=status, headers=headers)) as (api, server):
        error = failure(lambda: list_pods(api))
        assert (error.status, error.reason, error.retry_after) == expected
        assert text in str(error)
        assert len(server.heads) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{", b'{"items":5,"metadata":{}}', b'{"items":[]}', b"[" * 100_000, b"\xff"],
    ids=["nothing", "page", "list", "cut", "items", "no metadata", "deep", "binary"],
)
def test_a_list_that_is_none_is_a_bad_answer(body: bytes, tmp_path: Path) -> None:
    with raw(tmp_path, reply(body)) as (api, _):
        error = failure(lambda: list_pods(api))
        assert (error.status, error.reason, error.transient) == (502, "BadResponse", True)


def test_a_review_that_is_none_is_a_bad_answer(tmp_path: Path) -> None:
    with raw(tmp_path, reply(b'{"status":{"allowed":"yes"}}')) as (api, _):
        assert failure(lambda: api.allowed("list", "pods")).reason == "BadResponse"


def test_an_answer_that_does_not_end_is_not_kept(tmp_path: Path) -> None:
    def flood(connection: socket.socket, _: str) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(chunk(b" " * 65_536))

    with raw(tmp_path, flood) as (api, _):
        error = failure(lambda: api.create_event("a", EVENT))
        assert error.reason == "BadResponse"
        assert "is larger than 1 MiB" in str(error)
