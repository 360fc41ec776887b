"""Names for addresses that are no pod: reverse DNS, asked in the background and with little trust.

Anybody can let the reverse zone of their address say anything. So a name counts only if it is made of letters,
digits and hyphens, and if it resolves back to the address. Whatever else comes is no name, and counted.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cachetools import TLRUCache

if TYPE_CHECKING:
    import dns.name
    import dns.resolver

__all__ = ["Answer", "DnsResolver", "Names", "Outcome", "Resolver"]

log = logging.getLogger(__name__)

#: For all the queries of one address.
LIFETIME_S = 1.0
#: How long what was learnt counts: a name; that there is none; that nobody could tell.
NAME_TTL_S, NO_NAME_TTL_S, NO_ANSWER_TTL_S = 600.0, 60.0, 30.0
#: An address with more names than this does not tell what it is.
MAX_NAMES = 4
#: What :meth:`Names.close` waits for look-ups under way.
CLOSE_S = LIFETIME_S + 0.5

_LABEL = re.compile(rb"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RESOLV_CONF = Path("/etc/resolv.conf")


class Outcome(StrEnum):
    """What came of a look-up; a label of a metric."""

    FOUND = "found"
    #: The address has no name.
    NONE = "none"
    #: It has one that does not resolve back to it.
    UNCONFIRMED = "unconfirmed"
    #: What it has is not a host's name.
    HOSTILE = "hostile"
    TIMEOUT = "timeout"
    #: No server is configured, or none of them would answer.
    FAILED = "failed"
    #: Too many look-ups were waiting already.
    OVERFLOW = "overflow"


class Answer(NamedTuple):
    """The end of a look-up."""

    outcome: Outcome
    #: Lower case, without a dot at the end; empty unless FOUND.
    name: str = ""


class Resolver(Protocol):
    """Whoever knows names."""

    def look_up(self, address: str) -> Answer:
        """The name of an address, within a second or so. May raise anything: that is HOSTILE then."""


class Names:
    """A cache of names that asks in the background: a few daemon threads, started with the first question."""

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        on_ready: Callable[[], None] | None = None,
        observe: Callable[[Outcome], None] | None = None,
        workers: int = 4,
        max_waiting: int = 256,
        max_names: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_ready`` and ``observe`` are called in a worker's thread when an answer is there.

        ``resolver`` is DNS by default. ``max_waiting`` look-ups may be under way, ``max_names`` answers are kept.
        """
        self._resolver = DnsResolver() if resolver is None else resolver
        self._on_ready = on_ready
        self._observe = observe
        self._workers = workers
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._answers: TLRUCache[str, Answer] = TLRUCache(max_names, _expiry, timer=clock)
        #: Asked and not answered yet: one look-up an address.
        self._waiting: set[str] = set()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def lookup(self, address: str) -> str | None:
        """The name of an IPv4 or IPv6 address, "" when it has none, None while the answer is awaited.

        Returns at once and never raises. The answer comes within about a second: ask again then.
        """
        try:
            ip = ip_address(address)
        except ValueError:
            return ""
        if _has_no_name(ip):
            return ""
        key = str(ip)
        with self._lock:
            known = self._answers.get(key)
            if known is not None:
                return known.name
            if self._closed:
                return ""
            if key in self._waiting:
                return None
            if len(self._waiting) < self._max_waiting:
                self._waiting.add(key)
                self._queue.put(key)
                self._start()
                return None
        if self._observe is not None:
            self._observe(Outcome.OVERFLOW)
        return ""

    def _start(self) -> None:
        """With the lock held."""
        while len(self._threads) < self._workers:
            name = f"kiptail-names-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (address := self._queue.get()) is not None:
            if self._closed:
                continue
            try:
                answer = self._resolver.look_up(address)
            except Exception as error:  # noqa: BLE001 - strangers decide what the resolver has to parse
                log.debug("looking up %s: %r", address, error)
                answer = Answer(Outcome.HOSTILE)
            with self._lock:
                self._waiting.discard(address)
                self._answers[address] = answer
            if self._observe is not None:
                self._observe(answer.outcome)
            if self._on_ready is not None:
                self._on_ready()

    def close(self) -> None:
        """End the threads: look-ups under way get a second and a half, those that wait are dropped."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._queue.put(None)
        deadline = time.monotonic() + CLOSE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _expiry(_: str, answer: Answer, now: float) -> float:
    """Until when an answer counts."""
    if answer.outcome is Outcome.FOUND:
        return now + NAME_TTL_S
    if answer.outcome in (Outcome.TIMEOUT, Outcome.FAILED):
        return now + NO_ANSWER_TTL_S
    return now + NO_NAME_TTL_S


def _has_no_name(ip: IPv4Address | IPv6Address) -> bool:
    """Addresses that mean the same on every host, or many hosts: their names would say nothing."""
    broadcast = ip.version == 4 and ip.is_reserved
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or broadcast


class DnsResolver:
    """Asks the DNS servers of resolv.conf, which is read again when it changes. For any number of threads."""

    def __init__(
        self,
        *,
        nameservers: Sequence[str] = (),
        port: int = 53,
        lifetime_s: float = LIFETIME_S,
        resolv_conf: Path = _RESOLV_CONF,
    ) -> None:
        """``nameservers`` (addresses) and ``port`` instead of resolv.conf's. Reads nothing yet."""
        self._nameservers = list(nameservers)
        self._port = port
        self._lifetime_s = lifetime_s
        self._resolv_conf = resolv_conf
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._resolver: dns.resolver.Resolver | None = None

    def look_up(self, address: str) -> Answer:
        """The first name, in alphabetical order, that resolves back to the address."""
        # Here, for it takes 0.1 s (on Debian 12, where it imports an HTTP client if there is one, 0.3 s and
        # 13 MB), and not every node drops packets of strangers.
        import dns.exception  # noqa: PLC0415
        import dns.resolver  # noqa: PLC0415
        import dns.reversename  # noqa: PLC0415

        deadline = time.monotonic() + self._lifetime_s
        try:
            resolver = self._configured()
            found = resolver.resolve(
                dns.reversename.from_address(address), "PTR", lifetime=self._lifetime_s, search=False
            )
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Answer(Outcome.NONE)
        except dns.exception.Timeout:
            return Answer(Outcome.TIMEOUT)
        except (dns.resolver.NoNameservers, dns.resolver.NoResolverConfiguration, OSError):
            return Answer(Outcome.FAILED)
        names = _host_names(record.target.labels for record in found)
        if not names:
            return Answer(Outcome.HOSTILE)
        for name in names:
            try:
                if _resolves_to(resolver, name, address, deadline):
                    return Answer(Outcome.FOUND, name)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
                continue
            except dns.exception.Timeout:
                return Answer(Outcome.TIMEOUT)
            except (dns.resolver.NoNameservers, OSError):
                return Answer(Outcome.FAILED)
        return Answer(Outcome.UNCONFIRMED)

    def _configured(self) -> dns.resolver.Resolver:
        """A resolver for the servers of now. Raises NoResolverConfiguration, OSError."""
        import dns.resolver  # noqa: PLC0415 - as above

        with self._lock:
            stamp = None
            if not self._nameservers:
                status = self._resolv_conf.stat()
                stamp = status.st_mtime_ns, status.st_ino
            if self._resolver is None or stamp != self._stamp:
                resolver = dns.resolver.Resolver(str(self._resolv_conf), configure=not self._nameservers)
                if self._nameservers:
                    resolver.nameservers = list(self._nameservers)
                    resolver.port = self._port
                # A server that is down leaves time for a second one, in both queries.
                resolver.timeout = self._lifetime_s / 3
                self._resolver, self._stamp = resolver, stamp
            return self._resolver


def _resolves_to(resolver: dns.resolver.Resolver, name: str, address: str, deadline: float) -> bool:
    """Whether ``name`` has the address. Raises what dnspython raises."""
    import dns.exception  # noqa: PLC0415 - as above
    import dns.name  # noqa: PLC0415

    left = deadline - time.monotonic()
    if left <= 0:
        raise dns.exception.Timeout
    ip = ip_address(address)
    kind = "A" if ip.version == 4 else "AAAA"
    answer = resolver.resolve(dns.name.from_text(name), kind, lifetime=left, search=False)
    return any(ip_address(record.address) == ip for record in answer)


def _host_names(names: Iterable[tuple[bytes, ...]]) -> list[str]:
    """The names (given as their labels) that are a host's, sorted; none at all if there are many."""
    found = list(names)
    if len(found) > MAX_NAMES:
        return []
    return sorted({name for labels in found if (name := _host_name(labels))})


def _host_name(labels: Sequence[bytes]) -> str:
    """A host's name as of RFC 1123, in lower case and without a dot at the end, or "" for anything else.

    Stricter than DNS: no underscores, no other bytes, and nothing that could be read as an IPv4 address.
    """
    parts = [label.lower() for label in labels if label]
    if not parts or parts[-1].isdigit() or not all(_LABEL.fullmatch(part) for part in parts):
        return ""
    name = b".".join(parts).decode("ascii")
    return name if len(name) <= 253 else ""
