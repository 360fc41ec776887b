"""What is asked, and which ends that is."""

from __future__ import annotations

import ipaddress

import pytest

from kiptail.admin.question import PodName, connection_of, question_of
from kiptail.errors import SettingsError
from kiptail.policies.ends import Outside, Pod
from tests.support.policies import objects_of, workload_pod


@pytest.mark.parametrize(
    ("port", "meant"),
    [
        (None, (None, None)),
        ("80", ("TCP", 80)),
        ("53/udp", ("UDP", 53)),
        ("3868/SCTP", ("SCTP", 3868)),
        ("080", ("TCP", 80)),
    ],
)
def test_a_port_has_a_protocol(port: str | None, meant: tuple[str | None, int | None]) -> None:
    question = question_of("team-a/a", "192.0.2.7", port)
    assert (question.protocol, question.port) == meant


def test_an_end_is_a_pod_or_an_address() -> None:
    question = question_of("team-a/a.b", "2001:DB8:0::7", "80")
    assert question.source == PodName("team-a", "a.b")
    assert question.destination == ipaddress.ip_address("2001:db8::7")
    assert question.namespaces() == ["team-a"]
    assert question.addresses() == [ipaddress.ip_address("2001:db8::7")]


@pytest.mark.parametrize(
    "text", ["a", "a/b/c", "/", "a_b/c", "10.0.0.0/8", "\x1b[31m/x", "team-a/\ud800", "fe80::1%eth0"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="SOURCE: ") as caught:
        question_of(text, "192.0.2.7", None)
    assert str(caught.value).isprintable()


def test_an_address_is_its_pods() -> None:
    """Of its family alone; that of a pod that is being deleted only where nobody else has it."""
    leaving = workload_pod("a-leaving", "10.0.0.1")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    objects = objects_of(leaving, workload_pod("new", "10.0.0.1", "fd00::1"))
    connection, notes = connection_of(question_of("10.0.0.1", "192.0.2.7", "80"), objects, "here")
    assert isinstance(connection.source, Pod)
    assert (connection.source.ref, connection.source.addresses) == ("team-a/new", (ipaddress.ip_address("10.0.0.1"),))
    assert connection.destination == Outside(ipaddress.ip_address("192.0.2.7"))
    assert notes == ["10.0.0.1 is taken for team-a/new; other pods show it as well: team-a/a-leaving"]


def test_a_pod_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingsError, match="DESTINATION: there is no pod team-a/x in here"):
        connection_of(question_of("192.0.2.7", "team-a/x", "80"), objects_of(), "here")
