"""Flows, their counts and their ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from kiptail.flows.budget import Limits
from kiptail.flows.flow import Flow, FlowKey
from kiptail.flows.hands import LATE_US
from kiptail.flows.ledger import IDLE_US, Ledger
from kiptail.pods.ownership import Hands

SECOND = 1_000_000
T0 = 1_800_000_000 * SECOND


def key(src: str = "10.0.0.1", dst: str = "10.0.0.2", port: int = 80) -> FlowKey:
    return FlowKey(src, dst, "TCP", port, None, None, False, "calico-drop:", "drop")


#: Budgets that nothing here exceeds.
AMPLE = Limits(flows_per_address=10_000, new_addresses=10_000)


def at(*seconds: float) -> Hands:
    """An address changes hands so many seconds after ``T0``."""
    times = tuple(T0 + round(second * SECOND) for second in seconds)
    return Hands(times, times)


def added(ledger: Ledger, key: FlowKey, time_us: int) -> Flow:
    flow = ledger.add(key, time_us)
    assert flow is not None
    return flow


def test_repeats_raise_the_count_and_stretch_the_times_both_ways() -> None:
    ledger = Ledger()
    for seconds in (10, 12, 7, 11):
        flow = added(ledger, key(), T0 + seconds * SECOND)
    assert (flow.count, flow.first_us, flow.last_us) == (4, T0 + 7 * SECOND, T0 + 12 * SECOND)
    assert flow.opened_us == T0 + 10 * SECOND


def test_another_port_is_another_flow() -> None:
    ledger = Ledger()
    assert added(ledger, key(port=80), T0).id != added(ledger, key(port=81), T0).id
    assert len(ledger) == 2


def test_a_flow_ends_after_half_an_hour_of_silence_by_the_drops_own_time() -> None:
    ledger = Ledger()
    first = added(ledger, key(), T0)
    assert added(ledger, key(), T0 + IDLE_US).id == first.id
    later = added(ledger, key(), T0 + 2 * IDLE_US + 1)
    assert later.id != first.id
    assert first.ended
    assert later.count == 1


def test_a_clock_that_is_set_back_opens_no_further_flows() -> None:
    ledger = Ledger()
    first = added(ledger, key(), T0)
    hour = 3600 * SECOND
    assert added(ledger, key(), T0 - hour).id == first.id
    opened = added(ledger, key(port=81), T0 - hour)
    assert {added(ledger, key(port=81), T0 - hour + n).id for n in range(100)} == {opened.id}


def test_after_a_change_of_hands_drops_go_to_a_new_flow_and_late_ones_to_the_old_owner() -> None:
    ledger = Ledger()
    before = added(ledger, key(), T0)
    ledger.hand_over({"10.0.0.2": at(5)})
    after = added(ledger, key(), T0 + 6 * SECOND)
    late = added(ledger, key(), T0 + 4 * SECOND)
    assert before.ended
    assert len({before.id, after.id, late.id}) == 3
    assert added(ledger, key(), T0 + 7 * SECOND).id == after.id


def test_late_news_of_a_change_of_hands_does_not_split_the_new_owners_flow() -> None:
    ledger = Ledger()
    flow = added(ledger, key(), T0 + 1)
    ledger.hand_over({"10.0.0.1": at(0)})
    assert added(ledger, key(), T0 + 2).id == flow.id
    assert flow.count == 2


def test_a_change_of_hands_that_is_known_first_splits_a_backlog_of_any_age() -> None:
    ledger = Ledger()
    ledger.hand_over({"10.0.0.2": at(0)})
    before = [added(ledger, key(), T0 - n * SECOND).id for n in range(3, 0, -1)]
    after = [added(ledger, key(), T0 + n * SECOND).id for n in range(1, 4)]
    assert (set(before), set(after)) == ({1}, {2})


def test_a_restored_ledger_goes_on_with_the_same_flows() -> None:
    ledger = Ledger()
    ledger.hand_over({"10.0.0.1": at(0)})
    flow = added(ledger, key(), T0 + 1)
    changes = ledger.changes()
    restored = Ledger(changes.flows, next_id=changes.next_flow_id, watermark_us=changes.watermark_us)
    assert added(restored, key(), T0 + 2) is flow
    assert added(restored, key(port=81), T0 + 2).id == changes.next_flow_id


def test_a_change_of_hands_does_not_split_flows_of_the_other_end_after_a_restart() -> None:
    ledger = Ledger()
    other = added(ledger, key(dst="10.0.0.3"), T0)
    ledger.hand_over({"10.0.0.2": at(1)})
    added(ledger, key(dst="10.0.0.2"), T0 + 2 * SECOND)
    changes = ledger.changes()
    restored = Ledger(changes.flows, next_id=changes.next_flow_id, watermark_us=changes.watermark_us)
    assert added(restored, key(dst="10.0.0.3"), T0 + 3 * SECOND).id == other.id


def test_of_two_stored_flows_with_one_key_the_later_goes_on() -> None:
    ledger = Ledger()
    added(ledger, key(), T0)
    ledger.hand_over({"10.0.0.2": at(5)})
    after = added(ledger, key(), T0 + 6 * SECOND)
    late = added(ledger, key(), T0 + 4 * SECOND)
    restored = Ledger([late, after], next_id=9)
    assert added(restored, key(), T0 + 7 * SECOND) is after
    assert late.ended


def test_a_change_of_hands_is_forgotten_when_no_earlier_drop_can_come() -> None:
    ledger = Ledger()
    added(ledger, key(), T0)
    ledger.hand_over({"10.0.0.2": at(1)})
    assert ledger._hands.times
    added(ledger, key(port=81), T0 + LATE_US + 61 * SECOND)
    assert not ledger._hands.times


def test_changes_are_kept_until_they_are_committed() -> None:
    ledger = Ledger()
    flow = added(ledger, key(), T0)
    assert ledger.opened
    assert ledger.changes().flows == ledger.changes().flows == (flow,)
    ledger.committed()
    assert not ledger.opened
    assert ledger.changes().flows == ()
    added(ledger, key(), T0)
    assert not ledger.opened
    assert ledger.changes().flows == (flow,)


def test_the_number_of_open_flows_is_bounded_and_the_quietest_end() -> None:
    ledger = Ledger(limits=replace(AMPLE, open_flows=100))
    for n in range(1000):
        added(ledger, key(port=n), T0 + n)
    assert len(ledger) <= 100
    assert added(ledger, key(port=999), T0 + 1000).count == 2


def test_idle_flows_end_without_another_drop_of_theirs() -> None:
    ledger = Ledger()
    quiet = added(ledger, key(port=1), T0)
    ledger.committed()
    added(ledger, key(port=2), T0 + IDLE_US + 61 * SECOND)
    assert quiet.ended
    assert quiet in ledger.changes().flows


def test_all_flows_can_be_ended_at_once() -> None:
    ledger = Ledger()
    flow = added(ledger, key(), T0)
    ledger.end_all()
    assert flow.ended
    assert added(ledger, key(), T0).id != flow.id


def test_beyond_its_budget_an_address_has_one_flow_for_each_direction() -> None:
    ledger = Ledger()
    for port in range(2000):
        ledger.add(key(port=port), T0 + port * 1000)
    flows = ledger.changes().flows
    own = [flow for flow in flows if flow.spread is None]
    sent, received = (flow for flow in flows if flow.spread is not None)
    assert len(own) == 20
    assert {flow.count for flow in own} == {1}
    assert (sent.key.src, sent.key.dst, sent.ends) == ("10.0.0.1", "", ("src",))
    assert (received.key.src, received.key.dst, received.ends) == ("", "10.0.0.2", ("dst",))
    assert sent.count == received.count == 1980
    assert sent.spread is not None
    assert (sent.spread.peers.count, sent.spread.ports.count) == (1, 1980)
    assert (sent.opened_us, sent.last_us) == (T0 + 20_000, T0 + 1_999_000)
    assert ledger.folded == {"src": 1980, "dst": 1980}


def test_a_crowd_is_folded_for_its_target_and_not_for_its_members() -> None:
    ledger = Ledger()
    for n in range(60):
        ledger.add(key(src=f"10.0.1.{n}"), T0 + n)
    flows = ledger.changes().flows
    senders = {flow.key.src: flow.ends for flow in flows if flow.key.src}
    assert len(senders) == 60
    assert Counter(senders.values()) == {("src", "dst"): 20, ("src",): 40}
    (crowd,) = [flow for flow in flows if not flow.key.src]
    assert crowd.count == 40
    assert crowd.spread is not None
    assert crowd.spread.peers.count == 40
    ledger.add(key(src="10.0.1.59"), T0 + 100)
    assert crowd.count == 41, "also of drops that follow"


def test_a_flow_that_has_its_place_comes_back_to_it_and_with_the_next_window_others_do() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=2))
    for port in (1, 2, 3):
        ledger.add(key(port=port), T0)
    ledger.end_all()
    assert ledger.add(key(port=3), T0 + SECOND) is None
    assert added(ledger, key(port=2), T0 + SECOND).ends == ("src", "dst")
    assert added(ledger, key(port=3), T0 + 601 * SECOND).ends == ("src", "dst")


def test_a_new_verdict_is_folded_apart() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=1))
    for port, verdict in ((1, "drop"), (2, "drop"), (3, "reject")):
        ledger.add(key(port=port)._replace(verdict=verdict), T0)
    folded = {(flow.key.verdict, flow.ends): flow.count for flow in ledger.changes().flows if flow.spread}
    assert folded == {(verdict, (end,)): 1 for verdict in ("drop", "reject") for end in ("src", "dst")}


def test_made_up_senders_have_no_flows_beyond_the_nodes_budget_and_their_target_counts_all() -> None:
    ledger = Ledger()
    for n in range(5000):
        ledger.add(key(src=f"10.{1 + n // 65536}.{n // 256 % 256}.{n % 256}", dst="10.0.0.2"), T0 + n)
    flows = ledger.changes().flows
    received = sum(flow.count for flow in flows if "dst" in flow.ends)
    assert received == 5000
    assert len(flows) == 501 + 1, "a new pair, 500 more senders, and the target's folded flow"
    assert ledger.denied == 5000 - 501
    assert ledger.untold == 0
    ledger.add(key(src="10.250.0.1", dst="10.250.0.2"), T0 + 6000)
    assert len(ledger.changes().flows) == len(flows) + 1, "a pair that is new on both ends still finds room"


def test_an_address_that_has_flows_stays_known_when_its_window_is_over() -> None:
    limits = Limits(new_addresses=1)
    ledger = Ledger(limits=limits)
    ledger.add(key(), T0)
    ledger.add(key(src="10.0.0.8", dst="10.0.0.9"), T0 + 700 * SECOND)
    assert ledger.add(key(src="10.0.0.5", dst="10.0.0.6"), T0 + 700 * SECOND) is None, "the window's room is taken"
    assert added(ledger, key(port=81), T0 + 700 * SECOND).ends == ("src", "dst")
    assert (ledger.denied, ledger.untold) == (2, 1)


def test_a_new_owner_has_a_budget_of_its_own_and_what_is_folded_then_is_a_flow_of_its_own() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=1))
    for port in (1, 2):
        ledger.add(key(port=port), T0)
    ledger.hand_over({"10.0.0.2": at(1)})
    assert added(ledger, key(port=2), T0 + 2 * SECOND).ends == ("dst",)
    ledger.add(key(port=3), T0 + 2 * SECOND)
    received = [flow for flow in ledger.changes().flows if flow.spread and flow.key.dst]
    assert [(flow.count, flow.ended) for flow in received] == [(1, True), (1, False)]
    sent = [flow for flow in ledger.changes().flows if flow.spread and flow.key.src]
    assert [(flow.count, flow.ended) for flow in sent] == [(3, False)]


def test_an_ownership_that_began_and_ended_unseen_has_a_budget_of_its_own() -> None:
    """What it may have used up must not depend on when that is learned."""
    ledger = Ledger(limits=Limits(flows_per_address=1))
    ledger.add(key(port=1), T0)
    ledger.hand_over({"10.0.0.2": Hands(changes=(), boundaries=(T0 + SECOND,))})
    assert added(ledger, key(port=2), T0 + 2 * SECOND).ends == ("dst",)


TIGHT = Limits(flows_per_address=2, new_addresses=2, window_us=600 * SECOND, open_flows=9)
#: A sender's account is full when two flows of its are open.
MEAN = replace(TIGHT, open_flows=20, sender_factor=1)
drops = st.lists(
    st.tuples(
        st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        st.sampled_from(["10.0.0.1", "10.0.0.7", "10.0.0.8", "10.0.0.9"]),
        st.integers(0, 3),
        st.integers(0, 5 * IDLE_US // SECOND).map(lambda s: T0 + s * SECOND)
        | st.integers(0, 900).map(lambda s: T0 + s * SECOND),
    ),
    max_size=80,
)
Drops = list[tuple[str, str, int, int]]


def run(ledger: Ledger, sequence: Drops, known: dict[int, Flow]) -> None:
    for src, dst, port, time_us in sequence:
        ledger.add(key(src, dst, port), time_us)
        known |= {flow.id: flow for flow in ledger.changes().flows}


@given(drops, st.sampled_from([TIGHT, MEAN, AMPLE]))
def test_every_drop_is_counted_once_at_each_end(sequence: Drops, limits: Limits) -> None:
    ledger = Ledger(limits=limits)
    flows: dict[int, Flow] = {}
    run(ledger, sequence, flows)
    told: Counter[tuple[str, str]] = Counter()
    for flow in flows.values():
        assert flow.first_us <= flow.opened_us <= flow.last_us
        for end in flow.ends:
            told[end, flow.key.address(end)] += flow.count
    there = Counter(("src", drop[0]) for drop in sequence) + Counter(("dst", drop[1]) for drop in sequence)
    assert all(told[place] <= there[place] for place in told)
    assert told.total() + ledger.denied == there.total()
    if limits is AMPLE:
        assert told == there


@given(drops, st.sampled_from([TIGHT, MEAN, AMPLE]), st.data())
def test_a_replay_from_any_commit_leads_to_the_same_flows(sequence: Drops, limits: Limits, data: st.DataObject) -> None:
    whole: dict[int, Flow] = {}
    run(Ledger(limits=limits), sequence, whole)
    cut = data.draw(st.integers(0, len(sequence)))
    known: dict[int, Flow] = {}
    before = Ledger(limits=limits)
    run(before, sequence[:cut], known)
    stored = before.changes()
    after = Ledger(
        stored.flows,
        next_id=stored.next_flow_id,
        watermark_us=stored.watermark_us,
        last_stamp=stored.last_stamp,
        budget=stored.budget,
        limits=limits,
    )
    run(after, sequence[cut:], known)
    assert known == whole


# Whose drops they are does not depend on when that is learned

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
seconds = st.integers(0, 50)
changes = st.dictionaries(st.sampled_from(ADDRESSES), st.sets(seconds, max_size=4))
dated_drops = st.lists(
    st.tuples(
        st.sampled_from(ADDRESSES[:2]), st.sampled_from(ADDRESSES[1:]), st.integers(1, 4), seconds, st.integers(0, 3)
    ),
    min_size=1,
    max_size=60,
)
dated_drops |= dated_drops.map(lambda sequence: sorted(sequence, key=lambda drop: drop[3:]))
DatedDrops = list[tuple[str, str, int, int, int]]
#: What was believed before, and after how many drops.
beliefs = st.lists(st.tuples(st.integers(0, 60), changes), max_size=3)
#: Budgets matter most where a few changes of one address are learned one after the other.
few_changes = st.dictionaries(st.sampled_from(ADDRESSES[:2]), st.sets(st.sampled_from([10, 20, 30, 40]), max_size=3))
few_beliefs = st.lists(st.tuples(st.integers(0, 60), few_changes), max_size=3)
Beliefs = list[tuple[int, dict[str, set[int]]]]


def counted(
    ledger: Ledger, sequence: DatedDrops, known: Beliefs, truth: dict[str, set[int]], learned: int
) -> list[Flow]:
    """All flows, when the truth was learned after so many drops, and something else was believed before."""
    flows: dict[int, Flow] = {}
    for number, (src, dst, port, second, quarter) in enumerate(sequence):
        for when, belief in known:
            if when == number < learned:
                ledger.hand_over({address: at(*sorted(times)) for address, times in belief.items()})
        if number == learned:
            ledger.hand_over({address: at(*sorted(truth.get(address, ()))) for address in ADDRESSES})
        ledger.add(key(src, dst, port), T0 + second * SECOND + quarter * SECOND // 4)
        flows |= {flow.id: flow for flow in ledger.changes().flows}
    if learned >= len(sequence):
        ledger.hand_over({address: at(*sorted(truth.get(address, ()))) for address in ADDRESSES})
    flows |= {flow.id: flow for flow in ledger.changes().flows}
    return list(flows.values())


def window(truth: dict[str, set[int]], address: str, time_us: int) -> int:
    """How many times the address had changed hands by then."""
    return sum(T0 + second * SECOND <= time_us for second in truth.get(address, ()))


@given(dated_drops, beliefs, changes, st.integers(0, 60))
def test_a_change_of_hands_parts_the_drops_of_before_and_after_whenever_it_is_learned(
    sequence: DatedDrops, known: Beliefs, truth: dict[str, set[int]], learned: int
) -> None:
    flows = counted(Ledger(limits=AMPLE), sequence, known, truth, learned)
    told: Counter[tuple[FlowKey, int, int]] = Counter()
    for flow in flows:
        assert not flow.mixed
        assert flow.count > 0
        windows = [
            (window(truth, flow.key.src, us), window(truth, flow.key.dst, us))
            for us in (flow.first_us, flow.opened_us, flow.last_us)
        ]
        assert windows[0] == windows[1] == windows[2], "all of one owner's time"
        assert flow.first_us <= flow.opened_us <= flow.last_us
        told[(flow.key, *windows[0])] += flow.count
    there = Counter(
        (key(src, dst, port), window(truth, src, T0 + second * SECOND), window(truth, dst, T0 + second * SECOND))
        for src, dst, port, second, _ in sequence
    )
    assert told == there
    assert len({flow.stamp for flow in flows}) == len(flows), "no two Events have one name"


#: What was folded is a flow of its own after the first news, and the rest of it is cut after the second.
ONE_BY_ONE = [
    ("10.0.0.1", "10.0.0.2", 1, 0, 0),
    ("10.0.0.1", "10.0.0.3", 2, 10, 0),
    ("10.0.0.1", "10.0.0.2", 3, 20, 0),
    ("10.0.0.2", "10.0.0.3", 1, 25, 0),
]


#: What is left in the folded flow was before everything that is taken out of it, and is cut from that time afterwards.
LEFT_BEHIND = [
    ("10.0.0.1", "10.0.0.2", 1, 0, 0),
    ("10.0.0.1", "10.0.0.2", 2, 1, 0),
    ("10.0.0.2", "10.0.0.2", 1, 3, 0),
    ("10.0.0.1", "10.0.0.2", 1, 0, 0),
]
#: All that was in the folded flow is taken out of it, and the next drop is another owner's.
EMPTIED = [
    ("10.0.0.2", "10.0.0.2", 1, 0, 0),
    ("10.0.0.1", "10.0.0.2", 2, 0, 0),
    ("10.0.0.1", "10.0.0.2", 1, 0, 0),
    ("10.0.0.1", "10.0.0.2", 2, 1, 0),
    ("10.0.0.1", "10.0.0.2", 1, 2, 0),
]


@example(EMPTIED, [(4, {"10.0.0.2": {0, 1}})], {"10.0.0.2": {2}}, 5)
@example(LEFT_BEHIND, [(3, {"10.0.0.2": {0, 1}})], {"10.0.0.2": {2}}, 4)
@example(ONE_BY_ONE, [(3, {"10.0.0.1": {5}})], {"10.0.0.1": {5, 15}}, 4)
@given(dated_drops, beliefs | few_beliefs, changes | few_changes, st.integers(0, 60))
def test_each_owners_drops_are_all_told_whenever_it_is_learned_that_it_was_one(
    sequence: DatedDrops, known: Beliefs, truth: dict[str, set[int]], learned: int
) -> None:
    limits = Limits(flows_per_address=1, new_addresses=10_000)
    told: Counter[tuple[str, str, int]] = Counter()
    for flow in counted(Ledger(limits=limits), sequence, known, truth, learned):
        assert flow.count >= 0
        for end in flow.ends if flow.count else ():
            address = flow.key.address(end)
            windows = {window(truth, address, us) for us in (flow.first_us, flow.opened_us, flow.last_us)}
            assert len(windows) == 1, "all of one owner's time"
            told[end, address, windows.pop()] += flow.count
    there: Counter[tuple[str, str, int]] = Counter()
    for src, dst, _, second, _ in sequence:
        there["src", src, window(truth, src, T0 + second * SECOND)] += 1
        there["dst", dst, window(truth, dst, T0 + second * SECOND)] += 1
    assert told == there
