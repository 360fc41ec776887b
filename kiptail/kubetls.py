"""Certificates: the TLS context that is made of a kubeconfig's, and the name in a client certificate."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Iterator

from urllib3.util.ssl_ import create_urllib3_context

from kiptail.errors import ClusterError, one_line
from kiptail.kubefiles import why

__all__ = ["common_name", "tls_context"]


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
    pem = re.search(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", certificate, re.DOTALL)
    try:
        der = base64.b64decode(pem[1]) if pem else certificate
        tbs = next(_der(next(_der(der))[1]))[1]
        # After an optional version, tagged [0]: serial, algorithm, issuer, validity and then the subject.
        fields = [content for tag, content in _der(tbs) if tag != 0xA0]
        for _, names in _der(fields[4]):
            for _, name in _der(names):
                (_, oid), (_, value) = _der(name)
                if oid == b"\x55\x04\x03":
                    return value.decode()
    except (ValueError, IndexError, StopIteration):
        pass
    return None


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
