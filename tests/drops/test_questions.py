"""What to ask ``kiptail explain`` about a pod's drops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kiptail.drops.questions import MOST, Asked, questions
from kiptail.drops.row import Row, row_of
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.flows.flow import Spread
from tests.support.drops import SERVER, drop_event, flow_of, other_event


def row(peer: Endpoint = SERVER, *, end: str = "src", last: float = 1e9, **key: Any) -> Row:
    made = row_of(drop_event("web-0", peer, flow_of(last=last, **key), end=end))
    assert made is not None
    return made


def test_each_connection_is_asked_about_once_the_latest_first() -> None:
    outside = Endpoint(Kind.NOBODY, "10.0.0.2", name="db.example.com")
    rows = [row(), row(policy="x"), row(outside, last=2e9, port=53, protocol="UDP")]
    assert questions(rows) == (
        [Asked("team-a/web-0", "10.0.0.2", "53/UDP"), Asked("team-a/web-0", "team-b/server", "8080/TCP")],
        0,
    )


def test_what_was_received_comes_from_the_peer() -> None:
    assert questions([row(end="dst")])[0] == [Asked("team-b/server", "team-a/web-0", "8080/TCP")]


def test_only_some_protocols_have_ports_that_policies_know() -> None:
    ping, gre = row(protocol="ICMP", port=None, icmp_type=8, icmp_code=0), row(protocol="47", port=None)
    assert questions([ping])[0] == questions([gre])[0] == [Asked("team-a/web-0", "team-b/server", None)]


def test_replies_and_crowds_and_what_cannot_be_read_are_passed_over() -> None:
    folded = row_of(drop_event("web-0", flow=replace(flow_of(dst=""), spread=Spread())))
    other = row_of(other_event("x"))
    assert folded is not None
    assert other is not None
    assert questions([row(reply=True), folded, other]) == ([], 3)


def test_no_more_than_some_are_asked() -> None:
    rows = [row(port=number, last=1e9 + number) for number in range(1, 40)]
    asked, _ = questions(rows)
    assert len(asked) == MOST
    assert asked[0].port == "39/TCP"
