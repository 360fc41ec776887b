"""Which drops are wanted."""

from __future__ import annotations

from dataclasses import replace

from kiptail.config.values import Moment
from kiptail.drops.owned import target
from kiptail.drops.row import row_of
from kiptail.drops.wanted import Wanted
from tests.support.drops import drop_event, flow_of

NOW = 1_800_000_000.0
ROW = row_of(drop_event("web-6d4cf56db6-x7k2p", flow=flow_of(last=NOW - 600)))
ALL = Wanted(namespace="team-a", reason="PacketDrop")


def test_since_is_by_the_last_drop() -> None:
    assert ROW is not None
    assert ALL.accepts(ROW, NOW)
    assert replace(ALL, since=Moment(-601_000_000, relative=True)).accepts(ROW, NOW)
    assert not replace(ALL, since=Moment(-599_000_000, relative=True)).accepts(ROW, NOW)
    assert replace(ALL, since=Moment(int((NOW - 600) * 1e6), relative=False)).accepts(ROW, NOW)
    assert not replace(ALL, since=Moment(-1, relative=True)).accepts(replace(ROW, last=None), NOW)


def test_of_pods_that_are_known_the_controller_decides_and_of_others_the_name() -> None:
    assert ROW is not None
    of_web = replace(ALL, target=target("deploy/web"))
    assert of_web.accepts(ROW, NOW)
    assert not of_web.accepts(replace(ROW, pod="api-6d4cf56db6-x7k2p"), NOW)
    assert not replace(of_web, known={ROW.pod: False}).accepts(ROW, NOW)
    assert replace(of_web, known={"odd": True}).accepts(replace(ROW, pod="odd"), NOW)


def test_the_server_selects_as_far_as_it_can() -> None:
    assert ALL.field_selector == "reason=PacketDrop"
    assert replace(ALL, target=target("deploy/web")).field_selector == "reason=PacketDrop"
    one = replace(ALL, target=target("pod/web-0"))
    assert one.field_selector == "reason=PacketDrop,involvedObject.name=web-0"
    assert (ALL.where, replace(ALL, namespace="").where) == ("team-a namespace", "any namespace")
