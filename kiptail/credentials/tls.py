"""Certificates: the TLS context that is made of a kubeconfig's, and what a client certificate says of itself."""

from __future__ import annotations

import base64
import contextlib
import functools
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from urllib3.util.ssl_ import create_urllib3_context

from kiptail.credentials.files import why
from kiptail.errors import ClusterError
from kiptail.program import in_memory
from kiptail.text import one_line

__all__ = ["common_name", "proxy_context", "tls_context", "validity"]

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
#: As in kubectl, no other kind of block counts.
_CERTIFICATE = re.compile(_BEGIN + rb"[A-Za-z0-9+/=\s]+" + _END)


def tls_context(
    cluster: str, user: str, *, verify: bool, ca: bytes | None, certificate: bytes | None, key: bytes | None
) -> ssl.SSLContext:
    """One context for all connections: wrong certificates are found at start.

    ``cluster`` and ``user`` name the kubeconfigs of the CA and of the client's certificate; the rest are the contents
    of PEM files. Without ``ca`` it is the system's, without ``key`` that in the certificate's file. Nothing is written
    to a disk. Raises ClusterError.
    """
    context = _context(verify=verify)
    if ca is None:
        context.load_default_certs()
    else:
        _trust(context, cluster, ca)
    with _explained(f"{user}: the client certificate and key"):
        if certificate is not None:
            _load_pair(context, certificate, certificate if key is None else key)
    return context


def proxy_context(cluster: str, host: str, *, verify: bool, ca: bytes | None) -> ssl.SSLContext:
    """For TLS with the proxy at ``host``, which the system's authorities may have signed as well as the cluster's.

    It is shown no certificate. Raises ClusterError.
    """
    context = _context(verify=verify)
    # urllib3 1.26 leaves it to such a context whose certificate it is, and does not pass it a host that is an address.
    context.check_hostname = verify
    context.wrap_socket = functools.partial(context.wrap_socket, server_hostname=host)  # type: ignore[method-assign]
    context.load_default_certs()
    if ca is not None:
        _trust(context, cluster, ca)
    return context


def _context(*, verify: bool) -> ssl.SSLContext:
    """Trusts nobody yet. Strict in what kubectl is strict in."""
    context: ssl.SSLContext = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    # With Python 3.13, urllib3 asks for all that RFC 5280 does, as key identifiers, which CAs of EKS and of older
    # kubeadm have not. And to Go, whatever stands among the authorities is one, also without its issuer.
    context.verify_flags = context.verify_flags & ~ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _trust(context: ssl.SSLContext, cluster: str, ca: bytes) -> None:
    what = f"{cluster}: the certificate-authority"
    certificates = _certificates(ca)
    if not certificates:
        raise ClusterError(f"{what} holds no PEM certificate")
    with _explained(what):
        context.load_verify_locations(cadata=certificates)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turns what ``ssl`` raises about ``what`` into a ClusterError."""
    try:
        yield
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        hint = {
            "KEY_VALUES_MISMATCH": "do not belong together",
            "NO_CERTIFICATE_OR_CRL_FOUND": "holds no PEM certificate",
        }.get(reason, f"cannot be used: {one_line(reason)}")
        raise ClusterError(f"{what} {hint}") from error
    except (OSError, ValueError) as error:
        raise ClusterError(f"{what} cannot be used: {why(error)}") from error


def _certificates(pem: bytes) -> str:
    """The certificates of a PEM file, without what stands around them."""
    return "\n".join(block.decode() for block in _CERTIFICATE.findall(pem))


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """``ssl`` takes a pair from files only: these are in memory."""
    with in_memory(certificate) as first, in_memory(key) as second:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{first}", f"/proc/self/fd/{second}", password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def common_name(certificate: bytes) -> str | None:
    """The subject's commonName in the first certificate of a PEM file (or of a DER one)."""
    try:
        for _, names in _der(_fields(certificate)[4]):
            for _, name in _der(names):
                (_, oid), (_, value) = _der(name)
                if oid == b"\x55\x04\x03":
                    return value.decode()
    except (ValueError, IndexError, StopIteration):
        pass
    return None


def validity(certificate: bytes) -> tuple[float, float] | None:
    """From when until when the first certificate of a PEM file is good, in seconds since the epoch."""
    try:
        begins, ends = (_moment(tag, content.decode()) for tag, content in _der(_fields(certificate)[3]))
    except (ValueError, IndexError, StopIteration):
        return None
    return begins, ends


def _moment(tag: int, text: str) -> float:
    """UTCTime (tag 0x17, two digits for the year: RFC 5280, 4.1.2.5.1) or GeneralizedTime."""
    if tag == 0x17:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _fields(certificate: bytes) -> list[bytes]:
    """Serial, algorithm, issuer, validity and subject of the first certificate. Raises as :func:`_der`."""
    pem = _CERTIFICATE.search(certificate)
    der = base64.b64decode(pem[0][len(_BEGIN) : -len(_END)]) if pem else certificate
    tbs = next(_der(next(_der(der))[1]))[1]
    # Before them is an optional version, tagged [0].
    return [content for tag, content in _der(tbs) if tag != 0xA0]


def _der(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (tag, content) of the DER elements in a row that ``data`` is. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("truncated DER")
        yield tag, data[at : at + length]
        at += length
