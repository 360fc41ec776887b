"""The annotation about a pod's further networks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.addresses import canonical
from kiptail.pods.network_status import NETWORK_STATUS, further_addresses
from kiptail.pods.pod_object import reduce_pod
from tests.support.pods import pod

OWN = ("10.244.1.9", "fd00:244::9")
#: As Multus 4 writes it: indented, with the cluster's own network first.
MULTUS = """[{
    "name": "cbr0",
    "interface": "eth0",
    "ips": [
        "10.244.1.9",
        "fd00:244::9"
    ],
    "mac": "9e:3a:74:c0:d1:09",
    "default": true,
    "dns": {},
    "gateway": ["10.244.1.1"]
},{
    "name": "team-a/storage",
    "interface": "net1",
    "ips": [
        "192.168.77.12",
        "FD00:77:0::C",
        "fe80::1"
    ],
    "mac": "02:6e:e4:10:00:0c",
    "dns": {}
},{
    "name": "team-a/sriov",
    "interface": "net2",
    "dns": {},
    "device-info": {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:18:02.5"}}
}]"""


def test_what_multus_writes_is_read() -> None:
    assert further_addresses(MULTUS, OWN) == ("192.168.77.12", "fd00:77::c")


@pytest.mark.parametrize(
    ("annotation", "addresses"),
    [
        pytest.param(None, (), id="absent"),
        pytest.param("", (), id="empty"),
        pytest.param("null", (), id="null"),
        pytest.param("[]", (), id="no network"),
        pytest.param('[{"name": "x", "ips": null}]', (), id="no addresses"),
        pytest.param('[{"ips": ["192.0.2.1"]}, {"ips": ["192.0.2.1"]}]', ("192.0.2.1",), id="twice"),
        pytest.param('[{"ips": ["127.0.0.1", "::1", "224.0.0.1", "0.0.0.0", "169.254.1.1"]}]', (), id="nobody's"),
        pytest.param("[", None, id="cut"),
        pytest.param('{"ips": ["192.0.2.1"]}', None, id="no list"),
        pytest.param('["192.0.2.1"]', None, id="no objects"),
        pytest.param('[{"ips": "192.0.2.1"}]', None, id="addresses that are no list"),
        pytest.param('[{"ips": [1]}]', None, id="an address that is no text"),
        pytest.param('[{"ips": ["192.0.2.1/24"]}]', None, id="a network"),
        pytest.param('[{"ips": ["web"]}]', None, id="a name"),
        pytest.param('[{"ips": ["192.0.2.1"]}, {"ips": ["x"]}]', None, id="some of it"),
        pytest.param('[{"ips": ["192.0.2.1"]}' + ', {}' * 32 + "]", None, id="many networks"),
        pytest.param(json.dumps([{"ips": [f"192.0.2.{n}" for n in range(65)]}]), None, id="many addresses"),
        pytest.param(json.dumps([{"ips": ["192.0.2.1"], "name": "x" * 16_384}]), None, id="long"),
        pytest.param("[" * 9_000, None, id="deep"),
        pytest.param('[{"ips": ["\\ud800"]}]', None, id="half a character"),
        pytest.param("\ud800", None, id="no text that can be written"),
        pytest.param(7, None, id="no text"),
    ],
)  # fmt: skip
def test_what_it_says(annotation: object, addresses: tuple[str, ...] | None) -> None:
    assert further_addresses(annotation, ()) == addresses


@given(st.text(max_size=200) | st.recursive(st.none() | st.text(max_size=9) | st.integers(), st.lists).map(json.dumps))
def test_whatever_it_says_only_addresses_come_of_it(annotation: str) -> None:
    for address in further_addresses(annotation, OWN) or ():
        assert canonical(address) == address


def test_a_pod_claims_what_its_annotation_says_once_it_has_an_address() -> None:
    def claims(annotation: str, *addresses: str, host_network: bool = False) -> tuple[str, ...] | None:
        made = pod("a", *addresses, uid="u", annotations={NETWORK_STATUS: annotation}, host_network=host_network)
        reduced = reduce_pod(made)
        assert reduced is not None
        return reduced.claims

    assert claims(MULTUS, *OWN) == ("192.168.77.12", "fd00:77::c")
    assert claims(MULTUS) == (), "its sandbox is not there yet, or no more"
    assert claims(MULTUS, "192.0.2.3", host_network=True) == (), "on the node's network it has none of its own"
    assert claims("[", *OWN) is None
