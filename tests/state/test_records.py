"""What the rows of the state file mean."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord
from kiptail.flows.budget import BudgetState, NodeWindow, Window
from kiptail.flows.flow import Distinct, Flow, FlowKey, Spread, folded_key
from kiptail.flows.ledger import Changes
from kiptail.flows.trail import Trail
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock
from kiptail.pods.ownership import PodRef
from kiptail.state.records import (
    Saved,
    SavedFlow,
    endpoint_row,
    flow_row,
    ledger_row,
    load,
    position_row,
    record_row,
    window_row,
)
from kiptail.state.schema import BUDGET, ENDPOINT, EVENT, FLOW, LEDGER, POSITION, in_memory

KEY = FlowKey("10.0.0.1", "fd00::2", "TCP", 80, None, None, True, "calico drop:", "reject", "src")
PODS = (PodRef("team-a", "web-0", "uid", "label", "sts/web"), PodRef("team-a", "web-1", "uid-1"))
FLOWS = (
    Flow(1, KEY, 100, 90, 110, 120, 3, ended=True, stamp=100, trail=Trail.begun(100), mixed=True),
    Flow(2, KEY._replace(here=""), 100, 100, 100, 100, 1, ends=("dst",), stamp=101, trail=Trail.begun(100)),
    Flow(
        3,
        folded_key("src", KEY),
        100,
        100,
        100,
        100,
        1,
        ends=("src",),
        spread=Spread(Distinct(b"\x05"), Distinct()),
        stamp=102,
        trail=Trail.begun(100),
    ),
)
ENDPOINTS = {
    "src": Endpoint(Kind.AMBIGUOUS, KEY.src, PODS),
    "dst": Endpoint(Kind.NOBODY, KEY.dst, name="db", probes=True, port_name="http", host_port_of="team-b/web-0"),
}
RECORDS = (
    EventRecord(1, "src", PODS[0], "web-0.1", "text"),
    EventRecord(
        1, "src", PODS[1], "web-1.1", "text", 5, "text", 100, 2, 1, "why", True, recorded="grown", recorded_count=4
    ),
)
WINDOW = Window("10.0.0.1", "src", 100, {b"12345678", b"abcdefgh"})
POSITION_FOUND = Position("s=1;i=2", "b" * 32, 3, 4, SourceClock("b" * 32, 5, -6))


def test_an_empty_file_is_a_ledgers_beginning() -> None:
    with closing(in_memory()) as connection:
        assert load(connection) == Saved(None, 0, 1, 0, BudgetState(), ())


def test_rows_are_read_as_what_they_were_made_of() -> None:
    budget = BudgetState((WINDOW,), NodeWindow(100, 2, 3))
    with closing(in_memory()) as connection:
        POSITION.save(connection, [position_row(POSITION_FOUND)])
        LEDGER.save(connection, [ledger_row(Changes(FLOWS, 120, 9, 103, budget))])
        FLOW.save(connection, map(flow_row, FLOWS))
        ENDPOINT.save(connection, [endpoint_row(1, end, endpoint) for end, endpoint in ENDPOINTS.items()])
        EVENT.save(connection, map(record_row, RECORDS))
        BUDGET.save(connection, [window_row(WINDOW)])
        saved = load(connection)
    first, *others = FLOWS
    flows = (SavedFlow(first, ENDPOINTS, RECORDS), *(SavedFlow(flow, {}, ()) for flow in others))
    assert saved == Saved(POSITION_FOUND, 120, 9, 103, budget, flows)


def test_a_flows_id_is_never_used_again_whatever_the_ledgers_row_says() -> None:
    with closing(in_memory()) as connection:
        FLOW.save(connection, map(flow_row, FLOWS))
        assert load(connection).next_flow_id == 4


@pytest.mark.parametrize("pod", [{}, "team-a", ["team-a", "web-0", 5, ""], ["team-a"]])
def test_what_is_no_pod_is_an_error(pod: object) -> None:
    row = list(record_row(RECORDS[0]))
    row[3] = json.dumps(pod)
    with closing(in_memory()) as connection:
        FLOW.save(connection, map(flow_row, FLOWS))
        EVENT.save(connection, [tuple(row)])
        with pytest.raises((ValueError, TypeError)):
            load(connection)
