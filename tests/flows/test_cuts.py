"""What was counted before it was known whose it is."""

from __future__ import annotations

from collections import Counter

from kiptail.flows.budget import Limits
from kiptail.flows.ledger import Ledger
from kiptail.pods.ownership import Hands
from tests.flows.test_ledger import SECOND, T0, added, at, key


def drops_of(ledger: Ledger) -> dict[int, tuple[int, int, int, bool]]:
    """First and last second, count, and whether it has ended, of all flows there are."""
    return {
        flow.id: ((flow.first_us - T0) // SECOND, (flow.last_us - T0) // SECOND, flow.count, flow.ended)
        for flow in ledger._register.all()
    }


def test_drops_that_were_counted_are_moved_to_a_flow_of_the_new_owner_which_goes_on() -> None:
    ledger = Ledger()
    for second in (0.5, 1, 1.9, 5.25, 6):
        before = added(ledger, key(), T0 + round(second * SECOND))
    ledger.committed()
    ledger.hand_over({"10.0.0.2": at(5)})
    assert ledger.opened, "to be committed at once"
    assert drops_of(ledger) == {1: (0, 1, 3, True), 2: (5, 6, 2, False)}
    after = added(ledger, key(), T0 + 7 * SECOND)
    assert (after.id, after.count) == (2, 3)
    assert after.stamp != before.stamp, "names are made of it"
    assert {flow.id for flow in ledger.changes().flows} == {1, 2}


def test_a_flow_of_which_only_the_first_drops_are_left_is_over() -> None:
    ledger = Ledger()
    for second in (0, 1, 5):
        added(ledger, key(), T0 + second * SECOND)
    ledger.hand_over({"10.0.0.1": at(3, 9)})
    assert drops_of(ledger) == {1: (0, 1, 2, True), 2: (5, 5, 1, False)}
    assert added(ledger, key(), T0 + 10 * SECOND).id == 3


def test_a_flow_that_a_later_drop_opened_is_its_earlier_drops_when_those_are_left() -> None:
    ledger = Ledger()
    for second in (5, 0, 1):
        added(ledger, key(), T0 + second * SECOND)
    ledger.hand_over({"10.0.0.2": at(3)})
    former, heir = ledger._register.all()[::-1] if ledger._register.all()[0].id == 2 else ledger._register.all()
    assert drops_of(ledger) == {1: (0, 1, 2, True), 2: (5, 5, 1, False)}
    assert former.opened_us < T0 + 3 * SECOND <= heir.opened_us, "the owner is asked for by that time"


def test_a_flow_with_nothing_behind_the_change_is_not_touched() -> None:
    ledger = Ledger()
    added(ledger, key(), T0)
    ledger.committed()
    ledger.hand_over({"10.0.0.2": at(-5, 0, 5)})
    assert not ledger.opened
    assert ledger.changes().flows == ()


def test_flows_that_have_ended_are_cut_until_it_is_settled() -> None:
    for settled, expected in ((0, {1: (0, 0, 1, True), 2: (5, 5, 1, True)}), (6, {})):
        ledger = Ledger()
        for second in (0, 5):
            added(ledger, key(), T0 + second * SECOND)
        ledger.end_all()
        ledger.settle(T0 + settled * SECOND)
        ledger.hand_over({"10.0.0.2": at(3)})
        assert drops_of(ledger) == expected


def test_flows_that_ended_in_an_earlier_run_are_cut_as_well() -> None:
    ledger = Ledger()
    for second in (0, 5):
        added(ledger, key(), T0 + second * SECOND)
    ledger.end_all()
    restored = Ledger(ledger.changes().flows, next_id=2, watermark_us=T0 + 5 * SECOND)
    restored.hand_over({"10.0.0.2": at(3)})
    assert drops_of(restored) == {1: (0, 0, 1, True), 2: (5, 5, 1, True)}


def test_what_is_known_of_an_address_is_replaced() -> None:
    ledger = Ledger()
    ledger.hand_over({"10.0.0.2": at(3)})
    ledger.hand_over({"10.0.0.2": at()})
    assert added(ledger, key(), T0) is added(ledger, key(), T0 + 5 * SECOND)


def test_the_new_owners_flow_that_is_there_already_is_not_replaced() -> None:
    ledger = Ledger()
    added(ledger, key(), T0)
    added(ledger, key(), T0 + 5 * SECOND)
    ledger.end_all()
    going_on = added(ledger, key(), T0 + 6 * SECOND)
    ledger.hand_over({"10.0.0.2": at(3)})
    assert drops_of(ledger) == {1: (0, 0, 1, True), 2: (6, 6, 1, False), 3: (5, 5, 1, True)}
    assert added(ledger, key(), T0 + 7 * SECOND) is going_on


def test_what_cannot_be_told_apart_any_more_is_mixed_and_not_cut_again() -> None:
    ledger = Ledger()
    ledger.blind = True
    for second in range(400):
        added(ledger, key(), T0 + second * SECOND)
    (flow,) = ledger._register.all()
    ledger.hand_over({"10.0.0.2": at(3)})
    flows = ledger._register.all()
    assert [one.mixed for one in flows].count(True) == 1
    assert sum(one.count for one in flows) == 400
    assert flow.mixed
    assert flow.first_us < T0 + 3 * SECOND < flow.last_us
    count = flow.count
    ledger.hand_over({"10.0.0.2": at(2)})
    assert flow.count == count


def test_a_folded_flow_is_cut_like_any_other() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=1))
    for second, port in enumerate((1, 2, 3, 4)):
        ledger.add(key(dst="10.0.0.2", port=port), T0 + second * SECOND)
    ledger.hand_over({"10.0.0.1": Hands(changes=(T0 + 2 * SECOND,), boundaries=())})
    sent = [flow for flow in ledger._register.all() if flow.spread and flow.key.src]
    assert sorted((flow.first_us - T0, flow.count) for flow in sent) == [(SECOND, 1), (2 * SECOND, 2)]
    assert all(flow.spread is not None for flow in sent)


def test_what_was_folded_because_of_the_owner_before_gets_flows_of_its_own_after_all() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=2))
    for second, port in enumerate((1, 2, 3, 4)):
        ledger.add(key(src=f"10.0.1.{port}", port=port), T0 + 10 * second * SECOND)
    crowd = next(flow for flow in ledger._register.all() if flow.spread)
    assert (crowd.ends, crowd.count) == (("dst",), 2)
    ledger.hand_over({"10.0.0.2": at(15)})
    ends = {flow.key.port: flow.ends for flow in ledger._register.all() if flow.spread is None}
    assert ends == dict.fromkeys((1, 2, 3, 4), ("src", "dst"))
    assert crowd.count == 0, "what it told is theirs"
    told = sum(flow.count for flow in ledger._register.all() if "dst" in flow.ends)
    assert told == 4


def test_a_folded_flow_that_has_lost_some_of_its_drops_is_still_cut_rightly() -> None:
    ledger = Ledger(limits=Limits(flows_per_address=2))
    for number, port in enumerate((1, 2, 3, 4, 5)):
        ledger.add(key(dst=f"10.0.1.{port}", port=port), T0 + 10 * number * SECOND)
    ledger.hand_over({"10.0.0.1": at(15)})
    ledger.hand_over({"10.0.0.1": at(15, 35)})
    told = Counter[int]()
    for flow in ledger._register.all():
        assert flow.count >= 0
        if "src" in flow.ends and flow.count:
            told[flow.first_us // SECOND >= T0 // SECOND + 35] += flow.count
    assert told == {False: 4, True: 1}


def test_while_pods_cannot_be_followed_more_is_kept_to_be_cut_later() -> None:
    for blind in (False, True):
        ledger = Ledger()
        ledger.blind = blind
        for second in range(200):
            added(ledger, key(), T0 + second * SECOND)
        ledger.hand_over({"10.0.0.2": at(50)})
        (first, *others) = sorted(ledger._register.all(), key=lambda flow: flow.first_us)
        assert first.count == (50 if blind else 200)
        assert len(others) == blind
