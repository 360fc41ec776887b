"""The addresses that this machine has itself, as the kernel lists them below /proc/net: no netlink is needed.

The unit's sandbox allows sockets of AF_UNIX, AF_INET and AF_INET6 only.
"""

from __future__ import annotations

import array
import fcntl
import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from kiptail.addresses import canonical

__all__ = ["HostAddresses"]

log = logging.getLogger(__name__)

#: Age at which what was read is read again, in seconds: asked for an address that was not there, and for one that was.
UNKNOWN_AGE: Final = 10.0
KNOWN_AGE: Final = 60.0
#: Addresses kept. Most nodes have fewer than ten.
MAX_ADDRESSES: Final = 16_384
#: IPv4 addresses, of all interfaces together, among which Services' are looked for.
MAX_NAMED: Final = 65_536
#: Lines read of a file. fib_trie has about three for each route and lists some tables twice.
MAX_LINES: Final = 1_000_000

#: kube-proxy in IPVS mode gives this interface the address of every Service, which is no address of the node.
_SERVICES = b"kube-ipvs0"

#: ioctl(2)'s request for all interfaces with an IPv4 address; struct ifreq is a name and a union with the address.
_SIOCGIFCONF = 0x8912
_IFCONF = struct.Struct("iP")
_IFREQ_SIZE = 40 if struct.calcsize("P") == 8 else 32
_NAME = slice(0, 16)
_ADDRESS = slice(20, 24)


class HostAddresses:
    """This machine's own addresses, without loopback and without those of Services; any thread may ask.

    ``directory`` holds ``fib_trie`` and ``if_inet6``. A file that cannot be read has no addresses.
    """

    def __init__(self, directory: Path = Path("/proc/net"), clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        self._directory, self._clock = directory, clock
        self._lock = threading.Lock()
        self._addresses: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._said: set[str] = set()

    def has(self, address: str) -> bool:
        """Whether ``address`` (as :mod:`ipaddress` writes it) is this machine's.

        One that came within the last 10 seconds may be missed, one that went is forgotten within a minute.
        """
        with self._lock:
            now = self._clock()
            if now - self._read_at >= (KNOWN_AGE if address in self._addresses else UNKNOWN_AGE):
                self._addresses = self._read()
                self._read_at = now
            return address in self._addresses

    def _read(self) -> frozenset[str]:
        services = _addresses_of_services()
        addresses: set[str] = set()
        for address in itertools.chain(_local4(self._lines("fib_trie")), _local6(self._lines("if_inet6"))):
            if len(addresses) >= MAX_ADDRESSES:
                break
            if address not in services:
                addresses.add(address)
        return frozenset(addresses)

    def _lines(self, name: str) -> Iterator[bytes]:
        """The file's lines; what is wrong with it is logged once."""
        try:
            with (self._directory / name).open("rb") as file:
                yield from itertools.islice(file, MAX_LINES)
        except OSError as error:
            if name not in self._said:
                self._said.add(name)
                log.debug(
                    "%s: %s; this machine's addresses there are not known", self._directory / name, error.strerror
                )


def _local4(lines: Iterable[bytes]) -> Iterator[str]:
    """fib_trie's addresses of type LOCAL, each of which stands in the line before: ``|-- ADDRESS``, ``/32 host LOCAL``.

    Broadcast addresses have another type, and 127.0.0.0 has another length.
    """
    address = b""
    for line in lines:
        match line.split(maxsplit=3):
            case [b"|--", address]:
                pass
            case [b"/32", b"host", b"LOCAL", *_]:
                try:
                    ip = IPv4Address(address.decode("ascii", "replace"))
                except ValueError:
                    continue
                if not ip.is_loopback:
                    yield str(ip)


def _local6(lines: Iterable[bytes]) -> Iterator[str]:
    """if_inet6's addresses: 32 hexadecimal digits, four numbers and the interface in each line."""
    for line in lines:
        match line.split():
            case [digits, _, _, _, _, interface] if interface != _SERVICES:
                try:
                    ip = IPv6Address(bytes.fromhex(digits.decode("ascii", "replace")))
                except ValueError:
                    continue
                text = canonical(str(ip))
                if text is not None and not ip.is_loopback:
                    yield text


def _addresses_of_services() -> frozenset[str]:
    """The IPv4 addresses of kube-proxy's interface: fib_trie names no interface, and this request names all."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # Without a buffer the kernel tells how long the answer would be.
            length, _ = _IFCONF.unpack(fcntl.ioctl(sock, _SIOCGIFCONF, _IFCONF.pack(0, 0)))
            # Some room for addresses that are added meanwhile.
            answer = array.array("B", bytes(min(length + 64 * _IFREQ_SIZE, MAX_NAMED * _IFREQ_SIZE)))
            pointer, size = answer.buffer_info()
            length, _ = _IFCONF.unpack(fcntl.ioctl(sock, _SIOCGIFCONF, _IFCONF.pack(size, pointer)))
    except OSError:
        return frozenset()
    requests = (answer[at : at + _IFREQ_SIZE].tobytes() for at in range(0, length, _IFREQ_SIZE))
    # The name ends with a NUL, and a second address may have a label of its own: INTERFACE:LABEL.
    return frozenset(
        socket.inet_ntoa(request[_ADDRESS])
        for request in requests
        if request[_NAME].split(b"\0")[0].split(b":")[0] == _SERVICES
    )
