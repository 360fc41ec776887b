"""What tokens and certificates say of themselves."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiptail.credentials.tls import validity
from kiptail.credentials.tokens import choose_token, claims_of, renew_at
from tests.apiserver.certificates import authority

SUBJECT = "system:serviceaccount:kube-system:kiptail"


def token(*, iat: Any = 1_000, exp: Any = 2_000, sub: str = SUBJECT, uid: str = "u1", iss: str = "i") -> str:
    claims = {"iss": iss, "sub": sub, "iat": iat, "exp": exp, "kubernetes.io": {"serviceaccount": {"uid": uid}}}
    claims = {key: value for key, value in claims.items() if value is not None}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.sig{iat}"


def test_claims() -> None:
    claims = claims_of(token())
    assert claims is not None
    assert (claims.issued, claims.expires, claims.account) == (1_000.0, 2_000.0, ("kube-system", "kiptail"))
    assert renew_at(claims) == 1_800.0


@pytest.mark.parametrize("exp", [None, True, "soon", -1, 1e300, 900])
def test_a_token_without_a_sensible_end_is_not_renewed(exp: Any) -> None:
    claims = claims_of(token(exp=exp))
    assert claims is not None
    assert renew_at(claims) is None


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "a.W10.c", "e30.e30", "a." + "A" * 70_000 + ".c", "é.é.é"])
def test_what_is_no_token_has_no_claims(text: str) -> None:
    assert claims_of(text) is None


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
def test_any_text_can_be_asked(text: str) -> None:
    claims_of(text)


CHOICES = [
    ("the renewed one, issued later", token(iat=1), token(iat=2), (), "stored"),
    ("a new kubeconfig wins", token(iat=3), token(iat=2), (), "given"),
    ("another account's is not used", token(iat=1), token(iat=2, sub="system:serviceaccount:a:b"), (), "given"),
    ("another cluster's is not used", token(iat=1), token(iat=2, iss="other"), (), "given"),
    ("an account made anew has other tokens", token(iat=1), token(iat=2, uid="u2"), (), "given"),
    ("no service account's", token(iat=1, sub="me"), token(iat=2, sub="me"), (), "given"),
    ("rubbish is not used", token(iat=1), "rubbish", (), "given"),
    ("a token without a form is left alone", "opaque", token(iat=2), (), "given"),
    ("one that was refused comes last", token(iat=1), token(iat=2), ("stored",), "given"),
    ("both refused: the later one", token(iat=1), token(iat=2), ("stored", "given"), "stored"),
    ("an expired one comes last", token(iat=1, exp=9_000), token(iat=2, exp=2), (), "given"),
    ("refused is better than expired", token(iat=1, exp=2), token(iat=2, exp=9_000), ("stored",), "stored"),
]


@pytest.mark.parametrize(("given_", "stored", "refused", "used"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_which_token_is_used(given_: str, stored: str, refused: tuple[str, ...], used: str) -> None:
    names = {"given": given_, "stored": stored}
    assert choose_token(given_, stored, refused=[names[name] for name in refused], now=100.0) == names[used]


def test_a_certificates_life() -> None:
    pair = authority().client("somebody")
    life = validity(pair.certificate.read_bytes())
    assert life is not None
    assert life[1] - life[0] == pytest.approx(2 * 86_400, abs=1)
    assert validity(authority().expired_client("somebody").certificate.read_bytes()) == (1704067200.0, 1704153600.0)
    assert validity(b"nonsense") is None
    assert validity(b"") is None
