"""A network namespace with two devices whose other ends are here, and a listener for what its rules log.

Packets are written into a device and read from the other, or from raw sockets behind the input hook; the kernel does
all in between while write(2) lasts. Rules log by NFLOG, which is per namespace and says for each packet which rule it
was.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tests.firewalls.packets import ICMP, ICMP6, NEAR, TCP, UDP, Packet, numbers_in

__all__ = ["GROUP", "World", "run"]

#: The group of NFLOG that is listened to.
GROUP = 7
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001
#: Of linux/netfilter/nfnetlink_log.h.
_PACKET, _CONFIG = 4 << 8, (4 << 8) | 1
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_PAYLOAD, _PREFIX = 9, 10
_SET_UP = """
ip link set lo up
ip addr add 10.3.0.1/32 dev lo; ip addr add fd03::1/128 dev lo nodad
ip link set t0 up; ip link set t1 up
ip addr add 10.1.0.1/24 dev t0; ip addr add 10.2.0.1/24 dev t1
ip addr add fd01::1/64 dev t0 nodad; ip addr add fd02::1/64 dev t1 nodad
"""
_SYSCTL = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")


def run(*command: str, stdin: str = "") -> str:
    """A program's output. RuntimeError with what it complains of."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{stdin}")
    return done.stdout


class World:
    """The namespace; this process (of one thread) moves into it, for good."""

    def __init__(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        for name in _SYSCTL:
            Path(f"/proc/sys/net/{name}").write_text("1")
        for key in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{key}/rp_filter").write_text("0")
            Path(f"/proc/sys/net/ipv6/conf/{key}/accept_ra").write_text("0")
        # The machine's own answers are no packets of ours.
        Path("/proc/sys/net/ipv4/icmp_echo_ignore_all").write_text("1")
        Path("/proc/sys/net/ipv6/icmp/echo_ignore_all").write_text("1")
        self._devices = {name: _device(name) for name in ("t0", "t1")}
        run("sh", "-ec", _SET_UP)
        self._inside = [_raw(socket.AF_INET, protocol) for protocol in (TCP, UDP, ICMP)]
        self._inside += [_raw(socket.AF_INET6, protocol) for protocol in (TCP, UDP, ICMP6)]
        self._senders = {4: _raw(socket.AF_INET, socket.IPPROTO_RAW), 6: _raw(socket.AF_INET6, socket.IPPROTO_RAW)}
        self._log = _listener()
        self._routed()

    def close(self) -> None:
        for device in self._devices.values():
            os.close(device)
        for one in [*self._inside, *self._senders.values(), self._log]:
            one.close()

    def _routed(self) -> None:
        """Wait until the devices' routes work: some packets are sent before."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not run("ip", "-6", "route", "get", NEAR[6][0]).count("t0"):
            time.sleep(0.01)

    def send(self, packets: Iterable[Packet]) -> tuple[set[int], dict[str, set[int]]]:
        """The numbers of those that arrive, and by prefix those that are logged."""
        arrived, logged = set[int](), dict[str, set[int]]()
        for packet in packets:
            if packet.device:
                os.write(self._devices[packet.device], packet.data)
            else:
                # A rule in output that drops it says so.
                with contextlib.suppress(PermissionError):
                    self._senders[packet.version].sendto(packet.data, (packet.target, 0))
            arrived |= self._arrived(packet)
            for prefix, number in self._logged():
                logged.setdefault(prefix, set()).add(number)
        return arrived, logged

    def _arrived(self, packet: Packet) -> set[int]:
        # An ICMP error quotes a packet that was rejected: only what is no such error counts.
        found = set[int]()
        for device in self._devices.values():
            while (data := _read(device)) is not None:
                if not _is_error(data):
                    found.update(numbers_in(data))
        for inside in self._inside:
            while True:
                try:
                    data = inside.recv(2048)
                except BlockingIOError:
                    break
                inner = (
                    data
                    if inside.family == socket.AF_INET
                    else b"\x60" + bytes(5) + bytes([inside.proto]) + bytes(33) + data
                )
                if not _is_error(inner):
                    found.update(numbers_in(data))
        return found

    def _logged(self) -> Iterable[tuple[str, int]]:
        while True:
            try:
                data = self._log.recv(1 << 16)
            except BlockingIOError:
                return
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == _PACKET:
                    attributes = dict(_attributes(data[20:length]))
                    prefix = attributes.get(_PREFIX, b"").rstrip(b"\0").decode()
                    payload = attributes.get(_PAYLOAD, b"")
                    if payload and not _is_error(payload):
                        yield from ((prefix, number) for number in numbers_in(payload))
                data = data[(length + 3) & ~3 :]


def _device(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    return device


def _raw(family: int, protocol: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_RAW, protocol)
    made.setblocking(False)
    # That of IPv6 takes a packet with its header by itself.
    if protocol == socket.IPPROTO_RAW and family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    return made


def _read(device: int) -> bytes | None:
    try:
        return os.read(device, 2048)
    except BlockingIOError:
        return None


def _is_error(data: bytes) -> bool:
    """Whether a packet is an ICMP error or a redirect, which quotes another packet."""
    if data[0] >> 4 == 4:
        protocol, inner = data[9], data[(data[0] & 15) * 4 :]
    else:
        protocol, inner = data[6], data[40:]
    return (protocol == ICMP and inner[0] in (3, 5, 11, 12)) or (
        protocol == ICMP6 and (inner[0] < 128 or inner[0] == 137)
    )


def _attributes(data: bytes) -> Iterable[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x7FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _listener() -> socket.socket:
    """A netlink socket that gets each logged packet at once (a batch of one)."""
    log = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    log.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    log.bind((0, 0))
    for kind, value in (
        (_CFG_CMD, struct.pack("=B", 1)),
        (_CFG_MODE, struct.pack("!IBx", 256, 2)),
        (_CFG_QTHRESH, struct.pack("!I", 1)),
    ):
        attribute = struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
        message = struct.pack("=BBH", 0, 0, socket.htons(GROUP)) + attribute
        log.send(struct.pack("=IHHII", 16 + len(message), _CONFIG, 5, 1, 0) + message)
        answer = log.recv(4096)
        (error,) = struct.unpack_from("=i", answer, 16)
        if error:
            raise OSError(-error, "cannot listen to NFLOG")
    log.setblocking(False)
    return log
