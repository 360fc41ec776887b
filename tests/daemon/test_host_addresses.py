"""Which addresses this machine has itself."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiptail.daemon import host_addresses
from kiptail.daemon.host_addresses import HostAddresses
from tests.support.clock import Clock
from tests.support.netns import Network

ROOT = Path(__file__).parents[2]

#: Recorded on Linux 6.18: a network namespace with a bridge, and a rule for table 100, which parts main from local.
FIB_TRIE = """\
Id 100:
  |-- 10.50.0.1
     /32 host LOCAL
Main:
  +-- 10.0.0.0/8 2 0 2
     |-- 10.99.0.0
        /26 universe BLACKHOLE
     |-- 10.244.3.0
        /24 link UNICAST
     |-- 10.244.3.9
        /32 link UNICAST
Local:
  +-- 0.0.0.0/1 2 0 2
     +-- 10.244.3.0/24 2 0 2
        +-- 10.244.3.0/29 2 0 2
           |-- 10.244.3.0
              /32 link BROADCAST
           |-- 10.244.3.1
              /32 host LOCAL
           |-- 10.244.3.7
              /32 host LOCAL
        |-- 10.244.3.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""
IF_INET6 = """\
fd000010024400030000000000000001 02 40 00 82      br0
fe8000000000000028f1d0fffe8abfd9 02 40 20 c0      br0
00000000000000000000000000000001 01 80 10 80       lo
fd000010009600000000000000000001 03 80 00 c0 kube-ipvs0
"""
OWN = ["10.50.0.1", "10.244.3.1", "10.244.3.7", "fd00:10:244:3::1", "fe80::28f1:d0ff:fe8a:bfd9"]
OTHERS = [
    *("10.99.0.0", "10.244.3.0", "10.244.3.9", "10.244.3.255", "127.0.0.0", "127.0.0.1", "127.255.255.255"),
    *("::1", "fd00:10:96::1", "192.0.2.1", "2001:db8::1", ""),
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "fib_trie").write_text(FIB_TRIE)
    (tmp_path / "if_inet6").write_text(IF_INET6)
    return tmp_path


@pytest.fixture
def host(directory: Path, clock: Clock) -> HostAddresses:
    return HostAddresses(directory, clock)


@pytest.mark.parametrize("address", OWN)
def test_addresses_of_its_interfaces_are_the_machines(host: HostAddresses, address: str) -> None:
    assert host.has(address)


@pytest.mark.parametrize("address", OTHERS)
def test_routes_broadcast_loopback_and_services_are_not(host: HostAddresses, address: str) -> None:
    assert not host.has(address)


def test_main_and_local_may_be_one_table_that_is_listed_twice(directory: Path, host: HostAddresses) -> None:
    """As on a machine without rules of its own."""
    table = """\
  +-- 192.0.2.0/24 2 0 2
     +-- 192.0.2.0/30 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""
    (directory / "fib_trie").write_text(f"Main:\n{table}Local:\n{table}")
    assert host.has("192.0.2.2")
    assert not host.has("192.0.2.0")
    assert not host.has("192.0.2.255")


def test_a_new_address_is_seen_after_ten_seconds_and_the_files_are_not_read_sooner(
    directory: Path, host: HostAddresses, clock: Clock
) -> None:
    assert not host.has("10.244.9.9")
    (directory / "fib_trie").write_text("Main:\n  |-- 10.244.9.9\n     /32 host LOCAL\n")
    clock.now += 9.9
    assert not host.has("10.244.9.9")
    clock.now += 0.2
    assert host.has("10.244.9.9")


def test_an_address_that_went_is_forgotten_within_a_minute(directory: Path, host: HostAddresses, clock: Clock) -> None:
    assert host.has("10.244.3.1")
    (directory / "fib_trie").write_text("Main:\n")
    clock.now += 30
    assert host.has("10.244.3.1"), "nobody asked for one that is not known: not read again"
    assert host.has("fd00:10:244:3::1")
    clock.now += 30
    assert not host.has("10.244.3.1")
    assert host.has("fd00:10:244:3::1")


@pytest.mark.parametrize("missing", ["fib_trie", "if_inet6"])
def test_a_file_that_cannot_be_read_has_no_addresses_and_is_said_once(
    directory: Path, host: HostAddresses, clock: Clock, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A kernel without IPv6 has no if_inet6."""
    caplog.set_level("DEBUG")
    (directory / missing).unlink()
    for _ in range(3):
        assert [host.has(address) for address in OWN] == [
            (":" in address) is (missing == "fib_trie") for address in OWN
        ]
        clock.now += 60
    (record,) = caplog.records
    assert (record.levelname, missing in record.getMessage()) == ("DEBUG", True)


def test_only_so_many_addresses_are_kept(directory: Path, host: HostAddresses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_addresses, "MAX_ADDRESSES", 3)
    assert [address for address in OWN if host.has(address)] == OWN[:3]


def test_only_so_many_lines_are_read(directory: Path, host: HostAddresses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_addresses, "MAX_LINES", 3)
    assert [address for address in OWN if host.has(address)] == [OWN[0], *OWN[3:]]


lines = st.text(" |-/+.:0123456789abcdefLOCALhostlo\n\xff", max_size=60).map(lambda text: text.encode("latin-1"))
pieces = st.lists(lines | st.sampled_from((FIB_TRIE + IF_INET6).encode().splitlines(keepends=True)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces.map(b"".join), pieces.map(b"".join))
def test_whatever_the_files_hold_nothing_is_raised(directory: Path, fib_trie: bytes, if_inet6: bytes) -> None:
    (directory / "fib_trie").write_bytes(fib_trie)
    (directory / "if_inet6").write_bytes(if_inet6)
    host = HostAddresses(directory)
    for loopback in ("127.0.0.1", "::1"):
        assert not host.has(loopback)


def test_threads_may_ask_at_once(host: HostAddresses) -> None:
    answers: list[list[bool]] = []
    threads = [
        threading.Thread(target=lambda: answers.append([host.has(address) for address in OWN + OTHERS]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[True] * len(OWN) + [False] * len(OTHERS)] * 8


#: Prints which of the addresses given the machine has: at once, and after another address was added and one removed.
ASK = """
import json, subprocess, sys
from kiptail.daemon.host_addresses import HostAddresses
now = 0.0
host = HostAddresses(clock=lambda: now)
print(json.dumps([address for address in sys.argv[1:] if host.has(address)]))
subprocess.run(["ip", "addr", "del", "10.244.3.7/24", "dev", "br0"], check=True)
subprocess.run(["ip", "addr", "add", "10.244.3.8/24", "dev", "br0"], check=True)
now = 60.0
print(json.dumps([address for address in sys.argv[1:] if host.has(address)]))
"""


@pytest.fixture
def net() -> Iterator[Network]:
    net = Network()
    try:
        net.set_up()
        yield net
    finally:
        net.tear_down()


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_the_kernels_own_files_tell_what_a_node_has_and_services_are_left_out(net: Network) -> None:
    net.add_pod("node", "10.244.1.9", "fd00:10:244:1::9")
    for command in (
        "link add br0 type bridge",
        "addr add 10.244.3.1/24 dev br0",
        "addr add 10.244.3.7/24 label br0:second dev br0",
        "addr add fd00:10:244:3::1/64 dev br0 nodad",
        "link set br0 up",
        "addr add 10.255.0.1/32 dev lo",
        # What kube-proxy makes is a dummy; a kernel without that module has bridges.
        "link add kube-ipvs0 type bridge",
        *(f"addr add 10.96.0.{n}/32 dev kube-ipvs0" for n in range(1, 100)),
        "addr add 10.96.1.1/32 label kube-ipvs0:x dev kube-ipvs0",
        "addr add fd00:10:96::1/128 dev kube-ipvs0 nodad",
    ):
        net.execute("node", ["ip", *command.split()])
    own = ["10.244.1.9", "fd00:10:244:1::9", "10.244.3.1", "10.244.3.7", "fd00:10:244:3::1", "10.255.0.1"]
    others = [
        *("10.244.3.0", "10.244.3.255", "10.244.3.8", "169.254.1.1", "127.0.0.1", "::1"),
        *("10.96.0.1", "10.96.0.99", "10.96.1.1", "fd00:10:96::1"),
    ]
    command = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-c", ASK, *own, *others]
    before, after = map(json.loads, net.execute("node", command).splitlines())
    assert before == own
    assert sorted(after) == sorted({*own, "10.244.3.8"} - {"10.244.3.7"})
