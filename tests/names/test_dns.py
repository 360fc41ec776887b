"""names against a DNS server on the loopback, and its pool against resolvers made for the purpose."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.names import dns
from kiptail.names.dns import Answer, DnsResolver, Names, Outcome
from tests.support.clock import Clock
from tests.support.dnsserver import DnsServer, reverse

V4, V6 = "192.0.2.7", "2001:db8::7"
HOST_NAME = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


def look_up(server: DnsServer, address: str = V4, *, lifetime_s: float = 1.0) -> Answer:
    return DnsResolver(nameservers=["127.0.0.1"], port=server.port, lifetime_s=lifetime_s).look_up(address)


# -- DNS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [V4, V6])
def test_a_name_that_resolves_back_counts(address: str, server: DnsServer) -> None:
    server.name(address, "DB-1.Example.COM.")
    assert look_up(server, address) == Answer(Outcome.FOUND, "db-1.example.com")
    assert server.queries == [
        (reverse(address), "PTR"),
        ("db-1.example.com.", "A" if address == V4 else "AAAA"),
    ]


def test_one_of_several_addresses_is_enough(server: DnsServer) -> None:
    server.name(V6, "a.example.", "2001:db8::1", "2001:db8:0:0::7")
    assert look_up(server, V6).name == "a.example"


def test_the_first_of_several_names_that_resolves_back_counts(server: DnsServer) -> None:
    server.add(reverse(V4), "PTR", "c.example.", "b.example.", "a.example.", "bad_name.example.")
    server.add("a.example.", "A", "192.0.2.8")
    server.add("b.example.", "A", V4)
    server.add("c.example.", "A", V4)
    assert look_up(server) == Answer(Outcome.FOUND, "b.example")


def test_a_delegated_reverse_zone_is_followed(server: DnsServer) -> None:
    """RFC 2317: the PTR record stands behind a CNAME."""
    server.add(reverse(V4), "CNAME", "7.0-63.2.0.192.in-addr.arpa.")
    server.add("7.0-63.2.0.192.in-addr.arpa.", "PTR", "a.example.")
    server.add("a.example.", "CNAME", "b.example.")
    server.add("b.example.", "A", V4)
    assert look_up(server) == Answer(Outcome.FOUND, "a.example")


def test_an_address_without_a_name(server: DnsServer) -> None:
    assert look_up(server) == Answer(Outcome.NONE)
    server.add(reverse(V4), "TXT", "x")
    assert look_up(server) == Answer(Outcome.NONE)


@pytest.mark.parametrize("back", [["192.0.2.8"], None], ids=["another address", "no address"])
def test_a_name_that_does_not_resolve_back_is_none(back: list[str] | None, server: DnsServer) -> None:
    server.add(reverse(V4), "PTR", "www.bank.example.")
    if back:
        server.add("www.bank.example.", "A", *back)
    assert look_up(server) == Answer(Outcome.UNCONFIRMED)


def labels(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


HOSTILE = {
    "escape sequence": labels(b"\x1b[31mred", b"example"),
    "newline": labels(b"a\nb", b"example"),
    "zero": labels(b"a\0b", b"example"),
    "blank": labels(b"is down, call 555", b"example"),
    "dot in a label": labels(b"a.b", b"example"),
    "slash": labels(b"team-a/web", b"example"),
    "underscore": labels(b"_dmarc", b"example"),
    "hyphen first": labels(b"-a", b"example"),
    "hyphen last": labels(b"a-", b"example"),
    "UTF-8": labels("bücher".encode(), b"example"),
    "looks like an address": labels(b"10", b"0", b"0", b"1"),
    "root": labels(),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_a_hosts_name_is_none(case: str, server: DnsServer) -> None:
    server.ptr_wire(reverse(V4), HOSTILE[case])
    assert look_up(server) == Answer(Outcome.HOSTILE)
    assert len(server.queries) == 1


def test_an_address_with_many_names_has_none(server: DnsServer) -> None:
    many = [f"host{number}.example." for number in range(100)]
    server.add(reverse(V4), "PTR", *many)
    for name in many:
        server.add(name, "A", V4)
    assert look_up(server) == Answer(Outcome.HOSTILE)


def test_the_longest_name_is_one(server: DnsServer) -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    server.name(V4, f"{name}.")
    assert len(name) == 253
    assert look_up(server).name == name


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "a label of 127 bytes": lambda query: (
        query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:] + b"\xc0\x0c\0\x0c\0\1\0\0\0\x3c\0\x80\x7f" + b"a" * 127
    ),
    "a pointer to itself": lambda query: (
        query[:2]
        + b"\x81\x80\0\1\0\1\0\0\0\0"
        + query[12:]
        + b"\xc0\x0c\0\x0c\0\1\0\0\0\x3c\0\x02\xc0"
        + bytes([len(query) + 12])
    ),
    "cut": lambda query: query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:-2],
    "half a header": lambda query: query[:5],
    "one byte": lambda query: b"\0",
    "noise": lambda query: query[:2] + bytes(range(256)) * 4,
    "the query itself": lambda query: query,
    "another id": lambda query: bytes([query[0] ^ 1]) + query[1:2] + b"\x81\x80" + query[4:],
    "another question": lambda query: query[:2] + b"\x81\x80\0\1\0\0\0\0\0\0" + labels(b"x") + b"\0\x0c\0\1",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_answer_is_no_name_and_no_crash(case: str, server: DnsServer) -> None:
    server.wire(reverse(V4), MALFORMED[case])
    started = time.monotonic()
    answer = Names(resolver=_Once(lambda: look_up(server, lifetime_s=0.4)))
    assert _wait(answer, V4) == ""
    assert time.monotonic() - started < 2
    answer.close()


class _Once:
    def __init__(self, answer: Callable[[], Answer]) -> None:
        self._answer = answer

    def look_up(self, address: str) -> Answer:
        return self._answer()


def test_a_cname_loop_ends(server: DnsServer) -> None:
    server.add(reverse(V4), "CNAME", "loop.example.")
    server.add("loop.example.", "CNAME", reverse(V4))
    assert look_up(server).name == ""


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_a_server_that_refuses(rcode: str, server: DnsServer) -> None:
    server.refuse(reverse(V4), rcode)
    assert look_up(server, lifetime_s=0.4).outcome in (Outcome.FAILED, Outcome.TIMEOUT)


@pytest.mark.parametrize("silent", ["reverse", "forward"])
def test_a_silent_server_takes_no_longer_than_the_lifetime(silent: str, server: DnsServer) -> None:
    server.name(V4, "a.example.")
    server.silence(reverse(V4) if silent == "reverse" else "a.example.")
    started = time.monotonic()
    assert look_up(server, lifetime_s=0.3) == Answer(Outcome.TIMEOUT)
    assert time.monotonic() - started < 1


def test_the_lifetime_is_for_both_queries(server: DnsServer) -> None:
    server.name(V4, "a.example.")
    server.delay(reverse(V4), 0.2)
    server.delay("a.example.", 0.2)
    assert look_up(server, lifetime_s=1.0).name == "a.example"
    assert look_up(server, lifetime_s=0.3) == Answer(Outcome.TIMEOUT)


def test_a_dead_server_leaves_time_for_the_next(server: DnsServer) -> None:
    server.name(V4, "a.example.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.2", server.port))  # takes queries and says nothing
        resolver = DnsResolver(nameservers=["127.0.0.2", "127.0.0.1"], port=server.port)
        assert resolver.look_up(V4) == Answer(Outcome.FOUND, "a.example")


def test_resolv_conf_is_read_again_when_it_changes(server: DnsServer, tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    resolver = DnsResolver(resolv_conf=conf, lifetime_s=0.3)
    assert resolver.look_up(V4) == Answer(Outcome.FAILED)
    conf.write_text("search example\n")
    assert resolver.look_up(V4) == Answer(Outcome.FAILED)
    conf.write_text("nameserver 127.0.0.1\n# one\n")
    with_one = resolver._configured()
    assert with_one is resolver._configured()
    other = tmp_path / "other"
    other.write_text("nameserver 127.0.0.2\n")
    other.rename(conf)
    assert [str(server) for server in resolver._configured().nameservers] == ["127.0.0.2"]


@given(st.lists(st.binary(max_size=70), max_size=6))
def test_a_name_is_made_of_letters_digits_and_hyphens_or_is_none(parts: list[bytes]) -> None:
    name = dns._host_name(parts)
    assert name == "" or HOST_NAME.fullmatch(name)


@given(st.lists(st.from_regex(rb"[a-zA-Z0-9-]{1,64}", fullmatch=True), min_size=1, max_size=5))
def test_a_name_is_its_labels_or_none(parts: list[bytes]) -> None:
    name = dns._host_name(parts)
    if name:
        assert name == b".".join(parts).lower().decode()
        assert HOST_NAME.fullmatch(name)
        assert not name.rpartition(".")[2].isdigit()


# -- the pool and the cache ----------------------------------------------------------------------------------


class FakeResolver:
    """Answers from a table, counts, and can be held up."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def look_up(self, address: str) -> Answer:
        self.asked.append(address)
        self.go.wait(10)
        return self.answers[address]


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observed() -> list[Outcome]:
    return []


@pytest.fixture
def cache(resolver: FakeResolver, clock: Clock, observed: list[Outcome]) -> Iterator[Names]:
    cache = Names(resolver=resolver, clock=clock, observe=observed.append, workers=2, max_waiting=3)
    yield cache
    resolver.go.set()
    cache.close()


def _wait(cache: Names, address: str) -> str:
    deadline = time.monotonic() + 5
    while (name := cache.lookup(address)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return name


@pytest.mark.parametrize(
    ("answer", "ttl_s"),
    [
        (Answer(Outcome.FOUND, "a.example"), 600),
        (Answer(Outcome.NONE), 60),
        (Answer(Outcome.UNCONFIRMED), 60),
        (Answer(Outcome.HOSTILE), 60),
        (Answer(Outcome.TIMEOUT), 30),
        (Answer(Outcome.FAILED), 30),
    ],
    ids=lambda value: value.outcome if isinstance(value, Answer) else None,
)
def test_an_answer_is_kept_as_long_as_it_is_worth(
    answer: Answer, ttl_s: int, resolver: FakeResolver, clock: Clock
) -> None:
    observed: list[Outcome] = []
    cache = Names(resolver=resolver, clock=clock, observe=observed.append)
    outcome, name = answer
    resolver.answers[V4] = answer
    assert cache.lookup(V4) is None
    assert _wait(cache, V4) == name
    clock.now += ttl_s - 1
    assert cache.lookup(V4) == name
    assert resolver.asked == [V4]
    clock.now += 2
    assert cache.lookup(V4) is None
    assert _wait(cache, V4) == name
    assert resolver.asked == [V4, V4]
    cache.close()
    assert observed == [outcome, outcome]


def test_one_look_up_serves_all_who_ask(cache: Names, resolver: FakeResolver) -> None:
    resolver.answers[V6] = Answer(Outcome.FOUND, "a.example")
    resolver.go.clear()
    assert [cache.lookup(address) for address in (V6, "2001:DB8:0::7", V6)] == [None, None, None]
    resolver.go.set()
    assert _wait(cache, V6) == "a.example"
    assert resolver.asked == [V6]


def test_asking_takes_no_time(cache: Names, resolver: FakeResolver) -> None:
    resolver.go.clear()
    started = time.monotonic()
    assert cache.lookup(V4) is None
    assert time.monotonic() - started < 0.5


def test_too_many_questions_are_answered_with_no_name_and_not_remembered(
    cache: Names, resolver: FakeResolver, observed: list[Outcome]
) -> None:
    addresses = [f"198.51.100.{number}" for number in range(1, 5)]
    resolver.answers = {address: Answer(Outcome.FOUND, "a.example") for address in addresses}
    resolver.go.clear()
    assert [cache.lookup(address) for address in addresses] == [None, None, None, ""]
    assert observed == [Outcome.OVERFLOW]
    resolver.go.set()
    assert [_wait(cache, address) for address in addresses] == ["a.example"] * 4


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "224.0.0.251",
        "239.1.2.3",
        "0.0.0.0",  # noqa: S104 - nothing is bound to it
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "ff02::fb",
        "",
        "web-0",
        "10.0.0.0/8",
        "1.2.3",
        "\x00",
    ],
)
def test_what_has_no_name_of_its_own_is_not_asked_for(address: str, cache: Names, resolver: FakeResolver) -> None:
    assert cache.lookup(address) == ""
    assert resolver.asked == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kiptail-names")]


def test_a_resolver_that_raises_costs_no_worker(cache: Names, resolver: FakeResolver) -> None:
    resolver.answers[V6] = Answer(Outcome.FOUND, "a.example")
    for number in range(1, 6):  # more than there are workers; the table raises KeyError
        assert _wait(cache, f"198.51.100.{number}") == ""
    assert _wait(cache, V6) == "a.example"


def test_who_waits_is_called_when_the_answer_is_there(resolver: FakeResolver) -> None:
    resolver.answers[V4] = Answer(Outcome.FOUND, "a.example")
    ready = threading.Event()
    cache = Names(resolver=resolver, on_ready=ready.set)
    assert cache.lookup(V4) is None
    assert ready.wait(5)
    assert cache.lookup(V4) == "a.example"
    cache.close()


def test_no_more_answers_are_kept_than_allowed(resolver: FakeResolver) -> None:
    cache = Names(resolver=resolver, max_names=10)
    for number in range(1, 31):
        address = f"198.51.100.{number}"
        resolver.answers[address] = Answer(Outcome.NONE)
        assert _wait(cache, address) == ""
    assert len(cache._answers) == 10
    cache.close()


def test_closing_waits_for_what_is_under_way_but_not_for_long(
    cache: Names, resolver: FakeResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "CLOSE_S", 0.2)
    resolver.go.clear()
    addresses = [f"198.51.100.{number}" for number in range(1, 4)]
    for address in addresses:
        cache.lookup(address)
    while len(resolver.asked) < 2:
        time.sleep(0.002)
    started = time.monotonic()
    cache.close()
    assert time.monotonic() - started < 1
    resolver.go.set()
    assert cache.lookup(V4) == ""
    cache.close()
    assert len(resolver.asked) == 2  # the third waited, and was dropped


def test_closing_is_quick_when_nothing_was_asked(cache: Names) -> None:
    cache.close()
    assert cache.lookup(V4) == ""


def test_from_the_question_to_the_name(server: DnsServer) -> None:
    server.name(V4, "db.example.com.")
    cache = Names(resolver=DnsResolver(nameservers=["127.0.0.1"], port=server.port))
    assert cache.lookup(V4) is None
    assert _wait(cache, V4) == "db.example.com"
    cache.close()


def test_importing_it_does_not_import_dns() -> None:
    script = "import sys, kiptail.names.dns; sys.exit('dns' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=20)
