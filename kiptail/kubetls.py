"""Certificates: the TLS context that is made of a kubeconfig's, and what a client certificate says of itself."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from urllib3.util.ssl_ import create_urllib3_context

from kiptail.errors import ClusterError, one_line
from kiptail.kubefiles import why

__all__ = ["common_name", "tls_context", "validity"]


def tls_context(
    where: str, *, verify: bool, ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext:
    """One context for all connections: certificates are read once, and wrong ones are found at start.

    ``where`` names the kubeconfig. Raises ClusterError.
    """
    context: ssl.SSLContext = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if verify else ssl.CERT_NONE)
    key = "certificate-authority"
    try:
        if ca_file:
            context.load_verify_locations(cafile=ca_file)
        else:
            context.load_default_certs()
        key = "client certificate and key"
        if cert_file:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        hint = {
            "KEY_VALUES_MISMATCH": "do not belong together",
            "NO_CERTIFICATE_OR_CRL_FOUND": "holds no PEM certificate",
        }.get(reason, f"cannot be used: {one_line(reason)}")
        raise ClusterError(f"{where}: the {key} {hint}") from error
    except (OSError, ValueError) as error:
        raise ClusterError(f"{where}: the {key} cannot be used: {why(error)}") from error
    return context


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
    pem = re.search(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", certificate, re.DOTALL)
    der = base64.b64decode(pem[1]) if pem else certificate
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
