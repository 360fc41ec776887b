"""A client before it makes a request. What its credentials are read from is in test_session.py."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kiptail.credentials.identity import Identity
from kiptail.kube.client import Client
from tests.support.kube import kubeconfig, write


def client(tmp_path: Path, user: dict[str, Any] | None = None, **cluster: Any) -> Client:
    document = kubeconfig(user=user)
    document["clusters"][0]["cluster"] |= cluster
    return Client.from_kubeconfig(write(tmp_path / "kubeconfig", document))


def token(**claims: Any) -> str:
    def part(data: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.c2lnbmF0dXJl"


def test_a_token_says_whose_it_is(tmp_path: Path) -> None:
    subject = "system:serviceaccount:kiptail:kiptail"
    made = client(tmp_path, {"token": token(sub=subject, iat=1, exp=2)})
    claims = made.claims()
    assert claims is not None
    assert claims.subject == subject
    assert (made.claimed(), made.user_name, made.node_name) == (Identity(subject), None, None)


@pytest.mark.parametrize("user", [{}, {"token": "opaque"}, {"username": "ann", "password": "p"}])
def test_a_credential_that_says_nothing_is_nobodys(user: dict[str, Any], tmp_path: Path) -> None:
    made = client(tmp_path, user)
    assert (made.claims(), made.claimed(), made.certificate_life) == (None, Identity(""), None)


def test_who_is_impersonated_is_whom_it_stands_for(tmp_path: Path) -> None:
    made = client(tmp_path, {"token": token(sub="somebody", iat=1, exp=2), "as": "system:node:worker-7"})
    assert (made.claimed(), made.node_name) == (Identity("system:node:worker-7"), "worker-7")


def test_the_servers_clock_is_not_known_before_it_answered(tmp_path: Path) -> None:
    assert client(tmp_path).time_us() is None


def test_that_the_server_is_not_verified_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert client(tmp_path).verified
    assert caplog.messages == []
    made = client(tmp_path, **{"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True})
    assert (made.server, made.verified) == ("https://127.0.0.1:1", False)
    assert caplog.messages == [
        "insecure-skip-tls-verify: anybody between here and https://127.0.0.1:1 can read the token"
    ]


def test_a_client_that_is_closed_stays_closed(tmp_path: Path) -> None:
    made = client(tmp_path)
    made.close()
    made.close()
