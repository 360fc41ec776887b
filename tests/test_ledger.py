"""Flows, their counts and their ends."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.ledger import IDLE_US, LATE_US, FlowKey, Ledger, flow_key
from kiptail.netfilter import PacketDrop

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND


def key(src: str = "10.0.0.1", dst: str = "10.0.0.2", port: int = 80) -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, False, "calico-drop:", "drop")


def drop(
    protocol: str = "TCP",
    src_port: int | None = None,
    dst_port: int | None = None,
    *,
    ack: bool = False,
    icmp: tuple[int, int] | None = None,
) -> PacketDrop:
    return PacketDrop(
        prefix="calico-drop:",
        in_interface="a",
        out_interface="b",
        src="10.0.0.1",
        dst="10.0.0.2",
        protocol=protocol,
        src_port=src_port,
        dst_port=dst_port,
        icmp_type=icmp[0] if icmp else None,
        icmp_code=icmp[1] if icmp else None,
        tcp_ack=ack,
    )


@pytest.mark.parametrize(
    ("packet", "port", "reply"),
    [
        pytest.param(drop("TCP", 40000, 80), 80, False, id="a SYN to a service"),
        pytest.param(drop("TCP", 80, 40000, ack=True), 80, True, id="a SYN-ACK from a service"),
        pytest.param(drop("TCP", 80, 40000), 40000, False, id="a bare SYN to a high port opens a connection"),
        pytest.param(drop("TCP", 40000, 50000, ack=True), 50000, False, id="both high"),
        pytest.param(drop("TCP", 80, 443, ack=True), 443, False, id="both low"),
        pytest.param(drop("UDP", 53, 40000), 53, True, id="a UDP reply"),
        pytest.param(drop("UDP", 32767, 32768), 32767, True, id="at the edge of the ephemeral ports"),
        pytest.param(drop("UDP", 32768, 32768), 32768, False, id="just past the edge"),
        pytest.param(drop("SCTP"), None, False, id="no ports"),
        pytest.param(drop("ICMP", icmp=(8, 0)), None, False, id="ICMP"),
    ],
)
def test_the_service_port_is_that_of_the_service(packet: PacketDrop, port: int | None, reply: bool) -> None:
    found = flow_key(packet, "calico-drop:", "drop")
    assert (found.port, found.reply) == (port, reply)


def test_repeats_raise_the_count_and_stretch_the_times_both_ways() -> None:
    ledger = Ledger()
    for seconds in (10, 12, 7, 11):
        flow = ledger.add(key(), T0 + seconds * SECOND)
    assert (flow.count, flow.first_us, flow.last_us) == (4, T0 + 7 * SECOND, T0 + 12 * SECOND)
    assert flow.opened_us == T0 + 10 * SECOND


def test_another_port_is_another_flow() -> None:
    ledger = Ledger()
    assert ledger.add(key(port=80), T0).id != ledger.add(key(port=81), T0).id
    assert len(ledger) == 2


def test_a_flow_ends_after_half_an_hour_of_silence_by_the_drops_own_time() -> None:
    ledger = Ledger()
    first = ledger.add(key(), T0)
    assert ledger.add(key(), T0 + IDLE_US).id == first.id
    later = ledger.add(key(), T0 + 2 * IDLE_US + 1)
    assert later.id != first.id
    assert first.ended
    assert later.count == 1


def test_a_clock_that_is_set_back_opens_no_further_flows() -> None:
    ledger = Ledger()
    first = ledger.add(key(), T0)
    hour = 3600 * SECOND
    assert ledger.add(key(), T0 - hour).id == first.id
    opened = ledger.add(key(port=81), T0 - hour)
    assert {ledger.add(key(port=81), T0 - hour + n).id for n in range(100)} == {opened.id}


def test_after_a_change_of_hands_drops_go_to_a_new_flow_and_late_ones_to_the_old_owner() -> None:
    ledger = Ledger()
    before = ledger.add(key(), T0)
    ledger.hand_over({"10.0.0.2": T0 + 5 * SECOND})
    after = ledger.add(key(), T0 + 6 * SECOND)
    late = ledger.add(key(), T0 + 4 * SECOND)
    assert before.ended
    assert len({before.id, after.id, late.id}) == 3
    assert ledger.add(key(), T0 + 7 * SECOND).id == after.id


def test_late_news_of_a_change_of_hands_does_not_split_the_new_owners_flow() -> None:
    ledger = Ledger()
    flow = ledger.add(key(), T0 + 1)
    ledger.hand_over({"10.0.0.1": T0})
    assert ledger.add(key(), T0 + 2).id == flow.id
    assert flow.count == 2


def test_a_change_of_hands_that_is_known_first_splits_a_backlog_of_any_age() -> None:
    ledger = Ledger()
    ledger.hand_over({"10.0.0.2": T0})
    before = [ledger.add(key(), T0 - n * SECOND).id for n in range(3, 0, -1)]
    after = [ledger.add(key(), T0 + n * SECOND).id for n in range(1, 4)]
    assert (set(before), set(after)) == ({1}, {2})


def test_a_restored_ledger_goes_on_with_the_same_flows() -> None:
    ledger = Ledger()
    ledger.hand_over({"10.0.0.1": T0})
    flow = ledger.add(key(), T0 + 1)
    changes = ledger.changes()
    restored = Ledger(changes.flows, next_id=changes.next_flow_id, watermark_us=changes.watermark_us)
    assert restored.add(key(), T0 + 2) is flow
    assert restored.add(key(port=81), T0 + 2).id == changes.next_flow_id


def test_a_change_of_hands_does_not_split_flows_of_the_other_end_after_a_restart() -> None:
    ledger = Ledger()
    other = ledger.add(key(dst="10.0.0.3"), T0)
    ledger.hand_over({"10.0.0.2": T0 + 1})
    ledger.add(key(dst="10.0.0.2"), T0 + 2)
    changes = ledger.changes()
    restored = Ledger(changes.flows, next_id=changes.next_flow_id, watermark_us=changes.watermark_us)
    assert restored.add(key(dst="10.0.0.3"), T0 + 3).id == other.id


def test_of_two_stored_flows_with_one_key_the_later_goes_on() -> None:
    ledger = Ledger()
    ledger.add(key(), T0)
    ledger.hand_over({"10.0.0.2": T0 + 5 * SECOND})
    after = ledger.add(key(), T0 + 6 * SECOND)
    late = ledger.add(key(), T0 + 4 * SECOND)
    restored = Ledger([late, after], next_id=9)
    assert restored.add(key(), T0 + 7 * SECOND) is after
    assert late.ended


def test_a_change_of_hands_is_forgotten_when_no_earlier_drop_can_come() -> None:
    ledger = Ledger()
    ledger.add(key(), T0)
    ledger.hand_over({"10.0.0.2": T0 + 1})
    ledger.add(key(port=81), T0 + LATE_US + 2)
    ledger.end_idle()
    assert not ledger._handovers


def test_changes_are_kept_until_they_are_committed() -> None:
    ledger = Ledger()
    flow = ledger.add(key(), T0)
    assert ledger.opened
    assert ledger.changes().flows == ledger.changes().flows == (flow,)
    ledger.committed()
    assert not ledger.opened
    assert ledger.changes().flows == ()
    ledger.add(key(), T0)
    assert not ledger.opened
    assert ledger.changes().flows == (flow,)


def test_the_number_of_open_flows_is_bounded_and_the_quietest_end() -> None:
    ledger = Ledger(max_open=100)
    for n in range(1000):
        ledger.add(key(port=n), T0 + n)
    assert len(ledger) <= 100
    assert ledger.add(key(port=999), T0 + 1000).count == 2


def test_idle_flows_end_without_another_drop_of_theirs() -> None:
    ledger = Ledger()
    quiet = ledger.add(key(port=1), T0)
    ledger.add(key(port=2), T0 + IDLE_US + 1)
    ledger.committed()
    ledger.end_idle()
    assert ledger.changes().flows == (quiet,)
    assert quiet.ended


def test_all_flows_can_be_ended_at_once() -> None:
    ledger = Ledger()
    flow = ledger.add(key(), T0)
    ledger.end_all()
    assert flow.ended
    assert ledger.add(key(), T0).id != flow.id


drops = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5 * IDLE_US // SECOND).map(lambda s: T0 + s * SECOND)), max_size=60
)


@given(drops, st.data())
def test_every_drop_is_counted_once_and_a_replay_from_any_commit_leads_to_the_same_flows(
    sequence: list[tuple[int, int]], data: st.DataObject
) -> None:
    whole = Ledger()
    flows = {}
    for port, time_us in sequence:
        flow = whole.add(key(port=port), time_us)
        flows[flow.id] = flow
    by_port: Counter[int | None] = Counter()
    for flow in flows.values():
        by_port[flow.key.port] += flow.count
        assert flow.first_us <= flow.opened_us <= flow.last_us
    assert by_port == Counter(port for port, _ in sequence)

    cut = data.draw(st.integers(0, len(sequence)))
    before = Ledger()
    known = {}
    for port, time_us in sequence[:cut]:
        flow = before.add(key(port=port), time_us)
        known[flow.id] = flow
    stored = before.changes()
    after = Ledger(stored.flows, next_id=stored.next_flow_id, watermark_us=stored.watermark_us)
    for port, time_us in sequence[cut:]:
        flow = after.add(key(port=port), time_us)
        known[flow.id] = flow
    assert known == flows
