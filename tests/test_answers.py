"""What follows from an answer: only a Status of the API server's refuses, and only the Event itself is a delivery.

The rule here is written down without a look at the code: an HTTP status and a kind of body in, what follows out.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.identity import NOBODY
from kiptail.errors import ApiError, ClusterError
from kiptail.events.sink import ApiSink
from kiptail.events.writer import Result, deliver
from kiptail.kube.access import require_rights
from kiptail.kube.api import KubeApi, WatchStream
from kiptail.kube.rights import required_rights
from tests.support.answers import BODIES, body, damaged, encoded, mutated, status
from tests.support.fuzzing import cases, source
from tests.support.kube import EVENT, LIST, RawServer, failure, kubeconfig, raw, reply, watch, write

STATUSES = (
    101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404,
    405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 418, 421, 422, 423, 425, 428, 429, 431, 451, 499, 500, 501,
    502, 503, 504, 505, 507, 511, 520, 529, 599, 600, 777, 999,
)  # fmt: skip
OPERATIONS = ("create", "update")


def what_follows(code: int, kind: str, operation: str) -> str:
    """The rule: delivered, refused, gone, forbidden, unauthorised, conflict, or away (to be tried again)."""
    if kind == "the Event" and code in (200, 201, 202, 203, 205, 206, 226):
        return "delivered"
    if kind not in ("its Status", "its Status, already exists") or not 400 <= code <= 599:
        return "away"
    if code in (408, 429) or code >= 500:
        return "away"
    special = {401: "unauthorised", 403: "forbidden", 404: "gone", 409: "conflict"}
    return special.get(code, "refused")


def requests_made(code: int, kind: str, operation: str) -> int:
    """The credentials are read again after any 401; an Event that is there is updated, one that is not created."""
    by_server = kind.startswith("its Status")
    if code == 401:
        return 2
    if code == 404 and by_server and operation == "update":
        return 2
    return 2 if code == 409 and kind == "its Status, already exists" and operation == "create" else 1


def outcome(api: KubeApi, operation: str) -> str:
    written = deliver(ApiSink(api), EVENT, known=operation == "update", may_recreate=True)
    if written.error is None:
        assert written.result is Result.OK
        return "delivered"
    text = str(written.error)
    assert text.isprintable()
    assert len(text) <= 300
    names = {
        Result.INVALID: "refused", Result.GONE: "gone", Result.FORBIDDEN: "forbidden", Result.CONFLICT: "conflict",
    }  # fmt: skip
    if written.result is Result.SERVER_FAILS:
        assert written.error.transient != (written.error.status == 401)
        return "unauthorised" if written.error.status == 401 else "away"
    return names[written.result]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", BODIES)
def test_what_follows_from_an_answer(kind: str, operation: str, tmp_path: Path) -> None:
    found, asked = {}, {}
    with raw(tmp_path, reply(b"")) as (api, server):
        for code in STATUSES:
            data, headers = body(kind, code)
            server.heads.clear()
            server.answer = reply(data, status=f"{code} x", headers=headers + "Location: http://127.0.0.1:1/\r\n")
            found[code] = outcome(api, operation)
            asked[code] = len(server.heads)
    assert found == {code: what_follows(code, kind, operation) for code in STATUSES}
    assert asked == {code: requests_made(code, kind, operation) for code in STATUSES}, "no redirect is followed"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_event_that_is_cut_off_by_the_connection_is_none(operation: str, tmp_path: Path) -> None:
    def cut(connection: socket.socket, _: str) -> None:
        data = encoded(EVENT)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(data) + 1) + data)
        connection.shutdown(socket.SHUT_RDWR)

    with raw(tmp_path, cut) as (api, _):
        assert outcome(api, operation) == "away"


def test_a_namespace_that_ends_is_gone(tmp_path: Path) -> None:
    going = status(403, "Forbidden", details={"causes": [{"reason": "NamespaceTerminating"}]})
    with raw(tmp_path, reply(encoded(going), status="403 x")) as (api, server):
        assert outcome(api, "create") == "gone"
        server.answer = reply(encoded(going | {"code": 404}), status="403 x")
        assert outcome(api, "create") == "away"


@pytest.mark.parametrize("code", [102, 103, 204, 304])
def test_the_answer_that_follows_one_without_a_body_is_not_the_next_requests(code: int, tmp_path: Path) -> None:
    """A gateway's 103 Early Hints is followed by the API server's answer, when the next request may be under way."""
    late = threading.Event()
    first = list[str]()

    def hint(connection: socket.socket, head: str) -> None:
        if first:
            reply(encoded(LIST | {"metadata": {"resourceVersion": "2"}}))(connection, head)
            return
        first.append(head)
        connection.sendall(f"HTTP/1.1 {code} x\r\n\r\n".encode())
        late.wait(5)
        reply(encoded(LIST))(connection, head)

    with raw(tmp_path, hint) as (api, server):
        with pytest.raises(ApiError):
            api.list_pods_page(limit=1)
        timer = threading.Timer(0.1, late.set)
        timer.start()
        assert api.list_pods_page(limit=1)["metadata"]["resourceVersion"] == "2"
        assert server.connections == 2
        timer.join()


# -- what else is asked for ---------------------------------------------------------------------------------------

REVIEW = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": {"allowed": True}}
WHO = {
    "kind": "SelfSubjectReview",
    "apiVersion": "authentication.k8s.io/v1",
    "status": {"userInfo": {"username": "system:serviceaccount:kiptail:kiptail", "groups": ["system:authenticated"]}},
}
TOKEN = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": {"token": "a.b-c_d.e"}}
NODES, SERVICES = LIST | {"kind": "NodeList"}, LIST | {"kind": "ServiceList"}
ASKS: dict[str, tuple[Callable[[KubeApi], object], dict[str, Any]]] = {
    "pods": (lambda api: api.list_pods_page(limit=1), LIST),
    "pods by address": (lambda api: api.list_pods_page(limit=1, field_selector="status.podIP=10.0.0.1"), LIST),
    "nodes": (lambda api: api.list_nodes_page(limit=1), NODES),
    "services": (lambda api: api.list_services_page(limit=1), SERVICES),
    "a right": (lambda api: api.allowed("list", "pods"), REVIEW),
    "who this is": (lambda api: api.who(), WHO),
    "a token": (lambda api: api.request_token("kiptail", "kiptail", seconds=600), TOKEN),
    "the version": (lambda api: api.version(), {"gitVersion": "v1.36.0"}),
    "a watch": (lambda api: watch(api).__enter__(), {}),
}
#: Those to which the API server's own 403 or 404 is an answer: it does not tell.
NOT_TOLD = ("a right", "who this is")


@pytest.mark.parametrize("ask", ASKS)
def test_a_page_answers_nothing_that_is_asked_for(ask: str, tmp_path: Path) -> None:
    """Whatever its status, it is as if the API server were away; a refusal of the API server's own is one."""
    request, right = ASKS[ask]
    page = b"<html>Welcome</html>"
    with raw(tmp_path, reply(page)) as (api, server):
        for code in STATUSES:
            server.answer = reply(page, status=f"{code} x")
            with pytest.raises(ApiError) as caught:
                request(api)
            assert caught.value.transient, code
        for code in (400, 401, 403, 404, 410, 422):
            server.answer = reply(encoded(status(code)), status=f"{code} x")
            if ask in NOT_TOLD and code in (403, 404):
                assert not request(api) or request(api) == NOBODY
                continue
            with pytest.raises(ApiError) as caught:
                request(api)
            assert (caught.value.status, caught.value.reason) == (code, "Reason")
        if right:
            server.answer = reply(encoded(right))
            request(api)


WRONG: dict[str, tuple[str, bytes]] = {
    f"{ask}, {what}": (ask, data)
    for ask, (_, right) in ASKS.items()
    if right
    for what, data in {
        "another kind": encoded(status(200) if ask == "the version" else right | {"kind": "ConfigMap"}),
        "another version": encoded({} if ask == "the version" else right | {"apiVersion": "v0"}),
        "a list": encoded([right]),
        "compressed": body("a compressed Event", 200)[0],
        "cut": encoded(right)[:-5],
    }.items()
} | {
    "pods of which the list has no metadata": ("pods", encoded({k: v for k, v in LIST.items() if k != "metadata"})),
    "pods, no version": ("pods", encoded(LIST | {"metadata": {}})),
    "pods, an object for a version": ("pods", encoded(LIST | {"metadata": {"resourceVersion": {}}})),
    "pods, a long version": ("pods", encoded(LIST | {"metadata": {"resourceVersion": "1" * 5_000}})),
    "pods, a number for a token": ("pods", encoded(LIST | {"metadata": {"resourceVersion": "1", "continue": 5}})),
    "pods, a huge token": ("pods", encoded(LIST | {"metadata": {"resourceVersion": "1", "continue": "x" * 70_000}})),
    "pods, an object for items": ("pods", encoded(LIST | {"items": {"a": {}}})),
    "pods, a million of nothing": ("pods", encoded(LIST | {"items": [[]] * 1_000_000})),
    "nodes, but pods": ("nodes", encoded(LIST)),
    "a right, not said": ("a right", encoded(REVIEW | {"status": {}})),
    "a right, in words": ("a right", encoded(REVIEW | {"status": {"allowed": "yes"}})),
    "a right, a number": ("a right", encoded(REVIEW | {"status": {"allowed": 1}})),
    "a token with a line's end": ("a token", encoded(TOKEN | {"status": {"token": "a\r\nX-Evil: 1"}})),
    "a token with half a pair": ("a token", encoded(TOKEN).replace(b"a.b-c_d.e", b"\\ud800")),
    "a token that is none": ("a token", encoded(TOKEN | {"status": {"token": ["a"]}})),
    "a huge token": ("a token", encoded(TOKEN | {"status": {"token": "a" * 100_000}})),
    "a version that is a number": ("the version", b'{"gitVersion":1}'),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_of_another_kind_is_none(case: str, tmp_path: Path) -> None:
    ask, data = WRONG[case]
    headers = "Content-Encoding: gzip\r\n" if "compressed" in case else ""
    with raw(tmp_path, reply(data, headers=headers)) as (api, _):
        with pytest.raises(ApiError) as caught:
            ASKS[ask][0](api)
        assert (caught.value.status, caught.value.reason, caught.value.transient) == (502, "BadResponse", True)


@pytest.mark.parametrize(
    "encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip, gzip", "x-gzip", ", gzip", "gzip," * 2_000]
)
@pytest.mark.parametrize("ask", ["pods", "a watch"])
def test_a_body_is_never_unpacked(encoding: str, ask: str, tmp_path: Path) -> None:
    """A bomb of a few kilobytes would become gigabytes: nothing is asked for compressed, and nothing unpacked."""

    def bomb(connection: socket.socket, _: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"3\r\n\x1f\x8b\x08\r\n0\r\n\r\n")

    with raw(tmp_path, bomb) as (api, server):
        with pytest.raises(ApiError) as caught:
            ASKS[ask][0](api)
        assert caught.value.reason == "BadResponse"
        assert "accept-encoding: identity" in server.heads[0].lower()


@pytest.mark.parametrize(
    "framing",
    [b"5;" + b"x" * 200_000, b"-1\r\n", b"-5\r\n", b"x" * 200_000, b"\r\n", b"5\r\n{\r\n" + b"x" * 200_000],
    ids=["extension", "to the end", "negative", "no number", "empty", "more than it said"],
)
@pytest.mark.parametrize("ask", ["pods", "a watch"])
def test_the_framing_of_an_answer_is_read_in_bounds(framing: bytes, ask: str, tmp_path: Path) -> None:
    """urllib3 reads a chunk's size with whatever follows it, and http.client a chunk of -1 bytes, without an end."""
    sent = [0]

    def endless(connection: socket.socket, _: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framing)
        while sent[0] < 64 << 20:
            sent[0] += connection.send(b"x" * 65_536)

    with raw(tmp_path, endless, request_timeout_s=2.0) as (api, _):
        request = (lambda: api.list_pods_page(limit=1)) if ask == "pods" else (lambda: lines_of(watch(api)))
        assert failure(request).transient
    assert sent[0] < 32 << 20, "the connection was closed early"


def test_a_pages_date_is_not_the_api_servers(tmp_path: Path) -> None:
    date = "Date: Fri, 31 Dec 1999 23:59:59 GMT\r\n"
    with raw(tmp_path, reply(b"<html>", headers=f"Content-Type: text/html\r\n{date}")) as (api, server):
        failure(lambda: api.list_pods_page(limit=1))
        assert api.time_us() is None
        server.answer = reply(encoded(LIST), headers=f"Content-Type: application/json\r\n{date}")
        api.list_pods_page(limit=1)
        assert api.time_us() is not None


def test_statuses_are_counted_in_a_bounded_number_of_series(tmp_path: Path) -> None:
    seen = set[str]()
    with raw(tmp_path, reply(b""), observe=lambda _verb, code, _seconds: seen.add(code)) as (api, server):
        for code in (200, 299, 404, 599, 777, 999):
            server.answer = reply(b"", status=f"{code} x")
            failure(lambda: api.list_pods_page(limit=1))
    assert seen == {"200", "404", "other"}


# -- a start ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 302, 400, 401, 403, 404, 422, 503])
def test_a_start_does_not_end_for_a_gateways_page(code: int, tmp_path: Path) -> None:
    with raw(tmp_path, reply(b"<html>", status=f"{code} x")) as (api, server):
        rights = required_rights(None, posting=True)
        require_rights(api, rights, must_answer=False)
        with pytest.raises(ClusterError, match="does not answer"):
            require_rights(api, rights, must_answer=True)
        server.answer = reply(encoded(status(401, "Unauthorized")), status="401 x")
        with pytest.raises(ClusterError, match="does not accept the credential"):
            require_rights(api, rights, must_answer=False)


def test_only_the_api_server_can_refuse_a_token_but_after_any_401_the_credentials_are_read_again(
    tmp_path: Path,
) -> None:
    class Tokens:
        refusals = 0

        def choose(self, given: str) -> str:
            return given

        def refused(self, token: str) -> None:
            self.refusals += 1

    tokens = Tokens()
    with RawServer(reply(b"<html>", status="401 x")) as server:
        document = kubeconfig(cluster={"server": server.url}, user={"token": "one"})
        path = write(tmp_path / "k", document)
        api = KubeApi.from_kubeconfig(path, tokens=tokens, files_check_s=1000.0)
        write(tmp_path / "k", kubeconfig(cluster={"server": server.url}, user={"token": "two"}))
        for data, refusals in ((b"<html>", 0), (encoded(status(401)), 1)):
            server.answer = reply(data, status="401 x")
            server.heads.clear()
            with pytest.raises(ApiError):
                api.list_pods_page(limit=1)
            assert len(server.heads) == 2
            assert tokens.refusals == refusals
            assert "Bearer two" in server.heads[1]
        api.close()


# -- fuzzers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[KubeApi, RawServer]]:
    with raw(tmp_path, reply(b""), request_timeout_s=0.5) as made:
        yield made


def finished(answer: bytes) -> Callable[[socket.socket, str], None]:
    """Send these bytes and no more."""

    def send(connection: socket.socket, _: str) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)

    return send


def attempt(request: Callable[[], object]) -> ApiError | None:
    """The failure, which is one line, or None. Anything else that is raised fails the test."""
    try:
        request()
    except ApiError as error:
        failed = error
    else:
        return None
    assert str(failed).isprintable()
    return failed


def lines_of(stream: WatchStream) -> list[bytes]:
    with stream as lines:
        return list(lines)


def http(data: bytes, code: int, headers: str, chance: random.Random) -> bytes:
    head = f"HTTP/1.1 {code} x\r\nContent-Type: application/json\r\n{headers}"
    if chance.random() < 0.5:
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    cut = chance.randrange(len(data) + 1)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:cut], data[cut:]) if part)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


@pytest.mark.fuzz
def test_whatever_the_bytes_a_write_is_delivered_or_fails_in_one_line(endpoint: tuple[KubeApi, RawServer]) -> None:
    api, server = endpoint
    chance, seed = source("writes")
    delivered = 0
    for number in range(cases(600)):
        code = chance.choice((200, 201, chance.choice(STATUSES)))
        data, headers = body(chance.choice((*BODIES, "the Event", "its Status")), code)
        if chance.random() < 0.3:
            data = mutated(chance, EVENT)
        answer = http(data, code, headers, chance)
        if chance.random() < 0.7:
            answer = damaged(chance, answer)
        server.answer = finished(answer)
        began = time.monotonic()
        error = attempt(lambda: api.create_event("team-a", EVENT))
        if error is None:
            delivered += 1
            assert re.search(rb"HTTP/1\.\S* +2\d\d", answer), (seed, number, answer[:100])
            told = re.sub(rb"\r\n[0-9a-fA-F]+\r\n", b"", answer)  # of the chunks' sizes, which may cut a name
            assert b"web.1" in told, (seed, number)
            assert b"team-a" in told, (seed, number)
        assert time.monotonic() - began < 3.0, (seed, number)
    assert delivered > 5


@pytest.mark.fuzz
@pytest.mark.parametrize("ask", [ask for ask in ASKS if ask != "a watch"])
def test_whatever_an_answer_holds_it_is_understood_or_refused(ask: str, endpoint: tuple[KubeApi, RawServer]) -> None:
    api, server = endpoint
    request, right = ASKS[ask]
    pods = [
        json.loads((Path(__file__).parent / "wire/48-pod-realistic.json").read_text())["response"]["body"]["items"][0]
    ]
    right = right | {"items": pods} if ask.startswith("pods") else right
    chance, seed = source(f"asks {ask}")
    answered = 0
    for number in range(cases(80)):
        data = (
            encoded(right)
            if number == 0
            else mutated(chance, right)
            if chance.random() < 0.8
            else damaged(chance, encoded(right))
        )
        server.answer = finished(http(data, 200 if number == 0 else chance.choice((200, 201, 403)), "", chance))
        got = list[object]()
        if attempt(lambda: got.append(request(api))) is None:  # noqa: B023 - called at once
            answered += 1
            # Whatever is taken over can be written: to a log, a file, a request.
            assert json.dumps(got, ensure_ascii=False).encode(), (seed, number)
    assert answered
