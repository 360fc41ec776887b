"""An HTTP proxy: CONNECT, and requests with a whole URL; with a password, and with TLS, where a test wants it."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
from urllib.parse import urlsplit

from tests.support.serving import Serving

__all__ = ["Proxy"]

REFUSAL = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
)


class _Line(socketserver.StreamRequestHandler):
    """One client's connection."""

    def handle(self) -> None:
        proxy: Proxy = self.server  # type: ignore[assignment]
        with contextlib.suppress(OSError, ssl.SSLError):
            while head := self._head():
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ")
                said = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
                proxy.asked.append((method, target, said.get("proxy-authorization")))
                if proxy.wants is not None and said.get("proxy-authorization") != proxy.wants:
                    self.wfile.write(REFUSAL)
                    continue
                host, _, port = (target if method == "CONNECT" else urlsplit(target).netloc).rpartition(":")
                with socket.create_connection((proxy.hosts.get(host, host), int(port)), timeout=10) as other:
                    if method == "CONNECT":
                        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    else:
                        kept = [line for line in lines[1:] if not line.lower().startswith("proxy-")]
                        other.sendall(
                            "\r\n".join([lines[0].replace(f"http://{host}:{port}", ""), *kept]).encode("latin-1")
                        )
                    self._relay(other)
                    return

    def _head(self) -> bytes:
        lines = []
        while line := self.rfile.readline(65_536):
            lines.append(line)
            if line == b"\r\n":
                return b"".join(lines)
        return b""

    def _relay(self, other: socket.socket) -> None:
        pairs = {self.connection: other, other: self.connection}
        while True:
            pending = isinstance(self.connection, ssl.SSLSocket) and self.connection.pending()
            ready = [self.connection] if pending else select.select(list(pairs), [], [], 20)[0]
            for side in ready:
                data = side.recv(65_536)
                if not data:
                    return
                pairs[side].sendall(data)


class Proxy(Serving):
    """Notes (method, target, Proxy-Authorization) of each request in `asked`.

    `wants` is the Proxy-Authorization without which it answers 407. `hosts` are names that it knows, with their
    addresses.
    """

    def __init__(
        self,
        *,
        wants: str | None = None,
        tls: ssl.SSLContext | None = None,
        hosts: dict[str, str] | None = None,
        at: str = "127.0.0.1",
    ) -> None:
        super().__init__(_Line, tls=tls, at=at)
        self.wants, self.hosts = wants, hosts or {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def address(self) -> str:
        return f"{self.server_address[0]}:{self.server_address[1]}"
