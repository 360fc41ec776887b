"""What tests of the API client share: clients, kubeconfigs, and servers that behave badly."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import socketserver
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiptail.errors import ApiError
from kiptail.kube.api import KubeApi, WatchStream
from tests.apiserver import ApiServer
from tests.apiserver.certificates import authority
from tests.support.serving import Serving

#: A request's time in tests of what happens when it is over, in seconds.
SHORT = 0.25
#: What "at once" may take on a busy machine.
AT_ONCE = 2.0
POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "team-a"},
    "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}]},
}
#: An empty list of pods, as the API server writes it.
LIST: dict[str, Any] = {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
EVENT: dict[str, Any] = {
    "kind": "Event",
    "apiVersion": "v1",
    "metadata": {"name": "web.1", "namespace": "team-a"},
    "involvedObject": {"kind": "Pod", "namespace": "team-a", "name": "web"},
    "message": "m",
    "count": 1,
}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        server.namespaces.put({"metadata": {"name": "team-a"}})
        yield server


@pytest.fixture
def opened(server: ApiServer, tmp_path: Path) -> Iterator[Callable[..., KubeApi]]:
    """Makes clients of `server`; keyword arguments that `ApiServer.kubeconfig` takes go to it."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> KubeApi:
            keys = ("token", "token_file", "client", "ca", "user")
            path = server.kubeconfig(tmp_path / "kubeconfig", **{k: options.pop(k) for k in keys if k in options})
            api = KubeApi.from_kubeconfig(path, **options)
            stack.callback(api.close)
            return api

        yield make


class Connection(socketserver.StreamRequestHandler):
    """Reads requests and lets the server's `answer(connection, head)` send what it likes."""

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while head := self._head():
                self.server.heads.append(head)  # type: ignore[attr-defined]
                self.server.answer(self.connection, head)  # type: ignore[attr-defined]

    def _head(self) -> str:
        lines = list(iter(lambda: self.rfile.readline().decode(), "\r\n")) if self.rfile.peek(1) else []
        length = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
        self.rfile.read(length[0] if length else 0)
        return "".join(lines)


class RawServer(Serving):
    """An HTTP server that does what no real one would; with TLS where `tls` is its context."""

    def __init__(self, answer: Callable[[socket.socket, str], None], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(Connection, tls=tls)
        self.answer = answer
        self.heads: list[str] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.server_address[1]}"


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority().server.certificate, authority().server.key)
    return context


@contextlib.contextmanager
def raw(
    tmp_path: Path,
    answer: Callable[[socket.socket, str], None],
    *,
    tls: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[tuple[KubeApi, RawServer]]:
    """A client, and a RawServer that answers it."""
    with RawServer(answer, tls) as server:
        cluster = {"server": server.url, "certificate-authority": str(authority().certificate)}
        path = write(tmp_path / "raw", kubeconfig(cluster=cluster))
        api = KubeApi.from_kubeconfig(path, **options)
        try:
            yield api, server
        finally:
            api.close()


def reply(body: bytes, *, status: str = "200 OK", headers: str = "") -> Callable[[socket.socket, str], None]:
    def answer(connection: socket.socket, _: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        connection.sendall(head.encode() + body)

    return answer


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def kubeconfig(*, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster or {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "u", "user": user or {}}],
    }


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def pem(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def plugin(path: Path, script: str, **more: Any) -> dict[str, Any]:
    """A user whose credential comes from a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "args": None, **more}}


def credential(**status: str) -> str:
    """What an exec plugin prints."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(answer)}\nEND"


def failure(request: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        request()
    assert "\n" not in str(caught.value)
    return caught.value


def list_pods(api: KubeApi) -> Any:
    return api.list_pods_page(limit=10)


def watch(api: KubeApi, **options: Any) -> WatchStream:
    return api.watch_pods(**{"resource_version": "0", "timeout_s": 20, **options})


def late(request: Callable[[], object]) -> ApiError:
    """The failure of a request whose time was `SHORT`."""
    started = time.monotonic()
    error = failure(request)
    taken = time.monotonic() - started
    assert SHORT * 0.9 <= taken < SHORT + AT_ONCE
    assert error.unreachable
    assert not error.silent
    assert f"no complete answer within {SHORT} s" in str(error) or "in time" in str(error)
    return error


def drip_chunks(connection: socket.socket, _: str) -> None:
    connection.sendall(CHUNKED)
    while True:
        connection.sendall(chunk(b" "))
        time.sleep(0.05)
