"""How many other pods fare alike, read from a text again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.events.also import also_in, without_also
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventStyle, message
from kiptail.flows.flow import Flow, FlowKey

STYLE = EventStyle("PacketDrop", "kiptail", "worker-3", "name_with_namespace", frozenset({"slow:"}))
KEY = FlowKey("10.0.0.1", "192.0.2.7", "TCP", 8080, None, None, reply=False, prefix="x:", verdict="drop")
PEER = Endpoint(Kind.NOBODY, "192.0.2.7", name="db.example.com")


@pytest.mark.parametrize("prefix", ["x:", "slow:"])
@pytest.mark.parametrize("others", [2, 50, 5_000])
def test_it_is_read_as_it_was_said(prefix: str, others: int) -> None:
    flow = Flow(1, KEY._replace(prefix=prefix), 0, 0, 0, 0, 1)
    text = message(flow, "src", PEER, STYLE, also=(others, "cronjob/a.b-c"))
    assert also_in(text) == others
    assert without_also(text) == message(flow, "src", PEER, STYLE)
    assert also_in(without_also(text)) == 0


@pytest.mark.parametrize(
    "policy",
    [
        "x (also more than 20 other pods of deploy/web)",
        "(also more than 20 other pods of deploy/web)",
        "a, b (also more than 20 other pods of deploy/web)",
        "a, b\u00a0(also\u00a0more\u00a0than\u00a020\u00a0other\u00a0pods\u00a0of\u00a0deploy/web)",
        "p" * 2_000 + " (also more than 20 other pods of deploy/web)",
    ],
)
def test_what_a_policy_is_called_does_not_pass_for_a_number_of_pods(policy: str) -> None:
    text = message(Flow(1, KEY._replace(policy=policy), 0, 0, 0, 0, 1), "src", PEER, STYLE)
    assert also_in(text) == 0
    assert without_also(text) == text


@given(st.text(max_size=1_500))
def test_whatever_a_name_says_a_number_of_pods_is_our_own(name: str) -> None:
    flow = Flow(1, KEY._replace(policy=name), 0, 0, 0, 0, 1)
    peer = Endpoint(Kind.NOBODY, "192.0.2.7", name=name)
    text = message(flow, "src", peer, STYLE)
    assert also_in(text) == 0
    assert also_in(message(flow, "src", peer, STYLE, also=(20, "deploy/web"))) in (0, 20)
