"""What went wrong with a request: an answer that is no success, or an exception instead of one, as an ApiError."""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProtocolError, ProxyError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError
from urllib3.util.ssl_match_hostname import CertificateError

from kiptail.errors import ApiError
from kiptail.kube import strict_json
from kiptail.text import one_line

__all__ = ["TRANSPORT_ERRORS", "bad_answer", "is_status", "refused", "timed_out", "unreachable", "watch_failed"]

#: What urllib3, ssl and http.client raise, and ValueError for a connection closed under their feet.
TRANSPORT_ERRORS = (HTTPError, OSError, http.client.HTTPException, ValueError)

#: HTTP statuses that ask for a later try, whoever sends them: the API server's limits answer 429 without a Status.
_SAYS_LATER = frozenset({408, 429, *range(500, 600)})
#: Causes that are kept of a Status.
_MOST_CAUSES = 16


def refused(what: str, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error for an answer that is no success.

    The API server says with a metav1.Status what it refuses and why. An answer without one comes from a gateway or a
    proxy in front of it, or from a server that is overloaded: whatever its code says, it says nothing about what was
    asked for, and a later try may be answered.
    """
    document = _status(status, body)
    # The header may also be a date; API servers send seconds.
    header = headers.get("Retry-After", "").strip()
    seconds = int(header) if re.fullmatch(r"[0-9]{1,9}", header) else None
    if document is None:
        page = one_line(re.sub(r"<[^>]*>", " ", body[:4096].decode(errors="replace")))
        text = page or http.client.responses.get(status, "no text")
        if status not in _SAYS_LATER:
            return bad_answer(what, f"is {status} without a Status: {text}")
        after = float(seconds) if seconds else None
        return ApiError(f"{what}: the answer is {status}: {text}", status=status, retry_after=after)
    details = document.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    reasons = [cause.get("reason") for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    if seconds is None and type(asked := details.get("retryAfterSeconds")) is int:
        seconds = asked
    reason = _text(document, "reason")
    text = _text(document, "message") or reason or http.client.responses.get(status, "")
    return ApiError(
        f"{what}: the API server answered {status}: {text}",
        status=status,
        reason=reason,
        causes=tuple(one_line(cause) for cause in reasons[:_MOST_CAUSES] if isinstance(cause, str)),
        retry_after=float(seconds) if seconds is not None and seconds > 0 else None,
    )


def watch_failed(obj: object) -> ApiError:
    """The error that an ``ERROR`` line of a watch tells, by the object in it."""
    code = obj.get("code") if isinstance(obj, dict) else None
    if not isinstance(obj, dict) or type(code) is not int or not is_status(obj, code):
        return bad_answer("cannot watch pods", "ends with an error that is no Status")
    reason = _text(obj, "reason")
    return ApiError(_text(obj, "message") or reason or "the watch failed", status=code, reason=reason)


def is_status(obj: object, code: int) -> bool:
    """Whether this is a metav1.Status that tells of a failure with this HTTP status."""
    return (
        isinstance(obj, dict)
        and obj.get("kind") == "Status"
        and obj.get("apiVersion") == "v1"
        and obj.get("status") == "Failure"
        and type(obj.get("code")) is int
        and obj["code"] == code
        and 400 <= code <= 599
    )


def _status(status: int, body: bytes) -> dict[str, Any] | None:
    try:
        document = strict_json.parse(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) and is_status(document, status) else None


def _text(document: Mapping[str, Any], field: str) -> str:
    value = document.get(field)
    return one_line(value) if isinstance(value, str) else ""


def bad_answer(what: str, why: str) -> ApiError:
    """An answer that the API server would not give, as a gateway's own 502: the next one may be better."""
    text = f"{what}: the answer is none of an API server's (is a proxy or gateway in between?): it {why}"
    return ApiError(text, status=502, reason="BadResponse")


def unreachable(at: str, error: Exception) -> ApiError:
    """The error for a request that got no answer, or not the whole of one; ``at`` has what, and the server."""
    links = list(_chain(error))
    if any(isinstance(link, ProxyError) for link in links):
        at = f"{at}: the proxy"
    for link in links:
        if isinstance(link, OSError) and (said := re.match(r"Tunnel connection failed: ((\d+).*)", str(link))):
            hint = ": it wants a user and password, as in http://USER:PASSWORD@HOST:PORT" if said[2] == "407" else ""
            return ApiError(f"{at} answers {one_line(said[1], 100)}{hint}")
        if isinstance(link, (ssl.SSLCertVerificationError, CertificateError)):
            reason, remedy = _distrust(link)
            return ApiError(f"{at} is not trusted: {reason}", untrusted=True, remedy=remedy)
        if isinstance(link, ssl.SSLError):
            why = link.reason or link.__class__.__name__
            hint = " (does it speak TLS?)" if why == "WRONG_VERSION_NUMBER" else ""
            return ApiError(f"{at}: TLS failed: {why}{hint}")
        # A refused connection and an unknown name are timeouts too, in urllib3's eyes.
        if isinstance(link, (HTTPTimeoutError, TimeoutError)) and not isinstance(link, NewConnectionError):
            missing = "connection" if isinstance(link, ConnectTimeoutError) else "answer"
            return ApiError(f"{at}: no {missing} in time")
        if isinstance(link, http.client.RemoteDisconnected):
            return ApiError(f"{at}: the connection was closed without an answer")
        if isinstance(link, OSError) and link.strerror:
            return ApiError(f"{at}: {link.strerror}")
    if isinstance(error, (ProtocolError, http.client.HTTPException)):
        return ApiError(f"{at}: the answer was cut off or is no HTTP")
    return ApiError(f"{at}: {error}")


def timed_out(error: Exception) -> bool:
    """Whether a read of an answer's body failed because nothing came in the time allowed for it."""
    return any(isinstance(link, HTTPTimeoutError) for link in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error`` and the errors within it: urllib3 wraps in arguments and ``reason`` as well as in causes."""
    todo, seen = [error], set[int]()
    while todo and len(seen) < 16:
        link = todo.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (getattr(link, "reason", None), *link.args, link.__cause__, link.__context__)
        todo += [other for other in inner if isinstance(other, BaseException)]


def _distrust(error: ssl.SSLCertVerificationError | CertificateError) -> tuple[str, str]:
    """Why the server's certificate was not accepted, and what to do."""
    code = getattr(error, "verify_code", None)
    if code == 10:
        return "its certificate has expired", "renew the API server's certificate"
    if code == 9:
        return "its certificate is not valid yet", "set this host's clock right (timedatectl)"
    if code in (18, 19, 20, 21):
        reason = "its certificate is not signed by the certificate authority in the kubeconfig"
        return reason, "put the cluster's CA into the kubeconfig"
    if code in (None, 62, 64):
        detail = getattr(error, "verify_message", "") or str(error)
        remedy = "use a name that is in it: --server, or tls-server-name in the kubeconfig"
        return f"its certificate is for another name: {detail}", remedy
    reason = f"its certificate is not accepted: {getattr(error, 'verify_message', '') or error}"
    return reason, "check the API server's certificate and the CA in the kubeconfig"
