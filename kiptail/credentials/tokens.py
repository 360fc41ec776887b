"""What a credential says of itself (pure): a token's claims, and which of two tokens is to be used.

Nothing is verified here, that is the API server's part: the claims only tell when to act.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection
from typing import NamedTuple

__all__ = ["RENEW_AT", "Claims", "choose_token", "claims_of", "renew_at"]

#: A token is renewed after this part of its life, as the kubelet does with those of pods.
RENEW_AT = 0.8
#: A longer text is no token.
_LONGEST = 64 << 10
#: A later time is no time: year 5138.
_LATEST = 1e11
#: Three parts in the base64url alphabet (RFC 7515, section 7.1): whatever else it holds, no header can.
_FORM = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_ACCOUNT = "system:serviceaccount:"


class Claims(NamedTuple):
    """What a JSON Web Token (RFC 7519) says; times in seconds since the epoch."""

    issuer: str
    subject: str
    issued: float | None
    expires: float | None
    #: Of the service account: one that was deleted and made again has another.
    uid: str

    @property
    def account(self) -> tuple[str, str] | None:
        """(namespace, name), where the subject is a service account."""
        namespace, _, name = self.subject.removeprefix(_ACCOUNT).partition(":")
        return (namespace, name) if self.subject.startswith(_ACCOUNT) and namespace and name else None

    @property
    def identity(self) -> tuple[str, str, str]:
        """Tokens with the same one can stand for each other."""
        return self.issuer, self.subject, self.uid


def claims_of(token: str) -> Claims | None:
    """The claims, unverified; None when it is no JSON Web Token."""
    form = _FORM.fullmatch(token) if len(token) <= _LONGEST else None
    if form is None:
        return None
    try:
        document = json.loads(base64.urlsafe_b64decode(form[1] + "=" * (-len(form[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    own = document.get("kubernetes.io")
    account = own.get("serviceaccount") if isinstance(own, dict) else None
    return Claims(
        _text(document.get("iss")),
        _text(document.get("sub")),
        _time(document.get("iat")),
        _time(document.get("exp")),
        _text(account.get("uid")) if isinstance(account, dict) else "",
    )


def renew_at(claims: Claims) -> float | None:
    """When to renew; None for a token that says no end or no beginning."""
    if claims.issued is None or claims.expires is None or claims.expires <= claims.issued:
        return None
    return claims.issued + RENEW_AT * (claims.expires - claims.issued)


def choose_token(given: str, stored: str, *, refused: Collection[str], now: float) -> str:
    """The kubeconfig's token or the renewed one: whichever was issued last, of the same identity.

    ``refused`` are tokens that the API server did not accept; they come last, for it may have been mistaken. So do
    those that have expired.
    """
    own, other = claims_of(given), claims_of(stored)
    if own is None or other is None or own.identity != other.identity or own.account is None:
        return given

    def rank(claims: Claims, token: str) -> tuple[bool, bool, float]:
        alive = claims.expires is None or claims.expires > now
        return alive, token not in refused, claims.issued or 0.0

    return stored if rank(other, stored) > rank(own, given) else given


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _time(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LATEST:
        return float(value)
    return None
