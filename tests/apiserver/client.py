"""A small client of the test server, for looking at bare answers. Every wait has a timeout."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.apiserver.server import ApiServer

__all__ = ["Client", "Reply", "Stream"]

Json = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        """The JSON, or the text if it is none."""
        if self.headers.get("Content-Type", "").startswith("application/json"):
            return json.loads(self.data)
        return self.data.decode()

    @property
    def names(self) -> list[str]:
        """The names of a list's items."""
        return [item["metadata"]["name"] for item in self.body["items"]]


class Stream:
    """A running watch."""

    def __init__(self, response: http.client.HTTPResponse, connection: http.client.HTTPSConnection) -> None:
        self.status = response.status
        self.headers = dict(response.getheaders())
        self._response = response
        self._connection = connection
        self._buffer = b""

    def raw(self) -> bytes:
        """The next line, or what there is of it; empty at the clean end of the stream.

        Not by `HTTPResponse.readline`: that takes a broken stream for its end.
        """
        while b"\n" not in self._buffer:
            data = self._response.read1(65536)
            if not data:
                break
            self._buffer += data
        line, newline, self._buffer = self._buffer.partition(b"\n")
        return line + newline

    def next(self) -> Json:
        """The next line's object; EOFError at the end."""
        line = self.raw()
        if not line:
            raise EOFError
        value: Json = json.loads(line)
        return value

    def take(self, count: int) -> list[Json]:
        """So many lines."""
        return [self.next() for _ in range(count)]

    def short(self, count: int) -> list[tuple[str, str]]:
        """(type, name) of so many lines."""
        return [(line["type"], line["object"]["metadata"].get("name", "")) for line in self.take(count)]

    def rest(self) -> list[Json]:
        """All lines up to the clean end."""
        return [json.loads(line) for line in iter(self.raw, b"")]

    @property
    def buffered(self) -> bytes:
        """What came of a line that is not complete."""
        return self._buffer

    def patience(self, seconds: float) -> None:
        """How long to wait for a line from now on."""
        self._connection.sock.settimeout(seconds)


class Client:
    """A caller with one kept-alive connection (watches have their own)."""

    def __init__(
        self,
        server: ApiServer,
        token: str | None = "",
        *,
        certificate: tuple[str, str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.server = server
        self.token = server.admin_token if token == "" else token
        self._timeout = timeout
        self._context = ssl.create_default_context(cafile=str(server.ca_file))
        if certificate:
            self._context.load_cert_chain(*certificate)
        self._connection = self._connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def patience(self, seconds: float) -> None:
        """How long to wait for an answer from now on."""
        self._timeout = self._connection.timeout = seconds
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask, and read the whole answer. A broken connection is closed: the next request makes another."""
        try:
            self._send(self._connection, method, path, body, headers)
            response = self._connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def get(self, path: str) -> Reply:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, body: object) -> Reply:
        """POST."""
        return self.request("POST", path, body)

    def put(self, path: str, body: object) -> Reply:
        """PUT."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: object, kind: str = STRATEGIC) -> Reply:
        """PATCH."""
        return self.request("PATCH", path, body, {"Content-Type": kind})

    def delete(self, path: str, body: object = None) -> Reply:
        """DELETE."""
        return self.request("DELETE", path, body)

    @contextmanager
    def watch(self, path: str) -> Iterator[Stream]:
        """A watch on a connection of its own."""
        connection = self._connect()
        try:
            self._send(connection, "GET", path, None, None)
            with connection.getresponse() as response:
                yield Stream(response, connection)
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self._context, timeout=self._timeout)

    def _send(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None,
    ) -> None:
        sent = {"Accept": "application/json"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        if self.token is not None:
            sent["Authorization"] = f"Bearer {self.token}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {**sent, **(headers or {})})


def pages(client, path, limit):
    """All answers of a paged list."""
    found, token = [], ""
    while True:
        suffix = f"&continue={token}" if token else ""
        reply = client.get(f"{path}?limit={limit}{suffix}")
        assert reply.status == 200, reply.body
        found.append(reply)
        token = reply.body["metadata"].get("continue")
        if not token:
            return found
