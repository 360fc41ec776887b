"""A DNS server on the loopback (UDP), for tests: answers what it is told to, well-formed or not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

__all__ = ["DnsServer", "reverse"]


def reverse(address: str) -> str:
    """The name that the PTR record of an address has, in lower case: `7.2.0.192.in-addr.arpa.`."""
    return str(dns.reversename.from_address(address)).lower()


class DnsServer:
    """`with DnsServer() as server:` serves on `server.address`, `server.port`; unknown names are NXDOMAIN.

    `queries` lists what was asked, as (name in lower case, type). The settings may change at any time.
    """

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.address = address
        self.queries: list[tuple[str, str]] = []
        self._records: dict[str, dict[str, tuple[str, ...]]] = {}
        self._rcodes: dict[str, dns.rcode.Rcode] = {}
        self._silent: set[str] = set()
        self._delays: dict[str, float] = {}
        self._wire: dict[str, Callable[[bytes], bytes]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="dnsserver")

    def add(self, name: str, kind: str, *values: str) -> None:
        """Records in presentation form: `add("a.example.", "A", "192.0.2.7")`."""
        self._records.setdefault(name.lower(), {})[kind] = values

    def name(self, address: str, name: str, *back: str) -> None:
        """A PTR record, and address records of its name: `back`, or the address itself."""
        self.add(reverse(address), "PTR", name)
        self.add(name, "AAAA" if ":" in address else "A", *(back or (address,)))

    def refuse(self, name: str, rcode: str) -> None:
        """Answer `SERVFAIL`, `REFUSED`, …"""
        self._rcodes[name.lower()] = dns.rcode.from_text(rcode)

    def silence(self, name: str) -> None:
        """Do not answer."""
        self._silent.add(name.lower())

    def speak(self, name: str) -> None:
        """Answer again."""
        self._silent.discard(name.lower())

    def delay(self, name: str, seconds: float) -> None:
        """Answer later (and whatever is asked meanwhile, after that)."""
        self._delays[name.lower()] = seconds

    def wire(self, name: str, answer: Callable[[bytes], bytes]) -> None:
        """Answer with these bytes, made from the query's."""
        self._wire[name.lower()] = answer

    def ptr_wire(self, name: str, target: bytes) -> None:
        """Answer with a PTR record whose data is `target`, as it is on the wire."""

        def answer(query: bytes) -> bytes:
            head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:]
            return head + b"\xc0\x0c\0\x0c\0\1\0\0\0\x3c" + len(target).to_bytes(2, "big") + target

        self.wire(name, answer)

    def __enter__(self) -> DnsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, though it says ENOTCONN
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(65_535)
            if not query:
                return
            answer = self._answer(query)
            if answer is not None:
                self._socket.sendto(answer, sender)

    def _answer(self, wire: bytes) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind))
        time.sleep(self._delays.get(name, 0))
        if name in self._silent:
            return None
        if name in self._wire:
            return self._wire[name](wire)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self._rcodes:
            response.set_rcode(self._rcodes[name])
            return response.to_wire()
        if name not in self._records:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return response.to_wire()
        owner, seen = question.name, set[str]()
        while str(owner).lower() not in seen:
            seen.add(str(owner).lower())
            records = self._records.get(str(owner).lower(), {})
            alias = records.get("CNAME", ())
            values = alias or records.get(kind, ())
            if values:
                response.answer.append(dns.rrset.from_text_list(owner, 60, "IN", "CNAME" if alias else kind, values))
            if not alias:
                break
            owner = dns.name.from_text(alias[0])
        return response.to_wire(max_size=65_535)
