"""A node and its pods as network namespaces, with real packets that a real nftables rule logs and drops.

The node is a namespace that forwards between veth pairs, each pod is one behind it. Packets that match a rule given
to :meth:`Network.drop` are logged by the kernel into the machine's one kernel log, under a prefix of the caller's.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ALL_NETNS = Path("/proc/sys/net/netfilter/nf_log_all_netns")

#: Of setns(2); Python 3.11 has no name for it.
CLONE_NEWNET = 0x40000000

#: Runs inside a pod's namespace: sends what is asked for and waits for no answer.
_SENDER = """
import socket, sys
kind, address, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if kind == "udp":
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for _ in range(count):
            s.sendto(b"x", (address, port))
elif kind == "tcp":
    for _ in range(count):
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.setblocking(False)
            s.connect_ex((address, port))
elif kind == "ping":
    proto = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    with socket.socket(family, socket.SOCK_RAW, proto) as s:
        packet = bytes([128, 0, 0, 0, 0, 1, 0, 1]) if ":" in address else bytes([8, 0, 0xF7, 0xFD, 0, 1, 0, 1])
        for _ in range(count):
            s.sendto(packet, (address, 0))
"""


def _run(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Network:
    """Namespaces of one test; made and removed by :func:`network`."""

    def __init__(self) -> None:
        self._tag = f"kt{os.getpid() % 10_000:04d}{secrets.token_hex(2)}"
        self._numbers = itertools.count(1)
        self._pods: dict[str, str] = {}
        self.node = f"{self._tag}-node"

    def set_up(self) -> None:
        _run("ip", "netns", "add", self.node)
        _run("ip", "-n", self.node, "link", "set", "lo", "up")
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            _run("ip", "netns", "exec", self.node, "sysctl", "-qw", f"{key}=1")
        _run("ip", "netns", "exec", self.node, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self._nft("add table inet kiptail")
        self._nft("add chain inet kiptail forward { type filter hook forward priority 0; policy accept; }")

    def tear_down(self) -> None:
        for namespace in [*self._pods.values(), self.node]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=30, check=False)

    def add_pod(self, name: str, *addresses: str) -> None:
        """A namespace with these IPv4 and IPv6 addresses, routed by the node."""
        number = next(self._numbers)
        namespace, outside, inside = f"{self._tag}-{number}", f"p{number}", "eth0"
        _run("ip", "netns", "add", namespace)
        self._pods[name] = namespace
        _run("ip", "-n", self.node, "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
        _run("ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0")
        _run("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{inside}.accept_dad=0")
        for link in ("lo", inside):
            _run("ip", "-n", namespace, "link", "set", link, "up")
        _run("ip", "-n", self.node, "addr", "add", "fe80::1/64", "dev", outside, "nodad")
        _run("ip", "-n", self.node, "addr", "add", "169.254.1.1/32", "dev", outside)
        _run("ip", "-n", self.node, "link", "set", outside, "up")
        for address in addresses:
            family, width = ("-6", 128) if ":" in address else ("-4", 32)
            gateway = "fe80::1" if ":" in address else "169.254.1.1"
            extra = ["nodad"] if ":" in address else []
            _run("ip", family, "-n", namespace, "addr", "add", f"{address}/{width}", "dev", inside, *extra)
            if family == "-4":
                _run("ip", "-n", namespace, "route", "replace", gateway, "dev", inside)
            _run("ip", family, "-n", namespace, "route", "replace", "default", "via", gateway, "dev", inside)
            _run("ip", family, "-n", self.node, "route", "add", f"{address}/{width}", "dev", outside)

    def drop(self, prefix: str, match: str = "", *, hook: str = "forward") -> None:
        """Log and drop packets that match an nft expression (all, when it is empty).

        ``hook``: forwarded ones, those for the node (``input``), or those of its own (``output``).
        """
        self._rule(prefix, match, "drop", hook)

    def reject(self, prefix: str, match: str) -> None:
        """The same, and have the sender of what is forwarded told."""
        self._rule(prefix, match, "reject", "forward")

    def log(self, prefix: str, match: str) -> None:
        """Log what is forwarded, and let it through."""
        self._rule(prefix, match, "accept", "forward")

    def _rule(self, prefix: str, match: str, verdict: str, hook: str) -> None:
        self._nft(f"add chain inet kiptail {hook} {{ type filter hook {hook} priority 0; policy accept; }}")
        self._nft(f'add rule inet kiptail {hook} {match} log prefix "{prefix}" {verdict}')

    def drop_by_iptables(self, prefix: str, *match: str) -> None:
        """Log and drop forwarded IPv4 packets by rules of iptables."""
        for target in (("LOG", "--log-prefix", prefix), ("DROP",)):
            _run("ip", "netns", "exec", self.node, "iptables", "-A", "FORWARD", *match, "-j", *target)

    def rule(self, statement: str) -> None:
        """Add a rule, as nft writes it, for packets that the node forwards."""
        self._nft(f"add rule inet kiptail forward {statement}")

    def restore(self, rules: str) -> None:
        """Have these rules in place of those of the same table, as iptables-save prints them."""
        _run("ip", "netns", "exec", self.node, "iptables-restore", stdin=rules)

    def add_node_address(self, address: str) -> None:
        """Give the node an IPv4 address of its own."""
        _run("ip", "-n", self.node, "addr", "add", f"{address}/32", "dev", "lo")

    def send(self, pod: str, kind: str, address: str, port: int = 0, count: int = 1) -> None:
        """``kind`` is udp, tcp (a SYN each) or ping (an echo request each)."""
        command = ["ip", "netns", "exec", self._pods[pod], "python3", "-c", _SENDER]
        _run(*command, kind, address, str(port), str(count))

    def udp(self, pod: str, source: str, port: int = 0) -> socket.socket:
        """A UDP socket of ours that lives in a pod's namespace and sends from one of its addresses.

        Sending through it starts no process: for many packets, or packets of many pods at once.
        """
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        made = within(self._pods[pod], lambda: socket.socket(family, socket.SOCK_DGRAM))
        # A source port below 32768 would make the packets look like replies.
        made.bind((source, port))
        return made

    def connect_from_node(self, source: str, address: str, port: int) -> None:
        """The node sends a SYN from one of its addresses, as a kubelet that probes, and waits for no answer."""
        with within(self.node, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as made:
            made.bind((source, 0))
            made.setblocking(False)
            made.connect_ex((address, port))

    def execute(self, pod: str, command: Sequence[str]) -> str:
        """Run a command in a pod's namespace."""
        return _run("ip", "netns", "exec", self._pods[pod], *command)

    def _nft(self, rules: str) -> None:
        _run("ip", "netns", "exec", self.node, "nft", "-f", "-", stdin=rules + "\n")


def within(namespace: str, call: Callable[[], T]) -> T:
    """Have ``call`` run in a named network namespace; sockets and threads that it makes stay there."""

    def enter_and_call() -> T:
        with Path(f"/run/netns/{namespace}").open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
        return call()

    # A namespace is entered by one thread alone.
    with ThreadPoolExecutor(1, thread_name_prefix=f"into-{namespace}") as pool:
        return pool.submit(enter_and_call).result()


@contextmanager
def all_netns() -> Iterator[Callable[[], object]]:
    """Have the kernel log packets of all network namespaces, and put its setting back at the end."""
    with ALL_NETNS.open() as setting:
        # Of two test runs, each would put back what the other had set.
        fcntl.flock(setting, fcntl.LOCK_EX)
        before = setting.read()
        try:
            # For each packet, in case that somebody else puts it back.
            yield lambda: ALL_NETNS.write_text("1")
        finally:
            ALL_NETNS.write_text(before)


@contextmanager
def network() -> Iterator[Network]:
    """A node without pods whose LOG rules reach the kernel log; all is put back and removed at the end."""
    net = Network()
    with all_netns() as log_here:
        try:
            log_here()
            net.set_up()
            yield net
        finally:
            net.tear_down()
