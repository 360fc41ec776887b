"""A flow record's fields → what they say; what kiptail never writes is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.flow_record import MESSAGE_IDS, Stretch
from kiptail.report.recorded import Record, Recorded, Who
from tests.events.test_flow_record import CLIENT, DST, KEY, SRC, T0, record_fields
from tests.report.records import ENDED, GROWN, PLACED, fields


def read(given_fields: dict[str, Any]) -> Record | None:
    return Recorded().of(
        {key: value.encode() if isinstance(value, str) else value for key, value in given_fields.items()}
    )


def test_the_ids_are_those_that_are_written() -> None:
    assert MESSAGE_IDS == {Stretch.PLACED: PLACED, Stretch.GROWN: GROWN, Stretch.ENDED: ENDED}


def test_what_kiptail_writes_is_read_as_it_was_meant() -> None:
    key = KEY._replace(
        protocol="ICMP", port=None, icmp_type=3, icmp_code=1, reply=True, verdict="reject", prefix="slow:"
    )
    found = read({**record_fields(key, policy="team-a/deny"), "_MACHINE_ID": "m1"})
    assert found is not None
    assert (found.machine, found.placed, found.sent, found.packets) == ("m1", True, True, 3)
    assert (found.namespace, found.pod, found.uid) == CLIENT[:3]
    assert (found.src, found.dst, found.protocol, found.port) == (SRC.address, DST.address, "ICMP", None)
    assert (found.icmp_type, found.icmp_code, found.reply, found.limited) == (3, 1, True, True)
    assert (found.verdict, found.prefix, found.policy) == ("reject", "slow:", "team-a/deny")
    assert (found.first_us, found.last_us) == (T0, T0 + 2_500_000)
    assert found.peer_who() == Who("team-a", "web-0")
    assert (found.own_address, found.peer_address) == (SRC.address, DST.address)


def test_workloads_are_read_where_they_are_recorded() -> None:
    found = read(fields(1, peer="pod team-b/web", KIPTAIL_WORKLOAD="deploy/c", KIPTAIL_PEER_WORKLOAD="sts/web"))
    assert found is not None
    assert (found.workload, found.peer_who()) == ("deploy/c", Who("team-b", "web", "sts/web"))


@pytest.mark.parametrize(
    ("peer", "who"),
    [
        ("address", None),
        ("several", None),
        ("node worker-1", Who(name="node/worker-1")),
        ("service team-a/web", Who(name="service team-a/web")),
        ("dns db.example.com", Who(name="db.example.com")),
        ("ambiguous a/x or a/y", Who(name="a/x or a/y")),
    ],
)
def test_what_the_other_end_is_called(peer: str, who: Who | None) -> None:
    found = read(fields(1, peer=peer))
    assert found is not None
    assert found.peer_who() == who


@pytest.mark.parametrize(
    "wrong",
    [
        {"KIPTAIL_FLOW": "x"}, {"KIPTAIL_PAIR": "x"}, {"KIPTAIL_COUNT": "many"}, {"KIPTAIL_COUNT": "9" * 5_000},
        {"KIPTAIL_FIRST": "2026-11-26"}, {"KIPTAIL_LAST": "2026-13-26T05:00:00.123456Z"}, {"KIPTAIL_PORT": "http"},
        {"KIPTAIL_DIRECTION": "both"}, {"KIPTAIL_VERDICT": "maybe"}, {"KIPTAIL_POD": [b"a", b"b"]},
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused_and_counted(wrong: dict[str, Any]) -> None:
    recorded = Recorded()
    raw = {key: value.encode() if isinstance(value, str) else value for key, value in (fields(1) | wrong).items()}
    assert recorded.of(raw) is None
    assert recorded.refused == 1


@pytest.mark.parametrize("missing", ["KIPTAIL_FLOW", "KIPTAIL_PAIR", "KIPTAIL_COUNT", "KIPTAIL_POD", "KIPTAIL_LAST"])
def test_a_record_without_what_all_have_is_none(missing: str) -> None:
    assert read({key: value for key, value in fields(1).items() if key != missing}) is None


@given(st.dictionaries(st.sampled_from(sorted(fields(1))), st.binary(max_size=40) | st.lists(st.binary(max_size=3))))
def test_no_bytes_raise(garbage: dict[str, Any]) -> None:
    recorded = Recorded()
    whole = {key: value.encode() for key, value in fields(1).items()} | garbage
    recorded.series(whole)
    recorded.of(whole)
