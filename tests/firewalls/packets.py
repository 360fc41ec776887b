"""The packets that are sent through a rule set, with their checksums; each carries its number."""

from __future__ import annotations

import ipaddress
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NEAR", "Packet", "numbers_in", "packets"]

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
#: Addresses by family: hosts behind the device t0, those behind t1, and the machine's own.
NEAR = {4: ("10.1.0.2", "10.1.0.3"), 6: ("fd01::2", "fd01::3")}
FAR = {4: ("10.2.0.2", "10.2.0.3"), 6: ("fd02::2", "fd02::3")}
OWN = {4: "10.3.0.1", 6: "fd03::1"}
_NUMBER = re.compile(rb"<<(\d+)>>")
_ports = itertools.count(1024)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet."""

    number: int
    #: 4 or 6.
    version: int
    #: ``t0`` or ``t1``, the device that it comes in by; "" where this machine sends it.
    device: str
    source: str
    target: str
    protocol: int
    data: bytes


def numbers_in(data: bytes) -> list[int]:
    """Of packets that are, or are quoted, in what was received."""
    return [int(number) for number in _NUMBER.findall(data)]


def packets(version: int, numbers: Iterator[int]) -> Iterator[Packet]:
    """One of each kind; a flow's reply follows its first packet."""
    icmp = ICMP if version == 4 else ICMP6
    ways = [("t0", near, far) for near, far in zip(NEAR[version], FAR[version], strict=True)]
    ways += [
        ("t0", NEAR[version][0], OWN[version]),
        ("", OWN[version], FAR[version][0]),
        ("", OWN[version], OWN[version]),
    ]
    for device, source, target in ways:
        for protocol, port in ((TCP, 22), (TCP, 80), (UDP, 22), (UDP, 53), (icmp, 0)):
            own_port = 1024 + next(_ports) % 60000
            yield _packet(next(numbers), version, (device, source, target), protocol, (own_port, port))
            if (device and target != OWN[version] and port == 22) or (protocol == UDP and device and port == 53):
                back = ("t1" if target in FAR[version] else "", target, source)
                yield _packet(next(numbers), version, back, protocol, (port, own_port), reply=True)


def _packet(
    number: int, version: int, way: tuple[str, str, str], protocol: int, ports: tuple[int, int], *, reply: bool = False
) -> Packet:
    device, source, target = way
    load = f"<<{number}>>".encode()
    # A connection begins with SYN; what comes with ACK only is taken for the middle of one.
    flags = 0x12 if reply else 0x02
    if protocol == TCP:
        body = struct.pack("!HHIIBBHHH", *ports, number, 1 if reply else 0, 5 << 4, flags, 64240, 0, 0) + load
        place = 16
    elif protocol == UDP:
        body = struct.pack("!HHHH", *ports, 8 + len(load), 0) + load
        place = 6
    else:
        body = struct.pack("!BBHHH", 8 if protocol == ICMP else 128, 0, 0, ports[0], 1) + load
        place = 2
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    pseudo = b"" if protocol == ICMP else addresses + struct.pack("!II", len(body), protocol)
    checksum = _checksum(pseudo + body)
    # For UDP, 0 stands for none.
    checksum = b"\xff\xff" if protocol == UDP and checksum == b"\0\0" else checksum
    body = body[:place] + checksum + body[place + 2 :]
    if version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number & 0xFFFF, 0, 64, protocol, 0) + addresses
        header = header[:10] + _checksum(header) + header[12:]
    else:
        header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + addresses
    return Packet(number, version, device, source, target, protocol, header + body)


def _checksum(data: bytes) -> bytes:
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
