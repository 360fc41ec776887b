"""Whom a connection trusts: what kubectl trusts, whatever Python's defaults are."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from kiptail.credentials.tls import proxy_context, tls_context
from kiptail.kube.api import KubeApi
from tests.apiserver.certificates import authority
from tests.support.kube import RawServer, failure, kubeconfig, list_pods, pem, reply, write

#: A CA of older kubeadm, or EKS: no key identifiers, basicConstraints that are not critical, and no usages.
CONFIG = """\
[req]
distinguished_name = dn
prompt = no
[dn]
CN = x
[ca]
basicConstraints = CA:TRUE
subjectKeyIdentifier = none
[between]
basicConstraints = CA:TRUE
subjectKeyIdentifier = none
authorityKeyIdentifier = none
[server]
subjectAltName = IP:127.0.0.1
subjectKeyIdentifier = none
authorityKeyIdentifier = none
"""


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with root, between (signed by it) and server (signed by that): .crt and .key."""
    directory = tmp_path_factory.mktemp("chain")
    (directory / "cnf").write_text(CONFIG)
    for name, extensions, signer in (
        ("root", "ca", None),
        ("between", "between", "root"),
        ("server", "server", "between"),
    ):
        files = [directory / f"{name}.key", directory / f"{name}.csr", directory / f"{name}.crt"]
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", files[0])
        openssl("req", "-new", "-config", directory / "cnf", "-subj", f"/CN={name}", *new, "-out", files[1])
        sign = ("-CA", directory / f"{signer}.crt", "-CAkey", directory / f"{signer}.key", "-CAcreateserial")
        own = ("-signkey", files[0])
        extra = ("-days", 2, "-extfile", directory / "cnf", "-extensions", extensions)
        openssl("x509", "-req", "-in", files[1], "-out", files[2], *extra, *(sign if signer else own))
    return directory


def ask(chain: Path, ca: Path, sent: list[str], directory: Path) -> int | None:
    """The answer of a server that sends these certificates to a client that trusts ``ca``; None if it does not."""
    whole = directory / "whole.pem"
    whole.write_bytes(b"".join((chain / f"{name}.crt").read_bytes() for name in sent))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(whole, chain / "server.key")
    with RawServer(reply(b"", status="502 No route"), tls) as server:
        cluster = {"server": server.url, "certificate-authority-data": pem(ca)}
        api = KubeApi.from_kubeconfig(write(directory / "k", kubeconfig(cluster=cluster)))
        error = failure(lambda: list_pods(api))
        api.close()
        assert error.untrusted == (error.status is None), error
        return error.status


@pytest.mark.parametrize(
    ("ca", "sent", "trusted"),
    [
        ("root", ["server", "between"], True),
        ("between", ["server", "between"], True),
        ("between", ["server"], True),
        ("root", ["server"], False),
        ("server", ["server"], True),
    ],
)
def test_authorities_without_key_identifiers_are_trusted_as_by_kubectl(
    ca: str, sent: list[str], trusted: bool, chain: Path, tmp_path: Path
) -> None:
    text = subprocess.run(
        ["openssl", "x509", "-in", chain / f"{ca}.crt", "-noout", "-text"], capture_output=True, check=True, timeout=20
    ).stdout
    assert b"Key Identifier" not in text
    assert ask(chain, chain / f"{ca}.crt", sent, tmp_path) == (502 if trusted else None)


def test_another_authority_is_not_trusted(chain: Path, tmp_path: Path) -> None:
    assert ask(chain, authority().certificate, ["server", "between"], tmp_path) is None


def test_nothing_else_is_waived() -> None:
    """As Python 3.13 and urllib3 2.4 begin with, but for RFC 5280's letter."""
    ca = authority().certificate.read_bytes()
    for context in (
        tls_context("c", "u", verify=True, ca=ca, certificate=None, key=None),
        tls_context("c", "u", verify=True, ca=None, certificate=None, key=None),
        proxy_context("c", "h", verify=True, ca=ca),
    ):
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
        assert context.verify_flags & ssl.VERIFY_X509_TRUSTED_FIRST
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert proxy_context("c", "h", verify=True, ca=ca).check_hostname
    assert proxy_context("c", "h", verify=False, ca=ca).verify_mode == ssl.CERT_NONE
