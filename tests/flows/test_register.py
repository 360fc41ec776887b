"""Which flows there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kiptail.flows import register as module
from kiptail.flows.budget import Budgets, BudgetState, Limits
from kiptail.flows.flow import Flow, FlowKey
from kiptail.flows.register import Register

KEY = FlowKey("10.0.0.1", "10.0.0.2", "TCP", 80, None, None, False, "calico-drop:", "drop")


def register() -> Register:
    """One whose senders' accounts are full with two flows."""
    return Register(Budgets(Limits(flows_per_address=2, sender_factor=1), BudgetState()), next_id=1, last_stamp=0)


def added(flows: Register, port: int = 80, at_us: int = 100) -> Flow:
    flow_id, stamp = flows.next_flow(at_us)
    flow = Flow(flow_id, KEY._replace(port=port), at_us, at_us, at_us, at_us, 1, stamp=stamp)
    flows.add(flow.key, flow)
    return flow


def test_ids_and_stamps_only_rise_whatever_the_time() -> None:
    flows = register()
    assert [flows.next_flow(at_us) for at_us in (100, 50, 50, 200)] == [(1, 100), (2, 101), (3, 102), (4, 200)]
    assert (flows.next_id, flows.last_stamp) == (5, 200)


def test_an_open_flow_stands_in_all_accounts_until_it_ends() -> None:
    flows = register()
    first, second = added(flows, 80), added(flows, 81)
    assert flows.reported == {"10.0.0.1": 2, "10.0.0.2": 2}
    assert flows._budgets.spent("10.0.0.1", 100)
    flows.end(first)
    assert flows.reported == {"10.0.0.1": 1, "10.0.0.2": 1}
    assert not flows._budgets.spent("10.0.0.1", 100)
    assert (first.ended, flows.open_flows(), flows.all(), len(flows)) == (True, [second], [second, first], 1)
    flows.end(second)
    assert flows.reported == {}
    flows.reopen(first)
    assert (first.ended, flows.open, list(flows.past)) == (False, {first.key: first}, [second.id])
    assert flows.reported == {"10.0.0.1": 1, "10.0.0.2": 1}


def test_a_flow_of_late_drops_is_kept_beside_the_one_with_its_key() -> None:
    flows = register()
    flow = added(flows)
    late = replace(flow, id=9)
    flows.add((KEY, 50), late)
    assert (len(flows), flows.open, flows.late) == (2, {KEY: flow}, {(KEY, 50): late})
    kept = flows.late
    flows.end(late)
    assert (flows.open_flows(), flows.late) == ([flow], {})
    assert flows.late is kept, "whoever looks into it sees what there is"


def test_changes_are_there_until_they_are_committed() -> None:
    flows = register()
    first, second = added(flows, 80), added(flows, 81)
    kept = flows.changed
    assert (flows.opened, flows.changes()) == (True, (first, second))
    flows.committed()
    assert (flows.opened, flows.changes()) == (False, ())
    assert flows.changed is kept, "whoever looks into it sees what there is"
    flows.end(first)
    assert (flows.opened, flows.changes()) == (False, (first,)), "an end can wait"


def test_what_has_ended_is_kept_until_it_is_settled_and_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    flows = register()
    ended = [added(flows, port, port) for port in (1, 2, 3)]
    for flow in ended:
        flows.end(flow)
    flows.settle(2)
    assert flows.all() == ended[1:]
    monkeypatch.setattr(module, "MAX_PAST", 2)
    latest = added(flows, 4)
    flows.end(latest)
    assert flows.all() == [ended[2], latest]


def test_the_quietest_end_first() -> None:
    flows = register()
    loud, quiet, quieter = added(flows, 1, 300), added(flows, 2, 200), added(flows, 3, 100)
    flows.end_quietest(2)
    assert [flow.ended for flow in (loud, quiet, quieter)] == [False, True, True]


def test_stored_flows_are_open_or_may_be_cut_as_they_were() -> None:
    stored = register()
    over, goes_on = added(stored, 80), added(stored, 81)
    stored.end(over)
    older = replace(goes_on, id=7, opened_us=50)
    flows = register()
    flows.restore([goes_on, over, older])
    assert flows.open == {goes_on.key: goes_on}
    assert flows.past == {over.id: over, older.id: older}, "of two with one key the later goes on"
    assert flows.reported == {"10.0.0.1": 1, "10.0.0.2": 1}
